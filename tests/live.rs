//! The live page and its interfaces, over real HTTP from a pipeline at work.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sense_otel::admin;
use sense_otel::event::Action;
use sense_otel::pipeline::{Config, Running, start};
use sense_otel::processor::filter::Handling;
use sense_otel::telemetry::{PageRefusal, Snapshot};
use serde_json::Value;

use support::collector::Collector;
use support::rig::config;

mod support;

const PATIENCE: Duration = Duration::from_secs(20);

/// A pipeline with a page, and somebody who sends to it.
struct Rig {
    running: Running,
    socket: UdpSocket,
    page: SocketAddr,
    sent: u64,
    _collector: Collector,
}

/// One answer.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Rig {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let collector = Collector::start();
        let mut config = Config { admin: Some(admin::Config::at("127.0.0.1:0")), ..config(collector.addr()) };
        change(&mut config);
        let running = start(config).expect("a pipeline");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(running.local_addresses()[0]).expect("the pipeline listens");
        let page = running.page_addresses().first().copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self { running, socket, page, sent: 0, _collector: collector }
    }

    fn session(&mut self, node: &str, user: &str) {
        self.send(&format!("/qseow-proxy-session/;{node};Start session;LAB;{user};AppAccess;;Start session for user"));
    }

    fn app(&mut self, node: &str, user: &str, app: u32) {
        self.send(&format!(
            "/qseow-proxy-connection/;{node};Open connection;LAB;{user};AppAccess;/app/{};connection Opened for session \
             UserAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0.0.0 Safari/537.36'",
            app_id(app)
        ));
    }

    fn send(&mut self, datagram: &str) {
        self.socket.send(datagram.as_bytes()).expect("loopback takes datagrams");
        self.sent += 1;
    }

    fn snapshot(&self) -> Snapshot {
        self.running.telemetry().snapshot()
    }

    /// Waits until the core has taken everything that was sent.
    fn settle(&self) {
        let began = Instant::now();
        while self.snapshot().received < self.sent || !self.snapshot().datagrams_balance().is_exact() {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.snapshot());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> Answer {
        ask(self.page, &format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.page))
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.code, 200, "{path}: {answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
        serde_json::from_str(&answer.body).expect("JSON")
    }

    fn who(&self, arguments: &[&str]) -> Output {
        who(&[&["--at", &self.page.to_string()], arguments].concat())
    }
}

fn app_id(app: u32) -> String {
    format!("a421f4a2-c311-4ef4-ba41-{app:012x}")
}

fn who(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
    command.arg("who").args(arguments).env("TZ", "UTC").stdin(Stdio::null()).output().expect("the binary runs")
}

/// Sends a request as it stands, and reads to the end.
fn ask(page: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(page).expect("the page listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it answers and closes");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { code, head: head.to_lowercase(), body: body.to_owned() }
}

fn users(answer: &Value) -> Vec<&str> {
    answer["sessions"].as_array().expect("sessions").iter().filter_map(|session| session["user"].as_str()).collect()
}

