//! What a value has to be beyond its kind, and what it has to be for another key's sake.

use sense_otel::processor::Config;

use crate::{check, lines_of, read, refused, valid};

#[test]
fn numbers_durations_and_sizes_have_limits() {
    check(&[
        (
            "limits: { nodes: 65536, open_sessions: 10000001, attribute_length: 63, connections_per_session: 10001 }",
            &[
                "1:18 limits.nodes: 65536 is more than 65535",
                "1:40 limits.open_sessions: 10000001 is more than 10000000",
                "1:68 limits.attribute_length: 63 is less than 64",
                "1:97 limits.connections_per_session: 10001 is more than 10000",
            ],
        ),
        (
            "limits: { nodes: 99999999999999999999999 }",
            &["1:18 limits.nodes: 99999999999999999999999 is no whole number"],
        ),
        (
            "receiver: { rate_limit: { per_source: 4294967296 } }",
            &["1:39 receiver.rate_limit.per_source: 4294967296 is more than 4294967295"],
        ),
        (
            "receiver: { udp: { receive_buffer: 65535, max_datagram_size: 65508 } }",
            &[
                "1:36 receiver.udp.receive_buffer: 65535 is less than 64KiB",
                "1:62 receiver.udp.max_datagram_size: 65508 is more than 65507",
            ],
        ),
        (
            "receiver: { udp: { receive_buffer: 1025MiB, max_datagram_size: 0 } }",
            &[
                "1:36 receiver.udp.receive_buffer: \"1025MiB\" is more than 1GiB",
                "1:64 receiver.udp.max_datagram_size: 0 is less than 1",
            ],
        ),
        (
            "store: { max_size: 1023KiB, max_age: 0 }",
            &[
                "1:20 store.max_size: \"1023KiB\" is less than 1MiB",
                "1:38 store.max_age: 0 is zero, which would never let anything happen",
            ],
        ),
        (
            "sessions: { max_span_duration: 59s, heartbeat: 999ms, expire_after: 0s }",
            &[
                "1:32 sessions.max_span_duration: \"59s\" is less than 1m",
                "1:48 sessions.heartbeat: \"999ms\" is less than 1s",
                "1:69 sessions.expire_after: \"0s\" is zero, which would never let anything happen",
            ],
        ),
        (
            "sessions: { expire_after: 25h }",
            &["1:27 sessions.expire_after: `expire_connected_after` is shorter than `expire_after`"],
        ),
        (
            "exporter: { retry_on_failure: { initial_interval: 2s, max_interval: 1s } }",
            &["1:69 exporter.retry_on_failure.max_interval: `max_interval` is shorter than `initial_interval`"],
        ),
        ("telemetry: { metrics_interval: 99ms }", &["1:32 telemetry.metrics_interval: \"99ms\" is less than 100ms"]),
        ("store: { max_age: 87601h }", &["1:19 store.max_age: \"87601h\" is more than ten years"]),
    ]);
    valid("limits: { nodes: 65535, open_sessions: 10000000, attribute_length: 64, connections_per_session: 1 }");
    valid("sessions: { heartbeat: 0, max_span_duration: 1m, expire_after: 1ns, expire_connected_after: 1ns }");
    valid("receiver: { udp: { receive_buffer: 1GiB, max_datagram_size: 1 } }");
}

#[test]
fn what_is_no_duration_or_size_is_refused() {
    for text in ["-1h", "\"1 h\"", "1H", ".s", "h", "1h-1m", "\"\"", "soon", ".inf", ".nan", "1e3s", "1..5s", "１h"] {
        let lines = lines_of(&refused(&format!("store: {{ max_age: {text} }}")));
        assert!(lines.len() == 1 && lines[0].contains(" is no duration; "), "{text}: {lines:?}");
    }
    for text in ["5", "1.5", "1h2"] {
        let lines = lines_of(&refused(&format!("store: {{ max_age: {text} }}")));
        assert!(lines.len() == 1 && lines[0].contains(" has no unit; "), "{text}: {lines:?}");
    }
    for text in ["-1", "1.5GiB", "\"64 KiB\"", "16M", "16mib", "MiB", "\"\"", "1PiB", ".inf", "99999999999999999999"] {
        let lines = lines_of(&refused(&format!("store: {{ max_size: {text} }}")));
        assert!(lines.len() == 1 && lines[0].contains(" is no size; "), "{text}: {lines:?}");
    }
    let lines = lines_of(&refused("store: { max_size: 99999999TiB }"));
    assert_eq!(lines, ["1:20 store.max_size: \"99999999TiB\" is too large"]);
}

