//! The outbox between the core and the exporter, and the memory of the core: what is durable, where, and since when.
//!
//! What the core has made of a batch of datagrams is one [`Commit`]: encoded export requests, and the records of its
//! own state that have changed. It becomes durable as one, or not at all. The exporter reads the requests in the same
//! order, signal by signal, and acknowledges what it is done with. Requests and records are opaque bytes here; a place
//! in the outbox is a [`Position`]; one cursor for each signal tells what is done.
//!
//! There are two kinds of store behind the one interface. [`Store::in_memory`] keeps a bounded outbox and forgets
//! records: for demos, tests and whoever says `--in-memory`. [`Store::open`] is what this page is about: a log of
//! frames in files.
//!
//! ```text
//!  core ──append──> queue ──> Writer ──> Log ──> segment ──> frame, commit          storage: the seam to the disk
//!       <─checkpoint_due─┘   one thread   │
//!                                       Index <──next, acknowledge── exporter
//! ```
//!
//! # Invariants
//!
//! * Positions of a signal rise from append to append and are never used twice.
//! * Every item leaves exactly once: by [`Store::acknowledge`], or by expiring, which the [`Observer`] hears of. So
//!   `restored + appended = acknowledged + expired + pending` holds whenever nothing is on its way to the writer.
//! * [`Store::next`] hands out only what is durable, and the bytes that were appended or nothing: their checksum is
//!   looked at when they are read. In a store that is degraded it hands out what is in memory.
//! * What has been handed out never expires. Otherwise an item could be booked as expired and be delivered by the call
//!   that was on its way. If its segment goes for want of space, it does not survive the process.
//! * Nothing is written that is not checksummed, nothing is believed that does not match, and no file is written to
//!   again after it failed or after the process that made it ended.
//! * The index's lock is held for work in memory only; files are read and written without it.
//! * Everything has a bound: 64 MiB between core and writer, 64 MiB of requests in memory while the disk fails, 8 MiB
//!   of bodies in memory behind their writing, `max_size` on disk.
//!
//! # Bytes on disk
//!
//! All numbers are little-endian. Everything is in `store.directory`:
//!
//! ```text
//! lock                                 empty; locked while a process has the store
//! log/00000000000000000001.segment     the log, in segments with rising numbers
//! damaged/                             files of log/ that could not be read, under the names they had
//! quarantine/00000000000000000001.request   requests that the backend will never take, one in a file, 256 MiB of them
//! quarantine/unfinished                a request that is being put there
//! privacy.key                          not the store's: the secret of all hashes
//! ```
//!
//! A **segment** is a header and frames:
//!
//! ```text
//!  0  8  "SENSEOTL"
//!  8  4  version of the format: 1
//! 12  4  zero
//! 16  8  number of the segment
//! 24  8  sequence number of its first frame
//! 32  8  sequence number of the last durable frame when it was made
//! 40  8  number of the segment that the last complete checkpoint begins with: recovery begins there
//! 48  1  1: records were lost before this segment, and no checkpoint has ended since; else 0
//! 49 11  zero
//! 60  4  CRC-32C of bytes 0 to 59
//! 64     frames, one behind the other
//! ```
//!
//! The first 64 bytes keep this form in every version. A **frame**:
//!
//! ```text
//!  0  4  f5 'S' 'O' fa: bytes that no UTF-8 text has
//!  4  1  version of the format: 1
//!  5  1  kind: 1 commit, 2 seal
//!  6  2  zero
//!  8  8  sequence number: one more than that of the frame before, over all segments
//! 16  4  length of the head, H
//! 20  4  length of all bodies, B
//! 24  4  CRC-32C of the head
//! 28  4  CRC-32C of bytes 0 to 27
//! 32  H  head
//!  +  B  bodies of the export requests, in their order
//! ```
//!
//! The **head of a commit**:
//!
//! ```text
//!  0  8  running time in nanoseconds
//!  8  8  wall clock in nanoseconds since 1970
//! 16  8  every frame up to this sequence number was durable when this one was written
//! 24  8  cursor of the logs: all positions up to it are done with
//! 32  8  cursor of the traces
//! 40  8  position before the first request of the logs in this frame
//! 48  8  position before the first request of the traces
//! 56  1  mark: 0 none, 1 a checkpoint begins, 2 a part of it, 3 it ends
//! 57  3  zero
//! 60  4  number of requests, R
//! 64  4  number of records
//! 68     R times: signal (1 logs, 2 traces), three zeros, items (4), length of the body (4), CRC-32C of the body (4)
//!  +     for each record: length of the key (4), length of the value (4; ff ff ff ff: the key is deleted), key, value
//! ```
//!
//! The **head of a seal**, the last frame of a segment that is full, so that a backlog need not be read at the start:
//!
//! ```text
//!  0  8  running time of the last frame
//!  8 16  cursors of logs and traces
//! 24 40  of the logs: first and last position, requests, items, bytes of bodies, 8 each
//! 64 40  of the traces
//! ```
//!
//! A file of the **quarantine**:
//!
//! ```text
//!  0  8  "SENSEOTQ"
//!  8 16  version 1, signal (1 logs, 2 traces, 3 metrics), items, gRPC code, 4 each
//! 24  8  wall clock in nanoseconds since 1970
//! 32  8  lengths of reason and body, 4 each
//! 40  4  zero
//! 44  4  CRC-32C of bytes 0 to 43, the reason and the body
//! 48     reason in UTF-8, body
//! ```
//!
//! # Writing
//!
//! The writer takes everything that is queued, up to 4 MiB, and appends it with one write (where the system has one for
//! many pieces) and one `fdatasync`; then it is published to the exporter. A commit is a frame; one that is larger than 1 GiB is several, the records last. The
//! cursors travel in each frame. Without traffic a frame of nothing but cursors is written at most once a second and only
//! if they have moved, without a sync: if it is lost, a little is sent twice.
//! While something is open, such a frame is written once a minute in any case, for the running time in it: what is open
//! has its deadlines there, and a kill after hours of silence would give it those hours back. The store does not know
//! what its records mean, so the core says whether that is so. The same goes for what waits for the backend, and has an
//! age. While there is neither, nothing is written.
//!
//! **Checkpoints** are ordinary frames. [`Store::checkpoint_due`] says when the core should write its whole state, in
//! portions between its other commits: more than max(64 MiB or a quarter of the budget, 4 times its size) has been
//! written since the last, or there are too many segments, or the budget waits for it (and 4 times its size has been
//! written: a state that is larger than the budget must not be written all the time), or records are missing. Begin starts
//! a segment, so that all segments before it are of use only to the exporter; at End they are let go as they are delivered.
//! A segment goes when it is before the last complete checkpoint's Begin, all before it have gone, and every signal has
//! acknowledged it.
//!
//! **Budget**: over `max_size` or 4096 segments, or when its last frame is older than `max_age` of running time, the
//! oldest segment goes as a whole, delivered or not, once a checkpoint allows. Segments are a 64th of `max_size` up to
//! 64 MiB, at least a 512th; or a 16th of `max_age`. Whatever their number, 8 files are open to be read, one to be
//! written to, and those of segments that are gone while the exporter has something of them in hand.
//!
//! # Failure
//!
//! * A write or sync that fails is never tried again on that file: nobody knows any more what it holds. It is cut to
//!   what is known to be durable, and the frames of the group are written to a new segment under the same sequence
//!   numbers.
//! * If that fails too, the store is [`Status::Degraded`]: requests are kept in memory and delivered from there, beyond
//!   64 MiB the oldest of the signal that takes more room expires; records are forgotten, the core has them. After 1 to
//!   4 s of running time a new segment is tried, with the requests from memory as its first frames; then the core is
//!   asked for a checkpoint, and at its End all is durable again. A checkpoint that was being written is over: what of
//!   it is still to come is written as ordinary frames, for an End must never follow a portion that is missing.
//! * What cannot be read when it is to be sent is tried again at the next [`Store::tick`]; at the fifth failure it expires.
//!   What does not match its checksum expires at once.
//! * A segment that cannot be removed is told ([`Happening::Stuck`]), tried again at the next tick, and counts until then.
//!   Those after it wait for it, and nothing in them expires: gaps in the log are damage, and what cannot go yet frees no
//!   space.
//!
//! # Recovery
//!
//! 1. The lock is taken: one process at a time.
//! 2. Every file is looked at and none touched. One of a newer version: all is left as it is, and the start refused.
//! 3. What is in `log/` and no segment, or cannot be read, moves to `damaged/`. A segment under another's name gets its
//!    own back, and replaces nothing. A segment with a damaged header is read for the frames behind it. A file that ends
//!    within its header was being made, and is removed.
//! 4. The header of the last segment names the one that the last complete checkpoint begins with. Of segments before it
//!    the seal is read; from it on every frame, without bodies. Records are last-wins. When a Begin is followed by its
//!    End, what was recorded since the Begin is all there is. A frame whose number was seen already was written twice,
//!    and is skipped.
//! 5. Bytes that are no frame, up to the end of the file, are a **torn** tail: they were never durable, and are cut. If
//!    a frame follows that was written when the missing ones were durable, it is **damage**: the missing frames are
//!    lost and counted, the rest counts. If it was not, all of them were one group that did not become durable, and are
//!    cut. Of frames at the end that no other frame says were durable, the bodies are read too, and the first that is
//!    torn is cut with all behind it. So what comes back is a prefix of what was written, but for damage.
//! 6. Where frames are lost, a checkpoint is due at once: the core's memory is the only whole one. The same where a
//!    segment says that records were lost, because the disk failed and the process ended before the next End: the
//!    requests of those events may be there, and the records of before them beside. That is told as
//!    [`Damage::records_are_old`].
//! 7. A new segment is begun, and nothing is ever appended to an old one. Segments without a frame are removed then: a
//!    process that is started again and again would leave one each time.
//!
//! # What is lost when
//!
//! | what happens | what is lost |
//! |---|---|
//! | process killed | what was not yet written: the queue of the writer; of silence, up to a minute of running time, and all of it where nothing is open and nothing waits |
//! | power lost, kernel panic | the same; and the last second of acknowledgements, so that a little is sent twice |
//! | disk full, read-only, failing | nothing while 64 MiB suffice; if the process ends meanwhile: what is in memory, and until the next End the changes of the core's state |
//! | bits rot | the frames, or bodies, that they are in |
//! | a storage that says it synced and did not | what it lost, from the first missing frame of a group on |
//! | a segment deleted by hand | what is in it; from the last checkpoint on it is counted, before it not |

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

