use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use futures_util::stream;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};

use super::super::tests::Written;
use super::*;
use crate::time::Timestamp;

/// A backend that answers every call with the same words, and passes on what it got.
struct Backend {
    calls: mpsc::UnboundedSender<(MetadataMap, ExportMetricsServiceRequest)>,
    answer: Result<ExportMetricsServiceResponse, Status>,
    /// Never answers instead.
    silent: bool,
}

#[tonic::async_trait]
impl MetricsService for Backend {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let _ = self.calls.send((metadata, message));
        if self.silent {
            std::future::pending::<()>().await;
        }
        self.answer.clone().map(Response::new)
    }
}

type Calls = mpsc::UnboundedReceiver<(MetadataMap, ExportMetricsServiceRequest)>;

async fn serve(answer: Result<ExportMetricsServiceResponse, Status>, silent: bool) -> (SocketAddr, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let (calls, received) = mpsc::unbounded_channel();
    let service = MetricsServiceServer::new(Backend { calls, answer, silent })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let incoming = stream::unfold(listener, async |listener| {
        let connection = listener.accept().await.map(|(connection, _)| connection);
        Some((connection, listener))
    });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming)));
    (address, received)
}

fn destination(address: SocketAddr) -> Destination {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut metadata = MetadataMap::new();
    metadata.insert("x-api-key", "canary-5f1c".parse().expect("ascii"));
    Destination { channel, metadata, compression: Some(CompressionEncoding::Zstd), timeout: Duration::from_secs(5) }
}

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(5);

/// Every number point as `name{label=value,...}`, every histogram as its count and sum.
fn points(message: &ExportMetricsServiceRequest) -> BTreeMap<String, f64> {
    let mut points = BTreeMap::new();
    let mut put = |name: &str, attributes: &[ProtoKeyValue], value| {
        let mut labels: Vec<String> = attributes.iter().map(|label| format!("{}={}", label.key, text(label))).collect();
        labels.sort();
        let previous = points.insert(format!("{name}{{{}}}", labels.join(",")), value);
        assert_eq!(previous, None, "one point per series: {name} {labels:?}");
    };
    for metric in message.resource_metrics.iter().flat_map(|each| &each.scope_metrics).flat_map(|each| &each.metrics) {
        let numbers = match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => &sum.data_points,
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    put(&format!("{}.count", metric.name), &point.attributes, point.count as f64);
                    put(&format!("{}.sum", metric.name), &point.attributes, point.sum.expect("a sum"));
                }
                continue;
            }
            other => panic!("an unexpected kind of metric: {other:?}"),
        };
        for point in numbers {
            let value = match point.value.expect("a value") {
                Value::AsInt(value) => value as f64,
                Value::AsDouble(value) => value,
            };
            put(&metric.name, &point.attributes, value);
        }
    }
    points
}

fn text(label: &ProtoKeyValue) -> String {
    match label.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("labels are texts: {other:?}"),
    }
}

