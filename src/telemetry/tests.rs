use std::io::Write;
use std::sync::{LazyLock, Mutex};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;

use super::*;

/// A log to read.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    /// Makes the log of this thread go here until the guard is dropped.
    pub(super) fn install(&self, level: &str) -> DefaultGuard {
        // With a single subscriber alive, tracing asks the thread that comes to a log line first whether anybody is
        // interested, and remembers its answer for all. Another test's thread has no subscriber and would say no.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&SECOND);
        let writer = self.clone();
        let subscriber = log::subscriber(level, move || writer.clone(), false).expect("a level");
        tracing::subscriber::set_default(subscriber)
    }

    /// Its lines, without their times.
    pub(super) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("no writer panics").clone();
        let text = String::from_utf8(bytes).expect("lines are text");
        text.lines().map(|line| line.split_once('Z').expect("a time").1.trim().to_owned()).collect()
    }
}

/// Every line that `happening` makes the log write.
fn lines_of(happening: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let installed = written.install("info");
    happening();
    drop(installed);
    written.lines()
}

#[test]
fn whoever_sends_what_is_refused_is_named() {
    let telemetry = Telemetry::default();
    let sender = "::ffff:10.1.2.3".parse().expect("an address");
    let lines = lines_of(|| {
        telemetry.dropped(DropReason::DeniedSource, 2, Some(sender));
        telemetry.dropped(DropReason::ChannelFull, 1, None);
    });
    assert!(lines[0].contains("denied_source") && lines[0].contains("sender=\"10.1.2.3\""), "{lines:?}");
    assert!(lines[1].contains("channel_full") && !lines[1].contains("sender"), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_node_is_met_when_it_is_heard_and_not_when_its_sessions_are_restored() {
    let telemetry = Telemetry::default();
    let active = |node: &str| {
        let last_event = Timestamp::EPOCH;
        vec![NodeActivity { node: node.to_owned(), sessions: 1, connections: 0, users: 1, last_event }]
    };
    let lines = lines_of(|| {
        telemetry.set_active(active("restored"));
        telemetry.event("restored", Action::SessionStop);
        telemetry.event("new", Action::SessionStart);
        telemetry.set_active(active("new"));
    });
    let met: Vec<_> = lines.iter().filter(|line| line.contains("for the first time")).collect();
    assert!(met.len() == 1 && met[0].contains("new"), "{lines:?}");
}

#[test]
fn each_happening_moves_its_own_counter() {
    let telemetry = Telemetry::default();
    telemetry.received(100);
    telemetry.accepted(40);
    telemetry.duplicate(10);
    telemetry.excluded(5);
    telemetry.held(3);
    telemetry.held(2);
    for (position, reason) in (0..).zip(RejectReason::ALL) {
        telemetry.rejected(reason, position);
    }
    telemetry.dropped(DropReason::StoreFull, 1, None);
    telemetry.dropped(DropReason::Superseded, 2, None);
    telemetry.kernel_dropped(9);

    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.rejected_for(RejectReason::TooManyNodes), 9);
    assert_eq!(snapshot.rejected_for(RejectReason::Empty), 0);
    assert_eq!(snapshot.dropped_for(DropReason::StoreFull), 1);
    assert_eq!(snapshot.held, 2);
    assert_eq!(snapshot.datagrams_balance(), Balance { incoming: 100, outgoing: 40 + 10 + 5 + 2 + 45 + 3 });
    assert_eq!(snapshot.lost(), 1 + 9, "a superseded datagram came twice");
}

#[test]
fn items_balance_by_signal() {
    let telemetry = Telemetry::default();
    telemetry.produced(Signal::Logs, 10);
    telemetry.produced(Signal::Traces, 7);
    telemetry.acknowledged(Signal::Logs, 4);
    telemetry.refused(Signal::Logs, 1, "too old");
    telemetry.quarantined(Signal::Logs, 2, Code::InvalidArgument, "no", 1);
    telemetry.expired(Signal::Logs, 1, ExpiryReason::Size);

    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.signal(Signal::Logs).pending(), 2);
    assert!(snapshot.signal_balance(Signal::Logs, 2).is_exact());
    assert!(snapshot.signal_balance(Signal::Traces, 7).is_exact());
    assert!(!snapshot.signal_balance(Signal::Traces, 0).is_exact());
}

#[test]
fn what_an_earlier_process_left_is_on_its_side_of_both_equations() {
    let telemetry = Telemetry::default();
    let recovery =
        Recovery { sessions: 3, held: 2, rejected: 1, damaged: 4, newer: 5, no_room: 3, ..Recovery::default() };
    let lines = lines_of(|| {
        telemetry.restored(Signal::Traces, 7);
        telemetry.recovered(&recovery);
        telemetry.store_damaged(6, 100, 1);
        telemetry.store_records_are_old();
        telemetry.store_files_set_aside(&["a.segment".to_owned()], &["b.segment".to_owned()]);
    });
    let snapshot = telemetry.snapshot();
    assert_eq!((snapshot.restored_held, snapshot.held), (3, 2));
    assert_eq!(snapshot.datagrams_balance(), Balance { incoming: 3, outgoing: 3 });
    assert_eq!(snapshot.signal(Signal::Traces).pending(), 7);
    assert_eq!((snapshot.store_lost_frames, snapshot.store_lost_records), (6, 9));
    let errors = lines.iter().filter(|line| line.starts_with("ERROR")).count();
    assert_eq!(errors, 6, "{lines:#?}");
}

