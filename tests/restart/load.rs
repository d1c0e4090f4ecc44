//! The same with so much of it that it takes a release build and a machine of its own: `SENSE_OTEL_LOAD=1`, and
//! `SENSE_OTEL_BINARY` names the build.

use std::collections::HashSet;
use std::env;
use std::io::{Write, stderr};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use sha2::{Digest, Sha256};

use super::*;
use delivered::missing;
use stand::{Process, simulate};
use support::collector::{Options, Received};

pub(crate) mod flood;

/// Events of a long outage, unless `SENSE_OTEL_OUTAGE_EVENTS` says another number.
const OUTAGE_EVENTS: u64 = 1_000_000;

/// Resident memory that delivering a backlog may ever add to what the receiver has at its start, in KiB, however long the
/// backlog is. What it has at its start grows with the sessions that it remembers to have ended.
#[cfg(target_os = "linux")]
const BACKLOG_MEMORY_MAX: u64 = 100 * 1024;

/// Live events a second, as many as a large site has at its peak. A backlog has to go five times as fast.
const LIVE_RATE: u64 = 2_000;

/// The backend is away for a million events, and the receiver is killed and stopped meanwhile. All of it arrives, at five
/// times the live rate or more.
#[test]
fn a_million_events_wait_for_the_backend() -> Result<(), Failure> {
    if !is_asked_for() {
        return Ok(());
    }
    let folder = folder("long-outage")?;
    let collector = Collector::start();
    let backend = collector.addr();
    collector.stop();
    let mut receiver = Receiver::start(&folder, 0, backend.port(), QUICK)?;
    let address = receiver.address;
    let outage_events = env::var("SENSE_OTEL_OUTAGE_EVENTS").map_or(Ok(OUTAGE_EVENTS), |number| number.parse())?;
    let events = outage_events.to_string();
    let site = ["--rate", "10000", "--users", "20000", "--nodes", "3", "--seed", "8", "--events", &events];
    let mut simulator = simulate(&folder, address, &site)?;
    for is_kill in [true, false, true] {
        thread::sleep(Duration::from_secs(20));
        if is_kill {
            receiver.process.kill()?
        } else {
            receiver.stop()?
        }
        receiver = Receiver::start(&folder, address.port(), backend.port(), QUICK)?;
    }
    simulator.succeed(Duration::from_secs(120 + outage_events / 10_000))?;
    // The one that delivers has nothing to do with how the backlog came about.
    receiver.stop()?;
    receiver = Receiver::start(&folder, address.port(), backend.port(), QUICK)?;
    let restored = restored(&receiver.process)?;
    #[cfg(target_os = "linux")]
    let at_start = flood::status_kib(&receiver.process, "VmHWM:")?;
    #[cfg(not(target_os = "linux"))]
    let at_start = 0;

    let counted = Arc::new(Mutex::new(Counted::default()));
    let began = Instant::now();
    let collector = Collector::with(Options { listen: Some(backend), forgets: true, ..Options::default() });
    for signal in [Signal::Logs, Signal::Traces] {
        let counted = Arc::clone(&counted);
        collector.rule(signal, move |call| {
            counted.lock().expect("no panic before").add(call);
            Answer::Ok
        });
    }
    until("all of it to be delivered", Duration::from_secs(180), || {
        let counted = counted.lock().expect("no panic before");
        Ok((counted.records + counted.missing >= outage_events).then_some(()))
    })?;
    let took = began.elapsed();
    #[cfg(target_os = "linux")]
    let most = flood::status_kib(&receiver.process, "VmHWM:")?;
    #[cfg(not(target_os = "linux"))]
    let most = 0;
    receiver.stop()?;
    let counted = counted.lock().expect("no panic before");
    let Counted { records, spans, missing, repeated, .. } = *counted;
    let rate = records as f64 / took.as_secs_f64();
    let _ = writeln!(
        stderr(),
        "outage: {records} records and {spans} spans in {took:.1?}, {rate:.0} records/s; {missing} events told as missing, \
         {repeated} items twice; at most {most} KiB, {at_start} of them at its start; the last start found {restored}"
    );
    assert_eq!(records + missing, outage_events);
    // What was sent while nobody listened: none of it silently.
    assert!(missing < outage_events / 4, "{missing} events missing");
    assert!(rate >= (5 * LIVE_RATE) as f64, "{rate} records/s");
    #[cfg(target_os = "linux")]
    assert!(most - at_start <= BACKLOG_MEMORY_MAX, "{most} KiB of memory, {at_start} at the start");
    Ok(())
}

