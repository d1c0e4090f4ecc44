//! The sessions as they were, under the limits of now.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::processor::node::{Node, Nodes};
use crate::processor::record::{Memory, Reader};
use crate::time::{Now, RunningTime};

use super::super::compact::Session;
use super::super::recent::Thing;
use super::super::state::EndReason;
use super::super::table::Slot;
use super::super::{ADVANCE_MAX, Restart, SessionTracker, Transition};
use super::{open, read_ended, read_restarts};

/// A session that the limits of now do not allow as it is.
#[derive(Clone, Copy, Debug)]
struct Misfit {
    slot: Slot,
    opened: u64,
    /// Whether there is no room for its node.
    homeless: bool,
}

/// Sessions that have to be made to fit.
#[derive(Debug, Default)]
pub(in crate::processor::session) struct Misfits(VecDeque<Misfit>);

/// Sessions on their way back.
#[derive(Debug, Default)]
pub(in crate::processor) struct Returning {
    sessions: Vec<Session>,
    /// The configuration that the deadlines were made with, where it is known.
    deadlines_of: Option<Deadlines>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deadlines {
    expire_after: Duration,
    expire_connected_after: Duration,
    max_span_duration: Duration,
    heartbeat: Option<Duration>,
}

impl Returning {
    /// Reads a session that was stored under this number. `node` gives the node of a name.
    pub(in crate::processor) fn read(
        &mut self,
        opened: u64,
        reader: &mut Reader<'_>,
        memory: &mut Memory<'_>,
        tracker: &SessionTracker,
        node: impl FnOnce(&str) -> Arc<Node>,
    ) -> Option<()> {
        memory.concealed = false;
        let mut session = open::read(opened, reader, memory, tracker.config.max_span_duration, node)?;
        session.changed = memory.concealed;
        self.sessions.push(session);
        Some(())
    }

    /// Takes out those for whom `leave_out` says so, and gives back their numbers.
    pub(in crate::processor) fn leave_out(&mut self, leave_out: impl Fn(&Session) -> bool) -> Vec<u64> {
        let out = self.sessions.extract_if(.., |session| leave_out(session));
        out.map(|session| session.opened).collect()
    }
}

impl SessionTracker {
    /// Takes back the core's own record.
    pub(in crate::processor) fn restore_core(
        &mut self,
        reader: &mut Reader<'_>,
        returning: &mut Returning,
    ) -> Option<()> {
        let (events, latest, next) = (reader.counter()?, reader.running()?, reader.counter()?);
        let mut duration = || reader.number().map(Duration::from_nanos);
        let (expire_after, expire_connected_after) = (duration()?, duration()?);
        let (max_span_duration, heartbeat) = (duration()?, duration()?);
        let heartbeat = heartbeat.checked_sub(Duration::from_nanos(1));
        reader.end()?;
        self.events = events;
        self.latest = latest;
        self.table.ended.restore_next(next);
        returning.deadlines_of = Some(Deadlines { expire_after, expire_connected_after, max_span_duration, heartbeat });
        Some(())
    }

    /// Takes back an ended id; `Some(false)` where there is no room for its node.
    pub(in crate::processor) fn restore_ended(
        &mut self,
        order: u64,
        reader: &mut Reader<'_>,
        node: impl FnOnce(&str) -> Option<u16>,
    ) -> Option<bool> {
        let (name, id, at, ended) = read_ended(order, reader)?;
        let Some(node) = node(name) else { return Some(false) };
        let remembered_max = self.remembered_max();
        self.table.ended.restore(node, id, at, ended, remembered_max).then_some(true)
    }

    /// Takes back the restarts of a node; without effect where there is no room for it.
    pub(in crate::processor) fn restore_restarts(
        &mut self,
        reader: &mut Reader<'_>,
        node: impl FnOnce(&str) -> Option<u16>,
    ) -> Option<bool> {
        let (name, restarts) = read_restarts(reader)?;
        let Some(node) = node(name) else { return Some(false) };
        self.restarts.extend(restarts.into_iter().map(|restart| Restart { node, ..restart }));
        Some(true)
    }

    /// Takes back an ordinal. They come in the order of generations and places.
    pub(in crate::processor) fn restore_ordinal(
        &mut self,
        of: u8,
        generation: u64,
        place: u16,
        reader: &mut Reader<'_>,
    ) -> Option<()> {
        let (thing, count) = (Thing(reader.array()?), reader.small()?);
        reader.end()?;
        let ordinals = if of == 0 { &mut self.sessions_without_id } else { &mut self.connections };
        ordinals.restore(generation, place, thing, count)
    }

