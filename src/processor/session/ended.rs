//! The ids of sessions that have ended, in case they come again.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashTable;

use crate::processor::hashing::Seeded;
use crate::processor::ids::SessionKey;
use crate::processor::record::Changed;
use crate::signal::{SpanId, TraceId};
use crate::time::{RunningTime, Timestamp};

use super::compact::Session;

/// How long an ended id is remembered, in running time: longer than any tab is left open over a holiday and then used
/// again. Whoever comes back later begins with the first segment again, and with its id.
const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 3600);

/// How many entries of the order may be out of date before it is tidied up.
const OUTDATED_MAX: usize = 1024;

/// What is remembered of a session that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Its trace goes on if the id comes again.
    pub(super) trace_id: TraceId,
    /// The number of its last segment.
    pub(super) segment: u32,
    /// The span of its last segment.
    pub(super) span_id: SpanId,
    /// When it ended, in event time.
    pub(super) end: Timestamp,
    /// Counts ends, for the order in which they are forgotten.
    pub(super) order: u64,
}

/// One place in the order of the ends.
#[derive(Debug)]
struct Place {
    order: u64,
    at: RunningTime,
    end: Timestamp,
    /// Where it is not that of the id.
    trace_id: Option<Box<TraceId>>,
    span_id: SpanId,
    segment: u32,
    node: u16,
    id: SessionKey,
    /// Whether the id has not begun again since.
    is_remembered: bool,
}

impl Place {
    fn new(node: u16, id: SessionKey, at: RunningTime, ended: Ended) -> Self {
        let Ended { trace_id, segment, span_id, end, order } = ended;
        let trace_id = (trace_id != id.trace_id()).then(|| Box::new(trace_id));
        Self { order, at, end, trace_id, span_id, segment, node, id, is_remembered: true }
    }

    fn ended(&self) -> Ended {
        let trace_id = self.trace_id.as_deref().copied().unwrap_or_else(|| self.id.trace_id());
        Ended { trace_id, segment: self.segment, span_id: self.span_id, end: self.end, order: self.order }
    }
}

/// The ids of ended sessions in the order of their ends, and where each is found by node and id. As many may be
/// remembered as sessions may be open, so that each takes 64 bytes, and 9 for being found.
#[derive(Debug, Default)]
pub(super) struct EndedIds {
    hasher: Seeded,
    /// The orders of those that are remembered.
    ids: HashTable<u64>,
    order: VecDeque<Place>,
    next: u64,
    pub(super) changed: Changed<u64>,
}

impl EndedIds {
    /// The last end of this id.
    pub(super) fn find(&self, node: u16, id: SessionKey) -> Option<Ended> {
        let is_it = |order: &u64| is_of_id(&self.order, *order, node, id);
        let order = self.ids.find(self.hasher.hash_one((node, id)), is_it)?;
        place_of(&self.order, *order).map(Place::ended)
    }

    /// Remembers the end of a session with this id; of more than `remembered_max`, the oldest is forgotten.
    pub(super) fn remember(
        &mut self,
        node: u16,
        id: SessionKey,
        session: &Session,
        end: Timestamp,
        now: RunningTime,
        remembered_max: usize,
    ) {
        self.make_room(remembered_max);
        let (trace_id, segment, order) = (session.trace_id, session.segment(), self.next);
        self.next += 1;
        let ended = Ended { trace_id, segment: segment.number, span_id: segment.span_id, end, order };
        self.changed.note(order);
        self.insert(node, id, now, ended);
        if self.order.len() > 2 * self.ids.len() + OUTDATED_MAX {
            self.order.retain(|place| place.is_remembered);
        }
    }

    fn insert(&mut self, node: u16, id: SessionKey, at: RunningTime, ended: Ended) {
        // One that is remembered already would never be found again.
        self.outdate(node, id);
        self.order.push_back(Place::new(node, id, at, ended));
        let Self { ids, order, hasher, .. } = self;
        let rehash = |known: &u64| place_of(order, *known).map_or(0, |place| hasher.hash_one((place.node, place.id)));
        ids.insert_unique(hasher.hash_one((node, id)), ended.order, rehash);
    }

