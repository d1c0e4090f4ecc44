//! The main job on an embedded default: a simulated site, the real receiver, and something to look at.
//!
//! ```text
//!  site thread ──UDP──> the pipeline's threads ──gRPC──> sink thread ──channel──> main thread: the show
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
use std::pin::pin;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use http::Uri;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::event::Format;
use crate::pipeline::clock::wall;
use crate::pipeline::{Running, StartError, Summary, start};
use crate::signal::Signal;
use crate::simulator::{self, Simulator};
use crate::telemetry::{LogError, Telemetry, init_log};
use crate::time::Timestamp;
use crate::{admin, exporter, pipeline, processor, receiver, store, telemetry};

use super::report;
use super::stop::StopRequests;

use screen::Screen;
use show::{Left, Show};
use sink::{Received, Sink};
use site::{Pace, Sending};
pub(super) use waterfall::fit;

const EXAMPLES: &str = "\
Examples:
  sense-otel demo
      A working day of a small site in about a minute. Nothing else is needed.
  sense-otel demo --sessions 20
      End after 20 finished sessions.
  sense-otel demo --otlp http://localhost:4317
      Send to a collector instead of drawing; look at the result in your own
      Grafana.

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
    #[arg(long, value_name = "URL", value_parser = collector)]
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
    #[error("cannot start a runtime or a server of this demo")]
    Start(#[source] io::Error),
    #[error("cannot start the receiver")]
    Pipeline(#[from] StartError),
    #[error("the simulated site cannot send")]
    Site(#[source] io::Error),
    #[error("a part of the receiver ended before its time; the log above says more")]
    Ended,
}

const DAY: Duration = Duration::from_secs(8 * 3600);
/// Users of the site where nobody asks for many sessions: few enough to read along.
const USERS_MIN: u64 = 20;
/// Items on their way from the sink to the screen.
const CHANNEL_ITEMS: usize = 4096;
const TICK: Duration = Duration::from_millis(100);
/// How long the last events of the day may take from the site to the screen.
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

fn demo(args: &DemoArgs) -> Result<show::Summary, DemoError> {
    let _log = init_log("warn")?;
    let (items, received) = mpsc::channel(CHANNEL_ITEMS);
    let (endpoint, sink) = match &args.otlp {
        Some(endpoint) => (endpoint.clone(), None),
        None => {
            let sink = Sink::start(items).map_err(DemoError::Start)?;
            (sink.endpoint(), Some(sink))
        }
    };
    let mut show = Show::new(Screen::stdout(), TimeZone::system(), args.sessions.filter(|_| sink.is_some()));
    announce(&mut show, args).map_err(DemoError::Output)?;

    let pace = Pace { day_begins: wall().before(DAY) + DAY / args.speed, began: Instant::now(), speed: args.speed };
    let page = admin::Config {
        clock: admin::PageClock { origin: wall(), shows: pace.day_begins, speed: args.speed },
        ..admin::Config::at("localhost:0")
    };
    let running = start(config(endpoint, args.speed, page))?;
    let address = running.local_addresses().first().copied().ok_or(DemoError::Ended)?;
    if let Some(page) = running.page_addresses().first() {
        let port = page.port();
        let line = format!("While it runs, who is on: http://localhost:{port}/");
        let command = format!("Or in another terminal:    sense-otel who --at localhost:{port}");
        show.paragraph(&[&line, &command]).map_err(DemoError::Output)?;
    }
    let site = site::Progress::default();
    let stage = Stage { pace, site: &site, telemetry: running.telemetry().clone(), sessions: args.sessions, received };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Start)?;

    let has_sink = sink.is_some();
    let (telemetry, summary) = thread::scope(|scope| {
        let users = args.sessions.unwrap_or(0).max(USERS_MIN);
        let day = working_day(args.seed, usize::try_from(users).unwrap_or(usize::MAX), pace.day_begins);
        let sender = scope.spawn(|| site::run(day, address, pace, &site));
        let (telemetry, summary) = runtime.block_on(stage.play(&mut show, running, sink))?;
        sender.join().unwrap_or(Ok(())).map_err(DemoError::Site)?;
        Ok::<_, DemoError>((telemetry, summary))
    })?;
    if !summary.clean {
        return Err(DemoError::Ended);
    }
    let left = Left { open_sessions: summary.open_sessions, items: summary.logs_left + summary.spans_left };
    show.finish(site.sent(), &telemetry.snapshot(), left, has_sink).map_err(DemoError::Output)
}

fn collector(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok();
    let is_url = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    uri.filter(is_url).ok_or_else(|| "not http://host:port or https://host:port".to_owned())
}

/// What the main thread looks at while the show goes on.
struct Stage<'a> {
    pace: Pace,
    site: &'a site::Progress,
    telemetry: Telemetry,
    sessions: Option<u64>,
    received: mpsc::Receiver<Received>,
}

