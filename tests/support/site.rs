//! A Sense site in the hand of a test: it writes datagrams as log4net would, turns both clocks, and keeps what comes out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sense_otel::event::Datagram;
use sense_otel::processor::ids::Key;
use sense_otel::processor::{Config, Input, Output, Processor, Report};
use sense_otel::signal::{LinkOrigin, LogRecord, Resource, Severity, Span, SpanId, SpanKind, TraceId, Value};
use sense_otel::time::{Now, RunningTime, Timestamp};

/// 2026-11-23 08:00:00 UTC, where every script begins.
pub const EIGHT: Timestamp = Timestamp::from_nanos(1_795_420_800_000_000_000);

/// An attribute value that outlives its record.
pub type Attributes = BTreeMap<String, String>;

/// A log record that outlives its call.
#[derive(Clone, Debug)]
pub struct KeptLog {
    pub node: String,
    pub event_name: String,
    pub body: String,
    pub time: Timestamp,
    pub observed_time: Timestamp,
    pub warn: bool,
    pub trace_id: Option<TraceId>,
    pub span_id: Option<SpanId>,
    pub attributes: Attributes,
}

/// A span that outlives its call.
#[derive(Clone, Debug)]
pub struct KeptSpan {
    pub node: String,
    pub name: String,
    pub kind: SpanKind,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub attributes: Attributes,
    pub links: Vec<(TraceId, SpanId, LinkOrigin)>,
}

impl KeptSpan {
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }
}

