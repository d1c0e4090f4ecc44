//! Gaps that were told, in case what is missing comes late after all.

use std::collections::VecDeque;

use crate::time::RunningTime;

/// Gaps that are remembered at most, the oldest forgotten first.
const GAPS_MAX: usize = 1024;

/// Ranges of places, each without its end and with the time of its telling, in no order but that.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    ranges: VecDeque<Gap>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    told: RunningTime,
    first: u64,
    end: u64,
}

impl Gaps {
    /// Remembers `[first, end)`.
    pub(super) fn add(&mut self, told: RunningTime, first: u64, end: u64) {
        if self.ranges.len() >= GAPS_MAX {
            self.ranges.pop_front();
        }
        self.ranges.push_back(Gap { told, first, end });
    }

    /// Takes a place out of the gap that it lies in, if that was told when `accepts` says; false otherwise.
    pub(super) fn take(&mut self, place: u64, accepts: impl Fn(RunningTime) -> bool) -> bool {
        let lies_in = |gap: &Gap| gap.first <= place && place < gap.end && accepts(gap.told);
        let Some(index) = self.ranges.iter().position(lies_in) else { return false };
        let Some(Gap { told, first, end }) = self.ranges.remove(index) else { return false };
        if first < place {
            self.ranges.insert(index, Gap { told, first, end: place });
        }
        if place + 1 < end {
            self.add(told, place + 1, end);
        }
        true
    }
}
