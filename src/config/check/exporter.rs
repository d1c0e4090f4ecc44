//! The checks of the `exporter` section.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, Uri};
use secrecy::SecretString;

use crate::exporter::{Compression, Config, RetryConfig, TlsConfig};
use crate::signal::Signal;

use super::super::address;
use super::super::key_path::{KeyPath, printable_key};
use super::super::scalar::Secret;
use super::super::spec::{CompressionName, Exporter, SignalName, Tls};
use super::{Check, NAME_LENGTH_MAX, file};

/// Headers that gRPC sets itself.
const RESERVED_HEADERS: [&str; 8] =
    ["connection", "content-length", "content-type", "host", "te", "trailer", "transfer-encoding", "user-agent"];

/// The usual port of OTLP over HTTP, which is not spoken here.
const OTLP_HTTP_PORT: u16 = 4318;

impl Check<'_, '_> {
    pub(super) fn exporter(&mut self, spec: &Exporter) -> Config {
        let endpoint = self.endpoint(&spec.endpoint);
        let headers = self.headers(spec);
        if let Some(endpoint) = &endpoint {
            self.transport(spec, endpoint, !headers.is_empty());
        }
        Config {
            endpoint: endpoint.unwrap_or_else(|| Uri::from_static("http://localhost:4317")),
            signals: self.signals(&spec.signals),
            headers,
            tls: self.tls(&spec.tls),
            compression: match spec.compression {
                CompressionName::None => Compression::None,
                CompressionName::Gzip => Compression::Gzip,
                CompressionName::Zstd => Compression::Zstd,
            },
            timeout: self.more_than_zero("exporter.timeout", spec.timeout),
            retry: self.retry(spec),
        }
    }

    fn endpoint(&mut self, endpoint: &str) -> Option<Uri> {
        let path = KeyPath::of("exporter.endpoint");
        match address::parse_url(endpoint) {
            Ok(uri) => {
                if uri.port_u16() == Some(OTLP_HTTP_PORT) {
                    self.document
                        .warn(&path, "4318 is the usual port of OTLP over HTTP; gRPC, which is sent, has 4317");
                }
                Some(uri)
            }
            Err(refusal) => {
                // A suggestion repeats the value, which is not to be seen if it comes from the environment.
                let is_written = self.document.root.find(&path).is_some_and(|node| node.is_written());
                self.document.refuse_value(&path, refusal.predicate, refusal.suggestion.filter(|_| is_written));
                None
            }
        }
    }

    /// What depends on whether the connection is encrypted.
    fn transport(&mut self, spec: &Exporter, endpoint: &Uri, has_headers: bool) {
        let is_encrypted = endpoint.scheme_str() == Some("https");
        let is_local = endpoint.host().is_some_and(address::is_loopback);
        if has_headers && !is_encrypted && !is_local && !spec.tls.insecure {
            self.refuse_pair(
                "exporter.headers",
                "exporter.endpoint",
                "headers would go over plain http to another host, where everyone on the way can read them",
                "use `https://`, or allow it with `exporter.tls.insecure: true`",
            );
        }
        if is_encrypted && spec.tls.insecure {
            self.refuse_pair(
                "exporter.tls.insecure",
                "exporter.endpoint",
                "`insecure` has no meaning for `https://`; it does not switch off the check of certificates",
                "for an authority of your own set `exporter.tls.ca_file`",
            );
        }
        let of_tls = [
            ("exporter.tls.ca_file", &spec.tls.ca_file),
            ("exporter.tls.cert_file", &spec.tls.cert_file),
            ("exporter.tls.key_file", &spec.tls.key_file),
            ("exporter.tls.server_name_override", &spec.tls.server_name_override),
        ];
        for (path, _) in of_tls.iter().filter(|(_, value)| !value.is_empty() && !is_encrypted) {
            let message = "has no effect, since the endpoint is plain `http://`";
            self.refuse_pair(path, "exporter.endpoint", message, "write `https://` in `exporter.endpoint`");
        }
    }

