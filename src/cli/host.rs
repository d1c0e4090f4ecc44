//! What surrounds the receiver: whoever gave it its log, may ask it to stop, and wants to know how it is.
//!
//! [`Foreground`] is a terminal, a container, or systemd, which is told by the protocol of `sd_notify(3)` when we are
//! ready, stopping and alive. The service manager of Windows is another, in [`super::service`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::error;

use crate::telemetry::{Log, LogError, Telemetry, init_log};

use super::stop::StopRequests;

/// A thread may stand still for this long however short the interval of a watchdog is: the core turns once a second when
/// nothing comes.
const PATIENCE_MIN: Duration = Duration::from_secs(3);

/// The shortest time between two signs of life.
const SIGN_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Where the receiver runs.
pub(super) trait Host {
    /// Sets up our log.
    ///
    /// # Errors
    ///
    /// A level that is no directive, or a place that cannot be written to.
    fn open_log(&self, level: &str) -> Result<Log, LogError> {
        init_log(level)
    }

    /// Listens for the wish that we stop. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refuses to install a handler.
    fn stop_requests(&self) -> io::Result<StopRequests> {
        StopRequests::listen()
    }

    /// Everything runs; datagrams are received at these addresses.
    fn ready(&self, addresses: &[SocketAddr]);

    /// The stop begins.
    fn stopping(&self);

    /// How long we may give no sign of life before we are taken for dead; `None` if nobody waits for one.
    fn watchdog(&self) -> Option<Duration> {
        None
    }

    /// Gives a sign of life.
    fn alive(&self) {}
}

/// Gives signs of life for as long as every thread that has to turn does turn: a process whose core is stuck has no use,
/// and whoever watches it starts another.
pub(super) async fn give_signs_of_life(host: &dyn Host, telemetry: &Telemetry) -> Infallible {
    let Some(timeout) = host.watchdog() else { return std::future::pending().await };
    let patience = (timeout / 2).max(PATIENCE_MIN);
    // Half of what is allowed, as systemd advises.
    let mut tick = tokio::time::interval((timeout / 2).max(SIGN_INTERVAL_MIN));
    let mut told = false;
    loop {
        tick.tick().await;
        match telemetry.standing_still(patience) {
            None => {
                host.alive();
                told = false;
            }
            Some((thread, standing_still)) if !told => {
                let seconds = standing_still.as_secs();
                error!(thread, seconds, "a thread stands still; without a sign of life the watchdog will restart us");
                told = true;
            }
            Some(_) => {}
        }
    }
}

/// A process like others, whose log is its standard error.
#[derive(Debug, Default)]
pub(super) struct Foreground {
    #[cfg(target_os = "linux")]
    failure_told: std::cell::Cell<bool>,
}

#[cfg(target_os = "linux")]
impl Foreground {
    /// Tells systemd, if it started us. Nothing of ours depends on whether it listens.
    fn notify(&self, state: &[sd_notify::NotifyState<'_>]) {
        match sd_notify::notify(state) {
            Err(error) if !self.failure_told.replace(true) => {
                tracing::warn!(%error, "cannot tell the service manager how we are (NOTIFY_SOCKET)");
            }
            _ => {}
        }
    }
}

#[cfg(target_os = "linux")]
impl Host for Foreground {
    fn ready(&self, addresses: &[SocketAddr]) {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let status = format!("receiving at {} (UDP)", addresses.join(", "));
        self.notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
    }

    fn stopping(&self) {
        self.notify(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("sending what is left")]);
    }

    fn watchdog(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    fn alive(&self) {
        self.notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

#[cfg(not(target_os = "linux"))]
impl Host for Foreground {
    fn ready(&self, _addresses: &[SocketAddr]) {}

    fn stopping(&self) {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Waits for signs of life and counts them.
    struct Watching {
        timeout: Option<Duration>,
        signs: Cell<u32>,
    }

    impl Host for Watching {
        fn ready(&self, _addresses: &[SocketAddr]) {}

        fn stopping(&self) {}

        fn watchdog(&self) -> Option<Duration> {
            self.timeout
        }

        fn alive(&self) {
            self.signs.set(self.signs.get() + 1);
        }
    }

    /// How many signs of life are given in a time that is long against the timeout, with a heart that beats or does not.
    fn signs(timeout: Option<Duration>, within: Duration, beating: bool) -> u32 {
        let host = Watching { timeout, signs: Cell::new(0) };
        let telemetry = Telemetry::default();
        let heart = telemetry.heart("core");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let beat = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if beating {
                        heart.beat();
                    }
                }
            };
            tokio::select! {
                never = give_signs_of_life(&host, &telemetry) => match never {},
                () = beat => {}
                () = tokio::time::sleep(within) => {}
            }
        });
        host.signs.get()
    }

    #[test]
    fn signs_come_twice_in_the_time_that_is_allowed() {
        let timeout = Duration::from_millis(100);
        assert!(signs(Some(timeout), 10 * timeout, true) >= 10);
        assert!(signs(Some(Duration::ZERO), timeout, true) >= 1);
    }

    #[test]
    fn nobody_waits_and_none_comes() {
        assert_eq!(signs(None, Duration::from_millis(50), true), 0);
    }

    #[test]
    fn a_thread_that_stands_still_ends_them() {
        let second = Duration::from_secs(1);
        let timeout = second / 2;
        // One each quarter of a second for as long as the patience lasts, then no more.
        let given = signs(Some(timeout), PATIENCE_MIN + 3 * second, false);
        assert!((1..=13).contains(&given), "{given}");
        assert!(signs(Some(timeout), PATIENCE_MIN + 3 * second, true) > 13);
    }
}
