//! What the simulator says that really happened: the file that `sense-otel simulate --truth` writes.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

/// Everything that a simulated site did. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    /// Host names of the proxy nodes.
    pub(crate) nodes: Vec<String>,
    /// Every event in the order in which it happened. Without faults on the way each was sent exactly once.
    pub(crate) events: Vec<Event>,
    /// Every session in the order in which it started.
    pub(crate) sessions: Vec<Session>,
}

/// One log event of a proxy node.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) time: u64,
    #[serde(rename = "command")]
    pub(crate) action: Action,
    /// Index into the sessions.
    pub(crate) session: usize,
    /// Index into the session's connections; `None` for session events and for a refused connection.
    pub(crate) connection: Option<usize>,
    /// An opening with a Result other than 0, which changes nothing.
    pub(crate) refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum Action {
    #[serde(rename = "Start session")]
    SessionStart,
    #[serde(rename = "Open connection")]
    ConnectionOpen,
    #[serde(rename = "Close connection")]
    ConnectionClose,
    #[serde(rename = "Stop session")]
    SessionStop,
}

/// One proxy session.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Session {
    pub(crate) node: String,
    /// As it stands in the datagrams.
    pub(crate) id: String,
    pub(crate) user_directory: String,
    pub(crate) user_name: String,
    pub(crate) user_agent: String,
    /// Prefix of the virtual proxy, empty for the default one.
    pub(crate) virtual_proxy: String,
    pub(crate) client: String,
    /// When its Stop was sent, if it was.
    pub(crate) end: Option<u64>,
    pub(crate) connections: Vec<Connection>,
}

/// One connection to an app.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Connection {
    pub(crate) app: String,
    pub(crate) app_name: String,
    pub(crate) path: String,
    /// The trace context of a mashup that is traced itself, in the form of the W3C header.
    pub(crate) traceparent: Option<String>,
    /// When its Close was sent, if it was.
    pub(crate) close: Option<u64>,
}

impl Truth {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_reader(BufReader::new(file))?)
    }

    /// The same without a user whom the receiver was told to leave out.
    pub(crate) fn without(mut self, user_id: &str) -> Self {
        let mut places = Vec::new();
        let mut kept = 0;
        self.sessions.retain(|session| {
            let stays = session.user_id() != user_id;
            places.push(stays.then_some(kept));
            kept += usize::from(stays);
            stays
        });
        self.events.retain_mut(|event| {
            let place = places[event.session];
            event.session = place.unwrap_or_default();
            place.is_some()
        });
        self
    }

    /// Whether an event repeats an earlier one so soon that the stock format, which has no counter, must take it for the
    /// same datagram come twice. A simulation at a pace that no site has may do that, and its truth cannot be found then.
    pub(crate) fn has_repetitions(&self) -> bool {
        const SOON: u64 = 150;
        let mut last = HashMap::new();
        self.events.iter().any(|event| {
            let session = &self.sessions[event.session];
            let app = event.connection.map(|number| &session.connections[number].app);
            let before = last.insert((&session.node, session.user_id(), event.action, app), event.time);
            before.is_some_and(|before| event.time - before < SOON)
        })
    }
}

impl Event {
    /// Its time in nanoseconds since the Unix epoch, as OTLP has it.
    pub(crate) fn nanos(&self) -> u64 {
        self.time * 1_000_000
    }
}

impl Action {
    /// The event name in telemetry.
    pub(crate) fn event_name(self) -> &'static str {
        match self {
            Self::SessionStart => "session.start",
            Self::ConnectionOpen => "qlik.sense.connection.open",
            Self::ConnectionClose => "qlik.sense.connection.close",
            Self::SessionStop => "session.end",
        }
    }
}

impl Session {
    /// The `user.id` in telemetry.
    pub(crate) fn user_id(&self) -> String {
        format!("{}\\{}", self.user_directory, self.user_name)
    }
}
