//! The simulator against its own truth, and its datagrams against what a person would write down.

use std::collections::{BTreeMap, BTreeSet};

use super::truth::{Connection, Event, Gap};
use super::*;
use crate::event::Action;

const START: Timestamp = Timestamp::from_nanos(1_752_480_000_000_000_000);
const DAY: Pace = Pace::Day(Duration::from_secs(8 * 3600));

fn day(format: Format) -> Config {
    Config::new(format, START, DAY)
}

fn run(config: Config) -> (Vec<Emission>, Truth) {
    let mut simulator = Simulator::new(config);
    let emissions: Vec<_> = simulator.by_ref().collect();
    let truth = simulator.truth().clone();
    (emissions, truth)
}

fn text(emission: &Emission) -> &str {
    std::str::from_utf8(&emission.bytes).expect("text")
}

/// The sequence number of an extended datagram.
fn sequence(emission: &Emission) -> u32 {
    text(emission).split('\t').nth(1).expect("a field").parse().expect("a number")
}

#[test]
fn the_same_seed_gives_the_same_day_and_another_one_another() {
    for format in [Format::Stock, Format::Extended] {
        let faults = Faults { loss: 0.05, duplicate: 0.05, reorder: 0.05 };
        let config = Config { faults, ..day(format) };
        let first = run(config.clone());
        assert_eq!(first, run(config.clone()));
        assert_ne!(first.0, run(Config { seed: 2, ..config }).0);
        assert!(first.0.len() > 500, "{}", first.0.len());
    }
}

#[test]
fn without_faults_each_event_is_one_datagram_that_says_what_happened() {
    let (emissions, truth) = run(day(Format::Extended));
    assert_eq!(emissions.len(), truth.events.len());
    for (emission, event) in emissions.iter().zip(&truth.events) {
        let session = &truth.sessions[event.session];
        let fields: Vec<_> = text(emission).splitn(14, '\t').collect();
        assert_eq!((emission.at, emission.node), (event.time, event.node));
        assert_eq!(fields[0], "/sense-otel/1/");
        assert_eq!(fields[1], event.sequence.expect("a number").to_string());
        let time: jiff::Timestamp = fields[2].parse().expect("a time");
        assert_eq!(time.as_nanosecond() as u64, event.time.as_nanos());
        assert_eq!(fields[3], truth.nodes[event.node]);
        assert_eq!(fields[4], session.id);
        assert_eq!(fields[5], event.action.command());
        assert_eq!(fields[6], if event.refused { "403" } else { "0" });
        assert_eq!((fields[7], fields[8]), (session.user_directory.as_str(), session.user_name.as_str()));
        match event.connection.map(|index| &session.connections[index]) {
            Some(connection) => {
                assert_eq!(fields[9], "AppAccess");
                assert_eq!((fields[10], fields[11]), (connection.app.to_string().as_str(), connection.app_name));
                assert_eq!(fields[12].split('?').next(), Some(connection.path.as_str()));
                assert!(connection.path.contains(&format!("/app/{}", connection.app)));
                assert!(connection.path.trim_start_matches('/').starts_with(session.virtual_proxy));
                assert!(fields[13].ends_with(&format!("UserAgent: '{}'", session.user_agent)));
                assert!(fields[13].contains(&session.client.to_string()));
            }
            None if event.refused => assert_eq!(event.action, Action::ConnectionOpen),
            None => assert_eq!(fields[9..13], ["Not available", "0", "Not available", "Not available"]),
        }
    }
}

#[test]
fn every_message_holds_the_phrase_that_lets_it_through_the_appender() {
    for format in [Format::Stock, Format::Extended] {
        let (emissions, truth) = run(day(format));
        for (emission, event) in emissions.iter().zip(&truth.events) {
            let phrase = match event.action {
                Action::SessionStart => "Start session for user",
                Action::SessionStop => "Stop session for user",
                Action::ConnectionOpen => "connection Opened for session",
                Action::ConnectionClose => "connection Closed for session",
            };
            assert!(text(emission).contains(phrase), "{}", text(emission));
        }
    }
}

#[test]
fn stock_datagrams_have_eight_fields_and_no_ambiguous_user() {
    let (emissions, truth) = run(Config { users: 200, ..day(Format::Stock) });
    for (emission, event) in emissions.iter().zip(&truth.events) {
        let session = &truth.sessions[event.session];
        let is_session = matches!(event.action, Action::SessionStart | Action::SessionStop);
        let head = format!(
            "/qseow-proxy-{}/;{};{};{};{};{};",
            if is_session { "session" } else { "connection" },
            truth.nodes[event.node],
            event.action.command(),
            session.user_directory,
            session.user_name,
            if is_session { "Not available" } else { "AppAccess" },
        );
        assert!(text(emission).starts_with(&head), "{} {head}", text(emission));
        assert!(!session.user_name.contains(';') && event.sequence.is_none() && !event.refused);
    }
}

