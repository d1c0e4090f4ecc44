//! Clocks that are wrong, tabs that are left open for days, and storms: what must not go wrong then.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use sense_otel::processor::{Config, session};
use sense_otel::time::Timestamp;

use support::site::{Extended, KeptSpan, Site, app, c0de};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn site() -> Site {
    Site::new(Config::default())
}

/// Sends an event whose time is what the node's clock shows.
fn send_at(site: &mut Site, mut event: Extended, shows: Timestamp) {
    event.time = Some(shows);
    site.send(&event);
}

fn reasons(spans: &[&KeptSpan], key: &str) -> Vec<String> {
    spans.iter().map(|span| span.attribute(key).to_owned()).collect()
}

#[test]
fn a_node_whose_clock_is_hours_behind_has_the_same_spans() {
    for hours in [2, 13, 23] {
        let mut site = site();
        let id = c0de(1);
        let began = site.now.wall;
        let skew = |site: &Site| site.now.wall.before(HOUR * hours);
        let start = site.extended("Start session", "goran", &id, "");
        let shows = skew(&site);
        send_at(&mut site, start, shows);
        for _ in 0..11 {
            site.minutes(60);
            let (open, close) = (
                site.extended("Open connection", "goran", &id, &app(1)),
                site.extended("Close connection", "goran", &id, &app(1)),
            );
            let shows = skew(&site);
            send_at(&mut site, open, shows);
            send_at(&mut site, close, shows);
        }
        let stop = site.extended("Stop session", "goran", &id, "");
        let shows = skew(&site);
        send_at(&mut site, stop, shows);
        site.pass(HOUR * 30);
        let spans = site.session_spans();
        assert_eq!(reasons(&spans, "qlik.sense.session.end.reason"), ["stopped"], "{hours} hours behind");
        assert_eq!(spans[0].duration(), HOUR * 11);
        assert_eq!(spans[0].start, began.before(HOUR * hours));
    }
}

#[test]
fn our_own_clock_may_be_set_while_a_session_is_open() {
    let mut site = site();
    let id = c0de(1);
    let node_clock = site.now.wall;
    site.start("goran", &id);
    site.now.wall = site.now.wall + HOUR;
    let open = site.extended("Open connection", "goran", &id, &app(1));
    send_at(&mut site, open, node_clock + MINUTE);
    site.pass(HOUR * 11 + MINUTE * 59);
    let beat = site.extended("Open connection", "goran", &id, &app(2));
    send_at(&mut site, beat, node_clock + HOUR * 12 + MINUTE * 2);
    site.pass(MINUTE);
    let stop = site.extended("Stop session", "goran", &id, "");
    send_at(&mut site, stop, node_clock + HOUR * 12 + MINUTE * 3);
    let sessions = site.session_spans();
    assert_eq!(reasons(&sessions, "qlik.sense.session.end.reason"), ["rollover", "stopped"]);
    for part in site.connection_spans() {
        let parent = sessions.iter().find(|session| Some(session.span_id) == part.parent).expect("its segment");
        assert!(parent.start <= part.start && part.start < parent.end, "{part:?} begins outside of {parent:?}");
    }
}

#[test]
fn a_clock_that_jumps_by_years_costs_no_storm_of_spans() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.now.wall = site.now.wall + HOUR * 24 * 365 * 20;
    site.open("goran", &id, &app(1));
    assert!(site.kept.spans.len() <= 60, "{} spans", site.kept.spans.len());
    site.assert_balanced();
}

#[test]
fn a_restart_under_a_clock_set_back_is_found_and_costs_a_minute_at_most() {
    let mut site = site();
    for user in 0..50 {
        site.start(&format!("user{user}"), &c0de(user));
    }
    site.minutes(5);
    site.restart_counter();
    for minute in 0..40_u32 {
        let start = site.extended("Start session", &format!("late{minute}"), &c0de(1000 + minute), "");
        let shows = site.now.wall.before(HOUR);
        send_at(&mut site, start, shows);
        site.minutes(1);
    }
    assert_eq!((site.kept.restarts, site.kept.duplicate), (1, 0));
    assert_eq!(site.kept.accepted, 90);
    site.assert_balanced();
}

#[test]
fn one_time_beyond_belief_does_not_spoil_the_order() {
    let mut site = site();
    site.start("goran", &c0de(1));
    let open = site.extended("Open connection", "goran", &c0de(1), &app(1));
    let shows = site.now.wall + HOUR * 24 * 30;
    send_at(&mut site, open, shows);
    site.minutes(1);
    site.restart_counter();
    for user in 2..40 {
        site.start("anna", &c0de(user));
        site.pass(Duration::from_secs(1));
    }
    assert_eq!((site.kept.restarts, site.kept.duplicate, site.kept.missing), (1, 0, 0));
}

