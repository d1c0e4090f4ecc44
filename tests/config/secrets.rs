//! The key and the values of headers are shown nowhere, whatever else is wrong.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sense_otel::config::{Faults, Loaded};

use crate::{File, read_with, sense_otel, text};

/// Where a secret may stand as a value, in `@`: with nothing wrong, with something wrong on its line, wrong itself.
const PLACES: [&str; 34] = [
    "privacy: { key: @ }",
    "privacy:\n  key: @\n",
    "privacy: { user: hash, key: @ }",
    "privacy: { key: @, user: bad }",
    "privacy: { user: bad, key: @, user_agent: bad, client_address: [] }",
    "privacy: { key: @, key: @ }",
    "privacy: { kye: @ }",
    "privacy: { key: [@] }",
    "privacy: { key: { a: @ } }",
    "privacy: { key: ['a', @], user: bad }",
    "privacy: [@]",
    "privacy: @",
    "privacy:\n  @\n",
    "privacy: { @ }",
    "privacy: { @, key: 5 }",
    "privacy: { key: &k @ }\nstore: { max_size: *k, max_age: *k }\nlimits: { nodes: *k }\n",
    "store: { max_size: &k @ }\nprivacy: { key: *k }\n",
    "privacy: { key: @ }\nstore: { max_age: bad } # @",
    "# @\nstore: { max_age: bad }\n",
    "exporter: { headers: { x-a: @ } }",
    "exporter: { headers: { x-a: @, x-b: 5, te: @, X-A: @ }, timeout: bad }",
    "exporter: { endpoint: \"http://far:1\", headers: { x-a: @ } }",
    "exporter: { endpoint: \"http://far:1\", timeout: bad, headers: { \"x a\": @ } }",
    "exporter: { headers: { x-a=@ } }",
    "exporter: { headers: { x-a: [@], x-b: { c: @ } } }",
    "exporter: { headers: [x-a, @], compression: bad }",
    "exporter: { headers: @ }",
    "exporter:\n  headers:\n    @\n  timeout: 1\n",
    "exporter: { header: { x-a: @ }, timeout: 1 }",
    "exporter: { headers: { x-a: @ }, retry_on_failure: { max_interval: bad } } # @",
    "exporter: { tls: { key: @ }, headers: { authorization: @ }, signals: logs }",
    "privacy: { key: @, user: [ }",
    "privacy: { key: @ }\nstore:\n\tdirectory: x\n",
    "privacy: { key: @ }\n---\nadmin: {}\n",
];

/// Where one may stand without quotes only.
const PLAIN_PLACES: [&str; 10] = [
    "privacy:\n  key: \"@\n",
    "privacy:\n  key: '@\n",
    "privacy:\n  key: |\n    @\n  user: bad\n",
    "privacy:\n  key: >-\n    @\n    @\n",
    "privacy:\n  key: !@ x\n",
    "privacy:\n  key: *@\n",
    "privacy:\n  key: &@ x\n",
    "privacy:\n  key: x @\n  user: bad\n",
    "exporter:\n  headers: { x-a: Bearer @ , x-b: 5 }\n",
    "exporter:\n  headers:\n    x-a: Bearer @\n    x-b: 5\n",
];

/// Random words, between them whatever YAML may trip over.
fn secret() -> impl Strategy<Value = String> {
    let between = select(&[
        "", "+", "/", "=", "==", ".", ",", ";", "$", "$$", "${", "}", "@", "!", "%", "&", "*", "#", "-", "_", "~", "|",
        ">", "?", "[", "]", "{", "^", "(", "ä", "日",
    ]);
    vec((between, "zq[a-z0-9]{7}"), 1..4)
        .prop_map(|parts| parts.into_iter().flat_map(|(between, word)| [between.to_owned(), word]).collect())
}

/// How a variable with a secret may be written, the last one wrongly.
const VARIABLE: [&str; 4] =
    ["${env:SECRET}", "\"${env:SECRET}\"", "\"Bearer ${env:SECRET}\"", "\"${env:NONE:-${env:SECRET}}\""];

fn outputs(read: Result<Loaded, Faults>) -> String {
    match read {
        Ok(loaded) => format!("{}\n{loaded:?}\n{loaded:#?}\n{}", loaded.to_yaml(), loaded.warnings.join("\n")),
        Err(faults) => format!("{}\n{}\n{faults}\n{faults:?}", faults.render(true), faults.render(false)),
    }
}

