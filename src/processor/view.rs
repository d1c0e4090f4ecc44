//! Open sessions as they look to a person, and what a signal says of who and what.
//!
//! A view is a copy that shares what many sessions say alike, so that it can be shown elsewhere while the core goes on. It
//! holds what may be sent and no more: privacy was applied before a session came to know anything.

use std::sync::Arc;

use crate::signal::{Attribute, Resource, SpanId, TraceId, Value};
use crate::time::Timestamp;

use super::Processor;
use super::detail::{Browser, Target};
use super::filter::Identity;
use super::mapping::{APP_ID, APP_NAME, URL_PATH, USER_HASH, USER_ID};
use super::node::Node;
use super::session::{Connection, Session, Start};

/// How many connections of one session are shown.
pub const CONNECTIONS_SHOWN_MAX: usize = 32;

/// One open session.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The proxy node that it lives on.
    pub node: Arc<Node>,
    /// Who it belongs to.
    pub identity: Arc<Identity>,
    /// The trace of its spans.
    pub trace_id: TraceId,
    /// Its current span: tells open sessions apart.
    pub span_id: SpanId,
    /// When it began.
    pub start: Timestamp,
    /// Whether its Start was not seen.
    pub is_start_inferred: bool,
    /// Its latest event.
    pub last_activity: Timestamp,
    /// The first browser seen.
    pub browser: Option<Arc<Browser>>,
    /// The first target seen with a virtual proxy, which it tells.
    pub target: Option<Arc<Target>>,
    /// How many connections were ever opened.
    pub connections_opened: u32,
    /// How many connections are open.
    pub connections_open: usize,
    /// Those of them that are shown: the oldest [`CONNECTIONS_SHOWN_MAX`].
    pub connections: Vec<ConnectionView>,
}

/// One open connection.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// When it was opened.
    pub open: Timestamp,
    /// What was opened.
    pub target: Arc<Target>,
}

/// Who and what a signal is about, in the words that are sent. All of it may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// The proxy node.
    pub node: &'a str,
    /// The user, or what stands for one.
    pub user: &'a str,
    /// The app's name, else its id, else the path.
    pub app: &'a str,
}

impl Processor {
    /// Adds to `views` the open sessions in the next `places` places from this one on. Tells where to go on, if that was
    /// not all. A session that begins or ends during the walk may be met or not.
    #[must_use]
    pub fn view(&self, from: u32, places: u32, views: &mut Vec<SessionView>) -> Option<u32> {
        let (met, next) = self.flow.tracker.walk(from, places);
        views.extend(met.map(SessionView::of));
        next
    }
}

impl SessionView {
    fn of(session: &Session) -> Self {
        Self {
            node: Arc::clone(&session.node),
            identity: Arc::clone(&session.identity),
            trace_id: session.trace_id,
            span_id: session.context().span_id,
            start: session.start,
            is_start_inferred: session.started == Start::Inferred,
            last_activity: session.last_activity(),
            browser: session.browser().cloned(),
            target: session.target().cloned(),
            connections_opened: session.connections_opened,
            connections_open: session.connections().len(),
            connections: session.connections().iter().take(CONNECTIONS_SHOWN_MAX).map(ConnectionView::of).collect(),
        }
    }

    /// The prefix of the virtual proxy, if it was told.
    #[must_use]
    pub fn virtual_proxy(&self) -> Option<&str> {
        self.target.as_ref()?.virtual_proxy.as_deref()
    }
}

impl ConnectionView {
    fn of(connection: &Connection) -> Self {
        Self { open: connection.open, target: Arc::clone(&connection.target) }
    }
}

/// What a signal with this resource and these attributes is about.
#[must_use]
pub fn told<'a>(resource: &'a Resource, attributes: &[Attribute<'a>]) -> Told<'a> {
    let node = resource.attributes.iter().find(|(key, _)| key == "host.name").map_or("", |(_, value)| value.as_str());
    let mut told = Told { node, ..Told::default() };
    let (mut id, mut path) = ("", "");
    for attribute in attributes {
        let Value::Text(text) = attribute.value else { continue };
        match attribute.key {
            USER_ID | USER_HASH => told.user = text,
            APP_NAME => told.app = text,
            APP_ID => id = text,
            URL_PATH => path = text,
            _ => {}
        }
    }
    if told.app.is_empty() {
        told.app = if id.is_empty() { path } else { id };
    }
    told
}
