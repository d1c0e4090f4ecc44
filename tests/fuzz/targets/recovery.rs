//! Any damage to the files of a store: it opens, or says why not; what is handed out is as it was put in and in its
//! order, and can be acknowledged; and what it left behind opens again.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sense_otel::processor::ids::Key;
use sense_otel::processor::{self, Processor};
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::{Commit, Config, Limit, Opened, Position, Records, Store, Unobserved};

use disk::Disk;

#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../store/disk.rs"]
mod disk;

/// Requests of each signal.
const REQUESTS: u8 = 8;

/// What happened to the files of a store.
#[derive(Arbitrary, Debug)]
struct Damage {
    /// Which file, how far into it, and what it has there instead.
    changes: Vec<(u8, u16, Vec<u8>)>,
    /// Which file ends early, and where.
    cut: Option<(u8, u16)>,
    /// A file of its own.
    stranger: Option<(u8, Vec<u8>)>,
}

fn config() -> Config {
    Config { directory: "unused".into(), max_size: 1 << 20, max_age: Duration::from_secs(3600) }
}

fn body(signal: Signal, number: u8) -> Vec<u8> {
    vec![if signal == Signal::Logs { number } else { REQUESTS + number }; 40]
}

/// The files of a store that has been used.
fn files() -> Vec<(String, Vec<u8>)> {
    let disk = Disk::default();
    let Opened { store, mut writer, .. } =
        Store::open(&config(), Arc::new(disk.clone()), Arc::new(Unobserved)).expect("an empty disk");
    for number in 0..REQUESTS {
        let mut records = Records::new();
        records.upsert(&[b's', number % 3], &[1, number]);
        let request = |signal| ExportRequest { signal, items: 1, body: body(signal, number).into() };
        let requests = vec![request(Signal::Logs), request(Signal::Traces)];
        store.append(Commit { requests, records, ..Commit::default() }).expect("room");
        writer.turn();
    }
    disk.killed().files().into_iter().collect()
}

fuzz_target!(|damage: Damage| {
    let mut files = files();
    let count = files.len();
    for (file, offset, bytes) in &damage.changes {
        let (_, content) = &mut files[usize::from(*file) % count];
        for (byte, new) in content.iter_mut().skip(usize::from(*offset)).zip(bytes) {
            *byte = *new;
        }
    }
    if let Some((file, length)) = damage.cut {
        files[usize::from(file) % count].1.truncate(length.into());
    }
    if let Some((number, bytes)) = damage.stranger {
        let name = files[0].0.replace('1', &(number % 10).to_string());
        files.push((name, bytes));
    }
    let disk = Disk::with(files);
    let Ok(Opened { store, mut writer, recovered }) =
        Store::open(&config(), Arc::new(disk.clone()), Arc::new(Unobserved))
    else {
        return;
    };
    // Records may be anything: the core takes those it can read.
    let (processor, _) =
        Processor::restore(processor::Config::default(), &Key::new(b"a key for fuzzing"), recovered.records);
    assert!(processor.open_sessions() <= 3);
    let limit = Limit { bytes: 1 << 20, items: 1 << 20 };
    for signal in [Signal::Logs, Signal::Traces] {
        let mut position = Position::START;
        let mut left = 0..REQUESTS;
        while let Some(batch) = store.next(signal, position, limit) {
            position = batch.last;
            for request in batch.requests {
                assert!(left.any(|number| request.body == body(signal, number)), "{:?}", request.body);
            }
            store.acknowledge(signal, position);
        }
        assert_eq!(store.pending(signal).items, 0);
    }
    store.append(Commit::default()).expect("room");
    store.close();
    while writer.turn() {}
    drop(store);
    Store::open(&config(), Arc::new(disk.killed()), Arc::new(Unobserved)).expect("what it left itself");
});
