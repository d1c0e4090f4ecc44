use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};

use super::super::tests::Written;
use super::*;
use crate::time::Timestamp;

/// A backend that ends every call in the same way, and passes on what it got.
#[derive(Debug)]
struct Fixed {
    calls: mpsc::UnboundedSender<ExportMetricsServiceRequest>,
    /// `None` never ends a call.
    outcome: Option<Outcome>,
}

impl Backend for Fixed {
    fn export(&self, request: Bytes) -> BoxFuture<'static, Outcome> {
        let _ = self.calls.send(ExportMetricsServiceRequest::decode(request).expect("a request of metrics"));
        let outcome = self.outcome.clone();
        Box::pin(async move {
            // As a connection would, this needs the runtime's clock.
            tokio::time::sleep(Duration::from_micros(10)).await;
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }
}

type Calls = mpsc::UnboundedReceiver<ExportMetricsServiceRequest>;

fn backend(outcome: Option<Outcome>) -> (Fixed, Calls) {
    let (calls, received) = mpsc::unbounded_channel();
    (Fixed { calls, outcome }, received)
}

fn taking() -> (Fixed, Calls) {
    backend(Some(Outcome::Taken { refused: 0, remark: String::new() }))
}

fn silent() -> (Fixed, Calls) {
    backend(None)
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
    telemetry.dropped(DropReason::ChannelFull, 2, None);
    telemetry.kernel_dropped(3);
    telemetry.held(4);
    telemetry.event("pro2-win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::ConnectionClose);
    telemetry.gap("pro2-win1", 7);
    telemetry.produced(Signal::Logs, 10);
    telemetry.acknowledged(Signal::Logs, 6);
    telemetry.expired(Signal::Logs, 1, ExpiryReason::Size);
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
    let (backend, mut calls) = taking();
    let telemetry = Telemetry::default();
    let resource = [("deployment.environment.name".to_owned(), "test".to_owned())];
    let metrics = start(&telemetry, backend, NEVER, &resource, &Handle::current());
    a_busy_minute(&telemetry);
    metrics.shutdown(SOON).await;

    let message = calls.recv().await.expect("one call");
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
    assert_eq!(value("sense_otel.receiver.restored{}"), 0.0);
    assert_eq!(value("sense_otel.exporter.restored{sense_otel.signal=traces}"), 0.0);
    assert_eq!(value("sense_otel.store.degraded{}"), 0.0);
    assert_eq!(value("sense_otel.store.lost{sense_otel.kind=frame}"), 0.0);
    assert_eq!(value("sense_otel.receiver.gap.events{qlik.sense.node=pro2-win1}"), 7.0);
    assert_eq!(value("sense_otel.exporter.items{sense_otel.outcome=acknowledged,sense_otel.signal=logs}"), 6.0);
    let expired = "sense_otel.exporter.items{sense_otel.outcome=expired,sense_otel.reason=";
    assert_eq!(value(&format!("{expired}size,sense_otel.signal=logs}}")), 1.0);
    assert_eq!(value(&format!("{expired}age,sense_otel.signal=logs}}")), 0.0);
    assert_eq!(value("sense_otel.exporter.pending{sense_otel.signal=logs}"), 3.0);
    // Each of the four histogram points was split in two here.
    let sent = u64::try_from(points.len()).expect("few") - 4;
    assert_eq!(telemetry.snapshot().signal(Signal::Metrics).acknowledged, sent);
}

/// A server that knows nobody.
struct Denying;

#[tonic::async_trait]
impl MetricsService for Denying {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Err(Status::unauthenticated("the key canary-5f1c-of-the-server is not known"))
    }
}

async fn serve_nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let incoming = stream::unfold(listener, async |listener| {
        let connection = listener.accept().await.map(|(connection, _)| connection);
        Some((connection, listener))
    });
    tokio::spawn(
        Server::builder().add_service(MetricsServiceServer::new(Denying)).serve_with_incoming(Box::pin(incoming)),
    );
    address
}

#[tokio::test]
async fn a_talkative_log_tells_no_header_and_nothing_of_the_libraries() {
    let written = Written::default();
    let _this_thread = written.install("trace");

    let address = serve_nobody().await;
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut request = Request::new(ExportMetricsServiceRequest::default());
    request.metadata_mut().insert("x-api-key", "canary-5f1c".parse().expect("ascii"));
    MetricsServiceClient::new(channel).export(request).await.expect_err("nobody is known there");
    Telemetry::default().parked(Signal::Logs, Code::PermissionDenied, "on this thread");

    let lines = written.lines();
    assert_eq!(lines.len(), 1, "the connection's tasks ran on this thread and said nothing: {lines:#?}");
    assert!(lines[0].starts_with("ERROR parked"), "{lines:#?}");
}

