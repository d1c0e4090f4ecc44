//! Every row of the session rules as a script: datagrams and time in, spans and log records out.

mod support;

use std::time::Duration;

use sense_otel::processor::{Config, session};
use sense_otel::signal::{LinkOrigin, SpanKind};

use support::site::{Site, app, c0de, trace_of};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn site() -> Site {
    Site::new(Config::default())
}

fn site_with(sessions: session::Config) -> Site {
    Site::new(Config { sessions, ..Config::default() })
}

#[test]
fn a_session_with_two_connections_is_a_root_with_two_children() {
    let mut site = site();
    let id = c0de(1);
    let began = site.now.wall;
    site.start("goran", &id);
    site.minutes(1);
    site.open("goran", &id, &app(1));
    site.minutes(5);
    site.open("goran", &id, &app(2));
    site.minutes(10);
    site.close("goran", &id, &app(1));
    site.minutes(1);
    site.close("goran", &id, &app(2));
    site.minutes(1);
    site.stop("goran", &id);

    let sessions = site.session_spans();
    let [session] = sessions.as_slice() else { panic!("one session span, not {sessions:#?}") };
    assert_eq!(session.trace_id.to_string(), trace_of(&id));
    assert_eq!(session.kind, SpanKind::Internal);
    assert_eq!(session.parent, None);
    assert_eq!((session.start, session.end), (began, began + 18 * MINUTE));
    assert_eq!(session.attribute("session.id"), id);
    assert_eq!(session.attribute("user.id"), "LAB\\goran");
    assert_eq!(session.attribute("user.name"), "goran");
    assert_eq!(session.attribute("qlik.sense.user.directory"), "LAB");
    assert_eq!(session.attribute("qlik.sense.session.end.reason"), "stopped");
    assert_eq!(session.attribute("qlik.sense.session.connections"), "2");
    assert_eq!(session.attribute("qlik.sense.session.start.inferred"), "");

    let connections = site.connection_spans();
    let apps: Vec<_> = connections.iter().map(|span| span.attribute("qlik.sense.app.id").to_owned()).collect();
    assert_eq!(apps, [app(1), app(2)]);
    let durations: Vec<_> = connections.iter().map(|span| span.duration()).collect();
    assert_eq!(durations, [15 * MINUTE, 11 * MINUTE]);
    for connection in connections {
        assert_eq!(connection.parent, Some(session.span_id));
        assert_eq!(connection.trace_id, session.trace_id);
        assert_eq!(connection.kind, SpanKind::Server);
        assert_eq!(connection.attribute("qlik.sense.connection.close.reason"), "closed");
        assert_eq!(connection.attribute("url.path"), format!("/app/{}", connection.attribute("qlik.sense.app.id")));
    }
    let names: Vec<_> = site
        .kept
        .logs
        .iter()
        .map(|log| log.event_name.as_str())
        .filter(|name| *name != "qlik.sense.session.heartbeat")
        .collect();
    assert_eq!(
        names,
        [
            "session.start",
            "qlik.sense.connection.open",
            "qlik.sense.connection.open",
            "qlik.sense.connection.close",
            "qlik.sense.connection.close",
            "session.end",
        ]
    );
    let durations = (site.kept.session_durations.clone(), site.kept.connection_durations.len());
    assert_eq!(durations, (vec![("stopped", 18 * MINUTE)], 2));
    site.assert_balanced();
}

#[test]
fn a_log_record_points_to_the_span_that_comes_hours_later() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    let start = site.logs("session.start")[0].clone();
    let open = site.logs("qlik.sense.connection.open")[0].clone();
    site.minutes(30);
    site.stop("goran", &id);
    assert_eq!(start.trace_id, Some(site.session_spans()[0].trace_id));
    assert_eq!(start.span_id, Some(site.session_spans()[0].span_id));
    assert_eq!(open.span_id, Some(site.connection_spans()[0].span_id));
    assert_eq!(open.body, format!("LAB\\goran opened app {}", app(1)));
    assert!(!start.warn);
}

