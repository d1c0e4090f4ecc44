//! Our own log: one line per happening on the standard error stream.
//!
//! A thread of its own writes the lines. Whoever reads them may be slow, or stop reading: then lines are dropped and
//! counted, and neither an event nor a stop waits.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
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
}

/// Lines that may wait to be written.
const WAITING_MAX: usize = 4096;

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
            warn!(lines = dropped - told, "log lines dropped: whoever reads the standard error stream is too slow");
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
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_MAX).thread_name("log");
    let (lines, writer) = builder.finish(io::stderr());
    let dropped = lines.error_counter();
    subscriber(level, lines, io::stderr().is_terminal())?.try_init()?;
    Ok(Log { _writer: writer, dropped, told: AtomicUsize::new(0) })
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
