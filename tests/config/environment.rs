//! Variables inside values, and those of the OpenTelemetry specification where the file is silent.

use std::time::Duration;

use secrecy::ExposeSecret;
use sense_otel::exporter::Compression;

use crate::{File, lines_of, refused, refused_with, sense_otel, text, valid_with};

const VARIABLES: [(&str, &str); 12] = [
    ("HOST", "collector"),
    ("PORT", "4317"),
    ("EMPTY", ""),
    ("YAML", "a: b\n- [c, \"d\" # e"),
    ("MERGED", "x, directory: y }"),
    ("NESTED", "${env:HOST}"),
    ("NUMBER", "7"),
    ("PERIOD", "5m"),
    ("SIZE", "64KiB"),
    ("TRUE", "true"),
    ("NULL", "null"),
    ("_9", "underscored"),
];

fn directory(written: &str) -> String {
    let loaded = valid_with(&format!("store: {{ directory: \"{written}\" }}"), &VARIABLES);
    loaded.pipeline.store.directory.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_variable_is_its_value_wherever_it_stands() {
    for (written, expected) in [
        ("${env:HOST}", "collector"),
        ("a-${env:HOST}-${env:PORT}.b", "a-collector-4317.b"),
        ("${env:HOST}${env:HOST}", "collectorcollector"),
        ("${env:_9}", "underscored"),
        ("${env:NONE:-there}", "there"),
        ("${env:NONE:-a:-b}", "a:-b"),
        ("x${env:NONE:-}", "x"),
        ("x${env:EMPTY:-there}", "x"),
        ("${env:HOST:-there}", "collector"),
        ("$${env:HOST}", "${env:HOST}"),
        ("$$$${env:HOST}", "$${env:HOST}"),
        ("a$b$$c$", "a$b$c$"),
        ("{env:HOST}", "{env:HOST}"),
    ] {
        assert_eq!(directory(written), expected, "{written}");
    }
}

#[test]
fn a_value_stays_one_value_whatever_a_variable_holds() {
    assert_eq!(directory("${env:YAML}"), "a: b\n- [c, \"d\" # e");
    assert_eq!(directory("${env:MERGED}"), "x, directory: y }");
    assert_eq!(directory("${env:NESTED}"), "${env:HOST}", "it is not read a second time");
    assert_eq!(directory("${env:NULL}"), "null");
    let loaded = valid_with("store:\n  directory: ${env:YAML}\n", &VARIABLES);
    assert_eq!(loaded.pipeline.store.directory.to_str(), Some("a: b\n- [c, \"d\" # e"), "without quotes, too");
    let loaded = valid_with("resource: { a: \"${env:NUMBER}\", b: \"${env:TRUE}\" }", &VARIABLES);
    assert_eq!(loaded.pipeline.processor.resource, [("a", "7"), ("b", "true")].map(|(a, b)| (a.into(), b.into())));
}

#[test]
fn a_variable_may_be_any_kind_of_value() {
    let loaded = valid_with(
        "limits: { nodes: \"${env:NUMBER}\", open_sessions: \"1${env:NUMBER}\" }\n\
         sessions:\n  heartbeat: ${env:PERIOD}\n  expire_after: 1h${env:PERIOD}\n\
         spans: { start_marker: '${env:TRUE}' }\n\
         receiver: { udp: { receive_buffer: \"${env:SIZE}\" } }\n\
         exporter: { compression: \"${env:NONE:-zstd}\", signals: [\"${env:NONE:-logs}\"] }\n",
        &VARIABLES,
    );
    let config = loaded.pipeline;
    assert_eq!(config.processor.nodes_max, 7);
    assert_eq!(config.processor.sessions.open_sessions_max, 17);
    assert_eq!(config.processor.sessions.heartbeat, Some(Duration::from_secs(300)));
    assert_eq!(config.processor.sessions.expire_after, Duration::from_secs(3900));
    assert!(config.processor.start_marker);
    assert_eq!(config.receiver.receive_buffer, 65_536);
    assert_eq!(config.exporter.compression, Compression::Zstd);
    assert_eq!(config.exporter.signals.len(), 1);
}

#[test]
fn what_is_no_variable_is_a_fault() {
    for (written, expected) in [
        (
            "${env:NONE}",
            "the environment variable `NONE` is not set (set it, or give a default as in `${env:NONE:-default}`)",
        ),
        (
            "${HOST}",
            "what stands in `${…}` does not begin with `env:` \
             (write `${env:NAME}` or `${env:NAME:-default}`, and `$$` for a dollar sign)",
        ),
        (
            "${file:/etc/passwd}",
            "what stands in `${…}` does not begin with `env:` \
             (write `${env:NAME}` or `${env:NAME:-default}`, and `$$` for a dollar sign)",
        ),
        (
            "${env:}",
            "`${env:…}` without the name of a variable \
             (a name is made of letters, digits and `_`, and does not begin with a digit)",
        ),
        (
            "${env:9}",
            "`${env:…}` without the name of a variable \
             (a name is made of letters, digits and `_`, and does not begin with a digit)",
        ),
        ("${env:HOST", "`${` without a `}` after it (write `$$` for a dollar sign)"),
        ("${env:A:-${env:B}}", "the default of `A` holds another variable, which is not understood"),
    ] {
        let faults = refused_with(&format!("store: {{ directory: \"{written}\" }}"), &VARIABLES);
        assert_eq!(lines_of(&faults), [format!("1:21 store.directory: {expected}")], "{written}");
    }
}

#[test]
fn every_variable_that_is_not_set_is_told_at_once() {
    let faults =
        refused("store: { directory: \"${env:A}\" }\nresource:\n  a: ${env:B}\n  b: ${env:C:-c}\n  c: ${env:D}\n");
    let lines = lines_of(&faults);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, name) in lines.iter().zip(["A", "B", "D"]) {
        assert!(line.contains(&format!("`{name}` is not set")), "{line}");
    }
}

