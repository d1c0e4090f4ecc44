//! Metrics go out as logs and traces do: the same client, the same answers, the same care.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use sense_otel::telemetry::metrics::{self, Metrics};
use tokio::runtime::Handle;

use super::*;

/// Sends metrics every so often from now on.
fn start(config: Config, telemetry: &Telemetry) -> Metrics {
    let store = Store::in_memory(Budget { bytes: 0, age: Duration::ZERO }, Arc::new(Unobserved));
    let exporter = Exporter::new(config, &store, telemetry, 7).expect("a usable configuration");
    metrics::start(telemetry, exporter.metrics(), Duration::from_millis(50), &[], &Handle::current())
}

/// Waits until the telemetry says so.
async fn until(telemetry: &Telemetry, what: &str, holds: impl Fn(Counts, Told) -> bool) {
    let waiting = async {
        while !holds(counts(telemetry, Signal::Metrics), told(telemetry, Signal::Metrics)) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(GRACE * 4, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

#[tokio::test]
async fn metrics_go_with_our_headers_and_compressed_as_configured() {
    let collector = Collector::start();
    let headers = vec![("x-honeycomb-team".to_owned(), "a secret".into())];
    let config = Config { headers, compression: Compression::Zstd, ..config(collector.addr()) };
    let telemetry = Telemetry::default();
    start(config, &telemetry).shutdown(GRACE).await;

    let call = collector.received().remove(0);
    assert_eq!(call.signal, Signal::Metrics);
    assert_eq!(call.headers["x-honeycomb-team"], "a secret");
    assert!(call.headers["user-agent"].to_str().expect("ASCII").starts_with("sense-otel/"));
    assert_eq!(call.compression.as_deref(), Some("zstd"));
    let request = ExportMetricsServiceRequest::decode(call.body).expect("a request of metrics");
    assert_eq!(request.resource_metrics.len(), 1);
    assert!(counts(&telemetry, Signal::Metrics).acknowledged > 0);
}

#[tokio::test]
async fn what_a_backend_answers_to_metrics_is_read_as_for_the_other_signals() {
    let collector = Collector::start();
    let garbage = [("grpc-status", "16"), ("grpc-message", "%FF"), ("grpc-status-details-bin", "this is no base64 !")];
    collector.answer(Signal::Metrics, [Answer::http(200, &garbage)]);
    let warning = Answer::Partial { rejected: 0, message: "your clock is late".to_owned() };
    collector.answer(Signal::Metrics, [warning, Answer::Message(Bytes::from_static(b"\xff\xff\xff"))]);
    let telemetry = Telemetry::default();
    let metrics = start(config(collector.addr()), &telemetry);
    until(&telemetry, "two remarks", |_, told| told.refused == 2).await;
    metrics.shutdown(GRACE).await;
    let told = told(&telemetry, Signal::Metrics);
    assert_eq!((told.parked, told.retrying, told.delivering), (1, 0, 1), "it was told that nobody knows us");
    assert_eq!(counts(&telemetry, Signal::Metrics).refused, 0);
}

#[tokio::test]
async fn a_replaced_authority_is_trusted_for_metrics_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (trusted, other) = (Authority::new(), Authority::new());
    let collector = Collector::with(Options { identity: Some(other.issue("localhost")), ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &trusted.pem()));
    let telemetry = Telemetry::default();
    let secure = tls::secure(collector.addr(), TlsConfig { ca_file, ..TlsConfig::default() });
    let metrics = start(secure, &telemetry);
    until(&telemetry, "a failed call", |_, told| told.retrying > 0).await;
    assert_eq!(collector.received().len(), 0, "sent to a server that nobody vouches for");

    certificates::write(folder.path(), "ca.pem", &other.pem());
    until(&telemetry, "a call that succeeds", |counts, _| counts.acknowledged > 0).await;
    metrics.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_backend_that_is_gone_and_comes_back_gets_the_next_metrics() {
    let collector = Collector::start();
    let addr = collector.addr();
    collector.stop();
    let telemetry = Telemetry::default();
    let metrics = start(config(addr), &telemetry);
    until(&telemetry, "a failed call", |_, told| told.retrying > 0).await;
    let collector = Collector::with(Options { listen: Some(addr), ..Options::default() });
    until(&telemetry, "a call that succeeds", |counts, _| counts.acknowledged > 0).await;
    metrics.shutdown(GRACE).await;
    assert!(calls(&collector.received(), Signal::Metrics) > 0);
    let counts = counts(&telemetry, Signal::Metrics);
    assert_eq!(counts.produced, counts.acknowledged + counts.expired);
}