pub use self::commit::{Commit, Mark, PerSignal, Position, Record, Records};
use self::durable::{Durable, Shared};
use self::files::Files;
pub use self::health::{DegradedReason, Happening, Observer, Status, Unobserved};
use self::log::Log;
use self::memory::Memory;
pub use self::outbox::Pending;
pub use self::quarantine::{About, Kept, Poison, Quarantine, QuarantineError, QuarantineId, Quarantined};
use self::recovery::Restored;
use self::storage::Storage;
pub use self::writer::Writer;
use crate::signal::Signal;
use crate::time::{Now, RunningTime, Timestamp};

mod commit;
mod durable;
mod files;
mod frame;
mod health;
mod log;
mod memory;
mod outbox;
mod pieces;
mod quarantine;
mod recovery;
mod segment;
pub mod storage;
mod writer;

/// The file that is locked while a process has the store.
const LOCK: &str = "lock";

/// How much is kept for a backend that does not answer, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store and of the generated key file.
    pub directory: PathBuf,
    /// Budget in bytes.
    pub max_size: u64,
    /// Budget in running time.
    pub max_age: Duration,
}

/// How much a store in memory keeps before the oldest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of memory, all signals together: the bodies and a fixed amount for each request.
    pub bytes: u64,
    /// Running time since the append.
    pub age: Duration,
}

