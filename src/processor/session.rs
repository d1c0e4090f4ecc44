//! Sessions and connections.

use std::time::Duration;

use super::HOUR;

/// How long sessions and spans live, and how many there may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// A session without open connections ends when nothing was heard of it for this long.
    pub expire_after: Duration,
    /// A session with open connections ends when nothing was heard of it for this long.
    pub expire_connected_after: Duration,
    /// A longer span is cut exactly there and goes on in the next segment.
    pub max_span_duration: Duration,
    /// How often each open session is told of in a log record; `None` is never.
    pub heartbeat: Option<Duration>,
    /// How many sessions may be open at the same time.
    pub open_sessions_max: usize,
    /// How many connections one session may have open at the same time.
    pub connections_per_session_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            expire_after: HOUR * 4,
            expire_connected_after: HOUR * 24,
            max_span_duration: HOUR * 12,
            heartbeat: Some(HOUR / 4),
            open_sessions_max: 200_000,
            connections_per_session_max: 1000,
        }
    }
}
