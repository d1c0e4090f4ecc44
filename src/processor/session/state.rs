//! One open session and its connections, and how their spans are cut.
//!
//! A session span is a row of segments, a connection span a row of parts. Each is exactly `max_span_duration` long but
//! the last one. Overdue ones are cut in the order of time: a part's parent is the segment that is current where the part
//! begins.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Guid, TraceParent};
use crate::processor::detail::{Browser, Client, Target};
use crate::processor::ids::Ids;
use crate::signal::{SpanContext, SpanId};
use crate::time::{Now, RunningTime, Timestamp};

use super::compact::Session;

/// Why a session, or one segment of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Its Stop came.
    Stopped,
    /// Nothing was heard of it for too long.
    Expired,
    /// Its node's counter restarted and the session did not come back.
    ProxyRestart,
    /// It had to make room.
    Evicted,
    /// The span reached `max_span_duration`; the session goes on in the next segment.
    Rollover,
}

impl EndReason {
    /// The reason as an attribute value and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Expired => "expired",
            Self::ProxyRestart => "proxy_restart",
            Self::Evicted => "evicted",
            Self::Rollover => "rollover",
        }
    }

    /// Why the connections of a session end that ends for this reason.
    #[must_use]
    pub const fn of_connections(self) -> CloseReason {
        match self {
            Self::Stopped => CloseReason::SessionStopped,
            Self::Expired => CloseReason::Expired,
            Self::ProxyRestart => CloseReason::ProxyRestart,
            Self::Evicted => CloseReason::Evicted,
            Self::Rollover => CloseReason::Rollover,
        }
    }
}

/// Why a connection, or one part of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Its Close came.
    Closed,
    /// Its session's Stop came.
    SessionStopped,
    /// Its session expired.
    Expired,
    /// Its session was given up after a restart of the proxy.
    ProxyRestart,
    /// It, or its session, had to make room.
    Evicted,
    /// The span reached `max_span_duration`; the connection goes on in the next part.
    Rollover,
}

impl CloseReason {
    /// The reason as an attribute value and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::SessionStopped => "session_stopped",
            Self::Expired => "expired",
            Self::ProxyRestart => "proxy_restart",
            Self::Evicted => "evicted",
            Self::Rollover => "rollover",
        }
    }
}

/// How we know of a session's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its Start came.
    Observed,
    /// Only something that a session has to exist for.
    Inferred,
}

/// One piece of a span that may outlast `max_span_duration`.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Counts from 1: the segment of a session, the part of a connection.
    pub number: u32,
    /// Where the piece begins.
    pub start: Timestamp,
    /// The piece's own span.
    pub span_id: SpanId,
    /// The span of the piece before, if it was cut from it.
    pub previous: Option<SpanId>,
    /// When the piece is to be cut.
    pub(super) due: RunningTime,
}

/// An open connection: an app in a browser tab.
#[derive(Debug)]
pub struct Connection {
    /// When it was opened.
    pub open: Timestamp,
    /// The same as its node says it, which may be beyond belief; decides the span's id.
    pub named: Timestamp,
    /// Tells apart connections of one session opened at the same moment.
    pub ordinal: u32,
    /// The current part of its span.
    pub part: Piece,
    /// The session segment that the current part hangs below.
    pub parent: SpanId,
    /// What was opened.
    pub target: Arc<Target>,
    /// The browser, where the event told it.
    pub browser: Option<Arc<Browser>>,
    /// The client's address as it may be sent, where the event told it.
    pub client: Option<Client>,
    /// A foreign span that led here.
    pub traceparent: Option<Box<TraceParent>>,
}

impl Connection {
    /// The app, where Qlik told one.
    #[must_use]
    pub fn app(&self) -> Option<Guid> {
        self.target.app
    }
}

/// What [`Session::cut`] ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// A segment of the session, as it was.
    Segment(Piece),
    /// A part of the connection at this index, as it was, and its parent.
    Part { connection: usize, piece: Piece, parent: SpanId },
}

/// A span that may have to be cut. The session comes first among equals: a part hangs below the segment that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    Session,
    /// By its place among the open ones.
    Connection(usize),
}

/// Up to where spans are cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// To this moment of event time: a piece that would be longer is cut, one that ends here is not.
    Before(Timestamp),
    /// To this moment of event time: a new piece begins here.
    Through(Timestamp),
    /// What this moment of running time is due for.
    Due(RunningTime),
}

impl Until {
    fn reaches(self, boundary: Timestamp, due: RunningTime) -> bool {
        match self {
            Self::Before(end) => boundary < end,
            Self::Through(moment) => boundary <= moment,
            Self::Due(running) => due <= running,
        }
    }
}

