//! The real file system, and two processes that want the same store.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sense_otel::signal::Signal;
use sense_otel::store::storage::FileSystem;
use sense_otel::store::{OpenError, Opened, Store, Unobserved};

use super::{Rig, config, log, upsert};

/// Tells the other process where the store is.
const FOLDER: &str = "SENSE_OTEL_TEST_STORE";

fn open(folder: &Path) -> Result<Opened, OpenError> {
    Store::open(&config(1 << 20), Arc::new(FileSystem::new(folder)), Arc::new(Unobserved))
}

#[test]
fn a_second_process_is_refused_until_the_first_has_ended() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // This is the second process: it says what it sees by how it ends.
        let code = match open(Path::new(&folder)) {
            Ok(_) => 41,
            Err(OpenError::InUse) => 42,
            Err(_) => 43,
        };
        std::process::exit(code);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let other = || {
        let name = "two_processes::a_second_process_is_refused_until_the_first_has_ended";
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", name]).env(FOLDER, folder.path());
        command.output().expect("a second process").status.code()
    };
    let first = open(folder.path()).expect("a new store");
    assert_eq!(other(), Some(42));
    assert!(matches!(open(folder.path()), Err(OpenError::InUse)));
    drop(first);
    assert_eq!(other(), Some(41));
}

#[test]
fn it_works_on_the_real_file_system_as_on_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("made").join("when needed");
    let rig = || Rig::open_in(Arc::new(FileSystem::new(&directory)), 64 * 1024);
    let mut first = rig();
    for number in 0..50 {
        first.commit(vec![log(&format!("{number:02}{}", "x".repeat(200)))], upsert("key", &number.to_string()), None);
        if number == 25 {
            first.checkpoint(&std::collections::BTreeMap::from([(b"key".to_vec(), b"25".to_vec())]));
        }
    }
    std::fs::write(directory.join("log").join("notes.txt"), "foreign").expect("written");
    first.close();
    let second = rig();
    assert_eq!(second.texts(Signal::Logs).len(), 50);
    assert_eq!(second.records()[&b"key"[..]], b"49");
    assert_eq!(second.recovered.damage.moved, ["notes.txt"]);
    assert_eq!(std::fs::read(directory.join("damaged").join("notes.txt")).expect("kept"), b"foreign");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let segment = std::fs::read_dir(directory.join("log")).expect("there").next().expect("one").expect("one");
        assert_eq!(mode(&segment.path()), 0o600);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    assert!(matches!(open(&file.join("below")), Err(OpenError::Unusable(_))));
}
