//! What lies on disk and is still to be delivered: where each request is, in whose hands, and how much there is.
//!
//! Nothing is read or written here. Of a backlog only the segment that is read next is known request by request; of the
//! others it is enough to know how much is in them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Limit;
use super::commit::{PerSignal, Position};
use super::files::Segment;
use super::segment::Range;
use crate::time::RunningTime;

/// Bodies of this many bytes of each signal stay in memory behind their writing, so that an exporter that keeps up need
/// not read.
const CACHED_MAX: u64 = 4 * 1024 * 1024;

/// After so many turns of the clock a request that cannot be read is given up.
const READ_TRIES: u32 = 5;

/// How much of one signal there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Export requests.
    pub requests: u64,
    /// Log records or spans in them.
    pub items: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Pending {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.requests = self.requests.saturating_add(1);
        self.items = self.items.saturating_add(u64::from(entry.items));
        self.bytes = self.bytes.saturating_add(u64::from(entry.length));
    }

    pub(super) fn plus(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.items = self.items.saturating_add(more.items);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    pub(super) const fn minus(&mut self, less: Self) {
        self.requests = self.requests.saturating_sub(less.requests);
        self.items = self.items.saturating_sub(less.items);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }

    fn of(entry: &Entry) -> Self {
        Self { requests: 1, items: u64::from(entry.items), bytes: u64::from(entry.length) }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) items: u32,
    pub(super) length: u32,
    pub(super) checksum: u32,
    /// Where its body is in its file.
    pub(super) offset: u64,
    /// Its body, if that is in memory.
    pub(super) body: Option<Bytes>,
}

/// Where bodies are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In memory only, because the disk failed.
    Memory,
    /// In a file.
    Segment(Arc<Segment>),
}

impl Source {
    fn is_segment(&self, number: u64) -> bool {
        matches!(self, Self::Segment(segment) if segment.number == number)
    }

    const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }

    fn is(&self, other: &Self) -> bool {
        match other {
            Self::Memory => self.is_memory(),
            Self::Segment(segment) => self.is_segment(segment.number),
        }
    }
}

/// Requests that follow each other in one place.
#[derive(Debug)]
struct Stretch {
    source: Source,
    range: Range,
    /// Each of them, unless they have to be read from the segment first.
    entries: Option<VecDeque<Entry>>,
}

/// What is to be done for the next batch.
#[derive(Debug)]
pub(super) enum Plan {
    /// There is none.
    Nothing,
    /// This segment has to be read first.
    Load(Arc<Segment>),
    /// These bodies have to be fetched.
    Fetch(Vec<(Source, Entry)>),
}

/// One signal's queue, in rising positions: first what is in the exporter's hands, then what waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    acknowledged: Position,
    handed: Position,
    in_hand: VecDeque<(Source, Entry)>,
    waiting: VecDeque<Stretch>,
    pending: Pending,
    /// Bytes of waiting bodies that are in a file and in memory.
    cached: u64,
    /// Bytes of bodies that are in memory only.
    memory: u64,
    trouble: Option<Trouble>,
}

/// A request that cannot be read at the moment.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    position: Position,
    tries: u32,
    /// Whether to wait for the next turn of the clock.
    paused: bool,
}

impl Outbox {
    pub(super) fn new(acknowledged: Position) -> Self {
        Self { acknowledged, handed: acknowledged, ..Self::default() }
    }

    pub(super) const fn acknowledged(&self) -> Position {
        self.acknowledged
    }

    pub(super) const fn pending(&self) -> Pending {
        self.pending
    }