fn resource_of(message: &ExportMetricsServiceRequest) -> BTreeMap<String, String> {
    let resource = message.resource_metrics[0].resource.as_ref().expect("a resource");
    resource.attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn a_busy_minute(telemetry: &Telemetry) {
    telemetry.received(12);
    telemetry.accepted(9);
    telemetry.rejected(RejectReason::NoUser, 1);
    telemetry.dropped(DropReason::ChannelFull, 2);
    telemetry.kernel_dropped(3);
    telemetry.held(4);
    telemetry.event("pro2-win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::ConnectionClose);
    telemetry.gap("pro2-win1", 7);
    telemetry.produced(Signal::Logs, 10);
    telemetry.acknowledged(Signal::Logs, 6);
    let last_event = Timestamp::from_nanos(u64::try_from(unix_time().as_nanos()).expect("this century"));
    telemetry.set_active(vec![NodeActivity {
        node: "pro2-win1".into(),
        sessions: 2,
        connections: 5,
        users: 1,
        last_event: last_event.before(Duration::from_secs(60)),
    }]);
    telemetry.session_ended("pro2-win1", None, "stopped", Duration::from_secs(3700));
    telemetry.session_ended("PRO2-WIN1", None, "stopped", Duration::from_secs(300));
    telemetry.session_ended("pro2-win1", Some("ext"), "stopped", Duration::from_secs(60));
    telemetry.connection_ended("pro2-win1", Some("ext"), "closed", Duration::from_millis(1500));
    telemetry.connection_ended("pro2-win1", None, "closed", Duration::from_secs(1));
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970")
}

#[tokio::test]
async fn shutdown_sends_the_last_numbers() {
    let (address, mut calls) = serve(Ok(ExportMetricsServiceResponse::default()), false).await;
    let telemetry = Telemetry::default();
    let resource = [("deployment.environment.name".to_owned(), "test".to_owned())];
    let metrics = start(&telemetry, destination(address), NEVER, &resource, &Handle::current());
    a_busy_minute(&telemetry);
    metrics.shutdown(SOON).await;

    let (metadata, message) = calls.recv().await.expect("one call");
    assert_eq!(metadata.get("x-api-key").map(|value| value.as_bytes()), Some(b"canary-5f1c".as_slice()));
    assert_eq!(metadata.get("grpc-encoding").map(|value| value.as_bytes()), Some(b"zstd".as_slice()));

    let resource = resource_of(&message);
    assert_eq!(resource["service.name"], "sense-otel");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 36);
    assert_eq!(resource["deployment.environment.name"], "test");
    assert_eq!(resource.len(), 4, "nothing out of the environment: {resource:?}");

    let points = points(&message);
    let value = |series: &str| *points.get(series).unwrap_or_else(|| panic!("{series} is missing: {points:#?}"));
    assert_eq!(value("qlik.sense.session.active{qlik.sense.node=pro2-win1}"), 2.0);
    assert_eq!(value("qlik.sense.connection.active{qlik.sense.node=pro2-win1}"), 5.0);
    assert_eq!(value("qlik.sense.user.active{qlik.sense.node=pro2-win1}"), 1.0);
    let age = value("qlik.sense.node.last_event.age{qlik.sense.node=pro2-win1}");
    assert!((60.0..120.0).contains(&age), "{age}");
    assert_eq!(value("qlik.sense.events{qlik.sense.event=session.start,qlik.sense.node=pro2-win1}"), 2.0);
    assert_eq!(value("qlik.sense.events{qlik.sense.event=qlik.sense.connection.open,qlik.sense.node=pro2-win1}"), 0.0);
    let ended = "{qlik.sense.node=pro2-win1,qlik.sense.session.end.reason=stopped}";
    assert_eq!(value(&format!("qlik.sense.session.duration.count{ended}")), 2.0);
    assert_eq!(value(&format!("qlik.sense.session.duration.sum{ended}")), 4000.0);
    let proxied = ended.replace('}', ",qlik.sense.virtual_proxy.prefix=ext}");
    assert_eq!(value(&format!("qlik.sense.session.duration.sum{proxied}")), 60.0);
    let closed = "qlik.sense.connection.close.reason=closed,qlik.sense.node=pro2-win1";
    assert_eq!(value(&format!("qlik.sense.connection.duration.sum{{{closed}}}")), 1.0);
    let proxied = format!("qlik.sense.connection.duration.sum{{{closed},qlik.sense.virtual_proxy.prefix=ext}}");
    assert_eq!(value(&proxied), 1.5);
    assert_eq!(value("sense_otel.receiver.datagrams{sense_otel.outcome=accepted}"), 9.0);
    assert_eq!(value("sense_otel.receiver.datagrams{sense_otel.outcome=rejected,sense_otel.reason=no_user}"), 1.0);
    assert_eq!(value("sense_otel.receiver.datagrams{sense_otel.outcome=dropped,sense_otel.reason=channel_full}"), 2.0);
    assert_eq!(value("sense_otel.receiver.kernel_drops{}"), 3.0);
    assert_eq!(value("sense_otel.receiver.held{}"), 4.0);
    assert_eq!(value("sense_otel.receiver.gap.events{qlik.sense.node=pro2-win1}"), 7.0);
    assert_eq!(value("sense_otel.exporter.items{sense_otel.outcome=acknowledged,sense_otel.signal=logs}"), 6.0);
    assert_eq!(value("sense_otel.exporter.pending{sense_otel.signal=logs}"), 4.0);
    // Each of the four histogram points was split in two here.
    let sent = u64::try_from(points.len()).expect("few") - 4;
    assert_eq!(telemetry.snapshot().signal(Signal::Metrics).acknowledged, sent);
}

#[tokio::test]
async fn a_talkative_log_tells_no_header_and_nothing_of_the_libraries() {
    let written = Written::default();
    let _this_thread = written.install("trace");

    let denied = Err(Status::unauthenticated("the key canary-5f1c-of-the-server is not known"));
    let (address, _calls) = serve(denied, false).await;
    let telemetry = Telemetry::default();
    start(&telemetry, destination(address), NEVER, &[], &Handle::current()).shutdown(SOON).await;
    telemetry.parked(Signal::Logs, Code::PermissionDenied, "on this thread");

    let lines = written.lines();
    assert_eq!(lines.len(), 1, "the connection's tasks ran on this thread and said nothing: {lines:#?}");
    assert!(lines[0].starts_with("ERROR parked"), "{lines:#?}");
}

#[tokio::test]
async fn an_interval_sends_by_itself() {
    let (address, mut calls) = serve(Ok(ExportMetricsServiceResponse::default()), false).await;
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, destination(address), Duration::from_millis(20), &[], &Handle::current());
    telemetry.accepted(1);
    // A first collection may have come before the count.
    loop {
        let (_, message) = calls.recv().await.expect("a call per interval");
        if points(&message)["sense_otel.receiver.datagrams{sense_otel.outcome=accepted}"] == 1.0 {
            break;
        }
    }
    metrics.shutdown(SOON).await;
    assert!(telemetry.snapshot().signal_balance(Signal::Metrics, 0).is_exact());
}

