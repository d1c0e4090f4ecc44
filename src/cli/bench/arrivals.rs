//! What arrived at the backend, as numbers: events, how long they took, and what the receiver says it counted.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric, number_data_point};
use prost::Message;
use serde::Serialize;

use super::latencies::{Latencies, Percentiles};
use super::load::{KINDS, USER_DIGITS, USER_PREFIX};
use super::times::{Clock, Times};
use crate::telemetry::DropReason;
use crate::telemetry::metrics::{OUTCOME, REASON, SIGNAL};
use crate::time::Timestamp;

/// What the log record of each kind of event is called, in the order of the load.
const EVENT_NAMES: [&[u8]; KINDS] =
    [b"session.start", b"qlik.sense.connection.open", b"qlik.sense.connection.close", b"session.end"];

/// Everything that has arrived.
#[derive(Debug)]
pub(super) struct Arrivals {
    clock: Clock,
    times: Arc<Times>,
    /// Log records of events.
    events: u64,
    /// Requests that were no OTLP.
    unreadable: u64,
    latencies: Latencies,
    counters: Counters,
}

/// What the receiver counted in its life, by its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counters {
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
    pub(super) excluded: u64,
    pub(super) rejected: u64,
    /// For whatever reason.
    pub(super) dropped: u64,
    /// Of these, those that the queue before the core had no room for.
    pub(super) dropped_channel_full: u64,
    /// Of these, those that were in a frame which the store had no room for.
    pub(super) dropped_store_full: u64,
    pub(super) held: u64,
    /// Lost in the socket, and so not received.
    pub(super) kernel_drops: u64,
    /// Log records that the exporter gave up: too many waited for the backend, or it refused them.
    pub(super) given_up: u64,
}

/// A request of logs, as far as it is looked at: field numbers are those of OTLP 1.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "5")]
    body: Option<Text>,
    #[prost(fixed64, tag = "11")]
    received: u64,
    #[prost(bytes = "bytes", tag = "12")]
    event_name: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(bytes = "bytes", tag = "1")]
    text: Bytes,
}

impl Arrivals {
    /// Nothing yet. Events are looked up in `times`, by the same clock.
    pub(super) fn new(clock: Clock, times: Arc<Times>) -> Self {
        Self { clock, times, events: 0, unreadable: 0, latencies: Latencies::new(), counters: Counters::default() }
    }

    /// Takes a request of logs, which is answered as soon as this returns.
    pub(super) fn take_logs(&mut self, body: Bytes) {
        let now = self.clock.now();
        let Ok(request) = Request::decode(body) else {
            self.unreadable += 1;
            return;
        };
        let scopes = request.resources.into_iter().flat_map(|resource| resource.scopes);
        for record in scopes.flat_map(|scope| scope.records) {
            // Of gaps and open sessions there are records too; they are no datagram's.
            let Some(kind) = EVENT_NAMES.iter().position(|name| record.event_name == *name) else { continue };
            self.events += 1;
            let user = record.body.and_then(|body| user(&body.text));
            let received = Timestamp::from_nanos(record.received);
            if let Some(sent) = user.and_then(|user| self.times.sent(user, kind, received)) {
                self.latencies.add(now.since(sent));
            }
        }
    }

    /// Takes a request of metrics.
    pub(super) fn take_metrics(&mut self, body: Bytes) {
        match ExportMetricsServiceRequest::decode(body) {
            Ok(request) => self.counters.update(&request),
            Err(_) => self.unreadable += 1,
        }
    }

    /// Log records of events so far.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Requests so far that were no OTLP.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// What the receiver said last.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How long events took since this was last asked.
    pub(super) fn percentiles(&mut self) -> Percentiles {
        std::mem::replace(&mut self.latencies, Latencies::new()).percentiles()
    }
}

impl Counters {
    /// Every datagram that the receiver knows of: received, or lost in its socket. What became of its record is another
    /// matter.
    pub(super) fn total(&self) -> u64 {
        self.accepted + self.duplicate + self.excluded + self.rejected + self.dropped + self.held + self.kernel_drops
    }

    /// What was dropped, but not for want of room.
    pub(super) fn dropped_otherwise(&self) -> u64 {
        self.dropped.saturating_sub(self.dropped_channel_full + self.dropped_store_full)
    }

    fn update(&mut self, request: &ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            let Some(metric::Data::Sum(sum)) = &metric.data else { continue };
            let all = || sum.data_points.iter().map(value).sum();
            match metric.name.as_str() {
                "sense_otel.receiver.kernel_drops" => self.kernel_drops = all(),
                "sense_otel.receiver.held" => self.held = all(),
                "sense_otel.receiver.datagrams" => {
                    let with = |key, expected| {
                        sum.data_points.iter().filter(|point| has(point, key, expected)).map(value).sum()
                    };
                    self.accepted = with(OUTCOME, "accepted");
                    self.duplicate = with(OUTCOME, "duplicate");
                    self.excluded = with(OUTCOME, "excluded");
                    self.rejected = with(OUTCOME, "rejected");
                    self.dropped = with(OUTCOME, "dropped");
                    self.dropped_channel_full = with(REASON, DropReason::ChannelFull.as_str());
                    self.dropped_store_full = with(REASON, DropReason::StoreFull.as_str());
                }
                "sense_otel.exporter.items" => {
                    let logs = sum.data_points.iter().filter(|point| has(point, SIGNAL, "logs"));
                    let given_up = logs.filter(|point| !has(point, OUTCOME, "acknowledged"));
                    self.given_up = given_up.map(value).sum();
                }
                _ => {}
            }
        }
    }
}

