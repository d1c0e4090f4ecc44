//! Who the service is and where it may write: a virtual account of its own, and one folder.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the service.
pub(super) const NAME: &str = "sense-otel";

/// The account that Windows keeps for a service of this name. It has no password, and no rights beyond those of a user.
pub(super) const ACCOUNT: &str = r"NT SERVICE\sense-otel";

/// Local system and the administrators, by numbers: their names are translated.
const SYSTEM: &str = "*S-1-5-18";
const ADMINISTRATORS: &str = "*S-1-5-32-544";

/// The folder of log and data; relative paths in the configuration are meant from here.
///
/// # Errors
///
/// The system does not say where such folders are.
pub(super) fn home() -> io::Result<PathBuf> {
    let data = env::var_os("ProgramData").filter(|data| !data.is_empty());
    let data = data.ok_or_else(|| io::Error::other("the environment variable ProgramData is not set"))?;
    Ok(PathBuf::from(data).join(NAME))
}

/// The folder of the log.
pub(super) fn log_folder(home: &Path) -> PathBuf {
    home.join("log")
}

/// Makes the folder, and lets nobody in but the service, administrators and the system: it holds personal data.
///
/// # Errors
///
/// It cannot be made, or its rights cannot be set.
pub(super) fn make_home(home: &Path) -> io::Result<()> {
    fs::create_dir_all(log_folder(home))?;
    let mut command = Command::new(system_program("icacls.exe")?);
    command.arg(home).args(["/inheritance:r", "/grant:r"]);
    command.arg(format!("{SYSTEM}:(OI)(CI)F")).arg(format!("{ADMINISTRATORS}:(OI)(CI)F"));
    command.arg(format!("{ACCOUNT}:(OI)(CI)M"));
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!("icacls: {}: {}", output.status, String::from_utf8_lossy(&said).trim())))
}

/// A program of Windows by its full path, so that no other of that name is run with an administrator's rights.
fn system_program(name: &str) -> io::Result<OsString> {
    let root = env::var_os("SystemRoot").filter(|root| !root.is_empty());
    let root = root.ok_or_else(|| io::Error::other("the environment variable SystemRoot is not set"))?;
    Ok(PathBuf::from(root).join("System32").join(name).into_os_string())
}