#[test]
fn stop_ends_the_connections_that_are_still_open() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.minutes(3);
    site.stop("goran", &id);
    let connection = site.connection_spans()[0].clone();
    assert_eq!(connection.attribute("qlik.sense.connection.close.reason"), "session_stopped");
    assert_eq!(connection.end, site.session_spans()[0].end);
}

#[test]
fn a_session_whose_start_was_missed_is_inferred_and_confirmed_by_a_start_that_comes_late() {
    let mut site = site();
    let id = c0de(1);
    site.open("goran", &id, &app(1));
    let opened = site.now.wall;
    site.minutes(1);
    let mut start = site.extended("Start session", "goran", &id, "");
    start.time = Some(opened.before(Duration::from_secs(30)));
    site.send(&start);
    site.minutes(1);
    site.stop("goran", &id);
    let session = site.session_spans()[0].clone();
    assert_eq!(session.start, opened.before(Duration::from_secs(30)));
    assert_eq!(session.attribute("qlik.sense.session.start.inferred"), "");
    assert_eq!(site.session_spans().len(), 1);
}

#[test]
fn an_inferred_session_that_nothing_confirms_says_so() {
    let mut site = site();
    site.open("goran", &c0de(1), &app(1));
    site.minutes(1);
    site.stop("goran", &c0de(1));
    assert_eq!(site.session_spans()[0].attribute("qlik.sense.session.start.inferred"), "true");
    assert!(site.logs("session.start").is_empty(), "an inferred start emits no record of its own");
}

#[test]
fn the_same_start_again_changes_nothing() {
    let mut site = site();
    let id = c0de(1);
    let began = site.now.wall;
    site.start("goran", &id);
    site.minutes(1);
    site.start("goran", &id);
    site.minutes(1);
    site.stop("goran", &id);
    assert_eq!(site.session_spans().len(), 1);
    assert_eq!(site.session_spans()[0].start, began);
}

#[test]
fn close_ends_the_oldest_connection_to_the_same_app() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.minutes(2);
    site.open("goran", &id, &app(1));
    site.minutes(3);
    site.close("goran", &id, &app(1));
    assert_eq!(site.connection_spans()[0].duration(), 5 * MINUTE);
    site.close("goran", &id, &app(1));
    assert_eq!(site.connection_spans()[1].duration(), 3 * MINUTE);
}

#[test]
fn a_close_without_an_app_ends_only_a_sole_connection() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.open("goran", &id, &app(2));
    site.close("goran", &id, "");
    assert!(site.connection_spans().is_empty());
    let close = site.logs("qlik.sense.connection.close")[0];
    assert_eq!(close.attribute("qlik.sense.event.unmatched"), "true");
    site.close("goran", &id, &app(1));
    site.close("goran", &id, "");
    assert_eq!(site.connection_spans().len(), 2);
}

#[test]
fn what_belongs_to_no_session_is_a_log_record_only() {
    let mut site = site();
    site.stop("goran", &c0de(1));
    site.close("goran", &c0de(2), &app(1));
    assert!(site.kept.spans.is_empty());
    assert_eq!(site.processor.open_sessions(), 0);
    assert_eq!(site.kept.logs.len(), 2);
    for log in &site.kept.logs {
        assert_eq!(log.attribute("qlik.sense.event.unmatched"), "true");
        assert_eq!(log.span_id, None);
        assert!(log.trace_id.is_some(), "the id tells the trace");
    }
}

#[test]
fn a_failed_attempt_is_a_warning_and_changes_nothing() {
    let mut site = site();
    let mut start = site.extended("Start session", "goran", &c0de(1), "");
    start.result = "403".to_owned();
    site.send(&start);
    assert_eq!(site.processor.open_sessions(), 0);
    let log = site.kept.logs[0].clone();
    assert!(log.warn);
    assert_eq!(log.attribute("qlik.sense.event.result"), "403");

    site.start("goran", &c0de(2));
    site.minutes(3 * 60);
    let mut open = site.extended("Open connection", "goran", &c0de(2), &app(1));
    open.result = "500".to_owned();
    site.send(&open);
    site.minutes(61);
    let session = site.session_spans()[0].clone();
    assert_eq!(session.attribute("qlik.sense.session.end.reason"), "expired", "a failed attempt is no sign of life");
}

