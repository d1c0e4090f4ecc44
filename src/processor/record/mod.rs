//! The state of the core as records, so that it outlives the process.
//!
//! A record is a key and a value of bytes. [`Processor::changes`] gives out those that have changed, in time with the
//! signals of the same events; a store makes both durable together, keeps the last value of each key, and hands all of
//! them to [`Processor::restore`]. A core that is restored behaves from then on as one that never stopped: the same
//! sessions and ids, the same order, the same deadlines in running time.
//!
//! # What is not stored
//!
//! * The hashes of stock datagrams of the last 100 ms: one that is repeated just then, across a restart, is taken twice.
//! * The names of apps: the shell hands them over again ([`Input::AppNames`](super::Input::AppNames)). Names that open
//!   connections were opened with are stored with these.
//! * Of a session's target, all but the prefix of the virtual proxy: nothing else is ever sent of it.
//! * Caches, and whatever can be made from the rest.
//!
//! # Privacy and keys
//!
//! A record holds what the configuration let the core keep when it was written. When restored, everything passes through
//! the configuration of now, and the stricter of both counts: a clear user becomes a hash or nothing, a hash can become
//! nothing, and nothing ever becomes clear again. Paths lose the identity in them. What has been concealed on the way is
//! out of date in the store and is given out again by the next `changes`. Sessions of users who are excluded now are
//! dropped without a signal. Held datagrams are as they came from the wire, whatever the configuration says, and are
//! therefore never stored clear: a keyed hash covers them ([`Ids`](super::ids)).
//!
//! With another key, open sessions keep the trace and span ids that they have. An id that Qlik has not hashed, and a user
//! who is stored as a hash, are not recognised any more; clear users are. Held datagrams cannot be uncovered, and count
//! as damaged.
//!
//! # Bytes
//!
//! Every value begins with the version of its kind, one byte. Where a part is not named otherwise:
//!
//! * **number**: seven bits to a byte, the lowest first, the highest bit of a byte says that another follows
//! * **near** x: the difference to x, wrapping, folded (0, -1, 1, -2 ... become 0, 1, 2, 3 ...), as a number
//! * **moment**, **running**: nanoseconds, 8 bytes; **flags**: 2 bytes; all fixed lengths are big endian
//! * **text**: length in bytes as a number, UTF-8; **text?**: length plus 1, or 0 where there is none
//!
//! | kind | key | value, version 1 |
//! |---|---|---|
//! | core | `1` | number of events; running of the last one; next order of an end (number); then of the configuration, in nanoseconds (numbers): expire after, expire connected after, longest span, heartbeat plus 1 or 0 |
//! | node | `2`, number (4) | name (text); moment of its last event; 1 byte: 1 last extended, 2 count, 4 old count; running of the last extended datagram; next serial of a gap (number); count; old count, moment of its border, running until when |
//! | gap | `3`, node (4), serial (8) | run (number); running when told; first place (number); length (number) |
//! | held datagram | `4`, node (4), place (8) | run (number); moments of receipt and of the event; running since when; the datagram, covered |
//! | restarts | `5`, node (4) | name of the node (text); for each restart: events before (number), running when due |
//! | ended id | `6`, order (8) | node (text); 1 byte: 1 clear, 2 trace differs; id (16); trace (16); segment (number); span (8); moment of the end; running when it was learned of |
//! | ordinal | `7`, 0 sessions without id or 1 connections, generation (8), place (2) | beginning of the first id of its kind (8); how often (number) |
//! | session | `8`, order of opening (8) | see below |
//!
//! A *count* is: run (number); next place (number); how far behind it the first is (number); running when it began;
//! moment of the last event taken; running when it was taken; length (1) and bits of the places before the first that
//! were taken, the nearest first.
//!
//! A **session**: flags; node (text); id (16); trace (16) where it differs from the id; moment of the start; number of the
//! segment; how far behind it the first one is (number); start of the segment, near the start; its span (8); the span
//! before (8); last activity, near the start; running when heard of; when the segment is due, the heartbeat and the
//! deadline, each near that; touched, near the key's number; moved, near touched; connections ever opened (number); user;
//! browser; client; virtual proxy (text); number of open connections, and each of them. The flags say what is there: 1 id,
//! 2 it is clear, 4 trace, 8 start inferred, 16 alone, 32 heartbeat, 64 span before, 128 browser, 256 client, 512 virtual
//! proxy.
//!
//! A *connection*: flags; when opened, near the session's start; the node's word for it, near that; ordinal (number);
//! number of the part, its start near the opening, 1 and the span before (8) or 0; span of the part (8); when it is due,
//! near the segment's; parent (8) unless it is the segment; browser; client; foreign trace (16), span (8) and flags (1);
//! target. Flags: 1 the node's word differs, 2 ordinal, 4 not the first part, 8 parent, 16 the target of the connection
//! before, 32 the session's browser, 64 a browser, 128 the session's client, 256 a client, 512 foreign span, then of the
//! target: 1024 app, 2048 name, 4096 path, 8192 origin, 16384 virtual proxy, 32768 it is the session's.
//!
//! * *user*: 0 and user (text); 1, directory and user; 2 or 3 and 16 bytes that stand for a user who is hashed or dropped
//! * *browser*: 255 and a hash (text); else the number of a well-known beginning or 0, what follows it (text), name (text?),
//!   version (text?), number of the operating system or 0 (1)
//! * *client*: 4 or 6 and the address, or 255 and a hash (text)
//! * *target*: app (16); name (text); virtual proxy (text) unless it is the session's; path: twice its length, plus 1 where
//!   only what follows `/proxy/app/id` is there; origin: 0 `AppAccess`, 1 `ManagementAccess`, or 2 plus length and text
//!
//! A value that is read has to be used up. A record that breaks these rules, or would break the core, costs itself only:
//! whatever names a node by its number alone belongs to the order of that node's events, all else names it by its name. A
//! reader skips what is newer than itself. Skipped records are counted, and deleted with the next `changes`: a core that
//! comes back to them much later would take for open what has ended.

