//! The demo as a user meets it: the real binary, from simulated users over UDP and gRPC to the terminal.

#![expect(clippy::expect_used, reason = "what a test's helper finds wrong fails the test")]

use std::process::{Command, Output, Stdio};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sense-otel"))
        .arg("demo")
        .args(arguments)
        .env_remove("NO_COLOR")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

#[test]
fn five_sessions_are_five_waterfalls_and_nothing_is_lost() {
    let output = demo(&["--sessions", "5", "--speed", "4000"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{error}");

    let bars: Vec<&str> = text.lines().filter(|line| line.starts_with("  session ")).collect();
    assert_eq!(bars.len(), 5, "{text}");
    assert!(bars.iter().all(|bar| bar.contains('█')), "{text}");
    assert!(text.lines().any(|line| line.starts_with("  ") && !line.starts_with("  session ")), "connections: {text}");

    let event = |line: &&str| line.get(..8).is_some_and(|time| time.split(':').all(|part| part.len() == 2));
    assert!(text.lines().filter(event).count() >= 5, "event lines: {text}");
    let summary = text.lines().last().expect("a summary");
    assert!(summary.ends_with("records lost: 0."), "{summary}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "no colours and no progress line in a pipe: {text}");
    assert!(text.contains("a working day of 8 hours in 7 seconds"), "time is compressed, and it says so: {text}");
}

#[test]
fn an_empty_backend_address_is_a_mistake_on_the_command_line() {
    assert_eq!(demo(&["--otlp", "not a url"]).status.code(), Some(2));
}
