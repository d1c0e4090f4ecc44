//! What a collector got, with repetitions counted and taken out, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sense_otel::event::{Action, Guid, SessionId};
use sense_otel::processor::ids::{Ids, Key};
use sense_otel::signal::Signal;
use sense_otel::simulator::truth::{Event, Truth};

use crate::KEY;
use crate::support::collector::{Collector, Received};

/// What says which event a record is of: node, event, trace of its session, time in nanoseconds.
type EventKey = (String, String, String, u64);

/// Everything that arrived, each once.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// How many records there are of an event.
    pub(crate) events: HashMap<EventKey, u64>,
    /// First and last number of each gap, by node.
    pub(crate) gaps: BTreeMap<String, Vec<(u32, u32)>>,
    /// By trace and span id.
    pub(crate) spans: HashMap<(Vec<u8>, Vec<u8>), Span>,
    /// Hashes of the records.
    seen: HashSet<u64>,
    /// Items that arrived once more, with the same bytes.
    pub(crate) repeated: u64,
    /// Spans that arrived under an id that another one had.
    pub(crate) contradictions: u64,
}

impl Delivered {
    /// What `collector` has taken so far.
    pub(crate) fn read(collector: &Collector) -> Self {
        let mut delivered = Self::default();
        for call in collector.received().iter().filter(|call| call.accepted) {
            delivered.add(call);
        }
        delivered
    }

    /// Takes in what came with a call.
    pub(crate) fn add(&mut self, call: &Received) {
        match call.signal {
            Signal::Logs => {
                let request = ExportLogsServiceRequest::decode(call.body.clone()).expect("a request");
                for resource in request.resource_logs {
                    let node = node_of(resource.resource.as_ref());
                    let records = resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                    records.for_each(|record| self.add_record(&node, record));
                }
            }
            Signal::Traces => {
                let request = ExportTraceServiceRequest::decode(call.body.clone()).expect("a request");
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                scopes.flat_map(|scope| scope.spans).for_each(|span| self.add_span(span));
            }
            Signal::Metrics => {}
        }
    }

    fn add_record(&mut self, node: &str, record: LogRecord) {
        let mut hasher = DefaultHasher::new();
        (node, record.encode_to_vec()).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.repeated += 1;
        } else if record.event_name == "qlik.sense.receiver.gap" {
            self.gaps.entry(node.to_owned()).or_default().push(gap(&record));
        } else {
            let session = text(&record.attributes, "session.id").replace('-', "");
            let key = (node.to_owned(), record.event_name, session, record.time_unix_nano);
            *self.events.entry(key).or_default() += 1;
        }
    }

    fn add_span(&mut self, span: Span) {
        let id = (span.trace_id.clone(), span.span_id.clone());
        match self.spans.get(&id) {
            Some(known) if *known == span => self.repeated += 1,
            Some(_) => self.contradictions += 1,
            None => drop(self.spans.insert(id, span)),
        }
    }

    /// Records of events, each once.
    pub(crate) fn records(&self) -> u64 {
        self.events.values().sum()
    }

    /// Records and spans, each once.
    pub(crate) fn items(&self) -> u64 {
        let gaps: usize = self.gaps.values().map(Vec::len).sum();
        self.records() + (gaps + self.spans.len()) as u64
    }

    /// Events that the gaps say are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.gaps.values().flatten().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Every way in which this is not what happened.
    pub(crate) fn faults(&self, truth: &Truth) -> Vec<String> {
        let mut faults = Vec::new();
        if self.contradictions > 0 {
            faults.push(format!("{} spans have the id of another one", self.contradictions));
        }
        let known = Known::of(self, truth, &mut faults);
        self.events_against(truth, &known, &mut faults);
        self.spans_against(truth, &known, &mut faults);
        faults
    }

    /// An event is delivered once, or it is in a gap.
    fn events_against(&self, truth: &Truth, known: &Known, faults: &mut Vec<String>) {
        let mut expected: HashMap<EventKey, u64> = HashMap::new();
        for event in truth.events.iter().filter(|event| known.is_delivered(event)) {
            let node = truth.nodes[event.node].clone();
            let session = trace_of(&node, &truth.sessions[event.session].id);
            let name = event.action.event_name().to_owned();
            *expected.entry((node, name, session, event.time.as_nanos())).or_default() += 1;
        }
        for (key, count) in &expected {
            let found = self.events.get(key).copied().unwrap_or_default();
            if found != *count {
                faults.push(format!("{key:?}: {found} records, {count} events and no gap"));
            }
        }
        let unexpected = self.events.keys().filter(|key| !expected.contains_key(*key));
        faults.extend(unexpected.map(|key| format!("{key:?}: a record of what is said to be missing")));
    }

    /// A session whose Start and Stop came is one span with these times; one whose Stop did not come is none. The same
    /// holds for its connections.
    fn spans_against(&self, truth: &Truth, known: &Known, faults: &mut Vec<String>) {
        let mut by_trace: HashMap<String, Vec<&Span>> = HashMap::new();
        for span in self.spans.values() {
            by_trace.entry(hex(&span.trace_id)).or_default().push(span);
        }
        for (index, session) in truth.sessions.iter().enumerate() {
            let Some(told) = known.sessions.get(&index) else { continue };
            let trace = trace_of(&truth.nodes[session.node], &session.id);
            let spans = by_trace.get(&trace).map(Vec::as_slice).unwrap_or_default();
            let named = |name: &str| spans.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
            let sessions = named("qlik.sense.session");
            let times = (session.start.as_nanos(), session.end.map_or(0, |end| end.as_nanos()));
            match (told.started, told.stopped, sessions.as_slice()) {
                (true, true, [span]) if (span.start_time_unix_nano, span.end_time_unix_nano) == times => {}
                (false, true, [_] | []) | (_, false, []) => {}
                (_, _, found) => faults.push(format!("session {}: {told:?}, spans {found:?}", session.id)),
            }
            let connections = named("qlik.sense.connection");
            for (place, connection) in session.connections.iter().enumerate() {
                let (opened, closed) =
                    (told.opened.contains(&place), told.closed.contains(&place) && told.started && told.stopped);
                let times = (connection.open.as_nanos(), connection.close.map_or(0, |close| close.as_nanos()));
                let found = connections.iter().any(|span| {
                    let parent = sessions.first().map(|session| &session.span_id);
                    (span.start_time_unix_nano, span.end_time_unix_nano) == times
                        && Some(&span.parent_span_id) == parent
                });
                // A tab that was reloaded may close in the other's place, where they are of one app; times then cross.
                let twins = session.connections.iter().filter(|other| other.app == connection.app).count();
                if opened && closed && twins == 1 && !found {
                    faults.push(format!("session {}: no span of connection {place}, {connection:?}", session.id));
                }
            }
            if connections.len() > session.connections.len() {
                faults.push(format!("session {}: {} connection spans", session.id, connections.len()));
            }
        }
    }
}

