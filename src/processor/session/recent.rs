//! Tells apart what would get the same id: a number for each thing that is opened, by what it has in common with others.

use crate::processor::hashing::HashMap;
use crate::processor::record::Changed;
use crate::signal::{SpanId, TraceId};

/// How many things a generation remembers. Only what happens at one moment can have everything in common, so a storm of
/// twice as many different things between two of them would be needed to miss a repetition.
const GENERATION_MAX: usize = 4096;

/// What things have in common: the beginning of the id that the first of them gets. Two that look alike by chance only
/// get numbers that are larger than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Thing(pub(super) [u8; 8]);

impl Thing {
    /// A session without an id, by the trace that the first one like it gets.
    pub(super) fn of_trace(first: TraceId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = first.0;
        Self([a, b, c, d, e, f, g, h])
    }

    /// A connection, by the span that the first one like it gets.
    pub(super) const fn of_span(first: SpanId) -> Self {
        Self(first.0)
    }
}

/// How often each thing was opened. There are two generations: when the young one is full it becomes the old one, and
/// what is opened again moves to the young one.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    young: Generation,
    old: Generation,
    /// Generations and the places in them.
    pub(super) changed: Changed<(u64, u16)>,
}

/// Things in the order in which they came into the generation, and where each of them is.
#[derive(Debug, Default)]
struct Generation {
    number: u64,
    counts: Vec<(Thing, u32)>,
    places: HashMap<Thing, usize>,
}

impl Ordinals {
    /// How often this was opened before.
    pub(super) fn next(&mut self, thing: Thing) -> u32 {
        if let Some(&place) = self.young.places.get(&thing)
            && let Some((_, count)) = self.young.counts.get_mut(place)
        {
            let ordinal = *count;
            *count = count.saturating_add(1);
            self.changed.note((self.young.number, place as u16));
            return ordinal;
        }
        let ordinal = self.old.places.remove(&thing).and_then(|place| self.old.counts.get(place));
        let ordinal = ordinal.map_or(0, |&(_, count)| count);
        if self.young.counts.len() >= GENERATION_MAX {
            self.turn(self.young.number + 1);
        }
        self.changed.note((self.young.number, self.young.counts.len() as u16));
        self.young.add(thing, ordinal.saturating_add(1));
        ordinal
    }

    /// What is at a place of a generation, if that is still remembered.
    pub(super) fn at(&self, generation: u64, place: u16) -> Option<(Thing, u32)> {
        let generation = [&self.young, &self.old].into_iter().find(|known| known.number == generation)?;
        generation.counts.get(usize::from(place)).copied()
    }

    /// Everything that is remembered from a place of a generation on.
    pub(super) fn from(&self, (generation, place): (u64, u64)) -> impl Iterator<Item = (u64, u16, Thing, u32)> {
        let all = [&self.old, &self.young].into_iter().flat_map(|known| {
            let places = known.counts.iter().zip(0_u16..);
            places.map(|(&(thing, count), place)| (known.number, place, thing, count))
        });
        all.filter(move |&(number, at, ..)| (number, u64::from(at)) >= (generation, place))
    }

    /// Takes back what was at a place. Generations come in their order, and the places of each.
    pub(super) fn restore(&mut self, generation: u64, place: u16, thing: Thing, count: u32) -> Option<()> {
        if generation > self.young.number {
            self.turn(generation);
        }
        let is_next = generation == self.young.number && usize::from(place) == self.young.counts.len();
        if !is_next || usize::from(place) >= GENERATION_MAX || self.young.places.contains_key(&thing) {
            return None;
        }
        self.old.places.remove(&thing);
        self.young.add(thing, count);
        Some(())
    }

    /// Begins a generation; the one before the last is forgotten.
    fn turn(&mut self, number: u64) {
        let young = std::mem::replace(&mut self.young, Generation { number, ..Generation::default() });
        let forgotten = std::mem::replace(&mut self.old, young);
        for (_, place) in forgotten.counts.iter().zip(0_u16..) {
            self.changed.note((forgotten.number, place));
        }
    }
}

impl Generation {
    fn add(&mut self, thing: Thing, count: u32) {
        self.places.insert(thing, self.counts.len());
        self.counts.push((thing, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_again_and_again_is_counted_in_any_storm() {
        let mut ordinals = Ordinals::default();
        let thing = |number: u32| Thing::of_span(SpanId(u64::from(number).to_be_bytes()));
        for round in 0..10_000_u32 {
            assert_eq!(ordinals.next(thing(0)), round);
            assert_eq!(ordinals.next(thing(round + 1)), 0);
        }
        assert!(ordinals.young.counts.len() <= GENERATION_MAX && ordinals.old.counts.len() <= GENERATION_MAX);
    }
}