#[tokio::test]
async fn an_interval_sends_by_itself() {
    let (backend, mut calls) = taking();
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, backend, Duration::from_millis(20), &[], &Handle::current());
    telemetry.accepted(1);
    // A first collection may have come before the count.
    loop {
        let message = calls.recv().await.expect("a call per interval");
        if points(&message)["sense_otel.receiver.datagrams{sense_otel.outcome=accepted}"] == 1.0 {
            break;
        }
    }
    metrics.shutdown(SOON).await;
    assert!(telemetry.snapshot().signal_balance(Signal::Metrics, 0).is_exact());
}

#[tokio::test]
async fn a_backend_that_never_answers_does_not_hold_up_the_stop() {
    let (backend, mut calls) = silent();
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, backend, Duration::from_millis(1), &[], &Handle::current());
    calls.recv().await.expect("a call is on its way");
    let began = Instant::now();
    metrics.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let counts = telemetry.snapshot().signal(Signal::Metrics);
    assert_eq!((counts.acknowledged, counts.pending()), (0, 0), "what was not taken is accounted for");
}

#[tokio::test]
async fn a_failed_call_is_counted_once_and_not_repeated() {
    for (parked, code) in [(false, Code::Unavailable), (true, Code::Unauthenticated)] {
        let (backend, mut calls) = backend(Some(Outcome::Failed { code, message: "no".to_owned(), parked }));
        let telemetry = Telemetry::default();
        start(&telemetry, backend, NEVER, &[], &Handle::current()).shutdown(SOON).await;
        calls.recv().await.expect("one call");
        assert!(calls.recv().await.is_none(), "and no other");
        let counts = telemetry.snapshot().signal(Signal::Metrics);
        assert!(counts.expired > 0 && counts.pending() == 0, "{counts:?}");
        assert_eq!((counts.retries, counts.parks), (u64::from(!parked), u64::from(parked)));
    }
}

#[tokio::test]
async fn dropping_does_not_wait() {
    let (backend, mut calls) = silent();
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, backend, Duration::from_millis(1), &[], &Handle::current());
    calls.recv().await.expect("a call is on its way");
    let began = Instant::now();
    drop(metrics);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn partial_success_is_counted_as_refused() {
    let (backend, _calls) = backend(Some(Outcome::Taken { refused: 2, remark: "two too many".to_owned() }));
    let telemetry = Telemetry::default();
    start(&telemetry, backend, NEVER, &[], &Handle::current()).shutdown(SOON).await;
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.signal(Signal::Metrics).refused, 2);
    assert!(snapshot.signal(Signal::Metrics).acknowledged > 0);
    assert!(snapshot.signal_balance(Signal::Metrics, 0).is_exact());
}

#[tokio::test]
async fn a_warning_of_the_backend_is_told() {
    let written = Written::default();
    let _this_thread = written.install("info");
    let telemetry = Telemetry::default();
    let (_give_up, given_up) = watch::channel(false);
    // The SDK would report on a thread of its own, which has no log here.
    let exporter = export::Exporter::new(telemetry.clone(), taking().0, NEVER, Handle::current(), given_up);
    telemetry.produced(Signal::Metrics, 7);
    exporter.report(7, Outcome::Taken { refused: 0, remark: "your clock is late".to_owned() });
    exporter.report(0, Outcome::Taken { refused: 0, remark: String::new() });
    let line = "WARN the backend takes everything, and has something to say signal=metrics calls=1";
    assert_eq!(written.lines(), [format!("{line} answer=\"your clock is late\"")]);
    let counts = telemetry.snapshot().signal(Signal::Metrics);
    assert_eq!((counts.acknowledged, counts.refused, counts.remarks), (7, 0, 1));
}

#[tokio::test]
async fn labels_stay_within_their_bounds() {
    let (backend, mut calls) = taking();
    let telemetry = Telemetry::default();
    let metrics = start(&telemetry, backend, NEVER, &[], &Handle::current());
    for forged in 0..5000 {
        let node = format!("node-{forged}");
        telemetry.event(&node, Action::SessionStart);
        telemetry.connection_ended(&node, Some(&format!("proxy-{forged}")), "closed", Duration::from_secs(1));
    }
    metrics.shutdown(SOON).await;
    let message = calls.recv().await.expect("one call");
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
    let (backend, _calls) = silent();
    let telemetry = Telemetry::default();
    let metrics = {
        let _context = runtime.enter();
        start(&telemetry, backend, Duration::from_millis(1), &[], runtime.handle())
    };
    drop(runtime);
    let began = Instant::now();
    drop(metrics);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
