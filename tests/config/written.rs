//! What `print-config` writes is read again as the same configuration.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{read_with, valid};

/// A text in quotes, every character of it escaped, so that it owes nothing to the code under test.
fn quoted(text: &str) -> String {
    let escaped =
        text.replace('$', "$$").chars().map(|character| format!("\\U{:08X}", u32::from(character))).collect::<String>();
    format!("\"{escaped}\"")
}

fn duration() -> impl Strategy<Value = String> {
    let unit = select(&["ns", "us", "ms", "s", "m"]);
    vec((60_u32..1000, unit), 1..4).prop_map(|parts| {
        let parts = parts.iter().map(|(number, unit)| format!("{number}{unit}")).collect::<String>();
        format!("2h{parts}")
    })
}

fn size() -> impl Strategy<Value = String> {
    prop_oneof![
        (1_u64 << 20..1 << 30).prop_map(|bytes| bytes.to_string()),
        (1_u32..1000).prop_map(|mib| format!("{mib}MiB"))
    ]
}

fn receiver() -> impl Strategy<Value = String> {
    let endpoint = select(&["localhost:9997", "[::]:0", "10.0.0.1:65535", "sense_1.example.com.:1"]);
    let source = select(&["10.0.0.0/8", "192.0.2.1", "fd00::/8", "sense1", "sense2"]);
    (endpoint, size(), 1_u32..=65_507, vec(source, 0..4), any::<u32>()).prop_map(
        |(endpoint, buffer, most, sources, rate)| {
            let sources = sources.iter().map(|source| quoted(source)).collect::<Vec<_>>().join(", ");
            let endpoint = quoted(endpoint);
            format!(
                "receiver:\n  udp: {{ endpoint: {endpoint}, receive_buffer: {buffer}, max_datagram_size: {most} }}\n  \
             allowed_sources: [{sources}]\n  rate_limit: {{ per_source: {rate} }}\n"
            )
        },
    )
}

/// `? name` and `: value`, since a name in quotes may be too long for a key on one line.
fn attribute((name, value): (&String, &String)) -> String {
    format!("  ? {}\n  : {}\n", quoted(name), quoted(value))
}

fn resource() -> impl Strategy<Value = String> {
    let name = "[^\\p{Cc}$]{1,60}".prop_filter("not the node's", |name| !name.ends_with(".name"));
    btree_map(name, any::<String>(), 0..4)
        .prop_map(|attributes| format!("resource:\n{}", attributes.iter().map(attribute).collect::<String>()))
}

fn processor() -> impl Strategy<Value = String> {
    let handling = || select(&["keep", "hash", "drop"]);
    let rule = (any::<String>(), any::<String>()).prop_map(|(directory, user)| {
        format!("  - {{ directory: {}, user: {} }}\n", quoted(&directory), quoted(&format!("{user}x")))
    });
    let limits = (1_u32..=10_000_000, 1_u32..=10_000, 1_u32..=65_535, 64_u32..=65_536);
    (handling(), handling(), handling(), vec(rule, 0..4), any::<bool>(), limits).prop_map(
        |(user, agent, address, rules, marker, (sessions, connections, nodes, length))| {
            format!(
                "privacy: {{ user: {user}, user_agent: {agent}, client_address: {address} }}\n\
                 spans: {{ start_marker: {marker} }}\n\
                 limits: {{ open_sessions: {sessions}, connections_per_session: {connections}, nodes: {nodes}, \
                 attribute_length: {length} }}\nexclude_users:\n{}",
                rules.concat()
            )
        },
    )
}

fn rest() -> impl Strategy<Value = String> {
    let endpoint = select(&["http://localhost:4317", "https://api.example.com", "https://[2001:db8::1]:4317"]);
    let signals = select(&["logs", "logs, metrics", "traces, logs, metrics"]);
    let compression = select(&["none", "gzip", "zstd"]);
    let level = select(&["info", "off", "warn,sense_otel::exporter=debug"]);
    let text = || any::<String>().prop_map(|text| quoted(&format!("{text}x")));
    (endpoint, signals, compression, level, vec(duration(), 5), size(), text(), text()).prop_map(
        |(endpoint, signals, compression, level, durations, size, directory, names)| {
            let [timeout, wait, age, interval, heartbeat] = durations.as_slice() else { return String::new() };
            format!(
                "exporter:\n  endpoint: {endpoint}\n  signals: [{signals}]\n  compression: {compression}\n  \
                 timeout: {timeout}\n  retry_on_failure: {{ max_interval: {wait} }}\n\
                 store: {{ directory: {directory}, max_size: {size}, max_age: {age} }}\n\
                 apps: {{ names_file: {names} }}\ntelemetry: {{ level: \"{level}\", metrics_interval: {interval} }}\n\
                 sessions: {{ heartbeat: {heartbeat}, expire_after: 1h }}\n"
            )
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(
        receiver in receiver(),
        processor in processor(),
        resource in resource(),
        rest in rest(),
    ) {
        let loaded = valid(&format!("{receiver}{processor}{resource}{rest}"));
        let printed = loaded.to_yaml();
        let again = valid(&printed);
        prop_assert_eq!(format!("{:#?}", again.pipeline), format!("{:#?}", loaded.pipeline));
        prop_assert_eq!(again.to_yaml(), printed);
    }

    #[test]
    fn what_the_environment_brought_is_read_again_without_it(
        attributes in "([a-z%0-9.]{1,300}=[^,=]{0,40},){0,4}",
        headers in "([a-z-]{1,300}=,){0,4}",
        directory in "[^\\x00]{1,40}",
    ) {
        let variables = [
            ("OTEL_RESOURCE_ATTRIBUTES", attributes.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str()),
            ("DIRECTORY", directory.as_str()),
        ];
        if let Ok(loaded) = read_with("store:\n  directory: ${env:DIRECTORY}\n", &variables) {
            let again = valid(&loaded.to_yaml());
            prop_assert_eq!(format!("{:#?}", again.pipeline), format!("{:#?}", loaded.pipeline));
        }
    }
}