#[test]
fn who_is_on_is_who_was_sent() {
    let mut rig = Rig::start();
    for user in ["anna", "bo", "cecilia"] {
        rig.session("node1", user);
    }
    rig.session("node2", "david");
    rig.app("node1", "anna", 1);
    rig.app("node1", "anna", 2);
    rig.app("node2", "david", 2);
    rig.settle();

    let all = rig.json("/api/sessions?order=user");
    assert_eq!(users(&all), ["LAB\\anna", "LAB\\bo", "LAB\\cecilia", "LAB\\david"]);
    assert_eq!(all["open"], serde_json::json!({ "sessions": 4, "connections": 3, "users": 4 }));
    assert_eq!((&all["matching"], &all["peak"]["sessions"]), (&4.into(), &4.into()), "{all:#}");
    let anna = &all["sessions"][0];
    assert_eq!((&anna["node"], &anna["state"]), (&"node1".into(), &"active".into()));
    assert_eq!(anna["browser"], "Chrome 126, Windows");
    assert_eq!((&anna["connections_open"], &anna["connections_opened"]), (&2.into(), &2.into()));
    let apps: Vec<&str> =
        anna["apps"].as_array().expect("apps").iter().filter_map(|app| app["app_id"].as_str()).collect();
    assert_eq!(apps, [app_id(1), app_id(2)]);

    for (filter, expected) in [
        ("user=ANN", vec!["LAB\\anna"]),
        ("user=lab%5Cb", vec!["LAB\\bo"]),
        ("app=ba41-000000000002", vec!["LAB\\anna", "LAB\\david"]),
        ("node=node2", vec!["LAB\\david"]),
        ("app=ba41-000000000002&node=NODE1", vec!["LAB\\anna"]),
        ("user=nobody", vec![]),
    ] {
        let found = rig.json(&format!("/api/sessions?order=user&{filter}"));
        assert_eq!(users(&found), expected, "{filter}");
        assert_eq!((&found["matching"], &found["open"]["sessions"]), (&expected.len().into(), &4.into()), "{filter}");
    }
    let two = rig.json("/api/sessions?order=user&limit=2");
    assert_eq!((users(&two), &two["matching"]), (vec!["LAB\\anna", "LAB\\bo"], &4.into()));
    assert_eq!(rig.get("/api/sessions?usr=anna").code, 400, "a filter with a slip would show everyone");
}

#[test]
fn a_closed_app_and_an_ended_session_are_gone() {
    let mut rig = Rig::start();
    rig.session("node1", "anna");
    rig.session("node1", "bo");
    rig.app("node1", "anna", 1);
    rig.settle();
    assert_eq!(users(&rig.json("/api/sessions")).len(), 2);
    rig.send(&format!(
        "/qseow-proxy-connection/;node1;Close connection;LAB;anna;AppAccess;/app/{};connection Closed for session",
        app_id(1)
    ));
    rig.send("/qseow-proxy-session/;node1;Stop session;LAB;bo;AppAccess;;Stop session for user");
    rig.settle();
    let answer = rig.json("/api/sessions");
    assert_eq!(users(&answer), ["LAB\\anna"]);
    let anna = &answer["sessions"][0];
    assert_eq!((&anna["apps"], &anna["closed"][0]["app"]), (&serde_json::json!([]), &app_id(1).into()), "{anna:#}");
    assert_eq!(answer["peak"]["sessions"], 2, "the second has ended, and was there: {answer:#}");
}

#[test]
fn every_answer_forbids_the_browser_everything_that_is_not_ours() {
    let rig = Rig::start();
    for (path, code, kind) in [
        ("/", 200, "text/html"),
        ("/?user=anna", 200, "text/html"),
        ("/page.js", 200, "text/javascript"),
        ("/page.css", 200, "text/css"),
        ("/icon.svg", 200, "image/svg+xml"),
        ("/api/sessions", 200, "application/json"),
        ("/status", 200, "application/json"),
        ("/metrics", 200, "text/plain"),
        ("/nothing", 404, "text/plain"),
        ("/../etc/passwd", 404, "text/plain"),
    ] {
        let answer = rig.get(path);
        assert_eq!(answer.code, code, "{path}");
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{path}: {}", answer.head);
        let policy =
            answer.head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
        for header in ["x-content-type-options: nosniff", "cache-control: no-store", "x-frame-options: deny"] {
            assert!(answer.head.contains(header), "{path} has no {header}");
        }
    }
    let page = rig.get("/").body;
    assert!(
        !page.contains("http:") && !page.contains("https:") && !page.contains("style=") && !page.contains("<script>")
    );
}

