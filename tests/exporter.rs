//! Delivery, as a backend sees it: the exporter against a real gRPC server over real sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use sense_otel::exporter::{Compression, Config, Exporter, RetryConfig, TlsConfig};
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::{Budget, Store};
use sense_otel::telemetry::Telemetry;
use sense_otel::time::RunningTime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use support::accounting::{Counts, Told, assert_balanced, counts, told};
use support::certificates::{self, Authority};
use support::collector::{Answer, Collector, Options, Received};

mod support;

/// An exporter at work, with what surrounds it.
struct Rig {
    store: Store,
    telemetry: Telemetry,
    stop: watch::Sender<Option<Instant>>,
    running: JoinHandle<Vec<(Signal, u64)>>,
}

impl Rig {
    /// Starts with these requests waiting.
    fn with_backlog(config: Config, backlog: Vec<ExportRequest>) -> Self {
        let store = Store::in_memory(Budget { bytes: 64 * 1024 * 1024, age: Duration::from_secs(3600) });
        let telemetry = Telemetry::default();
        append(&store, &telemetry, backlog);
        let exporter = Exporter::new(config, &store, &telemetry, 7).expect("a usable configuration");
        let (stop, stopped) = watch::channel(None);
        let running = tokio::spawn(exporter.run(stopped));
        Self { store, telemetry, stop, running }
    }

    fn start(config: Config) -> Self {
        Self::with_backlog(config, Vec::new())
    }

    fn append(&self, requests: Vec<ExportRequest>) {
        append(&self.store, &self.telemetry, requests);
    }

    fn logs(&self) -> Counts {
        counts(&self.telemetry, Signal::Logs)
    }

    fn told(&self) -> Told {
        told(&self.telemetry, Signal::Logs)
    }

