//! `sense-otel quarantine`: what the backend refused for good, to look at and to send again.
//!
//! It reads the folder beside a receiver at work, without a lock: every file there is whole, and may be gone the next
//! moment, because the receiver made room or somebody else has sent it again.

mod content;
mod replay;
mod show;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use thiserror::Error;

use crate::config::{self, Loaded};
use crate::exporter::client::BuildError;
use crate::signal::Signal;
use crate::store::storage::{FileSystem, Storage};
use crate::store::{Quarantine, QuarantineError, QuarantineId};
use crate::time::Timestamp;

use super::report;

const EXAMPLES: &str = "\
Examples:
  sense-otel quarantine list --config sense-otel.yaml
      What there is, and what the backend said about it. A store.directory that
      is relative is looked for in this folder: where sense-otel runs as a
      service, name it with --directory.
  sense-otel quarantine show 17 --directory /var/lib/sense-otel/sense-otel-data
      Everything in request 17.
  sense-otel quarantine replay --all --config sense-otel.yaml
      Send everything again, once the backend has been set right.

All of it works while `sense-otel run` is running. What `show` prints holds
personal data: user names, client addresses and session ids, as far as the
configuration let them pass. Mind where you paste it.

Exit codes: 0 done, 1 something failed or was refused again, 2 usage.";

/// Look at what the backend refused for good, and send it again
///
/// A request that the backend answers with an error for good (a field that it does not know, a record that is too old)
/// would block everything behind it. It is put aside into the folder `quarantine` of the store, up to 256 MiB, then the
/// oldest go. Nothing of it is sent again unless you say so here.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is in the quarantine, the oldest first
    List(Place),
    /// Show one request with everything in it: personal data too
    Show(show::ShowArgs),
    /// Send requests again, and remove each that the backend takes
    Replay(replay::ReplayArgs),
}

/// Where the quarantine is.
#[derive(Debug, clap::Args)]
struct Place {
    /// Configuration file (YAML); without it every key has its default
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store, in place of store.directory in the configuration
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Why a command could not do what it was asked for. Holds nothing of what the requests hold.
#[derive(Debug, Error)]
enum Fault {
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    #[error("there is no store in {}; --directory or store.directory says where it is", .0.display())]
    NoStore(PathBuf),
    #[error("the folder {} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    #[error("request {0} holds no readable {1}; --raw FILE writes it as it is")]
    Content(QuarantineId, Signal, #[source] prost::DecodeError),
    #[error("cannot write {}", .0.display())]
    Raw(PathBuf, #[source] io::Error),
    #[error("cannot set up the connection to the backend")]
    Connection(#[from] BuildError),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

/// Does what was asked for.
pub(crate) fn run(args: &QuarantineArgs) -> ExitCode {
    let mut out = anstream::stdout().lock();
    let done = match &args.command {
        Command::List(place) => list(place, &mut out),
        Command::Show(args) => show::run(args, &mut out),
        Command::Replay(args) => replay::run(args, &mut out),
    };
    match done {
        Ok(code) => code,
        // Whoever pipes us into `head` has seen enough.
        Err(Fault::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => report(&fault),
    }
}

fn list(place: &Place, out: &mut impl Write) -> Result<ExitCode, Fault> {
    let quarantine = place.quarantine()?;
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    table::write(&quarantine.list()?, width, out).map_err(Fault::Output)?;
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn load(&self) -> Result<Loaded, Fault> {
        config::load(self.config.as_deref(), config::environment, config::addresses_of)
            .map_err(|faults| Fault::Config(faults.render(true)))
    }

    /// The quarantine, wherever it is. The configuration is not looked at if the folder is named.
    fn quarantine(&self) -> Result<Quarantine, Fault> {
        match &self.directory {
            Some(directory) => open(directory.clone()),
            None => {
                let config = self.config.as_deref();
                let loaded = config::load_sections(config, &["store"], config::environment, config::addresses_of)
                    .map_err(|faults| Fault::Config(faults.render(true)))?;
                open(loaded.pipeline.store.directory)
            }
        }
    }
}

/// A quarantine that is empty is one thing, a mistyped folder another.
fn open(directory: PathBuf) -> Result<Quarantine, Fault> {
    let storage = FileSystem::new(&directory);
    let names = storage.list("").map_err(|error| Fault::Unreadable(directory.clone(), error))?;
    if !names.iter().any(|name| name == "log" || name == "quarantine") {
        return Err(Fault::NoStore(directory));
    }
    Ok(Quarantine::new(Arc::new(storage)))
}

/// The time in UTC with this many digits behind the second's point.
fn utc(time: Timestamp, digits: usize) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos()));
    time.map(|time| format!("{time:.digits$}")).unwrap_or_default()
}

/// So many items of a signal, in words.
fn amount(items: u32, signal: Signal) -> String {
    let what = match signal {
        Signal::Logs => "log record",
        Signal::Traces => "span",
        Signal::Metrics => "data point",
    };
    let plural = if items == 1 { "" } else { "s" };
    format!("{items} {what}{plural}")
}

/// The name of a gRPC code, or the number of one that is none.
fn code_name(code: u32) -> String {
    match i32::try_from(code).map(tonic::Code::from_i32) {
        Ok(known) if i32::from(known).cast_unsigned() == code => format!("{known:?}"),
        _ => code.to_string(),
    }
}
