//! The only reader of the system's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Now, RunningTime, Timestamp};

/// Both clocks of one process. Running time goes on from where an earlier process left it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    before: RunningTime,
}

impl Clock {
    /// A clock whose running time begins now, after `before` of earlier processes.
    #[must_use]
    pub fn start(before: RunningTime) -> Self {
        Self { began: Instant::now(), before }
    }

    /// This moment on both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { wall: wall(), running: self.before + self.began.elapsed() }
    }
}

/// This moment on the wall clock.
#[must_use]
pub fn wall() -> Timestamp {
    // A clock before 1970 is as unset as one at 1970.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}
