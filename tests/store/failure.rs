//! A disk that is full, read-only or broken: the store goes on from memory, says so, and comes back by itself.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use bytes::Bytes;
use sense_otel::signal::{ExpiryReason, ExportRequest, Signal};
use sense_otel::store::{DegradedReason, Happening, Mark, Position, Records, Status};

use super::disk::{Disk, Fault};
use super::{ALL, Rig, log, upsert};

const MAX_SIZE: u64 = 1 << 20;

fn reason(rig: &Rig) -> Option<DegradedReason> {
    match rig.store.status() {
        Status::Degraded { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn a_full_disk_degrades_and_a_checkpoint_makes_all_durable_again() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    let mut state = BTreeMap::new();
    rig.commit(vec![log("before")], upsert("a", "1"), None);
    disk.fill();
    rig.commit(vec![log("during")], upsert("b", "2"), None);
    assert_eq!(reason(&rig), Some(DegradedReason::DiskFull));
    assert_eq!(rig.texts(Signal::Logs), ["before", "during"], "it is delivered all the same");
    assert!(!rig.store.checkpoint_due(), "there is nowhere to write it");
    let tried = disk.done().len();
    (0..10).for_each(|_| rig.append(vec![log("more")]));
    assert!(disk.done().len() <= tried + 4, "it does not spin: {:?}", &disk.done()[tried..]);
    for _ in 0..20 {
        rig.tick(1);
    }
    assert_eq!(reason(&rig), Some(DegradedReason::DiskFull));

    disk.heal();
    for _ in 0..5 {
        rig.tick(1);
    }
    assert!(rig.store.checkpoint_due(), "the records of the meantime are in the core only");
    assert!(reason(&rig).is_some());
    state.insert(b"a".to_vec(), b"1".to_vec());
    state.insert(b"b".to_vec(), b"2".to_vec());
    rig.checkpoint(&state);
    assert_eq!(rig.store.status(), Status::Durable);
    let heard = rig.heard.take();
    let degraded = Happening::Degraded { reason: DegradedReason::DiskFull };
    assert_eq!(heard, [degraded, Happening::Durable], "each is told once");

    let again = Rig::open(&disk.without_power(|| false), MAX_SIZE);
    assert_eq!(again.records(), state);
    assert_eq!(again.texts(Signal::Logs).len(), 12);
    assert_eq!(again.recovered.damage.lost_frames, 0);
}

/// A portion of a checkpoint was lost to a full disk, and its end was written after the disk was well again: the next
/// start took it for whole, and what was in the lost portion was gone.
#[test]
fn a_checkpoint_that_has_lost_a_portion_to_a_full_disk_is_not_ended() {
    let keys = ["a", "b", "c", "d"];
    let state = || keys.map(|key| (key.as_bytes().to_vec(), b"1".to_vec())).into();
    let portion = |keys: &[&str]| {
        let mut records = Records::new();
        keys.iter().for_each(|key| records.upsert(key.as_bytes(), b"1"));
        records
    };
    for lost in [Mark::Begin, Mark::Part] {
        let mut disk = Disk::default();
        let mut rig = Rig::open(&disk, MAX_SIZE);
        rig.commit(vec![log("pending")], portion(&keys), None);
        rig.commit(Vec::new(), Records::new(), Some(Mark::Begin));
        if lost == Mark::Begin {
            // What an earlier process began is not what is ended here.
            disk = disk.killed();
            rig = Rig::open(&disk, MAX_SIZE);
            disk.fill();
            rig.commit(Vec::new(), Records::new(), Some(Mark::Begin));
        }
        rig.commit(Vec::new(), portion(&keys[..2]), Some(Mark::Part));
        disk.fill();
        rig.commit(Vec::new(), portion(&keys[2..]), Some(Mark::Part));
        assert_eq!(reason(&rig), Some(DegradedReason::DiskFull));
        disk.heal();
        rig.tick(5);
        rig.commit(Vec::new(), Records::new(), Some(Mark::End));
        assert!(rig.store.checkpoint_due(), "it was none");

        let again = Rig::open(&disk.killed(), MAX_SIZE);
        assert_eq!(again.records(), state(), "{lost:?}");
        assert!(again.store.checkpoint_due() && again.recovered.damage.records_are_old);
        assert_eq!(again.texts(Signal::Logs), ["pending"]);
    }
}

#[test]
fn a_read_only_disk_and_a_broken_one_are_told_apart() {
    for (kind, expected) in [
        (ErrorKind::ReadOnlyFilesystem, DegradedReason::ReadOnly),
        (ErrorKind::StorageFull, DegradedReason::DiskFull),
        (ErrorKind::QuotaExceeded, DegradedReason::DiskFull),
        (ErrorKind::PermissionDenied, DegradedReason::Forbidden),
        (ErrorKind::Other, DegradedReason::InputOutput),
    ] {
        let disk = Disk::default();
        let mut rig = Rig::open(&disk, MAX_SIZE);
        (0..20).for_each(|at| disk.fault_in(at, Fault::Fail(kind)));
        rig.append(vec![log("one")]);
        assert_eq!(reason(&rig), Some(expected), "{kind}");
    }
}

#[test]
fn a_failed_sync_is_never_tried_again_on_that_file() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.append(vec![log("one")]);
    disk.fault_in(1, Fault::Fail(ErrorKind::Other));
    rig.commit(vec![log("two")], upsert("a", "1"), None);
    assert_eq!(rig.store.status(), Status::Durable, "another file took it");
    assert_eq!(rig.heard.take(), [Happening::Abandoned { reason: DegradedReason::InputOutput }]);
    rig.append(vec![log("three")]);
    rig.tick(1);
    assert_eq!(disk.synced_after_failure(), 0);
    // As if nothing of the failed file had reached the disk but what was synced before.
    let again = Rig::open(&disk.without_power(|| false), MAX_SIZE);
    assert_eq!(again.texts(Signal::Logs), ["one", "two", "three"]);
    assert_eq!(again.records(), BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]));
    assert_eq!(again.recovered.damage, Default::default());
    // As if all of it had: each comes back once all the same.
    let mut rig = Rig::open(&disk.killed(), MAX_SIZE);
    assert_eq!(rig.texts(Signal::Logs), ["one", "two", "three"]);
    rig.append(vec![log("four")]);
    assert_eq!(rig.texts(Signal::Logs), ["one", "two", "three", "four"]);
}

