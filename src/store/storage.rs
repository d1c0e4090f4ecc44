//! The narrow seam between the store and the disk: what the store needs of a file system, and the real one.
//!
//! Everything above this file works with any [`Storage`]; the tests have one in memory that fails and forgets as disks
//! do. Paths are relative to the folder of the store, with `/` between their parts.

use std::fmt::Debug;
use std::fs::{self, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pieces that one call of the system takes at most: `IOV_MAX`.
#[cfg(target_os = "linux")]
const PIECES_MAX: usize = 1024;

/// A folder and what is in it.
///
/// # Errors
///
/// Every method fails with what the system says.
pub trait Storage: Debug + Send + Sync {
    /// The names in `folder`, in any order; none if there is no such folder. Names that are no UTF-8 are left out.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes `folder` and what is above it, durably, unless it is there.
    fn create_folder(&self, folder: &str) -> io::Result<()>;

    /// Makes an empty file that did not exist. Its name is durable only after [`Storage::sync_folder`].
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file, for reading and writing where that is allowed, else for reading.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, and replaces what had that name before.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. What has it open may go on reading it.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in `folder` durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Locks a file against every other process, and makes it if it is not there. The lock lasts as long as what is
    /// returned, and no longer than the process. [`io::ErrorKind::WouldBlock`] if another has it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>>;
}

/// An open file.
///
/// # Errors
///
/// Every method fails with what the system says.
pub trait File: Debug + Send + Sync {
    /// Bytes in it.
    fn length(&self) -> io::Result<u64>;

    /// Reads some bytes from `offset` on, at least one unless the file ends there.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `pieces`, one behind the other, from `offset` on. After an error any part of them may have been
    /// written.
    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for piece in pieces {
            self.write_at(piece, offset)?;
            offset = offset.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// Makes everything that was written durable. After an error nobody knows what is: it must not be called again.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Reads exactly `buffer` from `offset` on.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                    offset = offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What holds a lock.
pub trait Lock: Debug + Send + Sync {}

/// A folder of the real file system. Only its owner may look into what is made in it: it holds personal data.
#[derive(Clone, Debug)]
pub struct FileSystem {
    folder: PathBuf,
}

impl FileSystem {
    /// The storage in `folder`, which is made when it is first needed.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

impl Storage for FileSystem {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        match fs::read_dir(self.at(folder)) {
            Ok(entries) => {
                let names =
                    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose());
                names.collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.at(folder);
        let new = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir());
        let new = new.collect::<Vec<_>>();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        // The name of each lies in the one above it.
        new.into_iter().rev().try_for_each(sync_parent)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(options().create_new(true).open(self.at(path))?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open(&options(), &self.at(path))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_folder(&self.at(folder))
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        let file = open(options().create(true).truncate(false), &self.at(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(Locked(file))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl File for fs::File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(self, buffer, offset);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(self, buffer, offset);
        read
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(self, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset = offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// By one call of the system, where it has one for that.
    #[cfg(target_os = "linux")]
    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut pieces = pieces.to_vec();
        let mut left = pieces.as_mut_slice();
        // Pieces without a byte are none.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let at_once = left.get(..left.len().min(PIECES_MAX)).unwrap_or_default();
            let place = offset.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
            match nix::sys::uio::pwritev(self, at_once, place) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut left, count);
                    offset = offset.saturating_add(count as u64);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// The file that is locked: to close it is to release it.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held, not used")]
struct Locked(fs::File);

impl Lock for Locked {}

/// Opens a file for reading, and for writing if that is allowed.
fn open(options: &fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    match options.open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            fs::File::open(path)
        }
        opened => opened,
    }
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Windows opens no folder for this, and makes names durable by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More pieces than the system takes at once, some of them empty, and behind what is there.
    #[test]
    fn pieces_lie_one_behind_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = FileSystem::new(folder.path());
        let file = storage.create("file").expect("a new file");
        file.write_at(b"before", 0).expect("room");
        let texts = (0..3000).map(|number| if number % 7 == 0 { String::new() } else { number.to_string() });
        let texts = texts.collect::<Vec<_>>();
        let slices = texts.iter().map(|text| IoSlice::new(text.as_bytes())).collect::<Vec<_>>();
        file.write_pieces_at(&slices, 6).expect("room");
        file.write_pieces_at(&[], 6).expect("no room is needed");
        let expected = format!("before{}", texts.concat());
        assert_eq!(fs::read_to_string(folder.path().join("file")).ok(), Some(expected));
    }
}
