//! Each rule on text that breaks it, and on text that only looks as if it did.

use crate::rules::violations;
use crate::source::Source;

/// What is wrong with a file of this path and text, without the path in front.
fn found(path: &str, text: &str) -> Vec<String> {
    let found = violations(&Source::new(path, text));
    let prefix = format!("{path}:");
    found.into_iter().map(|violation| violation.trim_start_matches(&prefix).to_owned()).collect()
}

fn assert_found(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(found(path, text), expected, "{path}: {text}");
}

fn assert_clean(path: &str, text: &str) {
    assert_found(path, text, &[]);
}

#[test]
fn a_violation_tells_file_and_line() {
    let source = Source::new("src/time.rs", "//! Time.\n\nuse crate::signal::Span;\n");
    assert_eq!(violations(&source), ["src/time.rs:3: layer 0 imports `signal::Span` of layer 1"]);
}

#[test]
fn a_file_has_to_be_in_the_map() {
    assert_found("src/utils.rs", "", &["1: `utils` is not in the map of parts"]);
    assert_found("src/timer.rs", "", &["1: `timer` is not in the map of parts"]);
    assert_clean("src/store/segment.rs", "");
    assert_clean("src/receiver.rs", "");
    assert_clean("src/receiver/linux/socket.rs", "");
    assert_clean("src/admin/mod.rs", "");
}

#[test]
fn imports_point_strictly_down() {
    assert_clean("src/cli/mod.rs", "use crate::{config, pipeline::run, time::Timestamp};");
    assert_clean("src/main.rs", "fn main() { sense_otel::cli::main(); }");
    assert_found("src/receiver.rs", "use crate::config::Config;", &["1: layer 3 imports `config::Config` of layer 5"]);
    assert_found("src/receiver.rs", "use crate::exporter;", &["1: layer 3 imports `exporter` of layer 3"]);
    assert_found(
        "src/telemetry/mod.rs",
        "fn f() { crate::pipeline::run() }",
        &["1: layer 2 imports `pipeline::run` of layer 4"],
    );
    assert_found("src/store/mod.rs", "use sense_otel::cli::main;", &["1: layer 2 imports `cli::main` of layer 6"]);
    assert_found(
        "src/cli/mod.rs",
        "use crate::nowhere::Thing;",
        &["1: `crate::nowhere::Thing` is in no part of the map"],
    );
    assert_found("src/pipeline/mod.rs", "use crate::*;", &["1: `crate::*` is in no part of the map"]);
}

#[test]
fn groups_are_taken_apart_over_lines() {
    let text =
        "use crate::{\n    event,\n    signal::{self, Signal},\n    exporter::{client, retry::{Backoff as Wait}},\n};";
    assert_found(
        "src/store/mod.rs",
        text,
        &[
            "4: layer 2 imports `exporter::client` of layer 3",
            "4: layer 2 imports `exporter::retry::Backoff` of layer 3",
        ],
    );
    assert_found(
        "src/event/mod.rs",
        "pub use crate::{\n  time::Timestamp, // fine\n  signal::*,\n};",
        &["3: layer 1 imports `signal::*` of layer 1"],
    );
    assert_found(
        "src/store/mod.rs",
        "use super::{super::x, cli as c};",
        &["1: `super::super::x` is in no part of the map", "1: layer 2 imports `cli` of layer 6"],
    );
}

#[test]
fn ways_up_through_super_are_followed() {
    assert_clean("src/processor/session.rs", "use super::mapping::Span;\nuse super::super::signal::Span as Other;");
    assert_found(
        "src/processor/session.rs",
        "use super::super::exporter::Config;",
        &["1: layer 2 imports `exporter::Config` of layer 3"],
    );
    assert_found(
        "src/processor/session.rs",
        "fn f() { self::super::super::cli::main() }",
        &["1: layer 2 imports `cli::main` of layer 6"],
    );
    for root in ["use super as root;", "use super::{self as root};", "use crate as root;", "use self::super as root;"] {
        assert_eq!(found("src/time.rs", root).len(), 1, "{root}");
    }
    assert_found(
        "src/otlp/mod.rs",
        "use super::processor::Processor;",
        &["1: layer 2 imports `processor::Processor` of layer 2"],
    );
    assert_clean("src/time.rs", "mod inner { use super::Timestamp; }\n#[cfg(test)]\nmod tests { use super::*; }");
    assert_found(
        "src/time.rs",
        "mod inner { use super::super::cli::main; }",
        &["1: layer 0 imports `cli::main` of layer 6"],
    );
    assert_found(
        "src/time.rs",
        "#[cfg(test)]\nmod tests { use crate::cli; }",
        &["2: layer 0 imports `cli` of layer 6"],
    );
}

