//! The secret of every keyed hash: from the configuration, or from a file that is made at the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::processor::ids::Key;

/// Name of the generated key file, in the folder of the store.
pub const KEY_FILE: &str = "privacy.key";

/// Length of a generated key.
const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is there and cannot be read, or is not and cannot be made.
    #[error("the key file {path} cannot be read or made; set privacy.key or store.directory")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The file holds something else. It is left alone: another key would give every session another id.
    #[error(
        "the key file {path} is damaged: it should hold 64 hexadecimal digits; restore it, or remove it for a new key"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers for a new key")]
    Random,
}

/// A new key that is not kept anywhere.
///
/// # Errors
///
/// [`KeyError::Random`] where the system gives no randomness.
pub fn random() -> Result<Key, KeyError> {
    random_bytes().map(|bytes| Key::new(&bytes))
}

/// The key in `directory`, made if it is not there yet. Only its owner may read the file.
///
/// # Errors
///
/// Every kind of [`KeyError`].
pub fn load_or_create(directory: &Path) -> Result<Key, KeyError> {
    match load(directory) {
        Err(KeyError::File { path, error }) if error.kind() == io::ErrorKind::NotFound => create(directory, path),
        loaded => loaded,
    }
}

/// The key in `directory`, which an earlier start has made.
///
/// # Errors
///
/// [`KeyError::File`] and [`KeyError::Damaged`].
pub fn load(directory: &Path) -> Result<Key, KeyError> {
    let path = directory.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()).ok_or(KeyError::Damaged { path }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(KeyError::Damaged { path }),
        Err(error) => Err(KeyError::File { path, error }),
    }
}

fn create(directory: &Path, path: PathBuf) -> Result<Key, KeyError> {
    let bytes = random_bytes()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole under another name first, so that no crash leaves half a key behind.
    let unfinished = directory.join(format!("{KEY_FILE}.{}", std::process::id()));
    let written = fs::create_dir_all(directory).and_then(|()| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        drop(file);
        fs::rename(&unfinished, &path)
    });
    written.map(|()| Key::new(&bytes)).map_err(|error| KeyError::File { path, error })
}

fn random_bytes() -> Result<[u8; KEY_BYTES], KeyError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

fn parse(text: &str) -> Option<Key> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let digits = (0..KEY_BYTES).map(|index| text.get(2 * index..2 * index + 2));
    let bytes: Option<Vec<u8>> = digits.map(|digits| u8::from_str_radix(digits?, 16).ok()).collect();
    bytes.map(|bytes| Key::new(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_ever_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("data");
        let made = load_or_create(&directory).expect("a new key");
        assert!(load_or_create(&directory).expect("the same key") == made);
        assert_eq!(made.as_bytes().len(), KEY_BYTES);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(directory.join(KEY_FILE)).expect("the file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        for damaged in ["", "00ff", "zz", &"g".repeat(64)] {
            fs::write(&path, damaged).expect("written");
            assert!(matches!(load_or_create(folder.path()), Err(KeyError::Damaged { .. })), "{damaged}");
            assert_eq!(fs::read_to_string(&path).expect("still there"), damaged);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(matches!(load_or_create(&file.join("below")), Err(KeyError::File { .. })));
    }
}
