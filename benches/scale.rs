//! How cost and memory grow with what is open: a site of twenty sessions and one of a million, in one run.
//!
//! Three tables. The cost of an event with so many sessions open, also as a ratio to twenty of them, the fastest of several
//! rounds; the memory that an open session takes (Linux); and how long one look at the deadlines keeps datagrams
//! waiting, where so many sessions expire at one moment. `docs/performance.md` keeps what `cargo bench --bench scale`
//! printed. With `--quick` the numbers are small and mean nothing: whether it works.
#![allow(clippy::print_stdout, reason = "what it is for")]
#![allow(clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::env;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use sense_otel::otlp::{Encoder, Limits};
use sense_otel::processor::ids::Key;
use sense_otel::processor::session;
use sense_otel::processor::{Config, Processor};
use sense_otel::time::Now;

use support::{Encoding, FRAME_DATAGRAMS, Nowhere, SESSIONS, datagram, feed, now, round};

mod support;

/// Open sessions of the table. Each number can be divided by four, so that a round continues the sequence.
const OPEN: [u32; 6] = [20, 1_000, 10_000, 100_000, 300_000, 1_000_000];

/// Sessions that expire at one moment.
const EXPIRING: [u32; 3] = [10_000, 100_000, 1_000_000];

/// Rounds of 4,096 events, of which the fastest counts: it is the one that other work on the machine disturbed least.
const ROUNDS: u32 = 15;

/// Session numbers of rounds are below it, and of what stays open above.
const FIRST_OPEN: u32 = 100_000_000;

fn main() {
    let is_quick = env::args().any(|argument| argument == "--quick" || argument == "--test");
    let of = |number: u32| if is_quick { (number / 1000).max(20) } else { number };
    println!("open sessions    us/event     x 20    bytes/session");
    let mut twenty = None;
    for open in OPEN.map(of) {
        let before = resident();
        let mut processor = with_open(open);
        let bytes = resident().zip(before).map(|(after, before)| after.saturating_sub(before) / u64::from(open));
        let fastest =
            (0..ROUNDS).map(|number| one_round(&mut processor, open / 4 + number * SESSIONS)).min().unwrap_or_default();
        let cost = fastest.as_secs_f64() * 1e6 / f64::from(4 * SESSIONS);
        let ratio = cost / *twenty.get_or_insert(cost);
        // A few sessions take less than what the allocator fetches at once.
        let bytes = bytes.filter(|_| open >= 100_000).map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        println!("{open:>13} {cost:>11.2} {ratio:>8.2} {bytes:>16}");
        assert_eq!(processor.open_sessions(), open as usize, "rounds leave nothing behind");
    }
    println!();
    println!("expire at once    looks    longest ms    all ms    us/session");
    for expiring in EXPIRING.map(of) {
        let mut processor = with_open(expiring);
        let looks = expire(&mut processor);
        let (longest, all) = (looks.iter().max().copied().unwrap_or_default(), looks.iter().sum::<Duration>());
        let each = all.as_secs_f64() * 1e6 / f64::from(expiring);
        println!(
            "{expiring:>14} {:>8} {:>13.1} {:>9.0} {each:>13.2}",
            looks.len(),
            longest.as_secs_f64() * 1e3,
            all.as_secs_f64() * 1e3
        );
        assert_eq!(processor.open_sessions(), 0, "all have expired");
    }
}

/// A processor with so many sessions open; the limits allow them.
fn with_open(open: u32) -> Processor {
    let sessions = session::Config { open_sessions_max: 2_000_000, ..session::Config::default() };
    let mut processor = Processor::new(Config { sessions, ..Config::default() }, &Key::new(b"a key for benches only"));
    let mut sequence = 0;
    for number in FIRST_OPEN..FIRST_OPEN + open {
        sequence += 1;
        feed(&mut processor, &[datagram(sequence, "Start session", number).into_bytes()], &mut Nowhere);
    }
    processor
}

/// 1,024 sessions come, open and close an app, and go.
fn one_round(processor: &mut Processor, first: u32) -> Duration {
    let datagrams = round(first);
    let mut output = Encoding(Encoder::new("0", Limits::default()));
    let began = Instant::now();
    for frame in datagrams.chunks(FRAME_DATAGRAMS) {
        feed(processor, frame, &mut output);
        black_box(output.0.finish());
    }
    began.elapsed()
}

/// Lets everything expire, and tells how long each look at the deadlines took, encoding included.
fn expire(processor: &mut Processor) -> Vec<Duration> {
    let day = Duration::from_secs(24 * 3600);
    let later = Now { wall: now().wall + day, running: now().running + day };
    let mut output = Encoding(Encoder::new("0", Limits::default()));
    let mut looks = Vec::new();
    while processor.open_sessions() > 0 {
        let began = Instant::now();
        processor.advance(later, &mut output);
        black_box(output.0.finish());
        looks.push(began.elapsed());
    }
    looks
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
