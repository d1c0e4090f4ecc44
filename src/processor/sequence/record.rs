//! What is stored of a node's order. The bytes are described in the head of [`processor::record`](crate::processor::record).

use crate::event::{self, Event};
use crate::processor::ids::Ids;
use crate::processor::record::{Ledger, Reader, RecordKey, Scribe, Writer, is_counter};
use crate::time::{RunningTime, Timestamp};

use super::gaps::{Gap, Gaps};
use super::{CONTACT, CONTACT_PLACES, Count, Held, OldCount, Sequencer};

const HAS_EXTENDED: u8 = 1;
const HAS_COUNT: u8 = 2;
const HAS_OLD: u8 = 4;

/// A held datagram that was stored: its place, its run, and what was held.
#[derive(Debug)]
pub(in crate::processor) struct StoredHeld {
    pub(in crate::processor) place: u64,
    pub(in crate::processor) run: u64,
    pub(in crate::processor) held: Held,
}

impl Sequencer {
    /// Begins to note what changes.
    pub(in crate::processor) fn start_noting(&mut self) {
        self.serials.changed.start();
        self.changed.start();
    }

    /// Everything but what has records of its own.
    pub(in crate::processor) fn write(&self, writer: &mut Writer<'_>) {
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        let flags = flag(self.last_extended.is_some(), HAS_EXTENDED)
            | flag(self.count.is_some(), HAS_COUNT)
            | flag(self.old.is_some(), HAS_OLD);
        writer.byte(flags);
        if let Some(last) = self.last_extended {
            writer.running(last);
        }
        writer.number(self.serials.next);
        if let Some(count) = &self.count {
            count.write(writer);
        }
        if let Some(OldCount { count, border, until }) = &self.old {
            count.write(writer);
            writer.moment(*border);
            writer.running(*until);
        }
    }

    pub(in crate::processor) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.byte().filter(|flags| flags & !(HAS_EXTENDED | HAS_COUNT | HAS_OLD) == 0)?;
        let mut sequencer = Self::default();
        if flags & HAS_EXTENDED != 0 {
            sequencer.last_extended = Some(reader.running()?);
        }
        sequencer.serials.next = reader.counter()?;
        if flags & HAS_COUNT != 0 {
            sequencer.count = Some(Count::read(reader)?);
        }
        if flags & HAS_OLD != 0 {
            let count = Count::read(reader)?;
            sequencer.old = Some(OldCount { count, border: reader.moment()?, until: reader.running()? });
        }
        Some(sequencer)
    }

    /// Writes the gaps and held datagrams that have changed.
    pub(in crate::processor) fn changes(&mut self, node: u32, ids: &Ids, scribe: &mut Scribe<'_, impl Ledger>) {
        let serials = self.serials.changed.take();
        for &serial in &serials {
            match self.counts().find_map(|count| Some((count.run, count.gaps.find(serial)?))) {
                Some((run, gap)) => put_gap(node, run, gap, scribe),
                None => scribe.delete(RecordKey::Gap(node, serial)),
            }
        }
        self.serials.changed.reuse(serials);
        let places = self.changed.take();
        for &place in &places {
            match self.held.get(&place) {
                Some(held) => self.put_held(node, place, held, ids, scribe),
                None => scribe.delete(RecordKey::Held(node, place)),
            }
        }
        self.changed.reuse(places);
    }

    /// Writes gaps from this serial on; where to go on if the scribe is full before the end.
    pub(in crate::processor) fn gaps(&self, node: u32, from: u64, scribe: &mut Scribe<'_, impl Ledger>) -> Option<u64> {
        let mut gaps: Vec<(u64, &Gap)> = Vec::new();
        for count in self.counts() {
            let behind = count.gaps.ranges.iter().filter(|gap| gap.serial >= from);
            gaps.extend(behind.map(|gap| (count.run, gap)));
        }
        gaps.sort_unstable_by_key(|(_, gap)| gap.serial);
        for (run, gap) in gaps {
            if scribe.is_full() {
                return Some(gap.serial);
            }
            put_gap(node, run, gap, scribe);
        }
        None
    }

    /// Writes held datagrams from this place on; where to go on if the scribe is full before the end.
    pub(in crate::processor) fn held_from(
        &self,
        node: u32,
        from: u64,
        ids: &Ids,
        scribe: &mut Scribe<'_, impl Ledger>,
    ) -> Option<u64> {
        for (&place, held) in self.held.range(from..) {
            if scribe.is_full() {
                return Some(place);
            }
            self.put_held(node, place, held, ids, scribe);
        }
        None
    }

    /// Takes a gap back into its run.
    pub(in crate::processor) fn restore_gap(&mut self, serial: u64, reader: &mut Reader<'_>) -> Option<()> {
        let run = reader.counter()?;
        let (told, first, length) = (reader.running()?, reader.counter()?, reader.counter()?);
        reader.end()?;
        let counts = self.count.iter_mut().chain(self.old.iter_mut().map(|old| &mut old.count));
        let count = counts.into_iter().find(|count| count.run == run)?;
        let end = first + length;
        let is_sound =
            length > 0 && end <= count.next && count.gaps.ranges.back().is_none_or(|gap| gap.serial < serial);
        if !is_sound {
            return None;
        }
        count.gaps.ranges.push_back(Gap { serial, told, first, end });
        self.serials.next = self.serials.next.max(serial + 1);
        Some(())
    }

    /// Takes a held datagram back. Where its count was not stored, what is held is a count of its own.
    pub(in crate::processor) fn restore_held(&mut self, stored: StoredHeld, held_bytes: &mut usize) -> Option<()> {
        let StoredHeld { place, run, held } = stored;
        let count = self.count.get_or_insert_with(|| Count::begin(run, place, Timestamp::EPOCH, held.since));
        let is_ahead = place > count.next || (self.held.is_empty() && place == count.next);
        if count.run != run || !is_ahead {
            return None;
        }
        *held_bytes += held.bytes.len();
        self.waiting.push_back((held.since, place));
        self.held.insert(place, held);
        Some(())
    }

    /// Puts in order what came back in the order of places.
    pub(in crate::processor) fn settle(&mut self) {
        self.waiting.make_contiguous().sort_unstable();
    }

    /// The latest running time that is known of.
    pub(in crate::processor) fn latest(&self) -> RunningTime {
        let held = self.held.values().map(|held| held.since);
        held.chain(self.last_extended).max().unwrap_or_default()
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        self.count.iter().chain(self.old.iter().map(|old| &old.count))
    }

    fn put_held(&self, node: u32, place: u64, held: &Held, ids: &Ids, scribe: &mut Scribe<'_, impl Ledger>) {
        let run = self.count.as_ref().map_or(0, |count| count.run);
        scribe.put(RecordKey::Held(node, place), |writer| {
            writer.number(run);
            writer.moment(held.received);
            writer.moment(held.time);
            writer.running(held.since);
            let mut covered = held.bytes.clone();
            ids.cover(&name_of(node, run, place, held.received), &mut covered);
            writer.bytes(&covered);
        });
    }
}