/// How much one batch may hold. The first request is handed out whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of all bodies together.
    pub bytes: usize,
    /// Log records or spans.
    pub items: u64,
}

/// Stored requests of one signal that follow each other, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The requests in the order of their appending.
    pub requests: Vec<StoredRequest>,
    /// The position of the last one.
    pub last: Position,
}

/// One stored request: its bytes are shared with the store, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// Log records or spans in it.
    pub items: u32,
    /// The protobuf bytes, as they were appended.
    pub body: Bytes,
}

/// A store on disk that is open.
#[derive(Debug)]
pub struct Opened {
    /// For the core and the exporter.
    pub store: Store,
    /// Has to be run, on a thread of its own.
    pub writer: Writer,
    /// What an earlier process left.
    pub recovered: Recovered,
}

/// What an earlier process left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The state of the core: key and value, sorted by key, each key once.
    pub records: Vec<StoredRecord>,
    /// The running time to go on from: that of the last commit. The start if there was none.
    pub running: RunningTime,
    /// The wall clock of the last commit. The epoch if there was none.
    pub wall: Timestamp,
    /// What is still to be delivered.
    pub restored: PerSignal<Pending>,
    /// What could not be read.
    pub damage: Damage,
}

/// A key of the core's state, and its value.
pub type StoredRecord = (Box<[u8]>, Box<[u8]>);

