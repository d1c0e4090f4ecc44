//! The encoder against the generated protobuf types: same bytes, whole requests, limits kept, halves that lose nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test's helper finds wrong fails the test")]

mod model;
mod runs;

use std::mem;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as logs;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use sense_otel::otlp::{Encoder, Limits, count, split};
use sense_otel::signal::{ExportRequest, LogRecord, Resource, Severity, Signal};
use sense_otel::time::Timestamp;

use model::{Item, Script, script};

const VERSION: &str = "1.2.3-test";
const UNLIMITED: Limits = Limits { request_bytes_max: usize::MAX, request_items_max: u32::MAX };

/// Hands a script to the encoder. Every other entry brings an equal resource in an allocation of its own.
fn encode(encoder: &mut Encoder, script: &Script) {
    for (place, entry) in script.entries.iter().enumerate() {
        let shared = &script.resources[entry.resource];
        let resource = if place % 2 == 0 { Arc::clone(shared) } else { Arc::new(Resource::clone(shared)) };
        match &entry.item {
            Item::Log(log) => log.lend(|record| encoder.log(&resource, record)),
            Item::Span(span) => span.lend(|span| encoder.span(&resource, span)),
        }
    }
}

fn requests(script: &Script, limits: Limits) -> Vec<ExportRequest> {
    let mut encoder = Encoder::new(VERSION, limits);
    encode(&mut encoder, script);
    assert_eq!(encoder.is_empty(), script.entries.is_empty());
    let requests = encoder.finish();
    assert!(encoder.is_empty());
    requests
}

/// What a request says, whatever it is grouped like: of each item what stands around it, and the item itself.
fn told(signal: Signal, body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut told = Vec::new();
    match signal {
        Signal::Logs => {
            for mut resource in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
                for mut scope in mem::take(&mut resource.scope_logs) {
                    let records = mem::take(&mut scope.log_records);
                    let around = [resource.encode_to_vec(), scope.encode_to_vec()].concat();
                    told.extend(records.iter().map(|record| (around.clone(), record.encode_to_vec())));
                }
            }
        }
        Signal::Traces => {
            for mut resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                for mut scope in mem::take(&mut resource.scope_spans) {
                    let spans = mem::take(&mut scope.spans);
                    let around = [resource.encode_to_vec(), scope.encode_to_vec()].concat();
                    told.extend(spans.iter().map(|span| (around.clone(), span.encode_to_vec())));
                }
            }
        }
        Signal::Metrics => panic!("metrics are not encoded here"),
    }
    told
}

fn all_told(requests: &[ExportRequest], signal: Signal) -> Vec<(Vec<u8>, Vec<u8>)> {
    requests.iter().filter(|request| request.signal == signal).flat_map(|request| told(signal, &request.body)).collect()
}

/// The same, one resource behind the other: sorting is stable, so the order within each is the order in the requests.
fn told_by_resource(requests: &[ExportRequest], signal: Signal) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut told = all_told(requests, signal);
    told.sort_by(|(left, _), (right, _)| left.cmp(right));
    told
}

