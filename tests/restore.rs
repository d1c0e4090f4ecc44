//! A core that is restored from its records goes on as one that never stopped.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sense_otel::processor::filter::{ExcludeRule, Handling, Privacy};
use sense_otel::processor::ids::Key;
use sense_otel::processor::record::{Ledger, RecordPosition, Restored, Room};
use sense_otel::processor::{Config, Processor, session};

use support::script::{Step, play, step};
use support::shelf::Shelf;
use support::site::{Extended, KEY, Site, app, c0de};

const HOUR: Duration = Duration::from_secs(3600);

/// Two logs that the same is written to.
struct Both<'a>(&'a mut Shelf, &'a mut Shelf);

impl Ledger for Both<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
        self.1.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
        self.1.delete(key);
    }
}

const SESSION: u8 = 8;

fn key() -> Key {
    Key::new(KEY)
}

/// Stores what has changed, forgets the core, and brings it back.
fn restart(site: &mut Site, shelf: &mut Shelf, config: &Config) -> Restored {
    site.processor.changes(shelf);
    let (processor, restored) = Processor::restore(config.clone(), &key(), &shelf.records);
    assert_eq!(restored.sessions, site.processor.open_sessions());
    assert_eq!(restored.held, site.processor.held());
    assert!(restored.running <= site.now.running);
    site.processor = processor;
    restored
}

fn whole(processor: &Processor) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut shelf = Shelf::default();
    assert_eq!(processor.records(RecordPosition::START, Room::ALL, &mut shelf), None);
    shelf.records
}

/// Everything that came out, in its order.
fn told(site: &Site) -> String {
    format!("{:#?}", site.kept)
}

fn run(steps: &[Step], config: &Config, mut after: impl FnMut(usize, &mut Site)) -> Site {
    let mut site = Site::new(config.clone());
    for (position, step) in steps.iter().enumerate() {
        play(&mut site, step);
        after(position, &mut site);
    }
    site.pass(HOUR * 30);
    site
}

fn config(tight: bool, marker: bool) -> Config {
    let limits = session::Config { open_sessions_max: 3, connections_per_session_max: 2, ..session::Config::default() };
    let sessions = if tight { limits } else { session::Config::default() };
    Config { sessions, start_marker: marker, ..Config::default() }
}

