//! What it costs that the state outlives the process: giving out what has changed, a checkpoint, and coming back.
//!
//! Each of 100,000 open sessions has two open connections. The promise is that they are back within a second.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sense_otel::event::Datagram;
use sense_otel::processor::ids::Key;
use sense_otel::processor::record::{Ledger, RecordPosition, Room};
use sense_otel::processor::{Config, Input, Processor};
use sense_otel::time::{Now, RunningTime};

use support::{EIGHT, Nowhere};

mod support;

const SESSIONS: u32 = 100_000;

/// Events between two calls of `changes`.
const BATCH: u32 = 1024;

/// Counts records and forgets them.
#[derive(Default)]
struct Counted {
    records: usize,
    bytes: usize,
}

impl Ledger for Counted {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.bytes += black_box(key).len() + black_box(value).len();
    }

    fn delete(&mut self, key: &[u8]) {
        black_box(key);
    }
}

/// Key and value.
type Record = (Box<[u8]>, Box<[u8]>);

/// Keeps every record, as what is read from a store.
#[derive(Default)]
struct Kept(Vec<Record>);

impl Ledger for Kept {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.into(), value.into()));
    }

    fn delete(&mut self, _: &[u8]) {}
}

fn key() -> Key {
    Key::new(b"a key for benches only")
}

fn open(sequence: u32, session: u32) -> String {
    let (user, app, agent) = (session % 20_000, sequence % 200, session % 8);
    let second = sequence / 1000;
    let time = format!("2026-11-23T08:{:02}:{:02}.{:03}Z", second / 60 % 60, second % 60, sequence % 1000);
    let app_id = format!("a99a0000-0000-4000-8000-{app:012x}");
    format!(
        "/sense-otel/1/\t{sequence}\t{time}\tpro2-win1\tc0de0000-0000-4000-8000-{session:012x}\tOpen connection\t0\tLAB\t\
         user{user}\tAppAccess\t{app_id}\tSales and more {app}\t/sales/app/{app_id}?reloaduri=https%3a%2f%2fsense.example\t\
         Proxy connection Opened for session 'c0de' from 10.0.0.{agent} UserAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; \
         x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/12{agent}.0.0.0 Safari/537.36'"
    )
}

fn feed(processor: &mut Processor, sequences: impl Iterator<Item = (u32, u32)>) {
    let now = Now { wall: EIGHT + Duration::from_secs(3600), running: RunningTime::from_nanos(1_000_000_000) };
    let source = SocketAddr::from(([10, 0, 0, 1], 50_000));
    for (sequence, session) in sequences {
        let bytes = open(sequence, session);
        let datagram = Datagram { received: now.wall, source, bytes: bytes.as_bytes() };
        processor.handle(now, Input::Datagram(datagram), &mut Nowhere);
    }
}

fn restore(criterion: &mut Criterion) {
    let mut processor = Processor::new(Config::default(), &key());
    feed(&mut processor, (0..2 * SESSIONS).map(|number| (number + 1, number % SESSIONS)));
    assert_eq!(processor.open_sessions(), SESSIONS as usize);

    let mut group = criterion.benchmark_group("restore");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SESSIONS.into()));
    let mut kept = Kept::default();
    processor.changes(&mut kept);
    let bytes: usize = kept.0.iter().map(|(key, value)| key.len() + value.len()).sum();
    let sessions: Vec<usize> = kept
        .0
        .iter()
        .filter(|(key, _)| key.len() == 9 && key[0] == 8)
        .map(|(key, value)| key.len() + value.len())
        .collect();
    let mean = sessions.iter().sum::<usize>() / sessions.len();
    eprintln!("{} records, {bytes} bytes; {mean} bytes for a session with two connections", kept.0.len());
    group.bench_function("100,000 sessions come back", |bencher| {
        bencher.iter_batched(
            || kept.0.clone(),
            |records| {
                let (restored, counts) = Processor::restore(Config::default(), &key(), records);
                assert_eq!(counts.sessions, SESSIONS as usize);
                restored
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a checkpoint of 100,000 sessions", |bencher| {
        bencher.iter(|| {
            let mut counted = Counted::default();
            let mut place = Some(RecordPosition::START);
            while let Some(from) = place {
                place = processor.records(from, Room { records: 1000, bytes: 1024 * 1024 }, &mut counted);
            }
            counted.records
        });
    });
    group.throughput(Throughput::Elements(BATCH.into()));
    let mut next = 2 * SESSIONS;
    group.bench_function("what 1,024 events have changed", |bencher| {
        // Giving out follows taking in, and only the first is measured.
        bencher.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                feed(&mut processor, (next..next + BATCH).map(|number| (number + 1, number % SESSIONS)));
                next += BATCH;
                let mut counted = Counted::default();
                let began = Instant::now();
                processor.changes(&mut counted);
                took += began.elapsed();
                black_box(counted.bytes);
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, restore);
criterion_main!(benches);