use crate::time::RunningTime;

use super::Processor;

mod changed;
mod detail;
mod key;
mod read;
mod restore;
mod write;

pub(super) use changed::Changed;
pub(super) use detail::{Memory, TargetParts, write_browser, write_client, write_identity, write_target};
pub(super) use key::RecordKey;
pub(super) use read::{Reader, is_counter};
pub(super) use write::Writer;

/// Where records go. A key that is put again replaces what it held before.
pub trait Ledger {
    /// Stores a value under a key.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Removes a key, which may not be there.
    fn delete(&mut self, key: &[u8]);
}

/// Whoever takes a key with its new value, or with `None` where it is gone.
impl<T: FnMut(&[u8], Option<&[u8]>)> Ledger for T {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self(key, Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self(key, None);
    }
}

/// How much may be given out at a time. The first record is, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Records.
    pub records: usize,
    /// Bytes of their keys and values. A held datagram alone may be 64 KiB.
    pub bytes: usize,
}

impl Room {
    /// Whatever there is.
    pub const ALL: Self = Self { records: usize::MAX, bytes: usize::MAX };
}

/// A place in the walk through all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    stage: Stage,
    major: u64,
    minor: u64,
}

impl RecordPosition {
    /// Before the first record.
    pub const START: Self = Self { stage: Stage::Core, major: 0, minor: 0 };

    const fn at(stage: Stage, major: u64, minor: u64) -> Self {
        Self { stage, major, minor }
    }
}

/// The parts of the walk, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Core,
    Nodes,
    Gaps,
    Held,
    Restarts,
    Ended,
    Ordinals,
    Sessions,
}

/// What a restored core was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what was lost has to be told"]
pub struct Restored {
    /// Nodes that are known again.
    pub nodes: usize,
    /// Sessions that are open again, including those that the limits of now do not allow: they end as `evicted` with the
    /// first call of [`Processor::advance`].
    pub sessions: usize,
    /// Datagrams that are held again for their order.
    pub held: usize,
    /// Records that could not be read, or did not fit to the others.
    pub damaged: u64,
    /// Records of a kind or version that is newer than this program.
    pub newer: u64,
    /// Records that the limits of now leave no room for: of nodes, ended ids and restarts, and held datagrams.
    pub no_room: u64,
    /// Sessions of users who are excluded now.
    pub excluded: u64,
    /// Held datagrams of nodes that are too many now.
    pub held_of_too_many_nodes: u64,
    /// The latest running time that a record knows of. Running time goes on from there at the earliest.
    pub running: RunningTime,
}

/// What the core has to know to give out its records.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Whether changes are being noted.
    noting: bool,
    /// The value in the making.
    value: Vec<u8>,
    /// The core's own record as it was last given out, and as it was before that.
    core: Vec<u8>,
    core_before: Vec<u8>,
    /// Keys of records that were skipped.
    doomed: Vec<Box<[u8]>>,
}

/// Writes records into a ledger, one after the other, as long as there is room.
pub(super) struct Scribe<'a, L> {
    ledger: &'a mut L,
    value: &'a mut Vec<u8>,
    room: Room,
}

impl<L: Ledger> Scribe<'_, L> {
    pub(super) fn put(&mut self, key: RecordKey, write: impl FnOnce(&mut Writer<'_>)) {
        self.value.clear();
        let mut writer = Writer(self.value);
        writer.byte(key.version());
        write(&mut writer);
        let key = key.encode();
        self.ledger.put(key.as_slice(), self.value);
        self.room.records = self.room.records.saturating_sub(1);
        self.room.bytes = self.room.bytes.saturating_sub(key.as_slice().len() + self.value.len());
    }

    pub(super) fn delete(&mut self, key: RecordKey) {
        self.ledger.delete(key.encode().as_slice());
    }

    pub(super) const fn is_full(&self) -> bool {
        self.room.records == 0 || self.room.bytes == 0
    }
}

