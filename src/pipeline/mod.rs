//! Composition: the only place that spawns and that reads a clock.
//!
//! ```text
//!  thread `receiver`     thread `core`              thread `exporter`, a runtime of its own
//!  receiver::run ──────> core: Processor, Encoder ──> Store ──> exporter::run, telemetry::metrics
//!       channel of batches                   append   ↑↓   next, acknowledge
//!                                             thread `store`: Writer
//! ```
//!
//! [`start`] binds before it does anything else, so that a site that restarts us loses as little as can be, and builds
//! before it spawns; what an earlier process left is taken up in between. [`Running::stop`] goes stage by stage, in the
//! order of the data, under one grace period: the receiver reads what the kernel still holds, the core works off its
//! channel, the store makes it durable, the exporter sends what is pending. A stage that ends by itself takes the same
//! way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::processor::ids::Key;
use crate::signal::Signal;
use crate::store::{Status, Store};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::{Scrape, ScrapeError};
use crate::{admin, exporter, processor, receiver, store, telemetry};

pub mod clock;
mod core;
mod export;
mod journal;
pub mod key;
mod names;
mod page;
mod recovery;

use export::Export;
use names::{Names, NamesFile};
use page::Page;
use recovery::Foundation;

/// How long a stop may take, all stages together.
pub const GRACE: Duration = Duration::from_secs(5);

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
    /// The outbox, and what is open.
    pub store: store::Config,
    /// Whether to keep both in memory and forget them at the end, and to make no key file either: for demos and tests.
    pub in_memory: bool,
    /// OTLP out.
    pub exporter: exporter::Config,
    /// Our own log and metrics.
    pub telemetry: telemetry::Config,
    /// CSV file of app id and app name, re-read when it changes.
    pub app_names_file: Option<PathBuf>,
    /// The live page; `None` is without one.
    pub admin: Option<admin::Config>,
}

