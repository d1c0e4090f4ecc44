//! The file itself: what YAML it may hold, how it is encoded, and what may stand where a file belongs.

use sense_otel::config;

use crate::{File, check, lines_of, refused, resolve, run, text, valid};

fn directory(text: &str) -> String {
    valid(text).pipeline.store.directory.to_str().expect("UTF-8").to_owned()
}

#[test]
fn what_is_no_yaml_is_told_with_its_line() {
    check(&[
        ("store:\n  directory: \"x\nadmin: {}\n", &["2:14 this is no YAML: the quotes that begin here do not end"]),
        ("store:\n  directory: 'x", &["2:14 this is no YAML: the quotes that begin here do not end"]),
        ("\"", &["1:1 this is no YAML: the quotes that begin here do not end"]),
        (
            "store: { directory: x\nadmin: {}\n",
            &["2:6 this is no YAML: did not find expected ',' or '}', \
                 while parsing a flow mapping that begins in line 1"],
        ),
        (
            "receiver:\n  allowed_sources: [a, b\nstore: {}\n",
            &["3:6 this is no YAML: did not find expected ',' or ']', \
                 while parsing a flow sequence that begins in line 2"],
        ),
        (
            "store:\n\tdirectory: x\n",
            &["2:1 this is no YAML: found character that cannot start any token \
             (indent with spaces; YAML does not take tabs for that)"],
        ),
        (
            "store:\n  \tdirectory: x\n",
            &["2:3 this is no YAML: found character that cannot start any token \
             (indent with spaces; YAML does not take tabs for that)"],
        ),
        (
            "store:\n  directory: a: b\n",
            &["2:15 this is no YAML: mapping values are not allowed in this context \
             (behind the colon of a key stands a blank, each key has a line of its own, and keys of one section begin in \
             one column)"],
        ),
        ("store:\n  directory: @x\n", &["2:14 this is no YAML: found character that cannot start any token"]),
        (
            "store:\n directory: x\n  max_age: 1h\n",
            &["3:10 this is no YAML: mapping values are not allowed in this context \
             (behind the colon of a key stands a blank, each key has a line of its own, and keys of one section begin in \
             one column)"],
        ),
        (
            "store: { directory: ${env:A} }",
            &["1:22 this is no YAML: did not find expected ',' or '}' \
             (inside of `{ }` and `[ ]` a variable stands in quotes: `\"${env:NAME}\"`)"],
        ),
        (
            "store: { directory: \"\\q\" }",
            &["1:22 this is no YAML: found unknown escape character \
             (inside of double quotes `\\` begins a special character; use single quotes, or `/` in a path)"],
        ),
        (
            "receiver: { udp: { endpoint: [::]:9997 } }",
            &["1:31 this is no YAML: did not find expected node content \
             (an address that begins with `[` stands in quotes: `\"[::]:9997\"`)"],
        ),
        (
            "receiver:\n  udp:\n    endpoint: [2001:db8::1]:9997\n",
            &["3:28 this is no YAML: did not find expected key \
             (an address that begins with `[` stands in quotes: `\"[::]:9997\"`)"],
        ),
        (
            "exclude_users:\n  - { directory: *, user: x }\n",
            &["2:19 this is no YAML: did not find expected alphabetic or numeric character \
             (a value that begins with `*` or `&` stands in quotes: `\"*\"`)"],
        ),
        (
            "exporter:\n  endpoint:http://x:4317\n",
            &[
                "2:3 exporter: a text where a section with keys belongs (behind the colon of a key stands a blank: `key: value`)",
            ],
        ),
        ("&a &b &c", &["this is no YAML: more than one value, and nothing that parts them"]),
        (
            "store: { directory: *x }",
            &["1:21 this is no YAML: unknown anchor (a value that begins with `*` or `&` stands in quotes: `\"*\"`)"],
        ),
        ("a\u{7}: b", &["1:2 the character U+0007 is not allowed in YAML"]),
        ("store:\n  directory: x\u{feff}\n", &["2:15 the character U+FEFF is not allowed in YAML"]),
    ]);
}

#[test]
fn tabs_may_stand_where_they_do_not_indent() {
    assert_eq!(directory("store:\t{\tdirectory:\t\"x\"\t}\t# y"), "x");
    assert_eq!(directory("store:\n  directory: \"a\tb\""), "a\tb");
}

