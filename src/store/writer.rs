//! The writing side of the store on disk: one owner, no clock of its own.
//!
//! [`Writer::run`] takes what is queued, and hands it to the [`Log`] as one group: one write, one sync. The log says
//! what becomes of it; see its own file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use super::commit::Commit;
use super::durable::Shared;
use super::log::Log;
use super::storage::Lock;
use crate::time::Now;

/// Bytes that are written at a time, at most, but for a single commit that is larger.
const GROUP_MAX: u64 = 4 * 1024 * 1024;

/// What the users of the store tell the writer.
#[derive(Debug)]
pub(super) enum Message {
    /// Make this durable.
    Commit(Commit),
    /// So late is it; and whether something ends by the running time, even if nothing else happens.
    Tick { now: Now, has_deadlines: bool },
    /// Try a disk that fails.
    Retry,
    /// Say when everything before this is done.
    Flush(SyncSender<()>),
    /// End.
    Close,
}

/// The thread of the store, to be run by whoever opened it. Without it nothing becomes durable, nor is handed out.
#[derive(Debug)]
pub struct Writer {
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
    log: Log,
    group: Vec<Commit>,
    cost: u64,
    /// Released when the writer is dropped.
    _lock: Box<dyn Lock>,
}

impl Writer {
    pub(super) fn new(receiver: Receiver<Message>, shared: Arc<Shared>, log: Log, lock: Box<dyn Lock>) -> Self {
        Self { receiver, shared, log, group: Vec::new(), cost: 0, _lock: lock }
    }

    /// Works until [`Store::close`](super::Store::close), or until the last [`Store`](super::Store) is gone, and leaves
    /// everything durable that can be made so.
    pub fn run(mut self) {
        while let Ok(message) = self.receiver.recv() {
            if !self.take(message) || !self.turn() {
                break;
            }
        }
        self.commit();
        self.log.finish();
    }

    /// Does what is queued, without waiting. Returns whether there may be more later: `false` once the store is closed.
    ///
    /// For whoever has no thread to give; the caller has to call it again and again.
    pub fn turn(&mut self) -> bool {
        while let Ok(message) = self.receiver.try_recv() {
            if !self.take(message) {
                self.commit();
                return false;
            }
        }
        self.commit();
        true
    }

    /// Whether to go on.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Commit(commit) => {
                self.cost = self.cost.saturating_add(commit.cost());
                self.group.push(commit);
                if self.cost >= GROUP_MAX {
                    self.commit();
                }
            }
            Message::Tick { now, has_deadlines } => {
                self.commit();
                self.shared.ticking.store(false, Ordering::Release);
                self.log.tick(now, has_deadlines);
            }
            Message::Retry => {
                self.commit();
                self.log.retry();
            }
            Message::Flush(done) => {
                self.commit();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
            Message::Close => return false,
        }
        true
    }

    fn commit(&mut self) {
        if !self.group.is_empty() {
            self.log.commit(std::mem::take(&mut self.group));
            self.shared.queued.fetch_sub(std::mem::take(&mut self.cost), Ordering::AcqRel);
        }
    }
}
