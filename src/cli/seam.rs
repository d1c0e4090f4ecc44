//! PLACEHOLDER, to be dissolved when the parts are joined: stands for what the command line calls of `config`,
//! `pipeline` and `simulator`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use thiserror::Error;

use crate::pipeline::Config;
use crate::telemetry::Telemetry;
use crate::time::Timestamp;

use super::demo::site::Sending;

/// Stands for the error types of configuration and pipeline.
#[derive(Debug, Error)]
#[error("the parts are not joined yet")]
pub(super) struct StartError;

/// Stands for `pipeline::Running`.
#[derive(Debug)]
pub(super) struct Running {
    telemetry: Telemetry,
}

/// Stands for `pipeline::Summary`.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) open_sessions: usize,
    pub(super) logs_left: u64,
    pub(super) spans_left: u64,
    pub(super) clean: bool,
}

/// The valid configuration of a file, or of the defaults. -> `config`
pub(super) fn load_config(_file: Option<&Path>) -> Result<Config, StartError> {
    Err(StartError)
}

/// Stands for `pipeline::start`.
pub(super) fn start(_config: Config) -> Result<Running, StartError> {
    Err(StartError)
}

/// Stands for `pipeline::clock::wall`.
pub(super) fn wall() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Running {
    pub(super) fn local_addresses(&self) -> &[SocketAddr] {
        &[]
    }

    pub(super) const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub(super) async fn ended(&self) {}

    pub(super) fn stop(self) -> Summary {
        drop(self);
        Summary { open_sessions: 0, logs_left: 0, spans_left: 0, clean: true }
    }
}

/// A working day of `users` users from `day_begins` on. -> `simulator::Simulator`
pub(super) fn working_day(_seed: u64, _users: usize, _day_begins: Timestamp) -> impl Iterator<Item = Sending> + Send {
    std::iter::empty()
}