impl Stage<'_> {
    /// Shows what arrives until there was enough, then while the pipeline stops.
    async fn play<W: io::Write>(
        mut self,
        show: &mut Show<W>,
        running: Running,
        sink: Option<Sink>,
    ) -> Result<(Telemetry, Summary), DemoError> {
        let mut requests = StopRequests::listen().map_err(DemoError::Start)?;
        let shown = self.watch(show, &running, &mut requests, sink.is_some()).await;
        self.site.stop();
        // Stopping waits for threads, while what they still send has to be read here.
        let stopped = tokio::task::spawn_blocking(move || {
            let summary = running.stop();
            if let Some(sink) = sink {
                sink.stop();
            }
            summary
        });
        let mut stopped = pin!(stopped);
        let summary = loop {
            tokio::select! {
                Some(item) = self.received.recv() => show.arrived(self.now(), item).map_err(DemoError::Output)?,
                summary = &mut stopped => break summary.map_err(|_| DemoError::Ended)?,
                // Whoever asks twice does not want to wait.
                () = requests.next() => std::process::exit(1),
            }
        };
        while let Ok(item) = self.received.try_recv() {
            show.arrived(self.now(), item).map_err(DemoError::Output)?;
        }
        show.draw_finished(Duration::MAX).map_err(DemoError::Output)?;
        shown.map_err(DemoError::Output)?;
        Ok((self.telemetry, summary))
    }

    /// Shows what arrives until enough sessions were shown, the day is over, or somebody asks for the end.
    async fn watch<W: io::Write>(
        &mut self,
        show: &mut Show<W>,
        running: &Running,
        requests: &mut StopRequests,
        has_sink: bool,
    ) -> io::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = pin!(running.ended());
        let mut over_since = None;
        loop {
            tokio::select! {
                Some(item) = self.received.recv() => show.arrived(self.now(), item)?,
                () = &mut ended => return Ok(()),
                () = requests.next() => return Ok(()),
                _ = tick.tick() => {
                    show.draw_finished(self.now())?;
                    let snapshot = self.telemetry.snapshot();
                    show.progress(self.pace.simulated(), &snapshot)?;
                    let is_enough = match self.sessions {
                        None => false,
                        Some(_) if has_sink => show.is_complete(),
                        Some(sessions) => snapshot.sessions_ended >= sessions,
                    };
                    let is_over = self.site.is_over()
                        && over_since.get_or_insert_with(Instant::now).elapsed() >= LAST_PATIENCE;
                    if is_enough || is_over {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.pace.began.elapsed()
    }
}

/// A working day of `users` users of a site with three nodes, from `day_begins` on.
fn working_day(seed: u64, users: usize, day_begins: Timestamp) -> impl Iterator<Item = Sending> + Send {
    let day = simulator::Config::new(Format::Extended, day_begins, simulator::Pace::Day(DAY));
    let site = simulator::Config { seed, users, nodes: 3, keeps_truth: false, ..day };
    Simulator::new(site).map(|emission| Sending { at: emission.at, node: emission.node, bytes: emission.bytes })
}

fn announce<W: io::Write>(show: &mut Show<W>, args: &DemoArgs) -> io::Result<()> {
    let seconds = (DAY / args.speed).as_secs();
    let time = format!(
        "A simulated Qlik Sense site: a working day of 8 hours in {seconds} seconds ({} times as fast as life).",
        args.speed
    );
    let way = match &args.otlp {
        None => "Its events go over UDP to the receiver, and over OTLP/gRPC to what you see here.".to_owned(),
        Some(otlp) => format!("Its events go over UDP to the receiver, and over OTLP/gRPC to {otlp}."),
    };
    show.paragraph(&[&time, &way])
}

/// The defaults, but for a socket on a free port of this machine only, and for times: what is waited for passes as
/// fast as the simulated day.
fn config(endpoint: Uri, speed: u32, page: admin::Config) -> pipeline::Config {
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
        in_memory: true,
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
        admin: Some(page),
    }
}