#[test]
fn a_session_that_nothing_is_heard_of_ends_at_its_last_activity() {
    let mut site = site();
    let id = c0de(1);
    let began = site.now.wall;
    site.start("goran", &id);
    site.minutes(30);
    site.open("goran", &id, &app(1));
    site.minutes(10);
    site.close("goran", &id, &app(1));
    site.minutes(4 * 60 - 1);
    assert!(site.session_spans().is_empty());
    site.minutes(1);
    let session = site.session_spans()[0].clone();
    assert_eq!((session.start, session.end), (began, began + 40 * MINUTE));
    assert_eq!(session.attribute("qlik.sense.session.end.reason"), "expired");
    let end = site.logs("session.end")[0].clone();
    assert!(end.warn);
    assert_eq!(end.time, began + 40 * MINUTE + 4 * HOUR);
    assert_eq!(end.attribute("qlik.sense.session.end.time"), "2026-11-23T08:40:00Z");
    assert_eq!(site.processor.open_sessions(), 0);
}

#[test]
fn a_session_with_an_open_connection_may_be_silent_for_longer() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.minutes(24 * 60 - 1);
    assert_eq!(site.processor.open_sessions(), 1);
    site.minutes(1);
    assert_eq!(site.processor.open_sessions(), 0);
    let last = site.connection_spans().last().map(|span| (*span).clone()).expect("a connection span");
    assert_eq!(last.attribute("qlik.sense.connection.close.reason"), "expired");
}

#[test]
fn closing_the_last_connection_shortens_the_wait() {
    let mut site = site_with(session::Config { heartbeat: None, ..session::Config::default() });
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.minutes(60);
    site.close("goran", &id, &app(1));
    site.minutes(4 * 60);
    assert_eq!(site.processor.open_sessions(), 0);
}

#[test]
fn after_the_end_a_stop_is_a_record_and_a_start_is_the_next_segment_of_the_same_trace() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.minutes(1);
    site.stop("goran", &id);
    let first = site.session_spans()[0].clone();
    site.minutes(1);
    site.stop("goran", &id);
    let after = site.logs("session.end")[1].clone();
    assert_eq!(after.attribute("qlik.sense.event.after_end"), "true");
    assert_eq!((after.trace_id, after.span_id), (Some(first.trace_id), Some(first.span_id)));
    site.minutes(1);
    site.start("goran", &id);
    site.minutes(1);
    site.stop("goran", &id);
    let second = site.session_spans()[1].clone();
    assert_eq!(second.trace_id, first.trace_id);
    assert_ne!(second.span_id, first.span_id);
    assert_eq!(second.attribute("qlik.sense.session.segment"), "2");
    site.assert_balanced();
}

#[test]
fn an_ended_id_is_forgotten_after_a_fortnight() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.stop("goran", &id);
    site.minutes(13 * 24 * 60);
    site.close("goran", &id, &app(1));
    site.minutes(24 * 60);
    site.close("goran", &id, &app(1));
    let closes = site.logs("qlik.sense.connection.close");
    assert_eq!(closes[0].attribute("qlik.sense.event.after_end"), "true");
    assert_eq!(closes[1].attribute("qlik.sense.event.after_end"), "");
    assert_eq!(closes[1].attribute("qlik.sense.event.unmatched"), "true");
}

#[test]
fn a_start_from_before_the_end_that_comes_late_opens_nothing() {
    let mut site = site();
    let id = c0de(1);
    site.start("other", &c0de(9));
    let start = site.extended("Start session", "goran", &id, "");
    site.minutes(1);
    site.open("goran", &id, &app(1));
    site.minutes(1);
    site.stop("goran", &id);
    site.send(&start);
    assert_eq!(site.processor.open_sessions(), 1, "only the other one");
    let late = site.logs("session.start").last().map(|log| (*log).clone()).expect("a record of it");
    assert_eq!(late.attribute("qlik.sense.event.late"), "true");
    assert_eq!(late.attribute("qlik.sense.event.after_end"), "true");
}

