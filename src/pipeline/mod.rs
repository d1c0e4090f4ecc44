//! Composition: the only place that spawns and that reads a clock.
//!
//! ```text
//!  thread `receiver`     thread `core`              thread `exporter`, a runtime of its own
//!  receiver::run ──────> core: Processor, Encoder ──> Store ──> exporter::run, telemetry::metrics
//!       channel of batches                  append, next, acknowledge
//! ```
//!
//! [`start`] builds before it spawns and binds before it does anything else, so that a site that restarts us loses as
//! little as can be. [`Running::stop`] goes stage by stage, in the order of the data, under one grace period: the
//! receiver reads what the kernel still holds, the core works off its channel, the exporter sends what is pending. A
//! stage that ends by itself takes the same way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::processor::Processor;
use crate::processor::ids::Key;
use crate::signal::Signal;
use crate::store::{Budget, Happening, Observer, Store};
use crate::telemetry::{Telemetry, metrics};
use crate::time::RunningTime;
use crate::{exporter, processor, receiver, store, telemetry};

pub mod clock;
mod core;
pub mod key;
mod names;

use clock::Clock;
use names::{Names, NamesFile};

/// How long a stop may take, all stages together.
pub const GRACE: Duration = Duration::from_secs(5);

/// What is left of the grace period for the last export of metrics.
const METRICS_GRACE: Duration = Duration::from_millis(800);

/// Memory of the outbox at most, whatever `store.max_size` says.
const OUTBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is left of the grace period for the end of the process itself.
const EXIT_GRACE: Duration = Duration::from_millis(300);

/// How often the names file is looked at.
const NAMES_INTERVAL: Duration = Duration::from_secs(5);

/// Every part's own configuration, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP in.
    pub receiver: receiver::Config,
    /// The core.
    pub processor: processor::Config,
    /// The secret of every keyed hash; `None` takes the key file beside the store, made at the first start.
    pub key: Option<Key>,
    /// The outbox.
    pub store: store::Config,
    /// OTLP out.
    pub exporter: exporter::Config,
    /// Our own log and metrics.
    pub telemetry: telemetry::Config,
    /// CSV file of app id and app name, re-read when it changes.
    pub app_names_file: Option<PathBuf>,
}

/// Why nothing could be started. What had been bound is free again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket.
    #[error("cannot listen for datagrams")]
    Bind(#[from] receiver::BindError),
    /// The key of the hashes.
    #[error("there is no key for the hashes")]
    Key(#[from] key::KeyError),
    /// The connection to the backend cannot be set up. A backend that is down is not this error.
    #[error("the export cannot be set up")]
    Export(#[from] exporter::client::BuildError),
    /// The system gives no more threads.
    #[error("a thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions that were open; without a durable store they are forgotten.
    pub open_sessions: usize,
    /// Log records that could not be delivered in time.
    pub logs_left: u64,
    /// Spans that could not be delivered in time.
    pub spans_left: u64,
    /// Whether every stage ended as it should.
    pub clean: bool,
}

/// A pipeline at work. Dropping it without [`Running::stop`] leaves its threads to the end of the process.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    telemetry: Telemetry,
    store: Store,
    stop_receiver: Arc<AtomicBool>,
    stop_exporter: watch::Sender<Option<Instant>>,
    receiver: JoinHandle<()>,
    core: JoinHandle<usize>,
    exporter: JoinHandle<()>,
    ended: watch::Receiver<bool>,
}

/// Starts everything. Returns once the socket is bound and all stages run.
///
/// # Errors
///
/// Every kind of [`StartError`].
pub fn start(config: Config) -> Result<Running, StartError> {
    let bound = receiver::bind(&config.receiver)?;
    let addresses = bound.local_addresses();
    let key = match &config.key {
        Some(key) => key.clone(),
        None => key::load_or_create(&config.store.directory)?,
    };
    let telemetry = Telemetry::default();
    let clock = Clock::start(RunningTime::START);
    let budget = Budget { bytes: config.store.max_size.min(OUTBOX_BYTES_MAX), age: config.store.max_age };
    let store = Store::in_memory(budget, Arc::new(StoreObserver(telemetry.clone())));
    let (stop_exporter, exporter_stopped) = watch::channel(None);
    let (end, ended) = watch::channel(false);

    let exporter = {
        let export = Export::build(&config, &store, &telemetry)?;
        let end = Ending(end.clone());
        spawn("exporter", move || {
            export.run(exporter_stopped);
            drop(end);
        })?
    };
    let (batch_sender, batches) = sync_channel(receiver::CHANNEL_BATCHES);
    let (names_sender, names) = mpsc::channel();
    let core = {
        let processor = Processor::new(config.processor, &key);
        let core = core::Core::new(processor, store.clone(), telemetry.clone(), clock, &config.exporter.signals);
        let end = Ending(end.clone());
        spawn("core", move || {
            let open_sessions = core.run(&batches, &names);
            drop(end);
            open_sessions
        })?
    };
    if let Some(path) = config.app_names_file {
        let telemetry = telemetry.clone();
        let ended = ended.clone();
        spawn("names", move || watch_names(NamesFile::new(path), &names_sender, &telemetry, &ended))?;
    }
    let stop_receiver = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (telemetry, stop, end) = (telemetry.clone(), Arc::clone(&stop_receiver), Ending(end));
        let config = config.receiver;
        spawn("receiver", move || {
            receiver::run(bound, &config, &telemetry, &batch_sender, &stop, clock::wall);
            drop(end);
        })?
    };
    Ok(Running { addresses, telemetry, store, stop_receiver, stop_exporter, receiver, core, exporter, ended })
}

