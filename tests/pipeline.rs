//! The whole pipeline in this process: datagrams over a real socket in, OTLP over real gRPC out, and both equations of
//! the accounting at every quiet point.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use sense_otel::event::{Format, RejectReason};
use sense_otel::pipeline::{Running, Summary, start};
use sense_otel::signal::Signal;
use sense_otel::simulator::{self, Faults, Pace, Simulator};
use sense_otel::telemetry::{DropReason, Snapshot};
use sense_otel::time::Timestamp;

use support::collector::Collector;
use support::rig::config;

mod support;

const PATIENCE: Duration = Duration::from_secs(20);

/// The pipeline at work with somebody who sends to it.
struct Rig {
    running: Running,
    socket: UdpSocket,
}

impl Rig {
    fn start(collector: SocketAddr) -> Self {
        let running = start(config(collector)).expect("a pipeline");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(running.local_addresses()[0]).expect("the pipeline listens");
        Self { running, socket }
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("loopback takes datagrams");
    }

    fn snapshot(&self) -> Snapshot {
        self.running.telemetry().snapshot()
    }

    /// Waits for a quiet point: `received` datagrams have come, none is held, and nothing is on its way.
    fn until_quiet(&self, received: u64) -> Snapshot {
        let began = Instant::now();
        loop {
            let snapshot = self.snapshot();
            let pending: u64 = [Signal::Logs, Signal::Traces].iter().map(|each| snapshot.signal(*each).pending()).sum();
            let is_quiet = snapshot.received == received && snapshot.datagrams_balance().is_exact();
            if is_quiet && snapshot.held == 0 && pending == 0 && snapshot.accepted > 0 {
                return snapshot;
            }
            assert!(began.elapsed() < PATIENCE, "no quiet point after {received} datagrams: {snapshot:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) -> (Snapshot, Summary) {
        let telemetry = self.running.telemetry().clone();
        let summary = self.running.stop();
        (telemetry.snapshot(), summary)
    }
}

/// How many log records and spans a collector took.
fn taken(collector: &Collector) -> (u64, u64) {
    let logs = collector.accepted(Signal::Logs).into_iter().map(|call| {
        let request = ExportLogsServiceRequest::decode(call.body).expect("a request");
        let records = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        records.map(|scope| scope.log_records.len() as u64).sum::<u64>()
    });
    let spans = collector.accepted(Signal::Traces).into_iter().map(|call| {
        let request = ExportTraceServiceRequest::decode(call.body).expect("a request");
        let spans = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        spans.map(|scope| scope.spans.len() as u64).sum::<u64>()
    });
    (logs.sum(), spans.sum())
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).expect("a time before 2554"))
}