proptest! {
    #[test]
    fn bytes_are_those_of_the_generated_types(script in script(0..12)) {
        let mut encoder = Encoder::new(VERSION, UNLIMITED);
        for _ in 0..2 {
            encode(&mut encoder, &script);
            prop_assert_eq!(encoder.finish(), script.expected(VERSION));
        }
    }

    #[test]
    fn without_a_version_the_scope_has_only_its_name(script in script(1..3)) {
        let mut encoder = Encoder::new("", UNLIMITED);
        encode(&mut encoder, &script);
        prop_assert_eq!(encoder.finish(), script.expected(""));
    }

    #[test]
    fn no_request_exceeds_the_limits_and_nothing_is_lost_or_reordered(
        script in script(0..16),
        request_bytes_max in 0_usize..20_000,
        request_items_max in 0_u32..12,
    ) {
        let requests = requests(&script, Limits { request_bytes_max, request_items_max });
        prop_assert!(requests.is_sorted_by_key(|request| request.signal));
        for request in &requests {
            prop_assert!(request.items >= 1);
            prop_assert_eq!(told(request.signal, &request.body).len(), request.items as usize);
            if request.items > 1 {
                prop_assert!(request.body.len() <= request_bytes_max);
                prop_assert!(request.items <= request_items_max);
            }
        }
        let whole = script.expected(VERSION);
        for signal in [Signal::Logs, Signal::Traces] {
            prop_assert_eq!(told_by_resource(&requests, signal), told_by_resource(&whole, signal));
        }
    }

    #[test]
    fn two_requests_one_behind_the_other_are_a_request(first in script(1..6), second in script(1..6)) {
        for signal in [Signal::Logs, Signal::Traces] {
            let parts = [requests(&first, UNLIMITED), requests(&second, UNLIMITED)].concat();
            let bodies = parts.iter().filter(|part| part.signal == signal).map(|part| &part.body[..]);
            let joined = bodies.collect::<Vec<_>>().concat();
            prop_assert_eq!(told(signal, &joined), all_told(&parts, signal));
        }
    }

    #[test]
    fn halves_hold_what_the_whole_held(first in script(0..20), second in script(0..6)) {
        for signal in [Signal::Logs, Signal::Traces] {
            let parts = [requests(&first, UNLIMITED), requests(&second, UNLIMITED)].concat();
            let parts = parts.into_iter().filter(|part| part.signal == signal).collect::<Vec<_>>();
            let body = parts.iter().map(|part| &part.body[..]).collect::<Vec<_>>().concat();
            let items = parts.iter().map(|part| part.items).sum::<u32>();
            prop_assert_eq!(count(signal, &body), Some(items));
            let Some((left, right)) = split(signal, &body) else {
                prop_assert!(items < 2);
                continue;
            };
            prop_assert_eq!((left.signal, left.items), (signal, items / 2));
            prop_assert_eq!((right.signal, right.items), (signal, items - items / 2));
            prop_assert!(left.body.len() < body.len() && right.body.len() < body.len());
            prop_assert_eq!(all_told(&[left, right], signal), told(signal, &body));
        }
    }

    #[test]
    fn splitting_survives_any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        check_split_of_anything(&bytes);
    }

    #[test]
    fn splitting_survives_damaged_requests(
        script in script(2..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for request in requests(&script, UNLIMITED) {
            let mut bytes = request.body.to_vec();
            check_split_of_anything(&bytes[..cut.index(bytes.len())]);
            for (place, value) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            check_split_of_anything(&bytes);
        }
    }
}

/// Whatever the bytes are: no panic, and halves that add up if there are any.
fn check_split_of_anything(bytes: &[u8]) {
    for signal in [Signal::Logs, Signal::Traces] {
        if let Some((left, right)) = split(signal, bytes) {
            assert_eq!(count(signal, &left.body), Some(left.items));
            assert_eq!(count(signal, &right.body), Some(right.items));
            assert_eq!(count(signal, bytes), Some(left.items + right.items));
        }
    }
    assert_eq!((count(Signal::Metrics, bytes), split(Signal::Metrics, bytes)), (None, None));
}

/// `entries` records of one resource, each of about a kilobyte.
fn alike(encoder: &mut Encoder, entries: usize) {
    let resource = Arc::new(Resource { attributes: vec![("host.name".to_owned(), "node".to_owned())] });
    let body = "x".repeat(1000);
    for _ in 0..entries {
        encoder.log(
            &resource,
            &LogRecord {
                time: Timestamp::from_nanos(1),
                observed_time: Timestamp::from_nanos(2),
                severity: Severity::Info,
                event_name: "session.start",
                body: &body,
                attributes: &[],
                trace_id: None,
                span_id: None,
            },
        );
    }
}

#[test]
fn requests_are_cut_by_items_where_the_limit_is() {
    let mut encoder = Encoder::new(VERSION, Limits { request_items_max: 10, ..Limits::default() });
    alike(&mut encoder, 25);
    assert_eq!(encoder.finish().iter().map(|request| request.items).collect::<Vec<_>>(), [10, 10, 5]);
    alike(&mut encoder, 10);
    assert_eq!(encoder.finish().iter().map(|request| request.items).collect::<Vec<_>>(), [10]);
    assert!(encoder.finish().is_empty());
}

#[test]
fn requests_are_filled_up_to_the_limit_in_bytes() {
    let request_bytes_max = 50_000;
    let mut encoder = Encoder::new(VERSION, Limits { request_bytes_max, ..Limits::default() });
    alike(&mut encoder, 200);
    let requests = encoder.finish();
    let (_, full) = requests.split_last().unwrap();
    assert!(!full.is_empty());
    for request in full {
        assert!((request_bytes_max - 1100..=request_bytes_max).contains(&request.body.len()));
    }
}