impl Running {
    /// Where datagrams are listened for.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// All counters.
    #[must_use]
    pub const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Waits until a stage ends by itself, which none does while all is well.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender is dropped only after it has sent.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Stops stage by stage, within [`GRACE`].
    #[must_use]
    pub fn stop(self) -> Summary {
        let deadline = Instant::now() + GRACE - EXIT_GRACE;
        self.stop_receiver.store(true, Ordering::Relaxed);
        let receiver = self.receiver.join();
        let core = self.core.join();
        self.stop_exporter.send_replace(Some(deadline));
        let exporter = self.exporter.join();
        Summary {
            clean: receiver.is_ok() && core.is_ok() && exporter.is_ok(),
            open_sessions: core.unwrap_or_default(),
            logs_left: self.store.pending(Signal::Logs).items,
            spans_left: self.store.pending(Signal::Traces).items,
        }
    }
}

/// Counts what the store gives up.
#[derive(Debug)]
struct StoreObserver(Telemetry);

impl Observer for StoreObserver {
    fn observe(&self, happening: Happening) {
        if let Happening::Expired { signal, what, .. } = happening {
            self.0.expired(signal, what.items);
        }
    }
}

/// Says that a stage has ended when it is dropped, in a panic too.
struct Ending(watch::Sender<bool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Everything that goes out, on a runtime of one thread.
struct Export {
    runtime: tokio::runtime::Runtime,
    exporter: exporter::Exporter,
    metrics: Option<metrics::Metrics>,
}

impl Export {
    fn build(config: &Config, store: &Store, telemetry: &Telemetry) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let exporter = exporter::Exporter::new(config.exporter.clone(), store, telemetry, seed())?;
        let metrics = if config.exporter.signals.contains(&Signal::Metrics) {
            let interval = config.telemetry.metrics_interval;
            Some(metrics::start(telemetry, exporter.metrics(), interval, &config.processor.resource, runtime.handle()))
        } else {
            None
        };
        drop(entered);
        Ok(Self { runtime, exporter, metrics })
    }

    /// Sends until the time that `stop` names.
    fn run(self, mut stop: watch::Receiver<Option<Instant>>) {
        let Self { runtime, exporter, metrics } = self;
        runtime.block_on(async {
            let (drain, drained) = watch::channel(None);
            let stopping = async {
                // A sender that is gone has stopped without a grace period.
                let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
                let deadline = deadline.unwrap_or_else(Instant::now);
                drain.send_replace(Some(deadline.checked_sub(METRICS_GRACE).unwrap_or(deadline)));
                deadline
            };
            let (deadline, _left) = tokio::join!(stopping, exporter.run(drained));
            if let Some(metrics) = metrics {
                metrics.shutdown(deadline.saturating_duration_since(Instant::now()).max(METRICS_GRACE)).await;
            }
        });
        // A connection that hangs must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Decides the jitter of retries, so that receivers that were started together do not come back together.
fn seed() -> u64 {
    clock::wall().as_nanos() ^ u64::from(std::process::id())
}

/// Reads the names file whenever it changes, until the core is gone.
fn watch_names(mut file: NamesFile, names: &Sender<Names>, telemetry: &Telemetry, ended: &watch::Receiver<bool>) {
    let mut told = false;
    while !*ended.borrow() {
        match file.changed() {
            Ok(Some(read)) => {
                telemetry.app_names(read.len());
                told = false;
                if names.send(read).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) if !told => {
                telemetry.app_names_failed(file.path(), &error);
                told = true;
            }
            Err(_) => {}
        }
        thread::sleep(NAMES_INTERVAL);
    }
}
