//! What goes, and when: delivered segments, and the oldest ones that are over the budget.

use std::collections::BTreeMap;

use sense_otel::signal::{ExpiryReason, Signal};
use sense_otel::store::{Happening, Pending, Position};

use super::disk::Disk;
use super::{ALL, Rig, log, span, upsert};

/// Segments of 1 KiB, a checkpoint every 16 KiB.
const MAX_SIZE: u64 = 64 * 1024;

fn state() -> BTreeMap<Vec<u8>, Vec<u8>> {
    BTreeMap::from([(b"key".to_vec(), b"value".to_vec())])
}

/// Does what the core does.
fn append(rig: &mut Rig, number: usize) {
    rig.commit(vec![log(&format!("{number:05} {}", "x".repeat(300)))], upsert("key", "value"), None);
    if rig.store.checkpoint_due() {
        rig.checkpoint(&state());
    }
}

#[test]
fn what_is_delivered_goes_with_the_next_checkpoint() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    let mut after = Position::START;
    let mut most = 0;
    for number in 0..2_000 {
        append(&mut rig, number);
        let batch = rig.store.next(Signal::Logs, after, ALL).expect("just appended");
        after = batch.last;
        rig.store.acknowledge(Signal::Logs, after);
        most = most.max(disk.size());
    }
    assert!(most < 40 * 1024, "{most} bytes at most");
    assert_eq!(rig.heard.take(), []);
    assert_eq!(Rig::open(&disk.killed(), MAX_SIZE).records(), state());
}

#[test]
fn over_the_size_the_oldest_segment_goes_whole_and_is_counted() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.append(vec![span("a span")]);
    append(&mut rig, 0);
    let in_hand = rig.store.next(Signal::Logs, Position::START, ALL).expect("the first");
    for number in 1..1_000 {
        append(&mut rig, number);
        assert!(disk.size() as u64 <= MAX_SIZE + 4 * 1024, "{} bytes", disk.size());
    }
    let (mut logs, mut spans) = (Pending::default(), 0);
    for happening in rig.heard.take() {
        let Happening::Expired { signal, what, reason: ExpiryReason::Size } = happening else {
            panic!("{happening:?}")
        };
        if signal == Signal::Logs { logs.items += what.items } else { spans += what.items }
    }
    let pending = rig.store.pending(Signal::Logs);
    assert_eq!((logs.items + pending.items, spans), (2_000, 1));
    assert_eq!(rig.store.pending(Signal::Traces), Pending::default());
    assert!(pending.bytes > MAX_SIZE / 2, "{pending:?}");

    let first = super::Limit { bytes: 1, items: 1 };
    assert_eq!(rig.store.next(Signal::Logs, Position::START, first), Some(in_hand.clone()), "it can be sent again");
    rig.store.acknowledge(Signal::Logs, in_hand.last);
    let (bodies, _) = rig.bodies(Signal::Logs, in_hand.last);
    assert_eq!(bodies.len() as u64, pending.requests - 1, "what was in hand stayed, and what waits is in one piece");
    assert!(bodies.last().expect("many").starts_with(b"00999"));

    let again = Rig::open(&disk.killed(), MAX_SIZE);
    assert_eq!(again.bodies(Signal::Logs, Position::START).0, bodies);
    assert_eq!(again.records(), state());
}

#[test]
fn a_state_that_is_larger_than_the_budget_is_not_written_again_and_again() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    let state = (0..100_u8).map(|key| (vec![key], vec![b'x'; 1000])).collect::<BTreeMap<_, _>>();
    let mut checkpoints = 0;
    for number in 0..300 {
        rig.commit(vec![log(&format!("{number} {}", "x".repeat(1000)))], upsert("key", "value"), None);
        if rig.store.checkpoint_due() {
            checkpoints += 1;
            rig.checkpoint(&state);
        }
    }
    // Each request fills a segment here, and after 128 of them a checkpoint is due anyway.
    assert!((1..=4).contains(&checkpoints), "{checkpoints} checkpoints");
    assert_eq!(Rig::open(&disk.killed(), MAX_SIZE).records().len(), 101);
}

#[test]
fn what_is_too_old_goes_without_any_traffic() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    (0..10).for_each(|number| append(&mut rig, number));
    rig.tick(3500);
    assert!(!rig.store.checkpoint_due());
    rig.tick(200);
    assert!(rig.store.checkpoint_due(), "the records are in the way");
    assert_eq!(rig.store.pending(Signal::Logs).requests, 10);
    rig.checkpoint(&state());
    assert_eq!(rig.store.pending(Signal::Logs), Pending::default());
    let expired = rig.heard.take().into_iter().map(|happening| match happening {
        Happening::Expired { signal: Signal::Logs, what, reason: ExpiryReason::Age } => what.items,
        other => panic!("{other:?}"),
    });
    assert_eq!(expired.sum::<u64>(), 20);
    assert!(!rig.store.checkpoint_due());
    assert!(disk.size() < 1024, "{} bytes are left", disk.size());
    // What was given up waits no more, though nobody has acknowledged it: the time need not be written for it.
    let before = disk.done().len();
    (0..100).for_each(|_| rig.tick(60));
    assert_eq!(disk.done().len(), before);
}

