//! What is told of, and to, the live page.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic::Code;
use tracing::{info, warn};

use crate::signal::Signal;

use super::lines::Line;
use super::{PageRefusal, Telemetry, chain, text};

/// Why a signal cannot be delivered at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For how long.
    pub since: Duration,
    /// The gRPC code of the last answer, the server's or our own.
    pub code: Code,
    /// Whether the backend answers, but does not want the signal from us as things are.
    pub is_parked: bool,
}

impl Telemetry {
    /// The live page is served at these addresses.
    pub fn page_served(&self, endpoint: &str, addresses: &[SocketAddr]) {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        // Nobody can ask for all addresses.
        let host = if matches!(host, "0.0.0.0" | "[::]") { "localhost" } else { host };
        info!("live page: http://{host}:{port}/");
    }

    /// The live page cannot be served, for now.
    pub fn page_failed(&self, endpoint: &str, error: &dyn Error) {
        warn!(
            reason = text::one_line(&chain(error)),
            "the live page cannot be served at {endpoint} (admin.endpoint); events are received and sent all the same, and \
             it is tried again every 10 s"
        );
    }

    /// The live page did not answer somebody.
    pub fn page_refused(&self, reason: PageRefusal) {
        if let Some(counter) = self.inner.counters.page_refused(reason) {
            counter.add(1);
        }
        self.inner.lines.say(Line::PageRefused(reason), 1, "");
    }

    /// Why a signal cannot be delivered; `None` while it can, or nobody tried.
    #[must_use]
    pub fn trouble(&self, signal: Signal) -> Option<Trouble> {
        let delivery = self.delivery(signal);
        let since = delivery.failing_since.load(Ordering::Relaxed);
        (since != 0).then(|| Trouble {
            since: self.inner.lines.elapsed().saturating_sub(Duration::from_nanos(since)),
            code: Code::from_i32(delivery.code.load(Ordering::Relaxed)),
            is_parked: delivery.is_parked.load(Ordering::Relaxed),
        })
    }
}