    /// Waits until nothing of `signal` is pending.
    async fn delivered(&self, signal: Signal) {
        for _ in 0..4_000 {
            if self.store.pending(signal).requests == 0 {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{signal} are not delivered: {:?} pending, {:?}", self.store.pending(signal), self.logs());
    }

    /// Stops within `grace`, asserts the accounting, and returns the counts of the logs.
    async fn stop(self, grace: Duration) -> Counts {
        let asked = Instant::now();
        self.stop.send(Some(asked + grace)).expect("the exporter runs");
        let left = timeout(grace + GRACE, self.running).await.expect("ends in time").expect("no panic");
        assert!(asked.elapsed() < grace + Duration::from_secs(2), "took {:?}", asked.elapsed());
        for (signal, items) in left {
            assert_eq!(items, self.store.pending(signal).items, "{signal}");
        }
        assert_balanced(&self.telemetry, &self.store);
        counts(&self.telemetry, Signal::Logs)
    }
}

fn append(store: &Store, telemetry: &Telemetry, requests: Vec<ExportRequest>) {
    for request in &requests {
        telemetry.produced(request.signal, u64::from(request.items));
    }
    let expired = store.append(requests, RunningTime::START);
    telemetry.expired(Signal::Logs, expired.logs);
    telemetry.expired(Signal::Traces, expired.traces);
}

const GRACE: Duration = Duration::from_secs(5);

fn config(addr: SocketAddr) -> Config {
    Config {
        endpoint: format!("http://{addr}").parse().expect("an address"),
        signals: vec![Signal::Logs, Signal::Traces],
        headers: Vec::new(),
        tls: TlsConfig::default(),
        compression: Compression::None,
        timeout: Duration::from_secs(5),
        retry: RetryConfig { initial_interval: Duration::from_millis(10), max_interval: Duration::from_millis(40) },
    }
}

/// A request with one log record for each of `numbers`, padded to some `size` bytes.
fn logs_of(numbers: std::ops::Range<u32>, size: usize) -> ExportRequest {
    let items = u32::try_from(numbers.len()).expect("a few");
    let log_records = numbers
        .map(|number| LogRecord {
            event_name: format!("event-{number}"),
            body: Some(AnyValue { value: Some(any_value::Value::StringValue("x".repeat(size))) }),
            ..LogRecord::default()
        })
        .collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let request =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
    ExportRequest { signal: Signal::Logs, items, body: request.encode_to_vec().into() }
}

fn logs(numbers: std::ops::Range<u32>) -> ExportRequest {
    logs_of(numbers, 10)
}

/// Spans are bytes like any others to the exporter; empty `ResourceSpans` will do.
fn spans(count: u8) -> ExportRequest {
    let body = [0x0a, 0].repeat(usize::from(count));
    ExportRequest { signal: Signal::Traces, items: u32::from(count), body: body.into() }
}

/// The numbers of the log records in one call.
fn numbers(call: &Received) -> Vec<u32> {
    let request = ExportLogsServiceRequest::decode(call.body.clone()).expect("a logs request");
    let records = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    records
        .flat_map(|scope| scope.log_records)
        .map(|record| record.event_name.trim_start_matches("event-").parse().expect("a number"))
        .collect()
}

/// The numbers of all log records that were accepted, in the order of their coming.
fn accepted(collector: &Collector) -> Vec<u32> {
    collector.accepted(Signal::Logs).iter().flat_map(numbers).collect()
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers
}

fn calls(received: &[Received], signal: Signal) -> usize {
    received.iter().filter(|call| call.signal == signal).count()
}

// --- What is sent ---

#[tokio::test]
async fn a_backlog_is_sent_as_the_stored_bytes_one_behind_the_other() {
    let collector = Collector::start();
    let backlog = vec![logs(0..3), spans(2), logs(3..4), logs(4..9), spans(1)];
    let rig = Rig::with_backlog(config(collector.addr()), backlog.clone());
    rig.delivered(Signal::Logs).await;
    rig.delivered(Signal::Traces).await;

    for signal in [Signal::Logs, Signal::Traces] {
        let stored: Vec<u8> = backlog
            .iter()
            .filter(|request| request.signal == signal)
            .flat_map(|request| request.body.to_vec())
            .collect();
        let calls = collector.accepted(signal);
        assert_eq!(calls.len(), 1, "{signal}");
        assert_eq!(calls[0].body, stored, "{signal}");
    }
    assert_eq!(accepted(&collector), (0..9).collect::<Vec<_>>());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.produced, counts.acknowledged), (9, 9));
}

#[tokio::test]
async fn what_is_appended_while_idle_is_sent_at_once_and_in_order() {
    let collector = Collector::start();
    let rig = Rig::start(config(collector.addr()));
    for number in 0..50 {
        rig.append(vec![logs(number..number + 1)]);
        let expected = number as usize + 1;
        collector.wait("the next record", |received| calls(received, Signal::Logs) == expected).await;
    }
    assert_eq!(accepted(&collector), (0..50).collect::<Vec<_>>());
    assert_eq!(rig.stop(GRACE).await.acknowledged, 50);
}

#[tokio::test]
async fn calls_are_cut_by_bytes_and_by_items() {
    let collector = Collector::start();
    let large = (0..9).map(|number| logs_of(number..number + 1, 1024 * 1024)).collect();
    let rig = Rig::with_backlog(config(collector.addr()), large);
    rig.delivered(Signal::Logs).await;
    let sizes: Vec<usize> = collector.accepted(Signal::Logs).iter().map(|call| numbers(call).len()).collect();
    assert_eq!(sizes, [3, 3, 3]);

    rig.append((0..5).map(|part| logs_of(part * 3_000..(part + 1) * 3_000, 0)).collect());
    rig.delivered(Signal::Logs).await;
    let sizes: Vec<usize> = collector.accepted(Signal::Logs)[3..].iter().map(|call| numbers(call).len()).collect();
    assert_eq!(sorted_sizes(sizes), [3_000, 6_000, 6_000]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 15_009);
}

