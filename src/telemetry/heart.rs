//! Whether the threads that have to turn do turn: what a watchdog asks before it says that all is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Held by a thread that has to go on turning, which lets it beat at each turn. Dropping it is an end, not a standstill.
#[derive(Debug)]
pub struct Heart(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    name: &'static str,
    origin: Instant,
    /// Nanoseconds after `origin`.
    last: AtomicU64,
}

/// All hearts of a process.
#[derive(Debug, Default)]
pub(super) struct Hearts(Mutex<Vec<Weak<Beats>>>);

impl Heart {
    /// Says that the thread turns. One store, no lock.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }
}

impl Beats {
    fn silent_for(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_nanos(self.last.load(Ordering::Relaxed)))
    }
}

impl Hearts {
    pub(super) fn add(&self, name: &'static str) -> Heart {
        let beats = Arc::new(Beats { name, origin: Instant::now(), last: AtomicU64::new(0) });
        let mut hearts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hearts.retain(|heart| heart.strong_count() > 0);
        hearts.push(Arc::downgrade(&beats));
        Heart(beats)
    }

    pub(super) fn standing_still(&self, patience: Duration) -> Option<(&'static str, Duration)> {
        let hearts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = hearts.iter().filter_map(Weak::upgrade).map(|beats| (beats.name, beats.silent_for()));
        silent.filter(|&(_, silent_for)| silent_for > patience).max_by_key(|&(_, silent_for)| silent_for)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    #[test]
    fn one_that_stands_still_is_found_among_those_that_turn() {
        let hearts = Hearts::default();
        assert_eq!(hearts.standing_still(Duration::ZERO), None);
        let (turning, stuck) = (hearts.add("receiver"), hearts.add("core"));
        assert_eq!(hearts.standing_still(Duration::from_secs(60)), None);
        thread::sleep(2 * PATIENCE);
        turning.beat();
        let (name, silent_for) = hearts.standing_still(PATIENCE).expect("one that stands still");
        assert_eq!(name, "core");
        assert!(silent_for >= 2 * PATIENCE, "{silent_for:?}");
        stuck.beat();
        assert_eq!(hearts.standing_still(Duration::from_secs(60)), None);
    }

    #[test]
    fn the_longest_silence_is_told_and_an_end_is_none() {
        let hearts = Hearts::default();
        let first = hearts.add("receiver");
        thread::sleep(PATIENCE);
        let _second = hearts.add("core");
        thread::sleep(2 * PATIENCE);
        assert_eq!(hearts.standing_still(PATIENCE).map(|(name, _)| name), Some("receiver"));
        drop(first);
        assert_eq!(hearts.standing_still(PATIENCE).map(|(name, _)| name), Some("core"));
    }
}
