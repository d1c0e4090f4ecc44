//! The core against the seeded simulator: whatever happens to the datagrams on their way, what comes out is what
//! really happened, or is told to be missing.

#![expect(clippy::expect_used, clippy::panic, reason = "what a test's helper finds wrong fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sense_otel::event::Format;
use sense_otel::processor::{Config, session};
use sense_otel::signal::{SpanId, TraceId};
use sense_otel::simulator::truth::{Connection, Fate, Session, Truth};
use sense_otel::simulator::{self, Faults, Pace, Simulator};
use sense_otel::time::Timestamp;

use support::site::{EIGHT, KeptSpan, Site};

const DAY: Duration = Duration::from_secs(8 * 3600);
const AFTER: Duration = Duration::from_secs(3600 * 30);

/// What one simulated day brought.
struct Outcome {
    /// Replays the failure.
    seed: u64,
    truth: Truth,
    site: Site,
}

/// Lets a site work for a day, with the clocks of the receiver beside it, and long after it.
fn day(seed: u64, format: Format, faults: Faults) -> Outcome {
    let config = simulator::Config::new(format, EIGHT, Pace::Day(DAY));
    let mut simulator = Simulator::new(simulator::Config { seed, users: 30, nodes: 3, faults, ..config });
    // Spans that are cut have tests of their own.
    let sessions = session::Config { max_span_duration: AFTER * 2, ..session::Config::default() };
    let mut site = Site::new(Config { sessions, ..Config::default() });
    for emission in simulator.by_ref() {
        site.pass(emission.at.since(site.now.wall));
        let port = 50_000 + u16::try_from(emission.node).expect("few nodes");
        site.bytes(&emission.bytes, port);
    }
    site.pass(AFTER);
    site.assert_balanced();
    assert_eq!(site.processor.open_sessions(), 0, "seed {seed}: everything ends at last");
    Outcome { seed, truth: simulator.truth().clone(), site }
}

impl Outcome {
    /// The spans of each trace by name: sessions or connections.
    fn spans(&self, name: &str) -> BTreeMap<TraceId, Vec<&KeptSpan>> {
        let mut spans: BTreeMap<TraceId, Vec<&KeptSpan>> = BTreeMap::new();
        for span in self.site.kept.spans.iter().filter(|span| span.name == name) {
            spans.entry(span.trace_id).or_default().push(span);
        }
        spans
    }

    /// Every session of the truth is one span, every connection one child of it, with exact times; and nothing else is.
    fn assert_whole(&self) {
        let (seed, kept) = (self.seed, &self.site.kept);
        let mut sessions: BTreeSet<(String, String, Timestamp, Timestamp, usize)> = BTreeSet::new();
        let mut found = BTreeSet::new();
        for session in &self.truth.sessions {
            let (end, _) = end_of(session);
            let connections = session.connections.len();
            assert!(
                sessions.insert((self.node(session), user(session), session.start, end, connections)),
                "seed {seed}"
            );
        }
        let mut parents: BTreeMap<(TraceId, SpanId), (String, String, Timestamp)> = BTreeMap::new();
        for span in self.spans("qlik.sense.session").into_values().flatten() {
            let connections = span.attribute("qlik.sense.session.connections").parse().expect("a number");
            let user = span.attribute("user.id").to_owned();
            assert!(found.insert((span.node.clone(), user.clone(), span.start, span.end, connections)), "seed {seed}");
            parents.insert((span.trace_id, span.span_id), (span.node.clone(), user, span.start));
        }
        self.assert_same(found.into_iter().collect(), sessions.into_iter().collect());

        let mut connections = Vec::new();
        for session in &self.truth.sessions {
            for connection in &session.connections {
                let place = (self.node(session), user(session), session.start);
                connections.push((place, connection.app.to_string(), connection.open, close_of(session, connection)));
            }
        }
        let mut found = Vec::new();
        for span in self.spans("qlik.sense.connection").into_values().flatten() {
            let parent = span.parent.and_then(|parent| parents.get(&(span.trace_id, parent)));
            let parent = parent.unwrap_or_else(|| panic!("seed {seed}: a connection without its session: {span:?}"));
            found.push((parent.clone(), span.attribute("qlik.sense.app.id").to_owned(), span.start, span.end));
        }
        self.assert_same(found, connections);

        let told = kept.logs.iter().filter(|log| is_of_an_event(log)).count();
        assert_eq!(told, self.truth.events.len(), "seed {seed}: one record for each event");
        assert_eq!(kept.missing, 0, "seed {seed}");
    }

