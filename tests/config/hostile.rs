//! Files that were made to cost time or memory, and files that are anything at all.

use std::fs::File as RawFile;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{File, lines_of, read_with, refused, refused_with};

/// As much as a file may have.
const MEGABYTE: usize = 1 << 20;

const TOO_MANY: &str = "more than 20000 values; a configuration never has so many";
const TOO_DEEP: &str = "values are nested too deeply";
const TOO_LONG: &str = "aliases (`*name`) that together stand for more than 2MiB of text";

fn only_message(text: &str) -> String {
    let faults = refused(text);
    assert_eq!(faults.iter().count(), 1, "{faults}");
    faults.iter().map(|fault| fault.message.clone()).collect()
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert_eq!(only_message(&laughs), TOO_MANY);
    assert_eq!(only_message("a: &a [*a]"), TOO_DEEP);
    assert_eq!(only_message("a: &a { b: *a }"), TOO_DEEP);
}

#[test]
fn aliases_of_long_texts_are_bounded() {
    let long = "x".repeat(MEGABYTE / 2);
    let many = vec!["*a"; 19_000].join(", ");
    assert_eq!(only_message(&format!("a: &a {long}\nreceiver: {{ allowed_sources: [{many}] }}")), TOO_LONG);
    let many = "  ? *a\n  : x\n".repeat(9000);
    assert_eq!(only_message(&format!("a: &a {long}\nresource:\n{many}")), TOO_LONG);
}

#[test]
fn depth_is_bounded() {
    for text in [
        "[".repeat(100_000),
        "{".repeat(100_000),
        "{a: [".repeat(100_000),
        "- ".repeat(40_000) + "x",
        "[".repeat(190) + &"]".repeat(190),
        (0..1000).map(|depth| " ".repeat(depth) + "a:\n").collect(),
    ] {
        assert_eq!(only_message(&text), TOO_DEEP, "{}", &text[..20]);
    }
    assert!(!refused(&("? ".repeat(40_000) + "x")).render(false).is_empty());
}

#[test]
fn the_number_of_values_is_bounded() {
    for text in ["a,".repeat(60_000) + "]", "- a\n".repeat(60_000), "---\n".repeat(200_000), "a: b\n".repeat(60_000)] {
        let text = if text.ends_with(']') { "[".to_owned() + &text } else { text };
        assert_eq!(only_message(&text), TOO_MANY, "{}", &text[..20]);
    }
}

#[test]
fn directives_are_bounded() {
    let directives = (0..60_000).map(|number| format!("%TAG !a{number}! x\n")).collect::<String>();
    assert_eq!(only_message(&(directives + "---\na: b\n")), "more than 16 lines begin with `%`");
}

#[test]
fn what_variables_bring_is_bounded() {
    let long = "x".repeat(100_000);
    let text = format!("apps: {{ names_file: \"{}\" }}", "${env:LONG}".repeat(40_000));
    let faults = refused_with(&text, &[("LONG", &long)]);
    assert_eq!(lines_of(&faults), ["1:21 apps.names_file: the variables of the file hold more than 1MiB all together"]);
    assert!(read_with("apps: { names_file: \"${env:LONG}${env:LONG}\" }", &[("LONG", &long)]).is_ok());
}

#[test]
fn what_is_shown_of_long_lines_is_bounded() {
    let attributes = (0..9000).map(|number| format!("a{number}: {}, ", "x".repeat(90))).collect::<String>();
    let slips = (0..200).map(|number| format!("b{number}: 1, ")).collect::<String>();
    let faults = refused(&format!("{{ resource: {{ {attributes} }}, {slips} }}"));
    assert_eq!(faults.iter().count(), 100);
    assert!(faults.render(true).len() < 100_000);
    let faults = refused(&format!("store: {{ max_size: {}, max_age: bad }}", "x".repeat(MEGABYTE - 100)));
    assert_eq!(faults.iter().count(), 2);
    assert!(faults.render(true).len() < 10_000);
    let faults = refused(&("x".repeat(MEGABYTE - 100) + ": {}"));
    assert!(faults.render(true).len() < 10_000);
}

