//! Metrics add up to the truth: the last value of every series, after the last export.

use std::collections::BTreeMap;

use crate::checker::text;
use crate::received::{Attributes, Received, Value};
use crate::truth::{Action, Truth};

/// Numbers of OTLP's `AggregationTemporality`.
const CUMULATIVE: u32 = 2;

/// What may only grow, and what may not be taken for it.
const MONOTONIC: [(&str, bool); 4] = [
    ("qlik.sense.events", true),
    ("qlik.sense.session.active", false),
    ("qlik.sense.connection.active", false),
    ("qlik.sense.user.active", false),
];

pub(super) fn check(truth: &Truth, received: &Received, faults: &mut Vec<String>) {
    for metric in &received.metrics {
        let name = &metric.item.name;
        if text(&metric.resource, "service.name") != Some("sense-otel") {
            faults.push(format!("metric {name} comes from {:?}", metric.resource.get("service.name")));
        }
        if metric.resource.contains_key("host.name") {
            faults.push(format!("metric {name} names a host, which is not the one it is about"));
        }
        let Some(sum) = &metric.item.sum else { continue };
        // A gauge has no temporality.
        if ![0, CUMULATIVE].contains(&sum.aggregation_temporality) {
            faults.push(format!("metric {name} is not cumulative"));
        }
        if MONOTONIC.contains(&(name.as_str(), !sum.is_monotonic)) {
            faults.push(format!("metric {name} has is_monotonic {}", sum.is_monotonic));
        }
    }
    for node in &truth.nodes {
        let mut expect = |name: &str, unit: &str, labels: &[(&str, &str)], expected: usize| {
            let labels: Vec<_> = labels.iter().chain(&[("qlik.sense.node", node.as_str())]).copied().collect();
            let found = total(received, name, unit, &labels);
            if found != i64::try_from(expected).ok() {
                faults.push(format!("{name} of {labels:?} is {found:?} {unit} instead of {expected}"));
            }
        };
        for action in [Action::SessionStart, Action::ConnectionOpen, Action::ConnectionClose, Action::SessionStop] {
            let events = truth.events.iter().filter(|event| event.action == action);
            let expected = events.filter(|event| truth.sessions[event.session].node == *node).count();
            expect("qlik.sense.events", "{event}", &[("qlik.sense.event", action.event_name())], expected);
        }
        let sessions = || truth.sessions.iter().filter(|session| session.node == *node);
        let ended = || sessions().filter(|session| session.end.is_some());
        let open = || sessions().filter(|session| session.end.is_none());
        expect("qlik.sense.session.active", "{session}", &[], open().count());
        expect("qlik.sense.session.duration", "s", &[("qlik.sense.session.end.reason", "stopped")], ended().count());
        let closed = sessions().flat_map(|session| &session.connections).filter(|one| one.close.is_some()).count();
        let close_reason = "qlik.sense.connection.close.reason";
        expect("qlik.sense.connection.duration", "s", &[(close_reason, "closed")], closed);
        let left = ended().flat_map(|session| &session.connections).filter(|one| one.close.is_none()).count();
        expect("qlik.sense.connection.duration", "s", &[(close_reason, "session_stopped")], left);
        let connected = open().flat_map(|session| &session.connections).filter(|one| one.close.is_none()).count();
        expect("qlik.sense.connection.active", "{connection}", &[], connected);
    }
}

/// The sum of the last values of all series of a metric that have these labels: counts, for a histogram. A metric of
/// another unit is another metric. `None` where a value is no whole number; a metric that never came is 0.
pub(crate) fn total(received: &Received, name: &str, unit: &str, labels: &[(&str, &str)]) -> Option<i64> {
    // Later points of a series take the place of earlier ones: the file is in the order of arrival. A process that was
    // started anew begins series of its own.
    let mut last: BTreeMap<String, Option<i64>> = BTreeMap::new();
    for metric in received.metrics.iter().filter(|metric| metric.item.name == name && metric.item.unit == unit) {
        let points = metric.item.sum.iter().flat_map(|sum| &sum.data_points);
        for point in points.filter(|point| has_labels(&point.attributes, labels)) {
            last.insert(format!("{:?} {:?}", metric.resource, point.attributes), point.as_int);
        }
    }
    last.into_values().sum()
}

/// How many datagrams the receiver says had this outcome.
pub(crate) fn datagrams(received: &Received, outcome: &str) -> Option<i64> {
    total(received, "sense_otel.receiver.datagrams", "{datagram}", &[("sense_otel.outcome", outcome)])
}

/// How many items of a signal the receiver says had this outcome.
pub(crate) fn items(received: &Received, signal: &str, outcome: &str) -> Option<i64> {
    let labels = [("sense_otel.signal", signal), ("sense_otel.outcome", outcome)];
    total(received, "sense_otel.exporter.items", "{item}", &labels)
}

fn has_labels(attributes: &Attributes, labels: &[(&str, &str)]) -> bool {
    labels.iter().all(|(key, value)| matches!(attributes.get(*key), Some(Value::Text(text)) if text == value))
}
