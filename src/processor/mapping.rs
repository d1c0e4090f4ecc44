//! Transitions to spans and log records. Every attribute name that we send stands in this file; the names of the four
//! events are [`Action::event_name`](crate::event::Action::event_name).
//!
//! Names are those of the semantic conventions 1.44 where one exists, else under `qlik.sense`; `docs/events.md` has
//! the same list for readers.

use std::time::Duration;

use crate::event::Action;
use crate::signal::{
    Attribute, Encoded, Link, LinkOrigin, LogRecord, Severity, Span, SpanContext, SpanId, SpanKind, TraceId, Value,
};
use crate::time::{Now, Timestamp};

use super::attributes::Attributes;
use super::body;
use super::detail::{Browser, Client, Target};
use super::filter::Identity;
use super::ids::Ids;
use super::node::Node;
use super::session::{CloseReason, Connection, EndReason, Occurrence, Piece, Placement, Session, Start, Transition};
use super::spelling::{SessionIdText, Texts, rfc3339};
use super::{Output, Report};

const SESSION_ID: &str = "session.id";
pub(super) const USER_ID: &str = "user.id";
const USER_NAME: &str = "user.name";
pub(super) const USER_HASH: &str = "user.hash";
const USER_DIRECTORY: &str = "qlik.sense.user.directory";
pub(super) const APP_ID: &str = "qlik.sense.app.id";
pub(super) const APP_NAME: &str = "qlik.sense.app.name";
const USER_AGENT_ORIGINAL: &str = "user_agent.original";
const USER_AGENT_NAME: &str = "user_agent.name";
const USER_AGENT_VERSION: &str = "user_agent.version";
const USER_AGENT_OS_NAME: &str = "user_agent.os.name";
const USER_AGENT_HASH: &str = "qlik.sense.user_agent.hash";
const CLIENT_ADDRESS: &str = "client.address";
const CLIENT_HASH: &str = "qlik.sense.client.hash";
pub(super) const URL_PATH: &str = "url.path";
const EVENT_ORIGIN: &str = "qlik.sense.event.origin";
const EVENT_RESULT: &str = "qlik.sense.event.result";
const EVENT_UNMATCHED: &str = "qlik.sense.event.unmatched";
const EVENT_AFTER_END: &str = "qlik.sense.event.after_end";
const EVENT_LATE: &str = "qlik.sense.event.late";
const EVENT_TIME_REPLACED: &str = "qlik.sense.event.time_replaced";
const VIRTUAL_PROXY_PREFIX: &str = "qlik.sense.virtual_proxy.prefix";
const SESSION_APPS: &str = "qlik.sense.session.apps";
const SESSION_CONNECTIONS: &str = "qlik.sense.session.connections";
const SESSION_END_REASON: &str = "qlik.sense.session.end.reason";
const SESSION_END_TIME: &str = "qlik.sense.session.end.time";
const SESSION_SEGMENT: &str = "qlik.sense.session.segment";
const SESSION_START_INFERRED: &str = "qlik.sense.session.start.inferred";
const CONNECTION_CLOSE_REASON: &str = "qlik.sense.connection.close.reason";
const CONNECTION_PART: &str = "qlik.sense.connection.part";
const GAP_FIRST: &str = "qlik.sense.receiver.gap.first";
const GAP_LAST: &str = "qlik.sense.receiver.gap.last";
const GAP_COUNT: &str = "qlik.sense.receiver.gap.count";

/// How many apps a heartbeat names at most.
const HEARTBEAT_APPS_MAX: usize = 32;

/// Length of a `qlik.sense.session.start` marker: long enough to be drawn, short enough not to mean anything.
const MARKER: Duration = Duration::from_millis(1);

