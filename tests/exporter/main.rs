//! Delivery, as a backend sees it: the exporter against a real gRPC server over real sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use sense_otel::exporter::{Compression, Config, Exporter, RetryConfig, TlsConfig};
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::{Budget, Commit, Store, Unobserved};
use sense_otel::telemetry::Telemetry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use support::accounting::{Counts, Told, assert_balanced, counts, told};
use support::certificates::{self, Authority};
use support::collector::{Answer, Collector, Options, Received};

mod answers;
mod metrics;
mod quarantine;
mod requests;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod told;

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
        let budget = Budget { bytes: 64 * 1024 * 1024, age: Duration::from_secs(3600) };
        Self::on(Store::in_memory(budget, Arc::new(Unobserved)), config, backlog)
    }

    /// The same on a store that is there already.
    fn on(store: Store, config: Config, backlog: Vec<ExportRequest>) -> Self {
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

    /// Waits until a call for the logs has failed, so that the next one waits for its time.
    async fn refused_once(&self) {
        let failed = async {
            while self.told().retrying == 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(GRACE * 4, failed).await.expect("a call that fails");
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
    store.append(Commit { requests, ..Commit::default() }).expect("room in memory");
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