/// The same script as the appenders of Butler SOS would tell it.
fn in_stock(steps: Vec<Step>) -> Vec<Step> {
    let of_stock = |step| match step {
        Step::Event { command, user, id, app, late_by, .. } => {
            Step::Event { command, user, id, app, stock: true, late_by }
        }
        other => other,
    };
    steps.into_iter().map(of_stock).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn restarts_change_nothing(
        steps in vec(step(), 1..100),
        points in vec(any::<prop::sample::Index>(), 1..6),
        (tight, stock) in (any::<bool>(), any::<bool>()),
    ) {
        let steps = if stock { in_stock(steps) } else { steps };
        let config = config(tight, false);
        let straight = run(&steps, &config, |_, _| {});
        let points: BTreeSet<usize> = points.iter().map(|point| point.index(steps.len())).collect();
        let mut shelf = Shelf::default();
        let restarted = run(&steps, &config, |position, site| {
            if points.contains(&position) {
                assert_eq!((restart(site, &mut shelf, &config).damaged, site.processor.held()), (0, site.processor.held()));
                assert_eq!(whole(&site.processor), shelf.records);
            }
        });
        prop_assert_eq!(told(&straight), told(&restarted));
        prop_assert_eq!(whole(&straight.processor), whole(&restarted.processor));
    }

    #[test]
    fn a_restart_at_any_point_changes_nothing(
        steps in vec(step(), 1..25), (tight, stock, marker) in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) {
        let steps = if stock { in_stock(steps) } else { steps };
        let config = config(tight, marker);
        let straight = told(&run(&steps, &config, |_, _| {}));
        for point in 0..steps.len() {
            let mut shelf = Shelf::default();
            let restarted = run(&steps, &config, |position, site| {
                if position == point {
                    let _ = restart(site, &mut shelf, &config);
                }
            });
            prop_assert_eq!(&straight, &told(&restarted), "after step {}", point);
        }
        let mut shelf = Shelf::default();
        let restarted = run(&steps, &config, |_, site| assert_eq!(restart(site, &mut shelf, &config).damaged, 0));
        prop_assert_eq!(&straight, &told(&restarted), "after each step");
    }

    #[test]
    fn a_checkpoint_between_changes_holds_the_same(
        steps in vec(step(), 1..80), records in 1..20_usize, bytes in 1..4000_usize, every in 1..4_usize,
    ) {
        let room = Room { records, bytes };
        let mut site = Site::new(config(false, false));
        let (mut log, mut checkpoint) = (Shelf::default(), Shelf::default());
        site.processor.changes(&mut log);
        let (mut begun, mut place) = (false, None);
        for (number, step) in steps.iter().enumerate() {
            play(&mut site, step);
            if number == steps.len() / 3 {
                (begun, place) = (true, Some(RecordPosition::START));
            }
            if let Some(from) = place && number % every == 0 {
                place = site.processor.records(from, room, &mut checkpoint);
            }
            // Recovery begins with the checkpoint, and takes in what was stored after it began.
            if begun {
                site.processor.changes(&mut Both(&mut log, &mut checkpoint));
            } else {
                site.processor.changes(&mut log);
            }
            prop_assert_eq!(&log.records, &whole(&site.processor));
        }
        while let Some(from) = place {
            let before = (checkpoint.puts, checkpoint.bytes);
            place = site.processor.records(from, room, &mut checkpoint);
            let (puts, more) = (checkpoint.puts - before.0, checkpoint.bytes - before.1);
            prop_assert!(puts <= records && (more <= bytes + 1000 || puts == 1), "{puts} records, {more} bytes");
        }
        prop_assert_eq!(&checkpoint.records, &log.records);
    }

    #[test]
    fn damaged_records_cost_only_themselves(
        steps in vec(step(), 20..60), which in any::<prop::sample::Index>(), flips in vec(any::<prop::sample::Index>(), 8),
    ) {
        let mut site = Site::new(config(false, false));
        steps.iter().for_each(|step| play(&mut site, step));
        let records = whole(&site.processor);
        let (name, value) = records.iter().nth(which.index(records.len())).expect("an index of it");
        let sessions = site.processor.open_sessions() - usize::from(name[0] == SESSION);
        let mut damaged = records.clone();
        for length in 0..value.len() {
            damaged.insert(name.clone(), value[..length].to_vec());
            let (processor, restored) = Processor::restore(Config::default(), &key(), &damaged);
            // What hangs on the order of a node's events goes with it.
            prop_assert!(restored.damaged >= 1 || name[0] == 4 || name[0] == 5, "{name:?} cut to {length}");
            prop_assert!(processor.open_sessions() >= sessions);
        }
        for flip in flips {
            let bit = flip.index(value.len() * 8);
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            damaged.insert(name.clone(), flipped);
            let (processor, restored) = Processor::restore(Config::default(), &key(), &damaged);
            prop_assert!(processor.open_sessions() >= sessions, "{name:?}, bit {bit}: {restored:?}");
            let mut revived = Site::new(Config::default());
            revived.processor = processor;
            revived.now = site.now;
            let mut shelf = Shelf::default();
            revived.processor.changes(&mut shelf);
            steps.iter().take(10).for_each(|step| play(&mut revived, step));
            revived.processor.changes(&mut shelf);
            prop_assert_eq!(Processor::restore(Config::default(), &key(), &shelf.records).1.newer, 0);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        records in vec((vec(any::<u8>(), 0..16), vec(any::<u8>(), 0..80)), 0..20), kind in 0..10_u8, version in 0..3_u8,
    ) {
        let mut site = Site::new(Config::default());
        let named = records.into_iter().map(|(mut name, mut value)| {
            name.insert(0, kind);
            value.insert(0, version);
            (name, value)
        });
        let (processor, restored) = Processor::restore(Config::default(), &key(), named.collect::<BTreeMap<_, _>>());
        site.processor = processor;
        prop_assert!(restored.sessions <= 20);
        site.start("goran", &c0de(1));
        site.pass(HOUR);
    }
}

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

/// An Open as a browser on a site with a virtual proxy brings it about.
fn typical(site: &mut Site, user: &str, id: &str, number: u32) -> Extended {
    let mut open = site.extended("Open connection", user, id, &app(number));
    open.app_name = format!("Sales and more {number}");
    open.context = format!("/sales/app/{}?reloaduri=https%3a%2f%2fsense.example%2fsales", app(number));
    open.message = format!("Proxy connection Opened for session '{id}' from 10.66.77.88 UserAgent: '{CHROME}'");
    open
}

/// A script that leaves behind at least one record of each kind, and of most of their variants.
fn everything() -> Site {
    let mut site = Site::new(Config::default());
    let _ = site.processor.deadline();
    site.start("goran", &c0de(1));
    let mut open = typical(&mut site, "goran", &c0de(1), 1);
    open.context += "&traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    site.send(&open);
    site.pass(HOUR);
    let open = typical(&mut site, "goran", &c0de(1), 2);
    site.send(&open);
    for _ in 0..2 {
        site.open("maria", "", &app(3));
    }
    site.start("gone", "a-live-cookie");
    site.stop("gone", "a-live-cookie");
    site.open("anna", "", "");
    site.open("anna", &c0de(2), "");
    site.stop("anna", &c0de(2));
    site.pass(HOUR * 11 + Duration::from_secs(60));
    site.open("goran", &c0de(1), &app(1));
    site.open("goran", &c0de(1), &app(1));
    for _ in 0..3 {
        site.extended("Stop session", "lost", "", "");
    }
    site.start("late", &c0de(3));
    site.pass(Duration::from_secs(3));
    site.restart_counter();
    site.start("new", "ea7821ab-dbad-4b1f-851d-cb06a73e10a7");
    site.extended("Stop session", "lost", "", "");
    site.open("secret.user", &c0de(4), &app(4));
    assert_eq!(site.processor.held(), 1);
    site
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The format is a promise to stores that exist: these bytes have to be read for ever, and a change of what is written
/// needs a new version of its kind.
#[test]
fn records_are_written_as_ever() {
    let site = everything();
    let lines: Vec<String> =
        whole(&site.processor).iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    let kinds: BTreeSet<&str> = lines.iter().filter_map(|line| line.get(..2)).collect();
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    let golden = include_str!("golden/records.txt");
    assert_eq!(lines.concat(), golden);
}

#[test]
fn records_of_the_first_version_are_read() {
    let bytes = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
    };
    let golden: BTreeMap<Vec<u8>, Vec<u8>> = include_str!("golden/records.txt")
        .lines()
        .map(|line| line.split_once(' ').expect("a key and a value"))
        .map(|(key, value)| (bytes(key), bytes(value)))
        .collect();
    let (mut processor, restored) = Processor::restore(Config::default(), &key(), &golden);
    assert_eq!((restored.damaged, restored.newer, restored.held), (0, 0, 1));
    assert_eq!(restored.sessions, everything().processor.open_sessions());
    assert_eq!(whole(&processor), golden);
    let mut shelf = Shelf::default();
    processor.changes(&mut shelf);
    assert_eq!((shelf.puts, shelf.records.len()), (0, 0), "nothing has changed");
}

#[test]
fn a_typical_session_is_small_and_changes_cost_what_has_changed() {
    let mut site = Site::new(Config::default());
    for number in 0..1000 {
        site.start(&format!("user{number:03}"), &c0de(number));
    }
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    assert_eq!(shelf.of_kind(SESSION).count(), 1000);
    for number in 0..2 {
        site.minutes(7);
        let open = typical(&mut site, "user500", &c0de(500), number);
        site.send(&open);
    }
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    let (key, value) = shelf.of_kind(SESSION).next().expect("the session");
    println!(
        "a session with two connections: {} bytes, all of {} records: {}",
        key.len() + value.len(),
        shelf.puts,
        shelf.bytes
    );
    assert!(key.len() + value.len() <= 300, "{} bytes", key.len() + value.len());
    // The session, two ordinals, the node and the core.
    assert_eq!(shelf.puts, 5);
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    assert_eq!(shelf.puts, 0);
}

#[test]
fn ten_restarts_leave_one_span_with_one_id() {
    let config = Config::default();
    let (mut site, mut shelf) = (Site::new(config.clone()), Shelf::default());
    let began = site.now.wall;
    site.start("goran", &c0de(1));
    site.open("goran", &c0de(1), &app(1));
    for _ in 0..10 {
        let restored = restart(&mut site, &mut shelf, &config);
        assert_eq!((restored.sessions, restored.nodes, restored.damaged), (1, 1, 0));
        site.minutes(30);
        // While we are down the wall clock goes on.
        site.now.wall = site.now.wall + HOUR / 2;
    }
    site.stop("goran", &c0de(1));
    let (sessions, connections) = (site.session_spans(), site.connection_spans());
    assert_eq!((sessions.len(), connections.len()), (1, 1));
    assert_eq!((sessions[0].start, sessions[0].end), (began, began + HOUR * 10));
    assert_eq!(connections[0].parent, Some(sessions[0].span_id));
    assert_eq!(site.logs("session.start")[0].span_id, Some(sessions[0].span_id));
    site.assert_balanced();
}

#[test]
fn what_is_newer_is_skipped_counted_and_gone() {
    let mut site = everything();
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    let name = shelf.of_kind(SESSION).map(|(name, _)| name.clone()).next().expect("a session");
    shelf.records.get_mut(&name).expect("it is there")[0] = 2;
    shelf.records.insert(vec![200, 1, 2], vec![1]);
    let open = site.processor.open_sessions();
    let (mut processor, restored) = Processor::restore(Config::default(), &key(), &shelf.records);
    assert_eq!((restored.newer, restored.damaged, restored.sessions), (2, 0, open - 1));
    let before = shelf.records.len();
    processor.changes(&mut shelf);
    assert_eq!(shelf.records.len(), before - 2);
}

#[test]
fn fewer_sessions_and_connections_are_allowed_after_a_restart() {
    let mut site = Site::new(Config::default());
    for number in 0..5 {
        site.start(&format!("user{number}"), &c0de(number));
    }
    for number in 0..4 {
        site.open("user4", &c0de(4), &app(number));
    }
    let sessions =
        session::Config { open_sessions_max: 2, connections_per_session_max: 1, ..session::Config::default() };
    let mut shelf = Shelf::default();
    let _ = restart(&mut site, &mut shelf, &Config { sessions, ..Config::default() });
    site.pass(Duration::ZERO);
    assert_eq!(site.processor.open_sessions(), 2);
    let evicted: Vec<_> = site.session_spans().iter().map(|span| span.attribute("user.name").to_owned()).collect();
    assert_eq!(evicted, ["user0", "user1", "user2"], "the oldest of those that only began");
    let closed: Vec<_> =
        site.connection_spans().iter().map(|span| span.attribute("qlik.sense.app.id").to_owned()).collect();
    assert_eq!(closed, [app(0), app(1), app(2)]);
    let reasons: BTreeSet<_> =
        site.kept.session_durations.iter().chain(&site.kept.connection_durations).map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, BTreeSet::from(["evicted"]));
    site.assert_balanced();
}