#[test]
fn an_endpoint_is_a_host_and_a_port() {
    let endpoints =
        ["localhost:9997", "\"[::]:9997\"", "\"[::1]:1\"", "0.0.0.0:0", "sense_1.example.com:65535", "\"10.0.0.1:80\""];
    for endpoint in endpoints {
        let loaded = valid(&format!("receiver: {{ udp: {{ endpoint: {endpoint} }} }}"));
        assert_eq!(loaded.pipeline.receiver.endpoint, endpoint.trim_matches('"'));
    }
    let has_no_port = "has no port; write `host:port`";
    let no_valid_port = "has no valid port; a port is a number from 0 to 65535";
    let no_valid_host = "has no valid host before the port";
    for (endpoint, expected) in [
        ("localhost", has_no_port),
        ("", has_no_port),
        ("localhost:", no_valid_port),
        ("localhost:65536", no_valid_port),
        ("localhost:-1", no_valid_port),
        ("localhost:+1", no_valid_port),
        ("localhost:http", no_valid_port),
        ("::", "has no port (put the address in brackets: `[::]:port`)"),
        (":9997", "has no host (for all addresses write `\"[::]:9997\"`, with the quotes)"),
        ("*:9997", no_valid_host),
        ("[::]", no_valid_port),
        ("[x]:1", no_valid_host),
        ("a b:1", no_valid_host),
        ("10.1:1", no_valid_host),
        ("10.0.0.256:1", no_valid_host),
        ("udp://localhost:9997", "is a URL; only `host:port` belongs here"),
    ] {
        for (key, column) in [("receiver: { udp: { endpoint", 30), ("admin: { endpoint", 20)] {
            let close = if key.starts_with("receiver") { " } }" } else { " }" };
            let path = if key.starts_with("receiver") { "receiver.udp.endpoint" } else { "admin.endpoint" };
            let lines = lines_of(&refused(&format!("{key}: \"{endpoint}\"{close}")));
            assert_eq!(lines, [format!("1:{column} {path}: \"{endpoint}\" {expected}")]);
        }
    }
}

#[test]
fn the_status_page_is_for_this_machine_unless_allowed() {
    for endpoint in ["localhost:1", "127.0.0.1:1", "[::1]:1", "127.8.8.8:1"] {
        valid(&format!("admin: {{ endpoint: \"{endpoint}\" }}"));
    }
    for endpoint in ["0.0.0.0:1", "[::]:1", "sense1:1", "10.0.0.1:1"] {
        let lines = lines_of(&refused(&format!("admin: {{ endpoint: \"{endpoint}\" }}")));
        let expected = "can be reached by other machines (write `localhost`, or set `admin.allow_remote: true`)";
        assert_eq!(lines, [format!("1:20 admin.endpoint: \"{endpoint}\" {expected}")]);
        valid(&format!("admin: {{ endpoint: \"{endpoint}\", allow_remote: true }}"));
    }
}

#[test]
fn the_page_is_asked_for_under_names_only() {
    let text = |host: &str| format!("admin: {{ allowed_hosts: [\"{host}\"] }}");
    let loaded = valid(&text("Sense1.example.com"));
    assert_eq!(loaded.pipeline.admin.map(|admin| admin.allowed_hosts), Some(vec!["Sense1.example.com".to_owned()]));
    for host in ["sense1:13133", "http://sense1", "", "*.example.com", "a b"] {
        let expected = "is no host name; a port or a scheme does not belong here";
        assert_eq!(lines_of(&refused(&text(host))), [format!("1:26 admin.allowed_hosts[0]: \"{host}\" {expected}")]);
    }
}

