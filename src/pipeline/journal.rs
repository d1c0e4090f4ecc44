//! What the core hands to the store, and when: its frames, and its whole state whenever a checkpoint is due.
//!
//! The records on disk must be those of the core, so no commit may be lost on the way. Therefore nothing is committed
//! while the store has no room: the core takes no batch then, and lets no time pass for its sessions.

use std::time::Duration;

use crate::processor::Processor;
use crate::processor::record::{Ledger, RecordPosition, Room};
use crate::signal::ExportRequest;
use crate::store::{AppendError, Commit, Mark, Records, Status, Store};
use crate::time::Now;

/// One portion of a checkpoint: little enough that the frame of the next events is not held up.
const PORTION: Room = Room { records: 1000, bytes: 1024 * 1024 };

/// How often the store is asked whether it has room again.
pub(super) const ROOM_INTERVAL: Duration = Duration::from_millis(10);

/// The store takes nothing any more: it has ended before the core, or its disk hangs while the core ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// The way of the core into the store.
#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    keeps_records: bool,
    /// Where the checkpoint goes on that is being written.
    checkpoint: Option<RecordPosition>,
    /// A commit that the store had no room for.
    refused: Option<Box<Commit>>,
    /// Bytes of the last changes: those of the next frame are likely to be as many.
    changes: usize,
}

impl Journal {
    pub(super) fn new(store: Store) -> Self {
        let keeps_records = store.status() != Status::InMemory;
        Self { store, keeps_records, checkpoint: None, refused: None, changes: 0 }
    }

    /// Whether the next commit will be taken. What has been refused is offered again first.
    pub(super) fn has_room(&mut self) -> Result<bool, Closed> {
        if let Some(refused) = self.refused.take() {
            self.append(*refused)?;
        }
        Ok(self.refused.is_none() && self.store.has_room())
    }

    /// Whether a commit is wanted at once, for the sake of a checkpoint.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.checkpoint.is_some() || self.store.checkpoint_due()
    }

    /// Whether what is committed outlives the process.
    pub(super) fn is_durable(&self) -> bool {
        self.store.status() == Status::Durable
    }

    /// Whether the disk fails, or the core's state has not been written anew since it did.
    pub(super) fn is_degraded(&self) -> bool {
        matches!(self.store.status(), Status::Degraded { .. })
    }

    /// Has a disk that fails tried at once.
    pub(super) fn retry(&self) {
        self.store.retry();
    }

    /// Commits these requests with what has changed in the core, and a portion of a checkpoint if one is due. Nothing is
    /// written where there is none of it.
    ///
    /// All of it is one frame, because a record must not be durable without the requests that came of the same events:
    /// they would never be made again.
    pub(super) fn commit(
        &mut self,
        now: Now,
        requests: Vec<ExportRequest>,
        processor: &mut Processor,
    ) -> Result<(), Closed> {
        let mut records = Records::with_capacity(self.changes + self.changes / 8);
        let mut mark = None;
        if self.keeps_records {
            processor.changes(&mut noting(&mut records));
            self.changes = records.size();
            mark = self.checkpoint(processor, &mut records);
        }
        if requests.is_empty() && records.is_empty() && mark.is_none() {
            return Ok(());
        }
        self.append(Commit { requests, records, mark, now })
    }

    /// Adds the next portion of the checkpoint, behind the changes: a later record of a key counts.
    fn checkpoint(&mut self, processor: &Processor, records: &mut Records) -> Option<Mark> {
        let Some(position) = self.checkpoint else {
            let due = self.store.checkpoint_due();
            self.checkpoint = due.then_some(RecordPosition::START);
            return due.then_some(Mark::Begin);
        };
        self.checkpoint = processor.records(position, PORTION, &mut noting(records));
        Some(if self.checkpoint.is_some() { Mark::Part } else { Mark::End })
    }

    /// Says how late it is. There are deadlines without an open session too: when what has ended is forgotten, and for how
    /// long stock datagrams are superseded. A kill may put those off; otherwise the disk would never be left alone.
    pub(super) fn tick(&self, now: Now, processor: &Processor) {
        self.store.tick(now, processor.open_sessions() > 0);
    }

    fn append(&mut self, commit: Commit) -> Result<(), Closed> {
        debug_assert!(self.refused.is_none(), "asked for room before");
        match self.store.append(commit) {
            Ok(()) => Ok(()),
            Err(AppendError::Full(commit)) => {
                self.refused = Some(commit);
                Ok(())
            }
            Err(AppendError::Closed(commit)) => {
                self.refused = Some(commit);
                Err(Closed)
            }
        }
    }

    /// Gives back the requests that the store has not taken, at the end.
    pub(super) fn give_up(&mut self) -> Vec<ExportRequest> {
        self.refused.take().map_or_else(Vec::new, |commit| commit.requests)
    }
}

/// Takes records of the core into a commit.
fn noting(records: &mut Records) -> impl Ledger {
    |key: &[u8], value: Option<&[u8]>| records.set(key, value)
}
