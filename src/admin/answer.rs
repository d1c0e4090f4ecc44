//! What `/api/sessions` answers, and what the page is told: the same sessions in the same words. `docs/live.md` describes
//! each field.
//!
//! Texts are what Qlik Sense said, without control, bidi and invisible characters ([`event`](crate::event) removes them),
//! cut to [`API_TEXT_MAX`] bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::event::text;
use crate::processor::detail::{Browser, Target};
use crate::processor::view::SessionView;
use crate::signal::TraceId;
use crate::time::Timestamp;

use super::picture::Digest;
use super::query::{Found, Query};
use super::{Ended, Happening, Picture};

/// Longest text of an answer, in bytes.
pub const API_TEXT_MAX: usize = 256;

/// An app is open, or something was heard lately.
pub const STATE_ACTIVE: &str = "active";

/// Neither.
pub const STATE_IDLE: &str = "idle";

/// A session without an open app is active for this long after its last event.
const ACTIVE_FOR: Duration = Duration::from_secs(15 * 60);

/// Closed connections that are told of one session, the last ones.
const CLOSED_MAX: usize = 24;

/// The answer of `/api/sessions`.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    at: String,
    open: Open,
    peak: Peak,
    matching: usize,
    sessions: Vec<Session<'a>>,
}

/// What is open, whatever is asked for.
#[derive(Debug, Serialize)]
struct Open {
    sessions: usize,
    connections: usize,
    users: usize,
}

/// The most open sessions of today.
#[derive(Debug, Serialize)]
struct Peak {
    sessions: u64,
    at: String,
    since: String,
}

/// One open session.
#[derive(Debug, Serialize)]
struct Session<'a> {
    id: String,
    trace_id: String,
    user: Cow<'a, str>,
    node: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_proxy: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
    since: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    since_inferred: bool,
    last_event: String,
    state: &'static str,
    connections_opened: u32,
    connections_open: usize,
    apps: Vec<Connection<'a>>,
    closed: Vec<Closed<'a>>,
}

/// One open connection.
#[derive(Debug, Serialize)]
struct Connection<'a> {
    app: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<&'a str>,
    since: String,
}

/// One connection that was closed lately.
#[derive(Debug, Serialize)]
struct Closed<'a> {
    app: &'a str,
    since: String,
    until: String,
}

/// One event.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    number: u64,
    time: String,
    name: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
}

impl<'a> Answer<'a> {
    pub(super) fn new(picture: &'a Picture, query: &Query) -> Self {
        let Found { matching, sessions } = query.find(picture);
        let Digest { users, connections, .. } = picture.digest();
        let ended = picture.ended_by_trace();
        Self {
            at: rfc3339(picture.at),
            open: Open { sessions: picture.sessions.len(), connections: *connections, users: *users },
            peak: Peak {
                sessions: picture.day.peak.0,
                at: rfc3339(picture.day.peak.1),
                since: rfc3339(picture.day.since),
            },
            matching,
            sessions: sessions.into_iter().map(|session| Session::new(session, picture.at, &ended)).collect(),
        }
    }
}

impl<'a> Session<'a> {
    fn new(view: &'a SessionView, at: Timestamp, ended: &HashMap<TraceId, Vec<&'a Ended>>) -> Self {
        let is_active = view.connections_open > 0 || at.since(view.last_activity) <= ACTIVE_FOR;
        let closed = ended.get(&view.trace_id).map_or(&[][..], Vec::as_slice);
        // The trace may be that of an earlier session with the same id, and of other segments.
        let closed = closed.iter().rev().filter(|ended| ended.end >= view.start).take(CLOSED_MAX);
        let mut closed: Vec<Closed<'a>> = closed.map(|ended| Closed::new(ended)).collect();
        closed.reverse();
        Self {
            id: view.span_id.to_string(),
            trace_id: view.trace_id.to_string(),
            user: short(view.identity.label()),
            node: short(&view.node.name),
            virtual_proxy: view.virtual_proxy().map(short),
            browser: view.browser.as_deref().and_then(browser),
            since: rfc3339(view.start),
            since_inferred: view.is_start_inferred,
            last_event: rfc3339(view.last_activity),
            state: if is_active { STATE_ACTIVE } else { STATE_IDLE },
            connections_opened: view.connections_opened,
            connections_open: view.connections_open,
            apps: view
                .connections
                .iter()
                .map(|connection| Connection::new(&connection.target, connection.open))
                .collect(),
            closed,
        }
    }
}

impl<'a> Connection<'a> {
    fn new(target: &'a Target, open: Timestamp) -> Self {
        let app = [&target.app_name, &target.app_id, &target.path].into_iter().flatten().next().map_or("", |app| app);
        Self { app: short(app), app_id: target.app_id.as_deref(), since: rfc3339(open) }
    }
}

impl<'a> Closed<'a> {
    fn new(ended: &'a Ended) -> Self {
        Self { app: &ended.app, since: rfc3339(ended.start), until: rfc3339(ended.end) }
    }
}

impl<'a> Event<'a> {
    pub(super) fn new(happening: &'a Happening) -> Self {
        Self {
            number: happening.number,
            time: rfc3339(happening.time),
            name: &happening.name,
            text: &happening.body,
            warning: happening.is_warning,
        }
    }
}

/// `Chrome 126, Windows`
fn browser(browser: &Browser) -> Option<String> {
    let Browser::Clear { agent, .. } = browser else { return None };
    let name = match (agent.name(), agent.major_version()) {
        (Some(name), Some(version)) => Some(format!("{name} {version}")),
        (name, _) => name.map(str::to_owned),
    };
    let said: Vec<String> = name.into_iter().chain(agent.os().map(str::to_owned)).collect();
    (!said.is_empty()).then(|| short(&said.join(", ")).into_owned())
}

fn short(text: &str) -> Cow<'_, str> {
    text::cut(text, API_TEXT_MAX)
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(time.as_nanos().into()).map(|time| format!("{time:.3}")).unwrap_or_default()
}