fn sorted_sizes(mut sizes: Vec<usize>) -> Vec<usize> {
    sizes.sort_unstable();
    sizes
}

#[tokio::test]
async fn at_most_four_calls_are_under_way_and_the_cursor_waits_for_the_first() {
    let collector = Collector::start();
    let (release, held) = oneshot::channel();
    let mut held = Some(held);
    // Bodies of this size end in any order, so the first call is known by what it holds.
    collector.rule(Signal::Logs, move |call| match numbers(call).contains(&0) {
        true => Answer::Once(held.take().expect("asked once"), Box::new(Answer::Ok)),
        false => Answer::Ok,
    });
    let large = (0..12).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(Config { timeout: GRACE * 4, ..config(collector.addr()) }, large);

    collector.wait("four calls", |received| received.len() == 4).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(collector.received().len(), 4, "a fifth call started before the first ended");
    assert_eq!(rig.store.pending(Signal::Logs).items, 12, "the cursor passed the first call");
    assert_eq!(rig.logs().acknowledged, 0);

    release.send(()).expect("the call waits for it");
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..12).collect::<Vec<_>>());
    assert_eq!(rig.stop(GRACE).await.acknowledged, 12);
}

#[tokio::test]
async fn requests_are_compressed_as_configured() {
    for (compression, name) in
        [(Compression::None, None), (Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd"))]
    {
        let collector = Collector::start();
        let stored = logs_of(0..100, 500);
        let config = Config { compression, ..config(collector.addr()) };
        let rig = Rig::with_backlog(config, vec![stored.clone()]);
        rig.delivered(Signal::Logs).await;
        let call = collector.received().remove(0);
        assert_eq!(call.compression.as_deref(), name);
        assert_eq!(call.body, stored.body);
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn headers_and_our_name_go_with_every_call_and_no_compressed_answer_is_offered() {
    let collector = Collector::start();
    let headers = [("x-honeycomb-team", "a secret"), ("x-token-bin", "AAEC/w==")]
        .map(|(name, value)| (name.to_owned(), value.into()));
    let rig = Rig::with_backlog(Config { headers: headers.into(), ..config(collector.addr()) }, vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;

    let call = collector.received().remove(0);
    assert_eq!(call.headers["x-honeycomb-team"], "a secret");
    let metadata = tonic::metadata::MetadataMap::from_headers(call.headers.clone());
    let binary = metadata.get_bin("x-token-bin").expect("sent").to_bytes().expect("base64");
    assert_eq!(&binary[..], [0, 1, 2, 255]);
    let agent = call.headers["user-agent"].to_str().expect("ASCII");
    assert!(agent.starts_with(concat!("sense-otel/", env!("CARGO_PKG_VERSION"))), "{agent}");
    assert_eq!(call.headers["content-type"], "application/grpc");
    assert_eq!(call.headers["te"], "trailers");
    assert!(!call.headers.contains_key("grpc-accept-encoding"));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn only_the_configured_signals_are_sent() {
    let collector = Collector::start();
    let config = Config { signals: vec![Signal::Traces], ..config(collector.addr()) };
    let rig = Rig::with_backlog(config, vec![logs(0..2), spans(3)]);
    rig.delivered(Signal::Traces).await;
    assert_eq!(calls(&collector.received(), Signal::Logs), 0);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 0);
}

// --- TLS ---

fn secure(addr: SocketAddr, tls: TlsConfig) -> Config {
    let endpoint = format!("https://localhost:{}", addr.port()).parse().expect("an address");
    Config { endpoint, tls, timeout: Duration::from_millis(500), ..config(addr) }
}

#[tokio::test]
async fn a_private_authority_is_trusted_from_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let collector = Collector::with(Options { identity: Some(authority.issue("localhost")), ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &authority.pem()));
    let rig =
        Rig::with_backlog(secure(collector.addr(), TlsConfig { ca_file, ..TlsConfig::default() }), vec![logs(0..4)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 4);
}

#[tokio::test]
async fn the_expected_server_name_can_be_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let identity = Some(authority.issue("collector.internal"));
    let collector = Collector::with(Options { identity, ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &authority.pem()));

    let wrong_name = TlsConfig { ca_file: ca_file.clone(), ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), wrong_name), vec![logs(0..1)]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(collector.received().len(), 0, "sent to a server with another name");
    assert_eq!(rig.stop(Duration::from_millis(50)).await.acknowledged, 0);

    let server_name_override = Some("collector.internal".to_owned());
    let tls = TlsConfig { ca_file, server_name_override, ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), tls), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 1);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let (servers, clients) = (Authority::new(), Authority::new());
    let options = Options {
        identity: Some(servers.issue("localhost")),
        client_authority: Some(clients.pem()),
        ..Options::default()
    };
    let collector = Collector::with(options);
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &servers.pem()));
    let without = TlsConfig { ca_file, ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), without.clone()), vec![logs(0..1)]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(collector.received().len(), 0, "came in without a certificate");
    rig.stop(Duration::from_millis(50)).await;

    let own = clients.issue("sense-otel");
    let cert_file = Some(certificates::write(folder.path(), "cert.pem", &own.certificate));
    let key_file = Some(certificates::write(folder.path(), "key.pem", &own.key));
    let tls = TlsConfig { cert_file, key_file, ..without };
    let rig = Rig::with_backlog(secure(collector.addr(), tls), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 1);
}

