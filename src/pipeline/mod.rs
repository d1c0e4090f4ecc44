//! Composition: the only place that spawns and that reads a clock.

use std::path::PathBuf;

use crate::{exporter, processor, receiver, store, telemetry};

/// Every part's own configuration, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP in.
    pub receiver: receiver::Config,
    /// The core.
    pub processor: processor::Config,
    /// The secret of every keyed hash; `None` takes the key file beside the store, made at the first start.
    pub key: Option<processor::ids::Key>,
    /// The outbox.
    pub store: store::Config,
    /// OTLP out.
    pub exporter: exporter::Config,
    /// Our own log and metrics.
    pub telemetry: telemetry::Config,
    /// CSV file of app id and app name, re-read when it changes.
    pub app_names_file: Option<PathBuf>,
}
