//! What is wrong, all of it at once, each with its place, its path and a way out.

use crate::{File, check, lines_of, package, refused, run, text, valid};

/// A slip in every section, two in most.
const MANY: &str = r#"recever: {}
receiver:
  udp: { endpont: "localhost", receive_buffer: lots }
  allowed_sources: 5
sessions: [1]
exclude_users: [{ directory: X, usr: a }]
limits: { nodes: 0, open_sessions: -1, attribute_length: 1.5, connections_per_session: "many" }
privacy:
  key: short
  user: kep
exporter:
  timeout: 10
  signals: [logs, trace]
  compression: gzp
  tls: yes
  headers: { x-a: 5 }
store: { max_age: 1d, max_size: 16M }
telemetry: { level: inof }
frobnicate: 1
store: {}
"#;

const SECTIONS: &str = "receiver, sessions, exclude_users, privacy, limits, apps, resource, spans, exporter, store, \
                        admin, telemetry";

#[test]
fn one_look_tells_all_faults_in_the_order_of_the_file() {
    let size = "a whole number with a unit is, such as `64KiB`, `16MiB` or `4GiB`";
    let expected = [
        "1:1 recever: there is no key `recever` here (did you mean `receiver`?)".to_owned(),
        "3:10 receiver.udp.endpont: there is no key `endpont` here (did you mean `endpoint`?)".to_owned(),
        format!("3:48 receiver.udp.receive_buffer: \"lots\" is no size; {size}"),
        "4:20 receiver.allowed_sources: a number where a list belongs".to_owned(),
        "5:1 sessions: a list where a section with keys belongs".to_owned(),
        "6:33 exclude_users[0].usr: there is no key `usr` here (did you mean `user`?)".to_owned(),
        "7:18 limits.nodes: 0 is less than 1".to_owned(),
        "7:36 limits.open_sessions: -1 is no whole number".to_owned(),
        "7:58 limits.attribute_length: 1.5 is no whole number".to_owned(),
        "7:88 limits.connections_per_session: \"many\" is no whole number".to_owned(),
        "9:8 privacy.key: the key is shorter than 16 bytes and could be found by trying \
         (make one with `openssl rand -hex 32`)"
            .to_owned(),
        "10:9 privacy.user: \"kep\" is not one of keep, hash, drop (did you mean `keep`?)".to_owned(),
        "12:12 exporter.timeout: 10 has no unit; write for example `10s` or `1h30m`".to_owned(),
        "13:19 exporter.signals[1]: \"trace\" is not one of logs, traces, metrics (did you mean `traces`?)".to_owned(),
        "14:16 exporter.compression: \"gzp\" is not one of none, gzip, zstd (did you mean `gzip`?)".to_owned(),
        "15:8 exporter.tls: a text where a section with keys belongs".to_owned(),
        "16:19 exporter.headers.x-a: a number where a text belongs (put it in quotes)".to_owned(),
        "17:19 store.max_age: \"1d\" has a unit that is not known; write days in hours, such as `48h`".to_owned(),
        format!("17:33 store.max_size: \"16M\" is no size; {size}"),
        "18:21 telemetry.level: \"inof\" is no log level (did you mean `info`?)".to_owned(),
        format!("19:1 frobnicate: there is no key `frobnicate` here (one of: {SECTIONS})"),
        "20:1 store: the key is given twice; it is in line 17 already".to_owned(),
    ];
    assert_eq!(lines_of(&refused(MANY)), expected);
}

