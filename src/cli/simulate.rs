//! To be written.

use std::process::ExitCode;

/// Send simulated events
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {}

pub(crate) fn run(_args: &SimulateArgs) -> ExitCode {
    ExitCode::FAILURE
}
