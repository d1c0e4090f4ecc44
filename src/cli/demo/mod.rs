//! The main job on an embedded default: a simulated site, the real receiver, and something to look at.
//!
//! ```text
//!  site thread ──UDP──> pipeline thread ──gRPC──> sink thread ──channel──> main thread: the show
//! ```
//!
//! Nothing is short-cut: the datagrams cross a socket, and what is shown was decoded from OTLP requests.

mod gathering;
mod screen;
mod show;
mod sink;
mod site;
mod waterfall;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::Uri;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::signal::Signal;
use crate::telemetry::{LogError, Telemetry, init_log};
use crate::time::Timestamp;
use crate::{exporter, pipeline, processor, receiver, store, telemetry};

use super::report;
use super::seam::{self, NotJoined};
use super::stop::StopRequests;

use screen::Screen;
use show::{Show, Summary};
use sink::{Received, Sink};
use site::Pace;

const EXAMPLES: &str = "\
Examples:
  sense-otel demo
      A working day of a small site in about a minute. Nothing else is needed.
  sense-otel demo --sessions 20
      End after 20 finished sessions.
  sense-otel demo --otlp http://localhost:4317
      Send to a collector instead of drawing; look at the result in your own Grafana.

Exit code: 0 if everything came through, 1 if something was lost or failed.";

/// Show what sense-otel does, on this machine alone
///
/// Simulates the users of a Qlik Sense site. Their events travel as real UDP datagrams to the real receiver, and from
/// there as OTLP over gRPC to a small server inside this process, which draws each event as a line and each finished
/// session as a waterfall. Time is compressed: a working day of eight hours passes in about a minute.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Send to this OpenTelemetry collector instead of drawing (OTLP over gRPC)
    #[arg(long, value_name = "URL")]
    otlp: Option<Uri>,
    /// End after this many finished sessions [default: at the end of the day]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    sessions: Option<u64>,
    /// Simulated seconds per second
    #[arg(long, value_name = "FACTOR", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
    /// Another day: the same seed makes the same users do the same things
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Why the demo could not be shown to its end.
#[derive(Debug, Error)]
enum DemoError {
    #[error("cannot set up the log")]
    Log(#[from] LogError),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
    #[error("cannot start a thread, a runtime or a server of this demo")]
    Start(#[source] io::Error),
    #[error("the simulated site cannot send")]
    Site(#[source] io::Error),
    #[error("the pipeline failed")]
    Pipeline(#[from] NotJoined),
}

const DAY: Duration = Duration::from_secs(8 * 3600);
/// Items on their way from the sink to the screen.
const CHANNEL_ITEMS: usize = 4096;
const TICK: Duration = Duration::from_millis(100);
/// How long the receiver gets for the last datagrams, and sessions for their last spans.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Shows the demo.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match demo(args) {
        Ok(summary) if summary.lost == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Whoever pipes us into `head` has seen enough.
        Err(DemoError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn demo(args: &DemoArgs) -> Result<Summary, DemoError> {
    init_log("warn")?;
    let (items, received) = mpsc::channel(CHANNEL_ITEMS);
    let sink = if args.otlp.is_none() { Some(Sink::start(items).map_err(DemoError::Start)?) } else { None };
    let endpoint = match (&args.otlp, &sink) {
        (None, Some(sink)) => format!("http://{}", sink.address).parse().unwrap_or_default(),
        (otlp, _) => otlp.clone().unwrap_or_default(),
    };
    let mut show = Show::new(Screen::stdout(), TimeZone::system(), args.sessions.filter(|_| sink.is_some()));
    announce(&mut show, args).map_err(DemoError::Output)?;

    let telemetry = Telemetry::default();
    let (stop, stopped) = oneshot::channel();
    let (bound, address) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let config = config(endpoint, args.speed);
    let pipeline_telemetry = telemetry.clone();
    let has_sink = sink.is_some();
    let pipeline = thread::Builder::new().name("demo-pipeline".into());
    let pipeline = pipeline.spawn(move || {
        let result = run_pipeline(config, pipeline_telemetry, bound, stopped);
        // The sink outlives the pipeline, which drains into it.
        if let Some(sink) = sink {
            sink.stop();
        }
        let _ = ended.send(());
        result
    });
    let pipeline = pipeline.map_err(DemoError::Start)?;
    let Ok(address) = address.blocking_recv() else {
        // The pipeline ended before it listened; its own error says why.
        pipeline.join().unwrap_or(Ok(()))?;
        return Err(DemoError::Start(io::Error::other("the pipeline did not start")));
    };

    let day_begins = now().before(DAY) + DAY / args.speed;
    let pace = Pace { day_begins, began: Instant::now(), speed: args.speed };
    let site = site::Progress::default();
    let stage = Stage { telemetry: &telemetry, site: &site, pace, sessions: args.sessions, has_sink };
    let sent = thread::scope(|scope| {
        let day = seam::working_day(args.seed, args.sessions.unwrap_or(0), day_begins);
        let sender = scope.spawn(|| site::run(day, address, pace, &site));
        let shown = stage.show(&mut show, received, stop, end);
        site.stop();
        shown?;
        sender.join().unwrap_or(Ok(())).map_err(DemoError::Site)
    });
    pipeline.join().unwrap_or(Ok(()))?;
    sent?;
    show.finish(site.sent(), &telemetry.snapshot(), has_sink).map_err(DemoError::Output)
}

/// What the main thread looks at while the show goes on.
struct Stage<'a> {
    telemetry: &'a Telemetry,
    site: &'a site::Progress,
    pace: Pace,
    sessions: Option<u64>,
    has_sink: bool,
}

impl Stage<'_> {
    /// Shows what arrives until the pipeline has ended; asks it to when enough was shown.
    fn show<W: io::Write>(
        &self,
        show: &mut Show<W>,
        received: mpsc::Receiver<Received>,
        stop: oneshot::Sender<()>,
        end: oneshot::Receiver<()>,
    ) -> Result<(), DemoError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Start)?;
        runtime.block_on(async {
            let requests = StopRequests::listen().map_err(DemoError::Start)?;
            self.play(show, received, stop, end, requests).await.map_err(DemoError::Output)
        })
    }

    async fn play<W: io::Write>(
        &self,
        show: &mut Show<W>,
        mut received: mpsc::Receiver<Received>,
        stop: oneshot::Sender<()>,
        mut end: oneshot::Receiver<()>,
        mut requests: StopRequests,
    ) -> io::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = Some(stop);
        let mut is_stopping = false;
        let mut is_quiet_since = None;
        loop {
            tokio::select! {
                Some(item) = received.recv() => show.arrived(self.pace.began.elapsed(), item)?,
                _ = &mut end => break,
                () = requests.next() => {
                    if is_stopping {
                        // The second request: whoever asks twice does not want to wait.
                        std::process::exit(1);
                    }
                    is_stopping = true;
                }
                _ = tick.tick() => {
                    show.draw_finished(self.pace.began.elapsed())?;
                    let snapshot = self.telemetry.snapshot();
                    show.progress(self.pace.simulated(), &snapshot)?;
                    let is_enough = if self.has_sink {
                        show.is_complete()
                    } else {
                        self.sessions.is_some_and(|sessions| snapshot.sessions_ended >= sessions)
                    };
                    is_stopping |= is_enough;
                    if is_stopping {
                        self.site.stop();
                    }
                    // Datagrams that are still in the socket's buffer would look like lost ones.
                    let is_read = snapshot.received >= self.site.sent();
                    let quiet_since = *is_quiet_since.get_or_insert_with(Instant::now);
                    if !self.site.is_over() {
                        is_quiet_since = None;
                    } else if (is_stopping && is_read) || quiet_since.elapsed() > LAST_PATIENCE {
                        // The receiver of this may have gone already, with its pipeline.
                        let _ = stop.take().map(|stop| stop.send(()));
                    }
                }
            }
        }
        while let Ok(item) = received.try_recv() {
            show.arrived(self.pace.began.elapsed(), item)?;
        }
        show.draw_finished(Duration::MAX)
    }
}

