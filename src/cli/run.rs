//! `sense-otel run`: the main job.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::pipeline;
use crate::telemetry::{LogError, Telemetry, init_log};

use super::report;
use super::seam::{self, NotJoined};
use super::stop::StopRequests;

const EXAMPLES: &str = "\
Examples:
  sense-otel run --config sense-otel.yaml
      The way to run on a site. `sense-otel validate --config sense-otel.yaml` checks the file first.
  sense-otel run
      Listens on localhost:9997 (UDP) and sends to http://localhost:4317, the defaults.

Stops on Ctrl-C or SIGTERM: what was received is sent first, as far as the backend takes it. A second Ctrl-C exits at
once. Exit code: 0 after such a stop, 1 if it could not start or failed.";

/// Receive events of Qlik Sense and send them to an OpenTelemetry collector
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Configuration file (YAML); without it every key has its default
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why it could not start, or ended other than by request.
#[derive(Debug, Error)]
enum RunError {
    #[error("the configuration cannot be used")]
    Config(#[source] NotJoined),
    #[error("cannot set up the log")]
    Log(#[from] LogError),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("the pipeline failed")]
    Pipeline(#[source] NotJoined),
}

/// Runs until asked to stop.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    match receive(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error as &dyn Error),
    }
}

fn receive(args: &RunArgs) -> Result<(), RunError> {
    let config = seam::load_config(args.config.as_deref()).map_err(RunError::Config)?;
    init_log(&config.telemetry.level)?;
    warn!(
        "THE OUTBOX IS IN MEMORY: what the backend has not taken, and every open session, is lost when this process \
         ends"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    runtime.block_on(until_stopped(config))
}

async fn until_stopped(config: pipeline::Config) -> Result<(), RunError> {
    let mut requests = StopRequests::listen().map_err(RunError::Runtime)?;
    let (stop, stopped) = oneshot::channel();
    let (bound, address) = oneshot::channel();
    let pipeline = seam::run_pipeline(config, Telemetry::default(), bound, async {
        // The sender lives until the second request, after which nothing waits any more.
        let _ = stopped.await;
    });
    let watch = async {
        if let Ok(address) = address.await {
            info!(%address, "listening (UDP)");
        }
        requests.next().await;
        info!("stopping; ask again to exit at once");
        let _ = stop.send(());
        requests.next().await;
    };
    tokio::select! {
        result = pipeline => result.map_err(RunError::Pipeline),
        // Threads of the pipeline may be in the middle of a wait that nobody wants to sit through.
        () = watch => std::process::exit(1),
    }
}
