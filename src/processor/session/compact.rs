//! An open session, held small.
//!
//! Most open sessions are quiet: nothing has happened to them since they began, or one app is open. So there are three
//! boxes, and each is there only once something has to go into it. What is not told follows from the rest: a session
//! without a history was last heard of when it began.

use std::sync::Arc;

use crate::processor::detail::{Browser, Client, Target};
use crate::processor::filter::Identity;
use crate::processor::ids::SessionKey;
use crate::processor::node::Node;
use crate::signal::{SpanId, TraceId};
use crate::time::{RunningTime, Timestamp};

use super::state::{Connection, Piece, Start};
use super::table::Links;

/// An open session. Very many are open at the same time, so that it holds only what every one of them has: 128 bytes. What
/// most of them never have, or only once something has happened to them, is in a box of its own.
#[derive(Debug)]
pub struct Session {
    /// The proxy node that it lives on.
    pub node: Arc<Node>,
    /// Who it belongs to.
    pub identity: Arc<Identity>,
    /// The trace of all its spans.
    pub trace_id: TraceId,
    /// When it began.
    pub start: Timestamp,
    /// The span of its current segment, and when that is to be cut.
    span_id: SpanId,
    segment_due: RunningTime,
    pub(super) heard: RunningTime,
    /// Which event opened it, counted over all sessions: tells sessions apart for ever, and decides where nothing else does.
    pub(super) opened: u64,
    pub(super) heartbeat_due: RunningTime,
    pub(super) deadline: RunningTime,
    history: Option<Box<History>>,
    /// How many connections were ever opened.
    pub connections_opened: u32,
    /// How we know when it began.
    pub started: Start,
    known_by: KnownBy,
    pub(super) alone: bool,
    /// Whether its record is out of date.
    pub(super) changed: bool,
    pub(super) by_user: Links,
    pub(super) by_age: Links,
    pub(super) by_deadline: Links,
}

/// What is known of a session's id. The one that its trace was made from need not be kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    /// None yet.
    Nothing,
    /// One that is the trace id itself.
    Clear,
    /// One that the trace id is a hash of.
    Hash,
    /// One that came later: it is among the rare things.
    Another,
}

/// What a session has once more is known than that it began.
#[derive(Debug)]
struct History {
    /// The latest event.
    last_activity: Timestamp,
    /// The number of that event.
    moved: u64,
    /// Open connections, oldest first.
    connections: Vec<Connection>,
    browser: Option<Arc<Browser>>,
    client: Option<Client>,
    /// The first target with a virtual proxy.
    target: Option<Arc<Target>>,
    rare: Option<Box<Rare>>,
}

/// What few sessions have: an id that came later, a segment that is not the first, an event from before a restart. Where
/// this is, it counts, and what would follow from the rest does not.
#[derive(Debug)]
struct Rare {
    id: Option<SessionKey>,
    touched: u64,
    first_segment: u32,
    /// The number of the current segment, its start, and the span of the segment before.
    number: u32,
    segment_start: Timestamp,
    previous: Option<SpanId>,
}

/// A session that begins, or comes back.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) node: Arc<Node>,
    pub(super) identity: Arc<Identity>,
    pub(super) id: Option<SessionKey>,
    pub(super) trace_id: TraceId,
    pub(super) start: Timestamp,
    pub(super) started: Start,
    pub(super) segment: Piece,
    pub(super) first_segment: u32,
    pub(super) heard: RunningTime,
    pub(super) opened: u64,
    pub(super) heartbeat_due: RunningTime,
}

