//! `sense-otel validate`: everything that is wrong with a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;

/// Tells everything that is wrong with a configuration file; exit code 0 if there is nothing.
#[derive(clap::Args, Debug)]
pub(crate) struct ValidateArgs {
    /// The file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Writes one line if the file is valid, else all faults to stderr. Exit code 0 or 1.
pub(crate) fn run(args: &ValidateArgs) -> ExitCode {
    match config::load(Some(&args.config), config::environment, config::addresses_of) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                anstream::eprintln!("warning: {warning}");
            }
            anstream::println!("{}: valid", args.config.display());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            // `anstream` takes the colours out again where no terminal is listening.
            anstream::eprintln!("{}", faults.render(true));
            ExitCode::FAILURE
        }
    }
}
