//! To be written.

use std::process::ExitCode;

/// Print a LocalLogConfig.xml
#[derive(Debug, clap::Args)]
pub(crate) struct AppenderArgs {}

pub(crate) fn run(_args: &AppenderArgs) -> ExitCode {
    ExitCode::FAILURE
}
