//! When each session is due: an ordered set that costs a session two links.
//!
//! A set of all sessions in the order of their deadlines would be a tenth of what they take, and the order matters only
//! for those whose turn is next. So only these are kept in order. The rest hangs in chains through the sessions
//! themselves, one for each eighth of a second or so, and is put in order once that comes.

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use crate::time::RunningTime;

use super::compact::Session;
use super::table::{Chain, Links, Slot};

/// As many bits of a deadline's nanoseconds lie within one chain: 134 ms. Of a storm, that many are in order at a time;
/// of heartbeats a quarter of an hour ahead, there are 6,700 chains at most.
const CHAIN_BITS: u32 = 27;

/// So many are kept in order although their chain has not come, before they go into chains.
const NEAR_MAX: usize = 1024;

/// The deadlines of all sessions. What is due at the same moment comes in the order in which it was opened.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// All before a certain chain, in order. Empty only if there are none at all.
    near: BTreeSet<(RunningTime, u64, Slot)>,
    /// That chain.
    near_until: u64,
    /// The others, each in its chain.
    later: BTreeMap<u64, Chain>,
}

impl Deadlines {
    /// The earliest.
    pub(super) fn first(&self) -> Option<(RunningTime, Slot)> {
        self.near.first().map(|&(deadline, _, slot)| (deadline, slot))
    }

    /// Takes in a session, whose deadline must not change until it is taken out again.
    pub(super) fn insert(&mut self, sessions: &mut Slab<Session>, slot: Slot) {
        let Some(key) = key_of(sessions, slot) else { return };
        let number = chain_of(key.0);
        if number >= self.near_until {
            self.later.entry(number).or_default().push_back(sessions, slot, by_deadline);
            self.refill(sessions);
            return;
        }
        self.near.insert(key);
        if self.near.len() > NEAR_MAX {
            self.shorten(sessions);
        }
    }

    /// Takes out a session.
    pub(super) fn remove(&mut self, sessions: &mut Slab<Session>, slot: Slot) {
        let Some(key) = key_of(sessions, slot) else { return };
        let number = chain_of(key.0);
        if number < self.near_until {
            self.near.remove(&key);
            self.refill(sessions);
        } else if let Some(chain) = self.later.get_mut(&number) {
            chain.remove(sessions, slot, by_deadline);
            if chain.is_empty() {
                self.later.remove(&number);
            }
        }
    }

    /// Puts the next chain in order, if nothing is in order any more.
    fn refill(&mut self, sessions: &mut Slab<Session>) {
        if !self.near.is_empty() {
            return;
        }
        let Some((number, mut chain)) = self.later.pop_first() else { return };
        self.near_until = number + 1;
        while let Some(slot) = chain.pop_front(sessions, by_deadline) {
            self.near.extend(key_of(sessions, slot));
        }
    }

    /// Leaves only the next chain in order.
    fn shorten(&mut self, sessions: &mut Slab<Session>) {
        let Some((&(first, ..), &(last, ..))) = self.near.first().zip(self.near.last()) else { return };
        let until = chain_of(first) + 1;
        if chain_of(last) < until {
            return;
        }
        let start = RunningTime::from_nanos(until << CHAIN_BITS);
        for (deadline, _, slot) in self.near.split_off(&(start, 0, 0)) {
            self.later.entry(chain_of(deadline)).or_default().push_back(sessions, slot, by_deadline);
        }
        self.near_until = until;
    }
}

fn key_of(sessions: &Slab<Session>, slot: Slot) -> Option<(RunningTime, u64, Slot)> {
    sessions.get(slot as usize).map(|session| (session.deadline, session.opened, slot))
}

const fn chain_of(deadline: RunningTime) -> u64 {
    deadline.as_nanos() >> CHAIN_BITS
}

const fn by_deadline(session: &mut Session) -> &mut Links {
    &mut session.by_deadline
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::processor::filter::{Handling, Identity};
    use crate::processor::node::Node;
    use crate::processor::session::compact::Opening;
    use crate::processor::session::state::{Piece, Start};
    use crate::signal::{Resource, SpanId, TraceId};
    use crate::time::Timestamp;

    fn session(node: &Arc<Node>, opened: u64, deadline: u64) -> Session {
        let (start, due) = (Timestamp::EPOCH, RunningTime::NEVER);
        let mut session = Session::new(Opening {
            node: Arc::clone(node),
            identity: Arc::new(Identity::concealed([0; 16], Handling::Drop)),
            id: None,
            trace_id: TraceId([0; 16]),
            start,
            started: Start::Observed,
            segment: Piece { number: 1, start, span_id: SpanId([0; 8]), previous: None, due },
            first_segment: 1,
            heard: RunningTime::START,
            opened,
            heartbeat_due: due,
        });
        session.deadline = RunningTime::from_nanos(deadline);
        session
    }

    /// What is done to the set: a session comes, with a deadline, or one goes.
    #[derive(Clone, Debug)]
    enum Step {
        Comes(u64),
        Goes(prop::sample::Index),
        FirstGoes,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let close = (0_u64..5).prop_map(|second| Step::Comes(second << CHAIN_BITS | 7));
        let far = (0_u64..40, 0..1_u32 << CHAIN_BITS)
            .prop_map(|(second, nanos)| Step::Comes((second << (CHAIN_BITS - 1)) + u64::from(nanos)));
        let never = Just(Step::Comes(u64::MAX));
        let goes = any::<prop::sample::Index>().prop_map(Step::Goes);
        prop::collection::vec(
            prop_oneof![9 => close, 9 => far, 1 => never, 6 => goes, 6 => Just(Step::FirstGoes)],
            0..300,
        )
    }

    /// Does all that, and gives back how many are kept in order in the end.
    fn check(steps: impl IntoIterator<Item = Step>) -> usize {
        let resource = Arc::new(Resource { attributes: Vec::new() });
        let node = Arc::new(Node { index: 0, name: "node".into(), key: "node".into(), resource });
        let (mut sessions, mut deadlines, mut expected) = (Slab::new(), Deadlines::default(), BTreeSet::new());
        for (opened, step) in (0..).zip(steps) {
            let gone = match step {
                Step::Comes(deadline) => {
                    let slot = sessions.insert(session(&node, opened, deadline)) as Slot;
                    deadlines.insert(&mut sessions, slot);
                    expected.insert((RunningTime::from_nanos(deadline), opened, slot));
                    None
                }
                Step::Goes(_) if expected.is_empty() => None,
                Step::Goes(index) => expected.iter().nth(index.index(expected.len())).copied(),
                Step::FirstGoes => expected.first().copied(),
            };
            if let Some(key) = gone {
                deadlines.remove(&mut sessions, key.2);
                sessions.remove(key.2 as usize);
                expected.remove(&key);
            }
            assert_eq!(deadlines.first(), expected.first().map(|&(deadline, _, slot)| (deadline, slot)));
        }
        deadlines.near.len()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_set_of_all(steps in steps()) {
            check(steps);
        }
    }

    #[test]
    fn one_far_ahead_does_not_bring_all_others_into_order() {
        let far = (0..NEAR_MAX as u64 * 3).map(|second| Step::Comes(second << CHAIN_BITS));
        let steps = [Step::Comes(1 << 60)].into_iter().chain(far);
        assert!(check(steps.clone()) <= NEAR_MAX);
        check(steps.chain((0..NEAR_MAX * 4).map(|_| Step::FirstGoes)));
    }
}
