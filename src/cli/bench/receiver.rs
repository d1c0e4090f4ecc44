//! The receiver that is measured: `run` of this same program, in a process of its own, with a folder of its own.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::report::Setup;
use super::{BenchError, Compression, Mode, RECEIVE_BUFFER};

/// How long a receiver may take until it listens, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a log that is shown when a receiver does not start.
const LOG_TAIL_LINES: usize = 5;

/// A running receiver. It ends when it is dropped, and its folder with it.
#[derive(Debug)]
pub(super) struct Receiver {
    child: Child,
    address: SocketAddr,
    _folder: Folder,
}

/// A folder that is removed in the end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Receiver {
    /// Starts a receiver that exports to `backend`, with its store below `directory`, and waits until it listens.
    pub(super) fn start(
        setup: Setup,
        backend: SocketAddr,
        directory: &Path,
        metrics_interval: Duration,
    ) -> Result<Self, BenchError> {
        let folder = Folder::new(directory).map_err(BenchError::Folder)?;
        let config = folder.0.join("sense-otel.yaml");
        fs::write(&config, configuration(setup, backend, &folder.0, metrics_interval)).map_err(BenchError::Folder)?;
        let log = folder.0.join("receiver.log");
        let output = File::create(&log).map_err(BenchError::Folder)?;
        let mut command = Command::new(std::env::current_exe().map_err(BenchError::Start)?);
        command.arg("run").arg("--config").arg(&config).args((setup.mode == Mode::InMemory).then_some("--in-memory"));
        // The measured receiver is the one that is written here, and no header of anybody's leaves this program.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().map_err(BenchError::Start)?;
        let mut receiver = Self { child, address: ([127, 0, 0, 1], 0).into(), _folder: folder };
        receiver.address = receiver.listening(&log)?;
        Ok(receiver)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    fn listening(&mut self, log: &Path) -> Result<SocketAddr, BenchError> {
        let began = Instant::now();
        loop {
            let text = fs::read_to_string(log).unwrap_or_default();
            if let Some(address) = listening_address(&text) {
                return Ok(address);
            }
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            if has_ended || began.elapsed() > PATIENCE {
                let lines: Vec<_> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
                return Err(BenchError::ReceiverEnded(tail));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // What it still holds is nobody's: everything was counted before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Folder {
    fn new(directory: &Path) -> io::Result<Self> {
        let folder = directory.join(format!("sense-otel-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans up such folders.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The defaults, but for what has to differ.
fn configuration(setup: Setup, backend: SocketAddr, folder: &Path, metrics_interval: Duration) -> String {
    let compression = match setup.compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::None => "none",
    };
    format!(
        "receiver: {{ udp: {{ endpoint: \"127.0.0.1:0\", receive_buffer: {RECEIVE_BUFFER} }} }}\n\
         exporter: {{ endpoint: \"http://{backend}\", compression: {compression} }}\n\
         store: {{ directory: '{}' }}\n\
         admin: {{ endpoint: \"127.0.0.1:0\" }}\n\
         telemetry: {{ metrics_interval: {}ms }}\n",
        folder.join("data").display().to_string().replace('\'', "''"),
        metrics_interval.as_millis()
    )
}

/// The UDP address in the line of a log that tells of it, once that line is complete.
fn listening_address(log: &str) -> Option<SocketAddr> {
    let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let (_, rest) = lines.find(|line| line.contains("listening"))?.split_once("127.0.0.1:")?;
    let port = rest.split(|character: char| !character.is_ascii_digit()).next()?.parse::<u16>().ok()?;
    Some(([127, 0, 0, 1], port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::appender::WireFormat;
    use crate::config;

    #[test]
    fn the_configuration_of_a_measured_receiver_is_a_valid_one() {
        for (mode, compression) in [
            (Mode::Durable, Compression::Gzip),
            (Mode::Durable, Compression::Zstd),
            (Mode::InMemory, Compression::None),
        ] {
            let setup = Setup { mode, format: WireFormat::Stock, compression };
            let folder = std::env::temp_dir().join(format!("sense-otel's bench {}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            let file = folder.join("sense-otel.yaml");
            let text = configuration(setup, ([127, 0, 0, 1], 4317).into(), &folder, Duration::from_secs(15));
            fs::write(&file, text).expect("a file");
            let loaded = config::load(Some(&file), |_| None, config::addresses_of);
            fs::remove_dir_all(&folder).expect("a folder of ours");
            let pipeline = loaded.map_err(|faults| faults.render(false)).expect("a valid configuration").pipeline;
            assert_eq!(pipeline.receiver.receive_buffer, RECEIVE_BUFFER);
            assert_eq!(pipeline.store.directory, folder.join("data"));
        }
    }

    #[test]
    fn the_address_is_found_once_its_line_is_there() {
        let line = "2026-11-23T08:00:00Z  INFO listening (UDP) address=127.0.0.1:40123";
        assert_eq!(listening_address(line), None, "more digits may follow");
        assert_eq!(listening_address(&format!("{line}\n")), Some(([127, 0, 0, 1], 40_123).into()));
        assert_eq!(listening_address("receive buffer in bytes\n"), None);
    }
}
