//! What people look at: the configurations in `otel-config/`, run with a real collector; and the dashboards, alerts and
//! questions of an administrator, answered by real servers.
//!
//! `.ci/backends` builds the collector and the servers and runs these tests. Without them they pass, saying that they did
//! nothing; with `SENSE_OTEL_REQUIRE_BACKENDS=1` they fail.
#![cfg(unix)]
#![allow(clippy::panic, clippy::cast_precision_loss, reason = "a test says what it found, and counts no billions")]

use std::io::{Write, stderr};
use std::thread;

mod answers;
mod collectors;
mod dashboards;
mod http;
mod intake;
mod logql;
#[path = "../e2e/received.rs"]
#[allow(dead_code, reason = "shared with the test `e2e`, which looks at more of it")]
mod received;
mod servers;
mod site;
#[path = "../support/stand.rs"]
mod stand;
#[path = "../support/mod.rs"]
mod support;
mod traceql;
#[path = "../e2e/truth.rs"]
#[allow(dead_code, reason = "shared with the test `e2e`, which looks at more of it")]
mod truth;

/// Says so where the test runner does not swallow it.
fn skipped(why: &str) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    // A test does not fail because nobody listens.
    let _ = writeln!(stderr(), "SKIPPED {name}, {why}");
}
