//! The store on disk, seen from outside: what comes back after which end, and what becomes of it when the disk fails.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::storage::Storage;
use sense_otel::store::{
    Commit, Config, Happening, Limit, Mark, Observer, Opened, Pending, Position, Records, Recovered, Store, Writer,
};
use sense_otel::time::{Now, RunningTime, Timestamp};

use disk::Disk;

mod budget;
mod crash;
mod damage;
mod disk;
mod failure;
mod golden;
mod model;
mod quarantine;
mod two_processes;

const ALL: Limit = Limit { bytes: usize::MAX, items: u64::MAX };

fn config(max_size: u64) -> Config {
    Config { directory: "unused".into(), max_size, max_age: Duration::from_secs(3600) }
}

/// What the store has told.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Happening>>);

impl Observer for Heard {
    fn observe(&self, happening: Happening) {
        self.0.lock().expect("no panic before").push(happening);
    }
}

impl Heard {
    fn take(&self) -> Vec<Happening> {
        std::mem::take(&mut self.0.lock().expect("no panic before"))
    }
}

/// A store without a thread: every step is done when it returns.
#[derive(Debug)]
struct Rig {
    store: Store,
    writer: Writer,
    recovered: Recovered,
    heard: Arc<Heard>,
    now: Now,
}

impl Rig {
    fn open(disk: &Disk, max_size: u64) -> Self {
        Self::open_in(Arc::new(disk.clone()), max_size)
    }

    fn open_in(storage: Arc<dyn Storage>, max_size: u64) -> Self {
        let heard = Arc::new(Heard::default());
        let observer = Arc::clone(&heard) as Arc<dyn Observer>;
        let opened = Store::open(&config(max_size), storage, observer).expect("a store that can be opened");
        let Opened { store, writer, recovered } = opened;
        let now = Now { running: recovered.running, wall: recovered.wall };
        Self { store, writer, recovered, heard, now }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { running: self.now.running + time, wall: self.now.wall + time };
    }

    fn commit(&mut self, requests: Vec<ExportRequest>, records: Records, mark: Option<Mark>) {
        self.pass(Duration::from_millis(20));
        self.store.append(Commit { requests, records, mark, now: self.now }).expect("room for a commit");
        assert!(self.writer.turn());
    }

    fn append(&mut self, requests: Vec<ExportRequest>) {
        self.commit(requests, Records::new(), None);
    }

    /// Lets `seconds` pass.
    fn tick(&mut self, seconds: u64) {
        self.tick_with(seconds, false);
    }

    /// The same where something is open whose deadlines are in running time, or not.
    fn tick_with(&mut self, seconds: u64, has_deadlines: bool) {
        self.pass(Duration::from_secs(seconds));
        self.store.tick(self.now, has_deadlines);
        self.writer.turn();
    }

    /// Writes `state` as a checkpoint, in portions of two records.
    fn checkpoint(&mut self, state: &BTreeMap<Vec<u8>, Vec<u8>>) {
        self.commit(Vec::new(), Records::new(), Some(Mark::Begin));
        let records = state.iter().collect::<Vec<_>>();
        for portion in records.chunks(2) {
            let mut changes = Records::new();
            portion.iter().for_each(|(key, value)| changes.upsert(key, value));
            self.commit(Vec::new(), changes, Some(Mark::Part));
        }
        self.commit(Vec::new(), Records::new(), Some(Mark::End));
    }

    /// Ends as a process does that is told to.
    fn close(self) {
        self.store.close();
        self.writer.run();
    }

    /// The bodies that follow `after`, in small batches, and the last position.
    fn bodies(&self, signal: Signal, mut after: Position) -> (Vec<Bytes>, Position) {
        let mut bodies = Vec::new();
        while let Some(batch) = self.store.next(signal, after, Limit { bytes: 300, items: 1000 }) {
            bodies.extend(batch.requests.into_iter().map(|request| request.body));
            after = batch.last;
        }
        (bodies, after)
    }

    fn texts(&self, signal: Signal) -> Vec<String> {
        let (bodies, _) = self.bodies(signal, Position::START);
        bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }

    fn records(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.recovered.records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }
}

