//! The binary: hands the command line to [`sense_otel::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sense_otel::cli::main()
}