#[test]
fn fewer_nodes_are_allowed_after_a_restart() {
    let mut site = Site::new(Config::default());
    for number in 1..=3 {
        let mut start = site.extended("Start session", "goran", &c0de(number), "");
        start.node = format!("NODE{number}");
        site.send(&start);
    }
    let mut held = site.extended("Start session", "goran", &c0de(9), "");
    (held.node, held.sequence) = ("node3".to_owned(), Some(9));
    site.send(&held);
    let config = Config { nodes_max: 2, ..Config::default() };
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    let (processor, restored) = Processor::restore(config.clone(), &key(), &shelf.records);
    site.processor = processor;
    assert_eq!((restored.nodes, restored.sessions, restored.held, restored.held_of_too_many_nodes), (2, 3, 0, 1));
    assert_eq!(restored.no_room, 2, "the third node, and what was held of it");
    site.pass(Duration::ZERO);
    let spans = site.session_spans();
    assert_eq!((spans.len(), spans[0].node.as_str()), (1, "NODE3"));
    assert_eq!(spans[0].attribute("qlik.sense.session.end.reason"), "evicted");
    let names: Vec<_> = site.processor.nodes().map(|status| status.node.name.to_string()).collect();
    assert_eq!(names, ["NODE1", "NODE2"]);
    site.processor.changes(&mut shelf);
    assert_eq!(shelf.records, whole(&site.processor));
    let (_, restored) = Processor::restore(config, &key(), &shelf.records);
    assert_eq!((restored.nodes, restored.sessions, restored.damaged), (2, 2, 0));
}

