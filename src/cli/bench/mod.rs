//! `sense-otel bench`: how fast this machine is with it, and how fast it could be at best.
//!
//! ```text
//!  sender threads ──UDP──> `sense-otel run`, a process of its own ──gRPC──> sink thread
//!      └ when each event was sent ────────────────────────────────────────────┘ when its record was taken
//! ```
//!
//! The same load goes to a process that only counts datagrams: that is the limit, and each figure is told as its multiple.

mod arrivals;
mod counted;
mod latencies;
mod limit;
mod load;
mod ramp;
mod receiver;
mod report;
mod sender;
mod sink;
mod step;
mod table;
mod times;
mod usage;

use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use thiserror::Error;

use super::appender::WireFormat;
use super::stop::watch_for_interrupt;

use arrivals::Arrivals;
use limit::Limit;
use load::WARM_UP_EVENTS;
use ramp::{Outcome, Ramp};
use receiver::Receiver;
use report::{Counts, Load, Machine, Report, Row, Run, Setup};
use sender::Sender;
use sink::Sink;
use step::{Step, Subject};
use times::{Clock, Times};

const AFTER_HELP: &str = "\
What is measured:
  events/s   Datagrams sent in a second. The ceiling is the highest rate at
             which none was lost and the last one was exported within a second:
             doubled from 5,000/s up to the first loss, then the distance
             halved four times. `at least` means that the sender could not send
             faster, tried twice; at another rate this is `not reached`. `late`
             is a rate at which nothing was lost, but not exported in time.
  cpu us     Processor time, user and system, of the receiver's process alone,
             from the first datagram to the last record, divided by the events
             that arrived. Linux only, as are RSS and disk.
  p50...     From the moment before the system call that sends a datagram to
             the moment when the backend has the whole request with its log
             record, decompressed, and answers OK. Each record is matched to
             its datagram by user, kind of event and time of receipt. A
             percentile with no sample beyond it is not told.
  RSS        Resident memory of the receiver when the last datagram was sent.
  wire       Bytes of OTLP that reach the backend over TCP for an event: logs,
             spans and the receiver's own metrics, with what HTTP/2 puts around
             them.
  disk       Bytes that the receiver caused to be written for an event.
  x limit    The same divided by that of a process that only reads datagrams
             and counts them, under the same load. Its latency ends when a
             datagram is read; its wire is the bytes of a datagram, which disk
             is divided by too.

The receiver has the defaults, but for what is chosen here. It shares the
machine with the sender and the backend, which takes more from it than a real
site would. Each session is four events; 20,000 users, 4 nodes.

Examples:
  sense-otel bench
      Everything: the limit and eight setups, some 20 minutes.
  sense-otel bench --mode durable --format extended --compression gzip --json > figures.json
      One setup, which is the default of `run`.
  sense-otel bench --rate 100000 --seconds 60 --mode durable --format extended
      Whether one rate is held for a minute.
  sense-otel bench --quick
      Whether it works at all. The figures mean little.

Exit code: 0 if all was measured and every datagram is accounted for, else 1.";

/// As the receiver asks for by default.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Where the search for the ceiling begins, in events a second.
const FIRST_RATE: f64 = 5_000.0;
/// How often the distance between the last rate that was held and the first that was not is halved.
const REFINEMENTS: u32 = 4;
const RATES: [u32; 5] = [10, 1_000, 10_000, 50_000, 100_000];
/// Where it is only to be seen whether it works: rates that even a build for tests takes on a busy machine.
const RATES_QUICK: [u32; 3] = [10, 1_000, 10_000];

/// Warming up is done at this rate: sessions begin, and users become known.
const WARM_UP_RATE: f64 = 4_000.0;
const WARM_UP: Duration = Duration::from_millis(WARM_UP_EVENTS / 4 + 100);

const QUICK_STEP: Duration = Duration::from_millis(300);

/// How often the receiver sends its metrics: its default, or soon.
const METRICS_INTERVAL: Duration = Duration::from_secs(15);
const METRICS_INTERVAL_QUICK: Duration = Duration::from_millis(500);
/// How long the metrics may take that tell of the last datagram: the next ones, and those after a count of drops.
const METRICS_PATIENCE: Duration = Duration::from_secs(40);

