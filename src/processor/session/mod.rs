//! Sessions and connections: what each event does to them, and what time does.
//!
//! [`SessionTracker`] is driven by one rule: hand it an event or the time, take every [`Transition`] it gives back, and
//! come again at its [`deadline`](SessionTracker::deadline). It never looks at a clock.
//!
//! # Which session an event belongs to
//!
//! An id finds its session on that node, open or remembered for 24 h after its end. Otherwise the oldest open session of
//! that node and user that has no id yet adopts it. A Start adopts more narrowly: it says that a session begins, so only
//! a session that is at most 2 s older or younger can be the one it speaks of, and only if there is just one.
//!
//! An event without an id looks among all open sessions of its node and user: an Open takes the most recently active,
//! a Close the one with the oldest open connection to its app, a Stop the least recently active without connections,
//! else the least recently active. A Start confirms the only inferred session at most 2 s away, with or without an id
//! (stock session and connection events come from two sockets and may overtake each other); else it opens a session.
//!
//! A Start or Open of an id whose session has ended begins the next segment of the same trace, unless the event is known
//! to be late and happened before the end: then it is told of as `after_end`, like a Stop or Close.
//!
//! # Time
//!
//! Deadlines run on running time; ends and cuts are put down in event time. An inferred end (expired, proxy restart,
//! evicted) is at the session's last activity, for its connections too. A span that has become too long is cut when an
//! event shows that the session lives on, or at its deadline if it was heard of within `expire_after`; of one that has
//! been silent for longer nobody knows whether it is still there, and it must not look as if it were.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Action, Event};
use crate::signal::{SpanId, TraceId};
use crate::time::{Now, RunningTime, Timestamp};

use super::HOUR;
use super::detail::{Browser, Client, Target};
use super::filter::Identity;
use super::ids::{Ids, SessionKey};
use super::node::Node;
use super::record::Changed;

mod compact;
mod deadlines;
mod ended;
mod life;
mod place;
mod recent;
mod record;
mod state;
mod table;
mod walk;

pub use compact::Session;
pub(super) use record::Returning;
pub use state::{CloseReason, Connection, EndReason, Piece, Start};
pub use table::NodeActivity;

use ended::Ended;
use life::end_connection;
use place::Place;
use recent::{Ordinals, Thing};
use record::Misfits;
use state::Until;
use table::{Slot, Table};

/// How long the sessions of a node whose counter restarted have to show that they are still there.
const SUSPECT_FOR: Duration = Duration::from_secs(60);

/// Restarts of a node closer together than this count as one, so that there are at most twelve waiting for each node.
const RESTARTS_APART: Duration = Duration::from_secs(5);

/// How much longer than the time that passed on our side the time between two events of a session may be: time in which
/// we were not running. A clock that jumps by years would otherwise cut every span into thousands.
const ABSENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many sessions one call of [`SessionTracker::advance`] looks at, so that a moment at which very many are due does
/// not keep datagrams waiting: about 20 ms of work.
const ADVANCE_MAX: usize = 4096;

/// How long sessions and spans live, and how many there may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// A session without open connections ends when nothing was heard of it for this long.
    pub expire_after: Duration,
    /// A session with open connections ends when nothing was heard of it for this long.
    pub expire_connected_after: Duration,
    /// A longer span is cut exactly there and goes on in the next segment.
    pub max_span_duration: Duration,
    /// How often each open session is told of in a log record; `None` is never.
    pub heartbeat: Option<Duration>,
    /// How many sessions may be open at the same time.
    pub open_sessions_max: usize,
    /// How many connections one session may have open at the same time.
    pub connections_per_session_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            expire_after: HOUR * 4,
            expire_connected_after: HOUR * 24,
            max_span_duration: HOUR * 12,
            heartbeat: Some(HOUR / 4),
            open_sessions_max: 200_000,
            connections_per_session_max: 1000,
        }
    }
}

/// An event in its order, past the filter, with what the tracker needs to know about it.
#[derive(Clone, Copy, Debug)]
pub struct Occurrence<'a> {
    /// What the datagram said.
    pub event: &'a Event<'a>,
    /// The Result of an attempt that failed, no longer than an attribute may be.
    pub failure: Option<&'a str>,
    /// The node that said it.
    pub node: &'a Arc<Node>,
    /// Who did it.
    pub identity: &'a Arc<Identity>,
    /// The session id, keyed.
    pub id: Option<SessionKey>,
    /// When it happened: the node's time where it can be believed, else the receive time.
    pub time: Timestamp,
    /// Whether events after it in the node's order were taken before it.
    pub late: bool,
    /// Whether it is from before the last restart of its node's counter: no sign that its session outlived that.
    pub before_restart: bool,
    /// What it is about.
    pub target: &'a Arc<Target>,
    /// The browser, as far as it may be kept.
    pub browser: Option<&'a Arc<Browser>>,
    /// The client's address, as far as it may be kept.
    pub client: Option<&'a Client>,
}