#[test]
fn a_store_that_cannot_write_from_the_start_is_open_and_degraded() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.commit(vec![log("before")], upsert("a", "1"), None);
    let disk = disk.killed();
    disk.make_read_only();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    assert_eq!(reason(&rig), Some(DegradedReason::ReadOnly));
    assert_eq!(rig.records().len(), 1);
    rig.append(vec![log("during")]);
    assert_eq!(rig.texts(Signal::Logs), ["before", "during"]);
    disk.heal();
    rig.tick(5);
    rig.checkpoint(&rig.records());
    assert_eq!(rig.store.status(), Status::Durable);
    assert_eq!(Rig::open(&disk.killed(), MAX_SIZE).texts(Signal::Logs), ["before", "during"]);
}

#[test]
fn in_memory_the_oldest_goes_when_there_is_no_more_room_and_is_counted() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 1 << 30);
    disk.make_read_only();
    let large = || ExportRequest { signal: Signal::Logs, items: 3, body: Bytes::from(vec![b'x'; 10 << 20]) };
    rig.append(vec![large()]);
    let in_hand = rig.store.next(Signal::Logs, Position::START, ALL).expect("from memory");
    for _ in 0..9 {
        rig.append(vec![large()]);
    }
    let pending = rig.store.pending(Signal::Logs);
    assert!(pending.bytes <= 64 << 20, "{pending:?}");
    let expired = rig.heard.take().into_iter().filter_map(|happening| match happening {
        Happening::Expired { what, reason: ExpiryReason::Memory, .. } => Some(what.items),
        _ => None,
    });
    assert_eq!(pending.items + expired.sum::<u64>(), 30);
    rig.store.acknowledge(Signal::Logs, in_hand.last);
    assert_eq!(rig.store.pending(Signal::Logs).items, pending.items - 3, "what was in hand did not expire");
}

#[test]
fn what_ends_degraded_is_written_if_the_disk_is_back_by_then() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    disk.make_read_only();
    rig.append(vec![log("during")]);
    disk.heal();
    rig.close();
    assert_eq!(Rig::open(&disk.killed(), MAX_SIZE).texts(Signal::Logs), ["during"]);
}

#[test]
fn records_that_are_older_than_the_requests_are_told_until_a_checkpoint_has_ended() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.commit(vec![log("start")], upsert("session", "open"), None);
    disk.fill();
    let mut ended = Records::new();
    ended.delete(b"session");
    rig.commit(vec![log("end")], ended, None);
    disk.heal();
    rig.close();
    let mut left = disk.killed();
    // Each start says so, whatever the one before it did but a whole checkpoint.
    for _ in 0..3 {
        let mut rig = Rig::open(&left, MAX_SIZE);
        assert_eq!(rig.texts(Signal::Logs)[..2], ["start", "end"]);
        assert!(rig.recovered.damage.records_are_old && rig.records().contains_key(&b"session"[..]));
        assert!(rig.store.checkpoint_due());
        rig.append(vec![log("more")]);
        left = left.killed();
    }
    let mut rig = Rig::open(&left, MAX_SIZE);
    rig.checkpoint(&BTreeMap::new());
    rig.close();
    let rig = Rig::open(&left, MAX_SIZE);
    assert_eq!((rig.recovered.damage, rig.recovered.records), Default::default());
    assert!(!rig.store.checkpoint_due());
}