#[test]
fn a_long_span_is_cut_exactly_and_each_segment_links_back() {
    let mut site = site();
    let id = c0de(1);
    let began = site.now.wall;
    site.start("goran", &id);
    site.minutes(60);
    site.open("goran", &id, &app(1));
    for _ in 0..29 {
        site.minutes(60);
        site.open("goran", &id, &app(2));
        site.close("goran", &id, &app(2));
    }
    site.minutes(30);
    site.stop("goran", &id);

    let segments = site.session_spans();
    let times: Vec<_> = segments.iter().map(|span| (span.start, span.end)).collect();
    let expected = [
        (began, began + 12 * HOUR),
        (began + 12 * HOUR, began + 24 * HOUR),
        (began + 24 * HOUR, began + 30 * HOUR + 30 * MINUTE),
    ];
    assert_eq!(times, expected);
    for (position, segment) in segments.iter().enumerate() {
        assert_eq!(segment.parent, None);
        assert_eq!(segment.attribute("qlik.sense.session.segment"), (position + 1).to_string());
        let back: Vec<_> = segment.links.iter().map(|(trace, span, origin)| (*trace, *span, *origin)).collect();
        match position.checked_sub(1).map(|before| segments[before]) {
            Some(before) => assert_eq!(back, [(before.trace_id, before.span_id, LinkOrigin::Local)]),
            None => assert!(back.is_empty()),
        }
    }
    let reasons: Vec<_> =
        segments.iter().map(|span| span.attribute("qlik.sense.session.end.reason").to_owned()).collect();
    assert_eq!(reasons, ["rollover", "rollover", "stopped"]);

    let parts: Vec<_> = site
        .connection_spans()
        .into_iter()
        .filter(|span| span.attribute("qlik.sense.app.id") == app(1))
        .cloned()
        .collect();
    let times: Vec<_> = parts.iter().map(|span| (span.start, span.end)).collect();
    let (open, stop) = (began + HOUR, began + 30 * HOUR + 30 * MINUTE);
    assert_eq!(times, [(open, open + 12 * HOUR), (open + 12 * HOUR, open + 24 * HOUR), (open + 24 * HOUR, stop)]);
    for (part, segment) in parts.iter().zip(&segments) {
        assert_eq!(part.parent, Some(segment.span_id), "the segment that is current where the part begins");
    }
    assert_eq!(site.kept.session_durations, [("stopped", 30 * HOUR + 30 * MINUTE)], "once, at the true end");
    assert_eq!(site.kept.connection_durations.iter().filter(|(reason, _)| *reason == "session_stopped").count(), 1);
    assert!(site.logs("session.end").len() == 1, "a rollover is no record");
    site.assert_balanced();
}

#[test]
fn an_open_session_is_told_of_every_quarter_of_an_hour() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    let mut open = site.extended("Open connection", "goran", &id, &app(1));
    open.app_name = "Sales".to_owned();
    site.send(&open);
    site.minutes(31);
    let beats = site.logs("qlik.sense.session.heartbeat");
    assert_eq!(beats.len(), 2);
    assert_eq!(beats[1].attribute("qlik.sense.session.apps"), "Sales");
    assert_eq!(beats[1].attribute("user.id"), "LAB\\goran");
    assert_eq!(beats[1].trace_id.map(|id| id.to_string()), Some(trace_of(&id)));
    assert_eq!(beats[1].body, "LAB\\goran has been on pro2-win1 for 30m 0s: Sales");
}

#[test]
fn after_a_restart_of_the_proxy_only_what_is_heard_of_again_stays() {
    let mut site = site();
    let (gone, stays) = (c0de(1), c0de(2));
    site.start("goran", &gone);
    site.start("maria", &stays);
    site.minutes(10);
    let last = site.now.wall;
    site.open("goran", &gone, &app(1));
    site.minutes(10);
    site.restart_counter();
    site.start("new", &c0de(3));
    site.pass(Duration::from_secs(30));
    site.open("maria", &stays, &app(1));
    site.pass(Duration::from_secs(29));
    assert_eq!(site.processor.open_sessions(), 3);
    site.pass(Duration::from_secs(1));
    assert_eq!(site.processor.open_sessions(), 2);
    let session = site.session_spans()[0].clone();
    assert_eq!(session.attribute("user.name"), "goran");
    assert_eq!(session.attribute("qlik.sense.session.end.reason"), "proxy_restart");
    assert_eq!(session.end, last);
    assert_eq!(site.connection_spans()[0].attribute("qlik.sense.connection.close.reason"), "proxy_restart");
    assert_eq!(site.kept.restarts, 1);
    site.assert_balanced();
}

