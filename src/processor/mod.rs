//! The pure core: one state machine from datagrams to signals.

use std::time::Duration;

pub mod filter;
pub mod ids;
pub mod mapping;
pub mod sequence;
pub mod session;

/// What the core needs to know. Already valid: made by `config`, or by a test.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long sessions and spans live.
    pub sessions: session::Config,
    /// Users whose events are not exported.
    pub exclude_users: Vec<filter::ExcludeRule>,
    /// What becomes of personal data.
    pub privacy: filter::Privacy,
    /// How many proxy nodes are known at most.
    pub nodes_max: usize,
    /// Longest attribute value in bytes; a longer one is cut on a character boundary and ends in `…`.
    pub attribute_length_max: usize,
    /// Attributes added to the resource of every node.
    pub resource: Vec<(String, String)>,
    /// Whether a short `qlik.sense.session.start` span is sent at once.
    pub start_marker: bool,
}

impl Default for Config {
    /// The defaults of `docs/configuration.md`.
    fn default() -> Self {
        Self {
            sessions: session::Config::default(),
            exclude_users: Vec::new(),
            privacy: filter::Privacy::default(),
            nodes_max: 256,
            attribute_length_max: 2048,
            resource: Vec::new(),
            start_marker: false,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
