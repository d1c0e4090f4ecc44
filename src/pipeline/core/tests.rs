//! The core while the disk fails or hangs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};

use crate::event::Datagram;
use crate::processor::{self, ids::Key};
use crate::store::storage::{File, FileSystem, Lock, Storage};
use crate::store::{Config, Opened, Recovered, Status, Unobserved};
use crate::time::Timestamp;

use super::*;

/// A file system that can be full.
#[derive(Debug)]
struct Disk {
    files: FileSystem,
    full: Arc<AtomicBool>,
}

#[derive(Debug)]
struct OnDisk(Arc<dyn File>, Arc<AtomicBool>);

fn refuse(full: &AtomicBool) -> io::Result<()> {
    if full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl Storage for Disk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.files.list(folder)
    }
    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.files.create_folder(folder)
    }
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        refuse(&self.full)?;
        Ok(Arc::new(OnDisk(self.files.create(path)?, Arc::clone(&self.full))))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.files.open(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }
    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.files.sync_folder(folder)
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.files.lock(path)
    }
}

impl File for OnDisk {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        refuse(&self.1)?;
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
}

fn datagram(command: &str) -> Vec<u8> {
    format!("/qseow-proxy-session/;pro2;{command};LAB;goran;Not available;Not available;Proxy session").into_bytes()
}

const fn received(bytes: &[u8]) -> Datagram<'_> {
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5000);
    Datagram { bytes, source, received: Timestamp::from_nanos(1_795_420_800_000_000_000) }
}

/// A session starts, the disk fills up, the session ends, and so do we. Returns what the next start finds.
fn end_in_trouble(folder: &Path, healed: bool) -> Recovered {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(Disk { files: FileSystem::new(folder), full: Arc::clone(&full) });
    let config = Config { directory: folder.to_owned(), max_size: 1 << 20, max_age: Duration::from_secs(3600) };
    let Opened { store, writer, .. } =
        Store::open(&config, Arc::clone(&disk) as Arc<dyn Storage>, Arc::new(Unobserved)).expect("a new store");
    let writer = thread::spawn(move || writer.run());
    let processor = Processor::new(processor::Config::default(), &Key::new(b"a key for tests only"));
    let clock = Clock::start(RunningTime::START);
    let mut core =
        Core::new(processor, store.clone(), Telemetry::default(), clock, &[Signal::Logs, Signal::Traces], None);
    let take = |core: &mut Core, command: &str| {
        let bytes = datagram(command);
        let now = core.clock.now();
        core.processor.handle(now, Input::Datagram(received(&bytes)), &mut core.output);
        core.commit(now).expect("the store is there");
        assert!(store.flush(Duration::from_secs(5)));
    };
    take(&mut core, "Start session");
    assert_eq!((core.processor.open_sessions(), store.status()), (1, Status::Durable));
    full.store(true, Ordering::Relaxed);
    take(&mut core, "Stop session");
    assert!(matches!(store.status(), Status::Degraded { .. }));
    if healed {
        full.store(false, Ordering::Relaxed);
    }
    let (batches, receiver) = sync_channel(1);
    drop(batches);
    assert_eq!(core.run(&receiver, &channel().1).open_sessions, 0);
    full.store(false, Ordering::Relaxed);
    store.close();
    writer.join().expect("no panic");
    Store::open(&config, disk, Arc::new(Unobserved)).expect("the store again").recovered
}

#[test]
fn the_state_is_written_anew_at_the_end_where_the_disk_takes_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let recovered = end_in_trouble(folder.path(), true);
    assert_eq!(recovered.damage, Default::default());
    let (processor, _) =
        Processor::restore(processor::Config::default(), &Key::new(b"a key for tests only"), recovered.records);
    assert_eq!(processor.open_sessions(), 0, "it does not end twice");
    assert_eq!(recovered.restored.traces.items, 1);
}

#[test]
fn records_that_are_left_old_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let recovered = end_in_trouble(folder.path(), false);
    assert!(recovered.damage.records_are_old);
    assert_eq!(recovered.restored.traces.items, 1, "the span of the session that will end again");
}

/// A core before a store whose disk hangs: nobody runs the writer.
fn core_before_a_hanging_disk(folder: &Path) -> (Core, Store, crate::store::Writer, Telemetry) {
    let config = Config { directory: folder.to_owned(), max_size: 1 << 30, max_age: Duration::from_secs(3600) };
    let storage = Arc::new(FileSystem::new(folder));
    let Opened { store, writer, .. } = Store::open(&config, storage, Arc::new(Unobserved)).expect("a new store");
    let processor = Processor::new(processor::Config::default(), &Key::new(b"a key for tests only"));
    let (telemetry, clock) = (Telemetry::default(), Clock::start(RunningTime::START));
    let core = Core::new(processor, store.clone(), telemetry.clone(), clock, &[Signal::Logs, Signal::Traces], None);
    (core, store, writer, telemetry)
}

