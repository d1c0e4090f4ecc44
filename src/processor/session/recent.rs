//! Ids that were given out a moment ago.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Ids that are remembered at most. Only events of the same moment can come to the same id, so a storm of this many
/// between two of them would be needed to miss a repetition.
const RECENT_MAX: usize = 4096;

/// The last ids that were given out, oldest first.
#[derive(Debug)]
pub(super) struct Recent<T> {
    known: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Copy + Eq + Hash> Recent<T> {
    /// The first of the ids that `make` makes of 0, 1, 2 and so on that was not given out, and its number.
    pub(super) fn first_free(&mut self, make: impl Fn(u32) -> T) -> (u32, T) {
        let mut ordinal = 0;
        let mut id = make(ordinal);
        while !self.known.insert(id) {
            ordinal += 1;
            id = make(ordinal);
        }
        if self.order.len() >= RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id);
        (ordinal, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_given_out_once_while_it_is_remembered() {
        let mut recent = Recent::default();
        let given: Vec<_> = (0..3).map(|_| recent.first_free(|ordinal| ordinal).1).collect();
        assert_eq!(given, [0, 1, 2]);
        for base in 10..10 + RECENT_MAX {
            recent.first_free(|ordinal| ordinal + 1_000_000 * u32::try_from(base).expect("small"));
        }
        assert_eq!(recent.order.len(), RECENT_MAX);
        assert_eq!(recent.known.len(), RECENT_MAX);
        assert_eq!(recent.first_free(|ordinal| ordinal), (0, 0));
    }
}