#[test]
fn a_fault_in_a_value_of_a_variable_names_it_and_not_its_value() {
    let faults = refused_with(
        "limits: { nodes: \"${env:HOST}\" }\nexporter: { endpoint: \"${env:HOST}:x\", compression: \"${env:HOST}\" }\n",
        &VARIABLES,
    );
    let lines = lines_of(&faults);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines {
        assert!(line.contains("the value of \"${env:HOST}") && !line.contains("collector"), "{line}");
    }
    assert!(!faults.render(false).contains("collector"));
}

/// Each variable of the specification, with a value and what the file would say.
const SPECIFIED: [(&str, &str); 5] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://backend.example.com:443"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "X-Team=a%20b%2Cc%3D%25,authorization = Basic%20eA==,empty="),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,team=%C3%A4,service.name=mine"),
];

#[test]
fn the_variables_of_the_specification_count_where_the_file_is_silent() {
    for text in ["", "exporter:\n  headers:\nresource:\n", "exporter: { endpoint: , timeout: ~ }"] {
        let loaded = valid_with(text, &SPECIFIED);
        let exporter = &loaded.pipeline.exporter;
        assert_eq!(exporter.endpoint.to_string(), "https://backend.example.com:443/");
        assert_eq!(exporter.timeout, Duration::from_millis(2500));
        assert_eq!(exporter.compression, Compression::None);
        let mut headers: Vec<_> =
            exporter.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        headers.sort_unstable();
        assert_eq!(headers, [("authorization", "Basic eA=="), ("x-team", "a b,c=%")]);
        let expected = [("deployment.environment.name", "test"), ("team", "ä")];
        assert_eq!(loaded.pipeline.processor.resource, expected.map(|(name, value)| (name.into(), value.into())));
        let warnings = loaded.warnings.join("\n");
        assert_eq!(
            warnings,
            "OTEL_RESOURCE_ATTRIBUTES: resource[\"service.name\"]: is left out: it names the proxy node, \
             not the receiver"
        );
    }
}