#[tokio::test]
async fn an_unknown_authority_gets_nothing_until_its_file_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (trusted, other) = (Authority::new(), Authority::new());
    let collector = Collector::with(Options { identity: Some(other.issue("localhost")), ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &trusted.pem()));
    let rig =
        Rig::with_backlog(secure(collector.addr(), TlsConfig { ca_file, ..TlsConfig::default() }), vec![logs(0..3)]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(collector.received().len(), 0, "sent to a server that nobody vouches for");
    assert!(rig.told().retrying > 0);

    certificates::write(folder.path(), "ca.pem", &other.pem());
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 3);
}

#[tokio::test]
async fn with_https_not_one_byte_goes_out_in_plain() {
    use tokio::io::AsyncReadExt;
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &Authority::new().pem()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let headers = vec![("authorization".to_owned(), "Bearer canary".into())];
    let config = Config { headers, ..secure(addr, TlsConfig { ca_file, ..TlsConfig::default() }) };
    let rig = Rig::with_backlog(config, vec![logs(0..3)]);

    let (mut connection, _) = timeout(GRACE, listener.accept()).await.expect("a connection").expect("accepted");
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_millis(200), connection.read_to_end(&mut bytes)).await;
    assert_eq!(bytes.first(), Some(&0x16), "a TLS handshake begins so");
    for secret in [b"canary".as_slice(), b"event-", b"PRI * HTTP/2.0"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    rig.stop(Duration::from_millis(50)).await;
}

// --- Answers ---

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Delivered,
    Parked,
    Quarantined,
}

/// What becomes of a request to which the server always answers so, or first so and then OK.
const TABLE: [(Code, End); 16] = [
    (Code::Cancelled, End::Delivered),
    (Code::Unknown, End::Quarantined),
    (Code::InvalidArgument, End::Quarantined),
    (Code::DeadlineExceeded, End::Delivered),
    (Code::NotFound, End::Quarantined),
    (Code::AlreadyExists, End::Quarantined),
    (Code::PermissionDenied, End::Parked),
    (Code::ResourceExhausted, End::Delivered),
    (Code::FailedPrecondition, End::Quarantined),
    (Code::Aborted, End::Delivered),
    (Code::OutOfRange, End::Delivered),
    (Code::Unimplemented, End::Parked),
    (Code::Internal, End::Quarantined),
    (Code::Unavailable, End::Delivered),
    (Code::DataLoss, End::Delivered),
    (Code::Unauthenticated, End::Parked),
];

