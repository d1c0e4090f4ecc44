//! A disk in memory that does what disks do: it fails, fills up, and forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use sense_otel::store::storage::{File, Lock, Storage};

/// The unit in which a disk writes, or does not.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The files by name, as the process sees them, and as they would be after a loss of power.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    locked: bool,
    /// What was done, in order: the named points at which everything can end.
    done: Vec<String>,
    /// What is to happen at which of them.
    faults: BTreeMap<usize, Fault>,
    /// Bytes that fit, all files together.
    capacity: Option<usize>,
    read_only: bool,
    unreadable: bool,
    unremovable: bool,
    /// It knows no call that writes many pieces.
    piece_by_piece: bool,
    /// Files that are open now, and at most at any time.
    open: usize,
    most_open: usize,
    /// After a crash nothing works.
    dead: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// How often it was synced after a sync of it had failed.
    synced_after_failure: usize,
    failed: bool,
}

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and nothing after it.
    CrashBefore,
    /// It is half done, and nothing after it.
    CrashWithin,
    /// It is done, and nothing after it.
    CrashAfter,
    /// It is half done and fails.
    Fail(io::ErrorKind),
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    /// A disk on which each piece is written by itself, as it is where the system has no call for many.
    pub(crate) fn piece_by_piece() -> Self {
        let disk = Self::default();
        disk.state().piece_by_piece = true;
        disk
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Vec<String> {
        self.state().done.clone()
    }

    /// The next operations happen as if nothing had been done before.
    pub(crate) fn fault_in(&self, operations: usize, fault: Fault) {
        let mut state = self.state();
        let at = state.done.len() + operations;
        state.faults.insert(at, fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.capacity = None;
        state.read_only = false;
        state.unreadable = false;
        state.unremovable = false;
    }

    pub(crate) fn fill(&self) {
        let mut state = self.state();
        let used = state.used();
        state.capacity = Some(used);
    }

    pub(crate) fn make_read_only(&self) {
        self.state().read_only = true;
    }

    pub(crate) fn make_unreadable(&self) {
        self.state().unreadable = true;
    }

    /// Somebody else has every file open, on a system that removes none of these.
    pub(crate) fn make_unremovable(&self) {
        self.state().unremovable = true;
    }

    /// The most files that were open at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.state().most_open
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(crate) fn size(&self) -> usize {
        self.state().used()
    }

    /// How often a file was synced again after that had failed.
    pub(crate) fn synced_after_failure(&self) -> usize {
        self.state().files.iter().map(|file| file.synced_after_failure).sum()
    }

    /// The disk as a killed process leaves it: everything that was written is there.
    pub(crate) fn killed(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        let names = state.names.clone();
        let files = state.files.clone();
        drop(state);
        Self::with(names.into_iter().map(|(name, file)| (name, files[file].live.clone())))
    }

    /// The disk as a loss of power leaves it: of what was not synced, `keep` decides for each sector and folder.
    pub(crate) fn without_power(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut state = self.state();
        state.dead = true;
        let folders = state.names.keys().chain(state.durable_names.keys()).map(|name| folder(name).to_owned());
        let kept = folders.collect::<BTreeSet<_>>().into_iter().filter(|_| keep()).collect::<BTreeSet<_>>();
        let mut names = state.durable_names.clone();
        names.retain(|name, _| !kept.contains(folder(name)));
        let live = state.names.iter().filter(|(name, _)| kept.contains(folder(name)));
        names.extend(live.map(|(name, file)| (name.clone(), *file)));
        let left = names.into_iter().map(|(name, file)| (name, state.files[file].after_power_loss(&mut keep)));
        let left = left.collect::<Vec<_>>();
        drop(state);
        Self::with(left)
    }

    /// A disk with these files, all of them durable.
    pub(crate) fn with(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let disk = Self::default();
        let mut state = disk.state();
        for (name, bytes) in files {
            let file = state.files.len();
            state.files.push(Content { live: bytes.clone(), durable: bytes, ..Content::default() });
            state.names.insert(name.clone(), file);
            state.durable_names.insert(name, file);
        }
        drop(state);
        disk
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].live.clone())).collect()
    }
}

