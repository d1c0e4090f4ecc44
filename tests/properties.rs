//! What holds for any stream of events: permuted, repeated, lost, restarted, in either format.

#![expect(clippy::expect_used, reason = "what a test's helper finds wrong fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sense_otel::processor::{Config, session};

use support::script::{COMMANDS, app_text, id_text, play, step};
use support::site::{Extended, KeptSpan, Site};

/// What must be true of everything that ever came out.
fn check(site: &Site) {
    site.assert_balanced();
    let events = ["session.start", "qlik.sense.connection.open", "qlik.sense.connection.close", "session.end"];
    let told = site.kept.logs.iter().filter(|log| {
        let inferred = log.attributes.contains_key("qlik.sense.session.end.time");
        events.contains(&log.event_name.as_str()) && !inferred
    });
    assert_eq!(told.count() as u64, site.kept.accepted, "one record for each accepted event");
    let sessions: BTreeSet<_> = site.session_spans().iter().map(|span| (span.trace_id, span.span_id)).collect();
    for span in site.connection_spans() {
        let parent = span.parent.expect("a connection has a parent");
        let open = site.processor.sessions().any(|session| session.context().span_id == parent);
        assert!(open || sessions.contains(&(span.trace_id, parent)), "a connection whose parent is never sent");
    }
    for span in site.session_spans() {
        assert_eq!(span.parent, None);
    }
    let limit = session::Config::default().max_span_duration;
    assert!(site.kept.spans.iter().all(|span| span.duration() <= limit), "a span is longer than allowed");
    let cut = |span: &&&KeptSpan, key: &str| span.attribute(key) == "rollover";
    for span in site.session_spans().iter().filter(|span| cut(span, "qlik.sense.session.end.reason")) {
        assert_eq!(span.duration(), limit, "a span is cut exactly at the limit");
    }
    for span in site.connection_spans().iter().filter(|span| cut(span, "qlik.sense.connection.close.reason")) {
        assert_eq!(span.duration(), limit, "a span is cut exactly at the limit");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_script_keeps_the_promises(steps in vec(step(), 1..120)) {
        let mut site = Site::new(Config::default());
        for step in &steps {
            play(&mut site, step);
        }
        check(&site);
        // What is not heard of any more ends, and every session that was opened ends once.
        site.pass(Duration::from_secs(3600 * 25));
        check(&site);
        prop_assert_eq!(site.processor.open_sessions(), 0);
        prop_assert_eq!(site.processor.held(), 0);
        let mut last: BTreeMap<_, usize> = BTreeMap::new();
        for span in site.session_spans() {
            if span.attribute("qlik.sense.session.end.reason") != "rollover" {
                *last.entry(span.trace_id).or_default() += 1;
            }
        }
        prop_assert_eq!(last.values().sum::<usize>(), site.kept.session_durations.len());
        let connections = site.connection_spans();
        let ended = connections.iter().filter(|span| span.attribute("qlik.sense.connection.close.reason") != "rollover");
        prop_assert_eq!(ended.count(), site.kept.connection_durations.len());
    }

    #[test]
    fn tight_limits_hold_whatever_comes(steps in vec(step(), 1..120)) {
        let sessions = session::Config {
            open_sessions_max: 3,
            connections_per_session_max: 2,
            ..session::Config::default()
        };
        let mut site = Site::new(Config { sessions, ..Config::default() });
        for step in &steps {
            play(&mut site, step);
            prop_assert!(site.processor.open_sessions() <= 3);
            prop_assert!(site.processor.sessions().all(|session| session.connections().len() <= 2));
        }
        check(&site);
    }

    #[test]
    fn order_and_repetition_on_the_way_change_nothing(
        steps in vec((0..4_usize, 0..3_u8, 0..4_u8, 0..3_u8, 0..40_u64), 1..60),
        shuffle in vec((any::<prop::sample::Index>(), 0..3_u8), 60),
    ) {
        let in_order = stream(&steps);
        let mut straight = Site::new(Config::default());
        let mut crooked = Site::new(Config::default());
        for datagram in &in_order {
            straight.send(datagram);
        }
        // The first datagram of a node says where its counter stands, so it stays the first.
        let mut order: Vec<usize> = (1..in_order.len()).collect();
        for (position, (other, _)) in shuffle.iter().enumerate().take(order.len()) {
            let other = other.index(order.len());
            order.swap(position, other);
        }
        order.insert(0, 0);
        let mut repeated = 0;
        for (position, index) in order.iter().enumerate() {
            let times = shuffle.get(position).map_or(0, |(_, times)| *times);
            for _ in 0..=times {
                crooked.send(&in_order[*index]);
            }
            repeated += u64::from(times);
        }
        straight.pass(Duration::from_secs(3600 * 30));
        crooked.pass(Duration::from_secs(3600 * 30));
        prop_assert_eq!(straight.kept.accepted, crooked.kept.accepted);
        prop_assert_eq!(crooked.kept.duplicate, repeated);
        prop_assert_eq!(crooked.kept.missing, 0);
        prop_assert_eq!(spans(&straight), spans(&crooked));
    }
}

/// Extended datagrams of one node in the order of its counter, whose times rise but who are all sent at one moment.
fn stream(steps: &[(usize, u8, u8, u8, u64)]) -> Vec<Extended> {
    let mut site = Site::new(Config::default());
    let mut time = site.now.wall.before(Duration::from_secs(3600));
    let mut datagrams = Vec::new();
    for (command, user, id, app, millis) in steps {
        time = time + Duration::from_millis(*millis);
        let mut datagram = site.extended(COMMANDS[*command], &format!("user{user}"), &id_text(*id), &app_text(*app));
        datagram.time = Some(time);
        datagrams.push(datagram);
    }
    datagrams
}

fn spans(site: &Site) -> Vec<String> {
    let mut all: Vec<String> = site.kept.spans.iter().map(|span| format!("{span:?}")).collect();
    all.sort_unstable();
    all
}