#[test]
fn strangers_are_refused() {
    let mut rig = Rig::start();
    rig.session("node1", "anna");
    rig.settle();
    let page = rig.page;
    let request = |line: &str, headers: &str| ask(page, &format!("{line} HTTP/1.1\r\n{headers}\r\n"));
    let own = format!("Host: {page}\r\n");
    assert_eq!(request("GET /api/sessions", &own).code, 200);
    assert_eq!(request("HEAD /api/sessions", &own).body, "");
    let localhost = format!("Host: localhost:{}\r\nOrigin: http://localhost:{0}\r\n", page.port());
    assert_eq!(request("GET /api/sessions", &localhost).code, 200);
    for (line, headers, code) in [
        // A name of somebody else that leads here.
        ("GET /api/sessions", "Host: evil.example\r\n".to_owned(), 403),
        ("GET http://evil.example/api/sessions", own.clone(), 403),
        ("GET /api/sessions", "Host: evil.example\r\nHost: localhost\r\n".to_owned(), 403),
        ("GET /api/sessions", String::new(), 403),
        // A page of somebody else that asks.
        ("GET /api/sessions", format!("{own}Origin: http://evil.example\r\n"), 403),
        ("GET /api/events", format!("{own}Origin: null\r\n"), 403),
        ("GET /api/sessions", format!("{own}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"), 403),
        // Whoever wants to change something.
        ("POST /api/sessions", format!("{own}Content-Length: 0\r\n"), 405),
        ("DELETE /", own.clone(), 405),
        ("OPTIONS /api/sessions", own, 405),
    ] {
        let answer = request(line, &headers);
        assert_eq!(answer.code, code, "{line} {headers}");
        assert!(!answer.body.contains("anna"), "{line} {headers}");
        assert!(answer.head.contains("content-security-policy"), "{line} {headers}");
    }
    let refused = rig.running.telemetry().snapshot().page_refused;
    let count =
        |reason| PageRefusal::ALL.iter().zip(refused).find(|(each, _)| **each == reason).map(|(_, count)| count);
    assert_eq!([PageRefusal::Host, PageRefusal::Origin, PageRefusal::Method].map(count), [Some(4), Some(3), Some(3)]);
    assert_eq!(refused.iter().sum::<u64>(), 10);
}

#[test]
fn other_machines_need_a_word_in_the_configuration() {
    let remote = admin::Config { allow_remote: true, ..admin::Config::at("0.0.0.0:0") };
    assert!(!admin::bind(&remote).expect("a free port").local_addresses().is_empty());
    let error = admin::bind(&admin::Config::at("0.0.0.0:0")).expect_err("it was not allowed");
    assert!(error.to_string().contains("other machines"), "{error}");
}

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&\u{202e}\u{1b}[2J\u{200b}end";

#[test]
fn a_hostile_name_is_text_and_no_more() {
    let mut rig = Rig::start();
    rig.session("node1<script>", HOSTILE);
    rig.app("node1<script>", HOSTILE, 1);
    rig.settle();
    let answer = rig.json("/api/sessions");
    let session = &answer["sessions"][0];
    assert_eq!(session["user"], "LAB\\<img src=x onerror=alert(1)>\"'&[2Jend", "{answer:#}");
    assert_eq!(session["node"], "node1<script>");

    let output = rig.who(&[]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("LAB\\<img src=x onerror=alert"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{200b}', '\r', '\u{7}']), "{text:?}");
}

#[test]
fn privacy_holds_on_the_page() {
    let mut rig = Rig::with(|config| config.processor.privacy.user = Handling::Hash);
    rig.session("node1", "goran");
    rig.app("node1", "goran", 1);
    rig.settle();
    let mut stream = Stream::open(&rig, "/api/events");
    let view = stream.until(|view| view["events"].as_array().is_some_and(|events| events.len() == 2));
    assert_eq!(view["sessions"].as_array().map(Vec::len), Some(1));
    for text in [view.to_string(), rig.get("/api/sessions").body] {
        assert!(!text.to_lowercase().contains("goran"), "{text}");
    }
}

/// A page that listens.
struct Stream {
    reader: BufReader<TcpStream>,
}

impl Stream {
    fn open(rig: &Rig, path: &str) -> Self {
        let mut stream = TcpStream::connect(rig.page).expect("the page listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", rig.page).expect("it reads");
        Self { reader: BufReader::new(stream) }
    }

    fn view(&mut self) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.reader.read_line(&mut line).expect("the stream goes on");
            assert!(read > 0, "the stream has ended");
            if let Some(text) = line.strip_prefix("data: ") {
                return serde_json::from_str(text).expect("JSON");
            }
        }
    }

    fn until(&mut self, is_enough: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let view = self.view();
            if is_enough(&view) {
                return view;
            }
            assert!(began.elapsed() < PATIENCE, "{view:#}");
        }
    }
}

