//! What is written -> each part's own configuration, and all that is wrong with it.
//!
//! A part's configuration is complete even if there are faults, which are then all that is handed out.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::processor::filter::{ExcludeRule, Handling, Privacy};
use crate::processor::ids::Key;
use crate::processor::{self, session};
use crate::{admin, pipeline, receiver, store, telemetry};

use super::address::{self, Source};
use super::document::Document;
use super::key_path::KeyPath;
use super::node::{Node, Origin};
use super::quantity;
use super::scalar::{Period, REDACTED, Secret, Size};
use super::spec::{self, Spec};
use super::suggestion;

mod exporter;

/// Attributes of the resource that name the proxy node.
const NODE_ATTRIBUTES: [&str; 4] = ["service.name", "service.namespace", "service.instance.id", "host.name"];

/// Longest name of an attribute or a header in bytes. YAML takes no key on one line of more than 1024 characters, so
/// that `print-config` could not show a much longer name that a variable brought.
const NAME_LENGTH_MAX: usize = 255;

/// A shorter key could be found by trying.
const KEY_LENGTH_MIN: usize = 16;

/// Checks everything and makes the configuration of every part; faults and warnings go to the document.
pub(super) fn build(
    spec: &Spec,
    document: &mut Document<'_>,
    resolve: &impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> pipeline::Config {
    let mut check = Check { document };
    pipeline::Config {
        receiver: check.receiver(&spec.receiver, resolve),
        processor: check.processor(spec),
        key: check.key(&spec.privacy.key),
        store: check.store(&spec.store),
        in_memory: false,
        exporter: check.exporter(&spec.exporter),
        telemetry: check.telemetry(&spec.telemetry),
        app_names_file: file(&spec.apps.names_file),
        admin: check.admin(&spec.admin),
    }
}

/// An empty name is no file.
fn file(name: &str) -> Option<PathBuf> {
    (!name.is_empty()).then(|| PathBuf::from(name))
}

struct Check<'a, 'text> {
    document: &'a mut Document<'text>,
}

impl Check<'_, '_> {
    /// Whether the document says something about `path` that counts.
    fn says(&self, path: &KeyPath) -> bool {
        self.document.root.find(path).is_some()
    }

    /// Refuses a value for its relation to another key, unless one of them is at fault already.
    fn refuse_relation(&mut self, path: &str, other: &str, message: &str) {
        self.refuse_pair(path, other, message, None);
    }

    /// The same with a way out.
    fn refuse_pair(&mut self, path: &str, other: &str, message: &str, suggestion: impl Into<Option<&'static str>>) {
        let (path, other) = (KeyPath::of(path), KeyPath::of(other));
        if self.document.root.is_struck_at(&path) || self.document.root.is_struck_at(&other) {
            return;
        }
        // Where only the other key is written, that one is the one to change.
        let at = if self.says(&path) { &path } else { &other };
        self.document.refuse(at, message, suggestion.into().map(str::to_owned));
    }

    fn at_least(&mut self, path: &str, period: Period, least: Duration) -> Duration {
        if period.0 < least {
            let predicate = format!("is less than {}", quantity::format_duration(least));
            self.document.refuse_value(&KeyPath::of(path), &predicate, None);
        }
        period.0
    }

    fn more_than_zero(&mut self, path: &str, period: Period) -> Duration {
        if period.0.is_zero() {
            self.document.refuse_value(&KeyPath::of(path), "is zero, which would never let anything happen", None);
        }
        period.0
    }

    fn size(&mut self, path: &str, size: Size, least: u64, most: u64) -> u64 {
        let text = |bytes| quantity::format_size(bytes).unwrap_or_else(|| bytes.to_string());
        if size.0 < least {
            self.document.refuse_value(&KeyPath::of(path), &format!("is less than {}", text(least)), None);
        } else if size.0 > most {
            self.document.refuse_value(&KeyPath::of(path), &format!("is more than {}", text(most)), None);
        }
        size.0
    }

    fn count(&mut self, path: &str, number: u32, least: u32, most: u32) -> usize {
        if number < least {
            self.document.refuse_value(&KeyPath::of(path), &format!("is less than {least}"), None);
        } else if number > most {
            self.document.refuse_value(&KeyPath::of(path), &format!("is more than {most}"), None);
        }
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn receiver(
        &mut self,
        spec: &spec::Receiver,
        resolve: &impl Fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> receiver::Config {
        let endpoint = KeyPath::of("receiver.udp.endpoint");
        if let Err(refusal) = address::split_host_port(&spec.udp.endpoint) {
            self.document.refuse_value(&endpoint, refusal.predicate, refusal.suggestion);
        }
        let receive_buffer = self.size("receiver.udp.receive_buffer", spec.udp.receive_buffer, 64 << 10, 1 << 30);
        let max_datagram_size = self.size("receiver.udp.max_datagram_size", spec.udp.max_datagram_size, 1, 65_507);
        receiver::Config {
            endpoint: spec.udp.endpoint.clone(),
            receive_buffer: usize::try_from(receive_buffer).unwrap_or(usize::MAX),
            max_datagram_size: usize::try_from(max_datagram_size).unwrap_or(usize::MAX),
            allowed_sources: self.allowed_sources(&spec.allowed_sources, resolve),
            rate_limit_per_source: spec.rate_limit.per_source,
        }
    }

    fn allowed_sources(
        &mut self,
        sources: &[String],
        resolve: &impl Fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (path, source) in self.items(&KeyPath::of("receiver.allowed_sources"), sources) {
            match address::parse_source(source) {
                Ok(Source::Network(network)) => networks.push(network),
                Ok(Source::HostName(name)) => match resolve(name) {
                    Ok(addresses) if !addresses.is_empty() => {
                        networks.extend(addresses.iter().map(|address| IpNet::from(address.to_canonical())));
                    }
                    Ok(_) => self.document.refuse_value(&path, "is a host name that has no address", None),
                    Err(error) => {
                        let predicate = format!("is a host name that cannot be looked up: {error}");
                        self.document.refuse_value(&path, &predicate, None);
                    }
                },
                Err(refusal) => self.document.refuse_value(&path, refusal.predicate, refusal.suggestion),
            }
        }
        networks
    }

    /// The items of a list with their paths; the struck ones are not among the values.
    fn items<'a, T>(&self, list: &KeyPath, values: &'a [T]) -> Vec<(KeyPath, &'a T)> {
        if self.document.root.is_struck_at(list) {
            // The values are the defaults then: none of them is written, and no index would ever be found.
            return Vec::new();
        }
        let indexes = (0..).filter(|&index| !self.document.root.is_struck_at(&list.index(index)));
        values.iter().zip(indexes).map(|(value, index)| (list.index(index), value)).collect()
    }

    fn processor(&mut self, spec: &Spec) -> processor::Config {
        let limits = &spec.limits;
        let mut sessions = self.sessions(&spec.sessions);
        sessions.open_sessions_max = self.count("limits.open_sessions", limits.open_sessions, 1, 10_000_000);
        sessions.connections_per_session_max =
            self.count("limits.connections_per_session", limits.connections_per_session, 1, 10_000);
        processor::Config {
            sessions,
            exclude_users: self.exclude_users(&spec.exclude_users),
            privacy: Privacy {
                user: handling(spec.privacy.user),
                user_agent: handling(spec.privacy.user_agent),
                client_address: handling(spec.privacy.client_address),
            },
            nodes_max: self.count("limits.nodes", limits.nodes, 1, 65_535),
            attribute_length_max: self.count("limits.attribute_length", limits.attribute_length, 64, 65_536),
            resource: self.resource(spec),
            start_marker: spec.spans.start_marker,
        }
    }

    fn sessions(&mut self, spec: &spec::Sessions) -> session::Config {
        let config = session::Config {
            expire_after: self.more_than_zero("sessions.expire_after", spec.expire_after),
            expire_connected_after: self.more_than_zero("sessions.expire_connected_after", spec.expire_connected_after),
            max_span_duration: self.at_least(
                "sessions.max_span_duration",
                spec.max_span_duration,
                Duration::from_secs(60),
            ),
            heartbeat: (!spec.heartbeat.0.is_zero())
                .then(|| self.at_least("sessions.heartbeat", spec.heartbeat, Duration::from_secs(1))),
            ..session::Config::default()
        };
        if config.expire_connected_after < config.expire_after && !config.expire_connected_after.is_zero() {
            let relation = "`expire_connected_after` is shorter than `expire_after`";
            self.refuse_relation("sessions.expire_connected_after", "sessions.expire_after", relation);
        }
        config
    }

    fn exclude_users(&mut self, rules: &[spec::ExcludeUser]) -> Vec<ExcludeRule> {
        let mut excluded = Vec::new();
        for (path, rule) in self.items(&KeyPath::of("exclude_users"), rules) {
            let has_fault = self.document.root.find(&path).is_some_and(Node::has_struck_entry);
            let fits_all = |pattern: &str| !pattern.is_empty() && pattern.bytes().all(|byte| byte == b'*');
            if fits_all(&rule.directory) && fits_all(&rule.user) && !has_fault {
                self.document.refuse(&path, "this rule leaves out everybody", None);
            }
            if rule.user.is_empty() {
                self.document.refuse(&path.key("user"), "the empty pattern fits no user", None);
            }
            excluded.push(ExcludeRule { directory: rule.directory.clone(), user: rule.user.clone() });
        }
        excluded
    }

    fn resource(&mut self, spec: &Spec) -> Vec<(String, String)> {
        let mut attributes = Vec::new();
        for (name, value) in &spec.resource {
            let path = KeyPath::of("resource").key(name);
            let is_of_variable =
                matches!(self.document.root.find(&path).map(|node| &node.origin), Some(Origin::Variable(_)));
            if name.is_empty() {
                self.document.refuse_key(&path, "an attribute without a name");
            } else if name.len() > NAME_LENGTH_MAX || name.chars().any(char::is_control) {
                let message = format!("the name is longer than {NAME_LENGTH_MAX} bytes or holds a control character");
                self.document.refuse_key(&path, &message);
            } else if !NODE_ATTRIBUTES.contains(&name.as_str()) {
                attributes.push((name.clone(), value.clone()));
            } else if is_of_variable {
                self.document.warn(&path, "is left out: it names the proxy node, not the receiver");
            } else {
                self.document.refuse_key(&path, "the attribute names the proxy node and cannot be set");
            }
        }
        attributes
    }

    fn secret(&mut self, path: &KeyPath, secret: &Secret) {
        if secret.expose() == REDACTED {
            let suggestion = "put the secret back, best as `${env:NAME}`".to_owned();
            self.document.refuse(path, "this is what `print-config` shows instead of a secret", Some(suggestion));
        }
    }

    fn key(&mut self, key: &Secret) -> Option<Key> {
        let path = KeyPath::of("privacy.key");
        let bytes = key.expose().as_bytes();
        if bytes.is_empty() {
            return None;
        }
        self.secret(&path, key);
        if bytes.len() < KEY_LENGTH_MIN && key.expose() != REDACTED {
            let message = format!("the key is shorter than {KEY_LENGTH_MIN} bytes and could be found by trying");
            self.document.refuse(&path, &message, Some("make one with `openssl rand -hex 32`".to_owned()));
        }
        Some(Key::new(bytes))
    }

    fn store(&mut self, spec: &spec::Store) -> store::Config {
        if spec.directory.is_empty() {
            self.document.refuse(&KeyPath::of("store.directory"), "the name of the folder is empty", None);
        }
        store::Config {
            directory: PathBuf::from(&spec.directory),
            max_size: self.size("store.max_size", spec.max_size, 1 << 20, 1 << 50),
            max_age: self.more_than_zero("store.max_age", spec.max_age),
        }
    }

    fn telemetry(&mut self, spec: &spec::Telemetry) -> telemetry::Config {
        self.level(&spec.level);
        telemetry::Config {
            level: spec.level.clone(),
            metrics_interval: self.at_least(
                "telemetry.metrics_interval",
                spec.metrics_interval,
                Duration::from_millis(100),
            ),
        }
    }

    fn level(&mut self, level: &str) {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let path = KeyPath::of("telemetry.level");
        // A bare word that is no level names a module to `EnvFilter`, so that `inof` would log nothing at all.
        let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        let slip = level.split(',').map(str::trim).find(|word| !word.contains(['=', '[', ']']) && !is_level(word));
        if let Some(slip) = slip {
            let suggestion = suggestion::for_name(slip, &LEVELS);
            self.document.refuse_value(&path, "is no log level", Some(suggestion));
        } else if EnvFilter::try_new(level).is_err() {
            self.document.refuse_value(&path, "is no list of levels such as `info,sense_otel=debug`", None);
        }
    }

    fn admin(&mut self, spec: &spec::Admin) -> Option<admin::Config> {
        let path = KeyPath::of("admin.endpoint");
        match address::split_host_port(&spec.endpoint) {
            Err(refusal) => self.document.refuse_value(&path, refusal.predicate, refusal.suggestion),
            Ok((host, _)) if !spec.allow_remote && !address::is_loopback(host) => {
                let suggestion = "write `localhost`, or set `admin.allow_remote: true`".to_owned();
                self.document.refuse_value(&path, "can be reached by other machines", Some(suggestion));
            }
            Ok(_) => {}
        }
        for (path, host) in self.items(&KeyPath::of("admin.allowed_hosts"), &spec.allowed_hosts) {
            if !address::is_host(host) {
                self.document.refuse_value(&path, "is no host name; a port or a scheme does not belong here", None);
            }
        }
        Some(admin::Config {
            endpoint: spec.endpoint.clone(),
            allow_remote: spec.allow_remote,
            allowed_hosts: spec.allowed_hosts.clone(),
            clock: admin::PageClock::default(),
        })
    }
}

fn handling(handling: spec::Handling) -> Handling {
    match handling {
        spec::Handling::Keep => Handling::Keep,
        spec::Handling::Hash => Handling::Hash,
        spec::Handling::Drop => Handling::Drop,
    }
}
