//! `sense-otel` beside what else takes such datagrams: the OpenTelemetry Collector with its `udp_log` receiver and regular
//! expressions (`benches/peers/otelcol.yaml`), and rsyslog, which writes each into a file and looks at none.
//!
//! Each gets the same datagrams at the same rate from `simulate`, one after the other. CPU time is that of the process, all
//! its threads, between the first datagram and the last record, divided by the records that arrived: log records at a
//! collector in this process, lines in rsyslog's file. `SECONDS_EACH` and `RATES` (a list with commas) change how long and how
//! fast; `SENSE_OTEL_PEER_OTELCOL` and `SENSE_OTEL_PEER_RSYSLOGD` name the two programs. One that is not there is left out,
//! and told so. `benches/peers/run` builds the collector and looks for rsyslog; `docs/performance.md` keeps what it printed.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a measurement that cannot set its scene has to fail")]

#[cfg(target_os = "linux")]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    linux::compare();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("what a process used is read from /proc, which is not here");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::net::UdpSocket;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use sense_otel::otlp::count;
    use sense_otel::signal::Signal;

    use crate::support::collector::{Answer, Collector, Options};

    /// How long anything may take that should take a moment.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What has not come when nothing has come for so long never does.
    const SILENCE: Duration = Duration::from_secs(3);

    /// How long a proxy is away that is restarted. Sooner, its low numbers would be repetitions of the earlier ones.
    const RESTART: Duration = Duration::from_secs(4);

    /// What `/proc` counts CPU time in: a hundredth of a second on every Linux of today.
    const TICK: Duration = Duration::from_millis(10);

    /// Who is measured.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Peer {
        SenseOtel,
        Otelcol,
        Rsyslog,
    }

    /// A process that takes datagrams. It ends with this value.
    struct Running {
        child: Child,
        port: u16,
        /// Records that came out of it so far.
        records: Box<dyn Fn() -> u64>,
        /// What has to live as long.
        _collector: Option<Collector>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // It may be gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    pub(crate) fn compare() {
        let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        let seconds = setting("SECONDS_EACH", "5");
        let peers: Vec<_> = [Peer::SenseOtel, Peer::Otelcol, Peer::Rsyslog]
            .into_iter()
            .filter_map(|peer| match program(peer) {
                Some(program) => Some((peer, program)),
                None => {
                    println!("NOT MEASURED: {}: set {}", name(peer), variable(peer));
                    None
                }
            })
            .collect();
        println!("{:30}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "rate", "sent", "lost %", "cpu us", "RSS MB");
        for rate in setting("RATES", "1000,10000,50000").split(',') {
            for (peer, program) in &peers {
                measure(*peer, program, rate, &seconds);
            }
        }
    }

    const fn name(peer: Peer) -> &'static str {
        match peer {
            Peer::SenseOtel => "sense-otel, durable, gzip",
            Peer::Otelcol => "collector, udp_log, gzip",
            Peer::Rsyslog => "rsyslog, raw lines to a file",
        }
    }

    const fn variable(peer: Peer) -> &'static str {
        match peer {
            Peer::SenseOtel => "nothing",
            Peer::Otelcol => "SENSE_OTEL_PEER_OTELCOL",
            Peer::Rsyslog => "SENSE_OTEL_PEER_RSYSLOGD",
        }
    }

    fn program(peer: Peer) -> Option<OsString> {
        match peer {
            Peer::SenseOtel => Some(env!("CARGO_BIN_EXE_sense-otel").into()),
            Peer::Otelcol | Peer::Rsyslog => std::env::var_os(variable(peer)).filter(|program| !program.is_empty()),
        }
    }

    fn measure(peer: Peer, program: &OsString, rate: &str, seconds: &str) {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let running = match peer {
            Peer::SenseOtel => sense_otel(program, folder.path()),
            Peer::Otelcol => otelcol(program, folder.path()),
            Peer::Rsyslog => rsyslog(program, folder.path()),
        };
        // What is made at the first datagrams is no cost of each.
        let warm = simulate(running.port, "2000", "2s");
        settle(&running, 0, warm);
        // The simulator's counters begin anew, as those of a proxy that is restarted: not within a moment.
        sleep(RESTART);
        let (before, began) = (used_by(&running.child), (running.records)());
        let sent = simulate(running.port, rate, &format!("{seconds}s"));
        let resident = resident(&running.child);
        let arrived = settle(&running, began, sent);
        let cpu = (used_by(&running.child) - before).as_secs_f64() * 1e6 / arrived.max(1) as f64;
        let lost = sent.saturating_sub(arrived) as f64 * 100.0 / sent as f64;
        println!("{:30}{rate:>10}{sent:>10}{lost:>10.2}{cpu:>10.1}{resident:>10.1}", name(peer));
    }

    /// Waits until so many records more than `before` came out, or none comes any more. How many did.
    fn settle(running: &Running, before: u64, sent: u64) -> u64 {
        let mut last = (0, Instant::now());
        until("the last record", || {
            let now = (running.records)() - before;
            if now > last.0 {
                last = (now, Instant::now());
            }
            (now >= sent || last.1.elapsed() > SILENCE).then_some(now)
        })
    }

    /// A collector that counts log records and keeps nothing. Where it listens, too.
    fn backend() -> (Collector, u16, Box<dyn Fn() -> u64>) {
        let collector = Collector::with(Options { forgets: true, ..Options::default() });
        let records = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&records);
        collector.rule(Signal::Logs, move |call| {
            counted.fetch_add(count(Signal::Logs, &call.body).map_or(0, u64::from), Ordering::Relaxed);
            Answer::Ok
        });
        let port = collector.addr().port();
        (collector, port, Box::new(move || records.load(Ordering::Relaxed)))
    }

    fn sense_otel(program: &OsString, folder: &Path) -> Running {
        let (collector, backend_port, records) = backend();
        let port = free_port();
        let config = folder.join("sense-otel.yaml");
        let text = format!(
            "receiver: {{ udp: {{ endpoint: \"127.0.0.1:{port}\" }} }}\n\
             exporter: {{ endpoint: \"http://127.0.0.1:{backend_port}\" }}\n\
             store: {{ directory: '{}' }}\n\
             admin: {{ endpoint: \"127.0.0.1:0\" }}\n",
            folder.join("data").display()
        );
        fs::write(&config, text).expect("a folder to write to");
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        let child = spawn(command, folder, "listening");
        Running { child, port, records, _collector: Some(collector) }
    }

    fn otelcol(program: &OsString, folder: &Path) -> Running {
        let (collector, backend_port, records) = backend();
        let port = free_port();
        let mut command = Command::new(program);
        command.arg("--config").arg(peers().join("otelcol.yaml"));
        command.env("UDP_PORT", port.to_string()).env("OTLP_PORT", backend_port.to_string());
        let child = spawn(command, folder, "Everything is ready");
        Running { child, port, records, _collector: Some(collector) }
    }

    fn rsyslog(program: &OsString, folder: &Path) -> Running {
        let port = free_port();
        let file = folder.join("events.log");
        let config = folder.join("rsyslog.conf");
        let text = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\")\n\
             module(load=\"imudp\" batchSize=\"128\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             ruleset(name=\"events\" queue.type=\"LinkedList\" queue.size=\"2000000\") {{\n\
             action(type=\"omfile\" file=\"{file}\" template=\"raw\" ioBufferSize=\"256k\" flushOnTXEnd=\"on\")\n}}\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"events\" rcvbufSize=\"16m\")\n",
            folder = folder.display(),
            file = file.display(),
        );
        fs::write(&config, text).expect("a folder to write to");
        let mut command = Command::new(program);
        command.arg("-n").arg("-i").arg(folder.join("pid")).arg("-f").arg(config);
        if let Some(modules) = std::env::var_os("SENSE_OTEL_PEER_RSYSLOG_MODULES") {
            command.arg("-M").arg(modules);
        }
        let child = spawn(command, folder, "");
        until("a socket of rsyslog", || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(()));
        // A file is counted from where it was counted last: it grows to hundreds of megabytes.
        Running { child, port, records: Box::new(lines(file)), _collector: None }
    }

    /// How many lines a growing file has.
    fn lines(file: PathBuf) -> impl Fn() -> u64 {
        use std::cell::Cell;
        use std::io::{Read, Seek, SeekFrom};
        let (counted, place) = (Cell::new(0_u64), Cell::new(0_u64));
        move || {
            let mut fresh = Vec::new();
            if let Ok(mut file) = File::open(&file) {
                file.seek(SeekFrom::Start(place.get())).expect("a file");
                file.read_to_end(&mut fresh).expect("a file");
            }
            place.set(place.get() + fresh.len() as u64);
            counted.set(counted.get() + fresh.iter().filter(|byte| **byte == b'\n').count() as u64);
            counted.get()
        }
    }

    /// Starts a process and waits until it says that it is ready.
    fn spawn(mut command: Command, folder: &Path, ready: &str) -> Child {
        let path = folder.join("output.log");
        let log = File::create(&path).expect("a folder to write to");
        command.stdout(log.try_clone().expect("a file")).stderr(log).stdin(Stdio::null());
        let mut child = command.spawn().expect("a program that can be started");
        until("the program's readiness", || {
            let said = fs::read_to_string(&path).unwrap_or_default();
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended: {said}");
            said.contains(ready).then_some(())
        });
        child
    }

    /// Sends; how many datagrams.
    fn simulate(port: u16, rate: &str, duration: &str) -> u64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
        command.args(["simulate", "--users", "20000", "--seed", "5", "--rate", rate, "--duration", duration]);
        let output = command.arg("--to").arg(format!("127.0.0.1:{port}")).output().expect("the binary of this package");
        let said = String::from_utf8_lossy(&output.stdout);
        let sent = said.strip_prefix("sent ").and_then(|rest| rest.split(' ').next());
        sent.and_then(|sent| sent.parse().ok()).expect("the simulator says how many it sent")
    }

    /// CPU time of all threads.
    fn used_by(process: &Child) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("a process that runs");
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th field behind it.
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
        TICK * ticks.sum::<u32>()
    }

    /// Resident memory, in megabytes.
    fn resident(process: &Child) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024.0 / 1e6
    }

    fn peers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join("peers")
    }

    /// A UDP port that nobody has.
    fn free_port() -> u16 {
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
    }

    fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = probe() {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
            sleep(Duration::from_millis(10));
        }
    }
}