#[test]
fn a_tab_that_is_left_open_ends_when_it_was_last_heard_of() {
    let mut site = site();
    let id = c0de(1);
    let began = site.now.wall;
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.minutes(5);
    site.open("goran", &id, &app(2));
    site.pass(HOUR * 48);
    let sessions = site.session_spans();
    assert_eq!(reasons(&sessions, "qlik.sense.session.end.reason"), ["expired"]);
    assert_eq!((sessions[0].start, sessions[0].end), (began, began + MINUTE * 5));
    assert_eq!(reasons(&site.connection_spans(), "qlik.sense.connection.close.reason"), ["expired", "expired"]);
    let connections = [("expired", MINUTE * 5), ("expired", Duration::ZERO)];
    assert_eq!(site.kept.connection_durations, connections);
}

/// Heard of within the last hours, it is cut at the very moment; the next part is open then.
#[test]
fn a_session_in_use_is_cut_in_time_and_told_without_a_false_length() {
    let mut site = site();
    let id = c0de(1);
    site.start("goran", &id);
    site.open("goran", &id, &app(1));
    site.pass(HOUR * 11);
    site.open("goran", &id, &app(2));
    site.pass(HOUR + MINUTE);
    assert_eq!(reasons(&site.session_spans(), "qlik.sense.session.end.reason"), ["rollover"]);
    site.pass(HOUR * 48);
    assert_eq!(site.kept.session_durations, [("expired", HOUR * 11)]);
    assert!(site.kept.connection_durations.contains(&("expired", HOUR * 11)), "{:?}", site.kept.connection_durations);
}

#[test]
fn a_wallboard_that_comes_back_after_days_gets_no_id_twice() {
    let mut site = site();
    let id = c0de(1);
    for _ in 0..3 {
        site.start("board", &id);
        site.open("board", &id, &app(1));
        site.pass(HOUR * 24 * 5);
        site.close("board", &id, &app(1));
    }
    site.assert_balanced();
    let ids: BTreeSet<_> = site.kept.spans.iter().map(|span| (span.trace_id, span.span_id)).collect();
    assert_eq!(ids.len(), site.kept.spans.len());
}

/// Ten thousand things that have all in common still have ids of their own, and cost no more than others do.
#[test]
fn a_storm_at_one_moment_has_as_many_ids_as_events() {
    let sessions = session::Config { connections_per_session_max: 10, ..session::Config::default() };
    let mut site = Site::new(Config { sessions, ..Config::default() });
    for _ in 0..10_000 {
        site.open("goran", &c0de(1), &app(1));
        site.start("nobody", "");
    }
    site.pass(HOUR * 30);
    let ids: BTreeSet<_> = site.kept.spans.iter().map(|span| (span.trace_id, span.span_id)).collect();
    assert_eq!(ids.len(), site.kept.spans.len());
    assert_eq!(site.session_spans().len(), 10_001);
    assert_eq!(site.connection_spans().len(), 10_000);
}

#[test]
fn two_receivers_agree_on_ids_where_the_nodes_clock_is_beyond_belief() {
    let ids = |delay: Duration| {
        let mut site = site();
        let shows = site.now.wall + MINUTE * 2;
        site.pass(delay);
        let start = site.extended("Start session", "goran", &c0de(1), "");
        let open = site.extended("Open connection", "goran", &c0de(1), &app(1));
        let close = site.extended("Close connection", "goran", &c0de(1), &app(1));
        for event in [start, open, close] {
            send_at(&mut site, event, shows);
        }
        let record = site.logs("qlik.sense.connection.open")[0];
        assert_eq!(record.attribute("qlik.sense.event.time_replaced"), "true");
        site.connection_spans()[0].span_id
    };
    assert_eq!(ids(Duration::ZERO), ids(Duration::from_millis(3)));
}

#[test]
fn a_proxy_that_restarts_again_and_again_keeps_no_session_alive() {
    let mut site = site();
    site.start("gone", &c0de(1));
    for round in 0..30 {
        site.pass(Duration::from_secs(4));
        site.restart_counter();
        site.start("new", &c0de(100 + round));
    }
    assert!(site.session_spans().iter().any(|span| span.attribute("user.id") == "LAB\\gone"));
}

#[test]
fn what_comes_late_from_before_a_restart_is_no_sign_of_life_after_it() {
    let mut site = site();
    site.start("gone", &c0de(1));
    let late = site.extended("Open connection", "gone", &c0de(1), &app(1));
    site.minutes(2);
    site.restart_counter();
    site.start("new", &c0de(2));
    site.send(&late);
    site.pass(Duration::from_secs(61));
    let spans = site.session_spans();
    assert_eq!(reasons(&spans, "qlik.sense.session.end.reason"), ["proxy_restart"]);
}

#[test]
fn a_failure_after_the_end_belongs_to_the_trace_of_its_session() {
    let mut site = site();
    // The session begins without an id, so that its trace is not the id.
    site.open("goran", "", &app(1));
    site.open("goran", &c0de(1), &app(2));
    site.stop("goran", &c0de(1));
    let mut failed = site.extended("Open connection", "goran", &c0de(1), &app(1));
    failed.result = "403".to_owned();
    site.send(&failed);
    let trace = site.session_spans()[0].trace_id;
    assert!(site.kept.logs.iter().all(|log| log.trace_id == Some(trace)), "{:?}", site.kept.logs);
}
