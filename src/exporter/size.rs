//! How large a call may be: what servers take, smaller after one says that it is too much, and larger again with time.

use crate::store::Limit;

/// What one call carries at most: below the 4 MiB that gRPC servers take unless told otherwise.
const LARGEST: Limit = Limit { bytes: 3 * 1024 * 1024 + 512 * 1024, items: 8_192 };

/// However small a server says its limit is, batches are not made smaller than this; single pieces still are.
const BYTES_MIN: usize = 64 * 1024;

/// After so many accepted calls a larger one is tried. A refusal may have been due to one odd record, or to a proxy
/// that is gone; if it was not, the server is asked in vain once in so many calls.
const GROWS_AFTER: u32 = 128;

/// The size of the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallSize {
    limit: Limit,
    /// Calls accepted since it changed.
    accepted: u32,
}

impl CallSize {
    pub(super) const LARGEST: Self = Self { limit: LARGEST, accepted: 0 };

    pub(super) const fn limit(self) -> Limit {
        self.limit
    }

    /// The server said that a call of `bytes` is too large.
    pub(super) fn refused(&mut self, bytes: usize) {
        self.limit.bytes = self.limit.bytes.min(bytes / 2).max(BYTES_MIN);
        self.accepted = 0;
    }

    /// The server took a call, of whatever size.
    pub(super) fn accepted(&mut self) {
        self.accepted = self.accepted.saturating_add(1);
        if self.accepted >= GROWS_AFTER {
            self.limit.bytes = self.limit.bytes.saturating_mul(2).min(LARGEST.bytes);
            self.accepted = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_halves_what_was_sent_down_to_the_smallest() {
        let mut size = CallSize::LARGEST;
        size.refused(1_000_000);
        assert_eq!(size.limit().bytes, 500_000);
        size.refused(3_000_000);
        assert_eq!(size.limit().bytes, 500_000, "nothing new");
        size.refused(600);
        assert_eq!(size.limit().bytes, BYTES_MIN);
        assert_eq!(size.limit().items, LARGEST.items);
    }

    #[test]
    fn it_grows_back_after_many_accepted_calls_and_not_beyond_the_largest() {
        let mut size = CallSize::LARGEST;
        size.refused(1_000_000);
        for _ in 1..GROWS_AFTER {
            size.accepted();
        }
        assert_eq!(size.limit().bytes, 500_000);
        size.accepted();
        assert_eq!(size.limit().bytes, 1_000_000);

        for _ in 1..GROWS_AFTER {
            size.accepted();
        }
        size.refused(900_000);
        size.accepted();
        assert_eq!(size.limit().bytes, 450_000, "a refusal begins the count anew");

        for _ in 0..GROWS_AFTER * 10 {
            size.accepted();
        }
        assert_eq!(size.limit(), LARGEST);
    }
}
