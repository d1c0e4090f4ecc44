//! The quarantine: what the backend will never take is kept, bounded, and can be looked at.

use std::path::Path;
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
fn a_small_file_counts_as_the_block_that_it_takes_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    // All but one block of 4 KiB; without content it takes up no room on the disk of this test.
    sparse(folder.path(), 1, (256 << 20) - 4096);
    assert_eq!(quarantine.put(&poison("two", "")).expect("kept").pushed_out, []);
    let kept = quarantine.put(&poison("three", "")).expect("kept");
    assert_eq!((kept.id, kept.pushed_out), (Some(QuarantineId(3)), vec![QuarantineId(1)]));
}

#[test]
fn the_oldest_go_until_a_sixteenth_is_free_and_no_further() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    (1..=32).for_each(|number| sparse(folder.path(), number, 8 << 20));
    let kept = quarantine.put(&poison("new", "")).expect("kept");
    assert_eq!(kept.pushed_out, [1, 2, 3].map(QuarantineId), "16 MiB, and a block for the new one");
    for number in 34..=40 {
        let kept = quarantine.put(&poison("new", "")).expect("kept");
        assert_eq!((kept.id, kept.pushed_out), (Some(QuarantineId(number)), Vec::new()));
    }
}

#[test]
fn what_somebody_has_removed_makes_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    (1..=4).for_each(|number| sparse(folder.path(), number, 60 << 20));
    let _ = quarantine.put(&poison("five", "")).expect("kept");
    let another = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    another.remove(QuarantineId(3)).expect("there");
    let large = Poison { body: Bytes::from(vec![0; 40 << 20]), ..poison("", "") };
    assert_eq!(quarantine.put(&large).expect("kept").pushed_out, []);
}

#[test]
fn what_is_no_file_keeps_nobody_from_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(Arc::new(FileSystem::new(folder.path())));
    std::fs::create_dir_all(folder.path().join("quarantine/00000000000000000005.request")).expect("a folder");
    assert_eq!(quarantine.put(&poison("six", "")).expect("kept").id, Some(QuarantineId(6)));
    let list = quarantine.list().expect("readable");
    assert_eq!(list.iter().map(|kept| (kept.id.0, kept.about.is_some())).collect::<Vec<_>>(), [(5, false), (6, true)]);
}

/// A file in the quarantine that is as large as that and holds nothing.
fn sparse(folder: &Path, number: u64, size: u64) {
    let folder = folder.join("quarantine");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = std::fs::File::create(folder.join(format!("{number:020}.request"))).expect("a file");
    file.set_len(size).expect("a sparse file");
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
        assert!(matches!(quarantine.read(id), Err(QuarantineError::Damaged(damaged)) if damaged == id), "bit {bit}");
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
