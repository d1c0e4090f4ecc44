//! The outbox between the core and the exporter.

use std::path::PathBuf;
use std::time::Duration;

/// How much is kept for a backend that does not answer, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store and of the generated key file.
    pub directory: PathBuf,
    /// Budget in bytes.
    pub max_size: u64,
    /// Budget in time.
    pub max_age: Duration,
}
