//! The real receiver as a process that is killed, stopped and started again, before a collector that forgets nothing.
//! What arrived there is held against the truth of the simulated site.
#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sense_otel::event::Format;
use sense_otel::signal::Signal;
use sense_otel::simulator::truth::Truth;
use sense_otel::simulator::{self, Pace, Simulator};
use sense_otel::time::Timestamp;

use delivered::Delivered;
use stand::{Failure, PATIENCE, Receiver, folder, until};
use support::collector::{Answer, Collector};
use tonic::Code;

mod delivered;
#[cfg(target_os = "linux")]
mod disk;
mod kill;
mod load;
mod outage;
#[cfg(target_os = "linux")]
mod stall;
#[path = "../support/stand.rs"]
mod stand;
#[path = "../support/mod.rs"]
mod support;
mod two;

/// The secret of every keyed hash.
const KEY: &str = "a key for tests only";

/// Nobody is left out, and there is nothing to wait for longer than it must.
const QUICK: &str = "telemetry: { metrics_interval: 1s }\nexclude_users: []\nprivacy: { key: a key for tests only }";

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).expect("a time before 2554"))
}

/// A site at work, from a thread that whoever started us knows nothing of. It sends whether anybody listens or not.
struct Traffic {
    stop: AtomicBool,
}

impl Traffic {
    const fn new() -> Self {
        Self { stop: AtomicBool::new(false) }
    }

    /// Sends until told to stop, each node from a socket of its own, and each event to each of these. Returns what was
    /// sent.
    fn send(&self, to: &[SocketAddr], rate: f64, users: usize, seed: u64) -> Truth {
        let site = simulator::Config::new(Format::Extended, now(), Pace::PerSecond(rate));
        let begun = (site.start, Instant::now());
        let mut simulator = Simulator::new(simulator::Config { users, nodes: 3, seed, ..site });
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let sockets: Vec<_> = simulator.nodes().iter().map(|_| socket()).collect();
        let mut sent = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(emission) = simulator.next() else { break };
            let due = begun.1 + emission.at.since(begun.0);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // Nobody may be there: that is what the tests are about.
            for to in to {
                let _ = sockets[emission.node].send_to(&emission.bytes, to);
            }
            sent += 1;
        }
        let mut truth = simulator.truth().clone();
        // What was made and not sent.
        truth.events.truncate(sent);
        truth
    }
}

/// How many rounds, unless `SENSE_OTEL_ROUNDS` says so.
fn rounds(usual: u32) -> u32 {
    std::env::var("SENSE_OTEL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Waits until every event is delivered or told as missing.
fn until_delivered(collector: &Collector, truth: &Truth) -> Result<(), Failure> {
    until("all of it to be delivered", PATIENCE, || {
        let delivered = Delivered::read(collector);
        Ok((delivered.records() + delivered.missing() >= truth.events.len() as u64).then_some(()))
    })
}

fn assert_faultless(delivered: &Delivered, truth: &Truth) {
    let faults = delivered.faults(truth);
    assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
}
