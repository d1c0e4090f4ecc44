use std::collections::BTreeMap;

use crate::telemetry::Telemetry;

use super::super::sink::Span;
use super::super::waterfall::Drawing;
use super::*;

fn show(out: &mut Vec<u8>, sessions_max: Option<u64>) -> Show<&mut Vec<u8>> {
    let screen = Screen::new(out, false, Drawing { width: 60, is_unicode: true });
    Show::new(screen, TimeZone::UTC, sessions_max)
}

fn record(body: &str, is_warning: bool) -> Received {
    let time = Timestamp::from_nanos(8 * 3600 * 1_000_000_000);
    Received::Record(Record { time, event_name: "session.start".into(), is_warning, body: body.into() })
}

fn session(id: u8) -> Received {
    let attributes = [("user.id", r"LAB\goran"), ("qlik.sense.session.connections", "0")];
    Received::Span(Span {
        trace_id: vec![id],
        span_id: vec![id],
        name: "qlik.sense.session".into(),
        end: Timestamp::from_nanos(3600 * 1_000_000_000),
        attributes: BTreeMap::from(attributes.map(|(key, value)| (key.to_owned(), value.to_owned()))),
        ..Span::default()
    })
}

fn text(out: Vec<u8>) -> String {
    anstream::adapter::strip_str(&String::from_utf8(out).expect("text")).to_string()
}

#[test]
fn events_are_lines_and_sessions_are_waterfalls() {
    let mut out = Vec::new();
    let mut show = show(&mut out, None);
    show.arrived(Duration::ZERO, record(r"LAB\goran opened Sales", false)).expect("memory takes everything");
    show.arrived(Duration::ZERO, record("", true)).expect("memory takes everything");
    show.arrived(Duration::ZERO, session(1)).expect("memory takes everything");
    let expected = r"08:00:00  LAB\goran opened Sales
08:00:00  session.start

LAB\goran  1h 0m  00:00-01:00
  session  ██████████████████████████████████████████  1h 0m

";
    assert_eq!(text(out), expected);
}

#[test]
fn after_the_last_session_that_was_asked_for_nothing_is_drawn() {
    let mut out = Vec::new();
    let mut show = show(&mut out, Some(2));
    for id in 1..=5 {
        assert_eq!(show.is_complete(), id > 2);
        show.arrived(Duration::ZERO, session(id)).expect("memory takes everything");
    }
    show.arrived(Duration::ZERO, record("too late", false)).expect("memory takes everything");

    let telemetry = Telemetry::default();
    telemetry.received(6);
    telemetry.accepted(6);
    telemetry.produced(Signal::Traces, 5);
    telemetry.acknowledged(Signal::Traces, 5);
    telemetry.produced(Signal::Logs, 1);
    telemetry.acknowledged(Signal::Logs, 1);
    let summary = show
        .finish(6, &telemetry.snapshot(), Left { open_sessions: 3, items: 0 }, true)
        .expect("memory takes everything");
    assert_eq!(summary, Summary { sessions: 5, connections: 0, events: 6, delivered: 6, lost: 0 });
    let text = text(out);
    assert_eq!(text.matches(r"LAB\goran").count(), 2, "{text}");
    assert!(!text.contains("too late"), "{text}");
    let expected = "1h 0m\n\n5 sessions with 0 connections finished, 3 sessions still open.\n\
                    6 events became 6 log records and spans; records lost: 0.\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(!text.contains("\n\n\n"), "one blank line is enough: {text}");
}

#[test]
fn whatever_did_not_come_through_is_lost() {
    let telemetry = Telemetry::default();
    telemetry.received(8);
    telemetry.accepted(8);
    telemetry.gap("pro2-win1", 2);
    telemetry.produced(Signal::Logs, 8);
    telemetry.acknowledged(Signal::Logs, 5);

    let mut out = Vec::new();
    let left = Left { open_sessions: 0, items: 3 };
    let summary = show(&mut out, None).finish(10, &telemetry.snapshot(), left, true).expect("memory takes everything");
    assert_eq!(summary.lost, 2 + 3 + 5, "never received, never taken, taken but never seen");
    let mut out = Vec::new();
    let summary = show(&mut out, None).finish(10, &telemetry.snapshot(), left, false).expect("memory takes everything");
    assert_eq!(summary.lost, 2 + 3, "a collector does not show what it took");
}
