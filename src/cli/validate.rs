//! To be written.

use std::process::ExitCode;

/// Check a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {}

pub(crate) fn run(_args: &ValidateArgs) -> ExitCode {
    ExitCode::FAILURE
}
