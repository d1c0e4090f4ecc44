//! Each notion of time, defined once.
//!
//! * **Event time** and **receive time** are both a [`Timestamp`]: nanoseconds of the wall clock. The first is what the
//!   proxy node wrote into its datagram, the second what our own clock said when the datagram was read. Spans and log
//!   records carry them; nothing ever waits for them.
//! * **Running time** is a [`RunningTime`]: nanoseconds this store of sessions has been served by a running process,
//!   accumulated over restarts. It never goes back, stands still while we are down, and is the only clock that deadlines
//!   are measured on. A wall clock that jumps by a day therefore closes nothing.
//!
//! [`Now`] is both at one moment, as the shell read them; the pure modules get it as an argument.

use std::ops::Add;
use std::time::Duration;

/// A moment of the wall clock in nanoseconds since the Unix epoch, UTC. Range: 1970 to 2554. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch, which OTLP reads as "unknown".
    pub const EPOCH: Self = Self(0);

    /// The moment `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch, the unit of OTLP.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` before this one; the epoch at the earliest.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// Nanoseconds of running time: monotonic, accumulated over restarts. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunningTime(u64);

impl RunningTime {
    /// The moment a new store of sessions began to be served.
    pub const START: Self = Self(0);

    /// A moment that does not come.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds of running time after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds of running time since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The running time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` before this one; the start at the earliest.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl Add<Duration> for RunningTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// One moment as both clocks show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, for what is told to people.
    pub wall: Timestamp,
    /// The running time, for what has to be waited for.
    pub running: RunningTime,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Timestamp::from_nanos(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(1), Timestamp::from_nanos(u64::MAX));
        assert_eq!(Timestamp::from_nanos(5).before(Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(late), Duration::ZERO);
        assert_eq!(RunningTime::START + Duration::MAX, RunningTime::from_nanos(u64::MAX));
    }

    #[test]
    fn a_difference_is_the_duration_that_was_added() {
        let start = RunningTime::from_nanos(7);
        assert_eq!((start + Duration::from_millis(3)).since(start), Duration::from_millis(3));
    }
}
