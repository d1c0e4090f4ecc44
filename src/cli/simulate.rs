//! `sense-otel simulate`: a simulated Sense site that sends real datagrams, for load and for trying things out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::appender::WireFormat;
use super::stop::watch_for_interrupt;
use crate::simulator::{Config, Faults, Pace, Simulator};
use crate::time::Timestamp;

mod sender;
mod truth;

use sender::Sender;

/// Send the events of a simulated Sense site by UDP
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// Where to send to
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9997")]
    to: String,

    /// How many users the site has
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,

    /// How many proxy nodes it has, each with a socket of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,

    /// Events per second
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    rate: f64,

    /// Which appender the nodes have
    #[arg(long, value_enum, default_value_t = WireFormat::Extended)]
    format: WireFormat,

    /// The same seed gives the same users doing the same things
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// End after so many events [default: go on until interrupted]
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    events: Option<u64>,

    /// End after so long, for example 30s or 5m
    #[arg(long, value_name = "D", value_parser = duration)]
    duration: Option<Duration>,

    /// Write what really happened to this file, as JSON, at the end
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Share of datagrams that are never sent, 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio)]
    loss: f64,

    /// Share of datagrams that are sent twice, 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio)]
    duplicate: f64,

    /// Share of datagrams that are sent up to 30 ms late, 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio)]
    reorder: f64,
}

/// Why nothing was sent, or not all.
#[derive(Debug, Error)]
enum SimulateError {
    #[error("--loss, --duplicate and --reorder are shares of the same datagrams and must not add up to more than 1")]
    TooManyFaults,
    #[error("cannot find an address for {to}; write it as host:port: {error}")]
    Unresolvable { to: String, error: io::Error },
    #[error("cannot open a socket to send from: {0}")]
    Socket(io::Error),
    #[error("cannot listen for an interrupt: {0}")]
    Interrupt(io::Error),
    #[error("cannot write {}: {error}", path.display())]
    Truth { path: PathBuf, error: io::Error },
}

/// Runs the simulation to its end.
pub(crate) fn run(args: &SimulateArgs) -> ExitCode {
    match simulate(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(args: &SimulateArgs) -> Result<(), SimulateError> {
    let target = resolve(&args.to)?;
    let mut sender = Sender::new(target, usize::from(args.nodes)).map_err(SimulateError::Socket)?;
    let interrupted = watch_for_interrupt().map_err(SimulateError::Interrupt)?;
    let config = config(args)?;
    let start = config.start;
    let mut simulator = Simulator::new(config);
    sender.send_all(&mut simulator, start, &interrupted);
    anstream::println!("{}", sender.summary());
    match &args.truth {
        Some(path) => write_truth(path, &simulator).map_err(|error| SimulateError::Truth { path: path.clone(), error }),
        None => Ok(()),
    }
}

fn config(args: &SimulateArgs) -> Result<Config, SimulateError> {
    let faults = Faults { loss: args.loss, duplicate: args.duplicate, reorder: args.reorder };
    if faults.loss + faults.duplicate + faults.reorder > 1.0 {
        return Err(SimulateError::TooManyFaults);
    }
    let events_in = |duration: Duration| (duration.as_secs_f64() * args.rate).round() as u64;
    let events_max = args.events.or_else(|| args.duration.map(events_in));
    Ok(Config {
        seed: args.seed,
        users: args.users as usize,
        nodes: usize::from(args.nodes),
        faults,
        events_max: events_max.unwrap_or(u64::MAX),
        keeps_truth: args.truth.is_some(),
        ..Config::new(args.format.into(), now(), Pace::PerSecond(args.rate))
    })
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since_epoch
}

fn resolve(to: &str) -> Result<SocketAddr, SimulateError> {
    let unresolvable = |error| SimulateError::Unresolvable { to: to.to_owned(), error };
    let mut addresses = to.to_socket_addrs().map_err(unresolvable)?;
    addresses.next().ok_or_else(|| unresolvable(io::ErrorKind::NotFound.into()))
}

fn write_truth(path: &Path, simulator: &Simulator) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, &truth::Document::new(simulator.truth()))?;
    file.flush()
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("not a number above 0".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| "no duration; write it with a unit, as in 90s, 5m or 1h30m".to_owned())?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| "not above zero".to_owned())
}