#[test]
fn many_entries_of_a_kind_are_looked_at_once_each() {
    let headers = (0..9900).map(|number| format!("    a{number}: x\n")).collect::<String>();
    let loaded = crate::valid(&format!("exporter:\n  headers:\n{headers}"));
    assert_eq!(loaded.pipeline.exporter.headers.len(), 9900);
    let bare = (0..9900).map(|number| format!("a{number}, ")).collect::<String>();
    assert_eq!(refused(&format!("resource: {{ {bare} }}")).iter().count(), 100);
}

#[test]
fn the_size_of_a_file_is_bounded() {
    let too_large = "the file is larger than 1MiB; a configuration never is";
    let file = File::of("");
    RawFile::options().write(true).open(&file.path).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    assert_eq!(lines_of(&file.load().expect_err("too large")), [too_large]);
    let file = File::of("#".repeat(MEGABYTE));
    assert!(file.load().is_ok());
    let file = File::of("#".repeat(MEGABYTE + 1));
    assert_eq!(lines_of(&file.load().expect_err("too large")), [too_large]);
}

#[cfg(unix)]
mod endless {
    use std::io::Write;
    use std::process::Stdio;

    use crate::{run, sense_otel, text};

    #[test]
    fn a_device_is_not_read_to_its_end() {
        let output = run(&["validate", "--config", "/dev/zero"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("the file is larger than 1MiB"), "{}", text(&output.stderr));
        assert_eq!(run(&["validate", "--config", "/dev/null"]).status.code(), Some(0));
    }

    #[test]
    fn a_pipe_is_read_but_not_for_ever() {
        for (written, endless) in [("store: { directory: x }\n", false), ("# and so on\n", true)] {
            let mut child = sense_otel(&["validate", "--config", "/dev/stdin"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary runs");
            let mut pipe = child.stdin.take().expect("a pipe");
            // Whoever reads no more closes the pipe, and that is what ends the writing.
            while pipe.write_all(written.as_bytes()).is_ok() && endless {}
            drop(pipe);
            let output = child.wait_with_output().expect("the child ends");
            assert_eq!(output.status.success(), !endless, "{}", text(&output.stderr));
        }
    }
}

/// Texts made of what YAML and the configuration are made of.
fn yaml_like() -> impl Strategy<Value = String> {
    let token = select(&[
        "store",
        "exporter",
        "headers",
        "privacy",
        "key",
        "directory",
        "resource",
        "a",
        "5",
        "1h",
        ": ",
        ":",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "! ",
        "!!str ",
        "|\n",
        ">\n",
        "'",
        "\"",
        "#",
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "---\n",
        "...\n",
        "\n",
        "\n  ",
        "\n    ",
        " ",
        "\t",
        "\r\n",
        "\r",
        "<<",
        "`",
        "@",
        "~",
        "\\",
        "$",
        "${env:A}",
        "${",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\0",
        "=",
        "true",
        ".inf",
        "0x1",
    ]);
    vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

fn look_at_everything(text: &str) {
    match read_with(text, &[("A", "a: [b")]) {
        Ok(loaded) => assert!(!loaded.to_yaml().is_empty()),
        Err(faults) => {
            let lines = text.lines().count() + text.matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for fault in &faults {
                assert!(fault.place.is_none_or(|place| (1..=lines + 1).contains(&place.line)), "{text:?}: {fault:?}");
            }
            assert!(!faults.render(true).is_empty() && !faults.render(false).is_empty());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Err(faults) = File::of(&bytes).load() {
            prop_assert!(faults.iter().count() > 0);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        look_at_everything(&text);
    }

    #[test]
    fn anything_like_yaml_is_read_or_refused(text in yaml_like()) {
        look_at_everything(&text);
    }

    #[test]
    fn a_damaged_reference_file_is_read_or_refused(at in any::<prop::sample::Index>(), token in yaml_like()) {
        let mut text = sense_otel::config::reference_yaml();
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &token);
        look_at_everything(&text);
        text.truncate(at);
        look_at_everything(&text);
    }
}