impl Content {
    fn after_power_loss(&self, keep: &mut impl FnMut() -> bool) -> Vec<u8> {
        let length = if keep() { self.live.len() } else { self.durable.len() };
        let mut left = self.durable.clone();
        left.resize(length, 0);
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length).min(self.live.len());
            if start < end && keep() {
                left[start..end].copy_from_slice(&self.live[start..end]);
            }
        }
        left
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].live.len()).sum()
    }

    fn open(&mut self, disk: &Disk, file: usize, path: &str) -> Arc<dyn File> {
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        Arc::new(Open { disk: disk.clone(), file, folder: folder(path).to_owned() })
    }

    /// Counts an operation, and says how it goes: `Ok(whole)`, or how it fails after it is half done.
    fn operate(&mut self, what: String) -> io::Result<How> {
        if self.dead {
            return Err(io::ErrorKind::Other.into());
        }
        let fault = self.faults.remove(&self.done.len());
        self.done.push(what);
        match fault {
            None if self.read_only => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            None => Ok(How::Whole),
            Some(Fault::CrashBefore) => {
                self.dead = true;
                Err(io::ErrorKind::Other.into())
            }
            Some(Fault::CrashWithin) => {
                self.dead = true;
                Ok(How::Half(io::ErrorKind::Other))
            }
            Some(Fault::CrashAfter) => {
                self.dead = true;
                Ok(How::Whole)
            }
            Some(Fault::Fail(kind)) => Ok(How::Half(kind)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Whole,
    Half(io::ErrorKind),
}

impl How {
    fn result(self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Half(kind) => Err(kind.into()),
        }
    }
}

fn folder(path: &str) -> &str {
    path.split_once('/').map_or("", |(folder, _)| folder)
}

impl Storage for Disk {
    fn list(&self, wanted: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.names.keys().filter(|name| folder(name) == wanted);
        Ok(names.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    fn create_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let how = state.operate(format!("create in {}", folder(path)))?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        how.result()?;
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(path.to_owned(), file);
        Ok(state.open(self, file, path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.open(self, file, path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(format!("rename into {}", folder(to)))?.result()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.unremovable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.operate(format!("remove from {}", folder(path)))?.result()?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_folder(&self, synced: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(format!("sync folder {synced}"))?.result()?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|name, _| folder(name) != synced);
        let live = names.iter().filter(|(name, _)| folder(name) == synced);
        durable_names.extend(live.map(|(name, file)| (name.clone(), *file)));
        Ok(())
    }

    fn lock(&self, _: &str) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held(self.clone())))
    }
}

#[derive(Debug)]
struct Held(Disk);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct Open {
    disk: Disk,
    file: usize,
    folder: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.disk.state().open -= 1;
    }
}

impl File for Open {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        if state.unreadable || state.dead {
            return Err(io::ErrorKind::Other.into());
        }
        let live = &state.files[self.file].live;
        let from = usize::try_from(offset).expect("a small file").min(live.len());
        let count = buffer.len().min(live.len() - from);
        buffer[..count].copy_from_slice(&live[from..from + count]);
        Ok(count)
    }

    /// At once, as the real one does it: half of it may still be all that is done.
    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.disk.state().piece_by_piece {
            let mut place = offset;
            return pieces.iter().try_for_each(|piece| {
                self.write_at(piece, place)?;
                place += piece.len() as u64;
                Ok(())
            });
        }
        self.write_at(&pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<_>>(), offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let what = if offset == 0 { "header" } else { "frames" };
        let how = state.operate(format!("write {what} in {}", self.folder))?;
        let start = usize::try_from(offset).expect("a small file");
        let room = state.capacity.map(|capacity| capacity.saturating_sub(state.used()));
        let mut end = start + bytes.len();
        if how != How::Whole {
            end = start + bytes.len() / 2;
        }
        let live = &mut state.files[self.file].live;
        let full = room.is_some_and(|room| end.saturating_sub(live.len()) > room);
        if full {
            end = live.len() + room.unwrap_or_default();
        }
        if live.len() < end {
            live.resize(end, 0);
        }
        let written = end.saturating_sub(start);
        live[start.min(end)..end].copy_from_slice(&bytes[..written]);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { how.result() }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let how = state.operate(format!("sync in {}", self.folder))?;
        let file = &mut state.files[self.file];
        file.synced_after_failure += usize::from(file.failed);
        // As a kernel does: what could not be written is forgotten to be dirty.
        if how == How::Whole {
            file.durable = file.live.clone()
        } else {
            file.failed = true
        }
        how.result()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate(format!("truncate in {}", self.folder))?.result()?;
        let length = usize::try_from(length).expect("a small file");
        state.files[self.file].live.truncate(length);
        Ok(())
    }
}