/// The resource attributes of a node, before those of the configuration.
pub(super) fn resource(node: &str) -> [(&'static str, &str); 4] {
    [
        ("service.name", "qlik-sense-proxy"),
        ("service.namespace", "qlik-sense"),
        ("service.instance.id", node),
        ("host.name", node),
    ]
}

/// What the mapping of one event has to know beside the transition.
#[derive(Clone, Copy)]
pub(super) struct Cause<'a> {
    /// The event.
    pub(super) occurrence: &'a Occurrence<'a>,
    /// The attributes of its user, encoded.
    pub(super) identity: &'a Encoded,
    /// When its datagram was received.
    pub(super) received: Timestamp,
    /// Whether the node's own time could not be believed.
    pub(super) time_replaced: bool,
}

/// Turns transitions into signals. Holds nothing but a buffer for the body.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    body: String,
    start_marker: bool,
}

impl Mapping {
    pub(super) const fn new(start_marker: bool) -> Self {
        Self { body: String::new(), start_marker }
    }

    /// Maps one transition; `cause` is the event that brought it about, if it was one.
    pub(super) fn transition(
        &mut self,
        now: Now,
        ids: &Ids,
        cause: Option<Cause<'_>>,
        transition: Transition<'_>,
        output: &mut impl Output,
    ) {
        match (transition, cause) {
            (Transition::Placed(placement), Some(cause)) => self.event(cause, placement, output),
            // Only an event is placed.
            (Transition::Placed(_), None) => {}
            (Transition::Opened(session), cause) if self.start_marker => start_marker(session, ids, cause, output),
            (Transition::Opened(_), _) => {}
            (Transition::Segment { session, segment, end, reason }, cause) => {
                session_span(session, segment, end, reason, cause, output);
            }
            (Transition::Part { session, connection, part, parent, end, reason }, cause) => {
                connection_span(session, connection, Cut { part, parent, end, reason }, cause, output);
            }
            (Transition::Ended { session, end, reason }, _) => self.ended(now, session, end, reason, output),
            (Transition::Heartbeat(session), _) => self.heartbeat(now, session, output),
        }
    }

    /// A gap in a node's sequence: events were lost between the node and us.
    pub(super) fn gap(&mut self, now: Now, node: &Node, first: u32, last: u32, count: u64, output: &mut impl Output) {
        self.body.clear();
        body::gap(&mut self.body, &node.name, first, last, count);
        let attributes = [
            Attribute { key: GAP_FIRST, value: Value::Int(first.into()) },
            Attribute { key: GAP_LAST, value: Value::Int(last.into()) },
            Attribute { key: GAP_COUNT, value: Value::Int(i64::try_from(count).unwrap_or(i64::MAX)) },
        ];
        let record = LogRecord {
            time: now.wall,
            observed_time: now.wall,
            severity: Severity::Warn,
            event_name: "qlik.sense.receiver.gap",
            body: &self.body,
            attributes: &attributes,
            trace_id: None,
            span_id: None,
        };
        output.log(&node.resource, &record);
    }

