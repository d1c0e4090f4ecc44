//! Holds what a collector received against what really happened, and says everything that is wrong.
//!
//! Every event must be there as exactly one log record, every ended session and connection as exactly one span, and
//! nothing besides. Records are found by what they say (node, user, event, app and, where the wire carries them, time
//! and session id); everything else about them, and every span, is then compared.

use std::collections::{BTreeMap, HashMap};

use crate::received::{Attributes, Received, Record, Row, Span, Value};
use crate::truth::{Action, Connection, Event, Session, Truth};

mod metrics;
mod shape;
#[cfg(test)]
mod tests;

pub(crate) use metrics::{datagrams, items, total};

/// How the datagrams were written, and so what can be known from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// No time and no session id: a record's time is the time of its arrival, which lies between these two.
    Stock { earliest: u64, latest: u64 },
    /// Times and ids are exact.
    Extended,
}

/// Every fault found, each as one line. Empty when all is well.
pub(crate) fn check(truth: &Truth, format: Format, received: &Received) -> Vec<String> {
    let mut faults = Vec::new();
    shape::check(received, &mut faults);
    let spans = received.spans.iter().map(|span| (span.item.span_id.as_str(), span)).collect();
    let mut checker = Checker { truth, format, spans, faults };
    let records = checker.assign(&received.records);
    checker.traces(&records);
    for (index, session) in truth.sessions.iter().enumerate() {
        checker.session(index, session, &records);
    }
    let unexplained = checker.spans;
    let mut faults = checker.faults;
    faults.extend(unexplained.values().map(|span| format!("nothing ended that span {} tells of", describe(span))));
    metrics::check(truth, received, &mut faults);
    faults
}

/// For each event of the truth its record, where there is exactly one.
type Assigned<'a> = Vec<Option<&'a Row<Record>>>;

struct Checker<'a> {
    truth: &'a Truth,
    format: Format,
    /// By id; each is taken out when the truth explains it.
    spans: HashMap<&'a str, &'a Row<Span>>,
    faults: Vec<String>,
}

/// What a record is known by. Equal ones are told apart by their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    node: String,
    user: String,
    event: String,
    /// The truth does not say which app was refused.
    app: Option<String>,
    refused: bool,
    /// Where the wire carries it.
    time: Option<u64>,
    /// Where the wire carries it and it is exported as it is.
    session: Option<String>,
}