impl Session {
    pub(super) fn new(opening: Opening) -> Self {
        let Opening { id, trace_id, segment, first_segment, opened, .. } = opening;
        let known_by = match id {
            None => KnownBy::Nothing,
            Some(id) if id.trace_id() != trace_id => KnownBy::Another,
            Some(id) if id.guid().is_some() => KnownBy::Clear,
            Some(_) => KnownBy::Hash,
        };
        let mut session = Self {
            node: opening.node,
            identity: opening.identity,
            trace_id,
            start: opening.start,
            span_id: segment.span_id,
            segment_due: segment.due,
            heard: opening.heard,
            opened,
            heartbeat_due: opening.heartbeat_due,
            deadline: RunningTime::NEVER,
            history: None,
            connections_opened: 0,
            started: opening.started,
            known_by,
            alone: true,
            changed: true,
            by_user: Links::default(),
            by_age: Links::default(),
            by_deadline: Links::default(),
        };
        let is_plain = segment.number == 1 && segment.start == session.start && segment.previous.is_none();
        if known_by == KnownBy::Another || first_segment != 1 || !is_plain {
            let rare = session.rare_mut();
            rare.id = id;
            rare.first_segment = first_segment;
            session.set_segment(segment);
        }
        session
    }

    /// The proxy session id, once one is known.
    #[must_use]
    pub fn id(&self) -> Option<SessionKey> {
        match self.known_by {
            KnownBy::Nothing => None,
            KnownBy::Clear => Some(SessionKey::restored(self.trace_id.0, true)),
            KnownBy::Hash => Some(SessionKey::restored(self.trace_id.0, false)),
            KnownBy::Another => self.rare().and_then(|rare| rare.id),
        }
    }

    /// Whether it has an id.
    pub(super) fn has_id(&self) -> bool {
        self.known_by != KnownBy::Nothing
    }

    /// It turns out to have this id; its trace stays as it is.
    pub(super) fn set_id(&mut self, id: SessionKey) {
        self.rare_mut().id = Some(id);
        self.known_by = KnownBy::Another;
    }

    /// The current segment of its span.
    #[must_use]
    pub fn segment(&self) -> Piece {
        let (span_id, due) = (self.span_id, self.segment_due);
        match self.rare() {
            None => Piece { number: 1, start: self.start, span_id, previous: None, due },
            Some(&Rare { number, segment_start: start, previous, .. }) => {
                Piece { number, start, span_id, previous, due }
            }
        }
    }

    pub(super) fn set_segment(&mut self, segment: Piece) {
        (self.span_id, self.segment_due) = (segment.span_id, segment.due);
        let rare = self.rare_mut();
        (rare.number, rare.segment_start, rare.previous) = (segment.number, segment.start, segment.previous);
    }

    /// The span of the current segment.
    pub(super) const fn span_id(&self) -> SpanId {
        self.span_id
    }

    pub(super) const fn segment_due(&self) -> RunningTime {
        self.segment_due
    }

    pub(super) const fn set_segment_due(&mut self, due: RunningTime) {
        self.segment_due = due;
    }

    pub(super) fn first_segment(&self) -> u32 {
        self.rare().map_or(1, |rare| rare.first_segment)
    }

    /// The latest event of it.
    #[must_use]
    pub fn last_activity(&self) -> Timestamp {
        self.history.as_ref().map_or(self.start, |history| history.last_activity)
    }

    /// The last event of it: its place among the sessions of its user, and in the line for eviction.
    pub(super) fn moved(&self) -> u64 {
        self.history.as_ref().map_or(self.opened, |history| history.moved)
    }

    /// The last event that is a sign of its life, counted in the same way.
    pub(super) fn touched(&self) -> u64 {
        self.rare().map_or_else(|| self.moved(), |rare| rare.touched)
    }

    /// Its open connections, oldest first.
    #[must_use]
    pub fn connections(&self) -> &[Connection] {
        self.history.as_ref().map_or(&[], |history| &history.connections)
    }

    pub(super) fn connections_mut(&mut self) -> &mut [Connection] {
        self.history.as_mut().map_or(&mut [], |history| &mut history.connections)
    }

    pub(super) fn add_connection(&mut self, connection: Connection) {
        let connections = &mut self.history_mut().connections;
        if connections.len() == connections.capacity() {
            // Most sessions have one, and room for four would be the most of what they take.
            connections.reserve_exact(connections.len().max(1));
        }
        connections.push(connection);
    }

    /// Takes room for so many connections.
    pub(super) fn reserve(&mut self, connections: usize) {
        self.history_mut().connections.reserve_exact(connections);
    }

