//! When the next call of a signal may start: at once, at a certain time, or after the one call that asks.
//!
//! This is what makes a storm of retries impossible. After a failure the gate is shut for a time; then it lets exactly
//! one call through. Only that call's answer opens it, or shuts it for longer. Calls that had started before the
//! failure have no say, however they end.
//!
//! Who waits decides what a wait is worth when the process is about to end. Our own back-off is a guess about a backend
//! that may have come back meanwhile, so it is waived once and then fits into the time that is left. What the server
//! asked for is kept, and so is the patience with a backend that wants no such signal: nobody mends that in seconds.

use std::time::Duration;

use tokio::time::Instant;

use super::RetryConfig;
use super::retry::Backoff;

#[cfg(test)]
mod tests;

/// While parked, waits are this many times `retry_on_failure.initial_interval`: 30 s by default.
const PARK_INITIAL_FACTOR: u32 = 30;
/// And up to this many times `retry_on_failure.max_interval`: 5 minutes by default.
const PARK_MAX_FACTOR: u32 = 10;

/// In the last seconds of the process a wait is at most this part of the time that is left: the tries come closer to
/// each other, and the last one still has time to succeed.
const LAST_WAIT_PART: u32 = 2;
/// And no shorter than this: what would fit into less is not tried.
const LAST_WAIT_MIN: Duration = Duration::from_millis(100);

/// Decides when calls start. Time is an argument.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    /// When the process ends, once that is known.
    end: Option<Instant>,
    /// Rises whenever the gate shuts.
    round: u64,
    retry: Backoff,
    park: Backoff,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Shut {
        until: Instant,
        /// Until when a server has asked us to wait. Never later than `until`.
        asked: Instant,
    },
    /// One call is under way, and the gate waits for its answer.
    Asking,
}

/// What a call was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    round: u64,
}

/// Which calls may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Any.
    Free,
    /// One.
    One,
    /// None.
    None,
}

impl Gate {
    pub(super) fn new(config: RetryConfig, seed: u64) -> Self {
        let park = RetryConfig {
            initial_interval: config.initial_interval.saturating_mul(PARK_INITIAL_FACTOR),
            max_interval: config.max_interval.saturating_mul(PARK_MAX_FACTOR),
        };
        let (retry, park) = (Backoff::new(config, seed), Backoff::new(park, !seed));
        Self { state: State::Open, end: None, round: 0, retry, park }
    }

    pub(super) fn passage(&self, now: Instant) -> Passage {
        match self.state {
            State::Open => Passage::Free,
            State::Shut { until, .. } if until <= now => Passage::One,
            State::Shut { .. } | State::Asking => Passage::None,
        }
    }

    /// A call starts now.
    pub(super) fn pass(&mut self) -> Ticket {
        if let State::Shut { .. } = self.state {
            self.state = State::Asking;
        }
        Ticket { round: self.round }
    }

    /// When a call may start, where that depends on time alone.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self.state {
            State::Shut { until, .. } => Some(until),
            State::Open | State::Asking => None,
        }
    }

    /// The backend is there and takes requests, whatever it thought of this one.
    pub(super) fn answered(&mut self, ticket: Ticket) {
        if ticket.round == self.round {
            self.state = State::Open;
            self.retry.reset();
            self.park.reset();
        }
    }

    /// The process ends at `end`. Our own wait is over, whatever it was for; what a server asked for is not.
    pub(super) fn hurry(&mut self, end: Instant) {
        if self.end.replace(end).is_some() {
            return;
        }
        self.retry.reset();
        if let State::Shut { until, asked } = &mut self.state {
            *until = *asked;
        }
    }

    /// The call has to be made again later. Returns how long the gate is shut now, unless it was shut already.
    pub(super) fn shut(&mut self, ticket: Ticket, now: Instant, at_least: Duration) -> Option<Duration> {
        let wait = (ticket.round == self.round).then(|| self.retry.wait());
        let wait = wait.map(|wait| self.fitting(now, wait));
        self.shut_for(wait, now, at_least)
    }

    /// As [`Gate::shut`], where somebody has to do something first: the waits are longer.
    pub(super) fn park(&mut self, ticket: Ticket, now: Instant) -> Option<Duration> {
        let wait = (ticket.round == self.round).then(|| self.park.wait());
        self.shut_for(wait, now, Duration::ZERO)
    }

    /// `wait`, or less of it if the process ends soon.
    fn fitting(&self, now: Instant, wait: Duration) -> Duration {
        match self.end.map(|end| end.saturating_duration_since(now) / LAST_WAIT_PART) {
            Some(longest) if longest >= LAST_WAIT_MIN => wait.min(longest),
            Some(_) | None => wait,
        }
    }

    fn shut_for(&mut self, wait: Option<Duration>, now: Instant, at_least: Duration) -> Option<Duration> {
        match (wait, &mut self.state) {
            (Some(wait), state) => {
                let wait = wait.max(at_least);
                self.round = self.round.saturating_add(1);
                *state = State::Shut { until: now + wait, asked: now + at_least };
                Some(wait)
            }
            // What a server asks for is obeyed even if it asked in answer to an older call.
            (None, State::Shut { until, asked }) => {
                *asked = (*asked).max(now + at_least);
                *until = (*until).max(*asked);
                None
            }
            (None, State::Open | State::Asking) => None,
        }
    }
}
