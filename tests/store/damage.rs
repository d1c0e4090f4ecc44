//! Bytes that are not those that were written, files that are missing or too many: what is lost is what was damaged.

use std::collections::BTreeMap;

use sense_otel::signal::{ExpiryReason, Signal};
use sense_otel::store::{Happening, OpenError, Position, Records, Store, Unobserved};

use super::disk::Disk;
use super::{ALL, Rig, config, log, span, upsert};

const MAX_SIZE: u64 = 1 << 20;

/// A store of one segment with five commits, each a frame and a sync of its own.
fn five() -> (String, Vec<u8>) {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    for number in 0..5 {
        let key = format!("key {number}");
        rig.commit(vec![log(&format!("log {number}")), span(&format!("span {number}"))], upsert(&key, "there"), None);
    }
    drop(rig);
    let mut files = disk.killed().files();
    files.retain(|name, _| name.starts_with("log/"));
    assert_eq!(files.len(), 1);
    files.into_iter().next().expect("one segment")
}

/// The bytes of each frame.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut starts = (64..bytes.len()).filter(|&at| bytes[at..].starts_with(b"\xf5SO\xfa")).collect::<Vec<_>>();
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The numbers of the commits whose log, span and record came back.
fn numbers(rig: &Rig) -> [Vec<String>; 3] {
    let strip = |texts: Vec<String>, prefix: &str| texts.iter().map(|text| text.replace(prefix, "")).collect();
    let keys = rig.records().into_keys().map(|key| String::from_utf8(key).expect("text")).collect();
    [strip(rig.texts(Signal::Logs), "log "), strip(rig.texts(Signal::Traces), "span "), strip(keys, "key ")]
}

#[test]
fn cut_at_any_byte_all_whole_frames_before_the_cut_come_back() {
    let (name, bytes) = five();
    let frames = frames(&bytes);
    assert_eq!(frames.len(), 5);
    for length in 0..=bytes.len() {
        let disk = Disk::with([(name.clone(), bytes[..length].to_vec())]);
        let rig = Rig::open(&disk, MAX_SIZE);
        let whole = frames.iter().filter(|frame| frame.end <= length).count();
        let expected = (0..whole).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(numbers(&rig), [expected.clone(), expected.clone(), expected], "{length} bytes");
        let end = frames.iter().map(|frame| frame.end).take(whole).max().unwrap_or(64);
        assert_eq!(rig.recovered.damage.torn_bytes, length.saturating_sub(end) as u64, "{length} bytes");
        assert_eq!((rig.recovered.damage.lost_frames, &rig.recovered.damage.moved[..]), (0, &[][..]));
        // It goes on, and the next start finds all of it.
        drop(rig);
        let mut rig = Rig::open(&disk, MAX_SIZE);
        assert_eq!(rig.recovered.damage.torn_bytes, 0, "{length} bytes: it was cut off");
        rig.append(vec![log("log later")]);
        let disk = disk.killed();
        assert_eq!(Rig::open(&disk, MAX_SIZE).texts(Signal::Logs).len(), whole + 1);
    }
}

#[test]
fn any_flipped_bit_costs_one_frame_at_most_and_is_told() {
    let (name, bytes) = five();
    let frames = frames(&bytes);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let rig = Rig::open(&Disk::with([(name.clone(), flipped)]), MAX_SIZE);
        let damage = rig.recovered.damage.clone();
        let [logs, spans, keys] = numbers(&rig);
        let hit = frames.iter().position(|frame| frame.contains(&(bit / 8)));
        let Some(hit) = hit else {
            assert_eq!((logs.len(), spans.len(), keys.len()), (5, 5, 5), "bit {bit} of the header");
            assert_eq!((damage.headers, damage.lost_frames), (1, 0));
            continue;
        };
        let all = (0..5).map(|number| number.to_string()).collect::<Vec<_>>();
        let left = all.iter().filter(|number| **number != hit.to_string()).cloned().collect::<Vec<_>>();
        let expired = rig.heard.take();
        let told = expired.iter().all(|happening| {
            matches!(happening, Happening::Expired { reason: ExpiryReason::Damaged, what, .. } if what.requests == 1)
        });
        assert!(told, "bit {bit}: {expired:?}");
        match (damage.lost_frames, damage.torn_bytes) {
            // In a body of a frame that is known to have been durable.
            (0, 0) => {
                assert_eq!(keys, all, "bit {bit}");
                assert_eq!(expired.len(), 1, "bit {bit}");
                assert_eq!(logs.len() + spans.len(), 9, "bit {bit}");
            }
            // At the end nobody can tell damage from what was never finished.
            (0, torn) => assert_eq!((hit, torn, logs), (4, frames[4].len() as u64, left), "bit {bit}"),
            (lost, torn) => assert_eq!((lost, torn, logs, keys), (1, 0, left.clone(), left), "bit {bit}"),
        }
    }
}