    pub(super) const fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) fn holds_after(&self, position: Position) -> bool {
        let last = self.waiting.back().map(|stretch| stretch.range.last);
        let last = last.or_else(|| self.in_hand.back().map(|(_, entry)| entry.position));
        self.trouble.is_none_or(|trouble| !trouble.paused) && last.is_some_and(|last| last > position)
    }

    /// Appends a request that has been made durable, or cannot be.
    pub(super) fn publish(&mut self, source: &Source, mut entry: Entry) {
        let size = u64::from(entry.length);
        if source.is_memory() {
            self.memory += size;
        } else if self.cached + size <= CACHED_MAX {
            self.cached += size;
        } else {
            entry.body = None;
        }
        self.pending.add(&entry);
        match self.waiting.back_mut() {
            Some(Stretch { source: last, range, entries: Some(entries) }) if last.is(source) => {
                range.add(&entry);
                entries.push_back(entry);
            }
            _ => {
                let mut range = Range::default();
                range.add(&entry);
                let entries = Some(VecDeque::from([entry]));
                self.waiting.push_back(Stretch { source: source.clone(), range, entries });
            }
        }
    }

    /// Appends requests that are known only as a whole.
    pub(super) fn restore(&mut self, segment: &Arc<Segment>, range: Range) {
        if range.totals.requests > 0 {
            self.pending.plus(range.totals);
            self.waiting.push_back(Stretch { source: Source::Segment(Arc::clone(segment)), range, entries: None });
        }
    }

    /// Decides what follows `after`, and counts it as handed out.
    pub(super) fn plan(&mut self, after: Position, mut room: Limit) -> Plan {
        if self.trouble.is_some_and(|trouble| trouble.paused) {
            return Plan::Nothing;
        }
        let mut fetch = Vec::new();
        let skipped = self.in_hand.partition_point(|(_, entry)| entry.position <= after);
        for (source, entry) in self.in_hand.iter().skip(skipped) {
            if !fits(entry, &mut room, fetch.is_empty()) {
                return Plan::Fetch(fetch);
            }
            fetch.push((source.clone(), entry.clone()));
        }
        while let Some(stretch) = self.waiting.front_mut() {
            let Some(entries) = &mut stretch.entries else {
                match &stretch.source {
                    Source::Segment(segment) if fetch.is_empty() => return Plan::Load(Arc::clone(segment)),
                    _ => break,
                }
            };
            let Some(entry) = entries.front() else {
                self.waiting.pop_front();
                continue;
            };
            let wanted = entry.position > after;
            if wanted && !fits(entry, &mut room, fetch.is_empty()) {
                break;
            }
            if let Some((source, entry)) = self.hand_out()
                && wanted
            {
                fetch.push((source, entry));
            }
        }
        if fetch.is_empty() { Plan::Nothing } else { Plan::Fetch(fetch) }
    }

    /// Moves the first waiting request into the exporter's hands.
    fn hand_out(&mut self) -> Option<(Source, Entry)> {
        let stretch = self.waiting.front_mut()?;
        let entry = stretch.entries.as_mut()?.pop_front()?;
        let source = stretch.source.clone();
        stretch.range.first = entry.position.following();
        stretch.range.totals.minus(Pending::of(&entry));
        if stretch.range.totals.requests == 0 {
            self.waiting.pop_front();
        }
        self.handed = entry.position;
        let mut kept = entry.clone();
        if !source.is_memory() && kept.body.take().is_some() {
            self.cached -= u64::from(entry.length).min(self.cached);
        }
        self.in_hand.push_back((source.clone(), kept));
        Some((source, entry))
    }

    /// Takes requests from `position` on out of the exporter's hands again.
    fn take_back(&mut self, position: Position) {
        while let Some((source, entry)) = self.in_hand.pop_back_if(|(_, entry)| entry.position >= position) {
            self.handed = self.in_hand.back().map_or(self.acknowledged, |(_, entry)| entry.position);
            let front = self.waiting.front_mut().filter(|stretch| stretch.source.is(&source));
            let Some(Stretch { range, entries: Some(entries), .. }) = front else {
                let mut range = Range::default();
                range.add(&entry);
                self.waiting.push_front(Stretch { source, range, entries: Some(VecDeque::from([entry])) });
                continue;
            };
            range.first = entry.position;
            range.totals.plus(Pending::of(&entry));
            entries.push_front(entry);
        }
    }

    /// Takes in what a segment holds, request by request. Returns what should be there and is not.
    pub(super) fn install(&mut self, number: u64, loaded: VecDeque<Entry>) -> Pending {
        let stretch = self.waiting.iter_mut().find(|stretch| stretch.source.is_segment(number));
        let Some(stretch) = stretch.filter(|stretch| stretch.entries.is_none()) else { return Pending::default() };
        let mut lost = stretch.range.totals;
        let mut range = Range { first: stretch.range.first, last: stretch.range.last, ..Range::default() };
        for entry in &loaded {
            range.totals.add(entry);
        }
        lost.minus(range.totals);
        stretch.range = range;
        stretch.entries = Some(loaded);
        self.pending.minus(lost);
        self.waiting.retain(|stretch| stretch.range.totals.requests > 0);
        lost
    }

    /// What of `number` is known only as a whole.
    pub(super) fn unread(&self, number: u64) -> Range {
        let stretch = self.waiting.iter().find(|stretch| stretch.source.is_segment(number));
        stretch.filter(|stretch| stretch.entries.is_none()).map_or_else(Range::default, |stretch| stretch.range)
    }

    /// Forgets the single requests of a segment that is full, unless it is read next.
    pub(super) fn forget(&mut self, number: u64) {
        let mut freed = 0;
        for stretch in self.waiting.iter_mut().skip(1).filter(|stretch| stretch.source.is_segment(number)) {
            let entries = stretch.entries.take().unwrap_or_default();
            freed +=
                entries.iter().filter(|entry| entry.body.is_some()).map(|entry| u64::from(entry.length)).sum::<u64>();
        }
        self.cached -= freed.min(self.cached);
    }

    /// Everything up to `position` is done with, as far as it was handed out. Returns what that was: to let go of it may
    /// close a file, which is not to be done under the lock of the index.
    #[must_use]
    pub(super) fn acknowledge(&mut self, position: Position) -> Vec<(Source, Entry)> {
        let position = position.min(self.handed);
        let mut done = Vec::new();
        while let Some((source, entry)) = self.in_hand.pop_front_if(|(_, entry)| entry.position <= position) {
            self.leave(&source, &entry);
            done.push((source, entry));
        }
        self.acknowledged = self.acknowledged.max(position);
        done
    }

    /// Gives up a request that was handed out.
    pub(super) fn give_up(&mut self, position: Position) -> Pending {
        let at = self.in_hand.iter().position(|(_, entry)| entry.position == position);
        let Some((source, entry)) = at.and_then(|at| self.in_hand.remove(at)) else { return Pending::default() };
        self.leave(&source, &entry);
        if at == Some(0) {
            // Nothing before it is left, so nobody will ever acknowledge a position up to it.
            self.acknowledged = self.acknowledged.max(position);
        }
        Pending::of(&entry)
    }

    /// A request could not be read. Returns what is given up because it never can be.
    pub(super) fn unreadable(&mut self, position: Position) -> Pending {
        if self.may_try_again(position) {
            self.take_back(position);
            return Pending::default();
        }
        self.give_up(position)
    }

    /// A segment could not be read, whose first request waits at `position`. Returns what is given up because it never
    /// can be.
    pub(super) fn unreadable_segment(&mut self, number: u64, position: Position) -> Pending {
        if self.may_try_again(position) { Pending::default() } else { self.expire(number) }
    }

    fn may_try_again(&mut self, position: Position) -> bool {
        let tries = self.trouble.filter(|trouble| trouble.position == position).map_or(0, |trouble| trouble.tries) + 1;
        let again = tries < READ_TRIES;
        self.trouble = again.then_some(Trouble { position, tries, paused: true });
        again
    }

    /// The clock has turned: what could not be read may be tried again. Returns whether there is something.
    pub(super) fn resume(&mut self) -> bool {
        self.trouble.as_mut().is_some_and(|trouble| std::mem::take(&mut trouble.paused))
    }

    /// Everything that waits in a segment goes. What is in the exporter's hands stays.
    pub(super) fn expire(&mut self, number: u64) -> Pending {
        let mut expired = Pending::default();
        let mut freed = 0;
        self.waiting.retain(|stretch| {
            let stays = !stretch.source.is_segment(number);
            if !stays {
                expired.plus(stretch.range.totals);
                let cached = stretch.entries.iter().flatten().filter(|entry| entry.body.is_some());
                freed += cached.map(|entry| u64::from(entry.length)).sum::<u64>();
            }
            stays
        });
        self.cached -= freed.min(self.cached);
        self.pending.minus(expired);
        expired
    }

    /// The oldest waiting request that is in memory only goes.
    pub(super) fn expire_from_memory(&mut self) -> Pending {
        let at = self.waiting.iter().position(|stretch| stretch.source.is_memory());
        let Some(at) = at else { return Pending::default() };
        let Some(stretch) = self.waiting.get_mut(at) else { return Pending::default() };
        let Some(entry) = stretch.entries.as_mut().and_then(VecDeque::pop_front) else { return Pending::default() };
        stretch.range.first = entry.position.following();
        stretch.range.totals.minus(Pending::of(&entry));
        if stretch.range.totals.requests == 0 {
            self.waiting.remove(at);
        }
        self.leave(&Source::Memory, &entry);
        Pending::of(&entry)
    }

    /// Where the oldest waiting request in memory is.
    pub(super) fn oldest_in_memory(&self) -> Option<Position> {
        self.waiting.iter().find(|stretch| stretch.source.is_memory()).map(|stretch| stretch.range.first)
    }

    /// Whether something of `number` is in the exporter's hands.
    pub(super) fn has_in_hand(&self, number: u64) -> bool {
        self.in_hand.iter().any(|(source, _)| source.is_segment(number))
    }

    /// Every request that is in memory only, in their order.
    pub(super) fn in_memory(&self) -> Vec<Entry> {
        let in_hand = self.in_hand.iter().filter(|(source, _)| source.is_memory()).map(|(_, entry)| entry);
        let waiting = self.waiting.iter().filter(|stretch| stretch.source.is_memory());
        in_hand.chain(waiting.flat_map(|stretch| stretch.entries.iter().flatten())).cloned().collect()
    }

    /// What was in memory only is now in a segment. `placed` holds the offset of each, in the order of the positions.
    pub(super) fn settle(&mut self, segment: &Arc<Segment>, placed: &[(Position, u64)]) {
        let offset_of = |position: Position| {
            let at = placed.binary_search_by_key(&position, |&(position, _)| position).ok()?;
            placed.get(at).map(|&(_, offset)| offset)
        };
        for (source, entry) in self.in_hand.iter_mut().filter(|(source, _)| source.is_memory()) {
            if let Some(offset) = offset_of(entry.position) {
                entry.offset = offset;
                entry.body = None;
                self.memory -= u64::from(entry.length).min(self.memory);
                *source = Source::Segment(Arc::clone(segment));
            }
        }
        for stretch in self.waiting.iter_mut().filter(|stretch| stretch.source.is_memory()) {
            for entry in stretch.entries.iter_mut().flatten() {
                entry.offset = offset_of(entry.position).unwrap_or_default();
                entry.body = None;
                self.memory -= u64::from(entry.length).min(self.memory);
            }
            stretch.source = Source::Segment(Arc::clone(segment));
        }
    }

    fn leave(&mut self, source: &Source, entry: &Entry) {
        self.pending.minus(Pending::of(entry));
        if source.is_memory() {
            self.memory -= u64::from(entry.length).min(self.memory);
        }
    }
}

