//! Our own log: one line per happening on the standard error stream.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
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

/// Writes our log lines to the standard error stream from now on, in colour only on a terminal.
///
/// `level` is a directive of [`EnvFilter`]: `info`, or `sense_otel::telemetry=debug`. Whatever it says, the libraries
/// below us write warnings and errors only: at finer levels some of them print requests with their headers.
///
/// # Errors
///
/// A `level` that is no directive, or a log that exists already.
pub fn init_log(level: &str) -> Result<(), LogError> {
    subscriber(level, io::stderr, io::stderr().is_terminal())?.try_init()?;
    Ok(())
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