    /// Forgets an id: it has begun again.
    pub(super) fn forget(&mut self, node: u16, id: SessionKey) {
        if let Some(order) = self.outdate(node, id) {
            self.changed.note(order);
        }
    }

    /// Takes an id out of those that are found, and gives the order of its end.
    fn outdate(&mut self, node: u16, id: SessionKey) -> Option<u64> {
        let Self { ids, order, hasher, .. } = self;
        let known = ids.find_entry(hasher.hash_one((node, id)), |known| is_of_id(order, *known, node, id)).ok()?;
        let (known, _) = known.remove();
        let index = index_of(order, known)?;
        order.get_mut(index)?.is_remembered = false;
        Some(known)
    }

    /// When the last end was learned of.
    pub(super) fn latest(&self) -> Option<RunningTime> {
        self.order.back().map(|last| last.at)
    }

    /// The next order of an end.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Takes back the next order of an end.
    pub(super) fn restore_next(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Takes back an end. They come in their order; false where the id has another one already.
    pub(super) fn restore(&mut self, node: u16, id: SessionKey, at: RunningTime, ended: Ended, max: usize) -> bool {
        let order = ended.order;
        if self.find(node, id).is_some() || self.order.back().is_some_and(|last| last.order >= order) {
            return false;
        }
        self.make_room(max);
        self.insert(node, id, at, ended);
        self.restore_next(order + 1);
        true
    }

    /// Node, id, when the end was learned of, and the end with this order, if it is still remembered.
    pub(super) fn at(&self, order: u64) -> Option<(u16, SessionKey, RunningTime, Ended)> {
        let place = place_of(&self.order, order).filter(|place| place.is_remembered)?;
        Some((place.node, place.id, place.at, place.ended()))
    }

    /// The orders of the ends from one on; some are no longer remembered.
    pub(super) fn orders_from(&self, order: u64) -> impl Iterator<Item = u64> {
        let first = self.order.partition_point(|place| place.order < order);
        self.order.range(first..).map(|place| place.order)
    }

    /// Forgets the ids that ended long enough ago.
    pub(super) fn forget_until(&mut self, now: RunningTime) {
        while let Some(oldest) = self.order.pop_front_if(|oldest| oldest.at + REMEMBERED <= now) {
            self.forget_place(oldest);
        }
    }

    /// When to call [`Self::forget_until`] next.
    pub(super) fn deadline(&self) -> Option<RunningTime> {
        self.order.front().map(|oldest| oldest.at + REMEMBERED)
    }

    fn make_room(&mut self, remembered_max: usize) {
        while self.ids.len() >= remembered_max.max(1)
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget_place(oldest);
        }
    }

    fn forget_place(&mut self, place: Place) {
        if place.is_remembered {
            let hash = self.hasher.hash_one((place.node, place.id));
            if let Ok(known) = self.ids.find_entry(hash, |known| *known == place.order) {
                known.remove();
            }
            self.changed.note(place.order);
        }
    }
}

/// Where the end with this order is. The orders rise, and mostly by one.
fn index_of(places: &VecDeque<Place>, order: u64) -> Option<usize> {
    let is_at = |index: &usize| places.get(*index).is_some_and(|place| place.order == order);
    let likely = order.checked_sub(places.front()?.order).and_then(|index| usize::try_from(index).ok());
    likely.filter(is_at).or_else(|| places.binary_search_by_key(&order, |place| place.order).ok())
}

fn place_of(places: &VecDeque<Place>, order: u64) -> Option<&Place> {
    index_of(places, order).and_then(|index| places.get(index))
}

fn is_of_id(places: &VecDeque<Place>, order: u64, node: u16, id: SessionKey) -> bool {
    place_of(places, order).is_some_and(|place| (place.node, place.id) == (node, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_small_as_it_is_said_to_be() {
        assert_eq!(size_of::<Place>(), 64);
    }
}
