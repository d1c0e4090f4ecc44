//! Anything may be done, and go wrong, in any order: what comes back is what a model says.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;

use proptest::prelude::*;
use sense_otel::signal::{ExportRequest, Signal};
use sense_otel::store::{Happening, Limit, Mark, Position, Records, Status};

use super::Rig;
use super::disk::{Disk, Fault};

/// Segments of 2 KiB, and a checkpoint every 32 KiB.
const MAX_SIZE: u64 = 128 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Append {
        logs: Vec<u16>,
        spans: Vec<u16>,
        changes: Vec<(u8, Option<u8>)>,
    },
    Deliver {
        logs: bool,
        bytes: usize,
    },
    Acknowledge {
        logs: bool,
    },
    Tick,
    Checkpoint,
    Restart,
    Kill,
    PowerLoss(u64),
    Fault {
        operations: usize,
        kind: ErrorKind,
    },
    Fill,
    ReadOnly,
    Heal,
    /// A disk that is full for so many commits, and taken into use again.
    Outage(usize),
}

fn steps(faults: bool) -> impl Strategy<Value = Vec<Step>> {
    let sizes = || prop::collection::vec(0..400_u16, 0..3);
    let changes = prop::collection::vec((0..20_u8, prop::option::weighted(0.8, any::<u8>())), 0..4);
    let kinds = prop_oneof![Just(ErrorKind::StorageFull), Just(ErrorKind::Other), Just(ErrorKind::ReadOnlyFilesystem)];
    let step = prop_oneof![
        12 => (sizes(), sizes(), changes).prop_map(|(logs, spans, changes)| Step::Append { logs, spans, changes }),
        6 => (any::<bool>(), 0..2000_usize).prop_map(|(logs, bytes)| Step::Deliver { logs, bytes }),
        4 => any::<bool>().prop_map(|logs| Step::Acknowledge { logs }),
        2 => Just(Step::Tick),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    let fault = prop_oneof![
        2 => (0..6_usize, kinds).prop_map(|(operations, kind)| Step::Fault { operations, kind }),
        1 => Just(Step::Fill),
        1 => Just(Step::ReadOnly),
        2 => Just(Step::Heal),
        2 => (1..4_usize).prop_map(Step::Outage),
    ];
    let fault = if faults { fault.boxed() } else { Just(Step::Heal).boxed() };
    prop::collection::vec(prop_oneof![5 => step, 1 => fault], 1..120)
}

/// What there has to be of one signal.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// Body, and whether it is known to be durable, the oldest first.
    requests: VecDeque<(Vec<u8>, bool)>,
    /// How many of them were handed out.
    handed: usize,
    position: Position,
    /// Batches in hand: how many requests, and their last position.
    in_hand: VecDeque<(usize, Position)>,
    /// Acknowledged, and perhaps not yet on disk: they may come back.
    acknowledged: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct World {
    disk: Disk,
    rig: Option<Rig>,
    logs: Queue,
    spans: Queue,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The records as they were when all was durable the last time, and what each key has become since.
    settled: BTreeMap<Vec<u8>, Vec<u8>>,
    since: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    number: u32,
    /// What is still to be written of a checkpoint.
    checkpoint: Option<VecDeque<Vec<u8>>>,
}

impl World {
    fn new() -> Self {
        let disk = Disk::default();
        let rig = Some(Rig::open(&disk, MAX_SIZE));
        Self {
            disk,
            rig,
            logs: Queue::default(),
            spans: Queue::default(),
            records: BTreeMap::new(),
            settled: BTreeMap::new(),
            since: Vec::new(),
            number: 0,
            checkpoint: None,
        }
    }

    fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().expect("open between the steps")
    }

    fn queue(&mut self, logs: bool) -> &mut Queue {
        if logs { &mut self.logs } else { &mut self.spans }
    }

    fn body(&mut self, size: u16) -> Vec<u8> {
        self.number += 1;
        let mut body = format!("{:06}", self.number).into_bytes();
        body.resize(6 + usize::from(size), b'.');
        body
    }

    fn append(&mut self, logs: &[u16], spans: &[u16], changes: &[(u8, Option<u8>)]) {
        let mut requests = Vec::new();
        for (signal, sizes) in [(Signal::Logs, logs), (Signal::Traces, spans)] {
            for &size in sizes {
                let body = self.body(size);
                self.queue(signal == Signal::Logs).requests.push_back((body.clone(), false));
                requests.push(ExportRequest { signal, items: 1, body: body.into() });
            }
        }
        let mut records = Records::new();
        for (key, value) in changes {
            let key = vec![*key];
            self.since.push((key.clone(), value.map(|value| vec![value])));
            match value {
                Some(value) => {
                    records.upsert(&key, &[*value]);
                    self.records.insert(key, vec![*value]);
                }
                None => {
                    records.delete(&key);
                    self.records.remove(&key);
                }
            }
        }
        self.rig().commit(requests, records, None);
        self.settle();
    }

    /// After each step: what is durable is, and the core does what it is asked for.
    fn settle(&mut self) {
        if self.checkpoint.is_none() && self.rig().store.checkpoint_due() {
            self.begin_checkpoint();
        } else if let Some(mut keys) = self.checkpoint.take() {
            let mut records = Records::new();
            for key in keys.drain(..keys.len().min(2)) {
                if let Some(value) = self.records.get(&key) {
                    records.upsert(&key, value);
                }
            }
            let mark = if keys.is_empty() { Mark::End } else { Mark::Part };
            self.rig().commit(Vec::new(), records, Some(mark));
            self.checkpoint = (!keys.is_empty()).then_some(keys);
        }
        if self.rig().store.status() == Status::Durable {
            for queue in [&mut self.logs, &mut self.spans] {
                queue.requests.iter_mut().for_each(|(_, durable)| *durable = true);
            }
            self.settled = self.records.clone();
            self.since.clear();
        }
        for happening in self.rig().heard.take() {
            if let Happening::Expired { .. } = happening {
                panic!("nothing has to go: {happening:?}");
            }
        }
    }

    fn begin_checkpoint(&mut self) {
        let keys = self.records.keys().cloned().collect();
        self.rig().commit(Vec::new(), Records::new(), Some(Mark::Begin));
        self.checkpoint = Some(keys);
    }

    fn deliver(&mut self, logs: bool, bytes: usize) {
        let signal = if logs { Signal::Logs } else { Signal::Traces };
        let after = self.queue(logs).position;
        let batch = self.rig().store.next(signal, after, Limit { bytes, items: 1000 });
        let queue = self.queue(logs);
        let Some(batch) = batch else {
            assert_eq!(queue.handed, queue.requests.len(), "{signal}: there is more");
            return;
        };
        assert!(batch.last > queue.position);
        for request in &batch.requests {
            assert_eq!(request.body, queue.requests[queue.handed].0, "{signal}");
            queue.handed += 1;
        }
        queue.position = batch.last;
        queue.in_hand.push_back((batch.requests.len(), batch.last));
    }

    fn acknowledge(&mut self, logs: bool) {
        let signal = if logs { Signal::Logs } else { Signal::Traces };
        let queue = self.queue(logs);
        let Some((count, last)) = queue.in_hand.pop_front() else { return };
        queue.handed -= count;
        let done = queue.requests.drain(..count).map(|(body, _)| body).collect::<Vec<_>>();
        queue.acknowledged.extend(done);
        self.rig().store.acknowledge(signal, last);
        let pending = self.rig().store.pending(signal).requests;
        assert_eq!(pending, self.queue(logs).requests.len() as u64);
    }

    fn crash(&mut self, left: Disk) {
        let durable = self.rig.take().is_some_and(|rig| rig.store.status() == Status::Durable);
        self.reopen(left, false, durable);
    }

    /// Opens what is left, and compares. `clean` says that the process ended as it was told to, `durable` that all was
    /// well until then.
    fn reopen(&mut self, left: Disk, clean: bool, durable: bool) {
        self.disk = left;
        let rig = Rig::open(&self.disk, MAX_SIZE);
        assert_eq!(rig.recovered.damage.lost_frames, 0, "{:?}", rig.recovered.damage);
        assert_eq!(rig.recovered.damage.moved, Vec::<String>::new());
        assert_eq!(rig.recovered.damage.headers, 0);
        if durable {
            assert_eq!(rig.records(), self.records);
        }
        self.compare_records(&rig.records());
        self.records = rig.records();
        self.settled = rig.records();
        self.since.clear();
        for (signal, queue) in [(Signal::Logs, &mut self.logs), (Signal::Traces, &mut self.spans)] {
            let (bodies, _) = rig.bodies(signal, Position::START);
            let mut bodies = bodies.into_iter().map(|body| body.to_vec()).collect::<VecDeque<_>>();
            assert_eq!(rig.store.pending(signal).requests, bodies.len() as u64);
            assert_eq!(*rig.recovered.restored.of(signal).expect("stored"), rig.store.pending(signal));
            // Sent again: the last of what was acknowledged, and never after a clean end.
            let again = bodies.iter().take_while(|body| queue.acknowledged.contains(body)).count();
            assert!(!clean || !durable || again == 0, "{signal}: {again} come back after a clean end");
            let tail = queue.acknowledged.len() - again.min(queue.acknowledged.len());
            if durable {
                assert!(queue.acknowledged.iter().skip(tail).eq(bodies.iter().take(again)), "{signal}: a gap");
            }
            bodies.drain(..again);
            let mut expected = queue.requests.iter();
            for body in &bodies {
                let skipped = expected.by_ref().take_while(|(other, _)| other != body);
                assert!(skipped.count() == 0 || !durable, "{signal}: something durable is missing");
            }
            assert!(expected.all(|(_, durable)| !durable), "{signal}: something durable is missing at the end");
        }
        for (signal, queue) in [(Signal::Logs, &mut self.logs), (Signal::Traces, &mut self.spans)] {
            let (bodies, _) = rig.bodies(signal, Position::START);
            *queue =
                Queue { requests: bodies.into_iter().map(|body| (body.to_vec(), true)).collect(), ..Queue::default() };
        }
        drop(rig);
        // That was only a look: what was handed out is not acknowledged.
        self.checkpoint = None;
        self.rig = Some(Rig::open(&self.disk, MAX_SIZE));
        self.settle();
    }

    /// Whatever happened since all was durable, each record is what it was then, or has been made since.
    fn compare_records(&self, found: &BTreeMap<Vec<u8>, Vec<u8>>) {
        for key in self.settled.keys().chain(found.keys()) {
            let since = self.since.iter().filter(|(other, _)| other == key).map(|(_, value)| value.as_ref());
            let mut values = since.chain([self.settled.get(key)]);
            assert!(values.any(|value| value == found.get(key)), "{key:?} is {:?}", found.get(key));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { logs, spans, changes } => self.append(&logs, &spans, &changes),
            Step::Deliver { logs, bytes } => self.deliver(logs, bytes),
            Step::Acknowledge { logs } => self.acknowledge(logs),
            Step::Tick => {
                self.rig().tick(1);
                self.settle();
            }
            Step::Checkpoint => {
                if self.checkpoint.is_none() {
                    self.begin_checkpoint();
                }
                self.settle();
            }
            Step::Restart => {
                self.disk.heal();
                let rig = self.rig.take().expect("open");
                let durable = rig.store.status() == Status::Durable;
                rig.close();
                let disk = self.disk.killed();
                self.reopen(disk, true, durable);
            }
            Step::Kill => {
                let disk = self.disk.killed();
                self.crash(disk);
            }
            Step::PowerLoss(seed) => {
                let mut random = fastrand::Rng::with_seed(seed);
                let disk = self.disk.without_power(|| random.bool());
                self.crash(disk);
            }
            Step::Fault { operations, kind } => {
                self.disk.fault_in(operations, Fault::Fail(kind));
            }
            Step::Fill => self.disk.fill(),
            Step::ReadOnly => self.disk.make_read_only(),
            Step::Heal => self.disk.heal(),
            Step::Outage(commits) => {
                self.disk.fill();
                (0..commits).for_each(|_| self.append(&[0], &[], &[]));
                self.disk.heal();
                self.rig().tick(5);
                self.settle();
            }
        }
    }

    /// Once the disk is well, all becomes durable without anybody's help.
    fn recover(&mut self) {
        self.disk.heal();
        for _ in 0..100 {
            if self.rig().store.status() == Status::Durable && self.checkpoint.is_none() {
                return;
            }
            self.rig().tick(1);
            self.settle();
        }
        panic!("still degraded: {:?}", self.rig().store.status());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_back_is_what_was_committed(steps in steps(false)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        let disk = world.disk.killed();
        world.crash(disk);
    }

    #[test]
    fn a_disk_that_fails_loses_nothing_that_was_durable(steps in steps(true)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.recover();
        prop_assert_eq!(world.disk.synced_after_failure(), 0);
        let mut random = fastrand::Rng::with_seed(7);
        let disk = world.disk.without_power(|| random.bool());
        world.crash(disk);
    }
}

/// A segment that could not be removed while the disk was read-only stayed behind those that were older than it, and the
/// next start took what was between for lost.
#[test]
fn segments_that_go_late_leave_no_gap() {
    let append = |logs: &[u16]| Step::Append { logs: logs.to_vec(), spans: Vec::new(), changes: Vec::new() };
    let (deliver, acknowledge) = (Step::Deliver { logs: true, bytes: 0 }, Step::Acknowledge { logs: true });
    let mut world = World::new();
    for step in [
        append(&[]),
        append(&[]),
        append(&[0]),
        Step::Fill,
        append(&[]),
        append(&[]),
        append(&[0]),
        Step::Heal,
        Step::Tick,
        append(&[]),
        Step::ReadOnly,
        append(&[]),
        deliver.clone(),
        append(&[]),
        acknowledge.clone(),
        append(&[]),
        deliver,
        acknowledge,
        Step::Heal,
        append(&[]),
        Step::Kill,
    ] {
        world.step(step);
    }
}
