//! The checker is only worth something if it finds what is wrong: one good delivery, and many ways to spoil it.

use serde_json::{Value as Json, json};

use super::*;
use crate::received::{Link, parse_rows};

const MILLISECOND: u64 = 1_000_000;
const START: u64 = 1_795_420_800_000 * MILLISECOND;
const SESSION_ID: &str = "c0dec04e-89e4-c115-54a0-5f188dac8ef4";
const TRACE_ID: &str = "c0dec04e89e4c11554a05f188dac8ef4";
const SALES: &str = "a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69";
const CHURN: &str = "7d2b1e3c-0a4f-4c55-9d3e-1f2a3b4c5d6e";

#[test]
fn a_complete_delivery_has_no_fault() {
    assert_eq!(check(&truth(), Format::Extended, &delivery()), Vec::<String>::new());
    let stock = Format::Stock { earliest: START, latest: START + 7 * MILLISECOND };
    assert_eq!(check(&truth(), stock, &delivery()), Vec::<String>::new());
}

/// Each with a part of the line that must tell of it.
#[test]
fn every_planted_fault_is_found() {
    type Spoil = fn(&mut Received);
    let faults: [(&str, Spoil); 32] = [
        ("told of by session.start, is missing", |all| drop(all.spans.remove(0))),
        ("told of by qlik.sense.connection.open, is missing", |all| drop(all.spans.remove(1))),
        ("was sent twice", |all| all.spans.push(all.spans[1].clone())),
        ("was sent twice", |all| all.spans[2].item.span_id = all.spans[1].item.span_id.clone()),
        ("of which nothing is known", |all| all.spans[1].item.parent_span_id = "00000000000000ff".to_owned()),
        ("has parent 00000000000000a2, not", |all| all.spans[1].item.parent_span_id = "00000000000000a2".to_owned()),
        ("should be a root", |all| all.spans[0].item.parent_span_id = "00000000000000a2".to_owned()),
        ("lasted", |all| all.spans[0].item.start += 1),
        ("lasted", |all| all.spans[2].item.end -= MILLISECOND),
        ("lasted from", |all| all.spans[1].item.end = all.spans[1].item.start - 1),
        ("has kind 1", |all| all.spans[1].item.kind = INTERNAL),
        ("has kind 1", |all| all.spans[0].item.name.push('s')),
        ("is not in trace", |all| all.spans[1].item.trace_id = TRACE_ID.replace('c', "d")),
        ("nothing ended that", |all| {
            all.spans.push(all.spans[1].clone());
            all.spans[3].item.span_id = "00000000000000a9".to_owned();
        }),
        ("0 records instead of 1", |all| drop(all.records.remove(3))),
        ("2 records instead of 1", |all| all.records.push(all.records[1].clone())),
        ("records that no event explains", |all| all.records[4].item.time += MILLISECOND),
        ("is in trace", |all| all.records.iter_mut().for_each(|one| one.item.trace_id = TRACE_ID.replace('c', "d"))),
        ("belong to two spans", |all| all.records[4].item.span_id = "00000000000000a3".to_owned()),
        ("has severity 9", |all| all.records[3].item.severity = 9),
        ("has no line to read", |all| all.records[0].item.body = None),
        ("an attribute message", |all| {
            all.records[0].item.attributes.insert("message".to_owned(), Value::Text("Start".to_owned()));
        }),
        ("user_agent.original None", |all| drop(all.spans[1].item.attributes.remove("user_agent.original"))),
        ("user.name", |all| {
            all.spans[0].item.attributes.insert("user.name".to_owned(), Value::Text("anna".to_owned()));
        }),
        ("has session.id None", |all| drop(all.spans[0].item.attributes.remove("session.id"))),
        ("has session.id", |all| {
            all.spans[1].item.attributes.insert("session.id".to_owned(), Value::Text(TRACE_ID.to_owned()));
        }),
        ("does not count 2", |all| {
            all.spans[0].item.attributes.insert("qlik.sense.session.connections".to_owned(), Value::Int(3));
        }),
        ("has links", |all| {
            let link = Link { trace_id: TRACE_ID.to_owned(), span_id: "00000000000000a1".to_owned() };
            all.spans[1].item.links.push(link);
        }),
        ("comes from service.name", |all| drop(all.spans[1].resource.remove("service.name"))),
        ("qlik.sense.session.active", |all| all.metrics.push(metric("qlik.sense.session.active", &json!({}), "1"))),
        ("has is_monotonic false", |all| {
            all.metrics[0].item.sum.iter_mut().for_each(|sum| sum.is_monotonic = false);
        }),
        ("metric qlik.sense.events comes from", |all| {
            all.metrics[0].resource.insert("service.name".to_owned(), Value::Text("qlik-sense-proxy".to_owned()));
        }),
    ];
    for (number, (expected, spoil)) in faults.into_iter().enumerate() {
        let mut received = delivery();
        spoil(&mut received);
        let found = check(&truth(), Format::Extended, &received);
        assert!(found.iter().any(|line| line.contains(expected)), "number {number}, {expected}: {found:#?}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let twice = json!([attribute("user.name", "goran"), attribute("user.name", "anna")]);
    let text = request(
        "Logs",
        "logRecords",
        json!({}),
        &json!([{
            "timeUnixNano": "1", "observedTimeUnixNano": "1", "attributes": twice,
        }]),
    );
    let error = parse_rows::<Record>(&text).expect_err("two values for one key");
    assert!(error.to_string().contains("user.name"), "{error}");
}

/// The times of arrival are not those of the events, and must lie between start and end of the run.
#[test]
fn stock_times_must_be_those_of_arrival() {
    let late = Format::Stock { earliest: START + 3 * MILLISECOND, latest: START + 7 * MILLISECOND };
    let found = check(&truth(), late, &delivery());
    assert!(found.iter().any(|line| line.contains("not its time of arrival")), "{found:#?}");
}

/// A session with two connections, one of them still open when it stops, and one attempt that was refused.
fn truth() -> Truth {
    let at = |millis: u64| START / MILLISECOND + millis;
    let connection = |app: &str, name: &str, close| Connection {
        app: app.to_owned(),
        app_name: name.to_owned(),
        path: format!("/app/{app}"),
        traceparent: None,
        close,
    };
    let event =
        |millis, action, connection, refused| Event { time: at(millis), action, session: 0, connection, refused };
    Truth {
        nodes: vec!["pro2-win1".to_owned()],
        sessions: vec![Session {
            node: "pro2-win1".to_owned(),
            id: SESSION_ID.to_owned(),
            user_directory: "LAB".to_owned(),
            user_name: "goran".to_owned(),
            user_agent: "Mozilla/5.0".to_owned(),
            virtual_proxy: String::new(),
            client: "10.20.0.1".to_owned(),
            end: Some(at(6)),
            connections: vec![connection(SALES, "Sales", Some(at(4))), connection(CHURN, "Churn", None)],
        }],
        events: vec![
            event(0, Action::SessionStart, None, false),
            event(1, Action::ConnectionOpen, Some(0), false),
            event(2, Action::ConnectionOpen, Some(1), false),
            event(3, Action::ConnectionOpen, None, true),
            event(4, Action::ConnectionClose, Some(0), false),
            event(6, Action::SessionStop, None, false),
        ],
    }
}

/// What a receiver makes of it, as a collector writes it down.
fn delivery() -> Received {
    let session_end = json!({"qlik.sense.session.end.reason": "stopped"});
    let session_span = json!({"qlik.sense.session.end.reason": "stopped", "qlik.sense.session.connections": 2});
    let closed = json!({"qlik.sense.connection.close.reason": "closed"});
    let stopped = json!({"qlik.sense.connection.close.reason": "session_stopped"});
    let spans = json!([
        span("qlik.sense.session", 1, "a1", "", (0, 6), &[session_span]),
        span("qlik.sense.connection", 2, "a2", "a1", (1, 4), &[connection(SALES, "Sales"), closed.clone()]),
        span("qlik.sense.connection", 2, "a3", "a1", (2, 6), &[connection(CHURN, "Churn"), stopped]),
    ]);
    let refused = json!({"qlik.sense.event.result": "403", "qlik.sense.app.id": SALES});
    let records = json!([
        record("session.start", 9, "a1", 0, &[]),
        record("qlik.sense.connection.open", 9, "a2", 1, &[connection(SALES, "Sales")]),
        record("qlik.sense.connection.open", 9, "a3", 2, &[connection(CHURN, "Churn")]),
        record("qlik.sense.connection.open", 13, "a1", 3, &[refused]),
        record("qlik.sense.connection.close", 9, "a2", 4, &[connection(SALES, "Sales"), closed]),
        record("session.end", 9, "a1", 6, &[session_end]),
    ]);
    let resource = json!({
        "service.name": "qlik-sense-proxy", "service.namespace": "qlik-sense", "service.instance.id": "pro2-win1",
        "host.name": "pro2-win1", "deployment.environment.name": "end-to-end",
    });
    let event = |name: &str, count| metric("qlik.sense.events", &json!({"qlik.sense.event": name}), count);
    let duration = |name: &str, key: &str, reason: &str| metric(name, &json!({key: reason}), "1");
    let close_reason = "qlik.sense.connection.close.reason";
    Received {
        spans: parse_rows(&request("Spans", "spans", resource.clone(), &spans)).expect("spans"),
        records: parse_rows(&request("Logs", "logRecords", resource, &records)).expect("records"),
        metrics: vec![
            event("session.start", "1"),
            // An older value of the same series.
            event("qlik.sense.connection.open", "1"),
            event("qlik.sense.connection.open", "3"),
            event("qlik.sense.connection.close", "1"),
            event("session.end", "1"),
            duration("qlik.sense.session.duration", "qlik.sense.session.end.reason", "stopped"),
            duration("qlik.sense.connection.duration", close_reason, "closed"),
            duration("qlik.sense.connection.duration", close_reason, "session_stopped"),
        ],
    }
}

fn span(name: &str, kind: u32, id: &str, parent: &str, lasted: (u64, u64), more: &[Json]) -> Json {
    let parent = if parent.is_empty() { String::new() } else { format!("{parent:0>16}") };
    json!({
        "traceId": TRACE_ID, "spanId": format!("{id:0>16}"), "parentSpanId": parent, "name": name, "kind": kind,
        "startTimeUnixNano": (START + lasted.0 * MILLISECOND).to_string(),
        "endTimeUnixNano": (START + lasted.1 * MILLISECOND).to_string(),
        "attributes": attributes(more), "status": {},
    })
}

fn record(event: &str, severity: u32, span: &str, millis: u64, more: &[Json]) -> Json {
    let time = (START + millis * MILLISECOND).to_string();
    json!({
        "timeUnixNano": time, "observedTimeUnixNano": time, "severityNumber": severity, "eventName": event,
        "body": {"stringValue": r"LAB\goran"}, "attributes": attributes(more), "flags": 1,
        "traceId": TRACE_ID, "spanId": format!("{span:0>16}"),
    })
}

fn connection(app: &str, name: &str) -> Json {
    json!({
        "qlik.sense.app.id": app, "qlik.sense.app.name": name, "url.path": format!("/app/{app}"),
        "user_agent.original": "Mozilla/5.0", "client.address": "10.20.0.1", "qlik.sense.event.origin": "AppAccess",
    })
}

/// Who it was, and more.
fn attributes(more: &[Json]) -> Json {
    let who = json!({
        "session.id": SESSION_ID, "user.id": r"LAB\goran", "user.name": "goran", "qlik.sense.user.directory": "LAB",
    });
    key_values([&who].into_iter().chain(more))
}

fn metric(name: &str, labels: &Json, count: &str) -> Row<crate::received::Metric> {
    let node = json!({"qlik.sense.node": "pro2-win1"});
    let attributes = key_values([labels, &node]);
    let (unit, kind, value) = match name {
        "qlik.sense.events" => ("{event}", "sum", "asInt"),
        "qlik.sense.session.active" => ("{session}", "sum", "asInt"),
        _ => ("s", "histogram", "count"),
    };
    let is_monotonic = name == "qlik.sense.events";
    let points = json!({"aggregationTemporality": 2, "isMonotonic": is_monotonic, "dataPoints": [{"attributes": attributes, value: count}]});
    let metrics = json!([{"name": name, "unit": unit, kind: points}]);
    let text = request("Metrics", "metrics", json!({"service.name": "sense-otel"}), &metrics);
    parse_rows(&text).expect("a metric").remove(0)
}

fn request(signal: &str, items_key: &str, resource: Json, items: &Json) -> String {
    let scopes = json!([{"scope": {"name": "sense-otel"}, items_key: items}]);
    let resource = json!({"attributes": key_values([&resource])});
    let resources = json!([{"resource": resource, format!("scope{signal}"): scopes}]);
    json!({format!("resource{signal}"): resources}).to_string()
}

fn key_values<'a>(objects: impl IntoIterator<Item = &'a Json>) -> Json {
    let pairs = objects.into_iter().filter_map(Json::as_object).flatten();
    pairs
        .map(|(key, value)| match value.as_i64() {
            Some(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            None => attribute(key, value.as_str().unwrap_or_default()),
        })
        .collect()
}

fn attribute(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}
