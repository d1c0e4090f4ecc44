//! What the backend will never take is on the disk before the cursor passes it, and holds nothing up.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::SystemTime;

use sense_otel::store::storage::{File, FileSystem, Lock, Storage};
use sense_otel::store::{self, Opened, Poison, QuarantineId};

use super::told::Written;
use super::*;

/// A store on disk whose writer has a thread of its own.
fn durable(folder: &Path) -> Store {
    on_disk(Arc::new(FileSystem::new(folder)))
}

fn on_disk(storage: Arc<dyn Storage>) -> Store {
    let config = store::Config {
        directory: Path::new("not looked at").to_owned(),
        max_size: 1 << 30,
        max_age: Duration::from_secs(3600),
    };
    let Opened { store, writer, .. } = Store::open(&config, storage, Arc::new(Unobserved)).expect("a usable folder");
    thread::spawn(move || writer.run());
    store
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Refuses every call that carries one of these log records.
fn refuse(poison: &'static [u32]) -> impl FnMut(&Received) -> Answer {
    move |call| match numbers(call).iter().find(|number| poison.contains(number)) {
        Some(number) => Answer::status(Code::InvalidArgument, &format!("no\u{1b}[2J\nsuch field in {number}")),
        None => Answer::Ok,
    }
}

fn quarantined(store: &Store) -> Vec<(QuarantineId, Poison)> {
    let list = store.quarantine().list().expect("a readable folder");
    list.iter().map(|kept| (kept.id, store.quarantine().read(kept.id).expect("a whole file"))).collect()
}

#[tokio::test]
async fn exactly_the_refused_requests_are_on_the_disk_and_the_others_are_delivered() {
    let (folder, collector) = (folder(), Collector::start());
    collector.rule(Signal::Logs, refuse(&[7, 31]));
    let backlog: Vec<_> = (0..20).map(|number| logs(number * 2..number * 2 + 2)).collect();
    let written = Written::default();
    let _this_thread = written.install();
    let began = SystemTime::now();
    let rig = Rig::on(durable(folder.path()), config(collector.addr()), backlog.clone());
    rig.store.append(Commit { requests: vec![spans(3)], ..Commit::default() }).expect("room");
    rig.telemetry.produced(Signal::Traces, 3);
    assert!(rig.store.flush(GRACE));
    rig.delivered(Signal::Logs).await;
    rig.delivered(Signal::Traces).await;

    let kept = quarantined(&rig.store);
    assert_eq!(kept.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 2]);
    let mut bodies: Vec<_> = kept.iter().map(|(_, poison)| poison.body.clone()).collect();
    bodies.sort();
    let mut expected = vec![backlog[3].body.clone(), backlog[15].body.clone()];
    expected.sort();
    assert_eq!(bodies, expected, "byte for byte what was stored");
    for (_, poison) in &kept {
        let about = &poison.about;
        assert_eq!((about.signal, about.items, about.code), (Signal::Logs, 2, Code::InvalidArgument as u32));
        assert!(about.reason.starts_with("no[2J such field in "), "{}", about.reason);
        let began = began.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
        assert!(u128::from(about.wall.as_nanos()) >= began);
    }
    let good: Vec<u32> = (0..40).filter(|number| ![6, 7, 30, 31].contains(number)).collect();
    assert_eq!(sorted(accepted(&collector)), good);
    assert_eq!(collector.accepted(Signal::Traces).len(), 1);

    let (store, telemetry) = (rig.store.clone(), rig.telemetry.clone());
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (36, 4));
    assert_eq!(telemetry.snapshot().signal(Signal::Logs).discarded, 0);
    let lines = written.lines();
    assert!(lines[0].starts_with("ERROR quarantined: the backend would never take them; "), "{lines:?}");
    assert!(lines[0].contains("such field in ") && lines[0].ends_with("; kept as request 1\""), "{lines:?}");

    // The cursor is behind them: the next process sends nothing of it.
    store.close();
    drop(store);
    while fs::File::open(folder.path().join("lock")).expect("a lock").try_lock().is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    let store = durable(folder.path());
    assert_eq!(store.pending(Signal::Logs).items, 0);
    assert_eq!(quarantined(&store), kept);
}

#[tokio::test]
async fn of_what_is_too_large_only_the_part_that_cannot_be_sent_is_kept() {
    let (folder, collector) = (folder(), Collector::start());
    collector.rule(Signal::Logs, |call| match call.body.len() {
        size if size > 20_000 => Answer::status(Code::ResourceExhausted, "message too large"),
        _ => Answer::Ok,
    });
    let mut giant = ExportLogsServiceRequest::decode(logs_of(0..9, 100).body).expect("a request");
    giant.resource_logs[0].scope_logs[0].log_records[5].severity_text = "x".repeat(50_000);
    let giant = ExportRequest { body: giant.encode_to_vec().into(), ..logs(0..9) };
    let rig = Rig::on(durable(folder.path()), config(collector.addr()), vec![giant]);
    assert!(rig.store.flush(GRACE));
    rig.delivered(Signal::Logs).await;
    let [(_, poison)] = <[_; 1]>::try_from(quarantined(&rig.store)).expect("one");
    assert_eq!((poison.about.items, poison.about.code), (1, Code::ResourceExhausted as u32));
    let kept = ExportLogsServiceRequest::decode(poison.body).expect("a request of logs");
    assert_eq!(kept.resource_logs[0].scope_logs[0].log_records[0].event_name, "event-5");
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (8, 1));
}

