//! What a log record and a span cost on their way into an export request: ours, and building and encoding the generated
//! protobuf types, in the same run. Each has fifteen attributes, as an event of a connection has; times are those of a
//! request of 512.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message;
use sense_otel::otlp::{Encoder, Limits};
use sense_otel::signal::{
    Attribute, LogRecord, Resource, Severity, Span, SpanContext, SpanId, SpanKind, TraceId, Value,
};
use sense_otel::time::Timestamp;

/// Items of a request.
const BATCH: u64 = 512;
const VERSION: &str = "1.0.0";
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
const BODY: &str = "LAB\\goran opened Consumer Sales (Chrome 126, Windows) from 10.11.12.13";

const CONTEXT: SpanContext = SpanContext {
    trace_id: TraceId([0xc0, 0xde, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    span_id: SpanId([1, 2, 3, 4, 5, 6, 7, 8]),
};

const ATTRIBUTES: [Attribute<'static>; 15] = [
    text("session.id", "c0de0304-0506-0708-090a-0b0c0d0e0f10"),
    text("user.id", "LAB\\goran"),
    text("user.name", "goran"),
    text("qlik.sense.user.directory", "LAB"),
    text("qlik.sense.app.id", "28b67b9c-b7d2-4f1b-9f2e-6a7d2f1c9b3e"),
    text("qlik.sense.app.name", "Consumer Sales"),
    text(
        "user_agent.original",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    ),
    text("user_agent.name", "Chrome"),
    text("user_agent.version", "126.0.0.0"),
    text("user_agent.os.name", "Windows"),
    text("client.address", "10.11.12.13"),
    text("url.path", "/sales/app/28b67b9c-b7d2-4f1b-9f2e-6a7d2f1c9b3e"),
    text("qlik.sense.event.origin", "AppAccess"),
    text("qlik.sense.virtual_proxy.prefix", "sales"),
    Attribute { key: "qlik.sense.session.segment", value: Value::Int(1) },
];

const fn text(key: &'static str, value: &'static str) -> Attribute<'static> {
    Attribute { key, value: Value::Text(value) }
}

const LOG: LogRecord<'static> = LogRecord {
    time: Timestamp::from_nanos(1_700_000_000_000_000_000),
    observed_time: Timestamp::from_nanos(1_700_000_000_010_000_000),
    severity: Severity::Info,
    event_name: "qlik.sense.connection.open",
    body: BODY,
    attributes: &ATTRIBUTES,
    trace_id: Some(CONTEXT.trace_id),
    span_id: Some(CONTEXT.span_id),
};

const SPAN: Span<'static> = Span {
    context: CONTEXT,
    parent: Some(SpanId([9, 8, 7, 6, 5, 4, 3, 2])),
    name: "qlik.sense.connection",
    kind: SpanKind::Server,
    start: Timestamp::from_nanos(1_700_000_000_000_000_000),
    end: Timestamp::from_nanos(1_700_003_600_000_000_000),
    attributes: &ATTRIBUTES,
    links: &[],
};

fn node() -> Resource {
    let attributes = [
        ("service.name", "qlik-sense-proxy"),
        ("service.namespace", "qlik-sense"),
        ("service.instance.id", "pro2-win1"),
        ("host.name", "pro2-win1"),
    ];
    Resource { attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec() }
}

fn log(criterion: &mut Criterion) {
    let resource = Arc::new(node());
    let mut encoder = Encoder::new(VERSION, Limits::default());
    let mut ours = || {
        for _ in 0..BATCH {
            encoder.log(&resource, black_box(&LOG));
        }
        encoder.finish()
    };
    let theirs = || {
        let records = (0..BATCH).map(|_| generated_log(black_box(&LOG))).collect();
        generated_log_request(&resource, records).encode_to_vec()
    };
    assert_eq!(ours().remove(0).body, theirs(), "both write the same");
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("encoder", |bencher| bencher.iter(&mut ours));
    group.bench_function("generated types", |bencher| bencher.iter(theirs));
    group.finish();
}