    /// Takes all sessions back, and gives the numbers of those whose id another one has.
    pub(in crate::processor) fn restore_sessions(&mut self, returning: Returning, nodes: &Nodes) -> Vec<u64> {
        let Returning { mut sessions, deadlines_of } = returning;
        // Each became in this order the last of its user and of its class.
        sessions.sort_unstable_by_key(|session| (session.moved(), session.opened));
        if deadlines_of.is_none() {
            // The core's own record is lost, which would have said it.
            self.latest = sessions.iter().map(|session| session.heard).max().unwrap_or_default();
        }
        // Of two with one id the later counts: the other had ended when it began.
        let mut ids = HashSet::new();
        sessions.reverse();
        let is_double = |session: &mut Session| session.id().is_some_and(|id| !ids.insert((session.node.index, id)));
        let doubles = sessions.extract_if(.., is_double).collect::<Vec<_>>();
        sessions.reverse();
        for session in sessions.iter().chain(&doubles) {
            self.events = self.events.max(session.opened).max(session.touched()).max(session.moved());
        }
        for mut session in sessions {
            if deadlines_of != Some(self.deadlines()) {
                self.renew_deadlines(&mut session, deadlines_of);
            }
            let homeless = nodes.get(session.node.index).is_none();
            let crowded = session.connections().len() > self.config.connections_per_session_max.max(1);
            let opened = session.opened;
            let slot = self.table.insert(session);
            if homeless || crowded {
                self.misfits.0.push_back(Misfit { slot, opened, homeless });
            }
        }
        let before = self.restarts.iter().map(|restart| restart.before).max();
        self.events = self.events.max(before.unwrap_or_default());
        doubles.into_iter().map(|session| session.opened).collect()
    }

    /// The latest running time that is known of.
    pub(in crate::processor) fn latest(&self) -> RunningTime {
        let heard = self.table.iter().map(|(_, session)| session.heard);
        heard.chain(self.table.ended.latest()).fold(self.latest, RunningTime::max)
    }

    fn deadlines(&self) -> Deadlines {
        let config = &self.config;
        Deadlines {
            expire_after: config.expire_after,
            expire_connected_after: config.expire_connected_after,
            max_span_duration: config.max_span_duration,
            heartbeat: config.heartbeat,
        }
    }

    /// Gives a session the deadlines that it would have had under the configuration of now.
    fn renew_deadlines(&self, session: &mut Session, before: Option<Deadlines>) {
        session.changed = true;
        if let Some(before) = before {
            let (longest, longest_before) = (self.config.max_span_duration, before.max_span_duration);
            let renewed = |due: RunningTime| due.before(longest_before) + longest;
            session.set_segment_due(renewed(session.segment_due()));
            for connection in session.connections_mut() {
                connection.part.due = renewed(connection.part.due);
            }
        }
        session.heartbeat_due = match self.config.heartbeat {
            None => RunningTime::NEVER,
            Some(heartbeat) if before.is_some_and(|before| before.heartbeat == Some(heartbeat)) => {
                session.heartbeat_due
            }
            Some(heartbeat) if session.heartbeat_due <= self.latest + heartbeat => session.heartbeat_due,
            // Each at a time of its own, so that not all are told of at once.
            Some(heartbeat) => {
                let silent = self.latest.since(session.heard).as_nanos();
                let missed = silent.checked_div(heartbeat.as_nanos()).unwrap_or_default();
                session.heard + heartbeat * u32::try_from(missed + 1).unwrap_or(u32::MAX)
            }
        };
        // Too early costs nothing.
        let parts = session.connections().iter().map(|connection| connection.part.due);
        let due = parts.fold(session.segment_due(), RunningTime::min);
        session.deadline = self.expiry(session).min(session.heartbeat_due).min(due);
    }

    /// Whether there is something to do for [`Self::settle`].
    pub(in crate::processor::session) fn is_unsettled(&self) -> bool {
        !self.misfits.0.is_empty() || self.table.len() > self.config.open_sessions_max.max(1)
    }

    /// Makes what was restored fit the limits of now, a bounded number of sessions at a time.
    pub(in crate::processor::session) fn settle(&mut self, now: Now, out: &mut impl FnMut(Transition<'_>)) {
        for _ in 0..ADVANCE_MAX {
            let slot = if let Some(Misfit { slot, opened, homeless }) = self.misfits.0.pop_front() {
                if self.table.get(slot).is_none_or(|session| session.opened != opened) {
                    continue;
                }
                if !homeless {
                    self.shrink(slot, self.config.connections_per_session_max.max(1), out);
                    continue;
                }
                slot
            } else if self.table.len() > self.config.open_sessions_max.max(1)
                && let Some(victim) = self.table.victim()
            {
                victim
            } else {
                return;
            };
            if let Some(end) = self.table.get(slot).map(Session::last_activity) {
                self.end(slot, now, end, EndReason::Evicted, out);
            }
        }
    }
}
