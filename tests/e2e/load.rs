//! What a release build must keep up with, on a machine of two cores that runs everything else besides.

use std::env;
use std::fs;
use std::io::{Write, stderr};
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::checker::{datagrams, items, total};
use crate::received::Received;
use crate::stand::{Collector, Failure, PATIENCE, Process, Receiver, folder, simulate, until};
use crate::{otelcol, skipped};

/// Resident memory of a receiver that has nothing to do, in KiB.
const IDLE_MEMORY_MAX: u64 = 15_000;

/// Resident memory it may ever have had under the load, in KiB.
const LOADED_MEMORY_MAX: u64 = 64 * 1_024;

#[test]
fn ten_thousand_datagrams_a_second_for_a_minute_all_arrive() -> Result<(), Failure> {
    if !is_asked_for() {
        return Ok(());
    }
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("load")?;
    let collector = Collector::start(&otelcol, "otelcol-counting.yaml", &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, "")?;
    let site = ["--users", "2000", "--nodes", "4", "--seed", "3", "--rate", "10000", "--duration", "60s"];
    let mut simulator = simulate(&folder, receiver.address, &site)?;
    simulator.succeed(Duration::from_secs(60) + PATIENCE)?;
    let (sent, failed) = sent(&simulator.output()?).ok_or("the simulator does not say how many it sent")?;
    assert!(sent >= 595_000 && failed == 0, "the load was not what it should be: {}", simulator.output()?);

    // What is missing after this time is told below.
    let _ = until("all records", PATIENCE, || Ok((counted(&collector, "\"log records\": ")? >= sent).then_some(())));
    let memory = status_kib(&receiver.process, "VmHWM:")?;
    receiver.stop()?;
    let records = counted(&collector, "\"log records\": ")?;
    let spans = counted(&collector, "\"spans\": ")?;
    collector.stop()?;
    let received = Received::read(&folder)?;
    let kernel_drops = total(&received, "sense_otel.receiver.kernel_drops", "{datagram}", &[]);
    let _ = writeln!(stderr(), "load: sent {sent}, log records {records}, spans {spans}, at most {memory} KiB");
    assert_eq!((datagrams(&received, "accepted"), kernel_drops), (Some(sent), Some(0)), "of {sent} datagrams");
    for outcome in ["duplicate", "excluded", "rejected", "dropped"] {
        assert_eq!(datagrams(&received, outcome), Some(0), "{outcome}");
    }
    assert_eq!((records, items(&received, "logs", "acknowledged")), (sent, Some(sent)), "of {sent} log records");
    assert_eq!(items(&received, "traces", "acknowledged"), Some(spans));
    assert!(spans > sent / 4, "{spans} spans of {sent} events");
    assert!(memory <= LOADED_MEMORY_MAX, "{memory} KiB of memory");
    Ok(())
}

#[test]
fn an_idle_receiver_is_small() -> Result<(), Failure> {
    if !is_asked_for() {
        return Ok(());
    }
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("idle")?;
    let collector = Collector::start(&otelcol, "otelcol.yaml", &folder)?;
    let more = "telemetry: { metrics_interval: 1s }";
    let mut receiver = Receiver::start(&folder, 0, collector.port, more)?;
    // Once it has exported something, whatever it needs for that is there.
    until("a first export", PATIENCE, || {
        Ok(fs::metadata(folder.join("metrics.json")).ok().filter(|file| file.len() > 0))
    })?;
    let memory = status_kib(&receiver.process, "VmRSS:")?;
    let _ = writeln!(stderr(), "idle: {memory} KiB");
    assert!(memory <= IDLE_MEMORY_MAX, "{memory} KiB of memory");
    receiver.stop()?;
    collector.stop()
}

/// Whoever was there has gone: then nothing is written to the disk.
#[test]
fn an_idle_receiver_writes_nothing() -> Result<(), Failure> {
    /// Longer than anything that is done by and by waits.
    const IDLE: Duration = Duration::from_secs(90);
    if !is_asked_for() {
        return Ok(());
    }
    let Some(otelcol) = otelcol() else { return Ok(()) };
    let folder = folder("idle-disk")?;
    let collector = Collector::start(&otelcol, "otelcol.yaml", &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, "telemetry: { metrics_interval: 1s }")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for command in ["Start session", "Stop session"] {
        let datagram = format!("/qseow-proxy-session/;pro2;{command};LAB;goran;Not available;Not available;{command}");
        socket.send_to(datagram.as_bytes(), receiver.address)?;
    }
    until("the session's span", PATIENCE, || {
        Ok(fs::metadata(folder.join("traces.json")).ok().filter(|file| file.len() > 0))
    })?;
    thread::sleep(Duration::from_secs(5));
    let before = written(&receiver.process)?;
    thread::sleep(IDLE);
    let after = written(&receiver.process)?;
    let _ = writeln!(stderr(), "idle: {before} bytes written before, {} in {IDLE:?}", after - before);
    assert!(before > 0, "the disk is not one that counts");
    assert_eq!(before, after);
    receiver.stop()?;
    collector.stop()
}

/// Bytes that the process caused to be written to the disk.
fn written(process: &Process) -> Result<u64, Failure> {
    let usage = fs::read_to_string(format!("/proc/{}/io", process.id()))?;
    let value = usage.lines().find_map(|line| line.strip_prefix("write_bytes:")).ok_or("no such line")?;
    Ok(value.trim().parse()?)
}

fn is_asked_for() -> bool {
    let is_asked_for = env::var_os("SENSE_OTEL_LOAD").is_some();
    if !is_asked_for {
        skipped("it measures: SENSE_OTEL_LOAD=1");
    }
    is_asked_for
}

/// How many datagrams were sent, and how many could not be, from `sent N datagrams to … , F failed`.
fn sent(output: &str) -> Option<(i64, i64)> {
    let line = output.lines().find_map(|line| line.strip_prefix("sent "))?;
    let sent = line.split(' ').next()?.parse().ok()?;
    let failed = line.strip_suffix(" failed").and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Some((sent, failed.unwrap_or(0)))
}

/// How many items the collector's lines tell of.
fn counted(collector: &Collector, label: &str) -> Result<i64, Failure> {
    let output = collector.process.output()?;
    let numbers = output.split(label).skip(1).filter_map(|rest| {
        let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
        digits.parse::<i64>().ok()
    });
    Ok(numbers.sum())
}

/// One figure of the process's memory.
fn status_kib(process: &Process, key: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let value = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}