    fn assert_same<T: Ord + Clone + std::fmt::Debug>(&self, found: Vec<T>, expected: Vec<T>) {
        let count = |all: Vec<T>| {
            all.into_iter().fold(BTreeMap::<T, usize>::new(), |mut counts, each| {
                *counts.entry(each).or_default() += 1;
                counts
            })
        };
        let (found, expected) = (count(found), count(expected));
        let invented: Vec<_> = found.iter().filter(|(each, times)| expected.get(each) != Some(times)).collect();
        let missing: Vec<_> = expected.iter().filter(|(each, times)| found.get(each) != Some(times)).collect();
        assert!(invented.is_empty() && missing.is_empty(), "seed {}: {invented:#?} instead of {missing:#?}", self.seed);
    }

    fn node(&self, session: &Session) -> String {
        self.truth.nodes[session.node].clone()
    }
}

fn user(session: &Session) -> String {
    format!("{}\\{}", session.user_directory, session.user_name)
}

/// When a session ends as a receiver can know it: with its Stop, else with the last that was heard of it.
fn end_of(session: &Session) -> (Timestamp, bool) {
    let heard = session.connections.iter().flat_map(|connection| [Some(connection.open), connection.close]).flatten();
    match session.end {
        Some(end) => (end, true),
        None => (heard.chain([session.start]).max().expect("it started"), false),
    }
}

fn close_of(session: &Session, connection: &Connection) -> Timestamp {
    connection.close.unwrap_or_else(|| end_of(session).0)
}

fn is_of_an_event(log: &support::site::KeptLog) -> bool {
    let is_inferred = log.attributes.contains_key("qlik.sense.session.end.time");
    !is_inferred && !log.event_name.ends_with("heartbeat") && !log.event_name.ends_with("gap")
}

/// A refused attempt counts as a sign of life for nobody, and sessions without a Stop end at their last event.
#[test]
fn a_day_without_faults_is_told_exactly() {
    for seed in 1..=12 {
        day(seed, Format::Extended, Faults::default()).assert_whole();
    }
}

#[test]
fn repeated_and_overtaken_datagrams_change_nothing() {
    for seed in 20..=31 {
        let faults = Faults { loss: 0.0, duplicate: 0.1, reorder: 0.2 };
        let outcome = day(seed, Format::Extended, faults);
        assert!(outcome.truth.count(Fate::Duplicated) > 20 && outcome.truth.count(Fate::Delayed) > 20);
        assert_eq!(outcome.site.kept.duplicate, outcome.truth.count(Fate::Duplicated) as u64, "seed {seed}");
        outcome.assert_whole();
    }
}

#[test]
fn stock_events_give_the_same_sessions() {
    for seed in 40..=51 {
        let outcome = day(seed, Format::Stock, Faults::default());
        let sessions = outcome.spans("qlik.sense.session").into_values().flatten().count();
        assert_eq!(sessions, outcome.truth.sessions.len(), "seed {seed}");
        let connections: usize = outcome.truth.sessions.iter().map(|session| session.connections.len()).sum();
        assert_eq!(outcome.spans("qlik.sense.connection").into_values().flatten().count(), connections, "seed {seed}");
        let unmatched =
            outcome.site.kept.logs.iter().filter(|log| !log.attribute("qlik.sense.event.unmatched").is_empty());
        assert_eq!(unmatched.count(), 0, "seed {seed}");
    }
}

/// With losses nobody can know everything, but no session is told twice, none is invented, and every loss is a gap.
#[test]
fn lost_datagrams_are_known_to_be_lost() {
    for seed in 60..=71 {
        let outcome = day(seed, Format::Extended, Faults { loss: 0.05, duplicate: 0.05, reorder: 0.1 });
        let kept = &outcome.site.kept;
        let missing: u64 = outcome.truth.gaps().iter().map(|gap| u64::from(gap.last - gap.first) + 1).sum();
        assert!(missing > 0);
        assert_eq!(kept.missing, missing, "seed {seed}");
        let mut told = 0;
        for record in kept.logs.iter().filter(|log| log.event_name == "qlik.sense.receiver.gap") {
            told += record.attribute("qlik.sense.receiver.gap.count").parse::<u64>().expect("a number");
        }
        assert_eq!(told, missing, "seed {seed}: a record for each gap");

        let mut real: BTreeMap<String, &Session> = BTreeMap::new();
        for session in outcome.truth.sessions.iter().filter(|session| session.id.starts_with("c0de")) {
            real.insert(session.id.replace('-', ""), session);
        }
        for (trace, spans) in outcome.spans("qlik.sense.session") {
            let Some(session) = real.get(&trace.to_string()) else { continue };
            assert_eq!(spans.len(), 1, "seed {seed}: one session, one span");
            let span = spans[0];
            assert!(span.start >= session.start && span.end <= end_of(session).0, "seed {seed}: {span:?}");
            assert_eq!(span.attribute("user.id"), user(session), "seed {seed}");
        }
    }
}