#[tokio::test]
async fn every_code_has_the_end_that_the_table_says() {
    for (code, end) in TABLE {
        for retry_info in [false, true] {
            let answer = move || match retry_info {
                false => Answer::status(code, "no"),
                true => Answer::retry_after(code, Duration::from_millis(30)),
            };
            let collector = Collector::start();
            // Six refusals are more than any request survives that is not kept for good.
            collector.answer(Signal::Logs, std::iter::repeat_with(answer).take(6));
            let retry =
                RetryConfig { initial_interval: Duration::from_millis(2), max_interval: Duration::from_millis(4) };
            let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, vec![logs(0..3)]);
            rig.delivered(Signal::Logs).await;
            let told = rig.told();
            let counts = rig.stop(GRACE).await;
            let found = match (counts.acknowledged, counts.quarantined, told.parked) {
                (3, 0, 0) => End::Delivered,
                (3, 0, 1) => End::Parked,
                (0, 3, 0) => End::Quarantined,
                _ => panic!("{code:?}: {counts:?}, {told:?}"),
            };
            assert_eq!(found, end, "{code:?} with RetryInfo: {retry_info}");
            if end != End::Quarantined {
                assert_eq!(told.delivering, 1, "{code:?}: said that it works again");
                assert_eq!(told.retrying, if end == End::Parked { 0 } else { 6 }, "{code:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_backend_that_was_gone_gets_everything_in_order_when_it_is_back() {
    let collector = Collector::start();
    let addr = collector.addr();
    let rig = Rig::start(config(addr));
    rig.append(vec![logs(0..5)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3, 4]);
    collector.stop();

    for number in 5..60 {
        rig.append(vec![logs(number..number + 1)]);
        if number % 10 == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(rig.logs().acknowledged, 5);
    assert_eq!(rig.store.pending(Signal::Logs).items, 55);

    let collector = Collector::with(Options { listen: Some(addr), ..Options::default() });
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (5..60).collect::<Vec<_>>());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (60, 0));
}

#[tokio::test]
async fn a_backend_that_fails_at_random_misses_nothing() {
    let collector = Collector::start();
    let mut random = fastrand::Rng::with_seed(11);
    collector.rule(Signal::Logs, move |_| match random.u32(..4) {
        0 => Answer::status(Code::Unavailable, "no"),
        1 => Answer::without_status(stream::iter([Err(Status::internal("reset"))])),
        _ => Answer::Ok,
    });
    let retry = RetryConfig { initial_interval: Duration::from_millis(1), max_interval: Duration::from_millis(4) };
    let rig = Rig::start(Config { retry, ..config(collector.addr()) });
    for number in 0..300 {
        rig.append(vec![logs(number..number + 1)]);
        if number % 7 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..300).collect::<Vec<_>>());
    let tries = collector.received().len();
    assert!(tries > collector.accepted(Signal::Logs).len(), "no call failed, so nothing was shown");
    assert_eq!(rig.stop(GRACE).await.acknowledged, 300);
}

#[tokio::test]
async fn a_retry_info_is_waited_for() {
    let collector = Collector::start();
    let delay = Duration::from_millis(300);
    collector.answer(Signal::Logs, [Answer::retry_after(Code::Unavailable, delay)]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    let calls = collector.received();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at - calls[0].at >= delay, "came back after {:?}", calls[1].at - calls[0].at);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn retries_never_become_a_storm() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::status(Code::Unavailable, "no"));
    let retry = RetryConfig { initial_interval: Duration::from_millis(100), max_interval: Duration::from_millis(100) };
    let large = (0..20).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(Config { retry, ..config(collector.addr()) }, large);
    let began = Instant::now();
    sleep(Duration::from_millis(600)).await;
    let calls = collector.received().len();
    let waits = usize::try_from(began.elapsed().as_millis() / 50).expect("a few");
    assert!(calls <= 4 + waits, "{calls} calls in {:?}", began.elapsed());
    assert!(calls > 4, "no retry was made");
    assert_eq!(rig.stop(Duration::from_millis(20)).await.acknowledged, 0);
}