/// The parts of the secret that can be read in a text.
fn told<'a>(secret: &'a str, text: &str) -> Option<&'a str> {
    secret
        .split(|character: char| !character.is_ascii_alphanumeric())
        .find(|word| word.len() > 4 && text.contains(word))
}

fn quoted(secret: &str) -> String {
    serde_json::to_string(secret).expect("JSON")
}

/// All but letters and digits as `%xx`.
fn percent_encoded(secret: &str) -> String {
    secret
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02x}") })
        .collect()
}

proptest! {
    // Each case looks at a hundred texts.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_secret_of_the_file_is_shown(secret in secret()) {
        for place in PLACES.iter().chain(&PLAIN_PLACES) {
            for written in [secret.clone(), quoted(&secret), quoted(&secret.replace('$', "$$"))] {
                let text = place.replace('@', &written);
                let shown = outputs(read_with(&text, &[]));
                prop_assert_eq!(told(&secret, &shown), None, "{}\n{}", text, shown);
            }
        }
    }

    #[test]
    fn no_secret_of_a_variable_is_shown(secret in secret()) {
        let encoded = format!("x-v={}", percent_encoded(&secret));
        let variables = [("SECRET", secret.as_str()), ("OTEL_EXPORTER_OTLP_HEADERS", encoded.as_str())];
        for place in PLACES {
            for written in VARIABLE {
                let text = place.replace('@', written);
                let shown = outputs(read_with(&text, &variables));
                prop_assert_eq!(told(&secret, &shown), None, "{}\n{}", text, shown);
            }
        }
    }

    #[test]
    fn no_variable_of_the_specification_is_shown_in_a_fault(secret in secret(), name in 0_usize..5) {
        let name = [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_RESOURCE_ATTRIBUTES",
        ][name];
        for value in ["@", "x-a @", "https://u:@@far:1", "http://far:1/@"] {
            // With the sign of a pair in it, its first part would be a name, and those are shown.
            let value = value.replacen('@', &secret.replace('=', "~"), 1);
            if let Err(faults) = read_with("exporter: { headers: { x-b: y } }", &[(name, &value)]) {
                let shown = outputs(Err(faults));
                prop_assert_eq!(told(&secret, &shown), None, "{}={}\n{}", name, value, shown);
            }
        }
    }
}

#[test]
fn what_looks_for_secrets_finds_them() {
    assert_eq!(told("a,zq1234567+b", "xzq1234567x"), Some("zq1234567"));
    assert_eq!(told("a,zq1234567+b", "zq123456 7"), None);
}

#[test]
fn the_commands_show_no_secret() {
    const KEY: &str = "zqkey00001zqkey00002";
    const HEADER: &str = "zqheader01";
    let good =
        format!("privacy: {{ key: {KEY} }}\nexporter: {{ headers: {{ x-a: \"${{env:ZQ}}\", x-b: {HEADER} }} }}\n");
    let bad = format!("{good}store: {{ max_size: *k }}\n");
    let worse = good.replace("} }", ", c: 5 }, timeout: \"${env:ZQ}\" }").replace("key:", "user: x, key:");
    for (file, is_valid) in [(good, true), (bad, false), (worse, false)] {
        let file = File::of(file);
        for command in ["validate", "print-config", "run"] {
            if command == "run" && is_valid {
                continue;
            }
            let output = sense_otel(&[command, "--config", file.name()])
                .env("ZQ", "zqvariable")
                .output()
                .expect("the binary runs");
            assert_eq!(output.status.success(), is_valid, "{command}");
            for shown in [text(&output.stdout), text(&output.stderr)] {
                assert!(!shown.contains("zq"), "{command}: {shown}");
            }
            if command == "print-config" && is_valid {
                let shown = text(&output.stdout);
                assert!(shown.contains("key: \"[redacted]\"") && shown.contains("x-b: \"[redacted]\""), "{shown}");
            }
        }
    }
}

#[test]
fn what_stands_for_a_secret_is_no_secret() {
    let printed = crate::valid("privacy: { key: 0123456789abcdef }\nexporter: { headers: { a: b } }").to_yaml();
    let lines = crate::lines_of(&crate::refused(&printed));
    let message = "this is what `print-config` shows instead of a secret (put the secret back, best as `${env:NAME}`)";
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with(&format!("privacy.key: {message}")), "{lines:?}");
    assert!(lines[1].ends_with(&format!("exporter.headers.a: {message}")), "{lines:?}");
}