/// What an earlier process left and could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Frames that had been durable and are lost; each was a commit, or a part of the bookkeeping.
    pub lost_frames: u64,
    /// Bytes that were no frame between others.
    pub damaged_bytes: u64,
    /// Bytes at the end that never became durable. That is no damage: it is what a kill or a loss of power leaves.
    pub torn_bytes: u64,
    /// Whether the records are from before the process lost its disk, and requests may be there that came later.
    pub records_are_old: bool,
    /// Segments whose header is damaged, and whose frames were read all the same.
    pub headers: u64,
    /// Files that were moved to the folder `damaged`.
    pub moved: Vec<String>,
    /// Files that should have been moved there, and could not be. They are left alone.
    pub stuck: Vec<String>,
}

/// Why a store could not be opened, by who can help. No byte in the log has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator: another process has the store.
    #[error("another process uses this store")]
    InUse,
    /// The operator: a newer version of this program wrote the store, and this one must not touch it.
    #[error("the store has format {found}, written by a newer version; this one reads up to {known}")]
    Newer {
        /// Version of the format that was found.
        found: u32,
        /// The newest one that can be read.
        known: u32,
    },
    /// The operator or the system: the folder cannot be read, or not be made.
    #[error("the folder of the store cannot be used")]
    Unusable(#[source] std::io::Error),
}

/// Why a commit was not taken. It is given back whole.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk does not keep up: there are 64 MiB between the core and the writer. An empty queue takes any commit.
    #[error("the store does not keep up")]
    Full(Box<Commit>),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed(Box<Commit>),
}

/// The handle to a store. Cheap to clone, callable from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Memory(Box<Memory>, Quarantine),
    Durable(Durable),
}

impl Store {
    /// An empty outbox that keeps what it holds in memory.
    #[must_use]
    pub fn in_memory(budget: Budget, observer: Arc<dyn Observer>) -> Self {
        Self { kind: Arc::new(Kind::Memory(Box::new(Memory::new(budget, observer)), Quarantine::nowhere())) }
    }

