//! What a frame holds: export requests, records of the core, and how far everything is.
//!
//! The bytes are in the table of the module head of `store`.

use crc32c::crc32c;

use super::frame::{self, Kind, Reader, length};
use super::pieces::Pieces;
use crate::signal::{ExportRequest, Signal};
use crate::time::{Now, RunningTime, Timestamp};

/// A place in the outbox of one signal: after so many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before the first request.
    pub const START: Self = Self(0);

    pub(super) const fn new(requests: u64) -> Self {
        Self(requests)
    }

    pub(super) const fn value(self) -> u64 {
        self.0
    }

    pub(super) const fn preceding(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    pub(super) const fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One value for each signal that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSignal<T> {
    /// Of log records.
    pub logs: T,
    /// Of spans.
    pub traces: T,
}

impl<T> PerSignal<T> {
    /// The value of `signal`; metrics have none, for they are not stored.
    pub const fn of(&self, signal: Signal) -> Option<&T> {
        match signal {
            Signal::Logs => Some(&self.logs),
            Signal::Traces => Some(&self.traces),
            Signal::Metrics => None,
        }
    }

    /// The value of `signal`; metrics have none, for they are not stored.
    pub const fn of_mut(&mut self, signal: Signal) -> Option<&mut T> {
        match signal {
            Signal::Logs => Some(&mut self.logs),
            Signal::Traces => Some(&mut self.traces),
            Signal::Metrics => None,
        }
    }

    /// Both values, each with its signal.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, &T)> {
        [(Signal::Logs, &self.logs), (Signal::Traces, &self.traces)].into_iter()
    }

    /// Both values, each with its signal.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Signal, &mut T)> {
        [(Signal::Logs, &mut self.logs), (Signal::Traces, &mut self.traces)].into_iter()
    }
}

/// What becomes durable as one, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// What is to be delivered, in this order, each shorter than 4 GiB. Metrics have a way of their own and are ignored.
    pub requests: Vec<ExportRequest>,
    /// What has changed in the state of the core.
    pub records: Records,
    /// Whether the records are a portion of a checkpoint, and which.
    pub mark: Option<Mark>,
    /// When.
    pub now: Now,
}

impl Commit {
    /// How much memory and disk it takes, nearly.
    pub(super) fn cost(&self) -> u64 {
        let bodies = self.requests.iter().map(|request| request.body.len() as u64 + COST_OF_A_REQUEST);
        bodies.fold(COST_OF_A_COMMIT + self.records.encoded.len() as u64, u64::saturating_add)
    }

    /// The same in pieces that cost at most `max` each, or hold one thing only. The requests come first: if the pieces
    /// come apart, events are told of twice rather than never.
    pub(super) fn split(mut self, max: u64) -> Vec<Self> {
        if self.cost() <= max {
            return vec![self];
        }
        let mut pieces = Vec::new();
        let mut piece = Self { now: self.now, ..Self::default() };
        let mut next = |piece: &mut Self, more: u64, size: u64| {
            if size > 0 && size.saturating_add(more) > max.saturating_sub(COST_OF_A_COMMIT) {
                let full = std::mem::replace(piece, Self { now: piece.now, ..Self::default() });
                pieces.push(full);
                return more;
            }
            size.saturating_add(more)
        };
        let mut size = 0;
        for request in std::mem::take(&mut self.requests) {
            size = next(&mut piece, request.body.len() as u64 + COST_OF_A_REQUEST, size);
            piece.requests.push(request);
        }
        for Record { key, value } in self.records.iter() {
            size = next(&mut piece, (key.len() + value.map_or(0, <[u8]>::len)) as u64 + 8, size);
            piece.records.set(key, value);
        }
        pieces.push(piece);
        // What begins does so before all of it, what ends after.
        let marked = if self.mark == Some(Mark::Begin) { pieces.first_mut() } else { pieces.last_mut() };
        if let Some(marked) = marked {
            marked.mark = self.mark;
        }
        pieces
    }
}

const COST_OF_A_COMMIT: u64 = 160;
const COST_OF_A_REQUEST: u64 = 64;

/// A portion of a checkpoint: the whole state of the core, written between other commits. Whatever changes in the
/// meantime has to be committed as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The first portion.
    Begin,
    /// One between.
    Part,
    /// The last portion: all records have been written since the last `Begin`.
    End,
}

/// Changes of the core's state, in order: a later one of a key replaces an earlier one. Keys and values are opaque, and
/// shorter than 4 GiB. They are kept as they will lie on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    encoded: Vec<u8>,
    count: u32,
}

/// One change of the core's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What the record is about.
    pub key: &'a [u8],
    /// What is known of it from now on; `None` if it is gone.
    pub value: Option<&'a [u8]>,
}

/// In the place of a value's length: there is no value, the key is gone.
const GONE: u32 = u32::MAX;

