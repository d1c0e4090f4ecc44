//! What several benches share: the traffic of a site, and outputs.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sense_otel::event::Datagram;
use sense_otel::otlp::Encoder;
use sense_otel::processor::ids::Key;
use sense_otel::processor::{Config, Input, Output, Processor, Report};
use sense_otel::signal::{LogRecord, Resource, Run, Span};
use sense_otel::time::{Now, RunningTime, Timestamp};

/// 2026-11-23 08:00:00 UTC.
pub(crate) const EIGHT: Timestamp = Timestamp::from_nanos(1_795_420_800_000_000_000);

/// Sessions that come, open an app, close it and go in one round: four events each.
pub(crate) const SESSIONS: u32 = 1024;

/// What the pipeline puts into a frame when there is much to do.
pub(crate) const FRAME_DATAGRAMS: usize = 1024;

/// Takes signals and does nothing with them.
pub(crate) struct Nowhere;

impl Output for Nowhere {
    fn log(&mut self, _: &Arc<Resource>, record: &LogRecord<'_>) {
        black_box(record);
    }

    fn span(&mut self, _: &Arc<Resource>, span: &Span<'_>) {
        black_box(span);
    }

    fn report(&mut self, report: Report<'_>) {
        black_box(report);
    }
}

/// Encodes signals, as the pipeline does.
pub(crate) struct Encoding(pub(crate) Encoder);

impl Output for Encoding {
    fn log(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>) {
        self.0.log(resource, record);
    }

    fn span(&mut self, resource: &Arc<Resource>, span: &Span<'_>) {
        self.0.span(resource, span);
    }

    fn log_alike(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>, runs: &[Run<'_>]) {
        self.0.log_alike(resource, record, runs);
    }

    fn span_alike(&mut self, resource: &Arc<Resource>, span: &Span<'_>, runs: &[Run<'_>]) {
        self.0.span_alike(resource, span, runs);
    }

    fn report(&mut self, report: Report<'_>) {
        black_box(report);
    }
}

pub(crate) fn datagram(sequence: u32, command: &str, session: u32) -> String {
    let (user, app, agent) = (session % 500, session % 200, session % 8);
    let time =
        format!("2026-11-23T08:{:02}:{:02}.{:03}Z", sequence / 60_000 % 60, sequence / 1000 % 60, sequence % 1000);
    let head = format!(
        "/sense-otel/1/\t{sequence}\t{time}\tpro2-win1\tc0de0000-0000-4000-8000-{session:012x}\t{command}\t0\tLAB\tuser{user}"
    );
    if command.ends_with("session") {
        let phrase = if command.starts_with("Start") { "Start" } else { "Stop" };
        return format!(
            "{head}\tNot available\t(null)\t(null)\tNot available\t{phrase} session for user 'LAB\\user{user}'"
        );
    }
    let phrase = if command.starts_with("Open") { "Opened" } else { "Closed" };
    let app_id = format!("a99a0000-0000-4000-8000-{app:012x}");
    format!(
        "{head}\tAppAccess\t{app_id}\tSales and more {app}\t/sales/app/{app_id}?reloaduri=https%3a%2f%2fsense.example%2fsales\t\
         Proxy connection {phrase} for session 'c0de' UserAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) \
         AppleWebKit/537.36 (KHTML, like Gecko) Chrome/12{agent}.0.0.0 Safari/537.36'"
    )
}

/// The same as the appenders of Butler SOS write it.
pub(crate) fn stock(datagram: &str) -> String {
    let fields: Vec<&str> = datagram.splitn(14, '\t').collect();
    let kind = if fields[5].ends_with("session") { "session" } else { "connection" };
    [&format!("/qseow-proxy-{kind}/"), fields[3], fields[5], fields[7], fields[8], fields[9], fields[12], fields[13]]
        .join(";")
}

/// One round of events for sessions from `first` on.
pub(crate) fn round(first: u32) -> Vec<Vec<u8>> {
    let mut sequence = first * 4;
    let mut datagrams = Vec::new();
    for command in ["Start session", "Open connection", "Close connection", "Stop session"] {
        for session in first..first + SESSIONS {
            sequence += 1;
            datagrams.push(datagram(sequence, command, session).into_bytes());
        }
    }
    datagrams
}

pub(crate) fn now() -> Now {
    Now { wall: EIGHT + Duration::from_secs(3600), running: RunningTime::from_nanos(1) }
}

pub(crate) fn feed(processor: &mut Processor, datagrams: &[Vec<u8>], output: &mut impl Output) {
    let source = SocketAddr::from(([10, 0, 0, 1], 50_000));
    for bytes in datagrams {
        let datagram = Datagram { received: now().wall, source, bytes };
        processor.handle(now(), Input::Datagram(datagram), output);
    }
}

pub(crate) fn processor_with(open: u32) -> Processor {
    let mut processor = Processor::new(Config::default(), &Key::new(b"a key for benches only"));
    for session in 0..open {
        let bytes = datagram(session + 1, "Start session", 1_000_000 + session).into_bytes();
        feed(&mut processor, &[bytes], &mut Nowhere);
    }
    assert_eq!(processor.open_sessions(), open as usize);
    processor
}
