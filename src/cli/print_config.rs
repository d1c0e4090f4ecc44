//! `sense-otel print-config`: the configuration in effect, and what there is to configure.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;

/// Shows the configuration in effect: defaults filled in, variables put in, secrets as `[redacted]`.
#[derive(clap::Args, Debug)]
pub(crate) struct PrintConfigArgs {
    /// The file; without it, the built-in defaults and what the environment says.
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["schema", "reference", "markdown"])]
    config: Option<PathBuf>,
    /// Prints the JSON schema of the file instead, for editors.
    #[arg(long, conflicts_with_all = ["reference", "markdown"])]
    schema: bool,
    /// Prints a commented file with every key at its default instead.
    #[arg(long, conflicts_with = "markdown")]
    reference: bool,
    /// Prints `docs/configuration.md` instead.
    #[arg(long, hide = true)]
    markdown: bool,
}

/// Prints what was asked for, or all faults to stderr. Exit code 0 or 1.
pub(crate) fn run(args: &PrintConfigArgs) -> ExitCode {
    let text = if args.schema {
        config::json_schema()
    } else if args.reference {
        config::reference_yaml()
    } else if args.markdown {
        config::markdown()
    } else {
        match config::load(args.config.as_deref(), config::environment, config::addresses_of) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    anstream::eprintln!("warning: {warning}");
                }
                loaded.to_yaml()
            }
            Err(faults) => {
                // `anstream` takes the colours out again where no terminal is listening.
                anstream::eprintln!("{}", faults.render(true));
                return ExitCode::FAILURE;
            }
        }
    };
    anstream::print!("{text}");
    ExitCode::SUCCESS
}