/// Why nothing could be started. What had been bound is free again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket.
    #[error("cannot listen for datagrams")]
    Bind(#[from] receiver::BindError),
    /// The store: another process has it, a newer version wrote it, or its folder cannot be used.
    #[error("the store in {directory} cannot be opened")]
    Store {
        /// Its folder.
        directory: PathBuf,
        /// Why.
        #[source]
        error: store::OpenError,
    },
    /// The key of the hashes.
    #[error("there is no key for the hashes")]
    Key(#[from] key::KeyError),
    /// The connection to the backend cannot be set up. A backend that is down is not this error.
    #[error("the export cannot be set up")]
    Export(#[from] exporter::client::BuildError),
    /// The metrics cannot be read.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] ScrapeError),
    /// The system gives no more threads.
    #[error("a thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions that were open.
    pub open_sessions: usize,
    /// Log records that could not be delivered in time.
    pub logs_left: u64,
    /// Spans that could not be delivered in time.
    pub spans_left: u64,
    /// Whether all that is on disk, for the next start. Otherwise it is forgotten.
    pub durable: bool,
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
    core: JoinHandle<core::End>,
    exporter: JoinHandle<()>,
    writer: Option<JoinHandle<()>>,
    page: Option<Page>,
    ended: watch::Receiver<bool>,
}

/// Starts everything. Returns once the socket is bound and all stages run.
///
/// # Errors
///
/// Every kind of [`StartError`].
pub fn start(config: Config) -> Result<Running, StartError> {
    let bound = receiver::bind(&config.receiver)?;
    start_on(bound, config)
}

/// The same on sockets that are there already.
///
/// # Errors
///
/// Every kind of [`StartError`].
pub fn start_on(bound: receiver::Bound, config: Config) -> Result<Running, StartError> {
    let addresses = bound.local_addresses();
    let telemetry = Telemetry::default();
    let Foundation { store, writer, processor, clock } = recovery::recover(&config, &telemetry)?;
    let (stop_exporter, exporter_stopped) = watch::channel(None);
    let (end, ended) = watch::channel(false);

    let scrape = Scrape::default();
    let export = Export::build(&config, &store, &telemetry, &scrape)?;
    let writer = match writer {
        Some(writer) => Some(spawn("store", ending(&end, move || writer.run()))?),
        None => None,
    };
    let exporter = spawn("exporter", ending(&end, move || export.run(exporter_stopped)))?;
    let (batch_sender, batches) = sync_channel(receiver::CHANNEL_BATCHES);
    let (names_sender, names) = mpsc::channel();
    let live = admin::Live::default();
    let show = config.admin.as_ref().map(|admin| core::Show::new(live.clone(), admin.clock));
    let core = core::Core::new(processor, store.clone(), telemetry.clone(), clock, &config.exporter.signals, show);
    let core = spawn("core", ending(&end, move || core.run(&batches, &names)))?;
    if let Some(path) = config.app_names_file {
        let telemetry = telemetry.clone();
        let ended = ended.clone();
        spawn("names", move || watch_names(NamesFile::new(path), &names_sender, &telemetry, &ended))?;
    }
    let stop_receiver = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (telemetry, stop, config) = (telemetry.clone(), Arc::clone(&stop_receiver), config.receiver);
        let receive = move || {
            receiver::run(bound, &config, &telemetry, &batch_sender, &stop, clock::wall);
        };
        spawn("receiver", ending(&end, receive))?
    };
    let sources =
        admin::Sources { live, telemetry: telemetry.clone(), scrape, in_memory: config.in_memory, wall: clock::wall };
    let page = config.admin.map(|admin| Page::open(admin, sources)).transpose()?;
    let running = Running {
        addresses,
        telemetry,
        store,
        stop_receiver,
        stop_exporter,
        receiver,
        core,
        exporter,
        writer,
        page,
        ended,
    };
    Ok(running)
}

/// Looks at the files that the configuration names, as a start does: certificates, keys and the names of apps. Returns what
/// is wrong with the names, without which a start goes on.
///
/// # Errors
///
/// What keeps a start from setting up the export.
pub fn check_files(config: &Config) -> Result<Option<impl std::error::Error + use<>>, exporter::client::BuildError> {
    exporter::client::check(&config.exporter)?;
    Ok(config.app_names_file.as_deref().and_then(|path| names::check(path).err()))
}

impl Running {
    /// Where datagrams are listened for.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the live page can be asked for; nowhere if its port was taken at the start, or there is none.
    #[must_use]
    pub fn page_addresses(&self) -> &[SocketAddr] {
        self.page.as_ref().map_or(&[], Page::addresses)
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
        if let Some(page) = &self.page {
            page.stopping();
        }
        self.stop_receiver.store(true, Ordering::Relaxed);
        let receiver = self.receiver.join();
        let core = self.core.join();
        // What is not on disk yet cannot be sent, so the exporter would take the outbox for empty.
        let is_flushed = self.store.flush(deadline.saturating_duration_since(Instant::now()));
        self.stop_exporter.send_replace(Some(deadline));
        let exporter = self.exporter.join();
        let [logs, spans] = [Signal::Logs, Signal::Traces].map(|signal| self.store.pending(signal).items);
        let (open_sessions, is_whole) = core.as_ref().map_or((0, false), |end| (end.open_sessions, end.whole));
        let durable = is_whole && is_flushed && self.store.status() == Status::Durable;
        self.store.close();
        let writer = self.writer.map_or(Ok(()), JoinHandle::join);
        if let Some(page) = self.page {
            page.close();
        }
        Summary {
            clean: receiver.is_ok() && core.is_ok() && exporter.is_ok() && writer.is_ok(),
            open_sessions,
            logs_left: logs,
            spans_left: spans,
            durable,
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

/// `work`, which says at its end that it has ended.
fn ending<T, W: FnOnce() -> T>(end: &watch::Sender<bool>, work: W) -> impl FnOnce() -> T + use<T, W> {
    let end = Ending(end.clone());
    move || {
        let result = work();
        drop(end);
        result
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
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