/// What came, counted as cheaply as can be: a build for tests would decode it more slowly than it is sent.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    seen: HashSet<[u8; 16]>,
    pub(crate) records: u64,
    spans: u64,
    /// Events that gaps say are missing.
    pub(crate) missing: u64,
    pub(crate) repeated: u64,
}

impl Counted {
    pub(crate) fn add(&mut self, call: &Received) {
        for item in items(&call.body) {
            let digest: [u8; 32] = Sha256::digest(item).into();
            if !self.seen.insert(digest[..16].try_into().expect("16 bytes")) {
                self.repeated += 1;
            } else if call.signal == Signal::Traces {
                self.spans += 1;
            } else if fields(item, EVENT_NAME) == [b"qlik.sense.receiver.gap"] {
                self.missing += missing(&LogRecord::decode(item).expect("a record"));
            } else {
                self.records += 1;
            }
        }
    }
}

/// Number of `event_name` in a log record.
const EVENT_NAME: u32 = 12;

/// The records or spans of a request.
fn items(request: &[u8]) -> impl Iterator<Item = &[u8]> {
    /// Number of `resource_logs` or `resource_spans`, of the scopes in each, and of the items in these.
    const PATH: [u32; 3] = [1, 2, 2];
    let resources = fields(request, PATH[0]).into_iter();
    let scopes = resources.flat_map(|resource| fields(resource, PATH[1]));
    scopes.flat_map(|scope| fields(scope, PATH[2]))
}

/// The contents of all fields of a message with this number, which are messages or strings.
fn fields(mut message: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).expect("a field");
        let length = match wire_type {
            WireType::LengthDelimited => decode_varint(&mut message).expect("a length") as usize,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            _ => {
                decode_varint(&mut message).expect("a number");
                continue;
            }
        };
        let (content, rest) = message.split_at(length);
        if number == wanted {
            found.push(content);
        }
        message = rest;
    }
    found
}

/// With ten thousand sessions to restore the socket is there within 20 ms and everything is ready within 100 ms. The fastest
/// of ten starts counts: the machine has other things to do, too.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_sessions_do_not_delay_a_start() -> Result<(), Failure> {
    const SESSIONS: u32 = 10_000;
    const STARTS: u32 = 10;
    const BOUND_WITHIN: Duration = Duration::from_millis(20);
    const READY_WITHIN: Duration = Duration::from_millis(100);
    if !is_asked_for() {
        return Ok(());
    }
    let folder = folder("start")?;
    let collector = Collector::start();
    let mut receiver = Receiver::start(&folder, 0, collector.addr().port(), QUICK)?;
    let address = receiver.address;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for number in 0..SESSIONS {
        let datagram = datagram(number + 1, now(), "Start session", number);
        socket.send_to(datagram.as_bytes(), address).expect("loopback takes datagrams");
        if number % 200 == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let delivered = || Ok((Delivered::read(&collector).records() >= u64::from(SESSIONS)).then_some(()));
    until("all of it to be delivered", PATIENCE, delivered)?;
    let (mut bound, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        receiver.process.kill()?;
        let began = Instant::now();
        let started = thread::scope(|scope| {
            let watcher = scope.spawn(|| when_bound(address.port(), began));
            let started = Receiver::start(&folder, address.port(), collector.addr().port(), QUICK);
            bound.push(watcher.join().expect("no panic before")?);
            started
        });
        receiver = started?;
        let restored = restored(&receiver.process)?;
        assert!(restored.contains(&format!("sessions={SESSIONS} ")), "{restored}");
        ready.push(began.elapsed());
    }
    receiver.stop()?;
    let fastest = |times: &[Duration]| times.iter().min().copied().unwrap_or(Duration::MAX);
    let (bound, ready) = (fastest(&bound), fastest(&ready));
    let _ = writeln!(stderr(), "start: {SESSIONS} sessions, bound after {bound:.1?}, ready after {ready:.1?}");
    assert!(bound <= BOUND_WITHIN, "bound after {bound:?}");
    assert!(ready <= READY_WITHIN, "ready after {ready:?}");
    Ok(())
}

