//! Being the service: the service manager starts the process, is told what it does, and asks it to stop.

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::panic;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, warn};
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::{define_windows_service, service_dispatcher};

use crate::pipeline::GRACE;
use crate::telemetry::{Log, LogError, init_log_in, log_file};

use super::super::host::Host;
use super::super::run::{RunArgs, receive};
use super::super::stop::StopRequests;
use super::super::{chain, report};
use super::ServiceRunArgs;
use super::account::{NAME, log_folder};
use super::event_log::{self, Event};

/// Reading back a large store.
const START_HINT: Duration = Duration::from_secs(300);

/// The arguments of this process: the entry point that Windows calls takes none of ours.
static ARGUMENTS: OnceLock<ServiceRunArgs> = OnceLock::new();

define_windows_service!(entry_point, be_the_service);

#[derive(Debug, Error)]
#[error("only the service manager can start this; in a console it is: sense-otel run --config FILE")]
struct NotAService(#[source] windows_service::Error);

pub(super) fn run(args: &ServiceRunArgs) -> ExitCode {
    let _ = ARGUMENTS.set(args.clone());
    match service_dispatcher::start(NAME, entry_point) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&NotAService(error)),
    }
}

fn be_the_service(_arguments: Vec<OsString>) {
    let Some(args) = ARGUMENTS.get() else { return };
    let (stop, stop_requests) = unbounded_channel();
    let on_control = move |control| match control {
        ServiceControl::Stop | ServiceControl::Preshutdown | ServiceControl::Shutdown => {
            // A stop that is under way needs no second request.
            let _ = stop.send(());
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    let status = match service_control_handler::register(NAME, on_control) {
        Ok(status) => status,
        Err(error) => return event_log::write(Event::Failed, &format!("sense-otel could not start: {error}")),
    };
    let service = RunningService { args, status, stop_requests: RefCell::new(Some(stop_requests)) };
    service.tell(ServiceState::StartPending, START_HINT, ServiceExitCode::NO_ERROR);
    let code = match service.receive() {
        Ok(()) => {
            event_log::write(Event::Stopped, "sense-otel has stopped.");
            ServiceExitCode::NO_ERROR
        }
        Err(error) => {
            service.failed(&error);
            ServiceExitCode::ServiceSpecific(1)
        }
    };
    service.tell(ServiceState::Stopped, Duration::ZERO, code);
}

/// What a service has in the place of a terminal.
struct RunningService {
    args: &'static ServiceRunArgs,
    status: ServiceStatusHandle,
    stop_requests: RefCell<Option<UnboundedReceiver<()>>>,
}

impl RunningService {
    fn receive(&self) -> Result<(), String> {
        let ServiceRunArgs { config, home } = self.args;
        // Windows starts services in its own system folder.
        env::set_current_dir(home).map_err(|error| format!("cannot work in {}: {error}", home.display()))?;
        log_panics();
        let args = RunArgs { config: Some(config.clone()), in_memory: false };
        receive(&args, self).map_err(|error| anstream::adapter::strip_str(&chain(&error)).to_string())
    }

    /// Tells the service manager where we are. It may be gone, and then nobody needs to know.
    fn tell(&self, state: ServiceState, hint: Duration, exit_code: ServiceExitCode) {
        let controls_accepted = match state {
            ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN,
            _ => ServiceControlAccept::empty(),
        };
        let told = self.status.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted,
            exit_code,
            checkpoint: 0,
            wait_hint: hint,
            process_id: None,
        });
        if let Err(error) = told {
            warn!(%error, "cannot tell the service manager how we are");
        }
    }

    /// Says why we end, in both logs: ours is closed by now, or was never opened.
    fn failed(&self, why: &str) {
        event_log::write(Event::Failed, &format!("sense-otel has failed: {why}"));
        if let Ok(mut file) = log_file(&log_folder(&self.args.home)) {
            // One call, so that the line stays in one piece.
            let _ = file.write_all(format!("{} ERROR {why}\n", jiff::Timestamp::now()).as_bytes());
        }
    }
}

impl Host for RunningService {
    fn open_log(&self, level: &str) -> Result<Log, LogError> {
        init_log_in(level, &log_folder(&self.args.home))
    }

    fn stop_requests(&self) -> io::Result<StopRequests> {
        let requests = self.stop_requests.borrow_mut().take();
        requests.map(StopRequests::of_a_service).ok_or_else(|| io::Error::other("they are listened for already"))
    }

    fn ready(&self, addresses: &[SocketAddr]) {
        self.tell(ServiceState::Running, Duration::ZERO, ServiceExitCode::NO_ERROR);
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        event_log::write(Event::Started, &format!("sense-otel is receiving at {} (UDP).", addresses.join(", ")));
    }

    fn stopping(&self) {
        self.tell(ServiceState::StopPending, GRACE + Duration::from_secs(1), ServiceExitCode::NO_ERROR);
    }
}

/// A panic says where, and never what: its text may hold data.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(place, thread = std::thread::current().name(), "a thread has panicked");
    }));
}
