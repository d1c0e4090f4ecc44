//! The content of an export request as lines of text.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::{DecodeError, Message};

use crate::signal::Signal;
use crate::telemetry::text::is_unprintable;
use crate::time::Timestamp;

use super::utc;

/// Columns of a name, so that values stand below each other.
const NAME_WIDTH: usize = 36;

/// Everything in an export request. No line holds a control character or one that turns the reading direction: they are
/// written as `\u{...}`, for perhaps it is one of them that the backend does not like.
///
/// # Errors
///
/// What is wrong with bytes that are no export request of this signal.
pub(super) fn lines(signal: Signal, body: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut page = Page::default();
    match signal {
        Signal::Logs => {
            for resource in ExportLogsServiceRequest::decode(body)?.resource_logs {
                page.resource(resource.resource.as_ref());
                for scope in resource.scope_logs {
                    page.scope(scope.scope.as_ref());
                    scope.log_records.iter().for_each(|record| page.record(record));
                }
            }
        }
        Signal::Traces => {
            for resource in ExportTraceServiceRequest::decode(body)?.resource_spans {
                page.resource(resource.resource.as_ref());
                for scope in resource.scope_spans {
                    page.scope(scope.scope.as_ref());
                    scope.spans.iter().for_each(|span| page.span(span));
                }
            }
        }
        Signal::Metrics => {
            for resource in ExportMetricsServiceRequest::decode(body)?.resource_metrics {
                page.resource(resource.resource.as_ref());
                for scope in resource.scope_metrics {
                    page.scope(scope.scope.as_ref());
                    scope.metrics.iter().for_each(|metric| page.metric(metric));
                }
            }
        }
    }
    Ok(page.lines)
}

