//! `sense-otel quarantine` as a user meets it: the real binary, a folder of requests, and a collector to send them to.

#![expect(clippy::expect_used, reason = "what a test's helper finds wrong fails the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use sense_otel::signal::Signal;
use sense_otel::store::storage::FileSystem;
use sense_otel::store::{About, Poison, Quarantine};
use sense_otel::time::Timestamp;
use tempfile::TempDir;
use tonic::Code;

use support::collector::{Answer, Collector};

mod support;

/// A store with a quarantine, and a configuration beside it.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("data/log")).expect("a folder");
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn quarantine(&self) -> Quarantine {
        Quarantine::new(Arc::new(FileSystem::new(&self.data())))
    }

    /// Puts aside a request with `items` log records of which each has this as its body.
    fn put(&self, items: u32, body: &str, reason: &str) -> Bytes {
        let bytes = logs(items, body);
        let wall = Timestamp::from_nanos(1_795_652_633_000_000_000);
        let about = About { signal: Signal::Logs, items, code: 3, reason: reason.to_owned(), wall };
        let _ = self.quarantine().put(&Poison { about, body: bytes.clone() }).expect("a usable folder");
        bytes
    }

    fn ids(&self) -> Vec<u64> {
        self.quarantine().list().expect("a readable folder").iter().map(|request| request.id.0).collect()
    }

    /// Writes the configuration of a receiver that sends there.
    fn configure(&self, endpoint: &str) -> String {
        let file = self.folder.path().join("sense-otel.yaml");
        let yaml = format!(
            "exporter: {{ endpoint: \"{endpoint}\", compression: none, timeout: 2s }}\nstore: {{ directory: '{}' }}\n",
            self.data().display()
        );
        fs::write(&file, yaml).expect("a file");
        file.to_str().expect("text").to_owned()
    }

    fn directory(&self) -> String {
        self.data().to_str().expect("text").to_owned()
    }

    fn replay(&self, collector: &Collector, what: &[&str]) -> Output {
        let config = self.configure(&format!("http://{}", collector.addr()));
        run(&[&["replay", "--config", config.as_str()][..], what].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
    command.arg("quarantine").args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION"] {
        command.env_remove(format!("OTEL_EXPORTER_OTLP_{name}"));
    }
    command.output().expect("the binary runs")
}

