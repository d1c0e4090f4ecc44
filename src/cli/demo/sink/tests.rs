use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tonic::transport::{Channel, Endpoint};

use super::*;

async fn connect(sink: &Sink) -> Channel {
    Endpoint::from(sink.endpoint()).connect().await.expect("the sink listens")
}

fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, content: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: value(content), ..KeyValue::default() }
}

fn string(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.into())
}

fn logs_request() -> ExportLogsServiceRequest {
    let record = logs::LogRecord {
        time_unix_nano: 7,
        severity_number: 13,
        event_name: "session.end".into(),
        body: value(string("LAB\\eve \u{1b}[2Jleft\nERROR")),
        ..logs::LogRecord::default()
    };
    let scope_logs = vec![logs::ScopeLogs { log_records: vec![record], ..logs::ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![logs::ResourceLogs { scope_logs, ..logs::ResourceLogs::default() }] }
}

fn trace_request() -> ExportTraceServiceRequest {
    let span = trace::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "qlik.sense.session".into(),
        start_time_unix_nano: 10,
        end_time_unix_nano: 20,
        attributes: vec![
            attribute("qlik.sense.session.connections", any_value::Value::IntValue(3)),
            attribute("qlik.sense.session.start.inferred", any_value::Value::BoolValue(true)),
            attribute(
                "qlik.sense.session.apps",
                any_value::Value::ArrayValue(ArrayValue {
                    values: [string("Sales"), string("Stock")].map(|text| AnyValue { value: Some(text) }).to_vec(),
                }),
            ),
        ],
        ..trace::Span::default()
    };
    let scope_spans = vec![trace::ScopeSpans { spans: vec![span], ..trace::ScopeSpans::default() }];
    let resource = Resource { attributes: vec![attribute("host.name", string("pro2-win1"))], ..Resource::default() };
    let resource_spans =
        trace::ResourceSpans { resource: Some(resource), scope_spans, ..trace::ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

#[tokio::test]
async fn each_signal_arrives_in_either_compression() {
    let (items, mut received) = mpsc::channel(16);
    let sink = Sink::start(items).expect("a free port");
    let channel = connect(&sink).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut logs = LogsServiceClient::new(channel.clone()).send_compressed(encoding);
        logs.export(logs_request()).await.expect("logs are taken");
        let mut traces = TraceServiceClient::new(channel.clone()).send_compressed(encoding);
        traces.export(trace_request()).await.expect("spans are taken");
        let mut metrics = MetricsServiceClient::new(channel.clone()).send_compressed(encoding);
        metrics.export(ExportMetricsServiceRequest::default()).await.expect("metrics are taken");

        let Some(Received::Record(record)) = received.recv().await else { panic!("a record came first") };
        assert_eq!(record.event_name, "session.end");
        assert!(record.is_warning);
        assert_eq!(record.body, r"LAB\eve [2Jleft ERROR", "what users type cannot move the cursor");

        let Some(Received::Span(span)) = received.recv().await else { panic!("a span came second") };
        assert_eq!((span.start, span.end), (Timestamp::from_nanos(10), Timestamp::from_nanos(20)));
        assert_eq!(span.attribute("qlik.sense.session.connections"), Some("3"));
        assert_eq!(span.attribute("qlik.sense.session.start.inferred"), Some("true"));
        assert_eq!(span.attribute("qlik.sense.session.apps"), Some("Sales, Stock"));
        assert_eq!(span.attribute("host.name"), Some("pro2-win1"), "of its resource");
        assert_eq!(received.recv().await, Some(Received::Metrics));
    }
    sink.stop();
    assert_eq!(received.recv().await, None);
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let (items, mut received) = mpsc::channel(1);
    let sink = Sink::start(items).expect("a free port");
    let mut client = LogsServiceClient::new(connect(&sink).await);
    let mut request = logs_request();
    let record = request.resource_logs[0].scope_logs[0].log_records[0].clone();
    request.resource_logs[0].scope_logs[0].log_records = vec![record; 100];
    let call = tokio::spawn(async move { client.export(request).await });
    for _ in 0..100 {
        let item = tokio::time::timeout(Duration::from_secs(5), received.recv()).await.expect("in time");
        assert!(matches!(item, Some(Received::Record(_))));
    }
    call.await.expect("no panic").expect("logs are taken");
    sink.stop();
}