#[test]
fn a_zeroed_sector_costs_the_frames_that_it_touches() {
    let (name, bytes) = five();
    let frames = frames(&bytes);
    for sector in (0..bytes.len()).step_by(64).skip(1) {
        let mut zeroed = bytes.clone();
        let end = (sector + 64).min(bytes.len());
        zeroed[sector..end].fill(0);
        let rig = Rig::open(&Disk::with([(name.clone(), zeroed)]), MAX_SIZE);
        let untouched = frames.iter().enumerate().filter(|(_, frame)| frame.end <= sector || frame.start >= end);
        let [logs, _, keys] = numbers(&rig);
        for (number, _) in untouched {
            assert!(logs.contains(&number.to_string()) && keys.contains(&number.to_string()), "{sector}: {number}");
        }
        assert!(rig.recovered.damage != Default::default() || !rig.heard.take().is_empty(), "{sector}: not told");
    }
}

#[test]
fn a_group_that_was_torn_comes_back_as_far_as_it_is_whole_and_not_beyond() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.append(vec![log("before")]);
    for text in ["one", "two", "three"] {
        let commit = sense_otel::store::Commit { requests: vec![log(text)], ..Default::default() };
        rig.store.append(commit).expect("room");
    }
    rig.writer.turn();
    let (name, bytes) = disk.killed().files().into_iter().next().expect("one segment");
    let frames = frames(&bytes);
    // The second of the group of three never reached the disk, the third did.
    let mut torn = bytes.clone();
    torn[frames[2].clone()].fill(0);
    let rig = Rig::open(&Disk::with([(name.clone(), torn)]), MAX_SIZE);
    assert_eq!(rig.texts(Signal::Logs), ["before", "one"]);
    assert_eq!(rig.recovered.damage.lost_frames, 0);
    assert_eq!(rig.recovered.damage.torn_bytes, (frames[2].len() + frames[3].len()) as u64);
    // Its body only.
    let mut torn = bytes;
    torn[frames[2].end - 1] ^= 1;
    let rig = Rig::open(&Disk::with([(name, torn)]), MAX_SIZE);
    assert_eq!(rig.texts(Signal::Logs), ["before", "one"]);
}

#[test]
fn lost_frames_make_a_checkpoint_due() {
    let (name, mut bytes) = five();
    let frames = frames(&bytes);
    bytes[frames[1].start + 40] ^= 1;
    let disk = Disk::with([(name, bytes)]);
    let mut rig = Rig::open(&disk, MAX_SIZE);
    assert!(rig.store.checkpoint_due());
    let state = rig.records();
    rig.checkpoint(&state);
    assert!(!rig.store.checkpoint_due());
    let again = Rig::open(&disk.killed(), MAX_SIZE);
    assert!(!again.store.checkpoint_due());
    assert_eq!(again.records(), state);
}

#[test]
fn a_checkpoint_that_has_lost_a_part_is_no_checkpoint() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    let state = (b'a'..b'g').map(|key| (vec![key], b"value".to_vec())).collect::<BTreeMap<_, _>>();
    let mut records = Records::new();
    state.iter().for_each(|(key, value)| records.upsert(key, value));
    rig.commit(vec![log("pending")], records, None);
    rig.checkpoint(&state);
    let mut files = disk.killed().files();
    let bytes = files.values_mut().next_back().expect("the segment of the checkpoint");
    let frames = frames(bytes);
    bytes[frames[2].start + 40] ^= 1;
    let rig = Rig::open(&Disk::with(files), MAX_SIZE);
    assert_eq!(rig.recovered.damage.lost_frames, 1);
    assert_eq!(rig.records(), state, "what was recorded before it counts");
    assert!(rig.store.checkpoint_due());
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let (name, mut bytes) = five();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    let disk = Disk::with([
        (name, bytes),
        ("log/00000000000000000009.segment".to_owned(), Vec::new()),
        ("log/notes.txt".to_owned(), b"foreign".to_vec()),
    ]);
    let before = disk.files();
    let refused = Store::open(&config(MAX_SIZE), std::sync::Arc::new(disk.clone()), std::sync::Arc::new(Unobserved));
    assert!(matches!(refused, Err(OpenError::Newer { found: 2, known: 1 })), "{refused:?}");
    assert_eq!(disk.files(), before);
    assert_eq!(disk.done(), Vec::<String>::new());
}

