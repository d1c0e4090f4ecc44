//! The reading side of the store on disk: what the exporter and the core hold. What they append goes to the
//! [`Writer`](super::Writer) over a channel; what they read comes straight from the files.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crc32c::crc32c;
use tokio::sync::Notify;

use super::commit::{Commit, Mark, PerSignal, Position};
use super::files::{Files, Segment};
use super::health::{Happening, Observer, Status};
use super::outbox::{Entry, Index, Outbox, Pending, Plan, Source};
use super::quarantine::Quarantine;
use super::segment;
use super::writer::Message;
use super::{AppendError, Batch, Limit, StoredRequest};
use crate::signal::{ExpiryReason, Signal};
use crate::time::Now;

/// Bytes between the core and the writer.
const QUEUE_MAX: u64 = 64 * 1024 * 1024;

/// Bodies with at most this much between them are fetched together.
const FETCH_GAP_MAX: u64 = 16 * 1024;

/// Bytes that are fetched together, at most; a single larger body is fetched alone.
const FETCH_MAX: u64 = 4 * 1024 * 1024;

/// What both sides of the store have.
#[derive(Debug)]
pub(super) struct Shared {
    index: Mutex<Index>,
    status: Mutex<Status>,
    pub(super) files: Files,
    pub(super) appended: Notify,
    pub(super) observer: Arc<dyn Observer>,
    /// Bytes between the core and the writer.
    pub(super) queued: AtomicU64,
    /// Whether a turn of the clock is on its way to the writer.
    pub(super) ticking: AtomicBool,
    pub(super) checkpoint_due: AtomicBool,
    /// Whether a checkpoint is on its way to the writer.
    pub(super) checkpointing: AtomicBool,
}

impl Shared {
    pub(super) fn new(index: Index, files: Files, observer: Arc<dyn Observer>) -> Self {
        Self {
            index: Mutex::new(index),
            files,
            status: Mutex::new(Status::Durable),
            appended: Notify::new(),
            observer,
            queued: AtomicU64::new(0),
            ticking: AtomicBool::new(false),
            checkpoint_due: AtomicBool::new(false),
            checkpointing: AtomicBool::new(false),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // No code that can panic runs under the lock, so a poisoned one is as good as any.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expired(&self, signal: Signal, what: Pending, reason: ExpiryReason) {
        if what.requests > 0 {
            self.observer.observe(Happening::Expired { signal, what, reason });
        }
    }
}

/// The store as its users hold it.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Sender<Message>,
    /// Whether the writer has been told to end. Held while a commit is sent, so that none is taken behind the end.
    pub(super) closed: Mutex<bool>,
    pub(super) quarantine: Quarantine,
}

/// Why a body could not be had.
enum Failure {
    Damaged,
    Unreadable,
}

impl Durable {
    pub(super) fn append(&self, mut commit: Commit) -> Result<(), AppendError> {
        commit.records.shrink();
        let cost = commit.cost();
        let queued = self.shared.queued.load(Ordering::Acquire);
        // An empty queue takes any commit: it would never fit better, and the core can do nothing before it is taken.
        if queued > 0 && queued.saturating_add(cost) > QUEUE_MAX {
            return Err(AppendError::Full(Box::new(commit)));
        }
        let closed = self.closed();
        if *closed {
            return Err(AppendError::Closed(Box::new(commit)));
        }
        let begins = commit.mark == Some(Mark::Begin);
        self.shared.queued.fetch_add(cost, Ordering::AcqRel);
        if begins {
            self.shared.checkpointing.store(true, Ordering::Release);
        }
        self.writer.send(Message::Commit(commit)).map_err(|unsent| {
            self.shared.queued.fetch_sub(cost, Ordering::AcqRel);
            match unsent.0 {
                Message::Commit(commit) => AppendError::Closed(Box::new(commit)),
                _ => AppendError::Closed(Box::default()),
            }
        })
    }

    pub(super) fn has_room(&self) -> bool {
        self.shared.queued.load(Ordering::Acquire) < QUEUE_MAX / 2
    }

    pub(super) fn tick(&self, now: Now, has_deadlines: bool) {
        if !self.shared.ticking.swap(true, Ordering::AcqRel) {
            // A writer that is gone has nothing left to do.
            let _ = self.writer.send(Message::Tick { now, has_deadlines });
        }
    }

