//! What durable mode adds to the whole receiver: CPU time and bytes written for an event, at 50,000 events a second.
//!
//! The real binary runs in memory and durable, alternately, three times each, while `simulate` sends to it and a
//! collector in this process takes whatever comes. CPU time is that of the receiver's process, all its threads, between
//! the first datagram and the last record; bytes are those that it caused to be written to the disk. Both are divided by
//! the log records that arrived, one for each event. `SECONDS` and `RATE` change how long and how fast.
//! `docs/performance.md` keeps what `cargo bench --bench durable` printed.

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
    use std::fs::{self, File};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use sense_otel::otlp::count;
    use sense_otel::signal::Signal;

    use crate::support::collector::{Answer, Collector, Options};

    /// How often each mode is measured.
    const ROUNDS: usize = 3;

    /// How long anything may take that should take a moment.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What `/proc` counts CPU time in: a hundredth of a second on every Linux of today.
    const TICK: Duration = Duration::from_millis(10);

    /// What one run used for an event.
    #[derive(Clone, Copy, Debug)]
    struct Used {
        events: u64,
        /// Microseconds of CPU time.
        cpu: f64,
        bytes: f64,
    }

    pub(crate) fn compare() {
        let mut runs: [Vec<Used>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (mode, runs) in ["in memory", "durable"].into_iter().zip(&mut runs) {
                let used = measure(mode == "in memory");
                println!("{mode:9}: {} events, {:.2} us and {:.0} bytes each", used.events, used.cpu, used.bytes);
                runs.push(used);
            }
        }
        let [memory, durable] = runs.each_ref().map(|runs| median(runs.iter().map(|used| used.cpu).collect()));
        let bytes = median(runs[1].iter().map(|used| used.bytes).collect());
        println!(
            "medians: {memory:.2} us in memory, {durable:.2} us durable: {:+.2} us, {:.2} times; {bytes:.0} bytes written",
            durable - memory,
            durable / memory
        );
    }

    fn measure(in_memory: bool) -> Used {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let collector = Collector::with(Options { forgets: true, ..Options::default() });
        let records = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&records);
        collector.rule(Signal::Logs, move |call| {
            counted.fetch_add(count(Signal::Logs, &call.body).map_or(0, u64::from), Ordering::Relaxed);
            Answer::Ok
        });
        let mut receiver = receiver(folder.path(), collector.addr().port(), in_memory);
        let log = folder.path().join("receiver.log");
        let port = until("a port to send to", || listening_port(&fs::read_to_string(&log).ok()?));
        let before = used_by(&receiver);
        let sent = simulate(port);
        // What the kernel had no room for never comes; then nothing arrives any more.
        let mut last = (0, Instant::now());
        until("the last record", || {
            let now = records.load(Ordering::Relaxed);
            if now > last.0 {
                last = (now, Instant::now());
            }
            (now >= sent || last.1.elapsed() > Duration::from_secs(3)).then_some(())
        });
        let after = used_by(&receiver);
        receiver.kill().expect("a process that runs");
        receiver.wait().expect("a process that ended");
        let events = records.load(Ordering::Relaxed);
        let cpu = (after.0 - before.0).as_secs_f64() * 1e6 / events as f64;
        Used { events, cpu, bytes: (after.1 - before.1) as f64 / events as f64 }
    }

    fn receiver(folder: &Path, collector_port: u16, in_memory: bool) -> Child {
        let config = folder.join("sense-otel.yaml");
        let text = format!(
            "receiver: {{ udp: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
             exporter: {{ endpoint: \"http://127.0.0.1:{collector_port}\" }}\n\
             store: {{ directory: '{}' }}\n",
            folder.join("data").display()
        );
        fs::write(&config, text).expect("a folder to write to");
        let log = File::create(folder.join("receiver.log")).expect("a folder to write to");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
        command.arg("run").arg("--config").arg(config).args(in_memory.then_some("--in-memory"));
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        command.stdin(Stdio::null()).spawn().expect("the binary of this package")
    }

    /// Sends to the receiver; how many datagrams.
    fn simulate(port: u16) -> u64 {
        let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        let (rate, seconds) = (setting("RATE", "50000"), format!("{}s", setting("SECONDS", "10")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sense-otel"));
        command.args(["simulate", "--users", "20000", "--seed", "5", "--rate", &rate, "--duration", &seconds]);
        let output = command.arg("--to").arg(format!("127.0.0.1:{port}")).output().expect("the binary of this package");
        let said = String::from_utf8_lossy(&output.stdout);
        println!("           {}", said.trim());
        let sent = said.strip_prefix("sent ").and_then(|rest| rest.split(' ').next());
        sent.and_then(|sent| sent.parse().ok()).expect("the simulator says how many it sent")
    }

    /// CPU time of all threads, and bytes written to the disk.
    fn used_by(process: &Child) -> (Duration, u64) {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.id())).expect("a process that runs");
        let stat = read("stat");
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th field behind it.
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
        let written = read("io").lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        (TICK * ticks.sum::<u32>(), written.expect("a number"))
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

    fn listening_port(log: &str) -> Option<u16> {
        let line = log.lines().find(|line| line.contains("listening"))?;
        let (_, rest) = line.split_once("127.0.0.1:")?;
        rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }
}