impl<'a> Checker<'a> {
    fn assign(&mut self, records: &'a [Row<Record>]) -> Assigned<'a> {
        let mut found: BTreeMap<Key, Vec<&'a Row<Record>>> = BTreeMap::new();
        for record in records {
            found.entry(self.key_of_record(record)).or_default().push(record);
        }
        let mut expected: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (index, event) in self.truth.events.iter().enumerate() {
            expected.entry(self.key_of_event(event)).or_default().push(index);
        }
        let mut assigned = vec![None; self.truth.events.len()];
        for (key, events) in expected {
            let mut records = found.remove(&key).unwrap_or_default();
            if records.len() != events.len() {
                self.fault(format!("{} records instead of {} of {key:?}", records.len(), events.len()));
                continue;
            }
            // Stable: records of one time keep their order of arrival, which is the order of the events.
            records.sort_by_key(|record| record.item.time);
            for (event, record) in events.into_iter().zip(records) {
                assigned[event] = Some(record);
            }
        }
        for (key, records) in found {
            self.fault(format!("{} records that no event explains of {key:?}", records.len()));
        }
        assigned
    }

    fn key_of_record(&self, record: &Row<Record>) -> Key {
        let Record { time, event_name, attributes, .. } = &record.item;
        let is_extended = self.format == Format::Extended;
        let text = |key| text(attributes, key).map(str::to_owned);
        let refused = attributes.contains_key("qlik.sense.event.result");
        Key {
            node: node(record),
            user: text("user.id").unwrap_or_default(),
            event: event_name.clone(),
            app: text("qlik.sense.app.id").filter(|_| !refused),
            refused,
            time: is_extended.then_some(*time),
            session: text("session.id").filter(|id| is_extended && is_hashed_by_qlik(id)),
        }
    }

    fn key_of_event(&self, event: &Event) -> Key {
        let session = &self.truth.sessions[event.session];
        let is_extended = self.format == Format::Extended;
        Key {
            node: session.node.clone(),
            user: session.user_id(),
            event: event.action.event_name().to_owned(),
            app: event.connection.map(|number| session.connections[number].app.clone()),
            refused: event.refused,
            time: is_extended.then_some(event.nanos()),
            session: Some(session.id.clone()).filter(|id| is_extended && is_hashed_by_qlik(id)),
        }
    }

    /// One session, one trace: no two share one, and Qlik's own hash is the trace id.
    fn traces(&mut self, records: &Assigned<'_>) {
        let mut sessions: HashMap<&str, usize> = HashMap::new();
        for (event, record) in self.truth.events.iter().zip(records) {
            let Some(record) = record else { continue };
            let index = *sessions.entry(&record.item.trace_id).or_insert(event.session);
            if index != event.session {
                self.fault(format!("trace {} holds two sessions, {index} and {}", record.item.trace_id, event.session));
            }
            let id = &self.truth.sessions[event.session].id;
            let trace_id = id.replace('-', "");
            if self.format == Format::Extended && is_hashed_by_qlik(id) && record.item.trace_id != trace_id {
                self.fault(format!("session {id} is in trace {}", record.item.trace_id));
            }
        }
    }

    fn session(&mut self, index: usize, session: &Session, records: &Assigned<'a>) {
        let events: Vec<(&Event, &Row<Record>)> = (self.truth.events.iter().zip(records))
            .filter(|(event, _)| event.session == index)
            .filter_map(|(event, record)| record.map(|record| (event, record)))
            .collect();
        let find = |action, connection| {
            let is_it = |event: &Event| event.action == action && event.connection == connection && !event.refused;
            events.iter().find(|(event, _)| is_it(event)).map(|(_, record)| *record)
        };
        // What is missing has been said already.
        let Some(start) = find(Action::SessionStart, None) else { return };
        let stop = find(Action::SessionStop, None);
        for (event, record) in &events {
            self.record(session, event, record);
            if record.item.trace_id != start.item.trace_id {
                self.fault(format!("event {event:?} left trace {}", start.item.trace_id));
            }
        }
        if let Some(stop) = stop {
            if stop.item.span_id != start.item.span_id {
                self.fault(format!("start and end of session {index} belong to two spans"));
            }
            self.session_span(session, start, stop);
        }
        for (number, connection) in session.connections.iter().enumerate() {
            let Some(open) = find(Action::ConnectionOpen, Some(number)) else { continue };
            let close = find(Action::ConnectionClose, Some(number));
            if close.is_some_and(|close| close.item.span_id != open.item.span_id) {
                self.fault(format!("open and close of {connection:?} belong to two spans"));
            }
            if let Some(end) = close.or(stop) {
                self.connection_span(session, connection, start, open, end);
            }
        }
    }

    fn record(&mut self, session: &Session, event: &Event, record: &Row<Record>) {
        let Record { time, observed_time, severity, attributes, trace_id, .. } = &record.item;
        let what = format!("record of {event:?}");
        match self.format {
            // The key holds the time.
            Format::Extended => {}
            Format::Stock { earliest, latest } => {
                if time != observed_time || !(earliest..=latest).contains(time) {
                    self.fault(format!("{what} has time {time}, observed {observed_time}, not its time of arrival"));
                }
            }
        }
        let expected_severity = if event.refused { 13 } else { 9 };
        if *severity != expected_severity {
            self.fault(format!("{what} has severity {severity} instead of {expected_severity}"));
        }
        self.identity(&what, session, attributes, trace_id);
        if let Some(connection) = event.connection.and_then(|number| session.connections.get(number)) {
            self.connection_attributes(&what, session, connection, attributes);
        }
        match event.action {
            Action::SessionStop => self.equal(&what, attributes, "qlik.sense.session.end.reason", "stopped"),
            Action::ConnectionClose => self.equal(&what, attributes, "qlik.sense.connection.close.reason", "closed"),
            Action::SessionStart | Action::ConnectionOpen => {}
        }
    }

    fn session_span(&mut self, session: &Session, start: &Row<Record>, stop: &Row<Record>) {
        let Some(span) = self.take(start) else { return };
        let what = format!("session span {}", describe(span));
        if (span.item.name.as_str(), span.item.kind) != ("qlik.sense.session", INTERNAL) {
            self.fault(format!("{what} has kind {}", span.item.kind));
        }
        if !span.item.parent_span_id.is_empty() {
            self.fault(format!("{what} has parent {} and should be a root", span.item.parent_span_id));
        }
        self.times(&what, &span.item, start, stop);
        self.identity(&what, session, &span.item.attributes, &span.item.trace_id);
        self.equal(&what, &span.item.attributes, "qlik.sense.session.end.reason", "stopped");
        let connections = i64::try_from(session.connections.len()).ok().map(Value::Int);
        if span.item.attributes.get("qlik.sense.session.connections") != connections.as_ref() {
            self.fault(format!("{what} does not count {} connections", session.connections.len()));
        }
    }

    fn connection_span(
        &mut self,
        session: &Session,
        connection: &Connection,
        start: &Row<Record>,
        open: &Row<Record>,
        end: &Row<Record>,
    ) {
        let Some(span) = self.take(open) else { return };
        let what = format!("connection span {}", describe(span));
        if (span.item.name.as_str(), span.item.kind) != ("qlik.sense.connection", SERVER) {
            self.fault(format!("{what} has kind {}", span.item.kind));
        }
        if span.item.parent_span_id != start.item.span_id {
            self.fault(format!("{what} has parent {}, not {}", span.item.parent_span_id, start.item.span_id));
        }
        self.times(&what, &span.item, open, end);
        self.identity(&what, session, &span.item.attributes, &span.item.trace_id);
        self.connection_attributes(&what, session, connection, &span.item.attributes);
        let reason = if connection.close.is_some() { "closed" } else { "session_stopped" };
        self.equal(&what, &span.item.attributes, "qlik.sense.connection.close.reason", reason);
        // Version and flags stand around the two ids.
        let ids = connection.traceparent.as_deref().and_then(|parent| parent.get(3..52));
        let links: Vec<String> =
            span.item.links.iter().map(|link| format!("{}-{}", link.trace_id, link.span_id)).collect();
        if links != Vec::from_iter(ids) {
            self.fault(format!("{what} has links {links:?} instead of {ids:?}"));
        }
    }

    /// Takes the span that a record belongs to out of those that are still unexplained.
    fn take(&mut self, record: &Row<Record>) -> Option<&'a Row<Span>> {
        let Record { trace_id, span_id, event_name, .. } = &record.item;
        let span = self.spans.remove(span_id.as_str());
        match span {
            None => self.fault(format!("span {span_id} of trace {trace_id}, told of by {event_name}, is missing")),
            Some(span) if span.item.trace_id != *trace_id => {
                self.fault(format!("span {} is not in trace {trace_id}", describe(span)));
            }
            Some(span) if node(span) != node(record) => {
                self.fault(format!("span {} came from {}, not {}", describe(span), node(span), node(record)));
            }
            Some(_) => {}
        }
        span
    }