/// Refuses what is larger than `limit` as `grpc-go` does, and takes the rest.
fn refuse_larger(limit: usize) -> impl FnMut(&Received) -> Answer {
    move |call| match call.body.len() {
        size if size > limit => Answer::status(
            Code::ResourceExhausted,
            &format!("grpc: received message larger than max ({size} vs. {limit})"),
        ),
        _ => Answer::Ok,
    }
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_parts_until_it_fits() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, refuse_larger(100_000));
    // Stored requests from small to several times the limit; all records fit alone.
    let backlog =
        vec![logs_of(0..3, 1_000), logs_of(3..103, 5_000), logs_of(103..104, 90_000), logs_of(104..140, 9_000)];
    let rig = Rig::with_backlog(config(collector.addr()), backlog);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), (0..140).collect::<Vec<_>>(), "in parts, and still in order");
    assert!(collector.accepted(Signal::Logs).iter().all(|call| call.body.len() <= 100_000));
    let refused = collector.received().len() - collector.accepted(Signal::Logs).len();
    assert!(refused <= 20, "{refused} calls in vain");

    // The lesson is remembered: the next backlog is cut small at once.
    let before = collector.received().len();
    rig.append((140..200).map(|number| logs_of(number..number + 1, 10_000)).collect());
    rig.delivered(Signal::Logs).await;
    let later = &collector.received()[before..];
    assert!(later.iter().all(|call| call.accepted), "learned nothing");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (200, 0));
}

#[tokio::test]
async fn a_record_that_alone_is_too_large_is_put_aside_alone() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, refuse_larger(20_000));
    let mut giant = ExportLogsServiceRequest::decode(logs_of(0..9, 100).body).expect("a request");
    giant.resource_logs[0].scope_logs[0].log_records[5].severity_text = "x".repeat(50_000);
    let giant = ExportRequest { body: giant.encode_to_vec().into(), ..logs(0..9) };
    let rig = Rig::with_backlog(config(collector.addr()), vec![giant, logs(9..12)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (11, 1));
}

#[tokio::test]
async fn http_413_is_too_large_and_another_http_error_is_a_failed_connection() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::http(502, &[]), Answer::http(403, &[]), Answer::http(413, &[])]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..4)]);
    rig.delivered(Signal::Logs).await;
    let sent: Vec<_> = collector.received().iter().map(|call| (numbers(call), call.accepted)).collect();
    let all = vec![0, 1, 2, 3];
    let expected = [(all.clone(), false), (all.clone(), false), (all, false), (vec![0, 1], true), (vec![2, 3], true)];
    assert_eq!(sent, expected);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 4);
}

#[tokio::test]
async fn a_poisoned_batch_blocks_nothing_but_itself() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&13) {
        true => Answer::status(Code::InvalidArgument, "bad record"),
        false => Answer::Ok,
    });
    let rig = Rig::start(config(collector.addr()));
    for number in 0..40 {
        rig.append(vec![logs(number..number + 1)]);
        rig.delivered(Signal::Logs).await;
    }
    let expected: Vec<u32> = (0..40).filter(|&number| number != 13).collect();
    assert_eq!(accepted(&collector), expected);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (39, 1));
}

#[tokio::test]
async fn what_a_server_cannot_explain_is_tried_five_times() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |call| match numbers(call).contains(&0) {
        true => Answer::status(Code::Internal, "oops"),
        false => Answer::Ok,
    });
    let rig = Rig::start(config(collector.addr()));
    rig.append(vec![logs(0..1)]);
    collector.wait("the first try", |received| !received.is_empty()).await;
    rig.append(vec![logs(1..2)]);
    rig.delivered(Signal::Logs).await;
    let tries = collector.received().iter().filter(|call| numbers(call).contains(&0)).count();
    assert_eq!(tries, 5);
    assert_eq!(accepted(&collector), [1]);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (1, 1));
}

