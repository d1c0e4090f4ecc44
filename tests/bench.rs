//! `sense-otel bench`, short: it measures something, its figures can be true, and no datagram is unaccounted for. How
//! fast anything is is nobody's business here.

#![expect(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Measurements that run side by side measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs it with this folder for the store, which must be empty again afterwards.
fn bench(folder: &str, arguments: &[&str]) -> Output {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench").join(folder);
    fs::create_dir_all(&directory).expect("a folder to write to");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
    command.args(["bench", "--quick", "--directory"]).arg(&directory).args(arguments);
    let output = command.output().expect("the binary of this package");
    fs::remove_dir(&directory).expect("nothing is left behind");
    output
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Rows of one thing that was measured: at each load something was sent, at a rate that cannot exceed what was asked for.
fn check_rows(measured: &Value) {
    let rows = measured["rows"].as_array().expect("rows");
    let loads: Vec<_> = rows.iter().map(|row| row["load"].to_string()).collect();
    let expected = [
        r#"{"per_second":10}"#,
        r#"{"per_second":1000}"#,
        r#"{"per_second":10000}"#,
        r#""four_fifths""#,
        r#""ceiling""#,
    ];
    assert_eq!(loads, expected);
    for row in rows {
        let figures = &row["figures"];
        assert!(count(row, "sent") > 0 && count(row, "lost") <= count(row, "sent"), "{row}");
        assert!(number(figures, "events_per_second") > 0.0, "{row}");
        assert!(number(figures, "wire_bytes") > 0.0, "{row}");
        assert!(count(row, "latency_samples") <= count(row, "sent"), "{row}");
        if let (Some(p50), Some(p99)) = (figures["p50_ms"].as_f64(), figures["p99_ms"].as_f64()) {
            // Nothing at all, if the clock of the machine is set back meanwhile.
            assert!(0.0 <= p50 && p50 <= p99, "{row}");
        }
        if cfg!(target_os = "linux") {
            assert!(number(figures, "cpu_us") > 0.0 && number(figures, "rss_mb") > 1.0, "{row}");
        }
    }
    let ceiling = &rows[4];
    assert_eq!(count(ceiling, "lost"), 0, "the ceiling is a rate at which nothing is lost");
    // Every event that arrived was found again by what was sent, so that none is missing from the percentiles.
    assert_eq!(count(ceiling, "latency_samples"), count(ceiling, "sent"), "{ceiling}");
    assert!(ceiling["figures"]["p50_ms"].is_number(), "{ceiling}");
}

/// Measures one setup and returns its run.
fn measured(mode: &str, format: &str, compression: &str) -> Value {
    let output = bench(mode, &["--json", "--mode", mode, "--format", format, "--compression", compression]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["quick"], Value::Bool(true));
    let (limits, runs) = (&report["limits"], &report["runs"]);
    assert_eq!((limits.as_array().map(Vec::len), runs.as_array().map(Vec::len)), (Some(1), Some(1)));
    assert_eq!(limits[0]["format"], format);
    check_rows(&limits[0]);
    check_rows(&runs[0]);
    runs[0].clone()
}

fn check_counts(run: &Value) {
    let (counts, receiver) = (&run["counts"], &run["counts"]["receiver"]);
    let outcomes = ["accepted", "duplicate", "excluded", "rejected", "dropped", "held", "kernel_drops"];
    let total: u64 = outcomes.iter().map(|outcome| count(receiver, outcome)).sum();
    assert_eq!(total, count(counts, "sent"), "{counts}");
    // A search that goes too far may make a receiver give up records, but never more than it says.
    let (accepted, exported) = (count(receiver, "accepted"), count(counts, "exported"));
    assert!((exported..=exported + count(receiver, "given_up")).contains(&accepted), "{counts}");
    assert_eq!(counts["balanced"], Value::Bool(true));
    for outcome in ["duplicate", "excluded", "rejected", "held"] {
        assert_eq!(count(receiver, outcome), 0, "the load is one that has no {outcome} ones: {counts}");
    }
}

#[test]
fn a_durable_receiver_is_measured_and_every_datagram_accounted_for() {
    let run = measured("durable", "extended", "gzip");
    assert_eq!((&run["mode"], &run["compression"]), (&"durable".into(), &"gzip".into()));
    check_counts(&run);
    for row in run["rows"].as_array().expect("rows") {
        assert!(number(&row["to_limit"], "events_per_second") > 0.0, "{row}");
        if cfg!(target_os = "linux") {
            assert!(number(&row["to_limit"], "cpu_us") > 0.0, "{row}");
        }
    }
    // gzip makes requests of many records alike a good deal smaller than their datagrams.
    let wire = number(&run["rows"][4]["to_limit"], "wire_bytes");
    assert!(wire < 1.5, "{wire}");
}

#[test]
fn a_receiver_in_memory_is_measured_and_writes_nothing() {
    let run = measured("in-memory", "stock", "none");
    check_counts(&run);
    for row in run["rows"].as_array().expect("rows") {
        // Its log, and a file system's odds and ends.
        assert!(row["figures"]["disk_bytes"].as_f64().is_none_or(|bytes| bytes * number(row, "sent") < 1e6), "{row}");
    }
}

#[test]
fn for_a_person_there_is_a_table() {
    let output = bench("table", &["--mode", "in-memory", "--format", "extended", "--compression", "none"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["limit: extended", "in memory, extended, none", "80 % of ceiling", "  x limit", " exported\n"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    assert!(!text.contains("DOES NOT ADD UP"), "{text}");
}

#[test]
fn only_the_rates_that_were_asked_for_are_measured() {
    let setup = ["--mode", "in-memory", "--format", "extended", "--compression", "zstd"];
    let output = bench("rate", &[&["--json", "--rate", "300", "--rate", "600"], &setup[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    for measured in [&report["limits"][0], &report["runs"][0]] {
        let rows = measured["rows"].as_array().expect("rows");
        let loads: Vec<_> = rows.iter().map(|row| count(&row["load"], "per_second")).collect();
        assert_eq!(loads, [300, 600]);
        for (row, rate) in rows.iter().zip([300.0, 600.0]) {
            // A third of a second; a busy machine sends less.
            assert!(number(&row["figures"], "events_per_second") <= rate * 1.1, "{row}");
        }
    }
    let run = &report["runs"][0];
    assert_eq!(run["compression"], "zstd");
    check_counts(run);
}