#[test]
fn a_session_starts_first_and_stops_last_and_its_connections_lie_within() {
    let (_, truth) = run(Config { users: 300, ..day(Format::Extended) });
    let mut events: BTreeMap<usize, Vec<&Event>> = BTreeMap::new();
    for event in &truth.events {
        events.entry(event.session).or_default().push(event);
    }
    assert_eq!(events.len(), truth.sessions.len());
    for (index, session) in truth.sessions.iter().enumerate() {
        let own = &events[&index];
        assert_eq!((own[0].action, own[0].time), (Action::SessionStart, session.start));
        assert!(own[1..].iter().all(|event| event.action != Action::SessionStart));
        let stops: Vec<_> = own.iter().filter(|event| event.action == Action::SessionStop).collect();
        assert_eq!(stops.iter().map(|stop| stop.time).collect::<Vec<_>>(), session.end.into_iter().collect::<Vec<_>>());
        assert!(own.iter().all(|event| session.end.is_none_or(|end| event.time <= end)));
        for connection in &session.connections {
            assert!(session.start < connection.open);
            assert!(connection.close.is_none_or(|close| connection.open <= close));
        }
        assert!(session.connections.is_sorted_by_key(|connection| connection.open));
        assert_tabs_can_be_told_apart(&session.connections);
    }
}

/// Of two connections of a session to one app the one that opened first closes first: that is the most that the events
/// allow anyone to say. Only a reload has two at a time, for less than 50 ms.
fn assert_tabs_can_be_told_apart(connections: &[Connection]) {
    for (position, later) in connections.iter().enumerate() {
        for earlier in connections[..position].iter().filter(|earlier| earlier.app == later.app) {
            let close = earlier.close.expect("no second tab of an app beside one that never closes");
            assert!(later.close.is_none_or(|later| close <= later));
            assert!(close.since(later.open) < Duration::from_millis(50));
        }
    }
}

#[test]
fn the_day_has_what_real_sites_have() {
    let (emissions, truth) = run(Config { users: 1_000, ..day(Format::Extended) });
    let end = START + Duration::from_secs(8 * 3600);
    assert!(emissions.iter().all(|emission| (START..=end).contains(&emission.at)));
    assert!(emissions.is_sorted_by_key(|emission| emission.at));
    let before_noon = truth.sessions.iter().filter(|session| session.start < START + Duration::from_secs(4 * 3600));
    assert!(before_noon.count() > truth.sessions.len() / 2);

    let names: BTreeSet<_> =
        truth.sessions.iter().map(|session| (session.user_directory.as_str(), session.user_name.as_str())).collect();
    assert!(names.contains(&("INTERNAL", "sa_repository")));
    assert!(names.contains(&("AZUREAD", "名前@example.co.jp")));
    assert!(names.contains(&("LAB", "userdirectory=lab; userid=goran")));
    assert!(names.iter().any(|(directory, name)| *directory == "NONE" && name.starts_with("anonymous")));
    assert!(truth.sessions.iter().any(|session| session.virtual_proxy == "partner/eu"));

    let share = |count: usize, of: usize| count as f64 / of as f64;
    let hashed = truth.sessions.iter().filter(|session| session.id.starts_with("c0de")).count();
    assert!((0.9..0.98).contains(&share(hashed, truth.sessions.len())));
    let long_over = truth.sessions.iter().filter(|session| session.start < START + Duration::from_secs(3600));
    let (stopped, lasting): (Vec<_>, Vec<_>) = long_over.partition(|session| session.end.is_some());
    assert!((0.03..0.3).contains(&share(lasting.len(), stopped.len())), "{} {}", lasting.len(), stopped.len());
    let idle = |session: &&&truth::Session| {
        let quiet = session.connections.iter().filter_map(|connection| connection.close).max().unwrap_or(session.start);
        session.end.is_some_and(|end| end.since(quiet) >= Duration::from_secs(30 * 60))
    };
    assert!(share(stopped.iter().filter(idle).count(), stopped.len()) > 0.6);
    assert!(truth.events.iter().any(|event| event.refused));
    assert!(truth.sessions.iter().flat_map(|session| &session.connections).any(|it| it.traceparent.is_some()));
    for node in 0..4 {
        assert!(share(truth.events.iter().filter(|event| event.node == node).count(), truth.events.len()) > 0.15);
    }
}

#[test]
fn each_node_counts_from_one_without_a_hole() {
    let (emissions, _) = run(day(Format::Extended));
    for node in 0..4 {
        let sequences: Vec<_> = emissions.iter().filter(|emission| emission.node == node).map(sequence).collect();
        assert_eq!(sequences, (1..=sequences.len() as u32).collect::<Vec<_>>());
    }
}

