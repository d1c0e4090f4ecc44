//! The truth as a file. The simulator's own types are not serialisable: what is written is decided here alone.

use serde::Serialize;

use crate::event::TraceParent;
use crate::simulator::truth::{Connection, Event, Fate, Gap, Session, Truth};
use crate::time::Timestamp;

/// The whole file. Times are whole milliseconds since the Unix epoch; indexes count from 0.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    nodes: &'a [String],
    events: Vec<EventEntry<'a>>,
    sessions: Vec<SessionEntry<'a>>,
    gaps: Vec<GapEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct EventEntry<'a> {
    time: u64,
    node: &'a str,
    sequence: Option<u32>,
    command: &'static str,
    session: usize,
    connection: Option<usize>,
    refused: bool,
    fate: &'static str,
}

#[derive(Debug, Serialize)]
struct SessionEntry<'a> {
    node: &'a str,
    id: &'a str,
    user_directory: &'a str,
    user_name: &'a str,
    user_agent: &'a str,
    virtual_proxy: &'a str,
    client: String,
    start: u64,
    end: Option<u64>,
    connections: Vec<ConnectionEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct ConnectionEntry<'a> {
    app: String,
    app_name: &'a str,
    path: &'a str,
    /// In the form of the W3C header.
    traceparent: Option<String>,
    open: u64,
    close: Option<u64>,
}

#[derive(Debug, Serialize)]
struct GapEntry<'a> {
    node: &'a str,
    first: u32,
    last: u32,
}

impl<'a> Document<'a> {
    pub(super) fn new(truth: &'a Truth) -> Self {
        let node = |index: usize| truth.nodes.get(index).map_or("", String::as_str);
        let gap = |gap: Gap| GapEntry { node: node(gap.node), first: gap.first, last: gap.last };
        Self {
            nodes: &truth.nodes,
            events: truth.events.iter().map(|event| EventEntry::new(node(event.node), event)).collect(),
            sessions: truth.sessions.iter().map(|session| SessionEntry::new(node(session.node), session)).collect(),
            gaps: truth.gaps().into_iter().map(gap).collect(),
        }
    }
}

impl<'a> EventEntry<'a> {
    fn new(node: &'a str, event: &Event) -> Self {
        Self {
            time: millis(event.time),
            node,
            sequence: event.sequence,
            command: event.action.command(),
            session: event.session,
            connection: event.connection,
            refused: event.refused,
            fate: match event.fate {
                Fate::Sent => "sent",
                Fate::Lost => "lost",
                Fate::Duplicated => "duplicated",
                Fate::Delayed => "delayed",
            },
        }
    }
}

impl<'a> SessionEntry<'a> {
    fn new(node: &'a str, session: &'a Session) -> Self {
        Self {
            node,
            id: &session.id,
            user_directory: &session.user_directory,
            user_name: &session.user_name,
            user_agent: session.user_agent,
            virtual_proxy: session.virtual_proxy,
            client: session.client.to_string(),
            start: millis(session.start),
            end: session.end.map(millis),
            connections: session.connections.iter().map(ConnectionEntry::new).collect(),
        }
    }
}

impl<'a> ConnectionEntry<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            app: connection.app.to_string(),
            app_name: connection.app_name,
            path: &connection.path,
            traceparent: connection.traceparent.map(header),
            open: millis(connection.open),
            close: connection.close.map(millis),
        }
    }
}

fn header(parent: TraceParent) -> String {
    let TraceParent { trace_id, span_id, flags } = parent;
    format!("00-{:032x}-{:016x}-{flags:02x}", u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id))
}

fn millis(time: Timestamp) -> u64 {
    time.as_nanos() / 1_000_000
}