impl KeptLog {
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// Everything that a processor gave out.
#[derive(Debug, Default)]
pub struct Kept {
    pub logs: Vec<KeptLog>,
    pub spans: Vec<KeptSpan>,
    pub accepted: u64,
    pub duplicate: u64,
    pub excluded: u64,
    pub superseded: u64,
    pub rejected: u64,
    pub missing: u64,
    pub restarts: u64,
    pub session_durations: Vec<(&'static str, Duration)>,
    pub connection_durations: Vec<(&'static str, Duration)>,
}

fn kept(attributes: &[sense_otel::signal::Attribute<'_>]) -> Attributes {
    let mut all = Attributes::new();
    for attribute in attributes {
        let text = match attribute.value {
            Value::Text(text) => text.to_owned(),
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Texts(texts) => texts.join("|"),
        };
        let before = all.insert(attribute.key.to_owned(), text);
        assert_eq!(before, None, "attribute {} is there twice", attribute.key);
    }
    all
}

fn node_of(resource: &Resource) -> String {
    let value = |key: &str| resource.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    assert_eq!(value("service.name").as_deref(), Some("qlik-sense-proxy"));
    assert_eq!(value("service.namespace").as_deref(), Some("qlik-sense"));
    assert_eq!(value("service.instance.id"), value("host.name"));
    value("host.name").expect("every resource names its node")
}

impl Output for Kept {
    fn log(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>) {
        self.logs.push(KeptLog {
            node: node_of(resource),
            event_name: record.event_name.to_owned(),
            body: record.body.to_owned(),
            time: record.time,
            observed_time: record.observed_time,
            warn: record.severity == Severity::Warn,
            trace_id: record.trace_id,
            span_id: record.span_id,
            attributes: kept(record.attributes),
        });
    }

    fn span(&mut self, resource: &Arc<Resource>, span: &Span<'_>) {
        assert!(span.end >= span.start, "{} ends before it starts", span.name);
        self.spans.push(KeptSpan {
            node: node_of(resource),
            name: span.name.to_owned(),
            kind: span.kind,
            trace_id: span.context.trace_id,
            span_id: span.context.span_id,
            parent: span.parent,
            start: span.start,
            end: span.end,
            attributes: kept(span.attributes),
            links: span.links.iter().map(|link| (link.context.trace_id, link.context.span_id, link.origin)).collect(),
        });
    }

    fn report(&mut self, report: Report<'_>) {
        match report {
            Report::Accepted { .. } => self.accepted += 1,
            Report::Duplicate => self.duplicate += 1,
            Report::Excluded => self.excluded += 1,
            Report::Superseded => self.superseded += 1,
            Report::Rejected(_) => self.rejected += 1,
            Report::Gap { missing, .. } => self.missing += missing,
            Report::Restarted { .. } => self.restarts += 1,
            Report::SessionEnded { reason, duration, .. } => self.session_durations.push((reason.as_str(), duration)),
            Report::ConnectionEnded { reason, duration, .. } => {
                self.connection_durations.push((reason.as_str(), duration));
            }
        }
    }
}

/// What ids are made with.
pub const KEY: &[u8] = b"a key for tests only";

/// One processor, its two clocks and what it gave out.
pub struct Site {
    pub processor: Processor,
    pub kept: Kept,
    pub now: Now,
    pub sent: u64,
    sequences: BTreeMap<String, u32>,
}

/// An extended datagram in the making. Empty fields are sent as `(null)`, as log4net does.
#[derive(Clone, Debug, Default)]
pub struct Extended {
    pub sequence: Option<u32>,
    pub time: Option<Timestamp>,
    pub node: String,
    pub id: String,
    pub command: &'static str,
    pub result: String,
    pub directory: String,
    pub user: String,
    pub app: String,
    pub app_name: String,
    pub context: String,
    pub message: String,
}

impl Site {
    pub fn new(config: Config) -> Self {
        let processor = Processor::new(config, &Key::new(KEY));
        let now = Now { wall: EIGHT, running: RunningTime::from_nanos(1_000_000_000) };
        Self { processor, kept: Kept::default(), now, sent: 0, sequences: BTreeMap::new() }
    }

    /// Lets both clocks run, stopping at every deadline on the way.
    pub fn pass(&mut self, duration: Duration) {
        let end = Now { wall: self.now.wall + duration, running: self.now.running + duration };
        while let Some(deadline) = self.processor.deadline().filter(|&deadline| deadline <= end.running) {
            let step = deadline.since(self.now.running);
            self.now = Now { wall: self.now.wall + step, running: self.now.running + step };
            self.processor.advance(self.now, &mut self.kept);
        }
        self.now = end;
        self.processor.advance(self.now, &mut self.kept);
    }

    pub fn minutes(&mut self, minutes: u64) {
        self.pass(Duration::from_secs(minutes * 60));
    }

    /// Sends any bytes from an address of their own.
    pub fn bytes(&mut self, bytes: &[u8], port: u16) {
        self.sent += 1;
        self.processor.advance(self.now, &mut self.kept);
        let datagram = Datagram { received: self.now.wall, source: SocketAddr::from(([10, 0, 0, 1], port)), bytes };
        self.processor.handle(self.now, Input::Datagram(datagram), &mut self.kept);
    }

    /// Sends a stock datagram, as Butler SOS's appenders would.
    pub fn stock(&mut self, command: &str, user: &str, app: &str) {
        let (kind, port, phrase) = match command {
            "Start session" => ("session", 50_001, "Start session for user"),
            "Stop session" => ("session", 50_001, "Stop session for user"),
            "Open connection" => ("connection", 50_002, "Proxy connection Opened for session"),
            _ => ("connection", 50_002, "Proxy connection Closed for session"),
        };
        let (origin, context) = match kind {
            "session" => ("Not available", "Not available".to_owned()),
            _ => ("AppAccess", if app.is_empty() { "/hub".to_owned() } else { format!("/app/{app}?reloaduri=x") }),
        };
        // Nothing in a stock datagram tells two events apart but their moment; keep them out of the window for duplicates.
        self.pass(Duration::from_millis(101));
        let text =
            format!("/qseow-proxy-{kind}/;pro2-win1;{command};LAB;{user};{origin};{context};{phrase} '(unknown)'");
        self.bytes(text.as_bytes(), port);
    }

    /// The next extended datagram of a node, not sent yet.
    pub fn extended(&mut self, command: &'static str, user: &str, id: &str, app: &str) -> Extended {
        let node = "pro2-win1".to_owned();
        let sequence = self.sequences.entry(node.clone()).or_insert(0);
        *sequence += 1;
        Extended {
            sequence: Some(*sequence),
            time: Some(self.now.wall),
            node,
            id: id.to_owned(),
            command,
            result: "0".to_owned(),
            directory: "LAB".to_owned(),
            user: user.to_owned(),
            app: app.to_owned(),
            ..Extended::default()
        }
    }

    /// Sends an extended datagram.
    pub fn send(&mut self, datagram: &Extended) {
        let bytes = datagram.render();
        self.bytes(bytes.as_bytes(), 50_003);
    }

    /// The next counter value, as if the proxy had been restarted.
    pub fn restart_counter(&mut self) {
        self.sequences.clear();
    }

    pub fn start(&mut self, user: &str, id: &str) {
        let datagram = self.extended("Start session", user, id, "");
        self.send(&datagram);
    }

    pub fn stop(&mut self, user: &str, id: &str) {
        let datagram = self.extended("Stop session", user, id, "");
        self.send(&datagram);
    }

    pub fn open(&mut self, user: &str, id: &str, app: &str) {
        let datagram = self.extended("Open connection", user, id, app);
        self.send(&datagram);
    }

    pub fn close(&mut self, user: &str, id: &str, app: &str) {
        let datagram = self.extended("Close connection", user, id, app);
        self.send(&datagram);
    }

    pub fn session_spans(&self) -> Vec<&KeptSpan> {
        self.kept.spans.iter().filter(|span| span.name == "qlik.sense.session").collect()
    }

    pub fn connection_spans(&self) -> Vec<&KeptSpan> {
        self.kept.spans.iter().filter(|span| span.name == "qlik.sense.connection").collect()
    }

    pub fn logs(&self, event_name: &str) -> Vec<&KeptLog> {
        self.kept.logs.iter().filter(|log| log.event_name == event_name).collect()
    }

    /// The equation of the core: every datagram is in exactly one place.
    pub fn assert_balanced(&self) {
        let kept = &self.kept;
        let ended = kept.accepted + kept.duplicate + kept.excluded + kept.superseded + kept.rejected;
        assert_eq!(self.sent, ended + self.processor.held() as u64, "{kept:?}");
        // An id that comes again more than a fortnight after its end is a new one to us, and begins at segment 1 again.
        let mut last: BTreeMap<(TraceId, SpanId), Timestamp> = BTreeMap::new();
        for span in &kept.spans {
            let before = last.insert((span.trace_id, span.span_id), span.end);
            let again =
                before.is_none_or(|before| span.start.since(before) >= Duration::from_secs(14 * 24 * 3600 - 120));
            assert!(again, "the id of {} was sent twice", span.name);
        }
    }
}

impl Extended {
    pub fn render(&self) -> String {
        let or_null = |text: &str| if text.is_empty() { "(null)".to_owned() } else { text.to_owned() };
        let sequence = self.sequence.map_or_else(|| "(null)".to_owned(), |sequence| sequence.to_string());
        let time = self.time.map_or_else(|| "(null)".to_owned(), rfc3339);
        let connection = self.command.ends_with("connection");
        let phrase = match self.command {
            "Start session" => "Start session for user",
            "Stop session" => "Stop session for user",
            "Open connection" => "Proxy connection Opened for session",
            _ => "Proxy connection Closed for session",
        };
        let context = match (connection, self.context.is_empty(), self.app.is_empty()) {
            (true, true, false) => format!("/app/{}?reloaduri=x", self.app),
            (true, true, true) => "/hub".to_owned(),
            (_, false, _) => self.context.clone(),
            (false, true, _) => "Not available".to_owned(),
        };
        let origin = if connection { "AppAccess" } else { "Not available" };
        let message = if self.message.is_empty() { format!("{phrase} 'x'") } else { self.message.clone() };
        [
            "/sense-otel/1/",
            &sequence,
            &time,
            &or_null(&self.node),
            &or_null(&self.id),
            self.command,
            &or_null(&self.result),
            &or_null(&self.directory),
            &or_null(&self.user),
            origin,
            "(null)",
            &or_null(&self.app_name),
            &context,
            &message,
        ]
        .join("\t")
    }
}

fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_nanosecond(time.as_nanos().into()).expect("a time of this century");
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A session id as Qlik hashes it.
pub fn c0de(number: u32) -> String {
    format!("c0de0000-0000-4000-8000-0000{number:08x}")
}

/// An app id.
pub fn app(number: u32) -> String {
    format!("a99a0000-0000-4000-8000-0000{number:08x}")
}

/// The trace id of a session whose id Qlik has hashed: the id itself.
pub fn trace_of(id: &str) -> String {
    id.replace('-', "")
}