#[test]
fn the_exporter_speaks_grpc_over_http_or_https() {
    for endpoint in ["http://localhost:4317", "https://api.example.com", "https://[::1]:4317", "HTTP://10.0.0.1:80/"] {
        valid(&format!("exporter: {{ endpoint: \"{endpoint}\" }}"));
    }
    for (endpoint, expected) in [
        ("localhost:4317", "has no scheme (write `http://localhost:4317`, or `https://localhost:4317` for TLS)"),
        ("grpc://a:1", "has a scheme that is not understood (write `http://` or `https://`; gRPC goes over both)"),
        ("unix:///run/otel", "is no URL of an OTLP/gRPC server (write for example `http://localhost:4317`)"),
        ("http://a", "has no port (write `http://a:4317`)"),
        ("http://a:0", "has the port 0, which nothing can be sent to"),
        ("http://a:65536", "has no valid port; a port is a number from 1 to 65535"),
        ("http://a:1/v1/traces", "has a path, which OTLP over gRPC does not use (write `http://a:1`)"),
        ("", "is no URL of an OTLP/gRPC server (write for example `http://localhost:4317`)"),
    ] {
        let lines = lines_of(&refused(&format!("exporter: {{ endpoint: \"{endpoint}\" }}")));
        assert_eq!(lines, [format!("1:23 exporter.endpoint: \"{endpoint}\" {expected}")]);
    }
    let loaded = valid("exporter: { endpoint: \"http://localhost:4318\" }");
    assert_eq!(
        loaded.warnings,
        ["sense-otel.yaml:1:13: exporter.endpoint: 4318 is the usual port of OTLP over HTTP; gRPC, \
             which is sent, has 4317"]
    );
}

#[test]
fn headers_go_over_plain_http_only_where_nobody_listens() {
    let with =
        |endpoint: &str, rest: &str| format!("exporter: {{ endpoint: \"{endpoint}\", headers: {{ a: b }}{rest} }}");
    for endpoint in
        ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "http://LOCALHOST:1", "https://far:1"]
    {
        assert_eq!(valid(&with(endpoint, "")).pipeline.exporter.headers.len(), 1, "{endpoint}");
    }
    for endpoint in [
        "http://far:1",
        "http://10.0.0.1:1",
        "http://localhost.example.com:1",
        "http://127.example.com:1",
        "http://0.0.0.0:1",
    ] {
        let lines = lines_of(&refused(&with(endpoint, "")));
        assert_eq!(lines.len(), 1, "{endpoint}: {lines:?}");
        assert!(lines[0].contains("headers would go over plain http to another host"), "{lines:?}");
        valid(&with(endpoint, ", tls: { insecure: true }"));
        valid(&format!("exporter: {{ endpoint: \"{endpoint}\", headers: {{ a: \"\" }} }}"));
    }
}

#[test]
fn tls_keys_belong_together_and_to_https() {
    let https = |tls: &str| format!("exporter: {{ endpoint: https://far:1, tls: {{ {tls} }} }}");
    valid(&https("ca_file: a, cert_file: b, key_file: c, server_name_override: d.example.com"));
    for (tls, expected) in [
        ("cert_file: a", "1:56 exporter.tls.cert_file: needs `exporter.tls.key_file` beside it"),
        ("key_file: a", "1:55 exporter.tls.key_file: needs `exporter.tls.cert_file` beside it"),
        ("server_name_override: a b", "1:67 exporter.tls.server_name_override: \"a b\" is no host name"),
    ] {
        assert_eq!(lines_of(&refused(&https(tls))), [expected]);
    }
    assert!(lines_of(&refused(&https("insecure: true")))[0].contains("`insecure` has no meaning for `https://`"));
    for tls in ["ca_file: a", "cert_file: a, key_file: b", "server_name_override: a"] {
        let faults = refused(&format!("exporter: {{ endpoint: http://far:1, tls: {{ {tls} }} }}"));
        assert!(faults.iter().all(|fault| fault.message.starts_with("has no effect, since")), "{faults}");
    }
}

#[test]
fn headers_have_names_that_http_knows_and_grpc_leaves_free() {
    check(&[(
        "exporter: { headers: { \"a b\": x, te: x, grpc-timeout: x, x-bin: x, \"\": x, a: x, A: x, b: \"ä\" } }",
        &[
            "1:24 exporter.headers.a…: `a…` is no name of a header",
            "1:34 exporter.headers.te: gRPC sets this header itself",
            "1:41 exporter.headers.grpc-timeout: gRPC sets this header itself",
            "1:58 exporter.headers.x-bin: headers that end in `-bin` are binary, which is not supported",
            "1:68 exporter.headers.: `` is no name of a header",
            "1:75 exporter.headers.a: the header is there already; upper or lower case makes no difference",
            "1:90 exporter.headers.b: the value has a character that headers may not have, such as a line break",
        ],
    )]);
}

