//! Outbox to gRPC: what the core has stored is sent to the backend, in order, until the backend has it.
//!
//! ```text
//!             lane (one per signal)
//!  store ──next──> flight ──piece──> client ──gRPC──> collector
//!    <─acknowledge──┘  ▲               │
//!                      └── retry <── answer
//!                           gate: when may the next call start
//! ```
//!
//! Every item that the store hands out ends in exactly one of three ways: acknowledged, refused (the server took the
//! call and not the item) or quarantined (the server will never take it, and it is kept for a person to look at). Until then
//! it stays in the store. Delivery is at least once: what was sent in a call that got no answer is sent again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Uri;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;

use self::client::{BuildError, Client};
use self::lane::Lane;
pub use self::metrics::MetricsBackend;
pub use self::resend::{Resender, Resent};
pub use self::retry::RetryConfig;
use crate::signal::Signal;
use crate::store::Store;
use crate::telemetry::Telemetry;

mod answer;
pub mod client;
mod flight;
mod gate;
mod given_up;
mod lane;
mod metrics;
mod resend;
pub mod retry;
mod size;

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

impl Compression {
    /// What tonic calls it.
    #[must_use]
    pub const fn encoding(self) -> Option<CompressionEncoding> {
        match self {
            Self::None => None,
            Self::Gzip => Some(CompressionEncoding::Gzip),
            Self::Zstd => Some(CompressionEncoding::Zstd),
        }
    }
}

/// When the exporter shall end: `None` means not yet, a moment means that what is stored is to be delivered until then.
/// If the sending half is dropped the exporter ends at once.
pub type Stop = watch::Receiver<Option<Instant>>;

/// Delivers what is in the store.
#[derive(Debug)]
pub struct Exporter {
    client: Client,
    lanes: Vec<(Signal, Lane)>,
}

impl Exporter {
    /// An exporter of the logs and traces in `store`, as far as `config` names them; metrics have a way of their own,
    /// see [`Exporter::metrics`]. `seed` decides the jitter of retries.
    ///
    /// Must be called inside a tokio runtime; nothing is connected or sent before [`Exporter::run`].
    ///
    /// # Errors
    ///
    /// [`BuildError`], where endpoint, headers or TLS cannot be used as configured.
    pub fn new(config: Config, store: &Store, telemetry: &Telemetry, seed: u64) -> Result<Self, BuildError> {
        let config = Arc::new(config);
        let client = Client::new(Arc::clone(&config))?;
        let lanes = [Signal::Logs, Signal::Traces]
            .into_iter()
            .filter(|signal| config.signals.contains(signal))
            .enumerate()
            .map(|(index, signal)| {
                let seed = seed.wrapping_add(index as u64);
                let lane = Lane::new(signal, client.clone(), config.retry, store.clone(), telemetry.clone(), seed);
                (signal, lane)
            })
            .collect();
        Ok(Self { client, lanes })
    }

    /// Where metrics are to be sent, whatever `config` says about signals: the same endpoint in the same way, over the
    /// same connection until that has to be made anew.
    #[must_use]
    pub fn metrics(&self) -> MetricsBackend {
        MetricsBackend::new(self.client.clone())
    }

    /// Delivers until `stop` names a deadline, then what is left until that deadline. A back-off is waived then, so
    /// that a backend that has come back is found. Returns earlier if nothing is left, or if there is no use in asking:
    /// a server has forbidden it until then, or it still wants no such signal from us. Returns how many items of each
    /// signal stay behind.
    pub async fn run(self, stop: Stop) -> Vec<(Signal, u64)> {
        join_all(self.lanes.into_iter().map(|(signal, lane)| {
            let stop = stop.clone();
            async move { (signal, lane.run(stop).await) }
        }))
        .await
    }
}