#[tokio::test]
async fn what_cannot_be_kept_is_told_and_holds_nothing_up() {
    let (unusable, collector) = (folder(), Collector::start());
    collector.rule(Signal::Logs, refuse(&[1]));
    // A file where the folder should be: nothing can be put there, by whatever user.
    fs::write(unusable.path().join("quarantine"), b"").expect("a file");
    let budget = Budget { bytes: 1 << 20, age: Duration::from_secs(3600) };
    let in_memory = Store::in_memory(budget, Arc::new(Unobserved));
    for (store, why) in [(durable(unusable.path()), "not kept: the quarantine cannot"), (in_memory, "in memory\"")] {
        let written = Written::default();
        let _this_thread = written.install();
        let rig = Rig::on(store, config(collector.addr()), (0..3).map(|number| logs(number..number + 1)).collect());
        assert!(rig.store.flush(GRACE));
        rig.delivered(Signal::Logs).await;
        let telemetry = rig.telemetry.clone();
        let counts = rig.stop(GRACE).await;
        assert_eq!((counts.acknowledged, counts.quarantined), (2, 1));
        assert_eq!(telemetry.snapshot().signal(Signal::Logs).discarded, 1);
        let lines = written.lines();
        assert!(lines[0].starts_with("ERROR discarded: the backend would never take them "), "{lines:?}");
        assert!(lines[0].contains(why), "{lines:?}");
    }
}

#[tokio::test]
async fn what_had_to_make_room_is_told() {
    let (folder, collector) = (folder(), Collector::start());
    collector.rule(Signal::Logs, refuse(&[1]));
    let full = folder.path().join("quarantine");
    fs::create_dir(&full).expect("a folder");
    // Without content it takes up no room, and counts as full all the same.
    let large = fs::File::create(full.join("00000000000000000001.request")).expect("a file");
    large.set_len(256 << 20).expect("a sparse file");
    let written = Written::default();
    let _this_thread = written.install();
    let rig = Rig::on(durable(folder.path()), config(collector.addr()), vec![logs(1..2)]);
    assert!(rig.store.flush(GRACE));
    rig.delivered(Signal::Logs).await;
    assert_eq!(quarantined(&rig.store).iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2]);
    assert_eq!(rig.telemetry.snapshot().pushed_out, 1);
    let lines = written.lines();
    assert!(lines.iter().any(|line| line.starts_with("ERROR the quarantine is full: ")), "{lines:?}");
    rig.stop(GRACE).await;
}

/// A file system in which a quarantined request gets its name only when that is allowed.
#[derive(Debug)]
struct Slow {
    files: FileSystem,
    allowed: Arc<(Mutex<bool>, Condvar)>,
}

impl Storage for Slow {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.files.list(folder)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.files.create_folder(folder)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.files.create(path)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.files.open(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (allowed, changed) = &*self.allowed;
        drop(changed.wait_while(allowed.lock().expect("no panic"), |allowed| !*allowed).expect("no panic"));
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

#[tokio::test]
async fn the_cursor_waits_for_the_disk_and_the_other_signal_does_not() {
    let (folder, collector) = (folder(), Collector::start());
    collector.rule(Signal::Logs, refuse(&[0]));
    let allowed = Arc::new((Mutex::new(false), Condvar::new()));
    let store = on_disk(Arc::new(Slow { files: FileSystem::new(folder.path()), allowed: Arc::clone(&allowed) }));
    let rig = Rig::on(store, config(collector.addr()), vec![logs(0..1)]);
    assert!(rig.store.flush(GRACE));
    collector.wait("the refusal", |calls| !calls.is_empty()).await;

    // Later ones are sent meanwhile, and are pending until the first of them is done with.
    rig.append(vec![logs(1..2), spans(1)]);
    rig.delivered(Signal::Traces).await;
    collector
        .wait("the next logs", |calls| calls.iter().any(|call| call.signal == Signal::Logs && call.accepted))
        .await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.store.pending(Signal::Logs).items, 2);
    assert_eq!((rig.logs().acknowledged, rig.logs().quarantined), (0, 0));

    let (is_allowed, changed) = &*allowed;
    *is_allowed.lock().expect("no panic") = true;
    changed.notify_all();
    rig.delivered(Signal::Logs).await;
    assert_eq!(quarantined(&rig.store).len(), 1);
    let counts = rig.stop(GRACE).await;
    assert_eq!((counts.acknowledged, counts.quarantined), (1, 1));
}
