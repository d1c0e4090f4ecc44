//! Tells apart what would get the same id: a number for each thing that is opened, by what it has in common with others.

use std::hash::Hash;

use crate::processor::hashing::HashMap;

/// How many things a generation remembers. Only what happens at one moment can have everything in common, so a storm of
/// twice as many different things between two of them would be needed to miss a repetition.
const GENERATION_MAX: usize = 4096;

/// How often each thing was opened. There are two generations: when the young one is full it becomes the old one, and
/// what is opened again moves to the young one.
#[derive(Debug)]
pub(super) struct Ordinals<T> {
    young: HashMap<T, u32>,
    old: HashMap<T, u32>,
}

impl<T> Default for Ordinals<T> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<T: Eq + Hash> Ordinals<T> {
    /// How often this was opened before.
    pub(super) fn next(&mut self, thing: T) -> u32 {
        if let Some(count) = self.young.get_mut(&thing) {
            let ordinal = *count;
            *count = count.saturating_add(1);
            return ordinal;
        }
        let ordinal = self.old.remove(&thing).unwrap_or_default();
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(thing, ordinal.saturating_add(1));
        ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_again_and_again_is_counted_in_any_storm() {
        let mut ordinals = Ordinals::default();
        for round in 0..10_000_u32 {
            assert_eq!(ordinals.next(0), round);
            assert_eq!(ordinals.next(round + 1), 0);
        }
        assert!(ordinals.young.len() <= GENERATION_MAX && ordinals.old.len() <= GENERATION_MAX);
    }
}