/// What can have become known of the truth.
struct Known {
    /// Numbers between the first and the last one that was heard, without those in gaps, by node.
    heard: Vec<BTreeSet<u32>>,
    sessions: HashMap<usize, Told>,
}

/// What came of one session.
#[derive(Debug, Default)]
struct Told {
    started: bool,
    stopped: bool,
    opened: HashSet<usize>,
    closed: HashSet<usize>,
}

impl Known {
    fn of(delivered: &Delivered, truth: &Truth, faults: &mut Vec<String>) -> Self {
        let mut heard = vec![BTreeSet::new(); truth.nodes.len()];
        for event in &truth.events {
            heard[event.node].insert(event.sequence.expect("the extended format"));
        }
        for (node, gaps) in &delivered.gaps {
            let place = truth.nodes.iter().position(|name| name == node).expect("a node of the site");
            for number in gaps.iter().flat_map(|(first, last)| *first..=*last) {
                if !heard[place].remove(&number) {
                    faults.push(format!("{node}: {number} is in two gaps, or never was"));
                }
            }
        }
        let mut known = Self { heard, sessions: HashMap::new() };
        for event in &truth.events {
            let told = known.is_delivered(event);
            let session = known.sessions.entry(event.session).or_default();
            if told && !event.refused {
                match (event.action, event.connection) {
                    (Action::SessionStart, _) => session.started = true,
                    (Action::SessionStop, _) => session.stopped = true,
                    (Action::ConnectionOpen, Some(place)) => drop(session.opened.insert(place)),
                    (Action::ConnectionClose, Some(place)) => drop(session.closed.insert(place)),
                    _ => {}
                }
            }
        }
        known
    }

    fn is_delivered(&self, event: &Event) -> bool {
        event.sequence.is_some_and(|sequence| self.heard[event.node].contains(&sequence))
    }
}

/// The trace of a session, whether Qlik has hashed its id or we have to.
fn trace_of(node: &str, session: &str) -> String {
    let id = Guid::parse(session.as_bytes()).map_or_else(|| SessionId::Opaque(session.into()), SessionId::Guid);
    hex(&Ids::new(&Key::new(KEY.as_bytes())).session_key(&node.to_lowercase(), &id).trace_id().0)
}

fn node_of(resource: Option<&Resource>) -> String {
    text(&resource.expect("a resource").attributes, "host.name")
}

/// The first and the last number of the events that a gap says are missing.
fn gap(record: &LogRecord) -> (u32, u32) {
    let bound = |key| number(&record.attributes, key);
    (bound("qlik.sense.receiver.gap.first"), bound("qlik.sense.receiver.gap.last"))
}

/// How many events a gap says are missing.
pub(crate) fn missing(record: &LogRecord) -> u64 {
    let (first, last) = gap(record);
    u64::from(last - first) + 1
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn number(attributes: &[KeyValue], key: &str) -> u32 {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::IntValue(number)) => u32::try_from(*number).expect("a sequence number"),
        other => panic!("{key}: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
