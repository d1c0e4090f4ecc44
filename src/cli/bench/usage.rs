//! What another process has used so far: read from `/proc` on Linux, and not known elsewhere.

use std::time::Duration;

/// What a process has used since its start. `None` is not known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time of all its threads, its own and the system's for it.
    pub(super) processor: Option<Duration>,
    /// Bytes of memory that are resident now.
    pub(super) resident: Option<u64>,
    /// Bytes that it caused to be written to a disk.
    pub(super) written: Option<u64>,
}

/// Whether anything is known of other processes here.
pub(super) const IS_KNOWN: bool = cfg!(target_os = "linux");

impl Usage {
    /// What the process with this id has used, as far as that is known.
    #[cfg(target_os = "linux")]
    pub(super) fn of(process: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        Self {
            processor: scheduled(process).or_else(|| ticks(&read("stat")?)),
            resident: read("status").and_then(|status| resident(&status)),
            written: read("io").and_then(|io| field(&io, "write_bytes:")),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_: u32) -> Self {
        Self::default()
    }
}

/// Time on a processor of all threads, to the nanosecond: user and system time together. No thread of ours ends while it
/// is measured, so none is missing.
#[cfg(target_os = "linux")]
fn scheduled(process: u32) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        total += Duration::from_nanos(text.split_ascii_whitespace().next()?.parse().ok()?);
    }
    Some(total)
}

/// User and system time in the text of a `stat`, to a hundredth of a second: a kernel may keep no `schedstat`.
#[cfg(any(test, target_os = "linux"))]
fn ticks(stat: &str) -> Option<Duration> {
    /// What `/proc` counts in, on every Linux of today.
    const TICK: Duration = Duration::from_millis(10);
    // The name, in parentheses, may hold spaces; the two times are the 12th and 13th field behind it.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

#[cfg(any(test, target_os = "linux"))]
fn resident(status: &str) -> Option<u64> {
    field(status, "VmRSS:").map(|kibibytes| kibibytes * 1024)
}

/// The number behind this name at the beginning of a line.
#[cfg(any(test, target_os = "linux"))]
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_proc_are_read() {
        let stat = "77 (a (b) c) S 1 77 77 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 5 0 100 0 0";
        assert_eq!(ticks(stat), Some(Duration::from_millis(1_750)));
        let status = "Name:\tsense-otel\nVmHWM:\t   20000 kB\nVmRSS:\t   12345 kB\n";
        assert_eq!(resident(status), Some(12_345 * 1024));
        assert_eq!(field("rchar: 5\nwrite_bytes: 4096\n", "write_bytes:"), Some(4_096));
        assert_eq!((ticks("nothing"), resident("nothing"), field("", "x")), (None, None, None));
    }

    #[test]
    fn what_this_process_used_is_known_on_linux_only() {
        let usage = Usage::of(std::process::id());
        assert_eq!(usage.processor.is_some_and(|time| !time.is_zero()), IS_KNOWN);
        assert_eq!(usage.resident.is_some_and(|bytes| bytes > 100_000), IS_KNOWN);
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
