//! PLACEHOLDER, to be dissolved when the parts are joined: the only places where the command line calls the
//! configuration, the pipeline and the simulator.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::pipeline;
use crate::telemetry::Telemetry;
use crate::time::Timestamp;

/// Stands for the error types of configuration and pipeline.
#[derive(Debug, Error)]
#[error("the parts are not joined yet")]
pub(super) struct NotJoined;

/// The valid configuration of a file, or of the defaults. -> `config`
pub(super) fn load_config(_file: Option<&Path>) -> Result<pipeline::Config, NotJoined> {
    Err(NotJoined)
}

/// Runs until `stop`, then drains. Tells `bound` where it listens. -> `pipeline::run`
pub(super) async fn run_pipeline(
    _config: pipeline::Config,
    _telemetry: Telemetry,
    _bound: oneshot::Sender<SocketAddr>,
    _stop: impl Future<Output = ()>,
) -> Result<(), NotJoined> {
    Err(NotJoined)
}

/// A working day of at least `sessions` sessions from `day_begins` on, in the order of time. -> `simulator`
pub(super) fn working_day(
    _seed: u64,
    _sessions: u64,
    _day_begins: Timestamp,
) -> impl Iterator<Item = (Timestamp, Vec<u8>)> + Send {
    std::iter::empty()
}
