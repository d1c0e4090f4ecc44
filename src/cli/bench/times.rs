//! When each event was sent, for whoever sees it arrive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::load::{Event, KINDS, USERS};
use crate::pipeline::clock::wall;
use crate::time::Timestamp;

/// Sessions of one user that are told apart. At 100,000 events a second they span more than six seconds.
const ROUNDS: u64 = 8;

/// How far the receiver's clock may be behind ours: it reads the wall clock, we count on from where it stood once.
const SLACK: Duration = Duration::from_millis(20);

/// A clock that shows the wall's time and never steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    began_at: Timestamp,
}

/// The times of the last events of each user.
#[derive(Debug)]
pub(super) struct Times {
    /// Nanoseconds since the epoch, 0 for never, by user, kind and round.
    sent: Vec<AtomicU64>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), began_at: wall() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.began_at + self.began.elapsed()
    }
}

impl Times {
    pub(super) fn new() -> Self {
        let places = USERS as usize * KINDS * ROUNDS as usize;
        Self { sent: std::iter::repeat_with(AtomicU64::default).take(places).collect() }
    }

    /// Remembers when an event was sent.
    pub(super) fn note(&self, event: Event, at: Timestamp) {
        let place = first_place(event.user, event.kind) + (event.round % ROUNDS) as usize;
        if let Some(sent) = self.sent.get(place) {
            sent.store(at.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When the event of this user and kind was sent that a receiver read at `received`: the last one before that.
    pub(super) fn sent(&self, user: u64, kind: usize, received: Timestamp) -> Option<Timestamp> {
        let first = first_place(user, kind);
        let rounds = self.sent.get(first..first + ROUNDS as usize)?;
        let latest = (received + SLACK).as_nanos();
        let sent = rounds.iter().map(|sent| sent.load(Ordering::Relaxed));
        sent.filter(|sent| (1..=latest).contains(sent)).max().map(Timestamp::from_nanos)
    }
}

const fn first_place(user: u64, kind: usize) -> usize {
    (user as usize * KINDS + kind) * ROUNDS as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_last_of_its_kind_before_it_was_received() {
        let at = |millis: u64| Timestamp::EPOCH + Duration::from_millis(millis);
        let times = Times::new();
        assert_eq!(times.sent(7, 2, at(1_000)), None);
        for round in 0..ROUNDS + 2 {
            times.note(Event { user: 7, kind: 2, round }, at(1_000 + round * 200));
        }
        assert_eq!(times.sent(7, 2, at(1_650)), Some(at(1_600)));
        assert_eq!(times.sent(7, 2, at(1_590)), Some(at(1_600)), "the clocks differ a little");
        assert_eq!(times.sent(7, 2, at(9_000)), Some(at(2_800)));
        // The first two made room for the last two.
        assert_eq!(times.sent(7, 2, at(1_250)), None);
        assert_eq!((times.sent(7, 1, at(9_000)), times.sent(6, 2, at(9_000))), (None, None));
        assert_eq!(times.sent(USERS, 0, at(9_000)), None);
    }
}
