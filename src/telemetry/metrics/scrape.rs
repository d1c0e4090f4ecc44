//! The same instruments as Prometheus reads them.

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Registry, TextEncoder};
use thiserror::Error;

/// What `/metrics` answers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    registry: Registry,
}

/// Why the metrics cannot be read.
#[derive(Debug, Error)]
#[error("the metrics cannot be read")]
pub struct ScrapeError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Scrape {
    /// Reads the instruments of the provider that it is given to.
    pub(super) fn reader(&self) -> Result<PrometheusExporter, ScrapeError> {
        let builder = opentelemetry_prometheus::exporter().with_registry(self.registry.clone());
        builder.build().map_err(|error| ScrapeError(error.into()))
    }

    /// Every number at this moment, in the text format of Prometheus. Empty before a provider was started.
    ///
    /// # Errors
    ///
    /// A name or value that cannot be written.
    pub fn text(&self) -> Result<String, ScrapeError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| ScrapeError(error.into()))
    }
}