#[test]
fn a_file_is_one_document() {
    let message = "more than one document; `---` in the middle of a file begins another one";
    for (text, line) in [
        ("store: {}\n---\nadmin: {}\n", 2),
        ("---\n---\n", 2),
        ("# a\n---\n# b\n---\nstore: {}\n", 4),
        ("~\n---\nstore: {}\n", 2),
        ("store: {}\n...\n# x\nadmin: {}\n", 4),
        ("a: b\n# x\n--- # y\n", 3),
    ] {
        assert_eq!(lines_of(&refused(text)), [format!("{line}:1 {message}")], "{text}");
    }
    for text in ["---\nstore: { directory: x }\n", "--- { store: { directory: x } }\n...\n# end\n"] {
        assert_eq!(directory(text), "x", "{text}");
    }
}

#[test]
fn anchors_are_read_and_merge_keys_and_tags_refused() {
    assert_eq!(directory("apps: { names_file: &name x }\nstore: { directory: *name }"), "x");
    assert_eq!(directory("store: { directory: !!str 5 }"), "5");
    check(&[
        (
            "sessions: &a { heartbeat: 1m }\nstore:\n  <<: *a",
            &["3:3 store.…: merge keys are not understood; the keys have to stand here themselves"],
        ),
        ("<<: {}", &["1:1 …: merge keys are not understood; the keys have to stand here themselves"]),
        (
            "store: !other { directory: x }",
            &["1:8 neither tags (`!name`) nor lists and sections as keys are understood"],
        ),
        (
            "store: { directory: !env NAME }",
            &["1:21 neither tags (`!name`) nor lists and sections as keys are understood"],
        ),
        ("? [a]\n: b", &["1:3 neither tags (`!name`) nor lists and sections as keys are understood"]),
        ("{ { a: b }: c }", &["1:3 neither tags (`!name`) nor lists and sections as keys are understood"]),
    ]);
}

#[test]
fn lines_may_end_as_windows_ends_them() {
    assert_eq!(directory("store:\r\n  directory: x\r\n  max_age: 1h\r\n"), "x");
    check(&[(
        "# a\r\nstore:\r\n  max_size: 1\r\n  directry: x\r\n",
        &[
            "3:13 store.max_size: 1 is less than 1MiB",
            "4:3 store.directry: there is no key `directry` here (did you mean `directory`?)",
        ],
    )]);
    let shown = refused("store:\r\n  directry: x\r\n").render(false);
    assert!(!shown.contains('\r') && shown.contains("2 |   directry\n"), "{shown:?}");
}

#[test]
fn a_byte_order_mark_moves_nothing() {
    assert_eq!(directory("\u{feff}store: { directory: x }"), "x");
    check(&[(
        "\u{feff}store: { directry: x }",
        &["1:10 store.directry: there is no key `directry` here (did you mean `directory`?)"],
    )]);
}

#[test]
fn columns_count_characters() {
    check(&[(
        "resource: { ä: \"日本\", b: 5 }",
        &["1:25 resource.b: a number where a text belongs (put it in quotes)"],
    )]);
    let shown = refused("resource: { ä: \"日本\", b: 5 }").render(false);
    assert!(shown.contains(":1:25\n"), "{shown}");
}

fn lines_of_bytes(bytes: &[u8]) -> Vec<String> {
    lines_of(&File::of(bytes).load().expect_err("no text"))
}

#[test]
fn other_encodings_are_refused_with_what_to_do() {
    let utf16 = "the file is UTF-16 (save it as UTF-8; in Notepad: Save as, Encoding)";
    assert_eq!(lines_of_bytes(b"\xff\xfea\0:\0"), [utf16]);
    assert_eq!(lines_of_bytes(b"\xfe\xff\0a\0:"), [utf16]);
    let no_utf8 = "the file is not UTF-8 (save it as UTF-8)";
    assert_eq!(lines_of_bytes(b"store:\n  directory: \xe9t\xe9\n"), [format!("2:14 {no_utf8}")]);
    assert_eq!(lines_of_bytes(b"\xff"), [format!("1:1 {no_utf8}")]);
    assert_eq!(lines_of_bytes("a: ä\r\nb: ".as_bytes()).len(), 2, "and what is UTF-8 is read");
    assert_eq!(lines_of_bytes(b"a: \xc3\xa4\xc3\r\n"), [format!("1:5 {no_utf8}")]);
    assert_eq!(lines_of_bytes(&[0; 4]), ["1:1 the character U+0000 is not allowed in YAML"]);
}

#[test]
fn what_is_no_file_is_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("no.yaml");
    for path in [folder.path(), missing.as_path()] {
        let faults = config::load(Some(path), |_| None, resolve).expect_err("no file");
        let lines = lines_of(&faults);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("the file cannot be read: ")), "{lines:?}");
        let name = path.to_str().expect("UTF-8");
        for command in ["validate", "run", "print-config"] {
            let output = run(&[command, "--config", name]);
            assert_eq!(output.status.code(), Some(1), "{command}");
            assert!(text(&output.stderr).contains(name), "{command}: {}", text(&output.stderr));
        }
    }
}
