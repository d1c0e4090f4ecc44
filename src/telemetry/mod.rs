//! Our own health: one method per happening, owning its counter and its log line.
//!
//! Every stage is handed a [`Telemetry`] and says what happened; it never writes a log line or a counter of its own.
//! Reasons are closed enums, texts from outside are sanitised here and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Our own log and metrics.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directive of `tracing_subscriber::EnvFilter`, for example `info` or `sense_otel=debug`.
    pub level: String,
    /// How often metrics are exported.
    pub metrics_interval: Duration,
}

/// Why a datagram was dropped although it may have been good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The channel to the core was full.
    ChannelFull,
    /// Larger than `receiver.udp.max_datagram_size`.
    Oversize,
    /// The sender is not in `receiver.allowed_sources`.
    DeniedSource,
    /// The sender exceeded `receiver.rate_limit.per_source`.
    RateLimited,
    /// A stock datagram of a node that sends the extended format.
    Superseded,
    /// The store could not take the frame.
    StoreFull,
}

/// The handle that every stage holds. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
}

impl Telemetry {
    /// Datagrams were read from a socket.
    pub fn received(&self, datagrams: u64) {
        self.counters.received.fetch_add(datagrams, Ordering::Relaxed);
    }
}