#[test]
fn the_file_speaks_before_the_variables_of_the_specification() {
    let text = "exporter:\n  endpoint: http://localhost:1\n  timeout: 1s\n  compression: zstd\n  \
                headers: { x-team: of-the-file, x-other: \"\" }\nresource: { team: of-the-file }\n";
    let variables = [SPECIFIED.as_slice(), &[("OTEL_EXPORTER_OTLP_HEADERS", "never")]].concat();
    let loaded = valid_with(text, &variables);
    let exporter = &loaded.pipeline.exporter;
    assert_eq!(exporter.endpoint.to_string(), "http://localhost:1/");
    assert_eq!(exporter.timeout, Duration::from_secs(1));
    assert_eq!(exporter.compression, Compression::Zstd);
    let mut headers: Vec<_> =
        exporter.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    headers.sort_unstable();
    assert_eq!(headers, [("authorization", "Basic eA=="), ("x-team", "of-the-file")]);
    let expected = [("deployment.environment.name", "test"), ("team", "of-the-file")];
    assert_eq!(loaded.pipeline.processor.resource, expected.map(|(name, value)| (name.into(), value.into())));
}

#[test]
fn an_empty_variable_of_the_specification_is_none() {
    let variables = SPECIFIED.map(|(name, _)| (name, ""));
    assert_eq!(valid_with("", &variables).to_yaml(), valid_with("", &[]).to_yaml());
}

#[test]
fn a_fault_in_a_variable_of_the_specification_names_it() {
    let entry = "entry 2 is not `name=value` in percent-encoding";
    for (name, value, expected) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "ftp://x",
            "exporter.endpoint: OTEL_EXPORTER_OTLP_ENDPOINT: the value has a scheme that is not understood",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "exporter.timeout: OTEL_EXPORTER_OTLP_TIMEOUT: the value is no whole number of milliseconds",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "0",
            "exporter.timeout: OTEL_EXPORTER_OTLP_TIMEOUT: the value is zero, which would never let anything happen",
        ),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "snappy",
            "exporter.compression: OTEL_EXPORTER_OTLP_COMPRESSION: the value is not one of none, gzip, zstd",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c", &format!("exporter.headers: OTEL_EXPORTER_OTLP_HEADERS: {entry}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c=%4", &format!("exporter.headers: OTEL_EXPORTER_OTLP_HEADERS: {entry}")),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=%0A",
            "exporter.headers.a: OTEL_EXPORTER_OTLP_HEADERS: the value has a character that headers \
             may not have, such as a line break",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=b,c d=e",
            "exporter.headers: OTEL_EXPORTER_OTLP_HEADERS: an entry whose name is none of a header",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "te=b",
            "exporter.headers.te: OTEL_EXPORTER_OTLP_HEADERS: gRPC sets this header itself",
        ),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,=c", &format!("resource: OTEL_RESOURCE_ATTRIBUTES: {entry}")),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=%ff", &format!("resource: OTEL_RESOURCE_ATTRIBUTES: {entry}")),
    ] {
        let faults = refused_with("", &[(name, value)]);
        let told = faults.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, [expected], "{name}={value}");
        assert!(faults.iter().all(|fault| fault.place.is_none()), "{name}={value}");
    }
}

#[test]
fn print_config_says_which_variable_a_value_is_from() {
    let file = File::of("store: { directory: \"${env:SENSE_DIRECTORY}\" }\n");
    let output = sense_otel(&["print-config", "--config", file.name()])
        .env("SENSE_DIRECTORY", "a b")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("\n  directory: \"a b\"   # from SENSE_DIRECTORY\n"), "{told}");
    assert!(told.contains("\n  timeout: 1s500ms   # from OTEL_EXPORTER_OTLP_TIMEOUT\n"), "{told}");
}