fn announce<W: io::Write>(show: &mut Show<W>, args: &DemoArgs) -> io::Result<()> {
    let minute = (DAY / args.speed).as_secs();
    show.text(&format!(
        "A simulated Qlik Sense site: a working day of 8 hours in {minute} seconds ({} times as fast as life).",
        args.speed
    ))?;
    match &args.otlp {
        None => show.text("Its events go over UDP to the receiver, and over OTLP/gRPC to what you see here."),
        Some(otlp) => show.text(&format!("Its events go over UDP to the receiver, and over OTLP/gRPC to {otlp}.")),
    }?;
    show.text("")
}

/// The pipeline on a runtime of its own, until `stopped`.
fn run_pipeline(
    config: pipeline::Config,
    telemetry: Telemetry,
    bound: oneshot::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Start)?;
    let stop = async {
        // A show that is gone without a word wants the pipeline to stop, too.
        let _ = stopped.await;
    };
    runtime.block_on(seam::run_pipeline(config, telemetry, bound, stop))?;
    Ok(())
}

/// The defaults, but for a socket on a free port of this machine only, and for times: what is waited for passes as
/// fast as the simulated day.
fn config(endpoint: Uri, speed: u32) -> pipeline::Config {
    let sessions = processor::session::Config::default();
    let compressed = |duration: Duration| (duration / speed.max(1)).max(Duration::from_secs(5));
    pipeline::Config {
        receiver: receiver::Config {
            endpoint: "127.0.0.1:0".into(),
            receive_buffer: 4 << 20,
            max_datagram_size: 65_507,
            allowed_sources: Vec::new(),
            rate_limit_per_source: 0,
        },
        processor: processor::Config {
            sessions: processor::session::Config {
                expire_after: compressed(sessions.expire_after),
                expire_connected_after: compressed(sessions.expire_connected_after),
                heartbeat: None,
                ..sessions
            },
            ..processor::Config::default()
        },
        // The ids of a simulated site are worth no secret.
        key: Some(processor::ids::Key::new(b"the demo of sense-otel")),
        store: store::Config {
            directory: std::env::temp_dir(),
            max_size: 64 << 20,
            max_age: Duration::from_secs(3600),
        },
        exporter: exporter::Config {
            endpoint,
            signals: vec![Signal::Logs, Signal::Traces, Signal::Metrics],
            headers: Vec::new(),
            tls: exporter::TlsConfig::default(),
            compression: exporter::Compression::Gzip,
            timeout: Duration::from_secs(10),
            retry: exporter::RetryConfig {
                initial_interval: Duration::from_secs(1),
                max_interval: Duration::from_secs(5),
            },
        },
        telemetry: telemetry::Config { level: "warn".into(), metrics_interval: Duration::from_secs(5) },
        app_names_file: None,
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since_epoch
}
