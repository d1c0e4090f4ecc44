//! Gaps that were told, in case what is missing comes late after all.

use std::collections::VecDeque;

use crate::processor::record::Changed;
use crate::time::RunningTime;

/// Gaps that are remembered at most, the oldest forgotten first.
const GAPS_MAX: usize = 1024;

/// Ranges of places, each without its end and with the time of its telling, in the order of their serials.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    pub(super) ranges: VecDeque<Gap>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) serial: u64,
    pub(super) told: RunningTime,
    pub(super) first: u64,
    pub(super) end: u64,
}

/// Numbers the gaps of one node, and notes which have changed.
#[derive(Debug, Default)]
pub(super) struct Serials {
    pub(super) next: u64,
    pub(super) changed: Changed<u64>,
}

impl Gaps {
    /// Remembers `[first, end)`.
    pub(super) fn add(&mut self, told: RunningTime, first: u64, end: u64, serials: &mut Serials) {
        if self.ranges.len() >= GAPS_MAX
            && let Some(oldest) = self.ranges.pop_front()
        {
            serials.changed.note(oldest.serial);
        }
        let serial = serials.next;
        serials.next += 1;
        serials.changed.note(serial);
        self.ranges.push_back(Gap { serial, told, first, end });
    }

    /// The gap with this serial.
    pub(super) fn find(&self, serial: u64) -> Option<&Gap> {
        self.ranges.binary_search_by_key(&serial, |gap| gap.serial).ok().and_then(|index| self.ranges.get(index))
    }

    /// Takes a place out of the gap that it lies in, if that was told when `accepts` says; false otherwise.
    pub(super) fn take(&mut self, place: u64, accepts: impl Fn(RunningTime) -> bool, serials: &mut Serials) -> bool {
        let lies_in = |gap: &Gap| gap.first <= place && place < gap.end && accepts(gap.told);
        let Some(index) = self.ranges.iter().position(lies_in) else { return false };
        let Some(Gap { serial, told, first, end }) = self.ranges.remove(index) else { return false };
        serials.changed.note(serial);
        if first < place {
            self.ranges.insert(index, Gap { serial, told, first, end: place });
        }
        if place + 1 < end {
            self.add(told, place + 1, end, serials);
        }
        true
    }
}
