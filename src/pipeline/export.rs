//! Everything that goes out, on a thread and a runtime of its own.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::exporter;
use crate::signal::Signal;
use crate::store::Store;
use crate::telemetry::{Telemetry, metrics};

use super::{Config, StartError, clock};

/// What is left of the grace period for the last export of metrics.
const METRICS_GRACE: Duration = Duration::from_millis(800);

/// Everything that goes out, on a runtime of one thread.
#[derive(Debug)]
pub(super) struct Export {
    runtime: tokio::runtime::Runtime,
    exporter: exporter::Exporter,
    metrics: metrics::Metrics,
}

impl Export {
    pub(super) fn build(
        config: &Config,
        store: &Store,
        telemetry: &Telemetry,
        scrape: &metrics::Scrape,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match Self::parts(config, store, telemetry, scrape, &runtime) {
            Ok((exporter, metrics)) => Ok(Self { runtime, exporter, metrics }),
            Err(error) => {
                // Whoever starts us may be asynchronous, where dropping a runtime is a panic.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn parts(
        config: &Config,
        store: &Store,
        telemetry: &Telemetry,
        scrape: &metrics::Scrape,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<(exporter::Exporter, metrics::Metrics), StartError> {
        let _entered = runtime.enter();
        let exporter = exporter::Exporter::new(config.exporter.clone(), store, telemetry, seed())?;
        let is_wanted = config.exporter.signals.contains(&Signal::Metrics);
        let backend = is_wanted.then(|| (exporter.metrics(), config.telemetry.metrics_interval));
        let resource = &config.processor.resource;
        let metrics = metrics::start_scraped(telemetry, scrape, backend, resource, runtime.handle())?;
        Ok((exporter, metrics))
    }

    /// Sends until the time that `stop` names.
    pub(super) fn run(self, mut stop: watch::Receiver<Option<Instant>>) {
        let Self { runtime, exporter, metrics } = self;
        runtime.block_on(async {
            let (drain, drained) = watch::channel(None);
            let stopping = async {
                // A sender that is gone has stopped without a grace period.
                let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
                let deadline = deadline.unwrap_or_else(Instant::now);
                drain.send_replace(Some(deadline.checked_sub(METRICS_GRACE).unwrap_or(deadline)));
                deadline
            };
            let (deadline, _left) = tokio::join!(stopping, exporter.run(drained));
            metrics.shutdown(deadline.saturating_duration_since(Instant::now()).max(METRICS_GRACE)).await;
        });
        // A connection that hangs must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Decides the jitter of retries, so that receivers that were started together do not come back together.
fn seed() -> u64 {
    clock::wall().as_nanos() ^ u64::from(std::process::id())
}