#[test]
fn faults_happen_as_often_as_asked_and_are_on_record() {
    let faults = Faults { loss: 0.1, duplicate: 0.05, reorder: 0.2 };
    let config = Config { users: 1_000, faults, pace: Pace::PerSecond(2_000.0), ..day(Format::Extended) };
    let mut simulator = Simulator::new(config);
    let emissions: Vec<_> = simulator.by_ref().take(20_000).collect();
    let truth = simulator.truth();
    let share = |fate| truth.count(fate) as f64 / truth.events.len() as f64;
    assert!((share(Fate::Lost) - 0.1).abs() < 0.01);
    assert!((share(Fate::Duplicated) - 0.05).abs() < 0.01);
    assert!((share(Fate::Delayed) - 0.2).abs() < 0.01);
    assert!(emissions.is_sorted_by_key(|emission| emission.at));

    let fates: BTreeMap<_, _> =
        truth.events.iter().map(|event| ((event.node, event.sequence.expect("a number")), event)).collect();
    let mut sent: BTreeMap<(usize, u32), Vec<Timestamp>> = BTreeMap::new();
    for emission in &emissions {
        sent.entry((emission.node, sequence(emission))).or_default().push(emission.at);
    }
    // What happened in the last moments may still be due.
    let settled = emissions.last().expect("emissions").at.before(Duration::from_millis(50));
    for (key, event) in fates.into_iter().filter(|(_, event)| event.time < settled) {
        let times = sent.remove(&key).unwrap_or_default();
        let delays: Vec<_> = times.iter().map(|time| time.since(event.time).as_millis()).collect();
        match event.fate {
            Fate::Sent => assert_eq!(delays, [0]),
            Fate::Lost => assert!(delays.is_empty()),
            Fate::Duplicated => assert!(delays.len() == 2 && delays[0] == 0 && delays[1] <= 20, "{delays:?}"),
            Fate::Delayed => assert!(delays.len() == 1 && (1..=30).contains(&delays[0]), "{delays:?}"),
        }
    }
    let overtaken = |node| {
        let own: Vec<_> = emissions.iter().filter(|emission| emission.node == node).map(sequence).collect();
        own.windows(2).filter(|pair| pair[0] > pair[1]).count()
    };
    assert!((0..4).map(overtaken).sum::<usize>() > 100);
}

#[test]
fn gaps_are_what_lies_between_two_datagrams_of_a_node() {
    let event = |node, sequence, fate| Event {
        time: START,
        node,
        sequence: Some(sequence),
        action: Action::SessionStart,
        session: 0,
        connection: None,
        refused: false,
        fate,
    };
    let truth = Truth {
        nodes: vec!["a".to_owned(), "b".to_owned()],
        events: vec![
            event(0, 1, Fate::Lost),
            event(0, 2, Fate::Sent),
            event(1, 1, Fate::Sent),
            event(0, 3, Fate::Lost),
            event(1, 2, Fate::Lost),
            event(0, 4, Fate::Lost),
            event(0, 5, Fate::Duplicated),
            event(1, 3, Fate::Delayed),
            event(0, 6, Fate::Lost),
        ],
        sessions: Vec::new(),
    };
    assert_eq!(truth.gaps(), [Gap { node: 0, first: 3, last: 4 }, Gap { node: 1, first: 2, last: 2 }]);
}

#[test]
fn a_rate_is_kept_to_the_millisecond_and_has_no_end() {
    let config = Config { pace: Pace::PerSecond(250.0), users: 3, nodes: 1, ..day(Format::Stock) };
    for (number, emission) in Simulator::new(config).take(5_000).enumerate() {
        assert_eq!(emission.at, START + Duration::from_millis(4 * number as u64));
    }
}

#[test]
fn without_a_truth_the_datagrams_are_the_same_and_memory_does_not_grow() {
    let config = Config { pace: Pace::PerSecond(1_000.0), ..day(Format::Extended) };
    let with = Simulator::new(config.clone()).take(20_000);
    let mut without = Simulator::new(Config { keeps_truth: false, ..config });
    assert!(with.eq(without.by_ref().take(20_000)));
    assert_eq!((without.truth().events.len(), without.truth().sessions.len()), (0, 0));
    assert!(without.sessions.len() < 500, "{}", without.sessions.len());
    assert!(without.open_sessions() <= without.sessions.len());
    assert!(without.events() >= 20_000);
}

#[test]
fn it_ends_after_the_last_event_with_everything_sent_that_was_due() {
    let faults = Faults { loss: 0.0, duplicate: 0.5, reorder: 0.5 };
    let config = Config { faults, pace: Pace::PerSecond(10_000.0), events_max: 1_234, ..day(Format::Extended) };
    let (emissions, truth) = run(config);
    assert_eq!(truth.events.len(), 1_234);
    assert_eq!(emissions.len(), 1_234 + truth.count(Fate::Duplicated));
}

#[test]
fn the_counter_wraps_as_the_appender_does() {
    let config = Config { nodes: 1, pace: Pace::PerSecond(1_000.0), ..day(Format::Extended) };
    let mut simulator = Simulator::new(config);
    simulator.sequences = vec![SEQUENCE_MAX - 1];
    let sequences: Vec<_> = simulator.take(3).map(|emission| sequence(&emission)).collect();
    assert_eq!(sequences, [SEQUENCE_MAX, 1, 2]);
}

#[test]
fn a_site_of_no_users_and_no_nodes_is_the_smallest_there_is() {
    let (_, truth) = run(Config { users: 0, nodes: 0, ..day(Format::Extended) });
    assert_eq!(truth.nodes, ["pro2-win1"]);
}