    /// Opens the store in `storage`, and reads what an earlier process left. `config.directory` is not looked at.
    ///
    /// If the disk can be read and not be written, the store is open, and degraded.
    ///
    /// # Errors
    ///
    /// Every kind of [`OpenError`].
    pub fn open(config: &Config, storage: Arc<dyn Storage>, observer: Arc<dyn Observer>) -> Result<Opened, OpenError> {
        storage.create_folder(segment::FOLDER).map_err(OpenError::Unusable)?;
        let lock = storage.lock(LOCK).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::InUse,
            _ => OpenError::Unusable(error),
        })?;
        let Restored { index, left, recovered } = recovery::recover(storage.as_ref())?;
        let shared = Arc::new(Shared::new(index, Files::new(Arc::clone(&storage)), observer));
        let (sender, receiver) = channel();
        let quarantine = Quarantine::new(Arc::clone(&storage));
        let log = Log::new(storage, Arc::clone(&shared), config, left);
        let writer = Writer::new(receiver, Arc::clone(&shared), log, lock);
        let store = Self {
            kind: Arc::new(Kind::Durable(Durable { shared, writer: sender, closed: Mutex::new(false), quarantine })),
        };
        Ok(Opened { store, writer, recovered })
    }

    /// Appends a commit. Metrics in it have a way of their own and are ignored.
    ///
    /// In memory the oldest requests expire until the budget is kept, whatever their signal; one that alone exceeds it
    /// expires at once. On disk the commit is on its way to the writer when this returns, and durable when
    /// [`Store::next`] hands out what follows it, or [`Store::flush`] returns.
    ///
    /// # Errors
    ///
    /// Every kind of [`AppendError`]. If a commit that was not taken is not appended later, the records on disk are no
    /// longer those of the core: better look at [`Store::has_room`] before there is anything to commit.
    pub fn append(&self, commit: Commit) -> Result<(), AppendError> {
        match &*self.kind {
            Kind::Memory(memory, _) => {
                memory.append(commit.requests, commit.now.running);
                Ok(())
            }
            Kind::Durable(durable) => durable.append(commit),
        }
    }

    /// Whether less than half is used of what may lie between the core and the writer, so that the next commit will be
    /// taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &*self.kind {
            Kind::Memory(..) => true,
            Kind::Durable(durable) => durable.has_room(),
        }
    }

    /// Says how late it is: what has to happen by and by happens. To be called about once a second, for the store has
    /// no clock of its own. `has_deadlines`: something that was recorded ends by the running time, which therefore is
    /// written once a minute even if nothing else is.
    pub fn tick(&self, now: Now, has_deadlines: bool) {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.expire(now.running),
            Kind::Durable(durable) => durable.tick(now, has_deadlines),
        }
    }

    /// Whether the core should commit its whole state, see [`Mark`]. Stays so until that has begun, and is not so again
    /// before it has ended.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        match &*self.kind {
            Kind::Memory(..) => false,
            Kind::Durable(durable) => durable.checkpoint_due(),
        }
    }

    /// Tries a disk that fails at once, however long the next try was to wait. For whoever is about to end.
    pub fn retry(&self) {
        if let Kind::Durable(durable) = &*self.kind {
            durable.retry();
        }
    }

    /// Waits until everything that was appended is durable, or in memory if the disk fails. Returns whether that was so
    /// before `patience` ran out.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        match &*self.kind {
            Kind::Memory(..) => true,
            Kind::Durable(durable) => durable.flush(patience),
        }
    }

    /// Lets the writer end, after everything that was appended and acknowledged so far. What is appended later is
    /// refused.
    pub fn close(&self) {
        if let Kind::Durable(durable) = &*self.kind {
            durable.close();
        }
    }

    /// Whether what is appended survives the process.
    #[must_use]
    pub fn status(&self) -> Status {
        match &*self.kind {
            Kind::Memory(..) => Status::InMemory,
            Kind::Durable(durable) => *durable.shared.status(),
        }
    }

    /// The requests that the backend will never take.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        match &*self.kind {
            Kind::Memory(_, quarantine) => quarantine,
            Kind::Durable(durable) => &durable.quarantine,
        }
    }

    /// The requests that follow `after`, as many as `limit` allows and at least one, or `None` if nothing does. They
    /// count as handed out: they stay, and do not expire, until they are acknowledged.
    ///
    /// Bodies that are not in memory any more are read from the disk here, and what turns out to be damaged expires.
    #[must_use]
    pub fn next(&self, signal: Signal, after: Position, limit: Limit) -> Option<Batch> {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.next(signal, after, limit),
            Kind::Durable(durable) => durable.next(signal, after, limit),
        }
    }

    /// Everything of `signal` that was handed out, up to `position`, is done with. An earlier position changes nothing.
    pub fn acknowledge(&self, signal: Signal, position: Position) {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.acknowledge(signal, position),
            Kind::Durable(durable) => {
                let mut index = durable.shared.index();
                let done = index.outboxes.of_mut(signal).map(|outbox| outbox.acknowledge(position));
                drop(index);
                drop(done);
            }
        }
    }

    /// What of `signal` can be delivered, and has been neither acknowledged nor expired.
    #[must_use]
    pub fn pending(&self, signal: Signal) -> Pending {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.pending(signal),
            Kind::Durable(durable) => {
                durable.shared.index().outboxes.of(signal).map(outbox::Outbox::pending).unwrap_or_default()
            }
        }
    }

    /// Waits until a request of `signal` follows `after`; returns at once if one does. May be cancelled at any time.
    pub async fn appended(&self, signal: Signal, after: Position) {
        loop {
            // Made before the look at the outbox: it hears every append from here on, polled or not.
            let woken = self.notify().notified();
            if self.holds_after(signal, after) {
                return;
            }
            woken.await;
        }
    }

    fn notify(&self) -> &Notify {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.appended(),
            Kind::Durable(durable) => &durable.shared.appended,
        }
    }

    fn holds_after(&self, signal: Signal, after: Position) -> bool {
        match &*self.kind {
            Kind::Memory(memory, _) => memory.holds_after(signal, after),
            Kind::Durable(durable) => {
                durable.shared.index().outboxes.of(signal).is_some_and(|outbox| outbox.holds_after(after))
            }
        }
    }
}
