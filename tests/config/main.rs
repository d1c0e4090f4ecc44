//! The configuration as a user meets it: what is read, what is refused and in which words, and what is never shown.
//!
//! The environment and the resolver are the tests' own, except where the real binary runs.

#![expect(clippy::expect_used, clippy::panic, reason = "what a test's helper finds wrong fails the test")]

mod drift;
mod environment;
mod faults;
mod files;
mod hostile;
mod rules;
mod secrets;
mod written;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use sense_otel::config::{self, Fault, Faults, Loaded};
use tempfile::TempDir;

/// Name of the configuration in messages.
const NAME: &str = "sense-otel.yaml";

fn read(text: &str) -> Result<Loaded, Faults> {
    read_with(text, &[])
}

/// Reads a text with these environment variables and no other.
fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Faults> {
    config::parse(NAME, text, environment_of(variables), resolve)
}

fn environment_of(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// The names of a small network; every other one is not known.
fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    match host {
        "sense1" => Ok(vec![Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into()]),
        "sense2" => Ok(vec![Ipv4Addr::new(10, 0, 0, 3).to_ipv6_mapped().into(), Ipv6Addr::LOCALHOST.into()]),
        "nobody" => Ok(Vec::new()),
        _ => Err(io::Error::other("name or service not known")),
    }
}

fn valid(text: &str) -> Loaded {
    valid_with(text, &[])
}

fn valid_with(text: &str, variables: &[(&str, &str)]) -> Loaded {
    read_with(text, variables).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

fn refused(text: &str) -> Faults {
    refused_with(text, &[])
}

fn refused_with(text: &str, variables: &[(&str, &str)]) -> Faults {
    match read_with(text, variables) {
        Ok(loaded) => panic!("no fault in\n{text}\n{}", loaded.to_yaml()),
        Err(faults) => faults,
    }
}

/// A fault on one line: `line:column path: message (suggestion)`.
fn line_of(fault: &Fault) -> String {
    let place = fault.place.map(|place| format!("{}:{} ", place.line, place.column)).unwrap_or_default();
    let suggestion = fault.suggestion.as_ref().map(|suggestion| format!(" ({suggestion})")).unwrap_or_default();
    format!("{place}{fault}{suggestion}")
}

fn lines_of(faults: &Faults) -> Vec<String> {
    faults.iter().map(line_of).collect()
}

/// Every row is a text and all of its faults.
fn check(rows: &[(&str, &[&str])]) {
    for (text, expected) in rows {
        assert_eq!(lines_of(&refused(text)), *expected, "{text}");
    }
}

/// Folder of the package.
fn package(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The binary without colours and without the variables that a configuration looks at.
fn sense_otel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION"] {
        command.env_remove(format!("OTEL_EXPORTER_OTLP_{name}"));
    }
    command.env_remove("OTEL_RESOURCE_ATTRIBUTES");
    command
}

fn run(arguments: &[&str]) -> Output {
    sense_otel(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A file with these bytes in a folder of its own, which goes when it is dropped.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn of(bytes: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        std::fs::write(&path, bytes).expect("a file");
        Self { _folder: folder, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    fn load(&self) -> Result<Loaded, Faults> {
        config::load(Some(&self.path), environment_of(&[]), resolve)
    }
}