impl Records {
    /// No change.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded: Vec::new(), count: 0 }
    }

    /// No change, and room for as many bytes as [`Records::size`] says.
    #[must_use]
    pub fn with_capacity(size: usize) -> Self {
        Self { encoded: Vec::with_capacity(size), count: 0 }
    }

    /// From now on `key` has this value, or is gone.
    pub fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.upsert(key, value),
            None => self.delete(key),
        }
    }

    /// From now on `key` has this value.
    pub fn upsert(&mut self, key: &[u8], value: &[u8]) {
        self.push(key, length(value.len() as u64).min(GONE - 1), value);
    }

    /// From now on there is no `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(key, GONE, &[]);
    }

    /// How many changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing has changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes on disk.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.encoded.len()
    }

    /// Gives back memory that is not used, so that what they cost is what they take.
    pub(super) fn shrink(&mut self) {
        self.encoded.shrink_to_fit();
    }

    /// The changes in their order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        records(&self.encoded)
    }

    fn push(&mut self, key: &[u8], value_length: u32, value: &[u8]) {
        self.encoded.extend_from_slice(&length(key.len() as u64).to_le_bytes());
        self.encoded.extend_from_slice(&value_length.to_le_bytes());
        self.encoded.extend_from_slice(key);
        self.encoded.extend_from_slice(value);
        self.count = self.count.saturating_add(1);
    }
}

fn records(encoded: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut reader = Reader::new(encoded);
    std::iter::from_fn(move || {
        let (key, value) = (reader.u32()?, reader.u32()?);
        let key = reader.take(key as usize)?;
        let value = if value == GONE { None } else { Some(reader.take(value as usize)?) };
        Some(Record { key, value })
    })
}

/// What the head of a frame says of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) signal: Signal,
    pub(super) items: u32,
    pub(super) length: u32,
    /// Of the body.
    pub(super) checksum: u32,
}

impl Described {
    pub(super) fn of(request: &ExportRequest) -> Self {
        let (length, checksum) = (length(request.body.len() as u64), crc32c(&request.body));
        Self { signal: request.signal, items: request.items, length, checksum }
    }
}

/// The part of a head that has always the same size, before the requests and records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// When the commit was made.
    pub(super) now: Now,
    /// Every frame up to this one was durable when this one was written.
    pub(super) synced: u64,
    /// Up to here everything was acknowledged.
    pub(super) acknowledged: PerSignal<Position>,
    /// The position before the first request of the frame; its requests follow it without a gap.
    pub(super) before: PerSignal<Position>,
    pub(super) mark: Option<Mark>,
}

/// A head as it was read.
#[derive(Clone, Debug)]
pub(super) struct Head<'a> {
    pub(super) progress: Progress,
    requests: &'a [u8],
    records: &'a [u8],
}

/// Bytes of a head that describe one request.
const DESCRIPTION_LENGTH: usize = 16;

/// Bytes of a head before what describes the requests.
const PROGRESS_LENGTH: usize = 68;

/// Appends a frame to `pieces`, but for the bodies of its requests, which have to follow.
pub(super) fn begin(pieces: &mut Pieces, sequence: u64, progress: &Progress, requests: &[Described], records: Records) {
    let head = encode(progress, requests, records.count);
    let bodies = requests.iter().map(|request| u64::from(request.length)).sum();
    pieces.push(frame::begin(Kind::Commit, sequence, &head, &records.encoded, bodies));
    pieces.push(records.encoded);
}

/// A head, but for the records at its end.
fn encode(progress: &Progress, requests: &[Described], records: u32) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(PROGRESS_LENGTH + DESCRIPTION_LENGTH * requests.len());
    for number in [
        progress.now.running.as_nanos(),
        progress.now.wall.as_nanos(),
        progress.synced,
        progress.acknowledged.logs.value(),
        progress.acknowledged.traces.value(),
        progress.before.logs.value(),
        progress.before.traces.value(),
    ] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    let mark = match progress.mark {
        None => 0,
        Some(Mark::Begin) => 1,
        Some(Mark::Part) => 2,
        Some(Mark::End) => 3,
    };
    buffer.extend_from_slice(&[mark, 0, 0, 0]);
    buffer.extend_from_slice(&length(requests.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&records.to_le_bytes());
    for request in requests {
        let signal = match request.signal {
            Signal::Logs => 1,
            Signal::Traces => 2,
            Signal::Metrics => 3,
        };
        buffer.extend_from_slice(&[signal, 0, 0, 0]);
        buffer.extend_from_slice(&request.items.to_le_bytes());
        buffer.extend_from_slice(&request.length.to_le_bytes());
        buffer.extend_from_slice(&request.checksum.to_le_bytes());
    }
    buffer
}