/// Batches of events whose records are as large as can be, until the store has no more room.
fn fill(core: &mut Core) {
    let long = "x".repeat(2000);
    for round in 0..100 {
        let events: Vec<Vec<u8>> = (0..512)
            .map(|user| {
                let fields = format!("Start session;LAB;{round}-{user}-{long};{long};{long};{long}");
                format!("/qseow-proxy-session/;pro2;{fields}").into_bytes()
            })
            .collect();
        core.take(&Batch::of(events.iter().map(|bytes| received(bytes)))).expect("the store is there");
        let now = core.clock.now();
        if !core.journal.has_room().expect("the store is there") {
            return;
        }
        core.commit(now).expect("the store is there");
    }
    panic!("the store takes more than it may");
}

#[test]
fn what_a_hanging_disk_has_no_room_for_is_dropped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut core, store, mut writer, telemetry) = core_before_a_hanging_disk(folder.path());
    fill(&mut core);
    let before = telemetry.snapshot().dropped_for(DropReason::StoreFull);
    let bytes = datagram("Start session");
    let batch = Batch::of([received(&bytes), received(&bytes)]);
    core.take(&batch).expect("the store is there");
    let dropped = telemetry.snapshot().dropped_for(DropReason::StoreFull);
    assert_eq!(dropped - before, 2);

    // The disk works again.
    assert!(writer.turn());
    let accepted = telemetry.snapshot().accepted;
    core.take(&batch).expect("the store is there");
    let snapshot = telemetry.snapshot();
    assert!(snapshot.accepted > accepted, "{snapshot:?}");
    assert_eq!(snapshot.dropped_for(DropReason::StoreFull), dropped);
    drop(store);
}

#[test]
fn what_a_disk_that_hangs_until_the_end_did_not_take_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut core, store, mut writer, telemetry) = core_before_a_hanging_disk(folder.path());
    fill(&mut core);
    // One more in the frame that will never be written.
    let bytes = datagram("Start session");
    let now = core.clock.now();
    core.processor.handle(now, Input::Datagram(received(&bytes)), &mut core.output);
    let (batches, receiver) = sync_channel(1);
    drop(batches);
    assert!(!core.run(&receiver, &channel().1).whole, "what is open is not on the disk either");
    let snapshot = telemetry.snapshot();
    assert!(snapshot.signal(Signal::Logs).expired >= 1, "{snapshot:?}");
    // What was on its way to the writer comes to the disk at last, and is pending.
    assert!(writer.turn());
    for signal in [Signal::Logs, Signal::Traces] {
        let balance = snapshot.signal_balance(signal, store.pending(signal).items);
        assert!(balance.is_exact(), "{signal}: {balance:?}");
    }
}

#[test]
fn what_a_store_that_has_ended_did_not_take_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut core, store, writer, telemetry) = core_before_a_hanging_disk(folder.path());
    store.close();
    writer.run();
    let bytes = datagram("Start session");
    let now = core.clock.now();
    core.processor.handle(now, Input::Datagram(received(&bytes)), &mut core.output);
    let (batches, receiver) = sync_channel(2);
    for _ in 0..2 {
        batches.send(Batch::of([received(&bytes)])).expect("the core takes them later");
    }
    drop(batches);
    assert!(!core.run(&receiver, &channel().1).whole);
    let snapshot = telemetry.snapshot();
    let logs = snapshot.signal(Signal::Logs);
    assert_eq!((logs.produced, logs.expired, logs.pending()), (1, 1, 0));
    assert_eq!(snapshot.dropped_for(DropReason::StoreFull), 2);
}

/// Acknowledges everything that waits, and lets the writer work.
fn deliver(store: &Store, writer: &mut crate::store::Writer) {
    assert!(writer.turn());
    for signal in [Signal::Logs, Signal::Traces] {
        let all = crate::store::Limit { bytes: usize::MAX, items: u64::MAX };
        while let Some(batch) = store.next(signal, crate::store::Position::START, all) {
            store.acknowledge(signal, batch.last);
        }
    }
}

/// Otherwise a kill after hours of silence would give them back to whoever is on; and the disk would never be left alone.
#[test]
fn the_running_time_is_kept_while_a_session_is_open_and_no_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut core, store, mut writer, _) = core_before_a_hanging_disk(folder.path());
    let written = || {
        let entries = std::fs::read_dir(folder.path().join("log")).expect("the log");
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len()).sum::<u64>()
    };
    let began = core.clock.now();
    let mut minutes = 0;
    for (command, grows) in [("Start session", true), ("Stop session", false)] {
        let bytes = datagram(command);
        core.processor.handle(began, Input::Datagram(received(&bytes)), &mut core.output);
        core.commit(began).expect("the store is there");
        deliver(&store, &mut writer);
        let mut tick = || {
            minutes += 2;
            core.journal
                .tick(Now { running: began.running + Duration::from_secs(60 * minutes), ..began }, &core.processor);
            assert!(writer.turn());
            written()
        };
        // What was acknowledged is noted once.
        let before = tick();
        assert_eq!(tick() > before, grows, "{command}");
    }
}
