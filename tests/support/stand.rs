//! The test stand: a real collector, the real receiver and the real simulator as processes, each with its log in a file.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Why a test could not go on.
pub(crate) type Failure = Box<dyn Error>;

/// How long anything may take that should take a moment. Generous, because machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long we promise to need for a stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Asks `probe` until it has an answer.
pub(crate) fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if began.elapsed() > within {
            return Err(format!("{what}: not within {within:?}").into());
        }
        // Soon at first: some tests measure how long it takes.
        thread::sleep((began.elapsed() / 20).clamp(Duration::from_millis(1), Duration::from_millis(20)));
    }
}

/// An empty folder of this test's own. It is left behind, to look at after a failure.
pub(crate) fn folder(test: &str) -> Result<PathBuf, Failure> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(test);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The receiver under test: that of this build, or another one, for example a release build.
pub(crate) fn sense_otel() -> Command {
    Command::new(env::var_os("SENSE_OTEL_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_sense-otel").into()))
}

/// A process that ends with the test, whatever becomes of it.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command, folder: &Path) -> Result<Self, Failure> {
        let output = folder.join(format!("{name}.log"));
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far on its standard output and error.
    pub(crate) fn output(&self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&fs::read(&self.output)?).into_owned())
    }

    /// Waits until `find` finds something in what it writes.
    pub(crate) fn says<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
        until(&format!("{} is to say {what}", self.name), PATIENCE, || {
            let output = self.output()?;
            match find(&output) {
                Some(found) => Ok(Some(found)),
                None if self.child.try_wait()?.is_some() => Err(format!("{} ended: {output}", self.name).into()),
                None => Ok(None),
            }
        })
    }

    /// Asks it politely to stop.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        let done = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status()?;
        if done.success() { Ok(()) } else { Err(format!("{} is gone", self.name).into()) }
    }

    /// Ends it on the spot.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn wait(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        until(&format!("{} is to end", self.name), within, || Ok(self.child.try_wait()?))
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn succeed(&mut self, within: Duration) -> Result<(), Failure> {
        let status = self.wait(within)?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}: {}", self.name, self.output()?).into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that listens.
pub(crate) struct Collector {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Collector {
    /// Starts `executable` with a configuration of this folder's neighbours; what arrives is written to `folder`.
    pub(crate) fn start(executable: &Path, config: &str, folder: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let output = folder.to_string_lossy();
        let environment = [("OTLP_PORT", &*port.to_string()), ("OUTPUT", &output)];
        Self::configured(executable, &format!("tests/e2e/{config}"), port, &environment, "otelcol", folder)
    }

    /// Starts `executable` with a configuration of this package that listens on `port` where `environment` says so.
    /// Its log is a file of `folder` that is called after `name`.
    pub(crate) fn configured(
        executable: &Path,
        config: &str,
        port: u16,
        environment: &[(&str, &str)],
        name: &str,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join(config);
        let mut command = Command::new(executable);
        command.arg("--config").arg(config).envs(environment.iter().copied());
        let mut process = Process::spawn(name, &mut command, folder)?;
        process.says("that it is ready", |output| output.contains("Everything is ready").then_some(()))?;
        Ok(Self { process, port })
    }

    /// Stops it, so that everything it took is in its files.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.process.terminate()?;
        self.process.succeed(PATIENCE)
    }
}

/// The receiver under test, listening.
pub(crate) struct Receiver {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Receiver {
    /// Starts it on a UDP port (0: any), with `more` lines of configuration.
    pub(crate) fn start(folder: &Path, udp_port: u16, collector_port: u16, more: &str) -> Result<Self, Failure> {
        Self::start_by(sense_otel(), folder, udp_port, collector_port, more)
    }

    /// The same by a command of the caller's.
    pub(crate) fn start_by(
        mut command: Command,
        folder: &Path,
        udp_port: u16,
        collector_port: u16,
        more: &str,
    ) -> Result<Self, Failure> {
        let config = folder.join("sense-otel.yaml");
        let data = folder.join("data");
        let admin_port = free_port()?;
        fs::write(
            &config,
            format!(
                "receiver: {{ udp: {{ endpoint: \"127.0.0.1:{udp_port}\" }} }}\n\
                 exporter: {{ endpoint: \"http://127.0.0.1:{collector_port}\" }}\n\
                 store: {{ directory: '{}' }}\n\
                 admin: {{ endpoint: \"127.0.0.1:{admin_port}\" }}\n\
                 resource: {{ deployment.environment.name: end-to-end }}\n\
                 {more}\n",
                data.display()
            ),
        )?;
        command.arg("run").arg("--config").arg(config);
        Self::started(command, folder)
    }

    /// Starts it with a configuration that listens on 127.0.0.1.
    pub(crate) fn run(config: &Path, environment: &[(&str, &str)], folder: &Path) -> Result<Self, Failure> {
        let mut command = sense_otel();
        command.arg("run").arg("--config").arg(config).envs(environment.iter().copied());
        Self::started(command, folder)
    }

    fn started(mut command: Command, folder: &Path) -> Result<Self, Failure> {
        let mut process = Process::spawn("sense-otel", &mut command, folder)?;
        let address = process.says("where it listens", listening_address)?;
        Ok(Self { process, address })
    }

    /// Stops it, which must take no longer than promised.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.process.terminate()?;
        self.process.succeed(STOP_WITHIN)
    }
}

/// Starts the simulator; `arguments` besides where to send to.
pub(crate) fn simulate(folder: &Path, to: SocketAddr, arguments: &[&str]) -> Result<Process, Failure> {
    let mut command = sense_otel();
    command.arg("simulate").arg("--to").arg(to.to_string()).args(arguments);
    Process::spawn("simulate", &mut command, folder)
}

/// The UDP address in the line that tells of it.
fn listening_address(output: &str) -> Option<SocketAddr> {
    let line = output.lines().find(|line| line.contains("listening"))?;
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    Some(SocketAddr::from(([127, 0, 0, 1], digits.parse().ok()?)))
}

/// A TCP port that nobody has. Somebody may take it before we do, but then a start fails and says so.
pub(crate) fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