#[test]
fn a_disk_that_is_back_is_tried_at_once_when_that_is_asked_for() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    disk.fill();
    rig.commit(vec![log("during")], upsert("a", "1"), None);
    (0..20).for_each(|_| rig.tick(1));
    disk.heal();
    assert!(!rig.store.checkpoint_due());
    rig.store.retry();
    rig.writer.turn();
    assert!(rig.store.checkpoint_due());
    rig.checkpoint(&BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]));
    assert_eq!(rig.store.status(), Status::Durable);
}

#[test]
fn what_cannot_be_read_is_tried_again_at_the_next_tick_and_at_last_given_up() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.commit(vec![log("one"), log("two")], Records::new(), None);
    let disk = disk.killed();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    disk.make_unreadable();
    assert_eq!(rig.store.next(Signal::Logs, Position::START, ALL), None);
    assert_eq!(rig.heard.take(), []);
    disk.heal();
    assert_eq!(rig.store.next(Signal::Logs, Position::START, ALL), None, "not before the next tick");
    rig.tick(1);
    assert_eq!(rig.texts(Signal::Logs), ["one", "two"]);

    let mut rig = Rig::open(&disk.killed(), MAX_SIZE);
    let disk = {
        // What is in the segment has been read, so that only the bodies are missing.
        let first = rig.store.next(Signal::Logs, Position::START, super::Limit { bytes: 1, items: 1 }).expect("one");
        rig.store.acknowledge(Signal::Logs, first.last);
        rig.tick(1);
        disk.killed()
    };
    let mut rig = Rig::open(&disk, MAX_SIZE);
    disk.make_unreadable();
    for _ in 0..5 {
        assert_eq!(rig.store.next(Signal::Logs, Position::START, ALL), None);
        rig.tick(1);
    }
    let heard = rig.heard.take();
    assert!(
        matches!(heard[..], [Happening::Expired { reason: ExpiryReason::Unreadable, .. }, ..]),
        "at last it is given up: {heard:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_read_wakes_nobody_before_the_next_tick() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.append(vec![log("one")]);
    let disk = disk.killed();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    disk.make_unreadable();
    assert_eq!(rig.store.next(Signal::Logs, Position::START, ALL), None);
    let waiting = tokio::spawn({
        let store = rig.store.clone();
        async move { store.appended(Signal::Logs, Position::START).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    rig.tick(1);
    waiting.await.expect("woken by the tick");
}

#[test]
fn what_was_written_twice_because_nothing_could_be_cut_off_comes_back_once() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.append(vec![log("one")]);
    // The sync, the cut, and the file that would have taken it instead.
    (1..4).for_each(|at| disk.fault_in(at, Fault::Fail(ErrorKind::Other)));
    rig.append(vec![log("two")]);
    assert_eq!(reason(&rig), Some(DegradedReason::InputOutput));
    rig.tick(5);
    rig.checkpoint(&BTreeMap::new());
    assert_eq!(rig.store.status(), Status::Durable);
    rig.append(vec![log("three")]);
    let again = Rig::open(&disk.killed(), MAX_SIZE);
    assert_eq!(again.recovered.restored.logs.requests, 3);
    assert_eq!(again.texts(Signal::Logs), ["one", "two", "three"]);
}

#[test]
fn only_what_was_handed_out_can_be_acknowledged() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.commit(vec![log("one"), log("two"), log("three")], Records::new(), None);
    let all = rig.store.next(Signal::Logs, Position::START, ALL).expect("stored").last;
    let left = disk.killed();
    let mut rig = Rig::open(&left, MAX_SIZE);
    let first = rig.store.next(Signal::Logs, Position::START, super::Limit { bytes: 1, items: 1 }).expect("stored");
    rig.store.acknowledge(Signal::Logs, all);
    assert_eq!(rig.store.pending(Signal::Logs).requests, 2);
    assert_eq!(rig.bodies(Signal::Logs, first.last).0, ["two", "three"]);
    rig.append(Vec::new());
    rig.close();
    assert_eq!(Rig::open(&left, MAX_SIZE).texts(Signal::Logs), ["two", "three"]);
}