#[test]
fn what_restricts_visibility_is_no_import() {
    assert_clean("src/time.rs", "pub(crate) fn f() {}\npub(super) struct S;\npub(in crate::time) struct T;");
}

#[test]
fn pure_modules_import_only_pure_modules() {
    assert_found(
        "src/processor/mod.rs",
        "use crate::telemetry::Telemetry;",
        &["1: layer 2 imports `telemetry::Telemetry` of layer 2"],
    );
    assert_found(
        "src/exporter/retry.rs",
        "use super::client::Client;\nuse crate::{signal::Signal, store};",
        &[
            "1: a pure module imports `exporter::client::Client`, which is not pure",
            "2: a pure module imports `store`, which is not pure",
        ],
    );
    assert_clean("src/exporter/mod.rs", "use self::retry::Backoff;\nuse crate::store::Store;\nuse tokio::time::sleep;");
    assert_clean("src/exporter/retry.rs", "#[cfg(test)]\nmod tests { use crate::exporter::client::Client; }");
    assert_clean("src/exporter/retry/tests.rs", "use super::super::client::Client;");
}

#[test]
fn pure_modules_touch_nothing_outside() {
    let forbidden = [
        "use std::time::{Duration, Instant};",
        "use std::{fmt, fs::File};",
        "use std::{\n    collections::BTreeMap,\n    thread,\n};",
        "fn f() { let now = std::time::SystemTime::now(); }",
        "fn f() -> String { std::env::var(\"HOME\").unwrap_or_default() }",
        "use std::net::{IpAddr, UdpSocket};",
        "use std::net;\nfn f(socket: net::TcpStream) {}",
        "use tokio::sync::mpsc;",
        "async fn f() { ::tokio::task::yield_now().await }",
        "fn f() { tracing::info!(\"x\"); }",
        "fn f() { getrandom::fill(&mut [0; 8]).ok(); }",
        "fn f() -> u32 { fastrand::u32(..) }",
        "fn f() { fastrand::Rng::new(); }",
        "use fastrand::Rng;\nfn f() { Rng::new(); }",
        "use tonic::transport::Channel;",
        "fn f() { jiff::Timestamp::now(); }",
        "fn f() { println!(\"x\"); }",
        "fn f() { dbg!(1); }",
        "fn f(mut out: std::io::Stdout) { std::io::stdout(); }",
    ];
    for text in forbidden {
        assert!(!found("src/processor/mod.rs", text).is_empty(), "not found: {text}");
        assert_clean("src/pipeline/mod.rs", text);
        assert_clean("src/processor/mod.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}"));
        assert_clean("src/processor/mod.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}\nfn after() {{}}"));
        assert_clean("src/processor/tests.rs", text);
        let after = format!("#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse std::{{fs, env}};\nmod more {{ {text} }}");
        assert!(!found("src/processor/mod.rs", &after).is_empty(), "not found behind tests: {text}");
    }
    let allowed = [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::time::Duration;\nuse crate::time::Now;",
        "fn f(code: tonic::Code) {}",
        "fn f() { let mut random = fastrand::Rng::with_seed(7); random.u32(..); }",
        "/// Like `std::fs::read`, but no println!(..) and no tokio::spawn.\n/* std::thread /* nested */ std::env */",
        "const TEXT: &str = \"use std::fs; \\\" tokio::spawn\"; const RAW: &str = r#\"tracing::info!(\"x\")\"#;",
        "struct Fs { fs: u8, env: u8, thread: u8 }",
    ];
    for text in allowed {
        assert_clean("src/processor/mod.rs", text);
    }
}