#[test]
fn the_page_hears_of_what_happens_while_it_listens() {
    let mut rig = Rig::start();
    rig.session("node1", "anna");
    rig.settle();
    let mut everyone = Stream::open(&rig, "/api/events");
    let mut bo = Stream::open(&rig, "/api/events?user=bo");
    let view = everyone.until(|view| view["open"]["sessions"] == 1);
    assert_eq!(view["events"][0]["text"], "LAB\\anna started a session on node1");
    assert_eq!(bo.view()["events"], serde_json::json!([]), "this is not of bo");

    rig.session("node1", "bo");
    rig.app("node1", "anna", 7);
    let sent = Instant::now();
    let view = everyone.until(|view| view["open"]["connections"] == 1);
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    assert_eq!(view["open"]["sessions"], 2);
    assert_eq!(view["apps"], serde_json::json!([{ "name": app_id(7), "sessions": 1 }]));
    assert_eq!((&view["nodes"][0]["name"], &view["nodes"][0]["sessions"]), (&"node1".into(), &2.into()));
    let view = bo.until(|view| view["matching"] == 1);
    assert_eq!(view["events"].as_array().map(Vec::len), Some(1), "told once: {view:#}");
    assert_eq!(view["events"][0]["text"], "LAB\\bo started a session on node1");
    assert!(view["health"]["notes"].as_array().is_some_and(|notes| notes.len() >= 4), "{view:#}");
}

#[test]
fn after_more_events_than_it_can_show_the_page_goes_on() {
    let mut rig = Rig::start();
    let mut stream = Stream::open(&rig, "/api/events");
    (0..500).for_each(|number| rig.session("node1", &format!("one{number}")));
    // Of the same second nothing more is shown, but of the next, whenever that begins.
    let is_late = |event: &Value| event["text"].as_str().is_some_and(|text| text.starts_with("LAB\\late"));
    let shown = (0..20).any(|number| {
        rig.session("node1", &format!("late{number}"));
        stream.view()["events"].as_array().is_some_and(|events| events.iter().any(is_late))
    });
    assert!(shown);
}

#[test]
fn ten_thousand_sessions_are_shown_and_no_event_waits_for_them() {
    let mut rig = Rig::start();
    let mut page = Stream::open(&rig, "/api/events?limit=1000");
    let began = Instant::now();
    for user in 0..10_000_u32 {
        rig.session(&format!("node{}", user % 4), &format!("user{user:05}"));
        // A busy machine may leave the core no time, which is not what is tried here.
        if user % 200 == 0 {
            rig.settle();
        }
    }
    rig.settle();
    let view = page.until(|view| view["open"]["sessions"] == 10_000);
    assert_eq!((&view["matching"], view["sessions"].as_array().map(Vec::len)), (&10_000.into(), Some(1000)));
    let all = rig.json("/api/sessions?limit=10000&order=user");
    let found = users(&all);
    assert_eq!(found.len(), 10_000);
    assert!(found.iter().enumerate().all(|(index, user)| *user == format!("LAB\\user{index:05}")), "each once");
    assert_eq!(users(&rig.json("/api/sessions?user=user09999")), ["LAB\\user09999"]);
    let snapshot = rig.snapshot();
    assert_eq!((snapshot.accepted, snapshot.lost()), (10_000, 0), "after {:?}: {snapshot:?}", began.elapsed());
}