#[test]
fn a_stricter_privacy_lets_nothing_clear_out() {
    let secrets = ["SecretDirectory", "secret.user", "Chrome", "Windows NT", "10.66.77.88"];
    let found = |text: &str| secrets.into_iter().find(|secret| text.to_lowercase().contains(&secret.to_lowercase()));
    let in_secret = |mut event: Extended| {
        event.directory = "SecretDirectory".to_owned();
        event
    };
    for handling in [Handling::Hash, Handling::Drop] {
        let mut site = Site::new(Config::default());
        let start = in_secret(site.extended("Start session", "secret.user", &c0de(1), ""));
        site.send(&start);
        let mut open = in_secret(typical(&mut site, "secret.user", &c0de(1), 1));
        open.context = format!("/vp/app/{}/identity/secret.user/ttl/60", app(1));
        site.send(&open);
        site.extended("Stop session", "lost", "", "");
        let held = in_secret(typical(&mut site, "secret.user", &c0de(1), 2));
        site.send(&held);
        let mut shelf = Shelf::default();
        site.processor.changes(&mut shelf);
        site.kept = support::site::Kept::default();
        let privacy = Privacy { user: handling, user_agent: handling, client_address: handling };
        let strict = Config { privacy, ..Config::default() };
        let (processor, restored) = Processor::restore(strict.clone(), &key(), &shelf.records);
        assert_eq!((restored.sessions, restored.held, restored.damaged), (1, 1, 0));
        site.processor = processor;
        site.processor.changes(&mut shelf);
        let stored: String = shelf.records.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        assert_eq!(found(&stored), None, "what was stored clear is out of date");
        let session = format!("{:?}", site.processor.sessions().collect::<Vec<_>>());
        assert_eq!(found(&session), None, "{session}");
        site.minutes(60);
        let stop = in_secret(site.extended("Stop session", "secret.user", &c0de(1), ""));
        site.send(&stop);
        let text = format!("{:?}{:?}", site.kept.logs, site.kept.spans);
        assert_eq!(found(&text), None, "{text}");
        let spans = site.connection_spans();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0].attribute("url.path"), format!("/vp/app/{}/identity/…/ttl/60", app(1)));
        assert_eq!(spans[0].attribute("user.hash").len(), if handling == Handling::Hash { 32 } else { 0 });
        // And back again: what is gone stays gone.
        let mut shelf = Shelf::default();
        let start = in_secret(site.extended("Start session", "secret.user", &c0de(2), ""));
        site.send(&start);
        site.processor.changes(&mut shelf);
        let (processor, _) = Processor::restore(Config::default(), &key(), &whole(&site.processor));
        assert_eq!(found(&format!("{:?}", processor.sessions().collect::<Vec<_>>())), None);
    }
}