#[tokio::test]
async fn a_partial_success_is_counted_and_never_sent_again() {
    let collector = Collector::start();
    let partial = |rejected, message: &str| Answer::Partial { rejected, message: message.to_owned() };
    collector.answer(
        Signal::Logs,
        [partial(2, "two are bad"), partial(0, "only a warning"), partial(99, "more than there were"), partial(-1, "")],
    );
    collector.answer(Signal::Traces, [partial(3, "spans are bad")]);
    let rig = Rig::start(config(collector.addr()));
    rig.append(vec![spans(5)]);
    for first in [0, 10, 20, 30] {
        rig.append(vec![logs(first..first + 10)]);
        rig.delivered(Signal::Logs).await;
    }
    rig.delivered(Signal::Traces).await;
    assert_eq!(collector.received().len(), 5);
    let traces = counts(&rig.telemetry, Signal::Traces);
    assert_eq!((traces.acknowledged, traces.refused), (2, 3));
    assert_eq!(rig.told().refused, 3, "the warning is told, the empty one is not");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.refused), (8 + 10 + 10, 2 + 10));
}

#[tokio::test]
async fn while_parked_everything_is_kept_and_the_other_signal_goes_on() {
    let collector = Collector::start();
    let (open, closed) = watch::channel(false);
    collector.rule(Signal::Logs, move |_| match *closed.borrow() {
        true => Answer::Ok,
        false => Answer::status(Code::Unauthenticated, "who are you"),
    });
    let retry = RetryConfig { initial_interval: Duration::from_millis(5), max_interval: Duration::from_millis(20) };
    let rig = Rig::start(Config { retry, ..config(collector.addr()) });
    for number in 0..20 {
        rig.append(vec![logs(number..number + 1), spans(1)]);
        rig.delivered(Signal::Traces).await;
    }
    let began = collector.received().first().expect("a call").at;
    collector.wait("two more questions", |received| calls(received, Signal::Logs) >= 3).await;
    let asked = calls(&collector.received(), Signal::Logs);
    let waits = usize::try_from(began.elapsed().as_millis() / 75).expect("a few");
    assert!(asked <= 4 + waits, "asked {asked} times in {:?}", began.elapsed());
    assert_eq!(rig.told().parked, 1, "said once");
    assert_eq!(rig.store.pending(Signal::Logs).items, 20);

    open.send(true).expect("the rule listens");
    rig.delivered(Signal::Logs).await;
    assert_eq!(sorted(accepted(&collector)), (0..20).collect::<Vec<_>>());
    assert_eq!(rig.told().delivering, 1);
    assert_eq!(counts(&rig.telemetry, Signal::Traces).acknowledged, 20);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 20);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_is_made_again() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::Hang, Answer::without_status(stream::pending())]);
    let timeout = Duration::from_millis(500);
    let rig = Rig::with_backlog(Config { timeout, ..config(collector.addr()) }, vec![logs(0..2)]);
    rig.delivered(Signal::Logs).await;
    let calls = collector.received();
    assert_eq!(calls.len(), 3);
    assert!(calls.windows(2).all(|pair| pair[1].at - pair[0].at >= timeout));
    assert_eq!(accepted(&collector), [0, 1]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2);
}

