//! The live page, on a thread and a runtime of its own. No event waits for it, and none is lost for want of it.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::admin::{self, Admin, Bound, Phase, Sources};

use super::spawn;

/// The page at work.
#[derive(Debug)]
pub(super) struct Page {
    addresses: Vec<SocketAddr>,
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Page {
    /// Opens the page. A port that is taken is told of, and tried again.
    pub(super) fn open(config: admin::Config, sources: Sources) -> io::Result<Self> {
        let bound = match admin::bind(&config) {
            Ok(bound) => {
                sources.telemetry.page_served(&config.endpoint, &bound.local_addresses());
                bound
            }
            Err(error) => {
                sources.telemetry.page_failed(&config.endpoint, &error);
                Bound::default()
            }
        };
        let addresses = bound.local_addresses();
        let (phase, told) = watch::channel(Phase::Running);
        let admin = Admin::new(config, sources, bound)?;
        let thread = spawn("admin", move || admin.run(told))?;
        Ok(Self { addresses, phase, thread })
    }

    /// Where it can be asked for.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Says on the page that the stop has begun.
    pub(super) fn stopping(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Closes it.
    pub(super) fn close(self) {
        self.phase.send_replace(Phase::Stopped);
        // A page that has failed has failed alone.
        let _ = self.thread.join();
    }
}
