//! The configuration as it is written: every key, its default and its meaning.
//!
//! The comments on the keys are the user's documentation: `docs/configuration.md`, `otel-config/sense-otel.yaml` and
//! the JSON schema are made from them. These types know kinds of values only; what a value has to be beyond its kind is
//! [`super::check`]'s.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Period, Secret, Size};

/// Configuration of sense-otel. Every key has a default; an empty file is valid.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "sense-otel")]
pub(super) struct Spec {
    /// Where datagrams of the Qlik Sense proxies come in.
    pub(super) receiver: Receiver,
    /// When sessions and their spans end that nobody ended.
    pub(super) sessions: Sessions,
    /// Users whose events are left out, counted but not exported, such as service accounts and health checks. A rule
    /// matches if both of its patterns do: `*` stands for any text, `?` for any one character, and upper or lower case
    /// is the same. Example: `[{ directory: INTERNAL, user: "sa_*" }]`.
    pub(super) exclude_users: Vec<ExcludeUser>,
    /// What becomes of personal data before anything is stored or sent: `keep` sends it as it is, `hash` sends a keyed
    /// hash of it that is the same for the same person, `drop` sends nothing of it.
    pub(super) privacy: Privacy,
    /// How much is kept in memory at most, whatever is sent to the UDP port.
    pub(super) limits: Limits,
    /// Names of apps.
    pub(super) apps: Apps,
    /// Attributes added to the resource of all logs and spans. Names such as `deployment.environment.name` are those of
    /// the OpenTelemetry semantic conventions. `service.name`, `service.namespace`, `service.instance.id` and
    /// `host.name` name the proxy node and cannot be set. Where no value stands here, `OTEL_RESOURCE_ATTRIBUTES`
    /// counts. Example: `{ deployment.environment.name: production }`.
    pub(super) resource: BTreeMap<String, String>,
    /// Extra spans.
    pub(super) spans: Spans,
    /// Where telemetry is sent: an OpenTelemetry Collector, or any backend that takes OTLP over gRPC.
    pub(super) exporter: Exporter,
    /// What is kept for a backend that does not answer.
    pub(super) store: Store,
    /// The live page: who is on, with which apps, and how the receiver is. `/api/sessions`, `/metrics` and `/status` are
    /// there too. If the port is taken, the receiver works without it, says so, and tries again every 10 s.
    pub(super) admin: Admin,
    /// The log and the metrics of sense-otel itself.
    pub(super) telemetry: Telemetry,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Receiver {
    /// The UDP socket.
    pub(super) udp: Udp,
    /// Who may send, as networks (`10.0.0.0/8`), addresses or host names; empty is anyone. Datagrams of others are
    /// dropped and counted. Host names are looked up once, at the start; one that has no address is a fault. Example:
    /// `[10.0.0.0/8, sense1.example.com]`.
    pub(super) allowed_sources: Vec<String>,
    /// How much one sender may send.
    pub(super) rate_limit: RateLimit,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Udp {
    /// `host:port` to listen on. `[::]:9997` listens on all addresses, IPv6 and IPv4, which is what a site needs; the
    /// default takes datagrams of this machine only. Port 0 takes any free port.
    pub(super) endpoint: String,
    /// Size of the receive buffer to ask the operating system for, from 64KiB to 1GiB. Datagrams wait there while we
    /// are busy. What the system granted is in the log at the start; Linux grants `net.core.rmem_max` at most.
    pub(super) receive_buffer: Size,
    /// Largest datagram that is taken, from 1 to 65507 bytes; a larger one is dropped and counted.
    pub(super) max_datagram_size: Size,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateLimit {
    /// Datagrams per second that are taken from one sender address; more are dropped and counted. 0 is no limit.
    pub(super) per_source: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sessions {
    /// A session without open connections ends when nothing was heard of it for this long. Qlik Sense does not always
    /// say that a session ended.
    pub(super) expire_after: Period,
    /// The same for a session with open connections; at least `expire_after`.
    pub(super) expire_connected_after: Period,
    /// A span that would become longer than this is cut here and goes on as a further segment of the same trace, since
    /// backends refuse or hide longer ones. At least 1m.
    pub(super) max_span_duration: Period,
    /// How often a log record tells of each session that is open; 0 is never, else at least 1s.
    pub(super) heartbeat: Period,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExcludeUser {
    /// Pattern of the user directory. The empty text is for users without a directory.
    pub(super) directory: String,
    /// Pattern of the user id inside the directory.
    pub(super) user: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Privacy {
    /// User directory and user id.
    pub(super) user: Handling,
    /// The browser's User-Agent, and its name, version and operating system.
    pub(super) user_agent: Handling,
    /// The address of the client.
    pub(super) client_address: Handling,
    /// Secret of all hashes and of trace ids that are made from session ids; at least 16 bytes. Two receivers of one
    /// site need the same. Empty takes a file with a random key beside the store, made at the first start. Best given
    /// as `${env:SENSE_OTEL_KEY}`.
    pub(super) key: Secret,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Handling {
    #[default]
    Keep,
    Hash,
    Drop,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Sessions that may be open at the same time. Beyond it the least recently active one ends early, those that only
    /// ever sent one event first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) open_sessions: u32,
    /// Connections that one session may have open at the same time.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) connections_per_session: u32,
    /// Proxy nodes that are known at most; events of further ones are rejected and counted.
    #[schemars(range(min = 1, max = 65_535))]
    pub(super) nodes: u32,
    /// Longest attribute value in bytes; a longer one is cut and ends in `…`.
    #[schemars(range(min = 64, max = 65_536))]
    pub(super) attribute_length: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Apps {
    /// CSV file of app id and app name, for `qlik.sense.app.name` where the event does not bring it: lines such as
    /// `49455a02-88a7-43b1-b345-3b164aefbafd,Finance P&L` in UTF-8, with a comma, a semicolon or a TAB. Other lines, a
    /// heading for example, are passed over. Read again when it changes. Empty is none.
    pub(super) names_file: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Spans {
    /// Sends a short span `qlik.sense.session.start` as soon as a session starts, so that its trace is visible before
    /// it ends.
    pub(super) start_marker: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Exporter {
    /// `http://host:port` or `https://host:port` of an OTLP/gRPC server, whose usual port is 4317. Where this key is
    /// missing, `OTEL_EXPORTER_OTLP_ENDPOINT` counts.
    pub(super) endpoint: String,
    /// What is sent.
    pub(super) signals: Vec<SignalName>,
    /// Headers of every request (gRPC metadata), for example for authentication. Their values are never shown. A header
    /// with an empty value is not sent. Over plain http to another host they are refused unless `tls.insecure` is true.
    /// Where a name is missing, `OTEL_EXPORTER_OTLP_HEADERS` counts. Example:
    /// `{ x-honeycomb-team: "${env:HONEYCOMB_API_KEY:-}" }`.
    pub(super) headers: BTreeMap<String, Secret>,
    /// For `https://` endpoints.
    pub(super) tls: Tls,
    /// How requests are compressed. Where this key is missing, `OTEL_EXPORTER_OTLP_COMPRESSION` counts.
    pub(super) compression: CompressionName,
    /// Deadline of one request. Where this key is missing, `OTEL_EXPORTER_OTLP_TIMEOUT` (in milliseconds) counts.
    pub(super) timeout: Period,
    /// Waiting between tries. It goes on until the budget of the store is used up.
    pub(super) retry_on_failure: RetryOnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignalName {
    Logs,
    Traces,
    Metrics,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CompressionName {
    None,
    #[default]
    Gzip,
    Zstd,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    /// Allows headers over plain http to another host, where everyone on the way can read them. It does not switch off
    /// the check of certificates; for an authority of your own there is `ca_file`.
    pub(super) insecure: bool,
    /// PEM file of the authorities to trust instead of the system's. Empty is the system's.
    pub(super) ca_file: String,
    /// PEM file of our own certificate, if the server asks for one. Needs `key_file`.
    pub(super) cert_file: String,
    /// PEM file of the private key of `cert_file`.
    pub(super) key_file: String,
    /// Name to expect in the server's certificate, if it is not the host of the endpoint.
    pub(super) server_name_override: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryOnFailure {
    /// The first wait; each one after it is longer.
    pub(super) initial_interval: Period,
    /// The longest wait, unless the server asks for a longer one; at least `initial_interval`.
    pub(super) max_interval: Period,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    /// Folder of the store and of the generated key. One process at a time may use it.
    pub(super) directory: String,
    /// Budget in bytes, at least 1MiB; beyond it the oldest data is dropped and counted.
    pub(super) max_size: Size,
    /// Budget in time; older data is dropped and counted.
    pub(super) max_age: Period,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    /// `host:port` of the page.
    pub(super) endpoint: String,
    /// Allows an `endpoint` that other machines can reach. There is no password, and the page shows who works with which
    /// app: put a proxy with one before it.
    pub(super) allow_remote: bool,
    /// Names of this machine under which the page may be asked for, beside `localhost`, addresses and the host of
    /// `endpoint`. Any other is refused, because a foreign web page could make a name of its own lead here. Example:
    /// `[sense1.example.com]`.
    pub(super) allowed_hosts: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    /// How much is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`, or directives such as
    /// `info,sense_otel::exporter=debug`.
    pub(super) level: String,
    /// How often metrics are sent, at least 100ms.
    pub(super) metrics_interval: Period,
}

impl Default for Udp {
    fn default() -> Self {
        Self { endpoint: "localhost:9997".to_owned(), receive_buffer: Size(16 << 20), max_datagram_size: Size(65_507) }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            expire_after: Period::hours(4),
            expire_connected_after: Period::hours(24),
            max_span_duration: Period::hours(12),
            heartbeat: Period::seconds(15 * 60),
        }
    }
}

impl Default for ExcludeUser {
    fn default() -> Self {
        Self { directory: "*".to_owned(), user: "*".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { open_sessions: 200_000, connections_per_session: 1000, nodes: 256, attribute_length: 2048 }
    }
}

impl Default for Exporter {
    fn default() -> Self {
        Self {
            endpoint: "http://localhost:4317".to_owned(),
            signals: vec![SignalName::Logs, SignalName::Traces, SignalName::Metrics],
            headers: BTreeMap::new(),
            tls: Tls::default(),
            compression: CompressionName::default(),
            timeout: Period::seconds(10),
            retry_on_failure: RetryOnFailure::default(),
        }
    }
}

impl Default for RetryOnFailure {
    fn default() -> Self {
        Self { initial_interval: Period::seconds(1), max_interval: Period::seconds(30) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { directory: "./sense-otel-data".to_owned(), max_size: Size(4 << 30), max_age: Period::hours(72) }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { endpoint: "localhost:13133".to_owned(), allow_remote: false, allowed_hosts: Vec::new() }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { level: "info".to_owned(), metrics_interval: Period::seconds(15) }
    }
}
