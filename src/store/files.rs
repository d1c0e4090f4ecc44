//! The files of segments that are open to be read: a few, however many segments there are.
//!
//! A backlog may be thousands of segments, and a process may have a thousand files open. So a segment is a name, and its
//! file is opened when something of it is wanted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::storage::{File, Storage};

/// Files that stay open behind their reading. The exporter reads each signal at one place.
const OPEN_MAX: usize = 8;

/// A segment that is there to be read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    path: Box<str>,
    /// Its file, once its name is gone and somebody still has to read it.
    kept: OnceLock<Arc<dyn File>>,
}

impl Segment {
    pub(super) fn new(number: u64, path: &str) -> Self {
        Self { number, path: path.into(), kept: OnceLock::new() }
    }

    pub(super) const fn path(&self) -> &str {
        &self.path
    }
}

/// What is open.
#[derive(Debug)]
pub(super) struct Files {
    storage: Arc<dyn Storage>,
    /// With the numbers of their segments, the one that was used last at the end.
    open: Mutex<VecDeque<(u64, Arc<dyn File>)>>,
}

impl Files {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, open: Mutex::default() }
    }

    /// The file of `segment`, open as long as the caller has it.
    pub(super) fn of(&self, segment: &Segment) -> io::Result<Arc<dyn File>> {
        if let Some(kept) = segment.kept.get() {
            return Ok(Arc::clone(kept));
        }
        if let Some(file) = self.used(segment.number) {
            return Ok(file);
        }
        let file = match self.storage.open(&segment.path) {
            Ok(file) => file,
            // It may have been kept and removed just now.
            Err(error) => return segment.kept.get().map(Arc::clone).ok_or(error),
        };
        let mut open = self.open();
        open.push_back((segment.number, Arc::clone(&file)));
        let closed = if open.len() > OPEN_MAX { open.pop_front() } else { None };
        drop(open);
        drop(closed);
        Ok(file)
    }

    /// Keeps the file of a segment that is about to be removed, for what the exporter has of it. If it cannot be opened,
    /// that will be found out when it is read.
    pub(super) fn keep(&self, segment: &Segment) {
        if let Ok(file) = self.of(segment) {
            segment.kept.get_or_init(|| file);
        }
    }

    /// Closes the file of a segment that is removed.
    pub(super) fn close(&self, number: u64) {
        let mut open = self.open();
        let closed = open.iter().position(|(other, _)| *other == number).and_then(|at| open.remove(at));
        drop(open);
        drop(closed);
    }

    /// The file of `number` if it is open, which then is the one used last.
    fn used(&self, number: u64) -> Option<Arc<dyn File>> {
        let mut open = self.open();
        let at = open.iter().position(|(other, _)| *other == number)?;
        let (_, file) = open.remove(at)?;
        open.push_back((number, Arc::clone(&file)));
        Some(file)
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<dyn File>)>> {
        // No code that can panic runs under the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
