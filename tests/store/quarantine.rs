//! The quarantine: what the backend will never take is kept, bounded, and can be looked at.

use std::sync::Arc;

use bytes::Bytes;
use sense_otel::signal::Signal;
use sense_otel::store::storage::FileSystem;
use sense_otel::store::{About, Budget, Poison, Quarantine, QuarantineError, QuarantineId, Store, Unobserved};
use sense_otel::time::Timestamp;

use super::disk::Disk;

fn poison(text: &str, reason: &str) -> Poison {
    let wall = Timestamp::from_nanos(7);
    let about = About { signal: Signal::Traces, items: 3, code: 3, reason: reason.to_owned(), wall };
    Poison { about, body: Bytes::copy_from_slice(text.as_bytes()) }
}

#[test]
fn what_is_put_in_is_durable_and_can_be_listed_read_and_removed() {
    let disk = Disk::default();
    let quarantine = Quarantine::new(Arc::new(disk.clone()));
    assert_eq!(quarantine.list().expect("empty"), []);
    let first = quarantine.put(&poison("one", "no such field")).expect("kept").id.expect("on disk");
    let second = quarantine.put(&poison("two", &"ä".repeat(1000))).expect("kept").id.expect("on disk");
    assert!(first < second);

    let quarantine = Quarantine::new(Arc::new(disk.without_power(|| false)));
    let list = quarantine.list().expect("readable");
    assert_eq!(list.iter().map(|kept| kept.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(list[0].about.as_ref().expect("whole"), &poison("one", "no such field").about);
    assert_eq!(quarantine.read(first).expect("there"), poison("one", "no such field"));
    assert_eq!(quarantine.read(second).expect("there").about.reason, "ä".repeat(512));
    quarantine.remove(first).expect("there");
    assert!(matches!(quarantine.remove(first), Err(QuarantineError::Unknown(id)) if id == first));
    assert!(matches!(quarantine.read(first), Err(QuarantineError::Unknown(_))));
    assert_eq!(quarantine.list().expect("readable").len(), 1);
    let third = quarantine.put(&poison("three", "")).expect("kept").id;
    assert_eq!(third, Some(QuarantineId(3)));
}

#[test]
fn beyond_its_size_the_oldest_goes_and_is_told() {
    // On the real disk, so as not to take that much memory.
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    let sized = |mebibytes: usize| Poison { body: Bytes::from(vec![0; mebibytes << 20]), ..poison("", "") };
    for number in 1..=2 {
        assert_eq!(quarantine.put(&sized(90)).expect("kept").id, Some(QuarantineId(number)));
    }
    let kept = quarantine.put(&sized(90)).expect("kept");
    assert_eq!((kept.id, kept.pushed_out), (Some(QuarantineId(3)), vec![QuarantineId(1)]));
    assert!(matches!(quarantine.put(&sized(257)), Err(QuarantineError::TooLarge)));
    let list = quarantine.list().expect("readable");
    assert_eq!(list.len(), 2);
    assert!(list.iter().map(|kept| kept.size).sum::<u64>() <= 256 << 20);
}

#[test]
fn every_flipped_bit_is_seen() {
    let disk = Disk::default();
    let quarantine = Quarantine::new(Arc::new(disk.clone()));
    let id = quarantine.put(&poison("body", "reason")).expect("kept").id.expect("on disk");
    let (name, bytes) = disk.files().into_iter().next().expect("one file");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let quarantine = Quarantine::new(Arc::new(Disk::with([(name.clone(), flipped)])));
        assert!(matches!(quarantine.read(id), Err(QuarantineError::Disk(_))), "bit {bit}");
        assert_eq!(quarantine.list().expect("readable")[0].about, None, "bit {bit}");
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    let disk = Disk::default();
    let quarantine = Quarantine::new(Arc::new(disk.clone()));
    disk.fill();
    assert!(matches!(quarantine.put(&poison("one", "")), Err(QuarantineError::Disk(_))));
    assert_eq!(quarantine.list().expect("readable"), []);
    disk.heal();
    let _ = quarantine.put(&poison("one", "")).expect("kept");
    assert_eq!(quarantine.list().expect("readable").len(), 1);
}

#[test]
fn a_store_in_memory_keeps_none() {
    let budget = Budget { bytes: 1000, age: std::time::Duration::MAX };
    let store = Store::in_memory(budget, Arc::new(Unobserved));
    assert_eq!(store.quarantine().put(&poison("one", "")).expect("no disk to fail").id, None);
    assert_eq!(store.quarantine().list().expect("empty"), []);
}