/// What an event did, for its log record.
#[derive(Clone, Copy, Debug)]
pub enum Placement<'a> {
    /// It belongs to this session.
    Session(&'a Session),
    /// It opened or closed this connection.
    Connection(&'a Session, &'a Connection),
    /// It is of this session, but there is no connection that it could close.
    NoConnection(&'a Session),
    /// No session is known that it could belong to.
    Unmatched(Option<TraceId>),
    /// Its session had ended before.
    AfterEnd(TraceId, SpanId),
    /// It failed on Qlik's side and changed nothing.
    Failed(Option<&'a Session>, Option<TraceId>),
}

/// One thing that happened to a session. Borrows what it speaks of.
#[derive(Clone, Copy, Debug)]
pub enum Transition<'a> {
    /// The event itself was placed: a log record.
    Placed(Placement<'a>),
    /// A session was opened.
    Opened(&'a Session),
    /// A segment of a session's span is complete.
    Segment {
        /// The session.
        session: &'a Session,
        /// The segment.
        segment: Piece,
        /// Its end.
        end: Timestamp,
        /// Why it ended.
        reason: EndReason,
    },
    /// A part of a connection's span is complete.
    Part {
        /// The session.
        session: &'a Session,
        /// The connection.
        connection: &'a Connection,
        /// The part.
        part: Piece,
        /// The session segment that it hangs below.
        parent: SpanId,
        /// Its end; before its start where the connection is taken to have ended before a cut that was made already.
        end: Timestamp,
        /// Why it ended.
        reason: CloseReason,
    },
    /// A session has ended, its spans are all told of.
    Ended {
        /// The session.
        session: &'a Session,
        /// When.
        end: Timestamp,
        /// Why; never [`EndReason::Rollover`].
        reason: EndReason,
    },
    /// A session is still open.
    Heartbeat(&'a Session),
}

/// All sessions of all nodes.
#[derive(Debug)]
pub struct SessionTracker {
    config: Config,
    ids: Ids,
    table: Table,
    /// Counts events, to tell what was heard before a restart from what was heard after it.
    events: u64,
    /// The running time of the last event.
    latest: RunningTime,
    restarts: Vec<Restart>,
    /// Nodes whose restarts have changed.
    restarted: Changed<u16>,
    /// By node, user and time.
    sessions_without_id: Ordinals,
    /// By trace, time and app.
    connections: Ordinals,
    /// What was restored and is more than the limits allow.
    misfits: Misfits,
}

/// A node's counter restarted: sessions that were last touched before are suspect.
#[derive(Clone, Copy, Debug)]
struct Restart {
    node: u16,
    before: u64,
    due: RunningTime,
}

impl SessionTracker {
    /// A tracker without sessions.
    #[must_use]
    pub fn new(config: Config, ids: Ids) -> Self {
        Self {
            config,
            ids,
            table: Table::default(),
            events: 0,
            latest: RunningTime::START,
            restarts: Vec::new(),
            restarted: Changed::default(),
            sessions_without_id: Ordinals::default(),
            connections: Ordinals::default(),
            misfits: Misfits::default(),
        }
    }

    /// Takes one event in, and tells what it did.
    pub fn on_event(&mut self, now: Now, occurrence: &Occurrence<'_>, out: &mut impl FnMut(Transition<'_>)) {
        self.events += 1;
        self.latest = now.running;
        if occurrence.failure.is_some() {
            let (node, id) = (occurrence.node.index, occurrence.id);
            let session = id.and_then(|id| self.table.find(node, id)).and_then(|slot| self.table.get(slot));
            let ended = id.and_then(|id| self.table.find_ended(node, id));
            let trace_id = ended.map(|ended| ended.trace_id).or_else(|| id.map(SessionKey::trace_id));
            return out(Transition::Placed(Placement::Failed(session, trace_id)));
        }
        match occurrence.event.action {
            Action::SessionStart => self.start(now, occurrence, out),
            Action::ConnectionOpen => self.open_connection(now, occurrence, out),
            Action::ConnectionClose => self.close_connection(now, occurrence, out),
            Action::SessionStop => self.stop(now, occurrence, out),
        }
    }

    /// Notes that a node's counter restarted: its open sessions are suspect from now on.
    pub fn on_restart(&mut self, now: Now, node: &Node) {
        self.restarted.note(node.index);
        let restart = Restart { node: node.index, before: self.events, due: now.running + SUSPECT_FOR };
        // A counter that restarts faster than this is no proxy's; the newest restart then stands for the ones before it.
        let recent = self.restarts.iter_mut().filter(|earlier| earlier.node == node.index);
        let recent =
            recent.max_by_key(|earlier| earlier.due).filter(|earlier| restart.due.since(earlier.due) < RESTARTS_APART);
        match recent {
            Some(earlier) => earlier.before = restart.before,
            None => self.restarts.push(restart),
        }
    }

    /// Does what is due. Looks at a bounded number of sessions; [`Self::deadline`] tells whether more is due at once.
    pub fn advance(&mut self, now: Now, out: &mut impl FnMut(Transition<'_>)) {
        self.table.ended.forget_until(now.running);
        self.settle(now, out);
        self.end_suspects(now, out);
        for _ in 0..ADVANCE_MAX {
            let Some(slot) = self.table.due(now.running) else { break };
            self.wake(slot, now, out);
        }
    }

    /// When to call [`Self::advance`] next; calling it earlier is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<RunningTime> {
        let restarts = self.restarts.iter().map(|restart| restart.due);
        let unsettled = self.is_unsettled().then_some(RunningTime::START);
        self.table.deadline().into_iter().chain(restarts).chain(unsettled).min()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.table.len()
    }

    /// Open sessions, connections and users, by the index of the node.
    #[must_use]
    pub fn activity(&self) -> &[NodeActivity] {
        self.table.activity()
    }

    /// Every open session, in no particular order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.table.iter().map(|(_, session)| session)
    }

    fn start(&mut self, now: Now, occurrence: &Occurrence<'_>, out: &mut impl FnMut(Transition<'_>)) {
        let slot = match self.place_of_start(occurrence) {
            Place::Open(slot) => {
                let occurrence = &self.bounded(slot, now, occurrence);
                self.confirm(slot, occurrence.time);
                self.touch(slot, now, occurrence, Until::Through(occurrence.time), out);
                slot
            }
            Place::Ended(ended) if is_before(occurrence, &ended) => return out(placed_after(&ended)),
            Place::Ended(ended) => self.open_session(now, occurrence, Start::Observed, Some(&ended), out),
            Place::Nowhere => self.open_session(now, occurrence, Start::Observed, None, out),
        };
        if let Some(session) = self.table.get(slot) {
            out(Transition::Placed(Placement::Session(session)));
        }
    }

    fn open_connection(&mut self, now: Now, occurrence: &Occurrence<'_>, out: &mut impl FnMut(Transition<'_>)) {
        let mut occurrence = *occurrence;
        let slot = match self.place_of(&occurrence, |tracker| tracker.most_recently_active(&occurrence)) {
            Place::Open(slot) => {
                occurrence = self.bounded(slot, now, &occurrence);
                self.touch(slot, now, &occurrence, Until::Through(occurrence.time), out);
                slot
            }
            Place::Ended(ended) if is_before(&occurrence, &ended) => return out(placed_after(&ended)),
            Place::Ended(ended) => self.open_session(now, &occurrence, Start::Inferred, Some(&ended), out),
            Place::Nowhere => self.open_session(now, &occurrence, Start::Inferred, None, out),
        };
        self.make_room_for_connection(slot, out);
        self.add_connection(slot, now, &occurrence);
        if let Some(session) = self.table.get(slot)
            && let Some(connection) = session.connections().last()
        {
            out(Transition::Placed(Placement::Connection(session, connection)));
        }
    }

    fn close_connection(&mut self, now: Now, occurrence: &Occurrence<'_>, out: &mut impl FnMut(Transition<'_>)) {
        let app = occurrence.event.app_id;
        let slot = match self.place_of(occurrence, |tracker| tracker.with_connection_to(occurrence, app)) {
            Place::Open(slot) => slot,
            Place::Ended(ended) => return out(placed_after(&ended)),
            Place::Nowhere => return out(placed_nowhere(occurrence)),
        };
        let occurrence = &self.bounded(slot, now, occurrence);
        self.touch(slot, now, occurrence, Until::Before(occurrence.time), out);
        let Some(session) = self.table.get_mut(slot) else { return };
        let Some(index) = session.find_connection(app) else {
            return out(Transition::Placed(Placement::NoConnection(session)));
        };
        let Some(connection) = session.remove_connection(index) else { return };
        let node = session.node.index;
        self.table.count_connections(node, 0, 1);
        self.schedule_earlier(slot);
        let Some(session) = self.table.get(slot) else { return };
        out(Transition::Placed(Placement::Connection(session, &connection)));
        end_connection(session, &connection, occurrence.time, CloseReason::Closed, out);
    }

    fn stop(&mut self, now: Now, occurrence: &Occurrence<'_>, out: &mut impl FnMut(Transition<'_>)) {
        let slot = match self.place_of(occurrence, |tracker| tracker.least_recently_active(occurrence)) {
            Place::Open(slot) => slot,
            Place::Ended(ended) => return out(placed_after(&ended)),
            Place::Nowhere => return out(placed_nowhere(occurrence)),
        };
        let occurrence = &self.bounded(slot, now, occurrence);
        self.touch(slot, now, occurrence, Until::Before(occurrence.time), out);
        if let Some(session) = self.table.get(slot) {
            out(Transition::Placed(Placement::Session(session)));
        }
        self.end(slot, now, occurrence.time, EndReason::Stopped, out);
    }

    /// A Start for a session that was only inferred: it began at the earlier of the two moments.
    fn confirm(&mut self, slot: Slot, time: Timestamp) {
        let Some(session) = self.table.get_mut(slot) else { return };
        if session.started == Start::Observed {
            return;
        }
        session.started = Start::Observed;
        if session.begin_earlier(time) {
            self.schedule_earlier(slot);
        }
    }

    fn make_room_for_connection(&mut self, slot: Slot, out: &mut impl FnMut(Transition<'_>)) {
        self.shrink(slot, self.config.connections_per_session_max.max(1) - 1, out);
    }

    /// Gives up the oldest connections of a session, down to a number of them.
    fn shrink(&mut self, slot: Slot, connections_max: usize, out: &mut impl FnMut(Transition<'_>)) {
        while let Some(session) = self.table.get_mut(slot)
            && session.connections().len() > connections_max
            && let Some(connection) = session.remove_connection(0)
        {
            let node = session.node.index;
            self.table.count_connections(node, 0, 1);
            if let Some(session) = self.table.get(slot) {
                end_connection(session, &connection, session.last_activity(), CloseReason::Evicted, out);
            }
        }
    }

    fn add_connection(&mut self, slot: Slot, now: Now, occurrence: &Occurrence<'_>) {
        let length_max = self.config.max_span_duration;
        let Some(session) = self.table.get_mut(slot) else { return };
        let open = occurrence.time;
        let app = occurrence.event.app_id;
        let (ids, trace_id, node) = (&self.ids, session.trace_id, &occurrence.node.key);
        // The node's own word, believable or not: what was received when is different for each receiver.
        let named = occurrence.event.time.unwrap_or(open);
        let span = |ordinal| ids.connection_span(trace_id, node, named, app, ordinal, 1);
        let first = span(0);
        let ordinal = self.connections.next(Thing::of_span(first));
        let span_id = if ordinal == 0 { first } else { span(ordinal) };
        let part = Piece::first(1, open, span_id, now, length_max);
        let parent = session.segment_span_at(open, length_max, &self.ids);
        session.connections_opened = session.connections_opened.saturating_add(1);
        session.add_connection(Connection {
            open,
            named,
            ordinal,
            part,
            parent,
            target: Arc::clone(occurrence.target),
            browser: occurrence.browser.cloned(),
            client: occurrence.client.cloned(),
            traceparent: occurrence.event.traceparent.map(Box::new),
        });
        let node = session.node.index;
        self.table.count_connections(node, 1, 0);
        self.schedule_earlier(slot);
    }
}

/// Whether an event is known to be from before the end that we hold: late in its node's order, and no later in time.
fn is_before(occurrence: &Occurrence<'_>, ended: &Ended) -> bool {
    occurrence.late && occurrence.time <= ended.end
}

fn placed_after(ended: &Ended) -> Transition<'static> {
    Transition::Placed(Placement::AfterEnd(ended.trace_id, ended.span_id))
}

fn placed_nowhere(occurrence: &Occurrence<'_>) -> Transition<'static> {
    Transition::Placed(Placement::Unmatched(occurrence.id.map(SessionKey::trace_id)))
}