#[test]
fn sources_that_cannot_be_found_refuse_the_start() {
    let loaded = valid(
        "receiver: { allowed_sources: [10.1.2.3/8, 192.0.2.7, \"fd00::/8\", \"::ffff:192.0.2.8\", sense1, sense2] }",
    );
    let networks = loaded.pipeline.receiver.allowed_sources.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        "10.0.0.0/8",
        "192.0.2.7/32",
        "fd00::/8",
        "192.0.2.8/32",
        "10.0.0.1/32",
        "10.0.0.2/32",
        "10.0.0.3/32",
        "::1/128",
    ];
    assert_eq!(networks, expected);
    for (source, expected) in [
        ("nobody", "is a host name that has no address"),
        ("typo", "is a host name that cannot be looked up: name or service not known"),
        ("10.0.0.0/33", "is no network; one is written `10.0.0.0/8` or `fd00::/8`"),
        ("sense1/24", "is no network; one is written `10.0.0.0/8` or `fd00::/8`"),
        ("10.0.0", "is neither a network nor an address nor a host name"),
        ("*", "is neither a network nor an address nor a host name"),
        ("", "is neither a network nor an address nor a host name"),
    ] {
        let lines = lines_of(&refused(&format!("receiver: {{ allowed_sources: [10.0.0.0/8, \"{source}\"] }}")));
        assert_eq!(lines, [format!("1:43 receiver.allowed_sources[1]: \"{source}\" {expected}")]);
    }
    let faults = refused("receiver: { allowed_sources: [5, typo, [x], typo] }");
    let paths = faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>();
    let expected = [0, 1, 2, 3].map(|index| format!("receiver.allowed_sources[{index}]"));
    assert_eq!(paths, expected, "each at its own place");
}

fn processor(text: &str) -> Config {
    valid(text).pipeline.processor
}

#[test]
fn users_are_excluded_by_patterns_but_never_all_of_them() {
    let rules =
        processor("exclude_users: [{ directory: INTERNAL }, { user: \"sa_*\" }, { directory: \"\", user: \"?\" }]");
    let rules: Vec<_> = rules.exclude_users.iter().map(|rule| (rule.directory.as_str(), rule.user.as_str())).collect();
    assert_eq!(rules, [("INTERNAL", "*"), ("*", "sa_*"), ("", "?")]);
    for rule in ["{}", "{ user: \"*\" }", "{ directory: \"**\", user: \"***\" }"] {
        let lines = lines_of(&refused(&format!("exclude_users: [{{ user: a }}, {rule}]")));
        assert_eq!(lines.len(), 1, "{rule}: {lines:?}");
        assert!(lines[0].ends_with("exclude_users[1]: this rule leaves out everybody"), "{rule}: {lines:?}");
    }
    check(&[("exclude_users: [{ user: \"\" }]", &["1:25 exclude_users[0].user: the empty pattern fits no user"])]);
    assert_eq!(lines_of(&refused("exclude_users: [{ usr: a }]")).len(), 1, "a slip is not told as a rule for all");
}

#[test]
fn what_names_the_node_cannot_be_set() {
    let message = "the attribute names the proxy node and cannot be set";
    for name in ["service.name", "service.namespace", "service.instance.id", "host.name"] {
        let lines = lines_of(&refused(&format!("resource: {{ a: b, {name}: x }}")));
        assert_eq!(lines, [format!("1:19 resource[\"{name}\"]: {message}")]);
    }
    let long = "n".repeat(256);
    for name in ["", "a\\nb", &long] {
        assert!(read(&format!("resource: {{ \"{name}\": x }}")).is_err(), "{name}");
    }
    assert_eq!(processor(&format!("resource: {{ {}: x }}", "n".repeat(255))).resource.len(), 1);
}

#[test]
fn levels_are_those_of_the_log() {
    for level in ["off", "INFO", "trace", "info,sense_otel::exporter=debug", "warn,h2=off", "sense_otel=trace"] {
        assert_eq!(valid(&format!("telemetry: {{ level: \"{level}\" }}")).pipeline.telemetry.level, level);
    }
    for level in ["inof", "verbose", "", "info,,debug", "info;debug", "sense_otel=loud", "[", "5"] {
        let lines = lines_of(&refused(&format!("telemetry: {{ level: \"{level}\" }}")));
        assert!(lines.len() == 1 && lines[0].starts_with("1:21 telemetry.level: "), "{level}: {lines:?}");
    }
}