#[test]
fn metrics_are_the_numbers_of_the_receiver() {
    let mut rig = Rig::start();
    rig.session("node1", "anna");
    rig.session("node2", "bo");
    rig.app("node1", "anna", 1);
    rig.send("/qseow-proxy-session/;node2;Stop session;LAB;bo;AppAccess;;Stop session for user");
    rig.send("/unknown/;a;b;c;d;e;f;g");
    rig.settle();
    // What is open is told once a second.
    let began = Instant::now();
    let text = loop {
        let answer = rig.get("/metrics");
        assert_eq!(answer.code, 200);
        if value(&answer.body, "qlik_sense_connection_active", &["qlik_sense_node=\"node1\""]) == Some(1.0) {
            break answer.body;
        }
        assert!(began.elapsed() < PATIENCE, "{}", answer.body);
        thread::sleep(Duration::from_millis(100));
    };
    let snapshot = rig.snapshot();
    for node in &snapshot.nodes {
        let label = format!("qlik_sense_node=\"{}\"", node.node);
        for action in Action::ALL {
            let event = format!("qlik_sense_event=\"{}\"", action.event_name());
            let counted = value(&text, "qlik_sense_events_total", &[&label, &event]).unwrap_or(0.0);
            assert!((counted - node.events_of(action) as f64).abs() < 0.1, "{label} {event}: {text}");
        }
    }
    assert_eq!(value(&text, "qlik_sense_session_active", &["node1"]), Some(1.0), "{text}");
    assert_eq!(value(&text, "qlik_sense_session_active", &["node2"]), Some(0.0), "{text}");
    assert_eq!(value(&text, "qlik_sense_session_duration_seconds_count", &["node2", "stopped"]), Some(1.0), "{text}");
    assert_eq!(value(&text, "sense_otel_receiver_datagrams_total", &["accepted"]), Some(4.0), "{text}");
    assert_eq!(value(&text, "sense_otel_receiver_datagrams_total", &["unknown_type"]), Some(1.0), "{text}");
    assert!(text.contains("# TYPE qlik_sense_events_total counter") && text.contains("target_info{"), "{text}");
    assert!(!text.contains("anna"), "no user is ever a label");
}

/// The value of the only series with this name and these pieces of labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let mut lines = text.lines().filter(is_it);
    let line = lines.next()?;
    assert_eq!(lines.next(), None, "more than one {name} {labels:?}");
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_backend_that_is_down_is_told_and_restarts_nobody() {
    let nowhere = "http://127.0.0.1:9".parse().expect("an address");
    let mut rig = Rig::with(|config| config.exporter.endpoint = nowhere);
    let status = rig.json("/status");
    assert_eq!((&status["status"], &status["healthy"]), (&"StatusOK".into(), &true.into()), "{status:#}");
    rig.session("node1", "anna");
    rig.settle();
    let began = Instant::now();
    let status = loop {
        let status = rig.json("/status?verbose");
        if status["components"]["exporter:logs"]["status"] == "StatusRecoverableError" {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&status["status"], &status["healthy"]), (&"StatusRecoverableError".into(), &true.into()), "{status:#}");
    assert_eq!(status["components"]["receiver"]["status"], "StatusOK", "{status:#}");
    assert_eq!(rig.json("/status?pipeline=traces")["status"], "StatusOK", "no span has ended yet");
    assert_eq!(rig.get("/status?pipeline=profiles").code, 404);
    let view = Stream::open(&rig, "/api/events").view();
    assert_eq!(view["health"]["level"], "bad", "{view:#}");
    assert_eq!(users(&view), ["LAB\\anna"], "who is on is known all the same");
}