#[test]
fn a_restart_of_one_node_leaves_the_sessions_of_another_alone() {
    let mut site = site();
    let mut other = site.extended("Start session", "maria", &c0de(2), "");
    other.node = "pro2-win2".to_owned();
    site.send(&other);
    site.restart_counter();
    site.start("goran", &c0de(1));
    site.minutes(1);
    site.restart_counter();
    site.start("new", &c0de(3));
    site.minutes(2);
    let open: Vec<_> = site.processor.sessions().map(|session| session.identity.label().to_owned()).collect();
    assert!(open.contains(&"LAB\\maria".to_owned()), "{open:?}");
    assert!(!open.contains(&"LAB\\goran".to_owned()), "{open:?}");
}

#[test]
fn too_many_sessions_cost_those_that_only_began() {
    let mut site = site_with(session::Config { open_sessions_max: 3, ..session::Config::default() });
    site.start("used", &c0de(1));
    site.open("used", &c0de(1), &app(1));
    site.start("first", &c0de(2));
    site.start("second", &c0de(3));
    site.start("third", &c0de(4));
    assert_eq!(site.processor.open_sessions(), 3);
    let evicted = site.session_spans()[0].clone();
    assert_eq!(evicted.attribute("user.name"), "first");
    assert_eq!(evicted.attribute("qlik.sense.session.end.reason"), "evicted");
    site.start("fourth", &c0de(5));
    site.start("fifth", &c0de(6));
    let left: Vec<_> = site.processor.sessions().map(|session| session.identity.label().to_owned()).collect();
    assert!(left.contains(&"LAB\\used".to_owned()), "{left:?}");
    assert!(site.logs("session.end").iter().all(|log| log.warn));
}

#[test]
fn sessions_without_an_id_make_room_before_those_with_one() {
    let mut site = site_with(session::Config { open_sessions_max: 2, ..session::Config::default() });
    site.start("with", &c0de(1));
    site.start("without", "");
    site.start("new", &c0de(2));
    assert_eq!(site.session_spans()[0].attribute("user.name"), "without");
}

#[test]
fn too_many_connections_cost_the_oldest() {
    let mut site = site_with(session::Config { connections_per_session_max: 2, ..session::Config::default() });
    let id = c0de(1);
    site.start("goran", &id);
    for number in 1..=3 {
        site.minutes(1);
        site.open("goran", &id, &app(number));
    }
    let evicted = site.connection_spans()[0].clone();
    assert_eq!(evicted.attribute("qlik.sense.app.id"), app(1));
    assert_eq!(evicted.attribute("qlik.sense.connection.close.reason"), "evicted");
    site.stop("goran", &id);
    assert_eq!(site.session_spans()[0].attribute("qlik.sense.session.connections"), "3");
}

#[test]
fn stock_events_without_ids_find_their_session_by_user() {
    let mut site = site();
    site.stock("Start session", "goran", "");
    site.minutes(1);
    site.stock("Open connection", "goran", &app(1));
    site.minutes(1);
    site.stock("Start session", "maria", "");
    site.stock("Open connection", "maria", &app(1));
    site.minutes(1);
    site.stock("Close connection", "goran", &app(1));
    site.minutes(30);
    site.stock("Stop session", "goran", "");
    let session = site.session_spans()[0].clone();
    assert_eq!(session.attribute("user.name"), "goran");
    assert_eq!(session.attribute("session.id"), session.trace_id.to_string());
    let connection = site.connection_spans()[0].clone();
    assert_eq!(connection.parent, Some(session.span_id));
    assert_eq!(site.processor.open_sessions(), 1);
    site.assert_balanced();
}

