//! The server: sockets, how many may ask at a time and for how long, and a pulse once a second.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::signal::Signal;
use crate::telemetry::{PageRefusal, Snapshot, Telemetry};
use crate::time::Timestamp;

use super::health::{Facts as HealthFacts, Health, Rate};
use super::patient::Patient;
use super::status::{self, Facts as StatusFacts, PATIENCE, Statuses};
use super::{Bound, Config, Phase, Sources, bind, routes};

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 64;

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of a request in bytes, and how many headers it may have.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// How long a connection may take altogether.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a page may listen on one connection; then it comes back by itself.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3600);

/// How often a port that is taken is tried again.
const BIND_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait where the system gives no connection, for want of file handles mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is read once a second: how everything is.
#[derive(Debug)]
pub(super) struct Pulse {
    sources: Arc<Sources>,
    started: Timestamp,
    phase: watch::Receiver<Phase>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rate: Rate,
    statuses: Statuses,
}

/// A mark on a connection that its answer has no end.
#[derive(Clone, Debug, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Pulse {
    fn new(sources: Arc<Sources>, phase: watch::Receiver<Phase>) -> Self {
        let started = (sources.wall)();
        let state = State { rate: Rate::default(), statuses: Statuses::new(started) };
        Self { sources, started, phase, state: Mutex::new(state) }
    }

    /// Reads how everything is.
    fn beat(&self) {
        let snapshot = self.sources.telemetry.snapshot();
        self.state().rate.tell(snapshot.accepted);
        self.sources.live.tidy();
    }

    pub(super) fn health(&self) -> Health {
        let telemetry = &self.sources.telemetry;
        let rate = self.state().rate.per_second();
        Health::of(&HealthFacts {
            snapshot: &telemetry.snapshot(),
            rate,
            started: self.started,
            now: (self.sources.wall)(),
            troubles: SIGNALS.map(|signal| telemetry.trouble(signal)),
            in_memory: self.sources.in_memory,
            standing_still: telemetry.standing_still(PATIENCE),
        })
    }

    pub(super) fn status(&self, asked: &status::Asked) -> Option<(StatusCode, status::Answer)> {
        let telemetry = &self.sources.telemetry;
        let snapshot: Snapshot = telemetry.snapshot();
        let mut state = self.state();
        state.statuses.tell(&StatusFacts {
            now: (self.sources.wall)(),
            phase: *self.phase.borrow(),
            snapshot: &snapshot,
            troubles: SIGNALS.map(|signal| telemetry.trouble(signal)),
            standing_still: telemetry.standing_still(PATIENCE),
        });
        state.statuses.answer(asked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Traces, Signal::Metrics];

/// Serves for ever.
pub(super) async fn serve(config: Config, sources: Arc<Sources>, bound: Bound, phase: watch::Receiver<Phase>) {
    let pulse = Arc::new(Pulse::new(Arc::clone(&sources), phase));
    let router = routes::router(&config, Arc::clone(&sources), Arc::clone(&pulse));
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut pending = Some(bound);
    let mut bind_at = Instant::now() + BIND_INTERVAL;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(bound) = pending.take_if(|bound| !bound.listeners.is_empty()) {
            for listener in bound.listeners {
                // The runtime takes whatever the system gave us.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    let accepting =
                        accept(listener, router.clone(), Arc::clone(&connections), sources.telemetry.clone());
                    tokio::spawn(accepting);
                }
            }
        }
        tick.tick().await;
        pulse.beat();
        if pending.is_some() && bind_at <= Instant::now() {
            bind_at = Instant::now() + BIND_INTERVAL;
            if let Ok(bound) = bind(&config) {
                sources.telemetry.page_served(&config.endpoint, &bound.local_addresses());
                pending = Some(bound);
            }
        }
    }
}

async fn accept(listener: TcpListener, router: Router, connections: Arc<Semaphore>, telemetry: Telemetry) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // One too many is closed at once: whoever asks should not wait for those who ask nothing.
                let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                    telemetry.page_refused(PageRefusal::Connections);
                    continue;
                };
                let (router, telemetry) = (router.clone(), telemetry.clone());
                tokio::spawn(async move {
                    if !answer(stream, router).await {
                        telemetry.page_refused(PageRefusal::Slow);
                    }
                    drop(permit);
                });
            }
            // Whoever asked has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one request. Whether whoever asked was quick enough.
async fn answer(stream: TcpStream, router: Router) -> bool {
    let streaming = Streaming::default();
    let mark = streaming.clone();
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(mark.clone());
        service.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let too_long = async {
        tokio::time::sleep(ANSWER_TIMEOUT).await;
        if streaming.has_begun() {
            tokio::time::sleep(STREAM_TIMEOUT - ANSWER_TIMEOUT).await;
        }
    };
    tokio::select! {
        // How a request went wrong otherwise is of interest to whoever made it.
        ended = connection => !ended.is_err_and(|error| error.is_timeout() || is_late(&error)),
        // A page that has listened for an hour comes back by itself.
        () = too_long => streaming.has_begun(),
    }
}

/// Whether a write was given up.
fn is_late(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}
