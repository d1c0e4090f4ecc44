//! The simulator on the wire: what `sense-otel simulate` sends is what its truth says, and the receiver gets all of it.

#![expect(clippy::expect_used, reason = "a test that cannot set its scene has to fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Instant, SystemTime};

use sense_otel::receiver::{self, CHANNEL_BATCHES, Config, Tally};
use sense_otel::telemetry::Telemetry;
use sense_otel::time::Timestamp;
use serde_json::Value;

/// The text and the source of each datagram, in order of arrival, and the receiver's own account.
type Received = (Vec<(String, SocketAddr)>, Tally);

/// Runs the receiver while `send` sends to its address.
fn receive_while<T>(send: impl FnOnce(SocketAddr) -> T) -> (T, Received) {
    let config = Config {
        endpoint: "127.0.0.1:0".to_owned(),
        receive_buffer: 8 << 20,
        max_datagram_size: 65_507,
        allowed_sources: Vec::new(),
        rate_limit_per_source: 0,
    };
    let bound = receiver::bind(&config).expect("a free port");
    let address = bound.local_addresses()[0];
    let (sender, batches) = sync_channel(CHANNEL_BATCHES);
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || receiver::run(bound, &config, &Telemetry::default(), &sender, &stop, || Timestamp::EPOCH)
    });
    let collector = std::thread::spawn(move || {
        let texts = |batch: receiver::Batch| -> Vec<_> {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            batch.iter().map(|datagram| (text(datagram.bytes), datagram.source)).collect()
        };
        batches.iter().flat_map(texts).collect()
    });
    let sent = send(address);
    stop.store(true, Ordering::Relaxed);
    let tally = thread.join().expect("no panic");
    (sent, (collector.join().expect("no panic"), tally))
}

fn simulate(to: SocketAddr, arguments: &[&str]) -> Output {
    let to = to.to_string();
    Command::new(env!("CARGO_BIN_EXE_sense-otel"))
        .args(["simulate", "--to", &to])
        .args(arguments)
        .output()
        .expect("the binary")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn millis_now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    since_epoch.as_millis() as u64
}

#[test]
fn the_truth_file_tells_every_datagram_that_arrives() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("truth.json");
    let path = file.to_str().expect("a path of text");
    let arguments = ["--events", "3000", "--rate", "3000", "--seed", "7", "--loss", "0.05", "--duplicate", "0.05"];
    let earliest = millis_now();
    let (output, (received, tally)) = receive_while(|to| simulate(to, &[&arguments[..], &["--truth", path]].concat()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!((tally.dropped, tally.kernel_dropped), (0, 0));
    assert!(
        text(&output.stdout).starts_with(&format!("sent {} datagrams", received.len())),
        "{}",
        text(&output.stdout)
    );

    let truth: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    let events = truth["events"].as_array().expect("events");
    assert_eq!(events.len(), 3000);
    let mut expected: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for event in events {
        let copies = match event["fate"].as_str().expect("a fate") {
            "lost" => 0,
            "duplicated" => 2,
            _ => 1,
        };
        let time = event["time"].as_u64().expect("a time");
        assert!((earliest..=millis_now()).contains(&time));
        let node = event["node"].as_str().expect("a node").to_owned();
        expected.insert((node, event["sequence"].as_u64().expect("a number")), copies);
    }
    for (datagram, _) in &received {
        let fields: Vec<_> = datagram.split('\t').collect();
        let key = (fields[3].to_owned(), fields[1].parse().expect("a number"));
        let left = expected.get_mut(&key).expect("an event of the truth");
        *left = left.checked_sub(1).expect("no more copies than the truth tells");
    }
    assert!(expected.values().all(|left| *left == 0));
    assert!(!truth["gaps"].as_array().expect("gaps").is_empty());
    let ids: BTreeSet<_> = received.iter().map(|(datagram, _)| datagram.split('\t').nth(4).expect("an id")).collect();
    let sessions = truth["sessions"].as_array().expect("sessions");
    assert!(ids.iter().all(|id| sessions.iter().any(|session| session["id"] == *id)));
}

#[test]
fn each_node_sends_from_a_socket_of_its_own() {
    let arguments = ["--events", "400", "--rate", "4000", "--nodes", "3", "--format", "stock"];
    let (output, (received, _)) = receive_while(|to| simulate(to, &arguments));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(received.len(), 400);
    let pairs: BTreeSet<_> =
        received.iter().map(|(datagram, source)| (datagram.split(';').nth(1).expect("a host"), source)).collect();
    assert_eq!(pairs.len(), 3, "{pairs:?}");
}

#[test]
fn the_rate_is_kept_for_as_long_as_asked() {
    let began = Instant::now();
    let (output, (received, _)) = receive_while(|to| simulate(to, &["--duration", "500ms", "--rate", "2000"]));
    let took = began.elapsed();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(received.len(), 1000);
    // The last of a thousand events is due half a millisecond before the end.
    assert!(took.as_millis() >= 499, "{took:?}");
}

#[test]
fn impossible_wishes_are_refused() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    for (arguments, complaint) in [
        (&["--rate", "0"][..], "not a number above 0"),
        (&["--loss", "1.5"], "not a number from 0 to 1"),
        (&["--duration", "0s"], "not above zero"),
        (&["--users", "0"], "0 is not in 1.."),
        (&["--loss", "0.6", "--reorder", "0.6"], "must not add up to more than 1"),
        (&["--events", "5", "--duration", "1s"], "cannot be used with"),
    ] {
        let output = simulate(nowhere, arguments);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(complaint), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sense-otel"))
        .args(["simulate", "--to", "no-such-host.invalid:9997", "--events", "1"])
        .output()
        .expect("the binary");
    assert!(text(&output.stderr).contains("cannot find an address for no-such-host.invalid:9997"));
}
