//! What is written about the configuration says what the program does.

use std::fs;

use serde_json::Value;

use sense_otel::{config, exporter, pipeline, processor};

use crate::{package, run, text, valid, valid_with};

/// The YAML of the design, as it stands there, but for the comments. Every key is in it.
const DESIGN: &str = r#"
receiver:
  udp: { endpoint: "localhost:9997", receive_buffer: 16MiB, max_datagram_size: 65507 }   # on a site: "[::]:9997"
  allowed_sources: [10.0.0.0/8]          # CIDR or host names; empty = any; unresolvable entries refuse to start
  rate_limit: { per_source: 0 }          # datagrams/s, 0 = off
sessions: { expire_after: 4h, expire_connected_after: 24h, max_span_duration: 12h, heartbeat: 15m }
exclude_users: [{ directory: INTERNAL, user: "sa_*" }]     # case-insensitive, * and ?
privacy: { user: keep, user_agent: keep, client_address: keep, key: "${env:SENSE_OTEL_KEY:-}" }
limits: { open_sessions: 200000, connections_per_session: 1000, nodes: 256, attribute_length: 2048 }
apps: { names_file: "" }
resource: { deployment.environment.name: production }
spans: { start_marker: false }
exporter:
  endpoint: http://localhost:4317
  signals: [logs, traces, metrics]
  headers: { x-honeycomb-team: "${env:HONEYCOMB_API_KEY:-}" }   # refused over plain http to another host
  tls: { insecure: false, ca_file: "", cert_file: "", key_file: "", server_name_override: "" }
  compression: gzip                      # none, gzip, zstd
  timeout: 10s
  retry_on_failure: { initial_interval: 1s, max_interval: 30s }
store: { directory: ./sense-otel-data, max_size: 4GiB, max_age: 72h }
admin: { endpoint: "localhost:13133", allow_remote: false, allowed_hosts: [] }
telemetry: { level: info, metrics_interval: 15s }
"#;

fn printed(option: &str) -> String {
    let output = run(&["print-config", option]);
    assert_eq!(output.status.code(), Some(0), "{option}");
    assert!(output.stderr.is_empty(), "{option}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn debug(config: &pipeline::Config) -> String {
    format!("{config:#?}")
}

#[test]
fn the_files_are_what_the_program_prints() {
    for (path, option) in [
        ("docs/configuration.md", "--markdown"),
        ("otel-config/sense-otel.yaml", "--reference"),
        ("otel-config/sense-otel.schema.json", "--schema"),
    ] {
        let file = fs::read_to_string(package(path)).expect(path).replace("\r\n", "\n");
        assert!(file == printed(option), "{path} differs: sense-otel print-config {option} >{path}");
    }
}

#[test]
fn the_reference_file_says_the_defaults() {
    let path = package("otel-config/sense-otel.yaml");
    let reference = config::load(Some(&path), |_| None, crate::resolve).expect("the reference file is valid");
    let defaults = config::load(None, |_| None, crate::resolve).expect("the defaults are valid");
    assert_eq!(debug(&reference.pipeline), debug(&defaults.pipeline));
    assert_eq!(reference.to_yaml(), defaults.to_yaml());
    assert_eq!(defaults.warnings, [""; 0]);
}

#[test]
fn a_file_that_says_nothing_says_the_defaults() {
    let defaults = config::load(None, |_| None, crate::resolve).expect("the defaults are valid");
    for text in [
        "",
        "\n\n",
        "   ",
        "# nothing",
        "# a\n\n  # b\n",
        "---\n",
        "---\n...\n",
        "{}",
        "~",
        "null\n",
        "\u{feff}",
        "\u{feff}# a BOM",
        "%YAML 1.2\n---\n",
        "receiver:\nsessions:\nexclude_users:\nprivacy:\nlimits:\napps:\nresource:\nspans:\n\
         exporter:\nstore:\ntelemetry:\n",
        "exporter:\n  # endpoint: x\n  headers:\n  signals:\n  tls:\n    # insecure: true\nstore: { directory: }\n",
    ] {
        let loaded = valid(text);
        assert_eq!(loaded.to_yaml(), defaults.to_yaml(), "{text:?}");
        assert_eq!(debug(&loaded.pipeline), debug(&defaults.pipeline), "{text:?}");
    }
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = valid("").pipeline;
    assert_eq!(format!("{:?}", config.processor), format!("{:?}", processor::Config::default()));
    assert_eq!(config.exporter.retry.max_interval.as_secs(), 30);
    assert_eq!(config.exporter.compression, exporter::Compression::Gzip);
    assert_eq!(config.receiver.endpoint, "localhost:9997");
    assert_eq!(config.receiver.receive_buffer, 16 << 20);
    assert_eq!(config.store.max_size, 4 << 30);
    assert!(config.key.is_none());
}

#[test]
fn every_key_of_the_design_is_read() {
    let loaded = valid(DESIGN);
    let config = &loaded.pipeline;
    assert_eq!(config.receiver.allowed_sources, ["10.0.0.0/8".parse().expect("a network")]);
    assert_eq!(config.processor.exclude_users.len(), 1);
    assert_eq!(config.processor.resource, [("deployment.environment.name".to_owned(), "production".to_owned())]);
    assert!(config.exporter.headers.is_empty(), "an empty header is not sent");
    assert!(config.key.is_none(), "an empty key is none");

    let key = "0123456789abcdef";
    let loaded = valid_with(DESIGN, &[("SENSE_OTEL_KEY", key), ("HONEYCOMB_API_KEY", "k")]);
    assert!(loaded.pipeline.key.is_some());
    assert_eq!(loaded.pipeline.exporter.headers.len(), 1);
}

/// Every key that the schema knows, as a path.
fn keys_of(schema: &Value, path: &str, keys: &mut Vec<String>) {
    for below in [schema, schema.get("items").unwrap_or(&Value::Null)] {
        for (key, schema) in below.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}.{key}");
            keys_of(schema, &path, keys);
            keys.push(path);
        }
    }
}

#[test]
fn the_design_leaves_out_no_key() {
    let schema: Value = serde_json::from_str(&config::json_schema()).expect("JSON");
    let mut keys = Vec::new();
    keys_of(&schema, "", &mut keys);
    assert_eq!(keys.len(), 57, "{keys:#?}");
    for path in keys {
        let key = path.rsplit('.').next().expect("a key");
        assert!(DESIGN.contains(&format!("{key}:")), "{path}");
    }
}

#[test]
fn every_key_of_the_page_is_one_of_the_reference() {
    let page = config::markdown();
    let reference = config::reference_yaml();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).collect::<Vec<_>>();
    assert!(rows.len() > 40, "{}", rows.len());
    for (path, _) in rows.iter().filter(|(path, _)| !path.contains("[]")) {
        let key = path.rsplit('.').next().expect("a key");
        assert!(reference.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))), "{path}");
    }
}
