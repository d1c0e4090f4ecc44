//! One log line per reason and interval, however often the reason occurs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a reason stays silent after a line.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Counts what happened since the last line and says when the next one may be written.
///
/// The first happening is told at once: an operator who tries something wants to see it. `now` is the time since the
/// process started its telemetry, so that no method reads a clock.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Nanoseconds since the start before which no line is written.
    silent_until: AtomicU64,
    untold: AtomicU64,
}

impl Throttle {
    /// Adds `count` happenings. `Some` is the number to tell now, these and the earlier untold ones.
    pub(super) fn add(&self, now: Duration, count: u64) -> Option<u64> {
        self.untold.fetch_add(count, Ordering::Relaxed);
        self.due(now)
    }

    /// The number to tell now, if something is untold and the interval has passed.
    pub(super) fn due(&self, now: Duration) -> Option<u64> {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let now = nanos(now);
        let silent_until = self.silent_until.load(Ordering::Relaxed);
        if now < silent_until {
            return None;
        }
        // Two threads may see the same end of silence; the exchange lets one of them speak.
        let next = now.saturating_add(nanos(INTERVAL));
        self.silent_until.compare_exchange(silent_until, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        match self.untold.swap(0, Ordering::Relaxed) {
            0 => None,
            untold => Some(untold),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_a_sum() {
        let throttle = Throttle::default();
        assert_eq!(throttle.add(Duration::ZERO, 1), Some(1));
        assert_eq!(throttle.add(SECOND, 5), None);
        assert_eq!(throttle.add(SECOND * 9, 2), None);
        assert_eq!(throttle.add(SECOND * 10, 3), Some(10));
    }

    #[test]
    fn what_is_left_untold_is_told_when_the_silence_ends() {
        let throttle = Throttle::default();
        assert_eq!(throttle.add(SECOND, 1), Some(1));
        assert_eq!(throttle.add(SECOND * 2, 7), None);
        assert_eq!(throttle.due(SECOND * 10), None);
        assert_eq!(throttle.due(SECOND * 11), Some(7));
        assert_eq!(throttle.due(SECOND * 60), None);
    }

    #[test]
    fn threads_tell_every_happening_once() {
        let throttle = Throttle::default();
        let told: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000_u32).filter_map(|step| throttle.add(INTERVAL * step, 1)).sum::<u64>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a counting thread")).sum()
        });
        assert_eq!(told + throttle.due(INTERVAL * 2000).unwrap_or(0), 4000);
    }
}
