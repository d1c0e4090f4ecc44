//! To be written.

use std::process::ExitCode;

/// Print the effective configuration
#[derive(Debug, clap::Args)]
pub(crate) struct PrintConfigArgs {}

pub(crate) fn run(_args: &PrintConfigArgs) -> ExitCode {
    ExitCode::FAILURE
}
