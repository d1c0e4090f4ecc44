//! What the log does beside writing what it is given: cursors, checkpoints, and what goes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Begun, CHECKPOINT_RATIO, CHECKPOINT_SEGMENTS, CURSOR_AGE_MAX, Checkpoint, Log, RETRY, RUNNING_AGE_MAX, SEGMENTS_MAX,
};
use crate::signal::{ExpiryReason, Signal};
use crate::store::commit::{self, Mark, PerSignal, Progress, Records};
use crate::store::files::Segment;
use crate::store::health::{DegradedReason, Happening, Status};
use crate::store::outbox::{Index, Pending};
use crate::store::pieces::Pieces;
use crate::time::Now;

/// Why a segment went before it was delivered, and what was in it.
type Expired = (ExpiryReason, PerSignal<Pending>);

impl Log {
    /// The clock has turned.
    pub(in crate::store) fn tick(&mut self, now: Now, has_deadlines: bool) {
        self.now = now;
        self.retry_if_due();
        let index = self.shared.index();
        let acknowledged = index.acknowledged();
        let waits = index.outboxes.iter().any(|(_, outbox)| outbox.pending().requests > 0);
        drop(index);
        let (written, when) = self.written;
        let age = now.running.since(when);
        // What waits for the backend is given up by its age.
        let ages = has_deadlines || waits;
        if (acknowledged != written && age >= CURSOR_AGE_MAX) || (ages && age >= RUNNING_AGE_MAX) {
            self.write_cursors(false);
        }
        let mut index = self.shared.index();
        let resumed = index.outboxes.logs.resume() | index.outboxes.traces.resume();
        drop(index);
        if resumed {
            self.shared.appended.notify_waiters();
        }
        self.stuck = false;
        self.keep_house();
    }

    /// Leaves the cursors and the running time behind, durably, and what was kept in memory if the disk takes it now.
    pub(in crate::store) fn finish(&mut self) {
        self.retry();
        let acknowledged = self.shared.index().acknowledged();
        let synced = self.active.as_ref().is_none_or(|active| active.synced == active.length);
        if !synced || self.written != (acknowledged, self.now.running) {
            self.write_cursors(true);
        }
    }

    /// Writes a frame that holds nothing else.
    fn write_cursors(&mut self, sync: bool) {
        let acknowledged = self.shared.index().acknowledged();
        let progress = Progress { now: self.now, synced: self.durable, acknowledged, before: self.last, mark: None };
        let mut frame = Pieces::default();
        commit::begin(&mut frame, self.sequence, &progress, &[], Records::new());
        let bytes = frame.length();
        let Some(active) = &mut self.active else { return };
        let written = active.write(&frame, sync);
        let sequence = self.sequence;
        self.sequence += 1;
        match written {
            Ok(_) => {
                if sync {
                    self.durable = sequence;
                }
                active.list(&mut self.shared.index());
                self.written = (acknowledged, self.now.running);
                self.count_bytes(bytes);
            }
            Err(error) => {
                self.replace(&error);
            }
        }
    }

    /// A frame of `bytes` bytes that is this much of a checkpoint was stored, or was not.
    pub(super) fn follow_checkpoint(&mut self, mark: Option<Mark>, bytes: u64, stored: bool) {
        if stored {
            self.count_bytes(bytes);
            let segment = self.active.as_ref().map_or(0, |active| active.segment.number);
            match (mark, &mut self.checkpoint.begun) {
                (Some(Mark::Begin), begun) => *begun = Some(Begun { segment, size: bytes, since: bytes }),
                (Some(Mark::Part | Mark::End), Some(begun)) => begun.size += bytes,
                _ => {}
            }
        }
        if mark == Some(Mark::End) {
            if let Some(begun) = self.checkpoint.begun.take() {
                self.checkpoint.complete = begun.segment;
                self.checkpoint.size = begun.size;
                self.checkpoint.since = begun.since;
                self.checkpoint.owed = false;
                self.all_is_durable();
            }
            self.shared.checkpointing.store(false, Ordering::Release);
        }
    }

    pub(super) fn count_bytes(&mut self, bytes: u64) {
        self.checkpoint.since += bytes;
        if let Some(begun) = &mut self.checkpoint.begun {
            begun.since += bytes;
        }
    }

