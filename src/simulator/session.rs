//! One session under way: its next step, the datagram of a step, and its entries in the truth.

use std::net::IpAddr;

use fastrand::Rng;

use super::plan::{Plan, Step};
use super::site::{Identity, Site, hashed_guid, random_guid};
use super::truth::{self, Event, Fate, Truth};
use super::wire::{Record, encode_extended, encode_stock};
use super::{Habits, chance};
use crate::event::{Action, Format, TraceParent};
use crate::time::Timestamp;

/// What Qlik writes where a field does not apply.
const NOT_AVAILABLE: &str = "Not available";

/// A session between its first and its last step.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: usize,
    id: String,
    directory: String,
    name: String,
    user_agent: &'static str,
    virtual_proxy: &'static str,
    client: IpAddr,
    /// As Qlik writes addresses: an IPv4 address in its IPv6-mapped form.
    client_text: String,
    start: u64,
    plan: Plan,
    /// Index into the plan's steps.
    next: usize,
    /// The URL of each connection, and what was passed on in it.
    contexts: Vec<(String, Option<TraceParent>)>,
    /// Index in the truth, once started.
    index: usize,
    /// For each connection of the plan its index in the truth, once open: a reload may open before it closes.
    opened: Vec<usize>,
}

impl Session {
    /// `None` if there is no such user.
    pub(super) fn new(
        rng: &mut Rng,
        site: &Site,
        user: usize,
        node: Option<usize>,
        start: u64,
        plan: Plan,
        habits: &Habits,
    ) -> Option<Self> {
        let user = site.users.get(user)?;
        let (directory, name) = match &user.identity {
            Identity::Named { directory, name } => ((*directory).to_owned(), name.clone()),
            Identity::Anonymous => ("NONE".to_owned(), format!("anonymous{}", random_guid(rng))),
        };
        let node = node.unwrap_or(user.node);
        let host = site.nodes.get(node).map_or("", String::as_str);
        let app = |number: &usize| site.apps.get(*number).map_or("", |app| &app.id_text);
        let contexts =
            plan.apps.iter().map(|number| context(rng, host, user.virtual_proxy, app(number), habits.traced)).collect();
        Some(Self {
            node,
            id: session_id(rng),
            directory,
            name,
            user_agent: user.user_agent,
            virtual_proxy: user.virtual_proxy,
            client: user.client,
            client_text: match user.client {
                IpAddr::V4(v4) => format!("::ffff:{v4}"),
                IpAddr::V6(v6) => v6.to_string(),
            },
            start,
            opened: vec![0; plan.apps.len()],
            plan,
            next: 0,
            contexts,
            index: 0,
        })
    }

    /// The step that is due, and when the one after it is, if there is one. `None` after the last.
    pub(super) fn advance(&mut self) -> Option<(Step, Option<u64>)> {
        let (_, step) = *self.plan.steps.get(self.next)?;
        self.next += 1;
        let after = self.plan.steps.get(self.next).map(|(after, _)| self.start + after);
        Some((step, after))
    }

    pub(super) fn datagram(&self, site: &Site, step: Step, format: Format, sequence: u32, time: Timestamp) -> Vec<u8> {
        let message = self.message(step);
        let app = self.app(step).and_then(|number| site.apps.get(number));
        let refused_context;
        let context = match step {
            Step::Start | Step::Stop => NOT_AVAILABLE,
            Step::Open(connection) | Step::Close(connection) => {
                self.contexts.get(connection).map_or("", |(url, _)| url)
            }
            Step::Refused(_) => {
                refused_context = format!("/app/{}", app.map_or("", |app| &app.id_text));
                &refused_context
            }
        };
        let is_connection = app.is_some();
        let record = Record {
            host: site.nodes.get(self.node).map_or("", String::as_str),
            session_id: Some(&self.id),
            command: Some(action(step).command()),
            result: Some(if matches!(step, Step::Refused(_)) { "403" } else { "0" }),
            user_directory: Some(&self.directory),
            user_id: Some(&self.name),
            origin: Some(if is_connection { "AppAccess" } else { NOT_AVAILABLE }),
            object_id: Some(app.map_or("0", |app| &app.id_text)),
            object_name: Some(app.map_or(NOT_AVAILABLE, |app| app.name)),
            context: Some(context),
            message: &message,
        };
        match format {
            Format::Stock => encode_stock(&record),
            Format::Extended => encode_extended(&record, sequence, time),
        }
    }