#[test]
fn what_waits_grows_old_while_only_the_time_is_written() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    append(&mut rig, 0);
    (0..60).for_each(|_| rig.tick(60));
    let mut rig = Rig::open(&disk.killed(), MAX_SIZE);
    assert_eq!(rig.store.pending(Signal::Logs).requests, 1);
    rig.tick(60);
    rig.checkpoint(&state());
    assert_eq!(rig.store.pending(Signal::Logs), Pending::default());
}

#[test]
fn many_restarts_leave_no_heap_of_segments() {
    let mut disk = Disk::default();
    for number in 0..400 {
        let mut rig = Rig::open(&disk, 1 << 20);
        append(&mut rig, number);
        let batch = rig.store.next(Signal::Logs, Position::START, ALL).expect("just appended");
        rig.store.acknowledge(Signal::Logs, batch.last);
        rig.close();
        disk = disk.killed();
        assert!(disk.files().len() < 140, "{} files", disk.files().len());
    }
}

/// Nothing wrote to the store in most of these lives, and in none was anything delivered.
#[test]
fn segments_with_nothing_in_them_do_not_gather() {
    let mut disk = Disk::default();
    Rig::open(&disk, MAX_SIZE).append(vec![log("pending")]);
    for life in 0..50 {
        disk = disk.killed();
        let rig = Rig::open(&disk, MAX_SIZE);
        assert_eq!(rig.recovered.damage, Default::default());
        assert_eq!(rig.texts(Signal::Logs), ["pending"]);
        assert!(disk.files().len() <= 2, "{} files in life {life}", disk.files().len());
    }
    let mut rig = Rig::open(&disk.killed(), MAX_SIZE);
    rig.append(vec![log("more")]);
    assert_eq!(rig.texts(Signal::Logs), ["pending", "more"]);
}

#[test]
fn few_files_are_open_however_many_segments_there_are() {
    const OPEN_MAX: usize = 12;
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    (0..120).for_each(|number| append(&mut rig, number));
    assert!(disk.files().len() > 30, "{} segments", disk.files().len());
    assert_eq!(rig.bodies(Signal::Logs, Position::START).0.len(), 120);
    assert!(disk.most_open() <= OPEN_MAX, "{} files were open", disk.most_open());
    let left = disk.killed();
    let again = Rig::open(&left, MAX_SIZE);
    assert_eq!(again.bodies(Signal::Logs, Position::START).0.len(), 120);
    assert!(left.most_open() <= OPEN_MAX, "{} files were open after the start", left.most_open());
}

#[test]
fn segments_that_cannot_be_removed_count_and_nothing_expires_for_them() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    (0..190).for_each(|number| append(&mut rig, number));
    let expired = |rig: &Rig| {
        let (mut requests, mut stuck) = (0, 0);
        for happening in rig.heard.take() {
            match happening {
                Happening::Expired { what, reason: ExpiryReason::Size, .. } => requests += what.requests,
                Happening::Stuck { .. } => stuck += 1,
                other => panic!("{other:?}"),
            }
        }
        (requests, stuck)
    };
    let (before, stuck) = expired(&rig);
    assert_eq!(stuck, 0);
    disk.make_unremovable();
    (190..400).for_each(|number| append(&mut rig, number));
    rig.tick(1);
    let (meanwhile, stuck) = expired(&rig);
    assert_eq!(stuck, 1, "it is told, once");
    assert!(meanwhile <= 3, "{meanwhile}, from one segment: to let more go would free nothing");
    disk.heal();
    rig.tick(1);
    assert!(disk.size() as u64 <= MAX_SIZE + 4 * 1024, "{} bytes", disk.size());
    let (after, stuck) = expired(&rig);
    assert_eq!(stuck, 0);
    assert_eq!(before + meanwhile + after + rig.store.pending(Signal::Logs).requests, 400);
    assert_eq!(Rig::open(&disk.killed(), MAX_SIZE).recovered.damage, Default::default());
}

#[test]
fn a_backlog_over_many_segments_comes_in_order_and_is_known_at_once() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 20);
    let large = "y".repeat(5_000);
    for number in 0..100 {
        rig.append(vec![log(&format!("{number:03}{large}")), span(&format!("{number:03}{large}"))]);
    }
    let expected = (0..100).map(|number| format!("{number:03}{large}")).collect::<Vec<_>>();
    let pending = rig.store.pending(Signal::Logs);
    let mut again = Rig::open(&disk.killed(), 1 << 20);
    assert_eq!(again.store.pending(Signal::Logs), pending);
    assert_eq!(again.texts(Signal::Logs), expected);
    again.append(vec![log("last")]);
    assert_eq!(again.texts(Signal::Traces), expected);
    let all = again.store.next(Signal::Logs, Position::START, ALL).expect("all of it in one batch");
    assert_eq!(all.requests.len(), 101);
    again.store.acknowledge(Signal::Logs, all.last);
    assert_eq!(again.store.pending(Signal::Logs), Pending::default());
}
