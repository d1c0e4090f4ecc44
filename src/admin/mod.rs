//! What an administrator may look at: the live page, `/api/sessions`, `/api/events`, `/status` and `/metrics`.
//!
//! ```text
//!  core ──Picture, when somebody looks──> Live ──> /            the page, which listens to
//!                                               ├> /api/events  server-sent events, about one a second
//!                                               └> /api/sessions
//!  Telemetry ────────────────────────────────────> /status, /metrics
//! ```
//!
//! Everything is read-only, and nothing here may cost the events anything:
//!
//! * The core makes a [`Picture`] only if somebody asked for one, in portions between its batches, at most one a second
//!   and never with more than a twentieth of its time; all viewers share it.
//! * The server is one thread of its own. If its port is taken, it is tried again every now and then, and events go their
//!   way meanwhile.
//! * Connections, viewers, requests, answers and the time for each have a bound; who reads too slowly is cut off.
//!
//! The page shows who works with what. Therefore it is for this machine only unless the configuration allows more, answers
//! only under names that are its own and only to pages that are its own (a foreign page could otherwise read it through
//! the browser of an administrator, by DNS rebinding), and shows every text as text: the browser is forbidden to run
//! anything but our own script, and that script makes no HTML.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::watch;

use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Scrape;
use crate::time::Timestamp;

mod answer;
mod day;
mod guard;
mod health;
mod live;
mod patient;
mod picture;
mod query;
mod recent;
mod routes;
mod server;
mod status;
mod stream;

pub use answer::{API_TEXT_MAX, STATE_ACTIVE, STATE_IDLE};
pub use day::Day;
pub use live::Live;
pub use picture::Picture;
pub use query::LIMIT_MAX;
pub use recent::{Ended, Happening, Recent};

/// Where the page is served, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `host:port` to listen on; port 0 takes any free port.
    pub endpoint: String,
    /// Whether other machines may reach it.
    pub allow_remote: bool,
    /// Names under which it may be asked for, beside `localhost`, addresses and the host of `endpoint`.
    pub allowed_hosts: Vec<String>,
    /// The time that the page goes by.
    pub clock: PageClock,
}

impl Config {
    /// The defaults of `docs/configuration.md`, at this endpoint.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            allow_remote: false,
            allowed_hosts: Vec::new(),
            clock: PageClock::default(),
        }
    }
}

/// The time that the page goes by: that of the wall, or of a simulated site that lives faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageClock {
    /// A moment of the wall clock.
    pub origin: Timestamp,
    /// What it is at the site at that moment.
    pub shows: Timestamp,
    /// How many seconds pass at the site in each of ours.
    pub speed: u32,
}

impl Default for PageClock {
    fn default() -> Self {
        Self { origin: Timestamp::EPOCH, shows: Timestamp::EPOCH, speed: 1 }
    }
}

impl PageClock {
    /// What it is at the site at this moment of the wall clock.
    #[must_use]
    pub fn at(&self, wall: Timestamp) -> Timestamp {
        self.shows + wall.since(self.origin).saturating_mul(self.speed)
    }
}

/// How far the life of the receiver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It receives.
    Running,
    /// It sends what is left.
    Stopping,
    /// It is over, and so is the page.
    Stopped,
}

/// What the page is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What is open, from the core.
    pub live: Live,
    /// How we are.
    pub telemetry: Telemetry,
    /// The metrics as Prometheus reads them.
    pub scrape: Scrape,
    /// Whether what is received is forgotten at the end.
    pub in_memory: bool,
    /// Reads the wall clock.
    pub wall: fn() -> Timestamp,
}

/// The sockets of the page.
#[derive(Debug, Default)]
pub struct Bound {
    listeners: Vec<TcpListener>,
}

impl Bound {
    /// Where the page can be asked for.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

/// Takes the port of the page, on every address that its host has: a browser may try any of them.
///
/// # Errors
///
/// The host has no address, an address may not be used, or another program has the port.
pub fn bind(config: &Config) -> io::Result<Bound> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut unusable = None;
    for mut address in config.endpoint.to_socket_addrs()? {
        if !config.allow_remote && !address.ip().to_canonical().is_loopback() {
            let message = "the host is an address that other machines can reach";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        if let Some(port) = listeners.first().and_then(|first| first.local_addr().ok()).map(|first| first.port()) {
            address.set_port(port);
        }
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
            // A machine without IPv6 has no `::1`, whatever its names say.
            Err(error) if is_absent(error.kind()) => unusable = Some(error),
            Err(error) => return Err(error),
        }
    }
    match unusable {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(Bound { listeners }),
    }
}

fn is_absent(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}

/// The server, ready to run on a thread of its own.
#[derive(Debug)]
pub struct Admin {
    runtime: tokio::runtime::Runtime,
    config: Config,
    sources: Sources,
    bound: Bound,
}

impl Admin {
    /// A server for these sockets. None at all means that the port is taken, and will be tried again.
    ///
    /// # Errors
    ///
    /// The system gives no runtime.
    pub fn new(config: Config, sources: Sources, bound: Bound) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, config, sources, bound })
    }

    /// Serves until the phase is [`Phase::Stopped`], or nobody tells the phase any more.
    pub fn run(self, phase: watch::Receiver<Phase>) {
        let Self { runtime, config, sources, bound } = self;
        let mut stopped = phase.clone();
        runtime.block_on(async {
            let serving = server::serve(config, Arc::new(sources), bound, phase);
            tokio::select! {
                () = serving => {}
                _ = stopped.wait_for(|phase| *phase == Phase::Stopped) => {}
            }
        });
        // Whoever still reads gets no more.
        runtime.shutdown_background();
    }
}