fn logs(items: u32, body: &str) -> Bytes {
    let value = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let user = KeyValue { key: "user.id".to_owned(), value: value(r"LAB\goran"), ..KeyValue::default() };
    let record = LogRecord {
        event_name: "session.start".to_owned(),
        body: value(body),
        attributes: vec![user],
        ..LogRecord::default()
    };
    let log_records = vec![record; items as usize];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, stdout: &str) {
    assert_eq!(text(&output.stdout), stdout, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[test]
fn the_list_has_a_line_for_each_and_says_so_if_there_is_none() {
    let site = Site::new();
    let directory = site.directory();
    assert_ends(&run(&["list", "--directory", &directory]), 0, "the quarantine is empty\n");
    site.put(2, "x", "no such field");
    site.put(3, "y", "evil\u{1b}[2J\u{202e}\r\nline");
    let config = site.configure("http://localhost:1");
    for place in [["--directory", directory.as_str()], ["--config", config.as_str()]] {
        let output = run(&[&["list"][..], &place].concat());
        let list = text(&output.stdout);
        let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["ID", "GIVEN", "UP", "SIGNAL", "ITEMS", "BYTES", "CODE", "REASON"], "{list}");
        assert_eq!(lines[1][..4], ["1", "2026-11-26T00:23:53Z", "logs", "2"], "{list}");
        assert_eq!(lines[1][5..], ["InvalidArgument", "no", "such", "field"], "{list}");
        assert_eq!(lines[2][5..], ["InvalidArgument", "evil[2J", "line"], "{list}");
        assert_eq!(lines[3][..4], ["requests:", "2,", "items:", "5,"], "{list}");
        assert_eq!(lines.len(), 4, "{list}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn a_request_is_shown_with_everything_in_it_and_nothing_that_touches_a_terminal() {
    let site = Site::new();
    let directory = site.directory();
    let bytes = site.put(1, "a\u{1b}[2J\u{202e}b\nc", "evil\u{1b}[2J\u{202e}\r\nline");
    let output = run(&["show", "1", "--directory", &directory]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("request   1\ngiven up  2026-11-26T00:23:53.000Z\nholds     1 log record, "), "{shown}");
    assert!(shown.contains("code      InvalidArgument (3)\nreason    evil[2J line\n\nresource\n"), "{shown}");
    assert!(shown.contains("\n  log record session.start\n"), "{shown}");
    assert!(shown.lines().any(|line| line.contains("user.id") && line.ends_with(r"LAB\goran")), "{shown}");
    assert!(shown.lines().any(|line| line.ends_with(r"a\u{1b}[2J\u{202e}b\u{a}c")), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\r']), "{shown:?}");

    let file = site.folder.path().join("request.bin");
    let raw = ["show", "1", "--directory", &directory, "--raw", file.to_str().expect("text")];
    let output = run(&raw);
    let told = format!("{} bytes written to {}\n", bytes.len(), file.display());
    assert_ends(&output, 0, &told);
    assert_eq!(fs::read(&file).expect("a file"), bytes);
    let output = run(&raw);
    assert_eq!(output.status.code(), Some(1), "an existing file is not written over");
    assert!(text(&output.stderr).starts_with("error: cannot write "), "{}", text(&output.stderr));
    let output = run(&["show", "1", "--directory", &directory, "--raw", "-"]);
    assert_eq!((output.stdout, output.status.code()), (bytes.to_vec(), Some(0)));
}

#[cfg(unix)]
#[test]
fn the_raw_bytes_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    site.put(1, "x", "no");
    let file = site.folder.path().join("request.bin");
    run(&["show", "1", "--directory", &site.directory(), "--raw", file.to_str().expect("text")]);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_damaged_file_is_told_and_is_no_end_to_the_others() {
    let (site, collector) = (Site::new(), Collector::start());
    let directory = site.directory();
    site.put(1, "x", "no");
    site.put(1, "y", "no");
    let file = site.data().join("quarantine/00000000000000000001.request");
    let mut bytes = fs::read(&file).expect("a file");
    *bytes.last_mut().expect("some bytes") ^= 1;
    fs::write(&file, bytes).expect("a file");

    let output = run(&["list", "--directory", &directory]);
    let list = text(&output.stdout);
    assert!(list.lines().nth(1).is_some_and(|line| line.ends_with("the file is damaged or cannot be read")), "{list}");
    assert!(list.contains("requests: 2, items: 1, bytes: "), "{list}");
    let output = run(&["show", "1", "--directory", &directory]);
    assert_ends(&output, 1, "");
    assert_eq!(text(&output.stderr), "error: request 1 in the quarantine is damaged\n");

    let expected = "\
1: not sent: its file is damaged
2: taken, 1 log record
requests: 2 (1 arrived whole)
";
    assert_ends(&site.replay(&collector, &["--all"]), 1, expected);
    assert_eq!(site.ids(), [1], "the damaged one is left for whoever can make something of it");
}

#[test]
fn bytes_that_are_no_request_can_still_be_had() {
    let site = Site::new();
    let about =
        About { signal: Signal::Traces, items: 1, code: 13, reason: String::new(), wall: Timestamp::from_nanos(0) };
    let _ = site.quarantine().put(&Poison { about, body: Bytes::from_static(b"\x0a\xff") }).expect("a usable folder");
    let output = run(&["show", "1", "--directory", &site.directory()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("request   1\n"), "{}", text(&output.stdout));
    let told = "error: request 1 holds no readable traces; --raw FILE writes it as it is: ";
    assert!(text(&output.stderr).starts_with(told), "{}", text(&output.stderr));
}

#[test]
fn what_is_not_there_is_a_clear_message() {
    let (site, collector) = (Site::new(), Collector::start());
    site.put(1, "x", "no");
    let output = run(&["show", "9", "--directory", &site.directory()]);
    assert_ends(&output, 1, "");
    assert_eq!(text(&output.stderr), "error: there is no request 9 in the quarantine\n");
    let output = site.replay(&collector, &["1", "9"]);
    assert_ends(&output, 1, "");
    assert_eq!(text(&output.stderr), "error: there is no request 9 in the quarantine\n");
    assert_eq!((collector.received().len(), site.ids()), (0, vec![1]), "nothing was sent");

    for arguments in [&["list"][..], &["show", "1"]] {
        let nowhere = site.folder.path().join("mistyped");
        let output = run(&[arguments, &["--directory", nowhere.to_str().expect("text")]].concat());
        assert_ends(&output, 1, "");
        assert!(text(&output.stderr).starts_with("error: there is no store in "), "{}", text(&output.stderr));
    }
    for arguments in [&[][..], &["replay"], &["replay", "1", "--all"], &["show"], &["show", "one"], &["replay", "-1"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_replay_sends_each_once_and_removes_what_was_taken() {
    let (site, collector) = (Site::new(), Collector::start());
    let bodies: Vec<Bytes> = (1..=4).map(|items| site.put(items, "x", "no")).collect();
    let expected = "3: taken, 3 log records\n1: taken, 1 log record\nrequests: 2 (2 arrived whole)\n";
    assert_ends(&site.replay(&collector, &["3", "1", "3"]), 0, expected);
    assert_eq!(site.ids(), [2, 4]);
    let expected = "2: taken, 2 log records\n4: taken, 4 log records\nrequests: 2 (2 arrived whole)\n";
    assert_ends(&site.replay(&collector, &["--all"]), 0, expected);
    assert_eq!(site.ids(), Vec::<u64>::new());
    let received: Vec<Bytes> = collector.received().into_iter().map(|call| call.body).collect();
    assert_eq!(received, [2, 0, 1, 3].map(|index: usize| bodies[index].clone()), "the bytes as they were stored");
    assert_ends(&site.replay(&collector, &["--all"]), 0, "the quarantine is empty\n");
}

/// A receiver at work. Dropping it kills it.
struct Receiver {
    child: Child,
    /// Where it listens.
    address: String,
    /// Keeps what it writes from filling the pipe.
    _log: JoinHandle<()>,
}

impl Receiver {
    fn start(config: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sense-otel"))
            .args(["run", "--config", config])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.contains("listening (UDP)")).expect("it starts");
        let address = listening.split_once("address=").expect("an address").1.trim().to_owned();
        Self { child, address, _log: thread::spawn(move || lines.for_each(drop)) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_receiver_at_work_has_put_aside_can_be_shown_and_sent_beside_it() {
    let (site, collector) = (Site::new(), Collector::start());
    collector.answer(Signal::Logs, [Answer::status(Code::InvalidArgument, "no such field")]);
    let config = site.configure(&format!("http://{}", collector.addr()));
    let mut yaml = fs::read_to_string(&config).expect("a file");
    yaml.push_str("receiver: { udp: { endpoint: \"127.0.0.1:0\" } }\nadmin: { endpoint: \"127.0.0.1:0\" }\n");
    fs::write(&config, yaml).expect("a file");
    let receiver = Receiver::start(&config);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let session = "/qseow-proxy-session/;pro2-win2;Start session;LAB;goran;AppAccess;/app/;Start session for user";
    sender.send_to(session.as_bytes(), &receiver.address).expect("loopback takes datagrams");
    let began = Instant::now();
    while site.ids().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing was put aside");
        thread::sleep(Duration::from_millis(20));
    }

    let shown = run(&["show", "1", "--config", &config]);
    assert!(text(&shown.stdout).contains("log record session.start\n"), "{}", text(&shown.stdout));
    let output = run(&["replay", "1", "--config", &config]);
    assert_ends(&output, 0, "1: taken, 1 log record\nrequests: 1 (1 arrived whole)\n");
    assert_eq!(site.ids(), Vec::<u64>::new());
    let logs = collector.received().into_iter().filter(|call| call.signal == Signal::Logs).collect::<Vec<_>>();
    assert_eq!(logs.iter().map(|call| call.accepted).collect::<Vec<_>>(), [false, true]);
    assert_eq!(logs[0].body, logs[1].body);
}

#[test]
fn what_is_refused_again_stays_unless_a_part_of_it_was_taken() {
    let (site, collector) = (Site::new(), Collector::start());
    for items in [3, 3, 3, 3, 1] {
        site.put(items, "x", "no");
    }
    let partial = |rejected, message: &str| Answer::Partial { rejected, message: message.to_owned() };
    collector.answer(
        Signal::Logs,
        [
            Answer::status(Code::InvalidArgument, "still\u{1b}[2J\nno"),
            partial(2, "too old"),
            partial(3, "too old"),
            partial(0, "your clock is late"),
        ],
    );
    let expected = "\
1: refused again and kept: InvalidArgument: still[2J no
2: taken and removed, but 2 of 3 log records were refused: too old
3: refused again and kept, all of 3 log records: too old
4: taken, 3 log records: your clock is late
5: taken, 1 log record
requests: 5 (2 arrived whole)
";
    assert_ends(&site.replay(&collector, &["--all"]), 1, expected);
    assert_eq!(site.ids(), [1, 3]);
    assert_eq!(collector.received().len(), 5, "each once");
}

#[test]
fn a_backend_that_cannot_be_delivered_to_ends_the_replay() {
    let (site, collector) = (Site::new(), Collector::start());
    for _ in 0..3 {
        site.put(1, "x", "no");
    }
    collector.answer(Signal::Logs, [Answer::Ok, Answer::status(Code::Unauthenticated, "who are you")]);
    let expected = "\
1: taken, 1 log record
2: not delivered and kept: Unauthenticated: who are you
stopped: 1 not tried
requests: 3 (1 arrived whole)
";
    assert_ends(&site.replay(&collector, &["--all"]), 1, expected);
    assert_eq!(site.ids(), [2, 3]);

    let config = site.configure(&format!("http://{}", collector.addr()));
    collector.stop();
    let output = run(&["replay", "--all", "--config", &config]);
    let told = text(&output.stdout);
    assert!(told.starts_with("2: not delivered and kept: Unavailable: "), "{told}");
    assert!(told.ends_with("\nstopped: 1 not tried\nrequests: 2 (0 arrived whole)\n"), "{told}");
    assert_eq!((output.status.code(), site.ids()), (Some(1), vec![2, 3]));
}
