//! Our own log: one line per happening on the standard error stream, or in files where there is none.
//!
//! A thread of its own writes the lines. Whoever reads them may be slow, or stop reading: then lines are dropped and
//! counted, and neither an event nor a stop waits.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level is no filter directive.
    #[error("telemetry.level is neither a level (error, warn, info, debug, trace) nor a filter directive")]
    Level(#[from] ParseError),
    /// This process has a log already.
    #[error("the log is already set up")]
    AlreadySet(#[from] TryInitError),
    /// The folder of the log files cannot be written to.
    #[error("cannot write log files: {0}")]
    Folder(String),
}

/// Lines that may wait to be written.
const WAITING_MAX: usize = 4096;

/// Log files that are kept, one for each day.
const LOG_FILES_MAX: usize = 14;

/// The log that [`init_log`] set up. Dropping it writes what still waits, for a second at most.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Log {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
    told: AtomicUsize,
}

impl Log {
    /// Says how many lines nobody took since it was last asked, if any.
    pub fn tell_dropped(&self) {
        let dropped = self.dropped.dropped_lines();
        let told = self.told.swap(dropped, Ordering::Relaxed);
        if dropped > told {
            warn!(lines = dropped - told, "log lines dropped: whoever takes them is too slow");
        }
    }

    /// How often [`Self::tell_dropped`] is worth asking.
    pub const TELL_INTERVAL: Duration = Duration::from_secs(10);
}

/// Writes our log lines to the standard error stream from now on, in colour only on a terminal.
///
/// `level` is a directive of [`EnvFilter`]: `info`, or `sense_otel::telemetry=debug`. Whatever it says, the libraries
/// below us write warnings and errors only: at finer levels some of them print requests with their headers.
///
/// # Errors
///
/// A `level` that is no directive, or a log that exists already.
pub fn init_log(level: &str) -> Result<Log, LogError> {
    init_log_to(level, io::stderr(), io::stderr().is_terminal())
}

/// The same into the files of `folder`, of which [`log_file`] says the names.
///
/// # Errors
///
/// Those of [`init_log`], and a folder that cannot be written to.
pub fn init_log_in(level: &str, folder: &Path) -> Result<Log, LogError> {
    init_log_to(level, log_file(folder)?, false)
}

/// The log file of today (UTC) in `folder`, `sense-otel.YYYY-MM-DD.log`, for appending. Of a fortnight's files the oldest
/// is removed. It goes on with the next one at midnight.
///
/// # Errors
///
/// A folder that cannot be written to.
pub fn log_file(folder: &Path) -> Result<impl Write + Send + use<>, LogError> {
    let builder = RollingFileAppender::builder().rotation(Rotation::DAILY).max_log_files(LOG_FILES_MAX);
    let builder = builder.filename_prefix("sense-otel").filename_suffix("log");
    builder.build(folder).map_err(|error| LogError::Folder(error.to_string()))
}

fn init_log_to(level: &str, writer: impl Write + Send + 'static, has_colours: bool) -> Result<Log, LogError> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_MAX).thread_name("log");
    let (lines, worker) = builder.finish(writer);
    let dropped = lines.error_counter();
    subscriber(level, lines, has_colours)?.try_init()?;
    Ok(Log { _writer: worker, dropped, told: AtomicUsize::new(0) })
}

/// What [`init_log`] installs, writing to `writer`.
pub(super) fn subscriber<W>(
    level: &str,
    writer: W,
    has_colours: bool,
) -> Result<impl Subscriber + Send + Sync, ParseError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let ours = EnvFilter::builder().parse(level)?;
    let libraries = Targets::new().with_default(LevelFilter::WARN).with_target("sense_otel", LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(has_colours).with_target(false);
    Ok(tracing_subscriber::registry().with(ours).with(libraries).with(lines))
}