#[test]
fn a_user_is_the_same_in_a_stricter_mode() {
    let mut site = Site::new(Config::default());
    site.start("goran", "");
    let privacy = Privacy { user: Handling::Hash, ..Privacy::default() };
    let mut shelf = Shelf::default();
    let _ = restart(&mut site, &mut shelf, &Config { privacy, ..Config::default() });
    site.minutes(1);
    site.stop("goran", "");
    assert_eq!(site.session_spans().len(), 1);
}

#[test]
fn who_is_excluded_now_is_dropped_without_a_signal() {
    let mut site = Site::new(Config::default());
    site.start("robot", &c0de(1));
    site.start("goran", &c0de(2));
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    let rule = ExcludeRule { directory: "lab".to_owned(), user: "ro?ot".to_owned() };
    let config = Config { exclude_users: vec![rule], ..Config::default() };
    let (processor, restored) = Processor::restore(config, &key(), &shelf.records);
    assert_eq!((restored.sessions, restored.excluded, restored.damaged), (1, 1, 0));
    site.processor = processor;
    site.processor.changes(&mut shelf);
    assert_eq!(shelf.of_kind(SESSION).count(), 1);
    site.pass(HOUR * 30);
    assert_eq!(site.session_spans().len(), 1);
}

#[test]
fn another_key_changes_no_id_that_was_given_out() {
    let mut site = Site::new(Config::default());
    site.start("goran", "a-live-cookie");
    site.start("maria", "");
    site.extended("Stop session", "lost", "", "");
    site.open("held", &c0de(1), &app(1));
    let traces: BTreeSet<_> = site.kept.logs.iter().filter_map(|log| log.trace_id).collect();
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    let (processor, restored) = Processor::restore(Config::default(), &Key::new(b"another key"), &shelf.records);
    assert_eq!((restored.sessions, restored.held, restored.damaged), (2, 0, 1), "what is held is covered by the key");
    site.processor = processor;
    site.stop("maria", "");
    site.minutes(1);
    assert_eq!(site.session_spans().len(), 1, "a clear user is recognised");
    site.pass(HOUR * 30);
    let of_spans: BTreeSet<_> = site.session_spans().iter().map(|span| span.trace_id).collect();
    assert_eq!(of_spans, traces);
}

