//! Outbox to gRPC.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use secrecy::SecretString;

use crate::signal::Signal;

pub mod client;
pub mod retry;

/// Where signals are sent and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:4317` or `https://host:4317`.
    pub endpoint: Uri,
    /// What is sent, without repetition.
    pub signals: Vec<Signal>,
    /// gRPC metadata of every call; names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// Only for `https`.
    pub tls: TlsConfig,
    /// How requests are compressed.
    pub compression: Compression,
    /// Deadline of one call.
    pub timeout: Duration,
    /// Waiting between tries.
    pub retry: RetryConfig,
}

/// TLS of the exporter's connection. Empty paths stand for "not set".
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// Allows headers over plain http to another host.
    pub insecure: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file of our own private key.
    pub key_file: Option<PathBuf>,
    /// Name to expect in the server's certificate instead of the endpoint's host.
    pub server_name_override: Option<String>,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    None,
    /// What every OTLP server understands.
    #[default]
    Gzip,
    /// Cheaper and smaller; the OpenTelemetry Collector understands it.
    Zstd,
}

/// Waiting between tries: exponential with jitter, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first wait.
    pub initial_interval: Duration,
    /// No wait is longer than this, unless the server asks for it.
    pub max_interval: Duration,
}