fn log(text: &str) -> ExportRequest {
    ExportRequest { signal: Signal::Logs, items: 2, body: Bytes::copy_from_slice(text.as_bytes()) }
}

fn span(text: &str) -> ExportRequest {
    ExportRequest { signal: Signal::Traces, items: 1, body: Bytes::copy_from_slice(text.as_bytes()) }
}

fn upsert(key: &str, value: &str) -> Records {
    let mut records = Records::new();
    records.upsert(key.as_bytes(), value.as_bytes());
    records
}

#[test]
fn what_was_committed_comes_back_exactly() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    assert_eq!(rig.recovered, Recovered::default());
    rig.now.wall = Timestamp::from_nanos(1_795_420_800_000_000_000);
    rig.commit(vec![log("one"), span("first")], upsert("a", "1"), None);
    rig.commit(vec![log("two"), log("three")], upsert("b", "2"), None);
    let mut records = upsert("a", "3");
    records.delete(b"b");
    rig.commit(vec![span("second")], records, None);

    let batch = rig.store.next(Signal::Logs, Position::START, Limit { bytes: 6, items: 100 }).expect("stored");
    assert_eq!(batch.requests.len(), 2);
    rig.store.acknowledge(Signal::Logs, batch.last);
    let now = rig.now;
    rig.close();

    let again = Rig::open(&disk, 1 << 20);
    assert_eq!(again.records(), BTreeMap::from([(b"a".to_vec(), b"3".to_vec())]));
    assert_eq!((again.recovered.running, again.recovered.wall), (now.running, now.wall));
    assert_eq!(again.recovered.restored.logs, Pending { requests: 1, items: 2, bytes: 5 });
    assert_eq!(again.recovered.restored.traces, Pending { requests: 2, items: 2, bytes: 11 });
    assert_eq!(again.recovered.damage, Default::default());
    assert_eq!(again.store.pending(Signal::Logs), again.recovered.restored.logs);
    assert_eq!(again.texts(Signal::Logs), ["three"]);
    assert_eq!(again.texts(Signal::Traces), ["first", "second"]);
    let next = again.store.next(Signal::Logs, Position::START, ALL).expect("still in hand");
    assert!(next.last > batch.last);
}

#[test]
fn a_checkpoint_is_enough_when_all_before_it_is_gone() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    rig.commit(Vec::new(), upsert("a", "1"), None);
    let state = BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]);
    rig.checkpoint(&state);
    rig.close();
    assert_eq!(disk.files().keys().collect::<Vec<_>>(), ["log/00000000000000000002.segment"]);
    let again = Rig::open(&disk, 1 << 20);
    assert_eq!((again.records(), again.store.checkpoint_due()), (state, false));
}

#[test]
fn nothing_is_handed_out_before_it_is_durable() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    rig.store.append(Commit { requests: vec![log("one")], ..Commit::default() }).expect("room");
    assert_eq!(rig.store.next(Signal::Logs, Position::START, ALL), None);
    assert!(rig.writer.turn());
    assert_eq!(rig.texts(Signal::Logs), ["one"]);
}

#[test]
fn what_is_queued_goes_in_one_write_and_one_sync() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    let before = disk.done().len();
    for text in ["one", "two", "three"] {
        rig.store.append(Commit { requests: vec![log(text)], ..Commit::default() }).expect("room");
    }
    rig.writer.turn();
    assert_eq!(disk.done()[before..], ["write frames in log", "sync in log"]);
}

#[test]
fn an_idle_store_writes_nothing_and_cursors_go_once_a_second_without_a_sync() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    rig.append(vec![log("one"), log("two")]);
    let before = disk.done().len();
    let batch = rig.store.next(Signal::Logs, Position::START, Limit { bytes: 3, items: 100 }).expect("stored");
    rig.store.acknowledge(Signal::Logs, batch.last);
    rig.tick(0);
    rig.tick(1);
    rig.tick(1);
    assert_eq!(disk.done()[before..], ["write frames in log"]);
    assert_eq!(Rig::open(&disk.killed(), 1 << 20).texts(Signal::Logs), ["two"]);

    let rest = rig.store.next(Signal::Logs, batch.last, Limit { bytes: 3, items: 100 }).expect("the other one");
    rig.store.acknowledge(Signal::Logs, rest.last);
    rig.tick(1);
    let before = disk.done().len();
    (0..100).for_each(|_| rig.tick(60));
    assert_eq!(disk.done().len(), before);
}

