//! The format on disk, as it was written once and must be read for ever.
//!
//! `golden/v1` is a folder that version 1 wrote. A later version has to read it as this test says; as long as the
//! format is version 1, writing the same again has to give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sense_otel::signal::Signal;
use sense_otel::store::{About, Pending, Poison, Position};
use sense_otel::time::{Now, RunningTime, Timestamp};

use super::disk::Disk;
use super::{Rig, log, span, upsert};

/// Segments of 1 KiB.
const MAX_SIZE: u64 = 64 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/golden/v1")
}

fn golden() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["log", "quarantine"] {
        for entry in fs::read_dir(folder().join(part)).expect("the golden files") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_str().expect("UTF-8");
            files.insert(format!("{part}/{name}"), fs::read(&path).expect("a golden file"));
        }
    }
    files
}

fn poison() -> Poison {
    let wall = Timestamp::from_nanos(1_795_420_803_000_000_000);
    let reason = "body: unknown field".to_owned();
    let about = About { signal: Signal::Logs, items: 2, code: 3, reason, wall };
    Poison { about, body: Bytes::from_static(b"\x0a\x00poison") }
}

/// What wrote the golden files: two segments that are full, one with a checkpoint, and one that a process left open.
fn write() -> BTreeMap<String, Vec<u8>> {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.now =
        Now { running: RunningTime::from_nanos(5_000_000_000), wall: Timestamp::from_nanos(1_795_420_800_000_000_000) };
    for number in 0..8 {
        let logs = log(&format!("log {number} {}", "x".repeat(100)));
        rig.commit(vec![logs, span(&format!("span {number}"))], upsert(&format!("key {}", number % 3), "old"), None);
    }
    let batch = rig.store.next(Signal::Logs, Position::START, super::Limit { bytes: 250, items: 9 }).expect("stored");
    rig.store.acknowledge(Signal::Logs, batch.last);
    let state = [("key 0", "new"), ("key 1", "new"), ("key 2", "new")];
    rig.checkpoint(&state.map(|(key, value)| (key.into(), value.into())).into());
    let mut records = upsert("key 3", "");
    records.delete(b"key 1");
    rig.commit(vec![span("span 8")], records, None);
    rig.tick(2);
    let _ = rig.store.quarantine().put(&poison()).expect("kept");
    rig.close();
    disk.files()
}

#[test]
fn what_version_one_wrote_is_read() {
    let rig = Rig::open_in(Arc::new(Disk::with(golden())), MAX_SIZE);
    let expected = [("key 0", "new"), ("key 2", "new"), ("key 3", "")];
    assert_eq!(rig.records(), expected.map(|(key, value)| (key.into(), value.into())).into());
    assert_eq!(rig.recovered.damage, Default::default());
    assert_eq!(rig.recovered.running, RunningTime::from_nanos(7_260_000_000));
    assert_eq!(rig.recovered.wall, Timestamp::from_nanos(1_795_420_802_260_000_000));
    assert_eq!(rig.recovered.restored.logs, Pending { requests: 6, items: 12, bytes: 636 });
    let logs = rig.texts(Signal::Logs);
    assert_eq!(logs.len(), 6);
    assert_eq!(logs[0], format!("log 2 {}", "x".repeat(100)));
    let spans = (0..9).map(|number| format!("span {number}")).collect::<Vec<_>>();
    assert_eq!(rig.texts(Signal::Traces), spans);
    let kept = rig.store.quarantine().list().expect("readable");
    assert_eq!(kept.len(), 1);
    assert_eq!(rig.store.quarantine().read(kept[0].id).expect("whole"), poison());
}

#[test]
fn what_is_written_now_is_what_version_one_wrote() {
    let written = write();
    let golden = golden();
    let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    for (name, bytes) in &written {
        let path = left.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
    }
    assert_eq!(written.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>(), "what is written is in {left:?}");
    for (name, bytes) in &written {
        assert!(bytes == &golden[name], "{name} has changed; what is written now is in {left:?}");
    }
}