/// Every way that a datagram can go, in one run, with the expected number for each.
#[test]
fn every_datagram_and_every_item_is_accounted_for() {
    let collector = Collector::start();
    let rig = Rig::start(collector.addr());
    let site = simulator::Config::new(Format::Extended, now(), Pace::PerSecond(20_000.0));
    let faults = Faults { loss: 0.02, duplicate: 0.05, reorder: 0.1 };
    let site = simulator::Config { users: 60, nodes: 1, events_max: 6_000, faults, seed: 11, ..site };
    let mut simulator = Simulator::new(site);
    let mut sent = 0;
    for emission in simulator.by_ref() {
        rig.send(&emission.bytes);
        sent += 1;
        // So that the smallest receive buffer is enough.
        if sent % 100 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    rig.send(b"/unknown/;a;b;c;d;e;f;g");
    rig.send(b"");
    rig.send(&[b'A'; 8193]);
    rig.send(
        b"/qseow-proxy-session/;pro2-win1;Start session;LAB;goran;Not available;Not available;Start session for user",
    );
    sent += 4;
    let snapshot = rig.until_quiet(sent);
    assert_eq!(snapshot.rejected_for(RejectReason::UnknownType), 1);
    assert_eq!(snapshot.rejected_for(RejectReason::Empty), 1);
    assert_eq!(snapshot.dropped_for(DropReason::Oversize), 1);
    assert_eq!(snapshot.dropped_for(DropReason::Superseded), 1);
    assert!(snapshot.duplicate > 100 && snapshot.excluded > 0, "{snapshot:?}");
    let missing: u64 = simulator.truth().gaps().iter().map(|gap| u64::from(gap.last - gap.first) + 1).sum();
    assert_eq!(snapshot.nodes.iter().map(|node| node.missing).sum::<u64>(), missing);

    let (snapshot, summary) = rig.stop();
    assert!(summary.clean && summary.logs_left == 0 && summary.spans_left == 0, "{summary:?}");
    assert!(snapshot.datagrams_balance().is_exact(), "{snapshot:?}");
    for signal in [Signal::Logs, Signal::Traces] {
        assert!(snapshot.signal_balance(signal, 0).is_exact(), "{signal}: {snapshot:?}");
    }
    let (logs, spans) = taken(&collector);
    let gaps: u64 = snapshot.nodes.iter().map(|node| node.gaps).sum();
    assert_eq!(logs, snapshot.accepted + gaps, "one record for each event and one for each gap");
    assert_eq!(logs, snapshot.signal(Signal::Logs).acknowledged);
    assert_eq!(spans, snapshot.signal(Signal::Traces).acknowledged);
}

/// With a backend that is down the equations hold too: what is not delivered is pending, and told at the stop.
#[test]
fn what_a_missing_backend_leaves_behind_is_pending() {
    let rig = Rig::start(SocketAddr::from(([127, 0, 0, 1], 9)));
    for user in 0..50 {
        let text = format!("/qseow-proxy-session/;pro2-win1;Start session;LAB;user{user};;;Start session for user");
        rig.send(text.as_bytes());
    }
    let began = Instant::now();
    while rig.snapshot().signal(Signal::Logs).produced < 50 {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    let (snapshot, summary) = rig.stop();
    assert!(snapshot.datagrams_balance().is_exact(), "{snapshot:?}");
    assert_eq!((summary.logs_left, summary.open_sessions), (50, 50));
    assert!(snapshot.signal_balance(Signal::Logs, summary.logs_left).is_exact(), "{snapshot:?}");
}

/// "On its way within 50 ms at low load": the best of some tries, so that a busy machine cannot fail it.
#[test]
fn a_lone_event_is_on_its_way_at_once() {
    let collector = Collector::start();
    let rig = Rig::start(collector.addr());
    let mut best = Duration::MAX;
    for user in 0..20 {
        let text = format!("/qseow-proxy-session/;pro2-win1;Start session;LAB;user{user};;;Start session for user");
        let sent = Instant::now();
        rig.send(text.as_bytes());
        while collector.accepted(Signal::Logs).len() <= user {
            assert!(sent.elapsed() < PATIENCE, "it never came");
            thread::sleep(Duration::from_millis(1));
        }
        let call = collector.accepted(Signal::Logs).pop().expect("it came");
        best = best.min(call.at.saturating_duration_since(sent));
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
}

/// With `spans.start_marker` the trace is there while the session is still open, below the span that is to come.
#[test]
fn a_start_marker_is_delivered_while_its_session_is_open() {
    let collector = Collector::start();
    let mut config = config(collector.addr());
    config.processor.start_marker = true;
    let running = start(config).expect("a pipeline");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let text = b"/qseow-proxy-session/;pro2-win1;Start session;LAB;goran;;;Start session for user";
    socket.send_to(text, running.local_addresses()[0]).expect("loopback takes datagrams");
    let began = Instant::now();
    while collector.accepted(Signal::Traces).is_empty() {
        assert!(began.elapsed() < PATIENCE, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
    let spans = spans(&collector);
    let [marker] = spans.as_slice() else { panic!("one span, not {spans:?}") };
    assert_eq!(marker.name, "qlik.sense.session.start");
    assert_eq!(marker.parent_span_id.len(), 8);
    assert_eq!(running.stop().open_sessions, 1);
}

fn spans(collector: &Collector) -> Vec<opentelemetry_proto::tonic::trace::v1::Span> {
    let calls = collector.accepted(Signal::Traces).into_iter();
    let requests = calls.map(|call| ExportTraceServiceRequest::decode(call.body).expect("a request"));
    let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}