impl<'a> Head<'a> {
    /// The head in `bytes`, or `None` if they are none.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let now = Now { running: RunningTime::from_nanos(reader.u64()?), wall: Timestamp::from_nanos(reader.u64()?) };
        let synced = reader.u64()?;
        let acknowledged = PerSignal { logs: Position(reader.u64()?), traces: Position(reader.u64()?) };
        let before = PerSignal { logs: Position(reader.u64()?), traces: Position(reader.u64()?) };
        let mark = match reader.u32()? {
            0 => None,
            1 => Some(Mark::Begin),
            2 => Some(Mark::Part),
            3 => Some(Mark::End),
            _ => return None,
        };
        let (requests, count) = (reader.u32()? as usize, reader.u32()?);
        let requests = reader.take(requests.checked_mul(DESCRIPTION_LENGTH)?)?;
        let progress = Progress { now, synced, acknowledged, before, mark };
        let head = Self { progress, requests, records: reader.rest() };
        let whole = descriptions(requests).count() * DESCRIPTION_LENGTH == requests.len()
            && head.records().count() as u64 == u64::from(count);
        whole.then_some(head)
    }

    /// Whether there is more than cursors and the time.
    pub(super) const fn holds_anything(&self) -> bool {
        !self.requests.is_empty() || !self.records.is_empty()
    }

    /// What it says of its bodies, in their order.
    pub(super) fn requests(&self) -> impl Iterator<Item = Described> + use<'a> {
        descriptions(self.requests)
    }

    /// The changes of the core's state, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        records(self.records)
    }
}

fn descriptions(bytes: &[u8]) -> impl Iterator<Item = Described> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let signal = match reader.u32()? {
            1 => Signal::Logs,
            2 => Signal::Traces,
            _ => return None,
        };
        Some(Described { signal, items: reader.u32()?, length: reader.u32()?, checksum: reader.u32()? })
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn any_progress() -> impl Strategy<Value = Progress> {
        let mark = prop_oneof![Just(None), Just(Some(Mark::Begin)), Just(Some(Mark::Part)), Just(Some(Mark::End))];
        (any::<[u64; 7]>(), mark).prop_map(|([running, wall, synced, a, b, c, d], mark)| Progress {
            now: Now { running: RunningTime::from_nanos(running), wall: Timestamp::from_nanos(wall) },
            synced,
            acknowledged: PerSignal { logs: Position(a), traces: Position(b) },
            before: PerSignal { logs: Position(c), traces: Position(d) },
            mark,
        })
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..20)
    }

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written(
            progress in any_progress(),
            requests in prop::collection::vec((any::<bool>(), any::<u32>(), any_bytes()), 0..5),
            changes in prop::collection::vec((any_bytes(), prop::option::of(any_bytes())), 0..5),
        ) {
            let requests = requests.into_iter().map(|(logs, items, body)| ExportRequest {
                signal: if logs { Signal::Logs } else { Signal::Traces },
                items,
                body: Bytes::from(body),
            }).collect::<Vec<_>>();
            let mut records = Records::new();
            changes.iter().for_each(|(key, value)| records.set(key, value.as_deref()));
            let described = requests.iter().map(Described::of).collect::<Vec<_>>();
            let mut bytes = encode(&progress, &described, records.count);
            prop_assert_eq!(bytes.len(), PROGRESS_LENGTH + DESCRIPTION_LENGTH * described.len());
            bytes.extend_from_slice(&records.encoded);
            let head = Head::decode(&bytes).expect("a head");
            prop_assert_eq!(head.progress, progress);
            prop_assert!(head.requests().eq(described));
            let expected = changes.iter().map(|(key, value)| Record { key, value: value.as_deref() });
            prop_assert!(head.records().eq(expected));
            prop_assert!(records.iter().eq(head.records()));
            prop_assert_eq!(records.len(), changes.len());
            for length in 0..bytes.len() {
                prop_assert!(Head::decode(&bytes[..length]).is_none(), "{} of {} bytes", length, bytes.len());
            }
        }

        #[test]
        fn pieces_of_a_commit_hold_what_it_held(
            bodies in prop::collection::vec(any_bytes(), 0..8),
            changes in prop::collection::vec((any_bytes(), prop::option::of(any_bytes())), 0..8),
            mark in any_progress().prop_map(|progress| progress.mark),
            max in 0..900_u64,
        ) {
            let request = |body: Vec<u8>| ExportRequest { signal: Signal::Logs, items: 1, body: body.into() };
            let mut whole = Commit { requests: bodies.into_iter().map(request).collect(), mark, ..Commit::default() };
            changes.iter().for_each(|(key, value)| whole.records.set(key, value.as_deref()));
            let pieces = whole.clone().split(max);
            for piece in &pieces {
                prop_assert!(piece.cost() <= max || piece.requests.len() + piece.records.len() <= 1);
            }
            prop_assert!(pieces.iter().flat_map(|piece| &piece.requests).eq(&whole.requests));
            prop_assert!(pieces.iter().flat_map(|piece| piece.records.iter()).eq(whole.records.iter()));
            let marks = pieces.iter().filter_map(|piece| piece.mark).collect::<Vec<_>>();
            prop_assert_eq!(marks, mark.into_iter().collect::<Vec<_>>());
            let begins = pieces.first().is_some_and(|first| first.mark == Some(Mark::Begin));
            prop_assert_eq!(begins, mark == Some(Mark::Begin));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Head::decode(&bytes);
        }
    }
}
