//! The command line: one file per command, each with its arguments and a `run` that returns the exit code.

mod appender;
mod bench;
mod datagrams;
mod decode;
mod demo;
mod hash;
mod host;
mod print_config;
mod quarantine;
mod run;
mod service;
mod simulate;
mod stop;
mod validate;
mod who;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Start here:
  sense-otel demo                          see what it does, on this machine alone
  sense-otel appender --to HOST:9997       print the LocalLogConfig.xml for the proxy nodes
  sense-otel run --config sense-otel.yaml  receive and send
  sense-otel who                           who is on, from the receiver that runs here
  sense-otel decode --listen [::]:9997     nothing arrives? see what does

Exit codes: 0 done, 1 failed (the reason is on the standard error), 2 the command line was not understood.";

/// Sessions and connections of Qlik Sense Enterprise on Windows, as OpenTelemetry logs, spans and metrics
///
/// Receives the events that the Qlik Sense proxy service sends by UDP, and sends them on by OTLP over gRPC to any
/// OpenTelemetry collector or backend.
#[derive(Debug, Parser)]
#[command(name = "sense-otel", version, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Who(who::WhoArgs),
    Validate(validate::ValidateArgs),
    PrintConfig(print_config::PrintConfigArgs),
    Demo(demo::DemoArgs),
    Simulate(simulate::SimulateArgs),
    Bench(bench::BenchArgs),
    Appender(appender::AppenderArgs),
    Decode(decode::DecodeArgs),
    Quarantine(quarantine::QuarantineArgs),
    Hash(hash::HashArgs),
    Service(service::ServiceArgs),
}

/// Does what the process's arguments ask for. Ends the process itself where help, version or a mistake was asked for.
#[must_use]
pub fn main() -> ExitCode {
    match &CommandLine::parse().command {
        Command::Run(args) => run::run(args),
        Command::Who(args) => who::run(args),
        Command::Validate(args) => validate::run(args),
        Command::PrintConfig(args) => print_config::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Appender(args) => appender::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Quarantine(args) => quarantine::run(args),
        Command::Hash(args) => hash::run(args),
        Command::Service(args) => service::run(args),
    }
}

/// Prints an error with all its causes, once.
fn report(error: &dyn Error) -> ExitCode {
    // There is no other place to say so.
    let _ = writeln!(anstream::stderr(), "error: {}", chain(error));
    ExitCode::FAILURE
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