#[test]
fn what_is_no_segment_moves_aside_and_keeps_its_bytes() {
    let (name, bytes) = five();
    let foreign = [
        ("log/notes.txt", &b"foreign"[..]),
        ("log/00000000000000000042.segment", &[0xaa; 200][..]),
        ("log/00000000000000000001.segment.bak", &bytes[..]),
        ("damaged/notes.txt", &b"older"[..]),
    ];
    let files = foreign.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    let disk = Disk::with(files.into_iter().chain([(name, bytes)]));
    let rig = Rig::open(&disk, MAX_SIZE);
    let mut moved = rig.recovered.damage.moved.clone();
    moved.sort();
    assert_eq!(moved, ["00000000000000000001.segment.bak", "00000000000000000042.segment", "notes.txt"]);
    assert_eq!(rig.texts(Signal::Logs).len(), 5);
    let files = disk.files();
    assert_eq!(files["damaged/notes.txt"], b"older");
    assert_eq!(files["damaged/notes.txt.2"], b"foreign");
    assert_eq!(files["damaged/00000000000000000042.segment"], [0xaa; 200]);
    assert!(files.contains_key("log/00000000000000000043.segment"), "{:?}", files.keys());
}

/// A store of several segments, with a checkpoint in the middle.
fn many() -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 64 * 1024);
    let mut texts = Vec::new();
    for number in 0..60 {
        if number == 20 {
            rig.checkpoint(&BTreeMap::from([(b"key".to_vec(), b"19".to_vec())]));
        }
        let text = format!("log {number:03} {}", "x".repeat(100));
        rig.commit(vec![log(&text)], upsert("key", &number.to_string()), None);
        texts.push(text);
    }
    let mut files = disk.killed().files();
    files.retain(|name, _| name.starts_with("log/"));
    assert!(files.len() > 6, "{} segments", files.len());
    (files, texts)
}

#[test]
fn what_cannot_be_moved_aside_is_left_alone_and_told() {
    let (name, bytes) = five();
    let disk = Disk::with([(name, bytes), ("log/notes.txt".to_owned(), b"foreign".to_vec())]);
    disk.make_read_only();
    let rig = Rig::open(&disk, MAX_SIZE);
    assert_eq!(rig.recovered.damage.stuck, ["notes.txt"]);
    assert_eq!(rig.texts(Signal::Logs).len(), 5);
    assert_eq!(disk.files()["log/notes.txt"], b"foreign");
}

#[test]
fn a_segment_that_is_deleted_costs_what_was_in_it() {
    let (files, texts) = many();
    for name in files.keys() {
        let mut left = files.clone();
        left.remove(name);
        let rig = Rig::open(&Disk::with(left), 64 * 1024);
        let found = rig.texts(Signal::Logs);
        let mut rest = texts.iter();
        assert!(found.iter().all(|text| rest.any(|other| other == text)), "{name}: out of order");
        assert!(found.len() >= texts.len() - 12 && found.len() <= texts.len(), "{name}: {} left", found.len());
        if Some(name) != files.keys().next_back() && found.len() < texts.len() {
            assert_eq!(rig.records()[&b"key"[..]], b"59");
        }
    }
}

#[test]
fn a_segment_under_another_name_gets_its_own_back_and_a_copy_is_moved_aside() {
    let (mut files, texts) = many();
    let name = files.keys().nth(2).expect("many").clone();
    let bytes = files[&name].clone();
    files.insert("log/00000000000000000777.segment".to_owned(), bytes.clone());
    let disk = Disk::with(files.clone());
    let rig = Rig::open(&disk, 64 * 1024);
    assert_eq!(rig.recovered.damage.moved, ["00000000000000000777.segment"]);
    assert_eq!(rig.texts(Signal::Logs), texts);

    files.remove(&name);
    let disk = Disk::with(files);
    let rig = Rig::open(&disk, 64 * 1024);
    assert_eq!(rig.recovered.damage, Default::default());
    assert_eq!(rig.texts(Signal::Logs), texts);
    assert_eq!(disk.files()[&name], bytes);
}