#[test]
fn a_disk_that_fails_is_told_and_counted_until_it_works_again() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        telemetry.store_file_abandoned("input_output");
        telemetry.store_file_stuck("forbidden");
        telemetry.store_degraded("disk_full");
        assert!(telemetry.snapshot().store_degraded);
        telemetry.store_durable();
    });
    let snapshot = telemetry.snapshot();
    assert_eq!((snapshot.store_degraded, snapshot.store_failures), (false, 3));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[2].contains("DEGRADED") && lines[2].contains("disk_full"), "{lines:#?}");
}

#[test]
fn nodes_are_counted_without_case_and_within_bounds() {
    let telemetry = Telemetry::default();
    telemetry.event("PRO2-Win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::SessionStart);
    telemetry.event("pro2-win1", Action::ConnectionOpen);
    telemetry.gap("PRO2-WIN1", 4);
    telemetry.restarted("pro2-win1");
    let [node] = <[NodeCounts; 1]>::try_from(telemetry.snapshot().nodes).expect("one node");
    assert_eq!(node.node, "PRO2-Win1");
    assert_eq!(node.events_of(Action::SessionStart), 2);
    assert_eq!(node.events_of(Action::ConnectionOpen), 1);
    assert_eq!((node.gaps, node.missing, node.restarts), (1, 4, 1));

    for forged in 0..10_000 {
        telemetry.event(&format!("forged-{forged}"), Action::SessionStop);
    }
    let nodes = telemetry.snapshot().nodes;
    assert_eq!(nodes.len(), 257);
    let events: u64 = nodes.iter().map(|node| node.events.iter().sum::<u64>()).sum();
    assert_eq!(events, 10_003, "beyond the bound nothing is lost, only summed up");
    let other = nodes.iter().find(|node| node.node == OTHER).expect("the rest");
    assert_eq!(other.events_of(Action::SessionStop), 10_000 - 255);
}

#[test]
fn a_hostile_node_name_costs_little_and_prints_plainly() {
    let telemetry = Telemetry::default();
    let name = format!("evil\u{1b}[2J\u{202e}\n{}", "x".repeat(60_000));
    let lines = lines_of(|| telemetry.event(&name, Action::SessionStart));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() < 400 && !lines[0].contains('\u{1b}') && !lines[0].contains('\u{202e}'), "{lines:?}");
    assert!(telemetry.snapshot().nodes[0].node.len() <= 256);
}

#[test]
fn a_flood_is_one_line_with_what_to_do() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        for _ in 0..10_000 {
            telemetry.rejected(RejectReason::Utf16, 1);
            telemetry.dropped(DropReason::ChannelFull, 2, None);
        }
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN datagrams rejected: the text is UTF-16; set <encoding"), "{lines:?}");
    assert!(lines[0].ends_with("reason=\"utf16\" datagrams=1"), "{lines:?}");
    assert!(lines[1].contains("reason=\"channel_full\" datagrams=2"), "{lines:?}");
    assert_eq!(telemetry.snapshot().rejected_for(RejectReason::Utf16), 10_000);
    assert_eq!(telemetry.snapshot().dropped_for(DropReason::ChannelFull), 20_000);
}

#[test]
fn what_a_backend_says_cannot_forge_a_line() {
    let telemetry = Telemetry::default();
    let hostile = format!("bad\r\n2026-01-01 ERROR all is lost\u{1b}[2J{}", "\u{200b}long ".repeat(1000));
    let lines = lines_of(|| {
        telemetry.refused(Signal::Logs, 3, &hostile);
        telemetry.remarked(Signal::Logs, &hostile);
        telemetry.quarantined(Signal::Traces, 1, Code::InvalidArgument, &hostile, 1);
        telemetry.discarded(Signal::Traces, 1, Code::InvalidArgument, &hostile, &hostile);
        telemetry.retrying(Signal::Logs, Code::Unavailable, &hostile, Duration::from_secs(2));
        telemetry.parked(Signal::Metrics, Code::Unimplemented, &hostile);
        telemetry.receive_failed(&io::Error::other(hostile.clone()));
    });
    assert_eq!(lines.len(), 7, "{lines:#?}");
    for line in lines {
        assert!(line.len() < 800, "{line}");
        assert!(line.chars().all(|character| !character.is_control() && character != '\u{200b}'), "{line}");
    }
}