    fn event(&mut self, cause: Cause<'_>, placement: Placement<'_>, output: &mut impl Output) {
        let occurrence = cause.occurrence;
        self.body.clear();
        // Looked at once, for the sentence and for the attributes.
        let told = occurrence.identity.told();
        body::event(&mut self.body, occurrence.identity.label_with(told[0]), occurrence, placement);
        let session_id = SessionIdText::of(occurrence, placement);
        let texts = Texts::new(occurrence.client);
        let mut attributes = Attributes::new();
        attributes.maybe(SESSION_ID, session_id.as_ref().map(SessionIdText::as_str));
        attributes.told(told, Some(cause.identity));
        attributes.target(occurrence.target);
        attributes.client(occurrence.browser.map(AsRef::as_ref), occurrence.client, &texts);
        attributes.maybe(EVENT_RESULT, occurrence.failure);
        attributes.flag(EVENT_UNMATCHED, matches!(placement, Placement::Unmatched(_) | Placement::NoConnection(_)));
        attributes.flag(EVENT_AFTER_END, matches!(placement, Placement::AfterEnd(..)));
        attributes.flag(EVENT_LATE, occurrence.late);
        attributes.flag(EVENT_TIME_REPLACED, cause.time_replaced);
        if let (Placement::Session(session), Action::SessionStop) = (placement, occurrence.event.action) {
            attributes.text(SESSION_END_REASON, EndReason::Stopped.as_str());
            attributes.int(SESSION_CONNECTIONS, session.connections_opened);
        }
        if let (Placement::Connection(..), Action::ConnectionClose) = (placement, occurrence.event.action) {
            attributes.text(CONNECTION_CLOSE_REASON, CloseReason::Closed.as_str());
        }
        let (trace_id, span_id) = context(placement);
        let record = LogRecord {
            time: occurrence.time,
            observed_time: cause.received,
            severity: if occurrence.failure.is_some() { Severity::Warn } else { Severity::Info },
            event_name: occurrence.event.action.event_name(),
            body: &self.body,
            attributes: &attributes.all,
            trace_id,
            span_id,
        };
        output.log_alike(&occurrence.node.resource, &record, attributes.runs());
    }

    fn ended(&mut self, now: Now, session: &Session, end: Timestamp, reason: EndReason, output: &mut impl Output) {
        output.report(Report::SessionEnded {
            node: &session.node.name,
            virtual_proxy: session.virtual_proxy(),
            reason,
            duration: end.since(session.start),
        });
        if reason == EndReason::Stopped {
            // Its Stop is the record.
            return;
        }
        self.body.clear();
        body::inferred_end(&mut self.body, session, reason, end);
        let session_id = SessionIdText::of_session(session);
        let end_time = rfc3339(end);
        let mut attributes = Attributes::new();
        attributes.text(SESSION_ID, session_id.as_str());
        attributes.identity(&session.identity, None);
        attributes.text(SESSION_END_REASON, reason.as_str());
        attributes.text(SESSION_END_TIME, &end_time);
        attributes.int(SESSION_CONNECTIONS, session.connections_opened);
        self.session_record(now, session, Severity::Warn, "session.end", &attributes, output);
    }

    fn heartbeat(&mut self, now: Now, session: &Session, output: &mut impl Output) {
        let mut apps: Vec<&str> = Vec::new();
        for Connection { target, .. } in session.connections() {
            let label = target.app_name.as_deref().or(target.app_id.as_deref()).or_else(|| target.label());
            if let Some(label) = label
                && !apps.contains(&label)
                && apps.len() < HEARTBEAT_APPS_MAX
            {
                apps.push(label);
            }
        }
        self.body.clear();
        body::heartbeat(&mut self.body, session, now.wall, &apps);
        let session_id = SessionIdText::of_session(session);
        let texts = Texts::new(session.client());
        let mut attributes = Attributes::new();
        attributes.text(SESSION_ID, session_id.as_str());
        attributes.identity(&session.identity, None);
        attributes.session(session, &texts);
        attributes.all.push(Attribute { key: SESSION_APPS, value: Value::Texts(&apps) });
        attributes.int(SESSION_CONNECTIONS, session.connections_opened);
        self.session_record(now, session, Severity::Info, "qlik.sense.session.heartbeat", &attributes, output);
    }

    /// A record that no datagram stands behind: it happened when we noticed.
    fn session_record(
        &self,
        now: Now,
        session: &Session,
        severity: Severity,
        event_name: &'static str,
        attributes: &Attributes<'_>,
        output: &mut impl Output,
    ) {
        let record = LogRecord {
            time: now.wall,
            observed_time: now.wall,
            severity,
            event_name,
            body: &self.body,
            attributes: &attributes.all,
            trace_id: Some(session.trace_id),
            span_id: Some(session.context().span_id),
        };
        output.log_alike(&session.node.resource, &record, attributes.runs());
    }
}