#[tokio::test]
async fn answers_against_the_protocol_are_survived() {
    let garbage = "this is no base64 !";
    let ok = |message: &[u8]| Answer::Message(Bytes::copy_from_slice(message));
    let megabyte = Bytes::from(vec![0; 1024 * 1024]);
    let hostile: [(&str, Answer, usize); 9] = [
        (
            "details that are no base64",
            Answer::http(200, &[("grpc-status", "14"), ("grpc-status-details-bin", garbage)]),
            2,
        ),
        ("a status that is no number", Answer::http(200, &[("grpc-status", "what")]), 2),
        ("an end without a status", Answer::without_status(stream::iter([Ok(Bytes::new())])), 2),
        ("a reset", Answer::without_status(stream::iter([Err(Status::internal("reset"))])), 2),
        ("a body without end", Answer::without_status(stream::repeat_with(move || Ok(megabyte.clone()))), 2),
        ("a body of 5 MiB", ok(&vec![b'x'; 5 * 1024 * 1024]), 2),
        ("a message that is none", ok(b"\xff\xff\xff"), 1),
        ("OK without a message", Answer::http(200, &[("grpc-status", "0")]), 1),
        ("a compressed bomb", Answer::compressed(vec![0; 64 * 1024 * 1024].into()), 1),
    ];
    for (what, answer, tries) in hostile {
        let collector = Collector::start();
        collector.answer(Signal::Logs, [answer]);
        let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
        rig.delivered(Signal::Logs).await;
        assert_eq!(collector.received().len(), tries, "{what}");
        assert_eq!(rig.stop(GRACE).await.acknowledged, 1, "{what}");
    }
}

// --- Stop ---

#[tokio::test]
async fn stopping_delivers_what_is_left() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::After(Duration::from_millis(20), Box::new(Answer::Ok)));
    let large = (0..20).map(|number| logs_of(number..number + 1, 2 * 1024 * 1024)).collect();
    let rig = Rig::with_backlog(config(collector.addr()), large);
    rig.append(vec![spans(7)]);
    let counts = rig.stop(Duration::from_secs(15)).await;
    assert_eq!(counts.acknowledged, 20);
    assert_eq!(sorted(accepted(&collector)), (0..20).collect::<Vec<_>>());
    assert_eq!(calls(&collector.received(), Signal::Traces), 1);
}

#[tokio::test]
async fn stopping_goes_on_asking_until_its_deadline() {
    let collector = Collector::start();
    let refusals = || Answer::status(Code::Unavailable, "starting");
    collector.answer(Signal::Logs, std::iter::repeat_with(refusals).take(3));
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..2)]);
    collector.wait("the first try", |received| !received.is_empty()).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 2);
}

#[tokio::test]
async fn stopping_with_a_dead_backend_ends_in_time_and_says_what_is_left() {
    let collector = Collector::start();
    let addr = collector.addr();
    collector.stop();
    let rig = Rig::with_backlog(config(addr), vec![logs(0..9), spans(4)]);
    let store = rig.store.clone();
    assert_eq!(rig.stop(Duration::from_millis(300)).await.acknowledged, 0);
    assert_eq!((store.pending(Signal::Logs).items, store.pending(Signal::Traces).items), (9, 4));
}

#[tokio::test]
async fn stopping_with_a_hanging_backend_ends_in_time() {
    let collector = Collector::start();
    collector.rule(Signal::Logs, |_| Answer::Hang);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..9), spans(4)]);
    collector.wait("the call that hangs", |received| calls(received, Signal::Logs) == 1).await;
    let store = rig.store.clone();
    assert_eq!(rig.stop(Duration::from_millis(300)).await.acknowledged, 0);
    assert_eq!(store.pending(Signal::Logs).items, 9);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_try_that_may_not_be_made() {
    let collector = Collector::start();
    collector.answer(Signal::Logs, [Answer::retry_after(Code::Unavailable, Duration::from_secs(60))]);
    let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..1)]);
    collector.wait("the refusal", |received| !received.is_empty()).await;
    while rig.told().retrying == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let asked = Instant::now();
    assert_eq!(rig.stop(GRACE).await.acknowledged, 0);
    assert!(asked.elapsed() < Duration::from_secs(1), "waited {:?} for nothing", asked.elapsed());
}

#[tokio::test]
async fn an_exporter_whose_owner_is_gone_ends() {
    let collector = Collector::start();
    let Rig { stop, running, .. } = Rig::start(config(collector.addr()));
    drop(stop);
    let left = timeout(GRACE, running).await.expect("ends").expect("no panic");
    assert_eq!(left, [(Signal::Logs, 0), (Signal::Traces, 0)]);
}