#[test]
fn validate_shows_each_fault_with_its_line_and_says_how_many() {
    let file = File::of(MANY);
    let output = run(&["validate", "--config", file.name()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = text(&output.stderr);
    assert!(told.contains(&format!(" --> {}:3:10\n", file.name())), "{told}");
    assert!(told.contains("\n3 |   udp: { endpont\n  |          ^^^^^^^\n"), "{told}");
    assert_eq!(told.matches("error: ").count(), 22, "{told}");
    assert!(told.ends_with(&format!("{}: 22 faults\n", file.name())), "{told}");
    assert!(!told.contains('\u{1b}'), "no colours where no terminal is");
}

#[test]
fn validate_is_content_with_what_is_valid() {
    let reference = package("otel-config/sense-otel.yaml");
    let reference = reference.to_str().expect("a path in UTF-8");
    let output = run(&["validate", "--config", reference]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{reference}: valid\n"));
    let file = File::of("");
    assert_eq!(run(&["validate", "--config", file.name()]).status.code(), Some(0));
}

#[test]
fn every_command_refuses_a_bad_file_in_the_same_words() {
    let file = File::of("store: { directry: x }\n");
    let validate = run(&["validate", "--config", file.name()]);
    let expected = text(&validate.stderr).trim_end();
    assert!(expected.contains("did you mean `directory`?"), "{expected}");
    for command in ["run", "print-config"] {
        let output = run(&[command, "--config", file.name()]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
        assert!(text(&output.stderr).contains(expected), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn names_are_suggested_if_they_are_near() {
    check(&[
        ("Receiver: {}", &["1:1 Receiver: there is no key `Receiver` here (did you mean `receiver`?)"]),
        ("exporter: { tsl: {} }", &["1:13 exporter.tsl: there is no key `tsl` here (did you mean `tls`?)"]),
        (
            "exporter:\n  retry_on_failure: { max_elapsed_time: 5m }",
            &["2:23 exporter.retry_on_failure.max_elapsed_time: there is no key `max_elapsed_time` here \
               (one of: initial_interval, max_interval)"],
        ),
        (
            "exclude_users:\n  - directory: A\n  - { directory: B, name: c }",
            &["3:21 exclude_users[1].name: there is no key `name` here (one of: directory, user)"],
        ),
        (
            "spans: { \"start-marker\": true }",
            &["1:10 spans.start-marker: there is no key `start-marker` here (did you mean `start_marker`?)"],
        ),
    ]);
}

#[test]
fn kinds_of_values_are_told_apart_on_every_level() {
    check(&[
        ("hello", &["1:1 a text where a section with keys belongs"]),
        ("5", &["1:1 a number where a section with keys belongs"]),
        ("- a", &["a list where a section with keys belongs"]),
        (
            "receiver: { udp: 5, rate_limit: [1] }",
            &[
                "1:18 receiver.udp: a number where a section with keys belongs",
                "1:21 receiver.rate_limit: a list where a section with keys belongs",
            ],
        ),
        (
            "receiver: { allowed_sources: [[a], { b: c }, 5, ~] }",
            &[
                "1:32 receiver.allowed_sources[0]: a list where a text belongs",
                "1:38 receiver.allowed_sources[1]: a section where a text belongs",
                "1:46 receiver.allowed_sources[2]: a number where a text belongs (put it in quotes)",
                "1:49 receiver.allowed_sources[3]: nothing where a text belongs (for the empty text write `\"\"`)",
            ],
        ),
        (
            "exclude_users: [a, [b], { user: 5 }, ~]",
            &[
                "1:17 exclude_users[0]: a text where a section with keys belongs",
                "1:21 exclude_users[1]: a list where a section with keys belongs",
                "1:33 exclude_users[2].user: a number where a text belongs (put it in quotes)",
                "1:38 exclude_users[3]: nothing where a section with keys belongs",
            ],
        ),
        ("exclude_users: { user: a }", &["1:1 exclude_users: a section where a list belongs"]),
        (
            "resource: { a: 1.10, b: true, c: ~, d: [x], e: { f: g } }",
            &[
                "1:16 resource.a: a number where a text belongs (put it in quotes)",
                "1:25 resource.b: true or false where a text belongs (put it in quotes)",
                "1:34 resource.c: nothing where a text belongs (for the empty text write `\"\"`)",
                "1:37 resource.d: a list where a text belongs",
                "1:45 resource.e: a section where a text belongs",
            ],
        ),
        ("resource: [a=b]", &["1:1 resource: a list where a section with names and values belongs"]),
        (
            "privacy: { user: [a], key: { a: b } }",
            &["1:12 privacy.user: a list where a text belongs", "1:23 privacy.key: a section where a text belongs"],
        ),
    ]);
}

#[test]
fn kinds_of_single_values_are_told_apart() {
    check(&[
        ("spans: { start_marker: 1 }", &["1:24 spans.start_marker: a number where true or false belongs"]),
        ("spans: { start_marker: yes }", &["1:24 spans.start_marker: \"yes\" is neither true nor false"]),
        (
            "limits: { nodes: {}, open_sessions: true }",
            &[
                "1:11 limits.nodes: a section where a whole number belongs",
                "1:37 limits.open_sessions: true or false where a whole number belongs",
            ],
        ),
        (
            "store: { max_size: true, max_age: [] }",
            &[
                "1:20 store.max_size: true or false where a size such as `16MiB` belongs",
                "1:26 store.max_age: a list where a duration such as `10s` belongs",
            ],
        ),
        ("exporter: { signals: logs }", &["1:22 exporter.signals: a text where a list belongs"]),
        (
            "exporter: { signals: [{}, 5], compression: [gzip], headers: a=b, retry_on_failure: 1s }",
            &[
                "1:13 exporter.signals[0]: a section where a text belongs",
                "1:27 exporter.signals[1]: a number where a text belongs (put it in quotes)",
                "1:31 exporter.compression: a list where a text belongs",
                "1:61 exporter.headers: a text where a section with names and values belongs",
                "1:84 exporter.retry_on_failure: a text where a section with keys belongs",
            ],
        ),
    ]);
}

#[test]
fn keys_that_are_given_twice_are_refused_once_each() {
    check(&[
        (
            "a: 1\nstore: {}\nstore: { directory: 5 }",
            &[
                "1:1 a: there is no key `a` here (one of: receiver, sessions, exclude_users, privacy, limits, apps, \
                 resource, spans, exporter, store, admin, telemetry)",
                "3:1 store: the key is given twice; it is in line 2 already",
            ],
        ),
        (
            "store:\n  directory: a\n  'directory': b\n  \"directory\": c",
            &[
                "3:3 store.directory: the key is given twice; it is in line 2 already",
                "4:3 store.directory: the key is given twice; it is in line 2 already",
            ],
        ),
        ("resource: { a.b: x, a.b: y }", &["1:21 resource[\"a.b\"]: the key is given twice; it is in line 1 already"]),
        (
            "exclude_users: [{ user: a, user: b }]",
            &["1:28 exclude_users[0].user: the key is given twice; it is in line 1 already"],
        ),
    ]);
    assert_eq!(valid("resource: { a: x, A: y }").pipeline.processor.resource.len(), 2, "attributes differ by case");
}

#[test]
fn a_hundred_faults_are_enough() {
    let text = (0..1000).map(|number| format!("key{number}: x\n")).collect::<String>();
    let faults = refused(&text);
    assert_eq!(faults.iter().count(), 100);
    assert!(faults.render(false).ends_with(": 100 faults"));
}
