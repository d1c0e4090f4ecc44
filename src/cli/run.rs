//! `sense-otel run`: the main job.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tracing::{error, info, warn};

use crate::pipeline::{GRACE, Running, StartError, Summary, start, start_on};
use crate::telemetry::{Log, LogError};
use crate::{config, receiver};

use super::host::{Foreground, Host, give_signs_of_life};
use super::report;
use super::stop::StopRequests;

const EXAMPLES: &str = "\
Examples:
  sense-otel run --config sense-otel.yaml
      The way to run on a site. `sense-otel validate --config sense-otel.yaml`
      checks the file first.
  sense-otel run
      Listens on localhost:9997 (UDP) and sends to http://localhost:4317, the
      defaults.

Stops on Ctrl-C or SIGTERM: what was received is sent first, as far as the
backend takes it; the rest, and what is open, is kept in the store for the next
start. A second Ctrl-C exits at once.

Exit code: 0 after such a stop, 1 if it could not start or failed.";

/// Receive events of Qlik Sense and send them to an OpenTelemetry collector
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Configuration file (YAML); without it every key has its default
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Keep everything in memory and forget it at the end, instead of on disk in store.directory: for trials
    #[arg(long)]
    pub(super) in_memory: bool,
}

/// Why it could not start, or ended other than by request.
#[derive(Debug, Error)]
pub(super) enum RunError {
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    #[error("cannot set up the log")]
    Log(#[from] LogError),
    #[error("cannot listen for the wish to stop")]
    Requests(#[source] io::Error),
    #[error("cannot start")]
    Start(#[source] StartError),
    #[error("a part of the receiver ended before its time; the log above says more")]
    Ended,
}

/// Runs until asked to stop.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    match receive(args, &Foreground::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Receives until asked to stop.
///
/// # Errors
///
/// Every kind of [`RunError`].
pub(super) fn receive(args: &RunArgs, host: &dyn Host) -> Result<(), RunError> {
    let passed = receiver::passed().map_err(|error| RunError::Start(error.into()))?;
    let loaded = config::load(args.config.as_deref(), config::environment, config::addresses_of)
        .map_err(|faults| RunError::Config(faults.render(true)))?;
    let mut config = loaded.pipeline;
    config.in_memory = args.in_memory;
    let log = host.open_log(&config.telemetry.level)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    if args.in_memory {
        warn!(
            "THE STORE IS IN MEMORY: what the backend has not taken, and every open session, is lost when this process \
             ends"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Requests)?;
    let mut requests = {
        let _entered = runtime.enter();
        // Before the first thread starts, so that no early signal ends us half way.
        host.stop_requests().map_err(RunError::Requests)?
    };
    let running = match passed {
        Some(bound) => {
            info!("the service manager passed the socket: receiver.udp.endpoint and receive_buffer have no effect");
            start_on(bound, config)
        }
        None => start(config),
    };
    let running = running.map_err(RunError::Start)?;
    runtime.block_on(async {
        for address in running.local_addresses() {
            info!(%address, "listening (UDP)");
        }
        host.ready(running.local_addresses());
        let asked = until_stop(&running, &mut requests, &log, host).await;
        host.stopping();
        info!("stopping; ask again to exit at once");
        // Stopping waits for threads, and the second request must not.
        let summary = tokio::select! {
            summary = tokio::task::spawn_blocking(move || running.stop()) => summary.map_err(|_| RunError::Ended)?,
            () = requests.next() => std::process::exit(1),
            // Whatever keeps a thread: whoever stops us was promised an end.
            () = tokio::time::sleep(GRACE + Duration::from_secs(1)) => std::process::exit(1),
        };
        log.tell_dropped();
        tell(summary);
        if asked && summary.clean { Ok(()) } else { Err(RunError::Ended) }
    })
}

/// Runs until somebody asks for the end, which is true, or a stage ends by itself.
async fn until_stop(running: &Running, requests: &mut StopRequests, log: &Log, host: &dyn Host) -> bool {
    let mut tick = tokio::time::interval(Log::TELL_INTERVAL);
    let mut ended = pin!(running.ended());
    let mut signs_of_life = pin!(give_signs_of_life(host, running.telemetry()));
    loop {
        tokio::select! {
            () = requests.next() => return true,
            () = &mut ended => return false,
            never = &mut signs_of_life => match never {},
            _ = tick.tick() => log.tell_dropped(),
        }
    }
}

fn tell(summary: Summary) {
    let Summary { open_sessions, logs_left, spans_left, durable, clean: _ } = summary;
    if durable {
        info!(
            open_sessions,
            logs_left, spans_left, "stopped; what is open and what is left is kept for the next start"
        );
    } else if logs_left + spans_left > 0 {
        error!(open_sessions, logs_left, spans_left, "stopped; what the backend did not take in time is lost");
    } else {
        info!(open_sessions, logs_left, spans_left, "stopped; what was open is forgotten");
    }
}