    fn all_is_durable(&mut self) {
        self.wait = RETRY.0;
        let mut status = self.shared.status();
        if *status != Status::Durable {
            *status = Status::Durable;
            drop(status);
            self.shared.observer.observe(Happening::Durable);
        }
    }

    /// Lets go what need not be kept, and what must not.
    pub(super) fn keep_house(&mut self) {
        while !self.stuck
            && let Some((segment, expired)) = self.expire_oldest()
        {
            if let Some((reason, what)) = expired {
                self.shared.expired(Signal::Logs, what.logs, reason);
                self.shared.expired(Signal::Traces, what.traces, reason);
            }
            self.remove_oldest(&segment);
        }
        self.look_for_checkpoint();
    }

    /// The oldest segment if it is to go: because all of it is delivered, or it is over the budget. What waits in it has
    /// expired then.
    fn expire_oldest(&self) -> Option<(Arc<Segment>, Option<Expired>)> {
        let mut index = self.shared.index();
        let oldest = index.segments.front()?;
        let segment = Arc::clone(&oldest.segment);
        let number = segment.number;
        if number >= self.checkpoint.complete || self.is_active(number) {
            return None;
        }
        let expired = if index.is_delivered(oldest) {
            None
        } else {
            let reason = self.over_budget(&index)?;
            let logs = index.outboxes.logs.expire(number);
            Some((reason, PerSignal { logs, traces: index.outboxes.traces.expire(number) }))
        };
        if let Some(oldest) = index.segments.front_mut() {
            oldest.last = PerSignal::default();
        }
        Some((segment, expired))
    }

    fn is_active(&self, number: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.segment.number == number)
    }

    /// Why the oldest segment, which is not delivered, has to go.
    fn over_budget(&self, index: &Index) -> Option<ExpiryReason> {
        let oldest = index.segments.front()?;
        if index.size() > self.limits.size || index.segments.len() > SEGMENTS_MAX {
            Some(ExpiryReason::Size)
        } else if self.now.running.since(oldest.newest) > self.limits.age {
            Some(ExpiryReason::Age)
        } else {
            None
        }
    }

    /// Removes the oldest segment. If that cannot be done now, it stays the oldest, and counts: those behind it have to
    /// wait, for gaps in the log are damage, and nothing of theirs need expire while that frees no space.
    fn remove_oldest(&mut self, segment: &Segment) {
        let in_hand = self.shared.index().outboxes.iter().any(|(_, outbox)| outbox.has_in_hand(segment.number));
        if in_hand {
            self.shared.files.keep(segment);
        }
        match gone(self.storage.remove(segment.path())) {
            Ok(()) => {
                self.shared.index().segments.pop_front();
                self.shared.files.close(segment.number);
                self.stuck_told = false;
            }
            Err(error) => {
                self.stuck = true;
                if !std::mem::replace(&mut self.stuck_told, true) {
                    self.shared.observer.observe(Happening::Stuck { reason: DegradedReason::of(&error) });
                }
            }
        }
    }

    /// Removes segments with nothing in them.
    pub(super) fn remove_empty(&mut self) {
        let storage = &self.storage;
        self.empty.retain(|path| gone(storage.remove(path)).is_err());
    }

    /// Says whether the core should write a checkpoint.
    pub(super) fn look_for_checkpoint(&self) {
        let Checkpoint { complete, size, since, begun, owed, open: _ } = self.checkpoint;
        let due = owed
            || since > self.limits.checkpoint.max(size.saturating_mul(CHECKPOINT_RATIO))
            || self.number.saturating_sub(complete) > CHECKPOINT_SEGMENTS
            || self.budget_waits_for_checkpoint();
        let possible = self.active.is_some() && begun.is_none();
        self.shared.checkpoint_due.store(due && possible, Ordering::Release);
    }

    /// Whether the oldest segment would have to go, and cannot because the records in it are needed.
    fn budget_waits_for_checkpoint(&self) -> bool {
        let index = self.shared.index();
        let Some(oldest) = index.segments.front() else { return false };
        if oldest.segment.number < self.checkpoint.complete {
            return false;
        }
        match self.over_budget(&index) {
            // A state that is larger than the budget must not be written again and again.
            Some(ExpiryReason::Size) => self.checkpoint.since > self.checkpoint.size.saturating_mul(CHECKPOINT_RATIO),
            Some(_) => !index.is_delivered(oldest),
            None => false,
        }
    }
}

/// What was not there to be removed is gone all the same.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