fn session_span(
    session: &Session,
    segment: Piece,
    end: Timestamp,
    reason: EndReason,
    cause: Option<Cause<'_>>,
    output: &mut impl Output,
) {
    let session_id = SessionIdText::of_session(session);
    let texts = Texts::new(session.client());
    let mut attributes = Attributes::new();
    attributes.text(SESSION_ID, session_id.as_str());
    attributes.identity(&session.identity, encoded_by(cause, session));
    attributes.session(session, &texts);
    attributes.text(SESSION_END_REASON, reason.as_str());
    attributes.flag(SESSION_START_INFERRED, session.started == Start::Inferred);
    attributes.int(SESSION_SEGMENT, segment.number);
    attributes.int(SESSION_CONNECTIONS, session.connections_opened);
    let link = segment.previous.map(|span_id| local_link(session.trace_id, span_id));
    let span = Span {
        context: SpanContext { trace_id: session.trace_id, span_id: segment.span_id },
        parent: None,
        name: "qlik.sense.session",
        kind: SpanKind::Internal,
        start: segment.start,
        end,
        attributes: &attributes.all,
        links: link.as_slice(),
    };
    output.span_alike(&session.node.resource, &span, attributes.runs());
}

/// The end of a part of a connection.
struct Cut {
    part: Piece,
    parent: SpanId,
    end: Timestamp,
    reason: CloseReason,
}

fn connection_span(
    session: &Session,
    connection: &Connection,
    Cut { part, parent, end, reason }: Cut,
    cause: Option<Cause<'_>>,
    output: &mut impl Output,
) {
    let session_id = SessionIdText::of_session(session);
    let browser = connection.browser.as_deref();
    let texts = Texts::new(connection.client.as_ref());
    let mut attributes = Attributes::new();
    attributes.text(SESSION_ID, session_id.as_str());
    attributes.identity(&session.identity, encoded_by(cause, session));
    attributes.target(&connection.target);
    attributes.client(browser, connection.client.as_ref(), &texts);
    attributes.text(CONNECTION_CLOSE_REASON, reason.as_str());
    attributes.int(CONNECTION_PART, part.number);
    let remote = connection.traceparent.as_deref().map(|foreign| Link {
        context: SpanContext { trace_id: TraceId(foreign.trace_id), span_id: SpanId(foreign.span_id) },
        origin: LinkOrigin::Remote { flags: foreign.flags },
        attributes: &[],
    });
    let previous = part.previous.map(|span_id| local_link(session.trace_id, span_id));
    let both: Vec<Link<'_>> = previous.into_iter().chain(remote).collect();
    let span = Span {
        context: SpanContext { trace_id: session.trace_id, span_id: part.span_id },
        parent: Some(parent),
        name: "qlik.sense.connection",
        kind: SpanKind::Server,
        start: part.start,
        end: end.max(part.start),
        attributes: &attributes.all,
        links: &both,
    };
    output.span_alike(&session.node.resource, &span, attributes.runs());
    if reason != CloseReason::Rollover {
        output.report(Report::ConnectionEnded {
            node: &session.node.name,
            virtual_proxy: connection.target.virtual_proxy.as_deref(),
            reason,
            duration: end.since(connection.open),
        });
    }
}

/// A short child of the session's span that is sent at once, so that the trace can be seen before its root has ended.
fn start_marker(session: &Session, ids: &Ids, cause: Option<Cause<'_>>, output: &mut impl Output) {
    let session_id = SessionIdText::of_session(session);
    let texts = Texts::new(session.client());
    let mut attributes = Attributes::new();
    attributes.text(SESSION_ID, session_id.as_str());
    attributes.identity(&session.identity, encoded_by(cause, session));
    attributes.session(session, &texts);
    attributes.flag(SESSION_START_INFERRED, session.started == Start::Inferred);
    attributes.int(SESSION_SEGMENT, session.segment().number);
    let span_id = ids.start_marker_span(session.trace_id, &session.node.key, session.segment().number);
    let span = Span {
        context: SpanContext { trace_id: session.trace_id, span_id },
        parent: Some(session.context().span_id),
        name: "qlik.sense.session.start",
        kind: SpanKind::Internal,
        start: session.start,
        end: session.start + MARKER,
        attributes: &attributes.all,
        links: &[],
    };
    output.span_alike(&session.node.resource, &span, attributes.runs());
}