    fn headers(&mut self, spec: &Exporter) -> Vec<(String, SecretString)> {
        let mut headers: Vec<(String, SecretString)> = Vec::new();
        let mut names = HashSet::new();
        for (name, value) in &spec.headers {
            let path = KeyPath::of("exporter.headers").key(name);
            let lower = name.to_ascii_lowercase();
            self.header_name(&path, &lower);
            self.header_value(&path, value);
            if !names.insert(lower.clone()) {
                self.document.refuse_key(&path, "the header is there already; upper or lower case makes no difference");
            }
            if !value.expose().is_empty() {
                headers.push((lower, value.to_secret_string()));
            }
        }
        headers
    }

    fn header_name(&mut self, path: &KeyPath, lower: &str) {
        if lower.len() > NAME_LENGTH_MAX || HeaderName::from_bytes(lower.as_bytes()).is_err() {
            let message = format!("`{}` is no name of a header", printable_key(lower));
            self.document.refuse_key(path, &message);
        } else if lower.ends_with("-bin") {
            self.document.refuse_key(path, "headers that end in `-bin` are binary, which is not supported");
        } else if lower.starts_with("grpc-") || RESERVED_HEADERS.contains(&lower) {
            self.document.refuse_key(path, "gRPC sets this header itself");
        }
    }

    fn header_value(&mut self, path: &KeyPath, value: &Secret) {
        self.secret(path, value);
        let is_visible = |byte: u8| (b' '..=b'~').contains(&byte);
        if !value.expose().bytes().all(is_visible) || HeaderValue::from_str(value.expose()).is_err() {
            let message = "the value has a character that headers may not have, such as a line break";
            self.document.refuse(path, message, None);
        }
    }

    fn signals(&mut self, names: &[SignalName]) -> Vec<Signal> {
        let list = KeyPath::of("exporter.signals");
        let has_fault = self.document.root.is_struck_at(&list.index(0));
        if names.is_empty() && self.says(&list) && !has_fault {
            self.document.refuse(&list, "nothing would be sent", Some("write `[logs, traces, metrics]`".to_owned()));
        }
        let mut signals = Vec::new();
        for (path, name) in self.items(&list, names) {
            let signal = match name {
                SignalName::Logs => Signal::Logs,
                SignalName::Traces => Signal::Traces,
                SignalName::Metrics => Signal::Metrics,
            };
            if signals.contains(&signal) {
                self.document.refuse_value(&path, "is in the list already", None);
            } else {
                signals.push(signal);
            }
        }
        signals
    }

    fn tls(&mut self, spec: &Tls) -> TlsConfig {
        for (path, value, other, missing) in [
            ("exporter.tls.cert_file", &spec.cert_file, "exporter.tls.key_file", &spec.key_file),
            ("exporter.tls.key_file", &spec.key_file, "exporter.tls.cert_file", &spec.cert_file),
        ] {
            if !value.is_empty() && missing.is_empty() {
                self.refuse_relation(path, other, &format!("needs `{other}` beside it"));
            }
        }
        let name = &spec.server_name_override;
        if !name.is_empty() && address::split_host_port(&format!("{name}:0")).is_err() {
            let path = KeyPath::of("exporter.tls.server_name_override");
            self.document.refuse_value(&path, "is no host name", None);
        }
        TlsConfig {
            insecure: spec.insecure,
            ca_file: file(&spec.ca_file),
            cert_file: file(&spec.cert_file),
            key_file: file(&spec.key_file),
            server_name_override: (!name.is_empty()).then(|| name.clone()),
        }
    }

    fn retry(&mut self, spec: &Exporter) -> RetryConfig {
        let retry = &spec.retry_on_failure;
        let config = RetryConfig {
            initial_interval: self.more_than_zero("exporter.retry_on_failure.initial_interval", retry.initial_interval),
            max_interval: self.more_than_zero("exporter.retry_on_failure.max_interval", retry.max_interval),
        };
        if config.max_interval < config.initial_interval && !config.max_interval.is_zero() {
            self.refuse_relation(
                "exporter.retry_on_failure.max_interval",
                "exporter.retry_on_failure.initial_interval",
                "`max_interval` is shorter than `initial_interval`",
            );
        }
        config
    }
}
