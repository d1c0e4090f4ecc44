//! The end of the process at every point at which something is written, synced, made, renamed or removed: before it, in
//! the middle and after it, by a kill and by a loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sense_otel::signal::Signal;
use sense_otel::store::{About, Limit, Mark, Poison, Position, Records};
use sense_otel::time::Timestamp;

use super::disk::{Disk, Fault};
use super::{Rig, log, span, upsert};

/// Segments of 1 KiB.
const MAX_SIZE: u64 = 64 * 1024;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was promised when the disk died.
#[derive(Debug, Default)]
struct Promises {
    /// Durable, of the logs and of the traces.
    durable: [Vec<String>; 2],
    /// On its way.
    under_way: [Vec<String>; 2],
    acknowledged: usize,
    acknowledging: usize,
    /// The records, and what they become if what is under way was written.
    records: State,
    records_next: State,
    quarantined: usize,
}

impl Promises {
    fn commit(&mut self, rig: &mut Rig, disk: &Disk, number: usize, mark: Option<Mark>, mut records: Records) {
        let (text, other) = (format!("log {number:03} {}", "x".repeat(90)), format!("span {number:03}"));
        if mark.is_none() {
            let key = format!("key {}", number % 7);
            if number % 5 == 4 {
                records.delete(key.as_bytes());
                self.records_next.remove(key.as_bytes());
            } else {
                records = upsert(&key, &number.to_string());
                self.records_next.insert(key.into_bytes(), number.to_string().into_bytes());
            }
        }
        self.under_way = [vec![text.clone()], vec![other.clone()]];
        rig.commit(vec![log(&text), span(&other)], records, mark);
        if !disk.is_dead() {
            self.durable[0].push(text);
            self.durable[1].push(other);
            self.under_way = Default::default();
            self.records = self.records_next.clone();
        }
    }
}

/// One life of a process, until it is over or the disk dies.
fn live(disk: &Disk) -> Promises {
    let mut promises = Promises::default();
    let heard = std::sync::Arc::new(super::Heard::default());
    let storage = std::sync::Arc::new(disk.clone());
    let Ok(opened) = sense_otel::store::Store::open(&super::config(MAX_SIZE), storage, heard.clone()) else {
        assert!(disk.is_dead());
        return promises;
    };
    let sense_otel::store::Opened { store, writer, recovered } = opened;
    let mut rig = Rig { store, writer, recovered, heard, now: Default::default() };
    let mut taken = Position::START;
    for number in 0..60 {
        let mark = match number {
            30 => Some(Mark::Begin),
            31 | 32 => Some(Mark::Part),
            33 => Some(Mark::End),
            _ => None,
        };
        let mut portion = Records::new();
        if mark == Some(Mark::Part) {
            promises.records.iter().for_each(|(key, value)| portion.upsert(key, value));
        }
        promises.commit(&mut rig, disk, number, mark, portion);
        if disk.is_dead() {
            return promises;
        }
        if number % 4 == 3
            && let Some(batch) = rig.store.next(Signal::Logs, taken, Limit { bytes: 300, items: 100 })
        {
            taken = batch.last;
            promises.acknowledging += batch.requests.len();
            rig.store.acknowledge(Signal::Logs, taken);
            let spans = rig.store.next(Signal::Traces, Position::START, Limit { bytes: 1, items: 1 });
            assert!(spans.is_some());
        }
        if number == 40 {
            let body = bytes::Bytes::from_static(b"poison");
            let reason = "because".to_owned();
            let about = About { signal: Signal::Logs, items: 1, code: 3, reason, wall: Timestamp::EPOCH };
            let kept = rig.store.quarantine().put(&Poison { about, body });
            promises.quarantined = usize::from(kept.is_ok() && !disk.is_dead());
        }
        if number == 50 {
            // All spans go at once, so that segments are let go.
            while let Some(batch) = rig.store.next(Signal::Traces, Position::START, super::ALL) {
                rig.store.acknowledge(Signal::Traces, batch.last);
                promises.durable[1].clear();
            }
            rig.tick(2);
        }
        promises.acknowledged = promises.acknowledging;
        if disk.is_dead() {
            return promises;
        }
    }
    rig.pass(Duration::from_secs(1));
    rig.close();
    promises
}

