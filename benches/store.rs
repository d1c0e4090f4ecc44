//! The store on disk: what a commit costs with its write and sync, and how long a start takes.
//!
//! `commit` appends frames of 256 and 4,096 events (400 bytes of requests and 60 of records each) and makes them
//! durable; its time is mostly the disk's, its CPU is what `durable mode` adds to a store in memory, which is measured
//! beside it. `recovery` opens a store with 100,000 records. `docs/performance.md` keeps what `cargo bench --bench
//! store` printed.

#![expect(clippy::expect_used, reason = "a measurement that cannot set its scene has to fail")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::storage::FileSystem;
use sense_otel::store::{Budget, Commit, Config, Limit, Mark, Opened, Position, Records, Store, Unobserved};
use sense_otel::time::Now;

const EVENT: usize = 400;

fn open(folder: &Path) -> Opened {
    let config = Config { directory: folder.to_owned(), max_size: 4 << 30, max_age: Duration::from_secs(72 * 3600) };
    Store::open(&config, Arc::new(FileSystem::new(folder)), Arc::new(Unobserved)).expect("a store that can be opened")
}

/// What a batch of `events` leaves.
fn commit(events: usize) -> Commit {
    let request = |signal, share: usize| {
        let body = Bytes::from(vec![b'x'; events * EVENT * share / 4]);
        ExportRequest { signal, items: u32::try_from(events).expect("a few"), body }
    };
    let mut records = Records::new();
    for event in 0..events as u64 {
        records.upsert(&event.to_le_bytes(), &[b'r'; 52]);
    }
    Commit { requests: vec![request(Signal::Logs, 3), request(Signal::Traces, 1)], records, ..Commit::default() }
}

/// Takes everything out again.
fn deliver(store: &Store) {
    for signal in [Signal::Logs, Signal::Traces] {
        let limit = Limit { bytes: usize::MAX, items: u64::MAX };
        if let Some(batch) = store.next(signal, Position::START, limit) {
            store.acknowledge(signal, batch.last);
            black_box(batch);
        }
    }
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for events in [256, 4096] {
        group.throughput(Throughput::Elements(events as u64));
        let whole = commit(events);

        let folder = tempfile::tempdir().expect("a folder");
        let Opened { store, mut writer, .. } = open(folder.path());
        let mut state = Records::new();
        (0..events as u64).for_each(|event| state.upsert(&event.to_le_bytes(), &[b'r'; 52]));
        group.bench_function(format!("durable/{events}"), |bencher| {
            bencher.iter_batched(
                || whole.clone(),
                |commit| {
                    store.append(commit).expect("room");
                    if store.checkpoint_due() {
                        for (mark, records) in [(Mark::Begin, Records::new()), (Mark::End, state.clone())] {
                            let checkpoint = Commit { records, mark: Some(mark), ..Commit::default() };
                            store.append(checkpoint).expect("room");
                        }
                    }
                    assert!(writer.turn());
                    deliver(&store);
                },
                BatchSize::SmallInput,
            );
        });

        let budget = Budget { bytes: u64::MAX, age: Duration::MAX };
        let store = Store::in_memory(budget, Arc::new(Unobserved));
        group.bench_function(format!("in memory/{events}"), |bencher| {
            bencher.iter_batched(
                || whole.clone(),
                |commit| {
                    store.append(commit).expect("room");
                    deliver(&store);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { store, mut writer, .. } = open(folder.path());
    let sessions = (0..100_000_u64).collect::<Vec<_>>();
    for portion in sessions.chunks(1_000) {
        let mut records = Records::new();
        portion.iter().for_each(|session| records.upsert(&session.to_le_bytes(), &[b's'; 250]));
        let requests = vec![ExportRequest { signal: Signal::Logs, items: 1, body: Bytes::from(vec![b'x'; 100_000]) }];
        store.append(Commit { requests, records, now: Now::default(), mark: None }).expect("room");
        assert!(writer.turn());
    }
    drop((store, writer));
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(sessions.len() as u64));
    group.sample_size(10);
    group.bench_function("100,000 records", |bencher| {
        bencher.iter(|| {
            let opened = open(folder.path());
            assert_eq!(opened.recovered.records.len(), sessions.len());
        });
    });
    group.finish();
}

criterion_group!(benches, commits, recovery);
criterion_main!(benches);
