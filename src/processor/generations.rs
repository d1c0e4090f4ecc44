//! A bounded cache of things that are said again and again.
//!
//! There are two generations. When the young one is full it becomes the old one, and the former old one goes; what is
//! still in use moves to the young one when it is next seen. Whoever holds an entry by reference count keeps it; all that
//! is lost by forgetting is the sharing.

use std::sync::Arc;

use hashbrown::HashTable;

/// How many entries a generation of a cache holds: with texts at the default limit, some 8 MiB in both at the very most.
const GENERATION_MAX: usize = 1024;

/// Entries by what they say.
#[derive(Debug)]
pub(super) struct Generations<T> {
    young: HashTable<Arc<T>>,
    old: HashTable<Arc<T>>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: HashTable::new(), old: HashTable::new() }
    }
}

impl<T> Generations<T> {
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
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
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

    #[test]
    fn a_cache_stays_bounded_and_keeps_what_is_in_use() {
        let mut cache: Generations<usize> = Generations::default();
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