fn value(point: &NumberDataPoint) -> u64 {
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => u64::try_from(value).unwrap_or_default(),
        _ => 0,
    }
}

fn has(point: &NumberDataPoint, key: &str, expected: &str) -> bool {
    point.attributes.iter().filter(|attribute| attribute.key == key).any(|attribute| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        matches!(value, Some(any_value::Value::StringValue(text)) if text == expected)
    })
}

/// The number of the user in a body.
fn user(body: &[u8]) -> Option<u64> {
    let start = memmem::find(body, USER_PREFIX.as_bytes())? + USER_PREFIX.len();
    std::str::from_utf8(body.get(start..start + USER_DIGITS)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, Sum};

    use super::super::load::Event;
    use super::*;

    fn text(text: &str) -> Option<AnyValue> {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) })
    }

    fn record(event_name: &str, body: &str, received: Timestamp) -> LogRecord {
        LogRecord {
            body: text(body),
            observed_time_unix_nano: received.as_nanos(),
            event_name: event_name.to_owned(),
            ..LogRecord::default()
        }
    }

    #[test]
    fn events_are_counted_and_timed_and_other_records_are_not() {
        let (clock, times) = (Clock::start(), Arc::new(Times::new()));
        let sent = clock.now().before(Duration::from_millis(40));
        times.note(Event { user: 12, kind: 1, round: 0 }, sent);
        let mut arrivals = Arrivals::new(clock, times);
        let log_records = vec![
            record("qlik.sense.connection.open", r"BENCH\user-00012 opened Churn", sent),
            record("session.start", r"BENCH\user-00013 started a session", sent),
            record("qlik.sense.receiver.gap", r"BENCH\user-00012 is no part of a gap", sent),
        ];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        arrivals.take_logs(ExportLogsServiceRequest { resource_logs }.encode_to_vec().into());
        arrivals.take_logs(Bytes::from_static(b"\xff"));
        assert_eq!((arrivals.events(), arrivals.unreadable()), (2, 1));
        assert_eq!(arrivals.latencies.percentiles().samples, 1);
        arrivals.latencies.add(Duration::from_secs(3_600));
        assert!(arrivals.percentiles().p50_ms.is_some_and(|latency| latency >= 40.0));
        assert_eq!(arrivals.percentiles().samples, 0, "they were asked for");
    }

    #[test]
    fn counters_are_those_of_the_last_metrics() {
        let point = |outcome: &str, value| NumberDataPoint {
            attributes: vec![KeyValue { key: OUTCOME.into(), value: text(outcome), ..KeyValue::default() }],
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        };
        let of_logs = |outcome: &str, value| {
            let mut point = point(outcome, value);
            let signal = KeyValue { key: SIGNAL.into(), value: text("logs"), ..KeyValue::default() };
            point.attributes.push(signal);
            point
        };
        let metric = |name: &str, data_points| Metric {
            name: name.to_owned(),
            data: Some(metric::Data::Sum(Sum { data_points, ..Sum::default() })),
            ..Metric::default()
        };
        let request = |accepted| {
            let dropped = |reason: &str, value| {
                let mut point = point("dropped", value);
                point.attributes.push(KeyValue { key: REASON.into(), value: text(reason), ..KeyValue::default() });
                point
            };
            let points = vec![
                point("accepted", accepted),
                dropped("channel_full", 3),
                dropped("store_full", 2),
                dropped("oversize", 2),
            ];
            let metrics = vec![
                metric("sense_otel.receiver.datagrams", points),
                metric("sense_otel.receiver.kernel_drops", vec![point("", 5)]),
                metric("sense_otel.exporter.items", vec![of_logs("acknowledged", 7), of_logs("expired", 2)]),
                metric("qlik.sense.events", vec![point("accepted", 1_000)]),
            ];
            let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
            let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
            Bytes::from(ExportMetricsServiceRequest { resource_metrics }.encode_to_vec())
        };
        let mut arrivals = Arrivals::new(Clock::start(), Arc::new(Times::new()));
        arrivals.take_metrics(request(10));
        arrivals.take_metrics(request(20));
        let expected = Counters {
            accepted: 20,
            dropped: 7,
            dropped_channel_full: 3,
            dropped_store_full: 2,
            kernel_drops: 5,
            given_up: 2,
            ..Counters::default()
        };
        assert_eq!((arrivals.counters(), arrivals.counters().total()), (expected, 32));
    }
}