impl Processor {
    /// Gives out every record that has changed since the last call, each once, as it is now. The first call gives out
    /// everything, and is the one from which on changes are noted; a core that was restored has been given out already.
    ///
    /// Costs as much as has changed. Once it was called, it should go on being called after every batch of events, because
    /// the names of what has changed are kept until then.
    pub fn changes(&mut self, ledger: &mut impl Ledger) {
        if !self.records.noting {
            self.start_noting();
            self.records(RecordPosition::START, Room::ALL, ledger);
            return;
        }
        let Self { nodes, flow, records, .. } = self;
        for key in records.doomed.drain(..) {
            ledger.delete(&key);
        }
        let Records { value, core, core_before, .. } = records;
        let mut scribe = Scribe { ledger, value, room: Room::ALL };
        for known in nodes.iter_mut().filter(|known| known.changed) {
            known.changed = false;
            scribe.put(RecordKey::Node(known.number), |writer| known.write(writer));
            known.sequencer.changes(known.number, &flow.ids, &mut scribe);
        }
        flow.tracker.changes(nodes, &mut scribe);
        std::mem::swap(core, core_before);
        core.clear();
        flow.tracker.write(&mut Writer(core));
        if core != core_before {
            scribe.put(RecordKey::Core, |writer| writer.bytes(core));
        }
    }

    /// Gives out records from `from` on as long as there is room, and at least one, for a checkpoint: where to go on, or
    /// `None` at the end. Between two calls the core may be driven: what has changed meanwhile is in [`Self::changes`], and has to be
    /// stored in the order in which it was given out.
    pub fn records(&self, from: RecordPosition, room: Room, ledger: &mut impl Ledger) -> Option<RecordPosition> {
        let mut value = Vec::new();
        let room = Room { records: room.records.max(1), bytes: room.bytes.max(1) };
        let mut scribe = Scribe { ledger, value: &mut value, room };
        let RecordPosition { mut stage, mut major, mut minor } = from;
        loop {
            if let Some((major, minor)) = self.walk(stage, major, minor, &mut scribe) {
                return Some(RecordPosition::at(stage, major, minor));
            }
            (major, minor) = (0, 0);
            stage = match stage {
                Stage::Core => Stage::Nodes,
                Stage::Nodes => Stage::Gaps,
                Stage::Gaps => Stage::Held,
                Stage::Held => Stage::Restarts,
                Stage::Restarts => Stage::Ended,
                Stage::Ended => Stage::Ordinals,
                Stage::Ordinals => Stage::Sessions,
                Stage::Sessions => return None,
            };
        }
    }

    /// Walks through one stage from a place in it on: where the scribe was full, if it was.
    fn walk(&self, stage: Stage, major: u64, minor: u64, scribe: &mut Scribe<'_, impl Ledger>) -> Option<(u64, u64)> {
        let tracker = &self.flow.tracker;
        match stage {
            Stage::Core => scribe.put(RecordKey::Core, |writer| tracker.write(writer)),
            Stage::Nodes | Stage::Gaps | Stage::Held => {
                for known in self.nodes.iter().filter(|known| u64::from(known.number) >= major) {
                    let number = known.number;
                    let from = if u64::from(number) == major { minor } else { 0 };
                    let stopped = match stage {
                        Stage::Nodes if scribe.is_full() => Some(0),
                        Stage::Nodes => {
                            scribe.put(RecordKey::Node(number), |writer| known.write(writer));
                            None
                        }
                        Stage::Gaps => known.sequencer.gaps(number, from, scribe),
                        _ => known.sequencer.held_from(number, from, &self.flow.ids, scribe),
                    };
                    if let Some(minor) = stopped {
                        return Some((number.into(), minor));
                    }
                }
            }
            Stage::Restarts => {
                for known in self.nodes.iter().filter(|known| u64::from(known.number) >= major) {
                    if scribe.is_full() {
                        return Some((known.number.into(), 0));
                    }
                    tracker.put_restarts(known, scribe);
                }
            }
            Stage::Ended => return tracker.ended_from(major, &self.nodes, scribe).map(|order| (order, 0)),
            Stage::Ordinals => return tracker.ordinals_from(major, minor, scribe),
            Stage::Sessions => return tracker.sessions_from(major, scribe).map(|slot| (slot, 0)),
        }
        None
    }

    fn start_noting(&mut self) {
        self.records.noting = true;
        self.nodes.start_noting();
        self.nodes.iter_mut().for_each(|known| known.changed = false);
        self.flow.tracker.start_noting();
        self.records.core.clear();
        self.flow.tracker.write(&mut Writer(&mut self.records.core));
    }
}

impl super::node::Known {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.text(&self.node.name);
        writer.moment(self.last_event);
        self.sequencer.write(writer);
    }
}
