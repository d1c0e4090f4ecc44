//! `sense-otel service`: as a service of Windows. On other systems it says what does the same there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

#[cfg(windows)]
mod account;
#[cfg(windows)]
mod event_log;
#[cfg(windows)]
mod install;
#[cfg(windows)]
mod main;

const EXAMPLES: &str = "\
Examples, in a console of an administrator:
  sense-otel service install --config C:\\ProgramData\\sense-otel\\sense-otel.yaml
  sc.exe start sense-otel
  sc.exe stop sense-otel
  sense-otel service uninstall

The log is in %ProgramData%\\sense-otel\\log, one file a day; starts, stops and
failures are also in the event log, under Application, source sense-otel.
Relative paths in the configuration are meant from %ProgramData%\\sense-otel.
Linux: see otel-config/systemd.";

/// Install, remove or be a service of Windows
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Install the service `sense-otel`, which starts with Windows
    Install(ConfigArgs),
    /// Stop and remove the service; configuration, data and log stay
    Uninstall,
    /// Be the service; only the service manager can start this
    #[command(hide = true)]
    Run(ServiceRunArgs),
}

/// What the installation has found out for the service, whose environment is another.
#[derive(Clone, Debug, clap::Args)]
struct ServiceRunArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of log and data
    #[arg(long, value_name = "FOLDER")]
    home: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

#[cfg(windows)]
pub(crate) fn run(args: &ServiceArgs) -> ExitCode {
    match &args.command {
        ServiceCommand::Install(args) => install::install(&args.config),
        ServiceCommand::Uninstall => install::uninstall(),
        ServiceCommand::Run(args) => main::run(args),
    }
}

#[cfg(not(windows))]
pub(crate) fn run(args: &ServiceArgs) -> ExitCode {
    let ServiceArgs { command: ServiceCommand::Install(_) | ServiceCommand::Uninstall | ServiceCommand::Run(_) } = args;
    super::report(&NotWindows)
}

/// Nothing of it can be done here.
#[cfg(not(windows))]
#[derive(Debug, thiserror::Error)]
#[error(
    "this command manages a service of Windows, and this is another system; for systemd there are finished units in \
     otel-config/systemd, with the steps in the head of sense-otel.service"
)]
struct NotWindows;
