//! What holds for all that we send, whatever happened: who speaks, which names there are, and that ids and times fit.

use std::collections::HashSet;

use crate::checker::{describe, node, text};
use crate::received::{Attributes, Received, Row, Value};

/// Every attribute that a span or a record may have.
const NAMES: [&str; 26] = [
    "client.address",
    "qlik.sense.app.id",
    "qlik.sense.app.name",
    "qlik.sense.connection.close.reason",
    "qlik.sense.connection.part",
    "qlik.sense.event.origin",
    "qlik.sense.event.result",
    "qlik.sense.receiver.gap.count",
    "qlik.sense.receiver.gap.first",
    "qlik.sense.receiver.gap.last",
    "qlik.sense.session.apps",
    "qlik.sense.session.connections",
    "qlik.sense.session.end.reason",
    "qlik.sense.session.end.time",
    "qlik.sense.session.segment",
    "qlik.sense.session.start.inferred",
    "qlik.sense.user.directory",
    "qlik.sense.virtual_proxy.prefix",
    "session.id",
    "url.path",
    "user.id",
    "user.name",
    "user_agent.name",
    "user_agent.original",
    "user_agent.os.name",
    "user_agent.version",
];

pub(super) fn check(received: &Received, faults: &mut Vec<String>) {
    let mut ids = HashSet::new();
    // A record may tell of a span that is still open, and so may a child.
    let told: HashSet<(&str, &str)> =
        received.records.iter().map(|record| (record.item.trace_id.as_str(), record.item.span_id.as_str())).collect();
    for span in &received.spans {
        let what = format!("span {}", describe(span));
        let item = &span.item;
        speaker(&what, span, faults);
        names(&what, &item.attributes, faults);
        if !is_id(&item.trace_id, 32) || !is_id(&item.span_id, 16) {
            faults.push(format!("{what} has an id that is none"));
        }
        if !ids.insert(item.span_id.as_str()) {
            faults.push(format!("{what} was sent twice"));
        }
        if item.start == 0 || item.end < item.start {
            faults.push(format!("{what} lasted from {} to {}", item.start, item.end));
        }
        let parent = item.parent_span_id.as_str();
        if !parent.is_empty() && !told.contains(&(item.trace_id.as_str(), parent)) {
            faults.push(format!("{what} has parent {parent}, of which nothing is known in its trace"));
        }
    }
    for record in &received.records {
        let what = format!("record {} of {}", record.item.event_name, record.item.time);
        speaker(&what, record, faults);
        names(&what, &record.item.attributes, faults);
        if !is_id(&record.item.trace_id, 32) || !is_id(&record.item.span_id, 16) {
            faults.push(format!("{what} belongs to no span"));
        }
        if record.item.time == 0 || record.item.observed_time == 0 {
            faults.push(format!("{what} lacks a time"));
        }
        if !matches!(&record.item.body, Some(Value::Text(body)) if !body.is_empty() && !body.contains('\n')) {
            faults.push(format!("{what} has no line to read but {:?}", record.item.body));
        }
    }
}

fn speaker<Item>(what: &str, row: &Row<Item>, faults: &mut Vec<String>) {
    let node = node(row);
    let expected = [
        ("service.name", "qlik-sense-proxy"),
        ("service.namespace", "qlik-sense"),
        ("service.instance.id", node.as_str()),
        // From `resource` in the configuration of the run.
        ("deployment.environment.name", "end-to-end"),
    ];
    for (key, value) in expected {
        if text(&row.resource, key) != Some(value) {
            faults.push(format!("{what} comes from {key} {:?}, not {value:?}", row.resource.get(key)));
        }
    }
    if row.resource.len() != expected.len() + 1 {
        faults.push(format!("{what} has a resource of {:?}", row.resource.keys()));
    }
    if row.scope != "sense-otel" {
        faults.push(format!("{what} has scope {:?}", row.scope));
    }
}

fn names(what: &str, attributes: &Attributes, faults: &mut Vec<String>) {
    for key in attributes.keys().filter(|key| !NAMES.contains(&key.as_str())) {
        faults.push(format!("{what} has an attribute {key}"));
    }
}

fn is_id(id: &str, digits: usize) -> bool {
    id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0')
}
