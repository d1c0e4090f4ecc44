//! The life of a session: opened, heard of, cut, woken at its deadline, ended.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::event::caseless;
use crate::signal::TraceId;
use crate::time::{Now, RunningTime, Timestamp};

use super::compact::{Opening, Session};
use super::ended::Ended;
use super::recent::Thing;
use super::state::{CloseReason, Connection, Cut, EndReason, Piece, Start, Until};
use super::table::Slot;
use super::{ABSENCE_MAX, ADVANCE_MAX, Occurrence, Restart, SessionTracker, Transition};

/// Ended ids are remembered up to as many as sessions may be open, and at least this many.
const REMEMBERED_MIN: usize = 10_000;

impl SessionTracker {
    pub(super) fn open_session(
        &mut self,
        now: Now,
        occurrence: &Occurrence<'_>,
        started: Start,
        ended: Option<&Ended>,
        out: &mut impl FnMut(Transition<'_>),
    ) -> Slot {
        while self.table.len() >= self.config.open_sessions_max.max(1)
            && let Some(victim) = self.table.victim()
        {
            let end = self.table.get(victim).map_or(occurrence.time, Session::last_activity);
            self.end(victim, now, end, EndReason::Evicted, out);
        }
        let trace_id = match (ended, occurrence.id) {
            (Some(ended), _) => ended.trace_id,
            (None, Some(id)) => id.trace_id(),
            (None, None) => self.trace_without_id(occurrence),
        };
        let number = ended.map_or(1, |ended| ended.segment.saturating_add(1));
        let span_id = self.ids.session_span(trace_id, &occurrence.node.key, number);
        let segment = Piece::first(number, occurrence.time, span_id, now, self.config.max_span_duration);
        let mut session = Session::new(Opening {
            node: Arc::clone(occurrence.node),
            identity: Arc::clone(occurrence.identity),
            id: occurrence.id,
            trace_id,
            start: occurrence.time,
            started,
            segment,
            first_segment: number,
            heard: now.running,
            opened: self.events,
            heartbeat_due: self.config.heartbeat.map_or(RunningTime::NEVER, |heartbeat| now.running + heartbeat),
        });
        session.learn(occurrence.browser, occurrence.client, Some(occurrence.target));
        session.deadline = self.next_deadline(now.running, &session);
        let slot = self.table.insert(session);
        if let Some(session) = self.table.get(slot) {
            out(Transition::Opened(session));
        }
        slot
    }

    /// A trace id of its own for a session without an id: the ordinal tells apart those opened at the same moment.
    fn trace_without_id(&mut self, occurrence: &Occurrence<'_>) -> TraceId {
        let node = occurrence.node;
        let user = &occurrence.event.user;
        let directory = caseless(user.directory.as_deref().unwrap_or_default());
        let named = occurrence.event.time.unwrap_or(occurrence.time);
        let name = caseless(&user.name);
        let trace_id = |ordinal| self.ids.trace_without_id(&node.key, &directory, &name, named, ordinal);
        let first = trace_id(0);
        match self.sessions_without_id.next(Thing::of_trace(first)) {
            0 => first,
            ordinal => trace_id(ordinal),
        }
    }

    /// The event with a time that its session can have come to.
    pub(super) fn bounded<'a>(&self, slot: Slot, now: Now, occurrence: &Occurrence<'a>) -> Occurrence<'a> {
        let Some(session) = self.table.get(slot) else { return *occurrence };
        let latest = session.last_activity() + now.running.since(session.heard) + ABSENCE_MAX;
        Occurrence { time: occurrence.time.min(latest), ..*occurrence }
    }

    /// Notes that a session was heard of, and cuts the pieces of its spans that are too long by then.
    pub(super) fn touch(
        &mut self,
        slot: Slot,
        now: Now,
        occurrence: &Occurrence<'_>,
        until: Until,
        out: &mut impl FnMut(Transition<'_>),
    ) {
        self.table.touch(slot);
        let events = self.events;
        if let Some(session) = self.table.get_mut(slot) {
            session.heard = now.running;
            session.hear(occurrence.time, events, !occurrence.before_restart);
            session.learn(occurrence.browser, occurrence.client, Some(occurrence.target));
        }
        if self.cut(slot, until, out)
            && let Some(session) = self.table.get(slot)
        {
            let deadline = self.next_deadline(now.running, session).min(session.deadline);
            self.table.schedule(slot, deadline);
        }
    }

    /// Cuts what is too long; whether there was anything.
    fn cut(&mut self, slot: Slot, until: Until, out: &mut impl FnMut(Transition<'_>)) -> bool {
        let length_max = self.config.max_span_duration;
        let Some(session) = self.table.get_mut(slot) else { return false };
        let mut overdue = session.overdue(until, length_max);
        let is_cut = !overdue.is_empty();
        while let Some(Reverse((_, which))) = overdue.pop() {
            match session.cut(which, length_max, &self.ids) {
                Some(Cut::Segment(segment)) => {
                    let (end, reason) = (segment.start + length_max, EndReason::Rollover);
                    out(Transition::Segment { session, segment, end, reason });
                }
                Some(Cut::Part { connection, piece: part, parent }) => {
                    let (end, reason) = (part.start + length_max, CloseReason::Rollover);
                    if let Some(connection) = session.connections().get(connection) {
                        out(Transition::Part { session, connection, part, parent, end, reason });
                    }
                }
                None => {}
            }
            overdue.extend(session.boundary(which, until, length_max).map(|boundary| Reverse((boundary, which))));
        }
        is_cut
    }

    /// Ends a session with all its connections.
    pub(super) fn end(
        &mut self,
        slot: Slot,
        now: Now,
        end: Timestamp,
        reason: EndReason,
        out: &mut impl FnMut(Transition<'_>),
    ) {
        self.cut(slot, Until::Before(end), out);
        let Some(session) = self.table.get(slot) else { return };
        for connection in session.connections() {
            end_connection(session, connection, end, reason.of_connections(), out);
        }
        let segment = session.segment();
        out(Transition::Segment { session, segment, end: end.max(segment.start), reason });
        let end = end.max(session.start);
        out(Transition::Ended { session, end, reason });
        self.table.remove(slot, end, now.running, self.remembered_max());
    }

    /// How many ended ids are remembered.
    pub(super) fn remembered_max(&self) -> usize {
        self.config.open_sessions_max.max(REMEMBERED_MIN)
    }

    pub(super) fn end_suspects(&mut self, now: Now, out: &mut impl FnMut(Transition<'_>)) {
        let due = self.restarts.iter().enumerate().filter(|(_, restart)| restart.due <= now.running);
        let earliest = due.min_by_key(|(_, restart)| (restart.due, restart.node));
        let Some((position, &Restart { node, before, .. })) = earliest else { return };
        let suspect = |session: &Session| session.node.index == node && session.touched() <= before;
        let suspects = self.table.by_age().filter(|(_, session)| suspect(session)).map(|(slot, _)| slot);
        let suspects: Vec<Slot> = suspects.take(ADVANCE_MAX).collect();
        if suspects.len() < ADVANCE_MAX {
            self.restarts.remove(position);
            self.restarted.note(node);
        }
        for slot in suspects {
            let Some(end) = self.table.get(slot).map(Session::last_activity) else { continue };
            self.end(slot, now, end, EndReason::ProxyRestart, out);
        }
    }

    /// Does what is due for one session.
    pub(super) fn wake(&mut self, slot: Slot, now: Now, out: &mut impl FnMut(Transition<'_>)) {
        let Some(session) = self.table.get(slot) else { return };
        if self.expiry(session) <= now.running {
            let end = session.last_activity();
            return self.end(slot, now, end, EndReason::Expired, out);
        }
        if now.running.since(session.heard) <= self.config.expire_after {
            self.cut(slot, Until::Due(now.running), out);
        }
        let Some(session) = self.table.get_mut(slot) else { return };
        if let Some(heartbeat) = self.config.heartbeat
            && session.heartbeat_due <= now.running
        {
            session.heartbeat_due = now.running + heartbeat;
            out(Transition::Heartbeat(session));
        }
        if let Some(session) = self.table.get(slot) {
            let deadline = self.next_deadline(now.running, session);
            self.table.schedule(slot, deadline);
        }
    }

    pub(super) fn expiry(&self, session: &Session) -> RunningTime {
        let connected = !session.connections().is_empty();
        session.heard + if connected { self.config.expire_connected_after } else { self.config.expire_after }
    }

    fn next_deadline(&self, now: RunningTime, session: &Session) -> RunningTime {
        let parts = session.connections().iter().map(|connection| connection.part.due);
        // What is due and was not cut waits for an event.
        let cut = parts.chain([session.segment_due()]).filter(|&due| due > now).min();
        self.expiry(session).min(session.heartbeat_due).min(cut.unwrap_or(RunningTime::NEVER))
    }

    /// Moves a session's deadline forward where it has become earlier. The other way round it is found out when the old
    /// one comes up. Only the newest connection can be due before what is scheduled already.
    pub(super) fn schedule_earlier(&mut self, slot: Slot) {
        let Some(session) = self.table.get(slot) else { return };
        let own = self.expiry(session).min(session.segment_due());
        let deadline = session.connections().last().map_or(own, |connection| own.min(connection.part.due));
        if deadline < session.deadline {
            self.table.schedule(slot, deadline);
        }
    }
}

/// Completes the last part of a connection's span.
pub(super) fn end_connection(
    session: &Session,
    connection: &Connection,
    end: Timestamp,
    reason: CloseReason,
    out: &mut impl FnMut(Transition<'_>),
) {
    let (part, parent) = (connection.part, connection.parent);
    out(Transition::Part { session, connection, part, parent, end, reason });
}
