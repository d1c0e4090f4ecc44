//! `sense-otel validate`: everything that is wrong with a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{config, pipeline};

use super::chain;

/// Tell everything that is wrong with a configuration file, and with the files that it names
///
/// Run it where sense-otel is to run, with the same environment variables. Connects to nobody. Exit code 0 if there is
/// nothing wrong, 1 otherwise.
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
            // What a start would find, too, so that it is not found at the start.
            match pipeline::check_files(&loaded.pipeline) {
                Ok(trouble) => {
                    if let Some(trouble) = trouble {
                        anstream::eprintln!("warning: {}: apps.names_file: {}", args.config.display(), chain(&trouble));
                    }
                    anstream::println!("{}: valid", args.config.display());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    anstream::eprintln!("error: {}: {}", args.config.display(), chain(&error));
                    ExitCode::FAILURE
                }
            }
        }
        Err(faults) => {
            // `anstream` takes the colours out again where no terminal is listening.
            anstream::eprintln!("{}", faults.render(true));
            ExitCode::FAILURE
        }
    }
}
