//! A bounded cache of things that are said again and again.
//!
//! There are two generations. When the young one is full it becomes the old one, and the former old one goes; what is
//! still in use moves to the young one when it is next seen. Whoever holds an entry by reference count keeps it; all that
//! is lost by forgetting is the sharing.

use std::sync::Arc;

use hashbrown::HashTable;

/// Entries by what they say.
#[derive(Debug)]
pub(super) struct Generations<T> {
    /// How many entries a generation holds.
    max: usize,
    young: HashTable<Arc<T>>,
    old: HashTable<Arc<T>>,
}

impl<T> Generations<T> {
    /// Empty, and with at most twice `max` entries ever.
    pub(super) fn new(max: usize) -> Self {
        Self { max, young: HashTable::new(), old: HashTable::new() }
    }

    /// The entry that is `same`, or the one that `make` makes; `rehash` gives back the hash of an entry.
    pub(super) fn get(
        &mut self,
        hash: u64,
        same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
        rehash: impl Fn(&T) -> u64,
    ) -> Arc<T> {
        if let Some(known) = self.young.find(hash, |entry| same(entry)) {
            return Arc::clone(known);
        }
        if self.young.len() >= self.max {
            // The table of the old ones is the next young one: it has grown already.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let entry = match self.old.find(hash, |entry| same(entry)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(make()),
        };
        self.young.insert_unique(hash, Arc::clone(&entry), |entry| rehash(entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION_MAX: usize = 100;

    #[test]
    fn a_cache_stays_bounded_and_keeps_what_is_in_use() {
        let mut cache: Generations<usize> = Generations::new(GENERATION_MAX);
        let favourite = cache.get(0, |entry| *entry == 0, || 0, |entry| *entry as u64);
        for number in 1..10 * GENERATION_MAX {
            cache.get(number as u64, |entry| *entry == number, || number, |entry| *entry as u64);
            let again = cache.get(0, |entry| *entry == 0, || 0, |entry| *entry as u64);
            assert!(Arc::ptr_eq(&again, &favourite), "lost at {number}");
        }
        assert!(cache.young.len() <= GENERATION_MAX);
        assert!(cache.old.len() <= GENERATION_MAX);
    }
}