/// How long after `began` the kernel has a UDP socket of this port.
#[cfg(target_os = "linux")]
fn when_bound(port: u16, began: Instant) -> Result<Duration, String> {
    let local = format!(":{port:04X} ");
    while began.elapsed() < PATIENCE {
        let sockets = std::fs::read_to_string("/proc/net/udp").map_err(|error| error.to_string())?;
        if sockets
            .lines()
            .any(|line| line.split_whitespace().nth(1).is_some_and(|at| local.trim() == &at[at.len() - 5..]))
        {
            return Ok(began.elapsed());
        }
        thread::sleep(Duration::from_micros(500));
    }
    Err("no socket".to_owned())
}

/// A hundred thousand sessions are open again within a second, and each still ends as what it was.
#[test]
fn a_hundred_thousand_sessions_are_open_again_at_once() -> Result<(), Failure> {
    const SESSIONS: u32 = 100_000;
    /// Of so many one is ended.
    const SAMPLE: usize = 100;
    if !is_asked_for() {
        return Ok(());
    }
    let folder = folder("many-sessions")?;
    let collector = Collector::start();
    let port = collector.addr().port();
    let mut receiver = Receiver::start(&folder, 0, port, QUICK)?;
    let address = receiver.address;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let start = now();
    let mut sequence = 0;
    let mut send = |command: &str, number: u32, at: Timestamp| {
        sequence += 1;
        let datagram = datagram(sequence, at, command, number);
        socket.send_to(datagram.as_bytes(), address).expect("loopback takes datagrams");
        if sequence % 200 == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    };
    for number in 0..SESSIONS {
        send("Start session", number, start);
    }
    let total = u64::from(SESSIONS);
    until(
        "all of it to be delivered",
        PATIENCE,
        || Ok((Delivered::read(&collector).records() >= total).then_some(())),
    )?;
    receiver.process.kill()?;
    let began = Instant::now();
    receiver = Receiver::start(&folder, address.port(), port, QUICK)?;
    let took = began.elapsed();
    let restored = restored(&receiver.process)?;
    let _ = writeln!(stderr(), "restart: {restored} after {took:.2?}");
    assert!(restored.contains(&format!("sessions={SESSIONS} ")), "{restored}");
    assert!(took <= Duration::from_secs(1), "{took:?}");

    let end = now();
    for number in (0..SESSIONS).step_by(SAMPLE) {
        send("Stop session", number, end);
    }
    let ended = SESSIONS as usize / SAMPLE;
    until("the spans", PATIENCE, || Ok((Delivered::read(&collector).spans.len() >= ended).then_some(())))?;
    receiver.stop()?;
    let delivered = Delivered::read(&collector);
    assert_eq!((delivered.spans.len(), delivered.missing()), (ended, 0));
    // Datagrams carry whole milliseconds.
    let millis = |time: Timestamp| time.as_nanos() / 1_000_000;
    for span in delivered.spans.values() {
        let times = (span.start_time_unix_nano / 1_000_000, span.end_time_unix_nano / 1_000_000);
        assert_eq!(times, (millis(start), millis(end)), "{span:?}");
    }
    Ok(())
}

fn datagram(sequence: u32, at: Timestamp, command: &str, number: u32) -> String {
    let millis = i64::try_from(at.as_nanos() / 1_000_000).expect("a time");
    let time = jiff::Timestamp::from_millisecond(millis).expect("a time").strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
    format!(
        "/sense-otel/1/\t{sequence}\t{time}\tpro2-win1\tc0dec04e-89e4-c115-54a0-{number:012x}\t{command}\t0\tLAB\t\
         user{}\tNot available\t(null)\t(null)\tNot available\t{command} for user",
        number % 10_000
    )
}

/// What the line of a start says that was found.
fn restored(process: &Process) -> Result<String, Failure> {
    let log = process.output()?;
    let line = log.lines().find(|line| line.contains("going on where")).ok_or("no line of a start")?;
    Ok(line.split_once("going on where").map_or_else(String::new, |(_, found)| found.to_owned()))
}

pub(crate) fn is_asked_for() -> bool {
    let is_asked_for = env::var_os("SENSE_OTEL_LOAD").is_some();
    if !is_asked_for {
        let _ = writeln!(
            stderr(),
            "SKIPPED {}, it measures: SENSE_OTEL_LOAD=1",
            thread::current().name().unwrap_or_default()
        );
    }
    is_asked_for
}
