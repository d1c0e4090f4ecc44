//! When the next call of a signal may start: at once, at a certain time, or after the one call that asks.
//!
//! This is what makes a storm of retries impossible. After a failure the gate is shut for a time; then it lets exactly
//! one call through. Only that call's answer opens it, or shuts it for longer. Calls that had started before the failure
//! have no say, however they end.

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

/// Decides when calls start. Time is an argument.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
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
        Self { state: State::Open, round: 0, retry: Backoff::new(config, seed), park: Backoff::new(park, !seed) }
    }

    pub(super) fn passage(&self, now: Instant) -> Passage {
        match self.state {
            State::Open => Passage::Free,
            State::Shut { until } if until <= now => Passage::One,
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
            State::Shut { until } => Some(until),
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

    /// The call has to be made again later. Returns how long the gate is shut now, unless it was shut already.
    pub(super) fn shut(&mut self, ticket: Ticket, now: Instant, at_least: Duration) -> Option<Duration> {
        let wait = (ticket.round == self.round).then(|| self.retry.wait());
        self.shut_for(wait, now, at_least)
    }

    /// As [`Gate::shut`], where somebody has to do something first: the waits are longer.
    pub(super) fn park(&mut self, ticket: Ticket, now: Instant) -> Option<Duration> {
        let wait = (ticket.round == self.round).then(|| self.park.wait());
        self.shut_for(wait, now, Duration::ZERO)
    }

    fn shut_for(&mut self, wait: Option<Duration>, now: Instant, at_least: Duration) -> Option<Duration> {
        match (wait, &mut self.state) {
            (Some(wait), state) => {
                let wait = wait.max(at_least);
                self.round = self.round.saturating_add(1);
                *state = State::Shut { until: now + wait };
                Some(wait)
            }
            // What a server asks for is obeyed even if it asked in answer to an older call.
            (None, State::Shut { until }) => {
                *until = (*until).max(now + at_least);
                None
            }
            (None, State::Open | State::Asking) => None,
        }
    }
}
