//! The event log of Windows: where its administrators look when a service does not start.
//!
//! Only starts, stops and failures go here; everything else is in the log file.

use winsafe::co::{EVENTLOG, KEY, REG_OPTION};
use winsafe::{HEVENTLOG, HKEY, RegistryValue, SysResult};

use super::account::NAME;

/// Where the sources of the log `Application` are registered.
const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";

/// A program of Windows whose messages 1 to 1000 are nothing but their first argument, made for sources without message
/// files of their own.
const MESSAGES: &str = r"%SystemRoot%\System32\EventCreate.exe";

/// Errors, warnings and information.
const ALL_TYPES: u32 = 7;

/// An entry takes up to 31,839 characters; nobody reads that many.
const TEXT_MAX: usize = 8192;

/// What an entry tells; the number is the event id.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Started = 1,
    Stopped = 2,
    Failed = 3,
}

/// Registers us, so that our entries are shown without a remark that their description was not found.
///
/// # Errors
///
/// Only an administrator may.
pub(super) fn register() -> SysResult<()> {
    let path = format!(r"{SOURCES}\{NAME}");
    let (source, _) =
        HKEY::LOCAL_MACHINE.RegCreateKeyEx(&path, None, REG_OPTION::NON_VOLATILE, KEY::SET_VALUE, None)?;
    source.RegSetValueEx(Some("EventMessageFile"), RegistryValue::ExpandSz(MESSAGES.to_owned()))?;
    source.RegSetValueEx(Some("TypesSupported"), RegistryValue::Dword(ALL_TYPES))?;
    source.RegSetValueEx(Some("CustomSource"), RegistryValue::Dword(1))
}

/// Takes the registration back.
///
/// # Errors
///
/// Only an administrator may.
pub(super) fn unregister() -> SysResult<()> {
    HKEY::LOCAL_MACHINE.RegDeleteKey(&format!(r"{SOURCES}\{NAME}"))
}

/// Writes an entry. It is a courtesy: what fails here is in the log file all the same.
pub(super) fn write(event: Event, text: &str) {
    let kind = match event {
        Event::Started | Event::Stopped => EVENTLOG::INFORMATION_TYPE,
        Event::Failed => EVENTLOG::ERROR_TYPE,
    };
    // The end of a string would be the end of the entry.
    let text: String = text.chars().filter(|&character| character != '\0').take(TEXT_MAX).collect();
    let source = HEVENTLOG::RegisterEventSource(None, NAME);
    let _ = source.and_then(|source| source.ReportEvent(kind, 0, event as u32, None, &[text], &[]));
}