#[derive(Debug, Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    fn heading(&mut self, depth: usize, text: &str) {
        self.lines.push(format!("{:indent$}{}", "", printable(text.trim_end()), indent = depth * 2));
    }

    /// A name and its value, unless that is empty.
    fn field(&mut self, depth: usize, name: &str, value: &str) {
        if !value.is_empty() {
            let (indent, name) = (depth * 2, printable(name));
            self.lines.push(format!("{:indent$}{name:<NAME_WIDTH$} {}", "", printable(value)));
        }
    }

    fn time(&mut self, depth: usize, name: &str, nanos: u64) {
        if nanos != 0 {
            self.field(depth, name, &utc(Timestamp::from_nanos(nanos), 9));
        }
    }

    fn attributes(&mut self, depth: usize, attributes: &[KeyValue]) {
        for attribute in attributes {
            let value = attribute.value.as_ref().map(text).unwrap_or_default();
            // An empty value is told as well: it may be what is wrong.
            let value = if value.is_empty() { "(empty)" } else { &value };
            self.field(depth, &attribute.key, value);
        }
    }

    fn resource(&mut self, resource: Option<&Resource>) {
        self.heading(0, "resource");
        self.attributes(1, resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default());
    }

    fn scope(&mut self, scope: Option<&InstrumentationScope>) {
        if let Some(scope) = scope {
            self.heading(1, &format!("scope {} {}", scope.name, scope.version));
            self.attributes(2, &scope.attributes);
        }
    }

    fn record(&mut self, record: &LogRecord) {
        self.heading(1, &format!("log record {}", record.event_name));
        self.time(2, "time", record.time_unix_nano);
        self.time(2, "observed time", record.observed_time_unix_nano);
        self.field(2, "severity", format!("{} {}", record.severity_number, record.severity_text).trim_end());
        self.field(2, "trace id", &hex(&record.trace_id));
        self.field(2, "span id", &hex(&record.span_id));
        self.field(2, "body", &record.body.as_ref().map(text).unwrap_or_default());
        self.attributes(2, &record.attributes);
    }

    fn span(&mut self, span: &Span) {
        self.heading(1, &format!("span {}", span.name));
        self.field(2, "trace id", &hex(&span.trace_id));
        self.field(2, "span id", &hex(&span.span_id));
        self.field(2, "parent span id", &hex(&span.parent_span_id));
        self.field(2, "kind", span.kind().as_str_name());
        self.time(2, "start", span.start_time_unix_nano);
        self.time(2, "end", span.end_time_unix_nano);
        if let Some(status) = &span.status {
            self.field(2, "status", format!("{} {}", status.code().as_str_name(), status.message).trim_end());
        }
        self.attributes(2, &span.attributes);
        for event in &span.events {
            self.heading(2, &format!("event {}", event.name));
            self.time(3, "time", event.time_unix_nano);
            self.attributes(3, &event.attributes);
        }
        for link in &span.links {
            self.heading(2, &format!("link to trace {}, span {}", hex(&link.trace_id), hex(&link.span_id)));
            self.attributes(3, &link.attributes);
        }
    }

    fn metric(&mut self, metric: &Metric) {
        self.heading(1, &format!("metric {}", metric.name));
        self.field(2, "unit", &metric.unit);
        self.field(2, "description", &metric.description);
    }
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        None => String::new(),
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        Some(any_value::Value::BytesValue(bytes)) => format!("bytes {}", hex(bytes)),
        Some(any_value::Value::ArrayValue(array)) => {
            format!("[{}]", array.values.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Some(any_value::Value::KvlistValue(list)) => {
            let pair = |pair: &KeyValue| format!("{}: {}", pair.key, pair.value.as_ref().map(text).unwrap_or_default());
            format!("{{{}}}", list.values.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Some(other) => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            printable.extend(character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
    use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};

    use super::*;

    fn value(value: any_value::Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn string(text: &str) -> AnyValue {
        value(any_value::Value::StringValue(text.to_owned()))
    }

    fn attribute(key: &str, value: AnyValue) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
    }

    fn lines_of(record: LogRecord) -> Vec<String> {
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        let resource = Resource { attributes: vec![attribute("host.name", string("pro2"))], ..Resource::default() };
        let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
        lines(Signal::Logs, &ExportLogsServiceRequest { resource_logs }.encode_to_vec()).expect("a request of logs")
    }

    #[test]
    fn every_kind_of_value_is_one_line() {
        let nested = value(any_value::Value::KvlistValue(KeyValueList { values: vec![attribute("k", string("v"))] }));
        let array = vec![value(any_value::Value::IntValue(-1)), value(any_value::Value::BoolValue(true)), nested];
        let attributes = vec![
            attribute("user.id", string(r"LAB\goran")),
            attribute("nothing", string("")),
            attribute("many", value(any_value::Value::ArrayValue(ArrayValue { values: array }))),
            attribute("bytes", value(any_value::Value::BytesValue(vec![0, 255]))),
        ];
        let record = LogRecord {
            time_unix_nano: 1_795_652_633_000_000_001,
            severity_number: 9,
            event_name: "session.start".to_owned(),
            trace_id: vec![0xab; 16],
            attributes,
            ..LogRecord::default()
        };
        let found: Vec<String> =
            lines_of(record).iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "resource",
            "host.name pro2",
            "log record session.start",
            "time 2026-11-26T00:23:53.000000001Z",
            "severity 9",
            "trace id abababababababababababababababab",
            r"user.id LAB\goran",
            "nothing (empty)",
            "many [-1, true, {k: v}]",
            "bytes bytes 00ff",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_could_touch_a_terminal_is_written_out() {
        let hostile = "a\u{1b}[2J\u{202e}b\nc\u{200b}";
        let record = LogRecord {
            event_name: hostile.to_owned(),
            body: Some(string(hostile)),
            attributes: vec![attribute(hostile, string(hostile))],
            ..LogRecord::default()
        };
        let lines = lines_of(record);
        assert_eq!(lines.len(), 6, "{lines:#?}");
        let told = r"a\u{1b}[2J\u{202e}b\u{a}c\u{200b}";
        assert!([2, 4, 5].iter().all(|&index: &usize| lines[index].ends_with(told)), "{lines:#?}");
        assert!(lines.iter().flat_map(|line| line.chars()).all(|character| !is_unprintable(character)));
    }

    #[test]
    fn what_is_no_request_is_an_error_for_each_signal() {
        for signal in [Signal::Logs, Signal::Traces, Signal::Metrics] {
            lines(signal, b"\x0a\xff").expect_err("a length beyond the end");
            assert_eq!(lines(signal, b"").expect("an empty request"), Vec::<String>::new());
        }
    }
}