/// Measure how many events this machine can take, what each costs and how long it takes
///
/// Runs this program as the receiver, sends to it by UDP faster and faster until a datagram is lost, and takes what it
/// exports. Nothing else is needed. The same is done with a process that only counts datagrams: every figure is shown
/// beside its multiple of that.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// Only with the store in memory, or on disk [default: both]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Only datagrams of this appender [default: both]
    #[arg(long, value_enum)]
    format: Option<WireFormat>,
    /// Only with requests compressed like this [default: gzip and none]
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// Only at so many events a second, and no search for the ceiling; may be given more than once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    rate: Vec<u32>,
    /// How long each step sends
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// A third of a second for each step, and no search between the last two rates: to see whether it works
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Print one JSON document at the end instead of tables
    #[arg(long)]
    json: bool,
    /// Where the receiver has its store: a folder on the disk that is to be measured [default: that for temporary files]
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
    /// Be the process that only counts
    #[arg(long, hide = true)]
    count_only: bool,
}

/// Where the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Forgotten at the end
    InMemory,
    /// On disk, as `run` does it by default
    Durable,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    /// As `run` does it by default
    Gzip,
    /// Only where asked for
    Zstd,
    /// Not at all
    None,
}

impl Compression {
    /// What is measured where nothing was chosen.
    const USUAL: [Self; 2] = [Self::Gzip, Self::None];
}

