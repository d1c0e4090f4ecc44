//! The command line as a user meets it: the real binary, its texts and its exit codes.

#![expect(clippy::expect_used, reason = "what a test's helper finds wrong fails the test")]

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};

fn sense_otel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    sense_otel(arguments).output().expect("the binary runs")
}

fn decode(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = sense_otel(&[&["decode"], arguments].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // The child reads to the end of its input before it ends, so that the pipe cannot break.
    child.stdin.take().expect("a pipe").write_all(input).expect("the child reads");
    child.wait_with_output().expect("the child ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for command in [
        "run",
        "who",
        "validate",
        "print-config",
        "demo",
        "simulate",
        "appender",
        "decode",
        "quarantine",
        "hash",
        "service",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is missing:\n{help}");
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command} --help");
        assert!(output.stderr.is_empty(), "{command} --help");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed"), "{help}");
}

#[test]
fn version_is_that_of_the_package() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), concat!("sense-otel ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_2_and_says_what_is_known() {
    for arguments in [&["--frobnicate"][..], &["demo", "--sesions", "3"], &["demo", "--sessions", "0"], &["dcode"], &[]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage") || text(&output.stderr).contains("help"), "{arguments:?}");
    }
    assert!(text(&run(&["demo", "--sesions", "3"]).stderr).contains("--sessions"), "a suggestion");
}