    fn times(&mut self, what: &str, span: &Span, start: &Row<Record>, end: &Row<Record>) {
        if (span.start, span.end) != (start.item.time, end.item.time) {
            let expected = (start.item.time, end.item.time);
            self.fault(format!("{what} lasted {:?} instead of {expected:?}", (span.start, span.end)));
        }
    }

    fn identity(&mut self, what: &str, session: &Session, attributes: &Attributes, trace_id: &str) {
        self.equal(what, attributes, "user.id", &session.user_id());
        self.equal(what, attributes, "user.name", &session.user_name);
        self.equal(what, attributes, "qlik.sense.user.directory", &session.user_directory);
        let is_hashed = is_hashed_by_qlik(&session.id);
        let is_expected = match text(attributes, "session.id") {
            None => false,
            Some(id) if id == session.id => is_hashed,
            // Without Qlik's own hash the id is a hash of ours, which is the trace id too...
            Some(id) if self.format == Format::Extended => !is_hashed && id == trace_id,
            // ...unless a stock session, whose trace began without an id, learns of it from a message.
            Some(id) => id == trace_id || (!is_hashed && is_hash_of_ours(id)),
        };
        if !is_expected {
            let found = text(attributes, "session.id");
            self.fault(format!("{what} has session.id {found:?} for {} in trace {trace_id}", session.id));
        }
    }

    fn connection_attributes(&mut self, what: &str, session: &Session, connection: &Connection, found: &Attributes) {
        self.equal(what, found, "qlik.sense.app.id", &connection.app);
        self.equal(what, found, "url.path", &connection.path);
        self.equal(what, found, "user_agent.original", &session.user_agent);
        self.equal(what, found, "client.address", &session.client);
        self.equal(what, found, "qlik.sense.event.origin", "AppAccess");
        if self.format == Format::Extended {
            self.equal(what, found, "qlik.sense.app.name", &connection.app_name);
        }
        if text(found, "qlik.sense.virtual_proxy.prefix").unwrap_or_default() != session.virtual_proxy {
            self.fault(format!("{what} did not come through virtual proxy {:?}", session.virtual_proxy));
        }
    }

    fn equal(&mut self, what: &str, attributes: &Attributes, key: &str, expected: &str) {
        let found = text(attributes, key);
        if found != Some(expected) {
            self.fault(format!("{what} has {key} {found:?} instead of {expected:?}"));
        }
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }
}

/// Numbers of OTLP's `SpanKind`.
const INTERNAL: u32 = 1;
const SERVER: u32 = 2;

/// Any other id may be somebody's cookie and is not exported.
fn is_hashed_by_qlik(session_id: &str) -> bool {
    session_id.starts_with("c0de") && session_id.len() == 36
}

fn is_hash_of_ours(session_id: &str) -> bool {
    session_id.len() == 32 && session_id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    match attributes.get(key) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn node<Item>(row: &Row<Item>) -> String {
    text(&row.resource, "host.name").unwrap_or_default().to_owned()
}

fn describe(span: &Row<Span>) -> String {
    let Span { trace_id, span_id, name, .. } = &span.item;
    format!("{name} {span_id} of trace {trace_id}")
}