    /// Writes a step into the truth.
    pub(super) fn record(
        &mut self,
        truth: &mut Truth,
        site: &Site,
        step: Step,
        time: Timestamp,
        sequence: Option<u32>,
        fate: Fate,
    ) {
        if step == Step::Start {
            self.index = truth.sessions.len();
            truth.sessions.push(self.truth(time));
        }
        let Some(session) = truth.sessions.get_mut(self.index) else { return };
        let connection = match step {
            Step::Start | Step::Refused(_) => None,
            Step::Stop => {
                session.end = Some(time);
                None
            }
            Step::Open(connection) => {
                let index = session.connections.len();
                session.connections.extend(self.open(site, connection, time));
                if let Some(opened) = self.opened.get_mut(connection) {
                    *opened = index;
                }
                Some(index)
            }
            Step::Close(connection) => {
                let index = self.opened.get(connection).copied();
                if let Some(closed) = index.and_then(|index| session.connections.get_mut(index)) {
                    closed.close = Some(time);
                }
                index
            }
        };
        let (node, session, refused) = (self.node, self.index, matches!(step, Step::Refused(_)));
        truth.events.push(Event { time, node, sequence, action: action(step), session, connection, refused, fate });
    }

    fn truth(&self, start: Timestamp) -> truth::Session {
        truth::Session {
            node: self.node,
            id: self.id.clone(),
            user_directory: self.directory.clone(),
            user_name: self.name.clone(),
            user_agent: self.user_agent,
            virtual_proxy: self.virtual_proxy,
            client: self.client,
            start,
            end: None,
            connections: Vec::new(),
        }
    }

    fn open(&self, site: &Site, connection: usize, open: Timestamp) -> Option<truth::Connection> {
        let (url, traceparent) = self.contexts.get(connection)?;
        let app = site.apps.get(*self.plan.apps.get(connection)?)?;
        let path = url.split('?').next().unwrap_or_default().to_owned();
        Some(truth::Connection { app: app.id, app_name: app.name, path, traceparent: *traceparent, open, close: None })
    }

    fn app(&self, step: Step) -> Option<usize> {
        match step {
            Step::Start | Step::Stop => None,
            Step::Open(connection) | Step::Close(connection) => self.plan.apps.get(connection).copied(),
            Step::Refused(app) => Some(app),
        }
    }

    fn message(&self, step: Step) -> String {
        let (id, client, agent) = (self.id.as_str(), self.client_text.as_str(), self.user_agent);
        let (directory, name) = (self.directory.as_str(), self.name.as_str());
        match step {
            Step::Start => ["Start session for user ", directory, "\\", name].concat(),
            Step::Stop => ["Stop session for user ", directory, "\\", name].concat(),
            Step::Open(_) => {
                ["Proxy connection Opened for session '", id, "' from '", client, "'. UserAgent: '", agent, "'"]
                    .concat()
            }
            Step::Close(_) => {
                ["Proxy connection Closed for session '", id, "' from '", client, "'. UserAgent: '", agent, "'"]
                    .concat()
            }
            Step::Refused(_) => {
                ["Proxy connection Opened for session '", id, "' was refused. UserAgent: '", agent, "'"].concat()
            }
        }
    }
}

fn action(step: Step) -> Action {
    match step {
        Step::Start => Action::SessionStart,
        Step::Stop => Action::SessionStop,
        Step::Open(_) | Step::Refused(_) => Action::ConnectionOpen,
        Step::Close(_) => Action::ConnectionClose,
    }
}

/// Mostly Qlik's hash; now and then an older release's plain GUID, or an id of a module that makes its own.
fn session_id(rng: &mut Rng) -> String {
    match rng.u32(..100) {
        0..=2 => random_guid(rng).to_string(),
        3..=5 => (0..24).map(|_| rng.alphanumeric()).collect(),
        _ => hashed_guid(rng).to_string(),
    }
}

/// The URL that a browser connects to, in the shapes that are known from real sites.
fn context(rng: &mut Rng, host: &str, prefix: &str, app: &str, traced: f64) -> (String, Option<TraceParent>) {
    let slash_prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    if chance(rng, traced) {
        let parent = random_traceparent(rng);
        let [trace, span] = [hex(&parent.trace_id), hex(&parent.span_id)];
        let page = format!("https://{host}{slash_prefix}/extensions/portal/portal.html");
        let url =
            format!("{slash_prefix}/app/{app}?reloaduri={page}&traceparent=00-{trace}-{span}-{:02x}", parent.flags);
        return (url, Some(parent));
    }
    let url = match rng.u32(..100) {
        0..=9 => format!(
            "{slash_prefix}/app/{app}?reloaduri=https%3a%2f%2f{host}{}%2fsingle%2f%3fappid%3d{app}%26sheet%3dlchbs",
            slash_prefix.replace('/', "%2f")
        ),
        10..=13 => format!("{slash_prefix}/app/{app}/identity/{}/ttl/60?reloaduri=https://{host}/", rng.u32(1_000..)),
        _ => format!("{slash_prefix}/app/{app}?reloaduri=https://{host}{slash_prefix}/sense/app/{app}"),
    };
    (url, None)
}

fn random_traceparent(rng: &mut Rng) -> TraceParent {
    // One bit is set, because neither id may be all zero.
    let trace_id = (rng.u128(..) | 1).to_be_bytes();
    let span_id = (rng.u64(..) | 1).to_be_bytes();
    TraceParent { trace_id, span_id, flags: 1 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