#[test]
fn a_remark_is_a_warning_with_the_number_of_calls_and_no_loss() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        for _ in 0..1000 {
            telemetry.remarked(Signal::Logs, "your clock is\nlate");
        }
    });
    let what = "WARN the backend takes everything, and has something to say signal=logs calls=1";
    assert_eq!(lines, [format!("{what} answer=\"your clock is late\"")]);
    assert_eq!((telemetry.snapshot().signal(Signal::Logs).remarks, telemetry.snapshot().lost()), (1000, 0));
}

#[test]
fn what_is_given_up_is_an_error_that_says_whether_it_is_kept() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        telemetry.quarantined(Signal::Logs, 2, Code::InvalidArgument, "too old", 17);
        telemetry.discarded(Signal::Logs, 1, Code::InvalidArgument, "too old", "disk\nfull");
        telemetry.pushed_out(0);
        telemetry.pushed_out(3);
    });
    let [quarantined, discarded, pushed_out] = <[String; 3]>::try_from(lines).expect("three lines");
    assert!(quarantined.starts_with("ERROR quarantined: the backend would never take them; "), "{quarantined}");
    let what = "signal=logs items=2 answer=\"InvalidArgument: too old; kept as request 17\"";
    assert!(quarantined.ends_with(what), "{quarantined}");
    let what = "ERROR discarded: the backend would never take them signal=logs items=1";
    assert_eq!(discarded, format!("{what} answer=\"InvalidArgument: too old; not kept: disk full\""));
    assert!(pushed_out.starts_with("ERROR the quarantine is full: ") && pushed_out.ends_with("requests=3"));
    let snapshot = telemetry.snapshot();
    let logs = snapshot.signal(Signal::Logs);
    assert_eq!((logs.quarantined, logs.discarded, snapshot.pushed_out, snapshot.lost()), (3, 1, 3, 3));
}

#[test]
fn a_recovered_signal_is_told_once() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        telemetry.delivering(Signal::Logs);
        telemetry.retrying(Signal::Logs, Code::Unavailable, "", Duration::from_secs(1));
        telemetry.retrying(Signal::Logs, Code::Unavailable, "", Duration::from_secs(2));
        telemetry.delivering(Signal::Traces);
        telemetry.delivering(Signal::Logs);
        telemetry.delivering(Signal::Logs);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("Unavailable; next try in 1.0 s"), "{lines:#?}");
    assert!(lines[1].starts_with("INFO delivering again after") && lines[1].ends_with("signal=logs"), "{lines:#?}");
}

#[test]
fn an_error_of_the_names_file_is_told_with_its_causes() {
    let telemetry = Telemetry::default();
    let error = io::Error::other(init_log("sense_otel=loud").expect_err("no such level"));
    let lines = lines_of(|| telemetry.app_names_failed(Path::new("apps.csv"), &error));
    assert!(lines[0].starts_with("WARN the file of app names cannot be used file=apps.csv reason="), "{lines:?}");
    assert!(lines[0].contains("filter directive: error parsing level filter"), "{lines:?}");
}

#[test]
fn a_small_receive_buffer_is_a_warning() {
    let telemetry = Telemetry::default();
    let lines = lines_of(|| {
        telemetry.receive_buffer(Some(16 << 20), 208 << 10);
        telemetry.receive_buffer(Some(16 << 20), 32 << 20);
        telemetry.receive_buffer(None, 16 << 20);
        telemetry.kernel_dropped_earlier(0);
        telemetry.kernel_dropped_earlier(3);
    });
    assert!(lines[0].starts_with("WARN") && lines[0].contains("rmem_max"), "{lines:#?}");
    assert!(lines[1].starts_with("INFO"), "{lines:#?}");
    assert!(lines[2].starts_with("INFO") && lines[2].contains("chosen by the service manager"), "{lines:#?}");
    assert!(lines[3].starts_with("WARN") && lines[3].contains("datagrams=3"), "{lines:#?}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_level_that_is_no_directive_is_an_error() {
    let error = init_log("sense_otel=loud").expect_err("no such level");
    assert!(matches!(error, LogError::Level(_)), "{error}");
}

#[test]
fn log_files_are_named_by_the_day_and_appended_to() {
    let folder = tempfile::tempdir().expect("a folder");
    for line in ["one", "two"] {
        let mut file = log_file(&folder.path().join("log")).expect("a file");
        file.write_all(format!("{line}\n").as_bytes()).expect("a line");
    }
    let files: Vec<_> = std::fs::read_dir(folder.path().join("log")).expect("a folder").collect();
    assert_eq!(files.len(), 1, "or midnight has come in between");
    let path = files[0].as_ref().expect("an entry").path();
    assert_eq!(std::fs::read_to_string(&path).expect("text"), "one\ntwo\n");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("sense-otel.20") && name.ends_with(".log") && name.len() == 25, "{name}");
    // A file where the folder should be.
    let error = log_file(&path).err().expect("no folder");
    assert!(matches!(error, LogError::Folder(_)), "{error}");
}