impl Piece {
    /// The first piece of a span that began at `start`, in event time. The deadline is ours, whatever the node's clock says.
    pub(super) fn first(number: u32, start: Timestamp, span_id: SpanId, now: Now, length_max: Duration) -> Self {
        Self { number, start, span_id, previous: None, due: now.running + length_max }
    }

    fn next(&self, span_id: SpanId, length_max: Duration) -> Self {
        Self {
            number: self.number.saturating_add(1),
            start: self.start + length_max,
            span_id,
            previous: Some(self.span_id),
            due: self.due + length_max,
        }
    }
}

impl Session {
    /// The span that records of this session belong to.
    #[must_use]
    pub const fn context(&self) -> SpanContext {
        SpanContext { trace_id: self.trace_id, span_id: self.span_id() }
    }

    /// The span that records of this connection belong to.
    #[must_use]
    pub const fn context_of(&self, connection: &Connection) -> SpanContext {
        SpanContext { trace_id: self.trace_id, span_id: connection.part.span_id }
    }

    /// The pieces that are longer than allowed, by the moment up to which they are.
    pub(super) fn overdue(&self, until: Until, length_max: Duration) -> BinaryHeap<Reverse<(Timestamp, Which)>> {
        let connections = (0..self.connections().len()).map(Which::Connection);
        let all = [Which::Session].into_iter().chain(connections);
        all.filter_map(|which| Some(Reverse((self.boundary(which, until, length_max)?, which)))).collect()
    }

    /// Where a piece has to be cut, if it has to.
    pub(super) fn boundary(&self, which: Which, until: Until, length_max: Duration) -> Option<Timestamp> {
        let piece = match which {
            Which::Session => self.segment(),
            Which::Connection(index) => self.connections().get(index)?.part,
        };
        let boundary = piece.start + length_max;
        until.reaches(boundary, piece.due).then_some(boundary)
    }

    /// Ends a piece exactly at its limit, and begins the next one.
    pub(super) fn cut(&mut self, which: Which, length_max: Duration, ids: &Ids) -> Option<Cut> {
        match which {
            Which::Session => Some(self.cut_segment(length_max, ids)),
            Which::Connection(index) => self.cut_part(index, length_max, ids),
        }
    }

    fn cut_segment(&mut self, length_max: Duration, ids: &Ids) -> Cut {
        let ended = self.segment();
        let span_id = ids.session_span(self.trace_id, &self.node.key, ended.number.saturating_add(1));
        self.set_segment(ended.next(span_id, length_max));
        Cut::Segment(ended)
    }

    fn cut_part(&mut self, index: usize, length_max: Duration, ids: &Ids) -> Option<Cut> {
        let connection = self.connections().get(index)?;
        let (piece, parent) = (connection.part, connection.parent);
        let number = piece.number.saturating_add(1);
        let (named, app, ordinal) = (connection.named, connection.app(), connection.ordinal);
        let span_id = ids.connection_span(self.trace_id, &self.node.key, named, app, ordinal, number);
        let next = piece.next(span_id, length_max);
        let next_parent = self.segment_span_at(next.start, length_max, ids);
        let connection = self.connections_mut().get_mut(index)?;
        connection.part = next;
        connection.parent = next_parent;
        Some(Cut::Part { connection: index, piece, parent })
    }

    /// The span of the segment that was current at `moment`: the current one, or an earlier one that is sent already.
    pub(super) fn segment_span_at(&self, moment: Timestamp, length_max: Duration, ids: &Ids) -> SpanId {
        let segment = self.segment();
        let behind = segment.start.since(moment).as_nanos().div_ceil(length_max.as_nanos().max(1));
        let number = u64::from(segment.number).saturating_sub(u64::try_from(behind).unwrap_or(u64::MAX));
        let number = u32::try_from(number).unwrap_or(u32::MAX).max(self.first_segment());
        if number == segment.number { segment.span_id } else { ids.session_span(self.trace_id, &self.node.key, number) }
    }

    /// The position of the oldest open connection to this app; without an app, of a sole open connection.
    pub(super) fn find_connection(&self, app: Option<Guid>) -> Option<usize> {
        match app {
            Some(_) => {
                let same_app = self.connections().iter().enumerate().filter(|(_, connection)| connection.app() == app);
                same_app.min_by_key(|(index, connection)| (connection.open, *index)).map(|(index, _)| index)
            }
            None => (self.connections().len() == 1).then_some(0),
        }
    }
}