/// Otherwise a kill would give sessions the hours back in which nothing happened, and they would outlive their time.
#[test]
fn running_time_is_written_once_a_minute_while_something_is_open() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    rig.commit(vec![log("one")], upsert("session", "open"), None);
    let before = disk.done().len();
    (0..3600).for_each(|_| rig.tick_with(1, true));
    let written = disk.done().split_off(before);
    assert_eq!(written, vec!["write frames in log"; 60], "without a sync, and once a minute");
    let now = rig.now.running;
    let disk = disk.killed();
    let mut rig = Rig::open(&disk, 1 << 20);
    assert!(now.since(rig.recovered.running) < Duration::from_secs(60));
    // What is open from before counts as well.
    (0..61).for_each(|_| rig.tick_with(1, true));
    let disk = disk.killed();
    let mut rig = Rig::open(&disk, 1 << 20);
    assert!(rig.recovered.running.since(now) >= Duration::from_secs(1));
    // When all of it has ended and is delivered nothing is written any more, though what has ended is still on record.
    let batch = rig.store.next(Signal::Logs, Position::START, Limit { bytes: 3, items: 100 }).expect("stored");
    rig.store.acknowledge(Signal::Logs, batch.last);
    rig.tick(1);
    let before = disk.done().len();
    (0..3600).for_each(|_| rig.tick(1));
    assert_eq!(disk.done().len(), before);
}

#[test]
fn more_than_fits_between_core_and_writer_is_given_back() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 30);
    let large = || {
        let body = Bytes::from(vec![b'x'; 30 << 20]);
        vec![ExportRequest { signal: Signal::Logs, items: 1, body }]
    };
    for _ in 0..2 {
        rig.store.append(Commit { requests: large(), ..Commit::default() }).expect("room for two");
    }
    assert!(!rig.store.has_room());
    let refused = rig.store.append(Commit { requests: large(), ..Commit::default() });
    let Err(sense_otel::store::AppendError::Full(commit)) = refused else { panic!("{refused:?}") };
    assert_eq!(commit.requests, large());
    rig.writer.turn();
    assert!(rig.store.has_room());
    rig.store.append(*commit).expect("room again");
    rig.store.close();
    rig.writer.run();
    let closed = rig.store.append(Commit::default());
    assert!(matches!(closed, Err(sense_otel::store::AppendError::Closed(_))), "{closed:?}");
}

#[test]
fn what_comes_behind_the_end_is_refused_though_the_writer_is_still_at_work() {
    let disk = Disk::default();
    let rig = Rig::open(&disk, 1 << 20);
    let commit = |text| Commit { requests: vec![log(text)], ..Commit::default() };
    rig.store.append(commit("before")).expect("room");
    rig.store.close();
    let refused = rig.store.append(commit("behind"));
    assert!(matches!(&refused, Err(sense_otel::store::AppendError::Closed(given)) if **given == commit("behind")));
    rig.writer.run();
    assert_eq!(Rig::open(&disk.killed(), 1 << 20).texts(Signal::Logs), ["before"]);
}

#[test]
fn a_thread_that_runs_the_writer_can_be_waited_for() {
    let disk = Disk::default();
    let Rig { store, writer, .. } = Rig::open(&disk, 1 << 20);
    let thread = std::thread::spawn(|| writer.run());
    for number in 0..100 {
        let requests = vec![log(&format!("{number}"))];
        store.append(Commit { requests, ..Commit::default() }).expect("room");
    }
    assert!(store.flush(Duration::from_secs(10)));
    assert_eq!(store.pending(Signal::Logs).requests, 100);
    drop(store);
    thread.join().expect("ends when nobody has the store any more");
    assert_eq!(Rig::open(&disk, 1 << 20).texts(Signal::Logs).len(), 100);
}

#[test]
fn running_time_goes_on_where_it_was() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    rig.append(vec![log("one")]);
    rig.tick(3600);
    rig.close();
    let again = Rig::open(&disk, 1 << 20);
    assert!(again.recovered.running >= RunningTime::START + Duration::from_secs(3600));
}
