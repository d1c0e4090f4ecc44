//! The core, stage by stage and as a whole: events a second on one core, also with many sessions open.
//!
//! `decode` reads datagrams; `processor` adds order, sessions and the mapping to signals; `core` adds the encoding, and
//! is everything that the core thread does for an event. What a stage costs is the difference to the one before.
//! `baseline` is the least that a decoder of such datagrams does: it checks that they are UTF-8 and finds their TABs. What
//! this machine does at this minute is in it, so that the ratio to it says more than a time does.
//! `docs/performance.md` keeps what `cargo bench --bench core` printed.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sense_otel::event;
use sense_otel::otlp::{Encoder, Limits};

use support::{Encoding, FRAME_DATAGRAMS, Nowhere, SESSIONS, feed, processor_with, round, stock};

mod support;

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(4 * SESSIONS)));
    let extended = round(0);
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let stock: Vec<Vec<u8>> = extended.iter().map(|bytes| stock(&text(bytes)).into_bytes()).collect();
    for (name, datagrams) in [("extended", extended), ("stock", stock)] {
        assert!(datagrams.iter().all(|datagram| event::decode(datagram).is_ok()), "{name} datagrams are no events");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for datagram in &datagrams {
                    let _ = black_box(event::decode(black_box(datagram)));
                }
            });
        });
    }
    group.finish();
}

fn baseline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("baseline");
    group.throughput(Throughput::Elements(u64::from(4 * SESSIONS)));
    let datagrams = round(0);
    group.bench_function("UTF-8 and TABs", |bencher| {
        bencher.iter(|| {
            for datagram in &datagrams {
                let text = std::str::from_utf8(black_box(datagram)).unwrap_or_default();
                black_box(memchr::memchr_iter(b'\t', text.as_bytes()).sum::<usize>());
            }
        });
    });
    group.finish();
}

fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("events");
    for open in [0, 100_000] {
        group.throughput(Throughput::Elements(u64::from(4 * SESSIONS)));
        group.sample_size(20);
        // The processor remembers what it has seen, so each round needs sessions and sequences of its own.
        let mut processor = processor_with(open);
        let mut first = open / 4;
        group.bench_function(format!("processor, {open} sessions open"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let datagrams = round(first);
                    first += SESSIONS;
                    datagrams
                },
                |datagrams| feed(&mut processor, datagrams, &mut Nowhere),
                BatchSize::PerIteration,
            );
        });
        let mut processor = processor_with(open);
        let mut first = open / 4;
        let mut output = Encoding(Encoder::new("0", Limits::default()));
        group.bench_function(format!("core, {open} sessions open"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let datagrams = round(first);
                    first += SESSIONS;
                    datagrams
                },
                |datagrams| {
                    for frame in datagrams.chunks(FRAME_DATAGRAMS) {
                        feed(&mut processor, frame, &mut output);
                        black_box(output.0.finish());
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, baseline, decoding, core);
criterion_main!(benches);