/// Whether there is room for `entry`, which then is taken. For the first there always is.
fn fits(entry: &Entry, room: &mut Limit, first: bool) -> bool {
    let bytes = usize::try_from(entry.length).unwrap_or(usize::MAX);
    let left = room.bytes.checked_sub(bytes).zip(room.items.checked_sub(u64::from(entry.items)));
    // Only a first request can be larger than all the room there is; nothing may follow it.
    (room.bytes, room.items) = match left {
        Some(left) => left,
        None if first => (0, 0),
        None => return false,
    };
    true
}

/// A segment in the order of the log.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) segment: Arc<Segment>,
    /// Bytes of the file.
    pub(super) length: u64,
    /// When its last frame was made.
    pub(super) newest: RunningTime,
    /// The positions of its last requests; the start where there are none.
    pub(super) last: PerSignal<Position>,
}

/// Everything that is on disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The oldest first; the last is the one that is written to.
    pub(super) segments: VecDeque<Listed>,
    pub(super) outboxes: PerSignal<Outbox>,
}

impl Index {
    /// Bytes of all segments.
    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|listed| listed.length).fold(0, u64::saturating_add)
    }

    /// Bytes of all bodies that are in memory only.
    pub(super) fn memory(&self) -> u64 {
        self.outboxes.logs.memory().saturating_add(self.outboxes.traces.memory())
    }

    pub(super) fn acknowledged(&self) -> PerSignal<Position> {
        PerSignal { logs: self.outboxes.logs.acknowledged(), traces: self.outboxes.traces.acknowledged() }
    }

    /// Whether nothing in `listed` is to be delivered any more.
    pub(super) fn is_delivered(&self, listed: &Listed) -> bool {
        self.outboxes
            .iter()
            .all(|(signal, outbox)| listed.last.of(signal).is_none_or(|last| *last <= outbox.acknowledged()))
    }
}