fn check(left: &Disk, promises: &Promises, what: &str) {
    let rig = Rig::open(left, MAX_SIZE);
    assert_eq!(rig.recovered.damage.lost_frames, 0, "{what}: {:?}", rig.recovered.damage);
    assert_eq!(rig.recovered.damage.moved, Vec::<String>::new(), "{what}");
    let records = rig.records();
    assert!(records == promises.records || records == promises.records_next, "{what}: {records:?}");
    for (index, signal) in [Signal::Logs, Signal::Traces].into_iter().enumerate() {
        let found = rig.texts(signal);
        let mut all = promises.durable[index].clone();
        all.extend(promises.under_way[index].clone());
        // What comes back is one piece: it may begin early by what was acknowledged last, and end with what was under
        // way.
        let at = found.first().map_or(promises.durable[index].len(), |first| {
            all.iter().position(|text| text == first).unwrap_or_default()
        });
        if !all.is_empty() && !promises.durable[index].is_empty() {
            assert_eq!(found[..], all[at..at + found.len()], "{what}: {signal}");
            assert!(at + found.len() >= promises.durable[index].len(), "{what}: {signal} lost at the end");
        }
        if index == 0 {
            assert!(at <= promises.acknowledging, "{what}: {signal} lost at the beginning");
        }
    }
    let kept = rig.store.quarantine().list().expect("readable");
    assert!(kept.len() >= promises.quarantined, "{what}: the quarantine has lost something");
    assert!(kept.iter().all(|kept| kept.about.is_some()), "{what}: {kept:?}");
}

#[test]
fn nothing_that_was_promised_is_lost_wherever_it_ends() {
    end_everywhere(Disk::default);
}

#[test]
fn nor_where_each_piece_of_a_frame_is_written_by_itself() {
    end_everywhere(Disk::piece_by_piece);
}

fn end_everywhere(new: fn() -> Disk) {
    let whole = new();
    let promises = live(&whole);
    check(&whole.killed(), &promises, "the end");
    let points = whole.done();
    let reached = points.iter().map(String::as_str).collect::<BTreeSet<_>>();
    let expected = [
        "create in log",
        "create in quarantine",
        "remove from log",
        "rename into quarantine",
        "sync folder log",
        "sync folder quarantine",
        "sync in log",
        "sync in quarantine",
        "write frames in log",
        "write header in log",
        "write header in quarantine",
    ];
    assert_eq!(reached, BTreeSet::from(expected), "the named points");

    let mut random = fastrand::Rng::with_seed(11);
    for (at, name) in points.iter().enumerate() {
        for fault in [Fault::CrashBefore, Fault::CrashWithin, Fault::CrashAfter] {
            let disk = new();
            disk.fault_in(at, fault);
            let promises = live(&disk);
            assert!(disk.is_dead(), "{name} is not reached");
            check(&disk.killed(), &promises, &format!("killed, {fault:?} {name} ({at})"));
            let left = disk.without_power(|| random.bool());
            check(&left, &promises, &format!("without power, {fault:?} {name} ({at})"));
        }
    }
}

#[test]
fn an_end_during_recovery_does_no_harm() {
    let disk = Disk::default();
    let mut promises = live(&disk);
    promises.under_way = Default::default();
    // A torn tail, so that there is something to cut.
    let mut files = disk.killed().files();
    let last = files.keys().rfind(|name| name.starts_with("log/")).expect("a segment").clone();
    files.get_mut(&last).expect("a segment").extend_from_slice(b"half a frame");
    let start = Disk::with(files.clone());
    drop(Rig::open(&start, MAX_SIZE));
    for at in 0..start.done().len() {
        for fault in [Fault::CrashBefore, Fault::CrashWithin, Fault::CrashAfter] {
            let disk = Disk::with(files.clone());
            disk.fault_in(at, fault);
            let storage = std::sync::Arc::new(disk.clone());
            drop(sense_otel::store::Store::open(
                &super::config(MAX_SIZE),
                storage,
                std::sync::Arc::new(sense_otel::store::Unobserved),
            ));
            check(&disk.killed(), &promises, &format!("{fault:?} {at} of recovery"));
        }
    }
}