    pub(super) fn remove_connection(&mut self, index: usize) -> Option<Connection> {
        let connections = &mut self.history_mut().connections;
        let connection = (index < connections.len()).then(|| connections.remove(index));
        if connections.is_empty() && connections.capacity() > 1 {
            *connections = Vec::new();
        }
        connection
    }

    /// The first browser seen.
    #[must_use]
    pub fn browser(&self) -> Option<&Arc<Browser>> {
        self.history.as_ref()?.browser.as_ref()
    }

    /// The first client address seen, as it may be sent.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        self.history.as_ref()?.client.as_ref()
    }

    /// The first target seen with a virtual proxy.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        self.history.as_ref()?.target.as_ref()
    }

    /// The prefix of the virtual proxy, once one was told.
    #[must_use]
    pub fn virtual_proxy(&self) -> Option<&str> {
        self.target()?.virtual_proxy.as_deref()
    }

    /// Notes what an event tells of the way that the user came in, as far as it is the first to do so.
    pub(super) fn learn(
        &mut self,
        browser: Option<&Arc<Browser>>,
        client: Option<&Client>,
        target: Option<&Arc<Target>>,
    ) {
        let target = target.filter(|target| target.virtual_proxy.is_some());
        if browser.is_none() && client.is_none() && target.is_none() {
            return;
        }
        let history = self.history_mut();
        if history.browser.is_none() {
            history.browser = browser.cloned();
        }
        if history.client.is_none() {
            history.client = client.cloned();
        }
        if history.target.is_none() {
            history.target = target.cloned();
        }
    }

    /// It was heard of at `time`, by the event of this number.
    pub(super) fn hear(&mut self, time: Timestamp, event: u64, is_sign_of_life: bool) {
        if !is_sign_of_life {
            self.rare_mut();
        } else if let Some(rare) = self.history.as_mut().and_then(|history| history.rare.as_mut()) {
            rare.touched = event;
        }
        let history = self.history_mut();
        history.moved = event;
        history.last_activity = history.last_activity.max(time);
    }

    /// Takes back what was known of it.
    pub(super) fn recall(&mut self, last_activity: Timestamp, moved: u64, touched: u64) {
        if last_activity != self.last_activity() || moved != self.moved() {
            let history = self.history_mut();
            (history.last_activity, history.moved) = (last_activity, moved);
        }
        if touched != self.touched() {
            self.rare_mut().touched = touched;
        }
    }

    /// A session that was only inferred turns out to have begun at `time`, if that is earlier. Returns whether its segment
    /// did so too.
    pub(super) fn begin_earlier(&mut self, time: Timestamp) -> bool {
        let earlier_by = self.start.since(time);
        // Its last event is no longer its first.
        self.history_mut();
        self.start = self.start.min(time);
        // A segment that was cut off is sent already; then only the duration of the whole knows of the earlier start.
        let is_first = self.segment().number == self.first_segment();
        if is_first {
            self.segment_due = self.segment_due.before(earlier_by);
            if let Some(rare) = self.history_mut().rare.as_mut() {
                rare.segment_start = rare.segment_start.before(earlier_by);
            }
        }
        is_first
    }

    fn rare(&self) -> Option<&Rare> {
        self.history.as_ref()?.rare.as_deref()
    }

    fn history_mut(&mut self) -> &mut History {
        let (last_activity, moved) = (self.start, self.opened);
        self.history.get_or_insert_with(|| {
            Box::new(History {
                last_activity,
                moved,
                connections: Vec::new(),
                browser: None,
                client: None,
                target: None,
                rare: None,
            })
        })
    }

    fn rare_mut(&mut self) -> &mut Rare {
        let (id, touched, segment_start) = (self.id(), self.touched(), self.start);
        self.history_mut().rare.get_or_insert_with(|| {
            Box::new(Rare { id, touched, first_segment: 1, number: 1, segment_start, previous: None })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand of them are to be open: a field more is a megabyte more.
    #[test]
    fn a_session_and_what_belongs_to_it_stay_as_small_as_they_are() {
        assert_eq!(size_of::<Session>(), 128);
        assert_eq!(size_of::<History>(), 88);
        assert_eq!(size_of::<Connection>(), 120);
    }
}
