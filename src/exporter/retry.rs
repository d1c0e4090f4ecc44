//! What a backend's answer means for the request that it answers, and how long to wait before the next try.
//!
//! The rules are asked in the order of [`Disposition`]'s variants; `tests.rs` holds the whole table.

use std::time::Duration;

use tonic::Code;

#[cfg(test)]
mod tests;

/// Longest wait that a server may ask for. A mistaken `RetryInfo` of a day must not silence us for a day.
pub const RETRY_INFO_MAX: Duration = Duration::from_secs(5 * 60);

/// No wait is longer, whatever is configured; it also keeps the arithmetic of waits from overflowing.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a request is tried that the server answers with UNKNOWN or INTERNAL.
pub const DOUBTFUL_TRIES: u32 = 5;

/// Waiting between tries: exponential with jitter, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first wait.
    pub initial_interval: Duration,
    /// No wait is longer than this, unless the server asks for it.
    pub max_interval: Duration,
}

/// Why a call did not end in an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether the server spoke: a `grpc-status`, or an HTTP status that says as much. Otherwise the code is ours, and
    /// only tells people whether the connection or the deadline failed.
    pub from_server: bool,
    /// The gRPC code.
    pub code: Code,
    /// The server's text as sent, or our own. Not sanitised.
    pub message: String,
    /// `retry_delay` of a `google.rpc.RetryInfo` in the details.
    pub retry_delay: Option<Duration>,
}

/// What happens next to a request that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Send it again in smaller parts.
    Split,
    /// Wait at least this long, then send it again, for as long as it takes.
    Retry {
        /// What the server asked for, at most [`RETRY_INFO_MAX`].
        at_least: Duration,
    },
    /// Somebody has to mend credentials or addresses: keep everything of this signal, ask again now and then.
    Park,
    /// Perhaps the server is ill, perhaps the request is: wait at least this long and send it again, but only
    /// [`DOUBTFUL_TRIES`] times.
    RetryInDoubt {
        /// What the server asked for, at most [`RETRY_INFO_MAX`].
        at_least: Duration,
    },
    /// It will never be accepted: give it up so that it blocks nothing. If several stored requests were sent as one, they
    /// are parted first, for perhaps only one of them is meant; so after the last try in doubt.
    Quarantine,
}

impl Disposition {
    /// The answer table of `design.md` section 6. Total over the codes, so that a new one cannot be forgotten.
    ///
    /// RESOURCE_EXHAUSTED is retried without `RetryInfo` too, although OTLP says to drop: a collector that is short of
    /// memory answers so, and means "later". OK is no failure; one that could not be read as an answer is retried.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        let at_least = failure.retry_delay.unwrap_or_default().min(RETRY_INFO_MAX);
        if !failure.from_server {
            return Self::Retry { at_least };
        }
        if names_size_limit(failure) {
            return Self::Split;
        }
        match failure.code {
            Code::Ok
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted => Self::Retry { at_least },
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Self::Park,
            Code::Unknown | Code::Internal => Self::RetryInDoubt { at_least },
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => Self::Quarantine,
        }
    }
}

/// Whether the server refused the request for its size. There is no code for that, so the text has to tell. What the
/// gRPC libraries write: Go "received message larger than max (5 vs. 4)", C++ the same, Java "gRPC message exceeds
/// maximum size 4: 5", .NET "Received message exceeds the maximum configured message size", tonic "decoded message
/// length too large: found 5 bytes, the limit is: 4 bytes". A limit of a rate names bytes as well; there smaller
/// requests would not help.
fn names_size_limit(failure: &Failure) -> bool {
    const SIZE: [&str; 7] = [
        "too large",
        "too big",
        "larger than",
        "size limit",
        "max size",
        "maximum size",
        "maximum configured message size",
    ];
    const RATE: [&str; 4] = ["rate limit", "rate_limit", "per second", "/sec"];

    if !matches!(failure.code, Code::ResourceExhausted | Code::OutOfRange | Code::InvalidArgument) {
        return false;
    }
    let message = failure.message.to_ascii_lowercase();
    SIZE.iter().any(|text| message.contains(text)) && !RATE.iter().any(|text| message.contains(text))
}

/// Waits that double from try to try, each shortened by up to a half at random: receivers that lost the same backend
/// at the same moment do not come back to it at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    /// The next wait before jitter.
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits between `initial_interval` and `max_interval`, the same ones for the same `seed`.
    #[must_use]
    pub fn new(config: RetryConfig, seed: u64) -> Self {
        let initial = config.initial_interval.min(WAIT_MAX);
        let max = config.max_interval.clamp(initial, WAIT_MAX);
        Self { initial, max, next: initial, random: fastrand::Rng::with_seed(seed) }
    }

    /// How long to wait before the next try.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(1.0 - self.random.f64() / 2.0);
        self.next = self.next.saturating_mul(2).min(self.max);
        wait
    }

    /// The backend works again: the next wait is a first one.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}