#[test]
fn stock_stop_takes_the_session_that_was_idle_longest() {
    let mut site = site();
    site.stock("Start session", "goran", "");
    site.minutes(1);
    site.stock("Open connection", "goran", &app(1));
    site.minutes(1);
    site.stock("Start session", "goran", "");
    site.minutes(1);
    site.stock("Start session", "goran", "");
    site.minutes(1);
    let second = site.logs("session.start")[1].clone();
    site.stock("Stop session", "goran", "");
    assert_eq!(Some(site.session_spans()[0].span_id), second.span_id, "the least recently active without connections");
}

#[test]
fn stock_close_takes_the_session_with_the_oldest_connection_to_the_app() {
    let mut site = site();
    site.stock("Start session", "goran", "");
    site.stock("Open connection", "goran", &app(1));
    site.minutes(1);
    site.stock("Start session", "goran", "");
    site.stock("Open connection", "goran", &app(1));
    site.minutes(1);
    site.stock("Close connection", "goran", &app(1));
    let first_open = site.logs("qlik.sense.connection.open")[0].clone();
    assert_eq!(Some(site.connection_spans()[0].span_id), first_open.span_id);
}

#[test]
fn a_session_without_an_id_adopts_the_first_id_that_comes() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", "");
    let start = site.logs("session.start")[0].clone();
    site.minutes(1);
    site.open("goran", &id, &app(1));
    site.minutes(1);
    site.stop("goran", &id);
    let session = site.session_spans()[0].clone();
    assert_eq!(session.attribute("session.id"), id);
    assert_eq!(Some(session.trace_id), start.trace_id, "trace and span ids never change");
    assert_eq!(Some(session.span_id), start.span_id);
    assert_eq!(start.attribute("session.id"), session.trace_id.to_string());
}

#[test]
fn an_id_is_adopted_by_the_oldest_session_without_one() {
    let mut site = site();
    site.start("goran", "");
    site.minutes(1);
    site.start("goran", "");
    site.minutes(1);
    site.open("goran", &c0de(1), &app(1));
    let oldest = site.logs("session.start")[0].clone();
    assert_eq!(site.logs("qlik.sense.connection.open")[0].trace_id, oldest.trace_id);
}

#[test]
fn a_start_with_an_id_is_a_session_of_its_own_beside_an_older_one_without() {
    let mut site = site();
    site.start("goran", "");
    site.minutes(1);
    site.start("goran", &c0de(1));
    assert_eq!(site.processor.open_sessions(), 2);
    site.start("maria", "");
    site.pass(Duration::from_secs(1));
    site.start("maria", &c0de(2));
    assert_eq!(site.processor.open_sessions(), 3, "within two seconds both speak of the same session");
}

#[test]
fn a_stock_start_that_was_overtaken_by_its_connection_confirms_the_session() {
    let mut site = site();
    site.stock("Open connection", "goran", &app(1));
    site.stock("Start session", "goran", "");
    assert_eq!(site.processor.open_sessions(), 1);
    site.minutes(1);
    site.stock("Stop session", "goran", "");
    assert_eq!(site.session_spans()[0].attribute("qlik.sense.session.start.inferred"), "");
    site.stock("Open connection", "maria", &app(1));
    site.minutes(1);
    site.stock("Start session", "maria", "");
    assert_eq!(site.processor.open_sessions(), 2, "two seconds are the limit");
}

#[test]
fn hosts_directories_and_users_are_compared_without_case() {
    let mut site = site();
    let id = c0de(1);
    site.start("Goran", "");
    let mut open = site.extended("Open connection", "gORAN", &id, &app(1));
    open.node = "PRO2-WIN1".to_owned();
    open.directory = "lab".to_owned();
    site.send(&open);
    assert_eq!(site.processor.open_sessions(), 1);
    let mut stop = site.extended("Stop session", "goran", &id.to_uppercase(), "");
    stop.node = "Pro2-Win1".to_owned();
    site.send(&stop);
    assert_eq!(site.session_spans().len(), 1);
    assert_eq!(site.session_spans()[0].node, "pro2-win1", "as first sent");
}

