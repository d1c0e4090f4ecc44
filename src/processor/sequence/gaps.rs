//! Gaps that were told, in case what is missing comes late after all.

use std::collections::VecDeque;

/// Gaps that are remembered at most, the oldest forgotten first.
const GAPS_MAX: usize = 1024;

/// Ranges of places, each without its end, in no order but that of their telling.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    ranges: VecDeque<(u64, u64)>,
}

impl Gaps {
    /// Remembers `[first, end)`.
    pub(super) fn add(&mut self, first: u64, end: u64) {
        if self.ranges.len() >= GAPS_MAX {
            self.ranges.pop_front();
        }
        self.ranges.push_back((first, end));
    }

    /// Takes a place out of the gap that it lies in; false where it lies in none.
    pub(super) fn take(&mut self, place: u64) -> bool {
        let Some(index) = self.ranges.iter().position(|&(first, end)| first <= place && place < end) else {
            return false;
        };
        let Some((first, end)) = self.ranges.remove(index) else { return false };
        if first < place {
            self.ranges.insert(index, (first, place));
        }
        if place + 1 < end {
            self.add(place + 1, end);
        }
        true
    }
}