#[test]
fn what_exceeds_the_limit_by_itself_goes_alone() {
    let mut encoder = Encoder::new(VERSION, Limits { request_bytes_max: 500, ..Limits::default() });
    alike(&mut encoder, 3);
    assert_eq!(encoder.finish().iter().map(|request| request.items).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn the_default_limits_stay_below_what_servers_commonly_take() {
    assert_eq!(Limits::default(), Limits { request_bytes_max: 7 << 19, request_items_max: 8192 });
}

#[test]
fn what_the_encoder_never_writes_survives_a_split() {
    let record = |name: &str| logs::LogRecord { event_name: name.to_owned(), ..Default::default() };
    let scope = |name: &str, records: &[&str]| logs::ScopeLogs {
        scope: Some(common::InstrumentationScope { name: name.to_owned(), ..Default::default() }),
        log_records: records.iter().map(|name| record(name)).collect(),
        schema_url: format!("schema of {name}"),
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![
            logs::ResourceLogs { scope_logs: vec![scope("a", &["1"]), scope("empty", &[])], ..Default::default() },
            logs::ResourceLogs { schema_url: "of an empty resource".to_owned(), ..Default::default() },
            logs::ResourceLogs {
                scope_logs: vec![scope("b", &["2", "3", "4"]), scope("c", &["5"])],
                schema_url: "of a resource".to_owned(),
                ..Default::default()
            },
        ],
    };
    // Field 1000 of a newer version of the request, of each kind.
    let unknown = [
        [0xc0, 0x3e, 0x80, 0x01].as_slice(),
        &[0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xc2, 0x3e, 2, 0xff, 0xff],
        &[0xc5, 0x3e, 1, 2, 3, 4],
    ];
    let body = [unknown.concat(), request.encode_to_vec()].concat();
    let (left, right) = split(Signal::Logs, &body).unwrap();
    assert_eq!((left.items, right.items), (2, 3));
    assert_eq!(all_told(&[left.clone(), right.clone()], Signal::Logs), told(Signal::Logs, &body));
    assert!(left.body.starts_with(&unknown.concat()) && right.body.starts_with(&unknown.concat()));
    let resources = |body: &[u8]| ExportLogsServiceRequest::decode(body).unwrap().resource_logs.len();
    assert_eq!((resources(&left.body), resources(&right.body)), (2, 1), "nothing stands around no records");
}

#[test]
fn halving_ends_with_single_records() {
    let mut encoder = Encoder::new(VERSION, UNLIMITED);
    alike(&mut encoder, 13);
    let mut waiting = encoder.finish();
    let mut singles = 0;
    while let Some(request) = waiting.pop() {
        match split(request.signal, &request.body) {
            Some((left, right)) => waiting.extend([left, right]),
            None => {
                assert_eq!(request.items, 1);
                singles += 1;
            }
        }
    }
    assert_eq!(singles, 13);
}

#[test]
fn what_cannot_be_read_is_neither_counted_nor_split() {
    let mut encoder = Encoder::new(VERSION, UNLIMITED);
    alike(&mut encoder, 2);
    let body = encoder.finish().remove(0).body.to_vec();
    let damaged = [
        ("cut short", body[..body.len() - 1].to_vec()),
        ("a field number of 0", [&body[..], &[0x02, 0x00]].concat()),
        ("the start of a group", [&body[..], &[0x0b]].concat()),
        ("a resource that is a number", [&body[..], &[0x08, 0x01]].concat()),
        ("a length beyond the end", [&body[..], &[0x0a, 0x7f]].concat()),
        ("a length without end", [&body[..], &[0x0a], &[0xff; 10]].concat()),
        ("a key above 32 bits", [&body[..], &[0x82, 0x80, 0x80, 0x80, 0x10, 0x00]].concat()),
    ];
    for (what, bytes) in damaged {
        assert!(ExportLogsServiceRequest::decode(&bytes[..]).is_err(), "{what} is fine for the generated types");
        assert_eq!(count(Signal::Logs, &bytes), None, "{what}");
        assert_eq!(split(Signal::Logs, &bytes), None, "{what}");
    }
    assert_eq!((count(Signal::Logs, &[]), split(Signal::Logs, &[])), (Some(0), None));
}