/// The attributes of the session's user, encoded, where the event was told of the same one: they are kept for users who
/// were heard of lately, and not with each session.
fn encoded_by<'a>(cause: Option<Cause<'a>>, session: &Session) -> Option<&'a Encoded> {
    cause.filter(|cause| *cause.occurrence.identity == session.identity).map(|cause| cause.identity)
}

const fn local_link(trace_id: TraceId, span_id: SpanId) -> Link<'static> {
    Link { context: SpanContext { trace_id, span_id }, origin: LinkOrigin::Local, attributes: &[] }
}

fn context(placement: Placement<'_>) -> (Option<TraceId>, Option<SpanId>) {
    match placement {
        Placement::Session(session) | Placement::NoConnection(session) | Placement::Failed(Some(session), _) => {
            (Some(session.trace_id), Some(session.context().span_id))
        }
        Placement::Connection(session, connection) => (Some(session.trace_id), Some(connection.part.span_id)),
        Placement::AfterEnd(trace_id, span_id) => (Some(trace_id), Some(span_id)),
        Placement::Unmatched(trace_id) | Placement::Failed(None, trace_id) => (trace_id, None),
    }
}

impl<'a> Attributes<'a> {
    fn identity(&mut self, identity: &'a Identity, encoded: Option<&'a Encoded>) {
        self.told(identity.told(), encoded);
    }

    fn told(&mut self, [user_id, name, directory, hash]: [Option<&'a str>; 4], encoded: Option<&'a Encoded>) {
        let add = |all: &mut Self| {
            all.maybe(USER_ID, user_id);
            all.maybe(USER_NAME, name);
            all.maybe(USER_DIRECTORY, directory);
            all.maybe(USER_HASH, hash);
        };
        match encoded {
            Some(encoded) => self.run(encoded, add),
            None => add(self),
        }
    }

    fn target(&mut self, target: &'a Target) {
        self.run(&target.encoded, |all| {
            all.maybe(APP_ID, target.app_id.as_deref());
            all.maybe(APP_NAME, target.app_name.as_deref());
            all.maybe(URL_PATH, target.path.as_deref());
            all.maybe(EVENT_ORIGIN, target.origin.as_deref());
            all.maybe(VIRTUAL_PROXY_PREFIX, target.virtual_proxy.as_deref());
        });
    }

    fn client(&mut self, browser: Option<&'a Browser>, client: Option<&'a Client>, texts: &'a Texts) {
        match browser {
            Some(Browser::Clear { original, agent, encoded }) => self.run(encoded, |all| {
                all.text(USER_AGENT_ORIGINAL, original);
                all.maybe(USER_AGENT_NAME, agent.name());
                all.maybe(USER_AGENT_VERSION, agent.version());
                all.maybe(USER_AGENT_OS_NAME, agent.os());
            }),
            Some(Browser::Hash(hash)) => self.text(USER_AGENT_HASH, hash),
            None => {}
        }
        match client {
            Some(Client::Address(_)) => self.maybe(CLIENT_ADDRESS, texts.address.as_deref()),
            Some(Client::Hash(hash)) => self.text(CLIENT_HASH, hash),
            None => {}
        }
    }

    /// What a session knows of its user's way in: the first browser, address and virtual proxy that were told.
    fn session(&mut self, session: &'a Session, texts: &'a Texts) {
        self.client(session.browser().map(AsRef::as_ref), session.client(), texts);
        self.maybe(VIRTUAL_PROXY_PREFIX, session.virtual_proxy());
    }
}
