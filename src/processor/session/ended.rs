//! The ids of sessions that have ended, in case they come again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::processor::hashing::HashMap;
use crate::processor::ids::SessionKey;
use crate::processor::record::Changed;
use crate::signal::{SpanId, TraceId};
use crate::time::{RunningTime, Timestamp};

use super::state::Session;

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

/// One place in the order of the ends. Out of date if the id has begun again since.
#[derive(Clone, Copy, Debug)]
struct Place {
    order: u64,
    at: RunningTime,
    node: u16,
    id: SessionKey,
}

/// The ids of ended sessions, by node, and in the order of their ends.
#[derive(Debug, Default)]
pub(super) struct EndedIds {
    ids: HashMap<(u16, SessionKey), Ended>,
    order: VecDeque<Place>,
    next: u64,
    pub(super) changed: Changed<u64>,
}

impl EndedIds {
    /// The last end of this id.
    pub(super) fn find(&self, node: u16, id: SessionKey) -> Option<Ended> {
        self.ids.get(&(node, id)).copied()
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
        let (trace_id, segment, order) = (session.trace_id, session.segment, self.next);
        self.next += 1;
        let ended = Ended { trace_id, segment: segment.number, span_id: segment.span_id, end, order };
        self.changed.note(order);
        self.ids.insert((node, id), ended);
        self.order.push_back(Place { order, at: now, node, id });
        if self.order.len() > 2 * self.ids.len() + OUTDATED_MAX {
            let ids = &self.ids;
            self.order.retain(|place| ids.get(&(place.node, place.id)).is_some_and(|ended| ended.order == place.order));
        }
    }

    /// Forgets an id: it has begun again.
    pub(super) fn forget(&mut self, node: u16, id: SessionKey) {
        if let Some(ended) = self.ids.remove(&(node, id)) {
            self.changed.note(ended.order);
        }
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
        if self.ids.contains_key(&(node, id)) || self.order.back().is_some_and(|last| last.order >= order) {
            return false;
        }
        self.make_room(max);
        self.ids.insert((node, id), ended);
        self.order.push_back(Place { order, at, node, id });
        self.restore_next(order + 1);
        true
    }

    /// Node, id, when the end was learned of, and the end with this order, if it is still remembered.
    pub(super) fn at(&self, order: u64) -> Option<(u16, SessionKey, RunningTime, Ended)> {
        let index = self.order.binary_search_by_key(&order, |place| place.order).ok()?;
        let &Place { at, node, id, .. } = self.order.get(index)?;
        let ended = self.find(node, id).filter(|ended| ended.order == order)?;
        Some((node, id, at, ended))
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
        if self.ids.get(&(place.node, place.id)).is_some_and(|ended| ended.order == place.order) {
            self.forget(place.node, place.id);
        }
    }
}