/// Why it could not be measured.
#[derive(Debug, Error)]
enum BenchError {
    #[error("cannot listen for an interrupt")]
    Interrupt(#[source] io::Error),
    #[error("interrupted")]
    Interrupted,
    #[error("cannot use the folder for the store")]
    Folder(#[source] io::Error),
    #[error("cannot start a process of this program")]
    Start(#[source] io::Error),
    #[error("the receiver did not begin to listen; its log ends so:\n{0}")]
    ReceiverEnded(String),
    #[error("the process that only counts ended")]
    LimitEnded,
    #[error("cannot start the backend")]
    Sink(#[source] io::Error),
    #[error("cannot open a socket to send from")]
    Sender(#[source] io::Error),
    #[error("not one event came through, even at a hundred a second")]
    NothingHeld,
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

/// Measures.
pub(crate) fn run(args: &BenchArgs) -> ExitCode {
    if args.count_only {
        return limit::count_until_told();
    }
    match bench(args) {
        Ok(report) if report.runs.iter().all(|run| run.counts.balanced) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => super::report(&error),
    }
}

/// What is the same for all that is measured.
struct Bench {
    duration: Duration,
    /// Events a second of the rows before the search for the ceiling.
    rates: Vec<u32>,
    is_ceiling_searched: bool,
    quick: bool,
    directory: PathBuf,
    interrupted: Arc<AtomicBool>,
}

fn bench(args: &BenchArgs) -> Result<Report, BenchError> {
    let duration = if args.quick { QUICK_STEP } else { Duration::from_secs(args.seconds) };
    let usual: &[u32] = if args.quick { &RATES_QUICK } else { &RATES };
    let bench = Bench {
        duration,
        rates: if args.rate.is_empty() { usual.to_vec() } else { args.rate.clone() },
        is_ceiling_searched: args.rate.is_empty(),
        quick: args.quick,
        directory: args.directory.clone().unwrap_or_else(std::env::temp_dir),
        interrupted: watch_for_interrupt().map_err(BenchError::Interrupt)?,
    };
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine {
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            processors: thread::available_parallelism().map_or(1, usize::from),
        },
        seconds: duration.as_secs_f64(),
        quick: args.quick,
        limits: Vec::new(),
        runs: Vec::new(),
    };
    let show = |text: &str| if args.json { Ok(()) } else { print(text) };
    show(&table::head(&report.machine, report.seconds))?;
    if !usage::IS_KNOWN {
        show("Processor time, RSS and disk of a process are measured on Linux only.\n")?;
    }
    for format in chosen(args.format) {
        let limit = bench.limit(format)?;
        show(&table::limit(&limit))?;
        for mode in chosen(args.mode) {
            for compression in args.compression.map_or_else(|| Compression::USUAL.to_vec(), |one| vec![one]) {
                let run = bench.receiver(Setup { mode, format, compression }, &limit)?;
                show(&table::run(&run))?;
                report.runs.push(run);
            }
        }
        report.limits.push(limit);
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| BenchError::Output(error.into()))?;
        print(&format!("{json}\n"))?;
    }
    Ok(report)
}

impl Bench {
    /// Measures the machine's own limit.
    fn limit(&self, format: WireFormat) -> Result<report::Limit, BenchError> {
        let limit = Limit::start()?;
        let address = limit.address();
        let mut sender =
            Sender::new(address, format.into(), Clock::start(), None, &self.interrupted).map_err(BenchError::Sender)?;
        let rows = self.rows(&format!("limit, {format}"), &mut Subject::Limit(limit), &mut sender)?.0;
        Ok(report::Limit { format, rows })
    }

    /// Measures the receiver in one setup.
    fn receiver(&self, setup: Setup, limit: &report::Limit) -> Result<Run, BenchError> {
        let (clock, times) = (Clock::start(), Arc::new(Times::new()));
        let sink = Sink::start(Arrivals::new(clock, Arc::clone(&times))).map_err(BenchError::Sink)?;
        let interval = if self.quick { METRICS_INTERVAL_QUICK } else { METRICS_INTERVAL };
        let receiver = Receiver::start(setup, sink.address(), &self.directory, interval)?;
        let mut sender = Sender::new(receiver.address(), setup.format.into(), clock, Some(&times), &self.interrupted)
            .map_err(BenchError::Sender)?;
        let mut subject = Subject::Receiver(receiver, sink);
        let name = format!("{}, {}, {}", setup.mode, setup.format, setup.compression);
        let (rows, sent) = self.rows(&name, &mut subject, &mut sender)?;
        let rows = rows.into_iter().map(|row| row.compared(&limit.rows)).collect();
        let Subject::Receiver(_receiver, sink) = subject else { return Err(BenchError::LimitEnded) };
        Ok(Run { setup, rows, counts: settled(&sink, sent) })
    }

    /// All loads of one subject, and how many datagrams were sent to it in all.
    fn rows(&self, name: &str, subject: &mut Subject, sender: &mut Sender<'_>) -> Result<(Vec<Row>, u64), BenchError> {
        let mut total = 0;
        let mut measure = |rate: f64, duration: Duration| {
            progress(&format!("{name}: {rate:.0}/s"));
            let step = Step::measure(subject, sender, rate, duration)?;
            total += step.sent.datagrams;
            // A step that was cut short says nothing.
            if self.interrupted.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(step) }
        };
        measure(WARM_UP_RATE, WARM_UP)?;
        let mut rows = Vec::new();
        for &rate in &self.rates {
            let step = measure(f64::from(rate), self.duration)?;
            rows.push(Row::new(Load::PerSecond(rate), &step));
        }
        if self.is_ceiling_searched {
            rows.extend(self.ceiling(&mut measure)?);
        }
        progress("");
        Ok((rows, total))
    }

    /// Searches for the highest rate that is held: a row for four fifths of it, and its own.
    fn ceiling(
        &self,
        measure: &mut impl FnMut(f64, Duration) -> Result<Step, BenchError>,
    ) -> Result<[Row; 2], BenchError> {
        let mut ramp = Ramp::new(FIRST_RATE, if self.quick { 0 } else { REFINEMENTS });
        let mut best: Option<Step> = None;
        while let Some(rate) = ramp.next() {
            let step = measure(rate, self.duration)?;
            let outcome = step.outcome();
            ramp.tell(outcome);
            let is_better = best.as_ref().is_none_or(|best| step.rate() > best.rate());
            if outcome != Outcome::Failed && is_better {
                best = Some(step);
            }
        }
        let ceiling = best.ok_or(BenchError::NothingHeld)?;
        let four_fifths = measure(ceiling.rate() * 0.8, self.duration)?;
        Ok([Row::new(Load::FourFifths, &four_fifths), Row::new(Load::Ceiling, &ceiling)])
    }
}

/// Where all that was sent went, once the receiver's own metrics tell of all of it.
fn settled(sink: &Sink, sent: u64) -> Counts {
    let began = Instant::now();
    loop {
        let arrivals = sink.arrivals();
        let counts = Counts::new(sent, arrivals.counters(), arrivals.events(), arrivals.unreadable());
        drop(arrivals);
        if counts.balanced || began.elapsed() > METRICS_PATIENCE {
            return counts;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Shows what is being done below everything else, or nothing if nobody looks.
fn progress(what: &str) {
    let mut out = anstream::stderr();
    if io::stderr().is_terminal() {
        // There is no other place to show it.
        let _ = write!(out, "\r\u{1b}[2K{what}").and_then(|()| out.flush());
    }
}

fn print(text: &str) -> Result<(), BenchError> {
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(BenchError::Output)
}

/// The one that was chosen, or all there are.
fn chosen<T: ValueEnum + Copy>(choice: Option<T>) -> Vec<T> {
    choice.map_or_else(|| T::value_variants().to_vec(), |choice| vec![choice])
}

impl Display for Mode {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::InMemory => "in memory",
            Self::Durable => "durable",
        })
    }
}

impl Display for Compression {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "none",
        })
    }
}