fn span(criterion: &mut Criterion) {
    let resource = Arc::new(node());
    let mut encoder = Encoder::new(VERSION, Limits::default());
    let mut ours = || {
        for _ in 0..BATCH {
            encoder.span(&resource, black_box(&SPAN));
        }
        encoder.finish()
    };
    let theirs = || {
        let spans = (0..BATCH).map(|_| generated_span(black_box(&SPAN))).collect();
        generated_trace_request(&resource, spans).encode_to_vec()
    };
    assert_eq!(ours().remove(0).body, theirs(), "both write the same");
    let mut group = criterion.benchmark_group("span");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("encoder", |bencher| bencher.iter(&mut ours));
    group.bench_function("generated types", |bencher| bencher.iter(theirs));
    group.finish();
}

fn generated_log(log: &LogRecord<'_>) -> logs::LogRecord {
    logs::LogRecord {
        time_unix_nano: log.time.as_nanos(),
        observed_time_unix_nano: log.observed_time.as_nanos(),
        severity_number: log.severity as i32,
        body: Some(generated_value(Value::Text(log.body))),
        attributes: generated_attributes(log.attributes),
        flags: 1,
        trace_id: CONTEXT.trace_id.0.to_vec(),
        span_id: CONTEXT.span_id.0.to_vec(),
        event_name: log.event_name.to_owned(),
        ..Default::default()
    }
}

fn generated_span(span: &Span<'_>) -> trace::Span {
    trace::Span {
        trace_id: span.context.trace_id.0.to_vec(),
        span_id: span.context.span_id.0.to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        flags: 0x101,
        name: span.name.to_owned(),
        kind: span.kind as i32,
        start_time_unix_nano: span.start.as_nanos(),
        end_time_unix_nano: span.end.as_nanos(),
        attributes: generated_attributes(span.attributes),
        ..Default::default()
    }
}

fn generated_attributes(attributes: &[Attribute<'_>]) -> Vec<common::KeyValue> {
    let attributes = attributes.iter().map(|attribute| common::KeyValue {
        key: attribute.key.to_owned(),
        value: Some(generated_value(attribute.value)),
        ..Default::default()
    });
    attributes.collect()
}

fn generated_value(value: Value<'_>) -> common::AnyValue {
    use common::any_value::Value as Generated;
    let value = match value {
        Value::Text(text) => Generated::StringValue(text.to_owned()),
        Value::Int(value) => Generated::IntValue(value),
        Value::Bool(value) => Generated::BoolValue(value),
        Value::Texts(texts) => Generated::ArrayValue(common::ArrayValue {
            values: texts.iter().map(|text| generated_value(Value::Text(text))).collect(),
        }),
    };
    common::AnyValue { value: Some(value) }
}

fn generated_resource(resource: &Resource) -> resource::Resource {
    let attributes = resource.attributes.iter();
    let attributes = attributes.map(|(key, value)| Attribute { key, value: Value::Text(value) }).collect::<Vec<_>>();
    resource::Resource { attributes: generated_attributes(&attributes), ..Default::default() }
}

fn generated_scope() -> common::InstrumentationScope {
    common::InstrumentationScope { name: "sense-otel".to_owned(), version: VERSION.to_owned(), ..Default::default() }
}

fn generated_log_request(resource: &Resource, log_records: Vec<logs::LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![logs::ResourceLogs {
            resource: Some(generated_resource(resource)),
            scope_logs: vec![logs::ScopeLogs {
                scope: Some(generated_scope()),
                log_records,
                schema_url: SCHEMA_URL.to_owned(),
            }],
            ..Default::default()
        }],
    }
}

fn generated_trace_request(resource: &Resource, spans: Vec<trace::Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![trace::ResourceSpans {
            resource: Some(generated_resource(resource)),
            scope_spans: vec![trace::ScopeSpans {
                scope: Some(generated_scope()),
                spans,
                schema_url: SCHEMA_URL.to_owned(),
            }],
            ..Default::default()
        }],
    }
}

criterion_group!(benches, log, span);
criterion_main!(benches);
