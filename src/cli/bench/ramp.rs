//! The search for the highest rate that is held: doubling up to the first loss, then halving the distance.

use serde::Serialize;

/// Below this many events a second nothing is searched for.
const RATE_MIN: f64 = 100.0;
/// Nor above this many: no sender comes near.
const RATE_MAX: f64 = 5_000_000.0;

/// What became of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Nothing was lost.
    Held,
    /// Something was lost, or came too late.
    Failed,
    /// Nothing was lost, but the sender could not send as fast.
    NotReached,
}

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    /// The highest rate that was held.
    held: Option<f64>,
    /// The lowest rate that failed.
    failed: Option<f64>,
    /// Rates still to try between the two.
    refinements: u32,
    /// Whether the sender has already missed the rate that is tried.
    missed: bool,
    next: Option<f64>,
}

impl Ramp {
    /// A search from `first` events a second on, with so many tries between the last rate that was held and the first
    /// that failed: each halves the distance.
    pub(super) const fn new(first: f64, refinements: u32) -> Self {
        Self { held: None, failed: None, refinements, missed: false, next: Some(first) }
    }

    /// The rate to try, in events a second; `None` at the end.
    pub(super) const fn next(&self) -> Option<f64> {
        self.next
    }

    /// Takes what became of the rate that was to be tried.
    pub(super) fn tell(&mut self, outcome: Outcome) {
        let Some(tried) = self.next.take() else { return };
        match outcome {
            Outcome::Held => self.held = Some(tried),
            Outcome::Failed => self.failed = Some(tried),
            Outcome::NotReached => {
                // Somebody else may have had the processor for a while, so it gets a second chance.
                self.next = (!self.missed).then_some(tried);
                self.missed = true;
                return;
            }
        }
        self.missed = false;
        self.next = match (self.held, self.failed) {
            (Some(held), None) => Some(held * 2.0).filter(|rate| *rate <= RATE_MAX),
            (None, Some(failed)) => Some(failed / 2.0).filter(|rate| *rate >= RATE_MIN),
            (Some(held), Some(failed)) if self.refinements > 0 => {
                self.refinements -= 1;
                Some(f64::midpoint(held, failed))
            }
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried where everything up to `ceiling` is held and the sender reaches `sender`.
    fn tried(first: f64, ceiling: f64, sender: f64) -> Vec<f64> {
        let mut ramp = Ramp::new(first, 3);
        let mut tried = Vec::new();
        while let Some(rate) = ramp.next() {
            tried.push(rate);
            ramp.tell(match rate {
                rate if rate > ceiling => Outcome::Failed,
                rate if rate > sender => Outcome::NotReached,
                _ => Outcome::Held,
            });
        }
        tried
    }

    #[test]
    fn it_doubles_up_to_the_first_loss_and_halves_the_distance() {
        let expected = [5_000.0, 10_000.0, 20_000.0, 40_000.0, 80_000.0, 60_000.0, 50_000.0, 55_000.0];
        assert_eq!(tried(5_000.0, 57_000.0, f64::MAX), expected);
    }

    #[test]
    fn it_goes_down_where_even_the_first_rate_fails() {
        assert_eq!(tried(5_000.0, 1_300.0, f64::MAX), [5_000.0, 2_500.0, 1_250.0, 1_875.0, 1_562.5, 1_406.25]);
        assert_eq!(tried(300.0, 0.0, f64::MAX), [300.0, 150.0]);
    }

    #[test]
    fn a_sender_that_was_kept_from_it_once_tries_again() {
        let mut ramp = Ramp::new(5_000.0, 0);
        for (rate, outcome) in [
            (5_000.0, Outcome::NotReached),
            (5_000.0, Outcome::Held),
            (10_000.0, Outcome::NotReached),
            (10_000.0, Outcome::Failed),
        ] {
            assert_eq!(ramp.next(), Some(rate));
            ramp.tell(outcome);
        }
        assert_eq!(ramp.next(), None);
    }

    #[test]
    fn it_ends_where_the_sender_does() {
        assert_eq!(tried(5_000.0, f64::MAX, 15_000.0), [5_000.0, 10_000.0, 20_000.0, 20_000.0]);
        assert_eq!(tried(4_000_000.0, f64::MAX, f64::MAX), [4_000_000.0]);
    }
}