#[tokio::test]
async fn a_backend_that_never_answers_does_not_hold_up_the_stop() {
    let (address, mut calls) = serve(Ok(ExportMetricsServiceResponse::default()), true).await;
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, destination(address), Duration::from_millis(1), &[], &Handle::current());
    calls.recv().await.expect("a call is on its way");
    let began = Instant::now();
    metrics.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let counts = telemetry.snapshot().signal(Signal::Metrics);
    assert_eq!((counts.acknowledged, counts.pending()), (0, 0), "what was not taken is accounted for");
}

#[tokio::test]
async fn no_backend_at_all_does_not_hold_up_the_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    drop(listener);
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, destination(address), NEVER, &[], &Handle::current());
    let began = Instant::now();
    metrics.shutdown(SOON).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(telemetry.snapshot().signal(Signal::Metrics).expired > 0);
}

#[tokio::test]
async fn dropping_does_not_wait() {
    let (address, mut calls) = serve(Ok(ExportMetricsServiceResponse::default()), true).await;
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, destination(address), Duration::from_millis(1), &[], &Handle::current());
    calls.recv().await.expect("a call is on its way");
    let began = Instant::now();
    drop(metrics);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn partial_success_is_counted_as_refused() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "two too many".into() };
    let answer = ExportMetricsServiceResponse { partial_success: Some(partial) };
    let (address, _calls) = serve(Ok(answer), false).await;
    let telemetry = Telemetry::default();
    start(&telemetry, destination(address), NEVER, &[], &Handle::current()).shutdown(SOON).await;
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.signal(Signal::Metrics).refused, 2);
    assert!(snapshot.signal(Signal::Metrics).acknowledged > 0);
    assert!(snapshot.signal_balance(Signal::Metrics, 0).is_exact());
}

#[tokio::test]
async fn labels_stay_within_their_bounds() {
    let (address, mut calls) = serve(Ok(ExportMetricsServiceResponse::default()), false).await;
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, destination(address), NEVER, &[], &Handle::current());
    for forged in 0..5000 {
        let node = format!("node-{forged}");
        telemetry.event(&node, Action::SessionStart);
        telemetry.connection_ended(&node, Some(&format!("proxy-{forged}")), "closed", Duration::from_secs(1));
    }
    metrics.shutdown(SOON).await;
    let (_, message) = calls.recv().await.expect("one call");
    let mut counted = 0.0;
    for (series, value) in points(&message) {
        if series.starts_with("qlik.sense.connection.duration.count") {
            counted += value;
        }
    }
    assert_eq!(counted, 5000.0, "what is beyond the bound is summed up, not lost");
    for metric in message.resource_metrics.iter().flat_map(|each| &each.scope_metrics).flat_map(|each| &each.metrics) {
        let count = match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => gauge.data_points.len(),
            Data::Sum(sum) => sum.data_points.len(),
            Data::Histogram(histogram) => histogram.data_points.len(),
            other => panic!("an unexpected kind of metric: {other:?}"),
        };
        assert!(count <= 2000, "{} has {count} points", metric.name);
    }
}

#[test]
fn a_runtime_that_is_gone_does_not_hold_up_anything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (address, _calls) = runtime.block_on(serve(Ok(ExportMetricsServiceResponse::default()), true));
    let telemetry = Telemetry::default();
    let metrics = {
        let _context = runtime.enter();
        start(&telemetry, destination(address), Duration::from_millis(1), &[], runtime.handle())
    };
    drop(runtime);
    let began = Instant::now();
    drop(metrics);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