#[test]
fn an_id_that_may_be_a_live_cookie_is_not_sent() {
    let mut site = site();
    let cookie = "ea7821ab-dbad-4b1f-851d-cb06a73e10a7";
    site.start("goran", cookie);
    site.open("goran", "an opaque cookie", &app(1));
    site.minutes(1);
    site.stop("goran", cookie);
    let text = format!("{:?}", site.kept);
    assert!(!text.contains(cookie) && !text.contains("an opaque cookie"), "{text}");
    let session = site.session_spans()[0].clone();
    assert_eq!(session.attribute("session.id"), session.trace_id.to_string());
}

#[test]
fn a_clock_that_is_off_by_a_day_ends_nothing_and_makes_no_negative_duration() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.now.wall = site.now.wall + 24 * HOUR;
    site.minutes(1);
    assert!(site.kept.spans.iter().all(|span| span.name != "qlik.sense.session"), "nothing has ended or been cut");
    site.now.wall = site.now.wall.before(48 * HOUR);
    site.minutes(1);
    assert_eq!(site.processor.open_sessions(), 1);
    site.stop("goran", &id);
    assert_eq!(site.session_spans().len(), 1);
    site.assert_balanced();
}

#[test]
fn a_time_that_cannot_be_true_is_replaced_by_ours_and_marked() {
    let mut site = site();
    let received = site.now.wall;
    for (number, time) in [(1, received + 61 * Duration::from_secs(1)), (2, received.before(25 * HOUR))] {
        let mut start = site.extended("Start session", "goran", &c0de(number), "");
        start.time = Some(time);
        site.send(&start);
        let log = site.kept.logs.last().cloned().expect("a record");
        assert_eq!(log.time, received);
        assert_eq!(log.attribute("qlik.sense.event.time_replaced"), "true");
    }
    let mut start = site.extended("Start session", "goran", &c0de(3), "");
    start.time = Some(received + Duration::from_secs(59));
    site.send(&start);
    let log = site.kept.logs.last().cloned().expect("a record");
    assert_eq!(log.time, received + Duration::from_secs(59));
    assert_eq!(log.attribute("qlik.sense.event.time_replaced"), "");
}

#[test]
fn a_traceparent_in_the_context_becomes_a_link() {
    let mut site = site();
    let id = c0de(1);
    let mut open = site.extended("Open connection", "goran", &id, &app(1));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    open.context = format!("/sales/app/{}?reloaduri=x&traceparent={parent}", app(1));
    site.send(&open);
    site.minutes(1);
    site.stop("goran", &id);
    let connection = site.connection_spans()[0].clone();
    let [(trace, span, origin)] = connection.links.as_slice() else { panic!("one link") };
    assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span.to_string(), "b7ad6b7169203331");
    assert_eq!(*origin, LinkOrigin::Remote { flags: 1 });
    assert_eq!(connection.attribute("qlik.sense.virtual_proxy.prefix"), "sales");
    assert_eq!(site.session_spans()[0].attribute("qlik.sense.virtual_proxy.prefix"), "sales");
}

#[test]
fn a_start_marker_is_a_short_child_that_is_sent_at_once() {
    let mut site = Site::new(Config { start_marker: true, ..Config::default() });
    let id = c0de(1);
    site.start("goran", &id);
    let marker = site.kept.spans[0].clone();
    assert_eq!(marker.name, "qlik.sense.session.start");
    assert!(marker.duration() < Duration::from_secs(1));
    site.minutes(1);
    site.stop("goran", &id);
    assert_eq!(marker.parent, Some(site.session_spans()[0].span_id));
    site.assert_balanced();
}

#[test]
fn a_gap_in_the_sequence_becomes_a_record() {
    let mut site = site();
    site.start("goran", &c0de(1));
    for _ in 0..3 {
        site.extended("Start session", "lost", &c0de(7), "");
    }
    site.start("maria", &c0de(2));
    site.pass(Duration::from_secs(2));
    let gap = site.logs("qlik.sense.receiver.gap")[0].clone();
    assert!(gap.warn);
    assert_eq!(gap.attribute("qlik.sense.receiver.gap.first"), "2");
    assert_eq!(gap.attribute("qlik.sense.receiver.gap.last"), "4");
    assert_eq!(gap.attribute("qlik.sense.receiver.gap.count"), "3");
    assert_eq!(site.kept.missing, 3);
    assert_eq!(site.processor.open_sessions(), 2);
    site.assert_balanced();
}