#[test]
fn an_error_is_told_once_with_its_causes() {
    let output = run(&["decode", "/no/such/folder/datagrams.txt"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: cannot read /no/such/folder/datagrams.txt: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[cfg(not(windows))]
#[test]
fn the_service_of_windows_is_nothing_for_other_systems() {
    for arguments in [&["service", "uninstall"][..], &["service", "install", "--config", "sense-otel.yaml"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.starts_with("error: ") && error.contains("otel-config/systemd"), "{error}");
    }
}

const STOCK: &str = "/qseow-proxy-connection/;pro2-win2;Open connection;LAB;testuser_3;AppAccess;\
                     /app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69?reloaduri=https://h/;connection Opened for session \
                     UserAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0.0.0 Safari/537.36'";

const STOCK_EXPLAINED: &str = r"1: Open connection
   format         stock (Butler SOS): no time, no sequence
   node           pro2-win2
   user           LAB\testuser_3
   origin         AppAccess
   app id         a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69
   path           /app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69
   browser        Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0.0.0 Safari/537.36
   absent         session id, result, app name, virtual proxy, client address, time, sequence, traceparent
";

const EXTENDED: &str = r"/sense-otel/1/\t4711\t2026-11-23T08:02:11.250Z\tpro2-win1\tc0dec04e-89e4-c115-54a0-5f188dac8ef4\tOpen connection\t0\tLAB\tgoran\tAppAccess\ta421f4a2-c311-4ef4-ba41-fe2e6a2b0d69\tSales Overview\t/ext/app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69\tconnection Opened";

const EXTENDED_EXPLAINED: &str = r"1: Open connection
   format         extended (sense-otel appender)
   node           pro2-win1
   user           LAB\goran
   session id     c0dec04e-89e4-c115-54a0-5f188dac8ef4
   origin         AppAccess
   app id         a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69
   app name       Sales Overview
   path           /ext/app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69
   virtual proxy  ext
   time           2026-11-23T08:02:11.25Z
   sequence       4711
   absent         result, browser, client address, traceparent
";

#[test]
fn decode_explains_the_stock_format() {
    let output = decode(&[], STOCK.as_bytes());
    let expected = format!("{STOCK_EXPLAINED}\ndatagrams: 1 (1 understood, 0 rejected)\n");
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn decode_explains_the_extended_format_with_escapes() {
    let output = decode(&["-"], EXTENDED.as_bytes());
    let expected = format!("{EXTENDED_EXPLAINED}\ndatagrams: 1 (1 understood, 0 rejected)\n");
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn decode_reads_hexadecimal() {
    let hex: Vec<String> = STOCK.bytes().map(|byte| format!("{byte:02X}")).collect();
    let output = decode(&["--hex"], hex.join(" ").as_bytes());
    assert!(text(&output.stdout).starts_with(STOCK_EXPLAINED), "{}", text(&output.stdout));
}

#[test]
fn decode_says_why_not_and_fails() {
    let input = "/qseow-proxy-connection/;pro2-win2;Open conn\n/unknown-message-type/;host1;Start session;A;b;c;d;e\n";
    let output = decode(&[], input.as_bytes());
    let expected = "\
1: rejected, too_few_fields
   why            fields are missing; the datagram was cut off on its way, or
                  the pattern of the appender was changed
   datagram       /qseow-proxy-connection/;pro2-win2;Open conn (44 bytes)

2: rejected, unknown_type
   why            the first field is no message type of ours; another appender
                  or program sends to this port, or the pattern of the appender
                  was changed; compare it with the output of `sense-otel
                  appender`
   datagram       /unknown-message-type/;host1;Start session;A;b;c;d;e (52 bytes)

datagrams: 2 (0 understood, 2 rejected)
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn decode_listens() {
    let mut child = sense_otel(&["decode", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    let first = lines.next().expect("the address");
    let address = first.strip_prefix("listening at ").and_then(|rest| rest.split(' ').next()).expect("the address");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    sender.send_to(STOCK.as_bytes(), address).expect("loopback takes datagrams");
    let source = sender.local_addr().expect("a bound socket");

    let explained: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    if cfg!(unix) {
        let interrupted = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status();
        assert!(interrupted.expect("the command is there").success());
        assert_eq!(lines.next().as_deref(), Some("datagrams: 1 (1 understood, 0 rejected)"));
        assert_eq!(child.wait().expect("the child ends").code(), Some(0));
    } else {
        child.kill().expect("the child still listens");
        child.wait().expect("the child ends");
    }
    let expected = STOCK_EXPLAINED.replacen("connection\n", &format!("connection from {source}\n"), 1);
    assert_eq!(explained.join("\n") + "\n", expected);
}

/// A folder with a configuration of this text.
fn configured(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sense-otel.yaml");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

#[test]
fn a_certificate_that_is_missing_is_told_by_validate_and_by_run() {
    let (folder, config) = configured(
        "receiver: { udp: { endpoint: \"127.0.0.1:0\" } }\n\
         exporter: { endpoint: \"https://localhost:4317\", tls: { ca_file: no-such.pem } }\n",
    );
    for arguments in [&["validate"][..], &["run"], &["run", "--in-memory"]] {
        let mut command = sense_otel(&[arguments, &["--config", &config]].concat());
        let output = command.current_dir(folder.path()).output().expect("the binary runs");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.lines().last().is_some_and(|line| line.contains("cannot read no-such.pem")), "{error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn validate_warns_of_a_names_file_without_names() {
    let (folder, config) = configured("apps: { names_file: apps.csv }\n");
    let validate = || {
        let mut command = sense_otel(&["validate", "--config", &config]);
        let output = command.current_dir(folder.path()).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0));
        text(&output.stderr).to_owned()
    };
    assert!(validate().contains("apps.names_file: it cannot be read: "), "{}", validate());
    std::fs::write(folder.path().join("apps.csv"), "id|name\n").expect("written");
    assert!(validate().contains("no line is an app's id and its name"), "{}", validate());
    std::fs::write(folder.path().join("apps.csv"), "a99a0000-0000-4000-8000-000000000001;Sales\n").expect("written");
    assert_eq!(validate(), "");
}

#[test]
fn looking_on_needs_no_secrets_of_the_receiver() {
    let (folder, config) = configured(
        "exporter: { headers: { x-key: \"${env:SENSE_OTEL_TEST_NEVER_SET}\" } }\n\
         admin: { endpoint: \"127.0.0.1:9\" }\nstore: { directory: data }\n",
    );
    std::fs::create_dir_all(folder.path().join("data/log")).expect("made");
    let mut list = sense_otel(&["quarantine", "list", "--config", &config]);
    let list = list.current_dir(folder.path()).output().expect("the binary runs");
    assert_eq!(text(&list.stdout), "the quarantine is empty\n", "{}", text(&list.stderr));
    let who = run(&["who", "--config", &config]);
    assert!(text(&who.stderr).starts_with("error: cannot ask the receiver at 127.0.0.1:9;"), "{}", text(&who.stderr));
    let validate = run(&["validate", "--config", &config]);
    assert!(text(&validate.stderr).contains("`SENSE_OTEL_TEST_NEVER_SET` is not set"), "{}", text(&validate.stderr));
}

#[test]
fn a_user_has_the_hash_that_the_receiver_sends() {
    use sense_otel::processor::ids::{Ids, Key};

    let (folder, config) = configured("privacy: { user: hash, key: \"${env:SENSE_OTEL_TEST_KEY}\" }\n");
    let mut command = sense_otel(&["hash", "--config", &config, r"LAB\Anna.Berg", "alone"]);
    let output = command.env("SENSE_OTEL_TEST_KEY", "a key for this test only").output().expect("the binary runs");
    let ids = Ids::new(&Key::new(b"a key for this test only"));
    let expected: String = [("lab", "anna.berg"), ("", "alone")]
        .map(|(directory, user)| format!("{:032x}\n", u128::from_be_bytes(ids.user_key(directory, user))))
        .concat();
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    // None is made where there is none: it would be another one than the receiver's.
    let directory = folder.path().to_str().expect("UTF-8");
    let output = run(&["hash", "--directory", directory, "alone"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: there is no key of the receiver; "), "{}", text(&output.stderr));
    assert!(!folder.path().join("privacy.key").exists());
}

#[test]
fn an_appender_that_would_send_nowhere_is_refused() {
    for nowhere in ["[::]:9997", "0.0.0.0:9997", "9997", "host:0"] {
        assert_eq!(run(&["appender", "--to", nowhere]).status.code(), Some(2), "{nowhere}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("LocalLogConfig.xml");
    let output = run(&["appender", "--to", "localhost:9997", "--output", file.to_str().expect("UTF-8")]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
    assert!(text(&output.stderr).starts_with("warning: localhost is the proxy node itself"), "{output:?}");
    let printed = run(&["appender", "--to", "localhost:9997"]);
    assert_eq!(std::fs::read(&file).expect("written"), printed.stdout);
}

#[test]
fn whoever_watches_goes_on_watching_while_the_receiver_is_away() {
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = receiver.local_addr().expect("a bound socket").to_string();
    let mut child = sense_otel(&["who", "--watch", "--at", &at])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let (mut asked, _) = receiver.accept().expect("somebody asks");
    let body = r#"{"at":"2026-11-23T08:00:00Z","open":{"sessions":0,"users":0},"peak":{"sessions":0,
        "at":"2026-11-23T08:00:00Z"},"matching":0,"sessions":[]}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let mut lines = BufReader::new(asked.try_clone().expect("the same socket")).lines().map_while(Result::ok);
    assert!(lines.find(String::is_empty).is_some(), "a whole request");
    asked.write_all(answer.as_bytes()).expect("the child reads");
    drop((asked, lines, receiver));
    let mut shown = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let away = format!("The receiver at {at} does not answer (");
    let found = shown.find(|line| line.starts_with(&away));
    child.kill().expect("the child goes on");
    child.wait().expect("the child ends");
    assert!(found.is_some_and(|line| line.ends_with("; asking again.")));
}
