//! Making and removing the service.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
    ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

use crate::config;

use super::super::{chain, report};
use super::account::{ACCOUNT, NAME, home, make_home};
use super::event_log;

/// How long a stop may take before the service is removed all the same; it promises 5 s.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

const STOP_LOOK: Duration = Duration::from_millis(200);

/// The rest before a service that failed is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Failures longer ago than this do not count any more.
const FAILURES_FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

const DESCRIPTION: &str = "Receives session and connection events of Qlik Sense proxies and sends them on as OpenTelemetry logs, spans and \
     metrics.";

/// Numbers of errors of the service manager that deserve words of ours.
const ACCESS_DENIED: i32 = 5;
const EXISTS: i32 = 1073;
const DOES_NOT_EXIST: i32 = 1060;

/// Why the service is not as it should be.
#[derive(Debug, Error)]
enum ServiceError {
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    #[error("cannot find the path of {what}")]
    Path { what: &'static str, source: io::Error },
    #[error("only an administrator may do this: open the console with \"Run as administrator\"")]
    NotPermitted,
    #[error("the service {NAME} is installed already; remove it first: sense-otel service uninstall")]
    Exists,
    #[error("there is no service {NAME}")]
    Missing,
    #[error("the folder of log and data cannot be named")]
    Home(#[source] io::Error),
    #[error("the folder of log and data cannot be made, and so the service was not installed")]
    MakeHome(#[source] io::Error),
    #[error("the service manager refuses to {what}")]
    Manager { what: &'static str, source: windows_service::Error },
}

impl ServiceError {
    fn of(what: &'static str) -> impl Fn(windows_service::Error) -> Self {
        move |error| {
            let number = match &error {
                windows_service::Error::Winapi(error) => error.raw_os_error(),
                _ => None,
            };
            match number {
                Some(ACCESS_DENIED) => Self::NotPermitted,
                Some(EXISTS) => Self::Exists,
                Some(DOES_NOT_EXIST) => Self::Missing,
                _ => Self::Manager { what, source: error },
            }
        }
    }
}

pub(super) fn install(config: &Path) -> ExitCode {
    match make(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

pub(super) fn uninstall() -> ExitCode {
    match remove() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn make(config: &Path) -> Result<(), ServiceError> {
    let config =
        std::path::absolute(config).map_err(|source| ServiceError::Path { what: "the configuration file", source })?;
    let loaded = config::load(Some(&config), config::environment, config::addresses_of)
        .map_err(|faults| ServiceError::Config(faults.render(true)))?;
    for warning in &loaded.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    let program = env::current_exe().map_err(|source| ServiceError::Path { what: "this program", source })?;
    let home = home().map_err(ServiceError::Home)?;
    let arguments: [&OsStr; 6] =
        ["service".as_ref(), "run".as_ref(), "--config".as_ref(), config.as_ref(), "--home".as_ref(), home.as_ref()];
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access).map_err(ServiceError::of("be spoken to"))?;
    let info = ServiceInfo {
        name: OsString::from(NAME),
        display_name: OsString::from("sense-otel (Qlik Sense events to OpenTelemetry)"),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: arguments.map(OsStr::to_owned).to_vec(),
        dependencies: Vec::new(),
        account_name: Some(OsString::from(ACCOUNT)),
        account_password: None,
    };
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::DELETE;
    let service = manager.create_service(&info, access).map_err(ServiceError::of("make the service"))?;
    // The account is there only when the service is, and a service that cannot write is no use.
    if let Err(error) = make_home(&home) {
        let _ = service.delete();
        return Err(ServiceError::MakeHome(error));
    }
    if let Err(error) = service.set_description(DESCRIPTION).and_then(|()| restart_after_failures(&service)) {
        anstream::eprintln!("warning: Windows will not start it again after a failure: {}", chain(&error));
    }
    if let Err(error) = event_log::register() {
        anstream::eprintln!("warning: entries in the event log will be shown with a remark: {error}");
    }
    anstream::println!("installed the service {NAME}, which starts with Windows; start it now: sc.exe start {NAME}");
    anstream::println!("configuration: {}", config.display());
    anstream::println!("log and data:  {}", home.display());
    Ok(())
}

fn restart_after_failures(service: &Service) -> windows_service::Result<()> {
    let restart = ServiceAction { action_type: ServiceActionType::Restart, delay: RESTART_DELAY };
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FAILURES_FORGOTTEN),
        reboot_msg: None,
        command: None,
        // The last one is for every later failure too.
        actions: Some(vec![restart; 3]),
    })?;
    service.set_failure_actions_on_non_crash_failures(true)
}

fn remove() -> Result<(), ServiceError> {
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(ServiceError::of("be spoken to"))?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = manager.open_service(NAME, access).map_err(ServiceError::of("open the service"))?;
    if !stop(&service).map_err(ServiceError::of("stop the service"))? {
        anstream::eprintln!("warning: the service has not stopped; it is removed when it has");
    }
    service.delete().map_err(ServiceError::of("remove the service"))?;
    if let Err(error) = event_log::unregister() {
        anstream::eprintln!("warning: the source in the event log stays: {error}");
    }
    anstream::println!("removed the service {NAME}; its configuration, data and log are still there");
    Ok(())
}

/// Returns whether it has stopped.
fn stop(service: &Service) -> windows_service::Result<bool> {
    let began = Instant::now();
    let mut asked = false;
    while service.query_status()?.current_state != ServiceState::Stopped {
        if !asked {
            service.stop()?;
            asked = true;
        }
        if began.elapsed() > STOP_PATIENCE {
            return Ok(false);
        }
        thread::sleep(STOP_LOOK);
    }
    Ok(true)
}