#[test]
fn the_crate_head_holds_no_code() {
    assert_clean("src/lib.rs", "//! Head.\n#![deny(warnings)]\npub mod time;\n\n// Why.\nmod signal;\n");
    let expected = ["2: the crate head holds only attributes and `mod` lines"];
    assert_found("src/lib.rs", "pub mod time;\npub use time::Timestamp;", &expected);
    assert_found("src/lib.rs", "pub mod time;\nmod inner { fn f() {} }", &expected);
}

#[test]
fn files_have_a_size() {
    let line = "const A: u8 = 0;\n";
    assert_clean("src/time.rs", &line.repeat(400));
    assert_found("src/time.rs", &line.repeat(401), &["1: 401 lines of code, more than 400"]);
    let uncounted =
        format!("{}\n  // why\n/* why\nwhy */\n#[cfg(test)]\nmod tests {{\n{line}{line}}}\n", line.repeat(400));
    assert_clean("src/time.rs", &uncounted);
    assert_clean("src/time/tests.rs", &line.repeat(2000));
    let text = format!("const A: &str = \"\n{}\";\n", "// no comment\n".repeat(400));
    assert_found("src/time.rs", &text, &["1: 402 lines of code, more than 400"]);
}

#[test]
fn functions_have_a_size() {
    let function = |head: &str, lines: usize| format!("\n{head} {{\n{}}}\n", "    work();\n".repeat(lines));
    assert_clean("src/time.rs", &function("pub fn f()", 68));
    assert_found("src/time.rs", &function("pub fn f()", 69), &["2: `f` has 71 lines, more than 70"]);
    let heads =
        ["fn f(a: [u8; 2]) -> [u8; 2]", "impl X { fn f<'a>(a: &'a str) where Self: 'a", "async fn f(g: fn(u8))"];
    for head in heads {
        let close = if head.starts_with("impl") { "}" } else { "" };
        let text = function(head, 69) + close;
        assert_found("src/time.rs", &text, &["2: `f` has 71 lines, more than 70"]);
    }
    assert_clean("src/time.rs", &format!("#[cfg(test)]\nmod tests {{{}}}", function("fn f()", 100)));
    assert_clean("src/time.rs", &format!("trait T {{ fn f(&self); fn g(&self); }}{}", "const A: u8 = 0;\n".repeat(90)));
    let commented = function("fn f()", 60).replace("{\n", &format!("{{\n{}", "    // why\n\n".repeat(40)));
    assert_clean("src/time.rs", &commented);
}

#[test]
fn braces_that_are_no_braces_do_not_end_a_function() {
    let texts =
        ["'}'", "b'}'", "'\\''", "'\\\\'", "\"}\"", "\"\\\"}\"", "r\"}\\\"", "r#\"}\"}\"#", "b\"}\"", "br##\"\"#}\"##"];
    let comments = ["// }", "/* } /* } */ } */", "let r#match: &'static str = \"\"; // '}'", "let x: Option<&'_ str>;"];
    let lines = texts.map(|text| format!("let x = {text};"));
    for line in lines.iter().map(String::as_str).chain(comments) {
        let text = format!("fn f() {{\n{line}\n{}}}\nfn g() {{}}\n", "    work();\n".repeat(68));
        assert_clean("src/time.rs", &format!("fn f() {{\n{line}\n}}\n{}", "const A: u8 = 0;\n".repeat(80)));
        let expected =
            if line.starts_with('/') { vec![] } else { vec!["1: `f` has 71 lines, more than 70".to_owned()] };
        assert_eq!(found("src/time.rs", &text), expected, "{line}");
    }
}

#[test]
fn nothing_is_left_over() {
    assert_found(
        "src/time.rs",
        "fn f() { todo!() }\nfn g() { unimplemented!(\"later\") }",
        &["1: `todo!(` is left over", "2: `unimplemented!(` is left over"],
    );
    assert_found(
        "src/time.rs",
        "#[cfg(test)]\nmod tests {\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n}",
        &["4: `#[ignore` is left over"],
    );
    assert_clean("src/time.rs", "// todo!() is what we never write, nor #[ignore]\nfn f() { let todo = 1; }");
}