#[test]
fn segments_whose_names_were_swapped_are_both_read() {
    let (files, texts) = many();
    let names = files.keys().cloned().collect::<Vec<_>>();
    // Two that have each other's name, and three in a ring.
    for swapped in [&[1, 4][..], &[2, 5, 3]] {
        let mut wrong = files.clone();
        for (at, from) in swapped.iter().enumerate() {
            let to = swapped[(at + 1) % swapped.len()];
            wrong.insert(names[to].clone(), files[&names[*from]].clone());
        }
        let disk = Disk::with(wrong);
        let rig = Rig::open(&disk, 64 * 1024);
        assert_eq!(rig.recovered.damage, Default::default());
        assert_eq!(rig.texts(Signal::Logs), texts);
        let after = disk.files();
        assert!(files.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "each under its own name");
    }
}

#[test]
fn a_damaged_frame_in_an_old_segment_is_found_when_it_is_read_to_be_sent() {
    let (mut files, texts) = many();
    let name = files.keys().nth(1).expect("many").clone();
    let bytes = files.get_mut(&name).expect("a segment");
    let frames = frames(bytes);
    bytes[frames[1].start + 50] ^= 1;
    let rig = Rig::open(&Disk::with(files), 64 * 1024);
    assert_eq!(rig.recovered.restored.logs.requests, 60);
    assert_eq!(rig.texts(Signal::Logs).len(), texts.len() - 1);
    assert_eq!(rig.store.pending(Signal::Logs).requests, 59);
    let heard = rig.heard.take();
    let [Happening::Expired { signal: Signal::Logs, what, reason: ExpiryReason::Damaged }] = heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((what.requests, what.items), (1, 2));
}

#[test]
fn positions_that_only_a_summary_knows_of_are_not_given_out_again() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, 64 * 1024);
    let text = |number: usize| format!("{number} {}", "x".repeat(300));
    (0..3).for_each(|number| rig.append(vec![log(&text(number))]));
    let all = rig.store.next(Signal::Logs, Position::START, ALL).expect("stored");
    rig.store.acknowledge(Signal::Logs, all.last);
    rig.append(vec![log(&text(3))]);
    let mut files = disk.killed().files();
    files.retain(|name, _| name.ends_with("1.segment"));
    let bytes = files.values_mut().next().expect("the first segment");
    let frames = frames(bytes);
    assert_eq!(frames.len(), 4, "three commits and the summary");
    bytes[frames[2].start + 40] ^= 1;
    let mut rig = Rig::open(&Disk::with(files), 64 * 1024);
    assert_eq!(rig.recovered.damage.lost_frames, 1);
    rig.append(vec![log("new")]);
    let batch = rig.store.next(Signal::Logs, Position::START, ALL).expect("it is not taken for acknowledged");
    assert_eq!(batch.requests[0].body, "new");
    assert!(batch.last > all.last);
}

#[test]
fn what_was_damaged_at_the_end_of_the_queue_is_done_with() {
    let disk = Disk::default();
    let mut rig = Rig::open(&disk, MAX_SIZE);
    rig.commit(vec![log("whole"), log("damaged")], Records::new(), None);
    rig.append(vec![span("after")]);
    let mut files = disk.killed().files();
    let bytes = files.values_mut().next().expect("a segment");
    let at = bytes.windows(7).position(|window| window == b"damaged").expect("its body");
    bytes[at] = b'D';
    let rig = Rig::open(&Disk::with(files), MAX_SIZE);
    let batch = rig.store.next(Signal::Logs, Position::START, ALL).expect("the first");
    assert_eq!(batch.requests.len(), 1);
    rig.store.acknowledge(Signal::Logs, batch.last);
    assert_eq!(rig.store.next(Signal::Logs, batch.last, ALL), None);
    assert_eq!(rig.store.pending(Signal::Logs).requests, 0);
}