impl StoredHeld {
    /// Reads a held datagram; `None` as well where another key covered it.
    pub(in crate::processor) fn read(node: u32, place: u64, ids: &Ids, reader: &mut Reader<'_>) -> Option<Self> {
        let (run, received) = (reader.counter()?, reader.moment()?);
        let (time, since) = (reader.moment()?, reader.running()?);
        let mut bytes: Box<[u8]> = reader.bytes(reader.left())?.into();
        ids.cover(&name_of(node, run, place, received), &mut bytes);
        let held = Held { bytes, received, time, since };
        held.event().is_some().then_some(Self { place, run, held })
    }
}

impl Held {
    /// What it says.
    pub(in crate::processor) fn event(&self) -> Option<Event<'_>> {
        event::decode(&self.bytes).ok()
    }
}

impl Count {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.number(self.run);
        writer.number(self.next);
        writer.number(self.next.saturating_sub(self.first));
        writer.running(self.began);
        writer.moment(self.last_time);
        writer.running(self.last_taken);
        let early = self.early();
        let length = early.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        writer.byte(length as u8);
        writer.bytes(early.get(..length).unwrap_or_default());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (run, next) = (reader.counter()?, reader.counter()?);
        let first = next.checked_sub(reader.counter()?)?;
        let (began, last_time, last_taken) = (reader.running()?, reader.moment()?, reader.running()?);
        let length = usize::from(reader.byte()?);
        let mut before_first = Vec::new();
        for (&byte, index) in reader.bytes(length)?.iter().zip(0_u64..) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                before_first.push(first.checked_sub(index * 8 + bit + 1)?);
            }
        }
        if next == 0 || !is_counter(run) {
            return None;
        }
        Some(Self { run, next, first, began, last_time, last_taken, gaps: Gaps::default(), before_first })
    }

    /// A bit for each place before the first that was taken, the nearest first; none once they may not come any more.
    fn early(&self) -> [u8; CONTACT_PLACES as usize / 8] {
        let mut early = [0; CONTACT_PLACES as usize / 8];
        if self.last_taken.since(self.began) <= CONTACT {
            for &place in &self.before_first {
                let distance = self.first.saturating_sub(place).saturating_sub(1);
                if let Some(byte) = usize::try_from(distance / 8).ok().and_then(|index| early.get_mut(index)) {
                    *byte |= 1 << (distance % 8);
                }
            }
        }
        early
    }
}

fn put_gap(node: u32, run: u64, gap: &Gap, scribe: &mut Scribe<'_, impl Ledger>) {
    scribe.put(RecordKey::Gap(node, gap.serial), |writer| {
        writer.number(run);
        writer.running(gap.told);
        writer.number(gap.first);
        writer.number(gap.end.saturating_sub(gap.first));
    });
}

/// A name that no other held datagram of the store has.
fn name_of(node: u32, run: u64, place: u64, received: Timestamp) -> [u8; 28] {
    let mut name = [0; 28];
    let parts = node.to_be_bytes().into_iter().chain(run.to_be_bytes()).chain(place.to_be_bytes());
    for (byte, part) in name.iter_mut().zip(parts.chain(received.as_nanos().to_be_bytes())) {
        *byte = part;
    }
    name
}