#[test]
fn deadlines_follow_the_configuration() {
    let mut site = Site::new(Config::default());
    site.start("goran", &c0de(1));
    site.open("goran", &c0de(1), &app(1));
    site.minutes(20);
    let sessions = session::Config {
        heartbeat: None,
        max_span_duration: HOUR,
        expire_connected_after: HOUR * 2,
        expire_after: HOUR * 2,
        ..session::Config::default()
    };
    let mut shelf = Shelf::default();
    let _ = restart(&mut site, &mut shelf, &Config { sessions, ..Config::default() });
    site.minutes(40);
    let first = site.session_spans()[0].duration();
    assert_eq!((first, site.session_spans().len(), site.connection_spans().len()), (HOUR, 1, 1));
    assert_eq!(site.logs("qlik.sense.session.heartbeat").len(), 1);
    let _ = restart(&mut site, &mut shelf, &Config::default());
    site.minutes(16);
    assert_eq!(
        site.logs("qlik.sense.session.heartbeat").len(),
        3,
        "at once, and every quarter of an hour from then on"
    );
    let sessions = session::Config { expire_connected_after: HOUR * 2, ..session::Config::default() };
    let _ = restart(&mut site, &mut shelf, &Config { sessions, ..Config::default() });
    site.minutes(44);
    assert_eq!(site.processor.open_sessions(), 0);
}

#[test]
fn deadlines_stand_still_while_we_are_down() {
    let config = Config::default();
    let (mut site, mut shelf) = (Site::new(config.clone()), Shelf::default());
    site.start("goran", &c0de(1));
    site.minutes(3 * 60);
    let _ = restart(&mut site, &mut shelf, &config);
    site.now.wall = site.now.wall + HOUR * 24 * 30;
    site.minutes(59);
    assert_eq!(site.processor.open_sessions(), 1);
    site.minutes(1);
    assert_eq!(site.processor.open_sessions(), 0);
}

#[test]
fn a_held_datagram_outlives_the_record_of_its_node() {
    let mut site = Site::new(Config::default());
    site.start("goran", &c0de(1));
    site.extended("Stop session", "lost", "", "");
    site.open("goran", &c0de(1), &app(1));
    site.open("goran", &c0de(1), &app(2));
    let mut shelf = Shelf::default();
    site.processor.changes(&mut shelf);
    shelf.records.retain(|key, _| key[0] != 2);
    let (processor, restored) = Processor::restore(Config::default(), &key(), &shelf.records);
    assert_eq!((restored.held, restored.nodes, restored.damaged), (2, 1, 0));
    site.processor = processor;
    site.pass(Duration::from_secs(2));
    assert_eq!((site.kept.accepted, site.processor.held()), (3, 0));
    site.stop("goran", &c0de(1));
    assert_eq!(site.connection_spans().len(), 2);
}

/// The end of the first was lost with a frame, the beginning of the second was not.
#[test]
fn of_two_sessions_with_one_id_the_later_counts() {
    let mut site = Site::new(Config::default());
    site.start("goran", &c0de(1));
    let mut old = Shelf::default();
    site.processor.changes(&mut old);
    site.stop("goran", &c0de(1));
    site.minutes(1);
    site.start("goran", &c0de(1));
    let mut new = Shelf::default();
    site.processor.changes(&mut new);
    let later = whole(&site.processor);
    let mut records = later.clone();
    records.extend(old.of_kind(SESSION).map(|(key, value)| (key.clone(), value.clone())));
    assert_eq!(records.len(), later.len() + 1);
    let (mut processor, restored) = Processor::restore(Config::default(), &key(), &records);
    assert_eq!((restored.sessions, restored.damaged), (1, 1));
    assert_eq!(whole(&processor), later, "the second segment is open");
    let mut shelf = Shelf { records, ..Shelf::default() };
    processor.changes(&mut shelf);
    assert_eq!(shelf.records, later, "the other record is deleted");
}
