//! The whole way: simulated datagrams into the real receiver, out of it into a real OpenTelemetry Collector, and what the
//! collector wrote down held against the truth.
//!
//! Needs a collector: `SENSE_OTEL_OTELCOL=$(.ci/otelcol) cargo test --test e2e`. Without one these tests pass, saying
//! that they did nothing; with `SENSE_OTEL_REQUIRE_OTELCOL=1` they fail. `SENSE_OTEL_LOAD=1` adds those that measure,
//! and `SENSE_OTEL_BINARY` names a release build for them to measure.
#![cfg(unix)]

use std::io::{ErrorKind, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

mod checker;
mod load;
mod received;
#[path = "../support/stand.rs"]
mod stand;
mod truth;

use checker::{Format, check, datagrams, items, total};
use received::Received;
use stand::{Collector, Failure, PATIENCE, Receiver, folder, sense_otel, simulate, until};
use truth::Truth;

/// More than one export, so that later values take the place of earlier ones.
const METRICS: &str = "telemetry: { metrics_interval: 1s }";

#[test]
fn extended_events_arrive_as_they_happened() -> Result<(), Failure> {
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("extended")?;
    let site = ["--format", "extended", "--users", "40", "--seed", "7", "--rate", "1500", "--events", "4500"];
    let more = format!("{METRICS}\nexclude_users: []");
    let Delivery { received, truth, .. } = deliver(&folder, &otelcol, &site, "", &more)?;
    assert_faultless(&check(&truth, Format::Extended, &received));
    // The run had what it is about.
    let refused = truth.events.iter().filter(|event| event.refused).count();
    let traced = truth.sessions.iter().flat_map(|session| &session.connections).filter(|one| one.traceparent.is_some());
    let stopped = truth.sessions.iter().filter(|session| session.end.is_some()).count();
    assert!(refused > 0 && traced.count() > 0 && stopped > 100 && stopped < truth.sessions.len());
    Ok(())
}

#[test]
fn stock_events_arrive_as_they_came_in() -> Result<(), Failure> {
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("stock")?;
    // Slow, and with a seed that has no event twice within a moment.
    let site = ["--format", "stock", "--users", "150", "--seed", "29", "--rate", "30", "--events", "1000"];
    let more = format!("{METRICS}\nexclude_users: [{{ directory: internal, user: \"SA_*\" }}]");
    let Delivery { received, truth, lasted: (earliest, latest) } =
        deliver(&folder, &otelcol, &site, r"INTERNAL\sa_repository", &more)?;
    assert!(!truth.has_repetitions(), "choose another seed");
    assert_faultless(&check(&truth, Format::Stock { earliest, latest }, &received));
    assert!(truth.events.len() < 1_000, "nobody was left out");
    assert!(truth.sessions.iter().filter(|session| session.end.is_some()).count() > 50);
    Ok(())
}

/// Whatever was accepted is delivered before the exit, even though more keeps coming in.
#[test]
fn a_stop_while_traffic_flows_loses_nothing() -> Result<(), Failure> {
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("stop")?;
    let collector = Collector::start(&otelcol, "otelcol.yaml", &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, METRICS)?;
    let _traffic = simulate(&folder, receiver.address, &["--rate", "2000"])?;
    until_records(&folder, 3_000)?;
    receiver.stop()?;
    collector.stop()?;
    let received = Received::read(&folder)?;
    let accepted = datagrams(&received, "accepted");
    assert_eq!(i64::try_from(received.records.len()).ok(), accepted, "one record for each datagram accepted");
    assert_eq!(total(&received, "qlik.sense.events", "{event}", &[]), accepted);
    let spans = items(&received, "traces", "acknowledged");
    assert_eq!(i64::try_from(received.spans.len()).ok(), spans);
    Ok(())
}

/// After a kill the same port is free, the same folder is no hindrance, and events that come in then are delivered.
#[test]
fn a_killed_receiver_starts_again() -> Result<(), Failure> {
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("kill")?;
    let collector = Collector::start(&otelcol, "otelcol.yaml", &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, METRICS)?;
    let address = receiver.address;
    let _traffic = simulate(&folder, address, &["--rate", "1000"])?;
    until_records(&folder, 1_000)?;
    receiver.process.kill()?;
    let before = until_quiet(&folder)?;
    let mut receiver = Receiver::start(&folder, address.port(), collector.port, METRICS)?;
    assert_eq!(receiver.address, address);
    until_records(&folder, before + 1_000)?;
    receiver.stop()?;
    collector.stop()
}

/// Nobody takes the events, and still it ends in time: what it holds is then lost, or kept where there is a store.
#[test]
fn a_stop_without_a_backend_is_no_slower() -> Result<(), Failure> {
    let folder = folder("no-backend")?;
    // Port 9 is a service that nobody runs any more.
    let mut receiver = Receiver::start(&folder, 0, 9, "")?;
    simulate(&folder, receiver.address, &["--rate", "2000", "--events", "1000"])?.succeed(PATIENCE)?;
    receiver.stop()
}

/// The demo without its own sink: what it says it delivered is at the collector.
#[test]
fn the_demo_sends_to_a_collector() -> Result<(), Failure> {
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("demo")?;
    let collector = Collector::start(&otelcol, "otelcol.yaml", &folder)?;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let output = sense_otel().args(["demo", "--otlp", &endpoint, "--sessions", "5", "--speed", "4000"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    collector.stop()?;
    let received = Received::read(&folder)?;
    let sessions = received.spans.iter().filter(|span| span.item.name == "qlik.sense.session").count();
    let delivered = received.records.len() + received.spans.len();
    assert!(sessions >= 5, "{sessions} sessions of {text}");
    assert!(
        text.contains(&format!("became {delivered} log records and spans; records lost: 0.")),
        "{delivered}: {text}"
    );
    assert!(text.contains(&endpoint), "it says where it sends to: {text}");
    Ok(())
}

/// What one run brought.
struct Delivery {
    received: Received,
    /// Without whoever was left out on purpose.
    truth: Truth,
    /// Between these two times everything came in, in nanoseconds since the Unix epoch.
    lasted: (u64, u64),
}

/// Simulates, receives, stops.
fn deliver(folder: &Path, otelcol: &Path, site: &[&str], left_out: &str, more: &str) -> Result<Delivery, Failure> {
    let collector = Collector::start(otelcol, "otelcol.yaml", folder)?;
    let mut receiver = Receiver::start(folder, 0, collector.port, more)?;
    let file = folder.join("truth.json");
    let truth_argument = file.to_string_lossy();
    let began = now()?;
    let arguments = [site, &["--nodes", "3", "--truth", &truth_argument]].concat();
    simulate(folder, receiver.address, &arguments)?.succeed(2 * PATIENCE)?;
    let truth = Truth::read(&file)?.without(left_out);
    // What is missing after this time the checker tells better.
    let _ = until_records(folder, truth.events.len());
    let ended = now()?;
    receiver.stop()?;
    collector.stop()?;
    let log = receiver.process.output()?;
    assert!(!log.contains("ERROR") && !log.contains("something to say"), "a collector that is well: {log}");
    Ok(Delivery { received: Received::read(folder)?, truth, lasted: (began, ended) })
}

fn until_records(folder: &Path, count: usize) -> Result<(), Failure> {
    until(&format!("{count} records"), PATIENCE, || Ok((records_written(folder)? >= count).then_some(())))
}

/// Waits until no record has been written for a while, and returns how many there are.
fn until_quiet(folder: &Path) -> Result<usize, Failure> {
    let mut before = (0, Instant::now());
    until("no more records", PATIENCE, || {
        let written = records_written(folder)?;
        if written != before.0 {
            before = (written, Instant::now());
        }
        Ok((before.1.elapsed() > Duration::from_millis(500)).then_some(written))
    })
}

fn records_written(folder: &Path) -> Result<usize, Failure> {
    match fs::read_to_string(folder.join("logs.json")) {
        Ok(text) => Ok(text.matches("\"eventName\"").count()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn assert_faultless(faults: &[String]) {
    let first: Vec<&String> = faults.iter().take(20).collect();
    assert!(faults.is_empty(), "{} faults, the first of them: {first:#?}", faults.len());
}

fn now() -> Result<u64, Failure> {
    Ok(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?)
}

/// The collector to test against, unless there is none, which is said once and may be a failure.
fn otelcol() -> Option<PathBuf> {
    let path = env::var_os("SENSE_OTEL_OTELCOL").map(PathBuf::from);
    if path.is_none() {
        assert!(env::var_os("SENSE_OTEL_REQUIRE_OTELCOL").is_none(), "SENSE_OTEL_OTELCOL names no collector");
        skipped("no collector: SENSE_OTEL_OTELCOL=$(.ci/otelcol) cargo test --test e2e");
    }
    path
}

/// Says so where the test runner does not swallow it.
fn skipped(why: &str) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    // A test does not fail because nobody listens.
    let _ = writeln!(stderr(), "SKIPPED {name}, {why}");
}