    pub(super) fn retry(&self) {
        // A writer that is gone has nothing left to try.
        let _ = self.writer.send(Message::Retry);
    }

    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, flushed) = sync_channel(1);
        self.writer.send(Message::Flush(done)).is_ok() && flushed.recv_timeout(patience).is_ok()
    }

    pub(super) fn close(&self) {
        let mut closed = self.closed();
        *closed = true;
        let _ = self.writer.send(Message::Close);
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkpoint_due(&self) -> bool {
        self.shared.checkpoint_due.load(Ordering::Acquire) && !self.shared.checkpointing.load(Ordering::Acquire)
    }

    pub(super) fn next(&self, signal: Signal, mut after: Position, limit: Limit) -> Option<Batch> {
        loop {
            let plan = self.shared.index().outboxes.of_mut(signal)?.plan(after, limit);
            match plan {
                Plan::Nothing => return None,
                Plan::Load(segment) => self.load(&segment, signal)?,
                Plan::Fetch(wanted) => {
                    let last = wanted.last().map_or(after, |(_, entry)| entry.position);
                    let (batch, interrupted) = self.fetch(signal, wanted);
                    if !batch.requests.is_empty() {
                        return Some(batch);
                    }
                    if interrupted {
                        return None;
                    }
                    // All of it was given up.
                    after = last;
                }
            }
        }
    }

    /// Reads what a segment holds. `None` if that has to wait.
    fn load(&self, segment: &Segment, signal: Signal) -> Option<()> {
        let number = segment.number;
        let unread = {
            let index = self.shared.index();
            PerSignal { logs: index.outboxes.logs.unread(number), traces: index.outboxes.traces.unread(number) }
        };
        let loaded = self.shared.files.of(segment).and_then(|file| segment::load(file.as_ref(), &unread));
        match loaded {
            Ok(loaded) => {
                let lost = {
                    let outboxes = &mut self.shared.index().outboxes;
                    let logs = outboxes.logs.install(number, loaded.logs);
                    PerSignal { logs, traces: outboxes.traces.install(number, loaded.traces) }
                };
                for (signal, what) in lost.iter() {
                    self.shared.expired(signal, *what, ExpiryReason::Damaged);
                }
                Some(())
            }
            Err(_) => {
                let lost = {
                    let outboxes = &mut self.shared.index().outboxes;
                    let outbox = outboxes.of_mut(signal)?;
                    let unread = outbox.unread(number);
                    if unread.totals.requests == 0 {
                        // It has gone meanwhile.
                        return Some(());
                    }
                    outbox.unreadable_segment(number, unread.first)
                };
                self.shared.expired(signal, lost, ExpiryReason::Unreadable);
                (lost.requests > 0).then_some(())
            }
        }
    }

    /// Fetches bodies. What is damaged is given up; at what cannot be read the batch ends, and is said to be
    /// interrupted.
    fn fetch(&self, signal: Signal, wanted: Vec<(Source, Entry)>) -> (Batch, bool) {
        let mut batch = Batch { requests: Vec::new(), last: Position::START };
        let mut wanted = wanted.into_iter().peekable();
        while let Some((source, entry)) = wanted.next() {
            let mut run = vec![entry];
            if let (Source::Segment(segment), None) = (&source, &run.first().and_then(|entry| entry.body.clone())) {
                while let Some((_, entry)) = wanted.next_if(|(next, entry)| joins(&run, segment, next, entry)) {
                    run.push(entry);
                }
            }
            for (entry, body) in self.bodies(&source, run) {
                let position = entry.position;
                match body {
                    Ok(body) => {
                        batch.last = position;
                        batch.requests.push(StoredRequest { items: entry.items, body });
                    }
                    Err(Failure::Damaged) => {
                        let lost = self.with_outbox(signal, |outbox| outbox.give_up(position));
                        self.shared.expired(signal, lost, ExpiryReason::Damaged);
                    }
                    Err(Failure::Unreadable) => {
                        let lost = self.with_outbox(signal, |outbox| outbox.unreadable(position));
                        self.shared.expired(signal, lost, ExpiryReason::Unreadable);
                        if lost.requests == 0 {
                            return (batch, true);
                        }
                    }
                }
            }
        }
        (batch, false)
    }

    fn with_outbox(&self, signal: Signal, work: impl FnOnce(&mut Outbox) -> Pending) -> Pending {
        self.shared.index().outboxes.of_mut(signal).map(work).unwrap_or_default()
    }

    /// The bodies of `run`, which lie close to each other in `source`.
    fn bodies(&self, source: &Source, run: Vec<Entry>) -> Vec<(Entry, Result<Bytes, Failure>)> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Vec::new() };
        let start = first.offset;
        let span = last.offset.saturating_add(u64::from(last.length)).saturating_sub(start);
        let block = match source {
            Source::Segment(segment) if first.body.is_none() => self.read(segment, start, span),
            _ => Ok(Bytes::new()),
        };
        if run.len() > 1 && block.as_ref().map_or(true, Bytes::is_empty) {
            // Some of it cannot be had: each has to be tried by itself.
            return run.into_iter().flat_map(|entry| self.bodies(source, vec![entry])).collect();
        }
        let Ok(block) = block else {
            return run.into_iter().map(|entry| (entry, Err(Failure::Unreadable))).collect();
        };
        let cut = |mut entry: Entry| {
            if let Some(body) = entry.body.take() {
                return (entry, Ok(body));
            }
            let from = usize::try_from(entry.offset.saturating_sub(start)).unwrap_or(usize::MAX);
            let range = from..from.saturating_add(entry.length as usize);
            let body = (range.end <= block.len()).then(|| block.slice(range));
            let body = body.filter(|body| crc32c(body) == entry.checksum).ok_or(Failure::Damaged);
            (entry, body)
        };
        run.into_iter().map(cut).collect()
    }

    fn read(&self, segment: &Segment, offset: u64, length: u64) -> std::io::Result<Bytes> {
        let mut block = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        match self.shared.files.of(segment).and_then(|file| file.read_exact_at(&mut block, offset)) {
            Ok(()) => Ok(block.into()),
            // The file has become shorter: nothing will bring the bytes back.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Bytes::new()),
            Err(error) => Err(error),
        }
    }
}

/// Whether `entry` lies so close behind `run` that both are fetched together.
fn joins(run: &[Entry], segment: &Segment, source: &Source, entry: &Entry) -> bool {
    let Source::Segment(other) = source else { return false };
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
    let end = last.offset.saturating_add(u64::from(last.length));
    let span = entry.offset.saturating_add(u64::from(entry.length)).saturating_sub(first.offset);
    let gap = entry.offset.checked_sub(end);
    let near = gap.is_some_and(|gap| gap <= FETCH_GAP_MAX) && span <= FETCH_MAX;
    other.number == segment.number && entry.body.is_none() && near
}