#[test]
fn who_asks_too_much_gets_nothing_and_keeps_nobody_from_the_page() {
    let rig = Rig::start();
    let long = ask(rig.page, &format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000)));
    assert!((400..500).contains(&long.code), "{}", long.code);
    let many: String = (0..100).map(|header| format!("X-{header}: y\r\n")).collect();
    let many = ask(rig.page, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"));
    assert!((400..500).contains(&many.code), "{}", many.code);
    assert!((400..500).contains(&ask(rig.page, "\u{16}\u{3}\u{1}nonsense\r\n\r\n").code));

    let listening: Vec<Stream> = (0..16).map(|_| Stream::open(&rig, "/api/events")).collect();
    let mut listening = listening;
    listening.iter_mut().for_each(|stream| drop(stream.view()));
    assert_eq!(rig.get("/api/events").code, 503, "the seventeenth page");
    assert_eq!(rig.get("/api/sessions").code, 200);
    drop(listening);

    // Connections on which nobody asks anything: closed after a while, and until then the rest is served or turned away.
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(rig.page).expect("the system takes connections")).collect();
    let began = Instant::now();
    loop {
        let mut stream = TcpStream::connect(rig.page).expect("the system takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut text = String::new();
        if stream.read_to_string(&mut text).is_ok() && text.contains("200 OK") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the page never came back");
        thread::sleep(Duration::from_millis(100));
    }
    drop(silent);
    let [connections, viewers, .., slow] = rig.running.telemetry().snapshot().page_refused;
    assert_eq!(viewers, 1);
    // Those that found no room, the silent ones among them, and those that asked nothing for five seconds.
    assert!(connections >= 36 && slow >= 1, "{connections} turned away, {slow} too slow");
}

#[test]
fn a_port_that_is_taken_costs_no_event_and_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let mut rig = Rig::with(|config| config.admin = Some(admin::Config::at(&address.to_string())));
    assert_eq!(rig.running.page_addresses(), []);
    rig.session("node1", "anna");
    rig.settle();
    assert_eq!(rig.snapshot().accepted, 1);
    drop(taken);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < PATIENCE, "it was not tried again");
        thread::sleep(Duration::from_millis(100));
    }
    rig.page = address;
    assert_eq!(users(&rig.json("/api/sessions")), ["LAB\\anna"]);
    assert!(rig.running.stop().clean);
}

#[test]
fn the_page_goes_with_the_receiver() {
    let rig = Rig::start();
    let mut stream = Stream::open(&rig, "/api/events");
    drop(stream.view());
    let began = Instant::now();
    assert!(rig.running.stop().clean);
    assert!(began.elapsed() < Duration::from_secs(5), "a page that listens holds nothing up: {:?}", began.elapsed());
    assert!(TcpStream::connect(rig.page).is_err(), "nobody listens any more");
}

#[test]
fn who_shows_a_table_and_json_and_filters() {
    let mut rig = Rig::start();
    rig.session("node1", "anna");
    rig.session("node2", "bo");
    rig.app("node1", "anna", 1);
    rig.settle();
    let output = rig.who(&[]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("USER      SINCE"), "{text}");
    assert!(lines[1].starts_with("LAB\\anna  ") && lines[1].ends_with(&app_id(1)), "{text}");
    assert!(lines[2].starts_with("LAB\\bo    "), "{text}");
    assert!(lines[3].starts_with("users: 2, sessions: 2; most today: 2 at "), "{text}");

    let text = String::from_utf8(rig.who(&["--node", "node2"]).stdout).expect("text");
    assert!(text.contains("bo") && !text.contains("anna") && text.contains("matching: 1"), "{text}");
    let output = rig.who(&["--json", "--user", "anna"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(users(&json), ["LAB\\anna"]);
}

#[test]
fn who_says_what_is_wrong_and_lets_nothing_hostile_through() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let output = who(&["--at", &address.to_string()]);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with(&format!("error: cannot ask the receiver at {address}; is it running")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");

    // Something else listens there, and means no good.
    for (answer, arguments) in [
        ("HTTP/1.1 500 no\r\nContent-Length: 12\r\n\r\n\u{1b}[2J\u{1b}[1;31m", &[][..]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"\u{1b}[2J\u{202e}\": 1}", &[]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"\u{1b}[2J\u{202e}\": 1}", &["--json"]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", &[]),
        ("\u{1b}[2J", &[]),
    ] {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = server.local_addr().expect("bound").to_string();
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("somebody asks");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).expect("it reads");
        });
        let output = who(&[&["--at", &address], arguments].concat());
        serving.join().expect("it was served");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        assert_eq!(output.status.code(), Some(1), "{answer:?} {text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{answer:?} {text:?}");
        assert!(text.starts_with("error: "), "{text}");
    }
}
