//! The core as it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::event::caseless;
use crate::processor::ids::Key;
use crate::processor::node::{Node, Nodes};
use crate::processor::sequence::{Sequencer, StoredHeld};
use crate::processor::session::Returning;
use crate::processor::{Config, Flow, Processor};

use super::Restored;
use super::detail::Memory;
use super::key::RecordKey;
use super::read::Reader;

impl Processor {
    /// The core as it was when these records were given out, each key with the last value it was put with. Records that
    /// cannot be read, or do not fit to the others, are skipped and counted in what is returned, and are deleted by the
    /// next [`Self::changes`]; their order does not matter.
    ///
    /// The limits of `config` apply: what is open beyond them ends as evicted with the first call of
    /// [`Self::advance`], for which [`Self::deadline`] then asks at once.
    pub fn restore(
        config: Config,
        key: &Key,
        records: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> (Self, Restored) {
        let mut restoring = Restoring {
            processor: Self::new(config, key),
            returning: Returning::default(),
            homeless: HashMap::new(),
            restored: Restored::default(),
        };
        // What the limits of now do not let back has to be deleted.
        restoring.processor.start_noting();
        let mut kinds: BTreeMap<u8, Vec<_>> = BTreeMap::new();
        for (key, value) in records {
            let kind = key.as_ref().first().copied().unwrap_or_default();
            if RecordKey::is_known(kind) {
                kinds.entry(kind).or_default().push((key, value));
            } else {
                restoring.restored.newer += 1;
                restoring.doom(key.as_ref());
            }
        }
        for mut records in kinds.into_values() {
            records.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
            let mut records = records.into_iter().peekable();
            while let Some((key, value)) = records.next() {
                let key = key.as_ref();
                // Of a key that is there twice, the last value counts.
                if records.peek().is_none_or(|(next, _)| next.as_ref() != key) {
                    restoring.record(key, value.as_ref());
                }
            }
        }
        restoring.finish()
    }
}

/// What became of a record.
enum Outcome {
    Restored,
    Damaged,
    /// There is no room for it under the limits of now.
    NoRoom,
}

/// A core on its way back.
struct Restoring {
    processor: Processor,
    returning: Returning,
    /// Nodes of sessions that there is no room for, by the key of their name.
    homeless: HashMap<Box<str>, Arc<Node>>,
    restored: Restored,
}

impl Restoring {
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let outcome = match RecordKey::decode(key).zip(value.split_first()) {
            Some((name, (version, _))) if *version > name.version() => {
                self.restored.newer += 1;
                return self.doom(key);
            }
            Some((name, (1.., rest))) => self.read(name, Reader::new(rest)).unwrap_or(Outcome::Damaged),
            _ => Outcome::Damaged,
        };
        match outcome {
            Outcome::Restored => return,
            Outcome::Damaged => self.restored.damaged += 1,
            Outcome::NoRoom => self.restored.no_room += 1,
        }
        self.doom(key);
    }

    /// Takes a record in; `None` is damage too.
    fn read(&mut self, key: RecordKey, mut reader: Reader<'_>) -> Option<Outcome> {
        let reader = &mut reader;
        let Self { processor, returning, restored, homeless } = self;
        let Processor { nodes, flow, held_bytes, records } = processor;
        let tracker = &mut flow.tracker;
        let is_room = match key {
            RecordKey::Core => {
                records.core = reader.clone().bytes(reader.left())?.to_vec();
                tracker.restore_core(reader, returning).map(|()| true)?
            }
            RecordKey::Node(number) => restore_node(number, nodes, reader)?,
            RecordKey::Gap(node, serial) => {
                nodes.with_number(node)?.sequencer.restore_gap(serial, reader).map(|()| true)?
            }
            RecordKey::Held(node, place) => {
                let stored = StoredHeld::read(node, place, &flow.ids, reader)?;
                let is_room = restore_held(node, stored, nodes, held_bytes)?;
                restored.held += usize::from(is_room);
                restored.held_of_too_many_nodes += u64::from(!is_room);
                is_room
            }
            RecordKey::Restarts(_) => tracker.restore_restarts(reader, |name| nodes.find_or_restore(name))?,
            RecordKey::Ended(order) => tracker.restore_ended(order, reader, |name| nodes.find_or_restore(name))?,
            RecordKey::Ordinal(of, generation, place) => {
                tracker.restore_ordinal(of, generation, place, reader).map(|()| true)?
            }
            RecordKey::Session(opened) => {
                let Flow { tracker, ids, privacy, length_max, identities, details, .. } = flow;
                let (privacy, length_max) = (*privacy, *length_max);
                let mut memory = Memory { ids, privacy, length_max, identities, details, concealed: false };
                let node = |name: &str| node_of(name, nodes, homeless);
                returning.read(opened, reader, &mut memory, tracker, node).map(|()| true)?
            }
        };
        Some(if is_room { Outcome::Restored } else { Outcome::NoRoom })
    }

    fn finish(mut self) -> (Processor, Restored) {
        let Flow { tracker, exclusions, .. } = &mut self.processor.flow;
        let excluded = self.returning.leave_out(|session| {
            let identity = &session.identity;
            let name = identity.user_name();
            name.is_some_and(|name| exclusions.excludes(identity.directory(), name))
        });
        self.restored.excluded = excluded.len() as u64;
        let doubles = tracker.restore_sessions(std::mem::take(&mut self.returning), &self.processor.nodes);
        self.restored.damaged += doubles.len() as u64;
        for opened in excluded.into_iter().chain(doubles) {
            self.doom(RecordKey::Session(opened).encode().as_slice());
        }
        let Self { mut processor, mut restored, .. } = self;
        let Processor { nodes, flow, .. } = &mut processor;
        for session in flow.tracker.sessions() {
            nodes.heard_of(session.node.index, session.last_activity());
        }
        restored.running = flow.tracker.latest();
        for known in nodes.iter_mut() {
            known.sequencer.settle();
            restored.running = restored.running.max(known.sequencer.latest());
        }
        restored.nodes = nodes.iter().count();
        restored.sessions = flow.tracker.open_sessions();
        (processor, restored)
    }

    /// Notes a record that is to be deleted.
    fn doom(&mut self, key: &[u8]) {
        self.processor.records.doomed.push(key.into());
    }
}

/// A node comes back under its number; false where there are too many.
fn restore_node(number: u32, nodes: &mut Nodes, reader: &mut Reader<'_>) -> Option<bool> {
    let name = reader.text().filter(|name| !name.is_empty())?;
    let last_event = reader.moment()?;
    let sequencer = Sequencer::read(reader)?;
    reader.end()?;
    if nodes.is_full() {
        return Some(false);
    }
    nodes.restore(number, name, sequencer, last_event).then_some(true)
}

/// A held datagram goes back to its node, which it names itself where the record of the node is lost.
fn restore_held(number: u32, stored: StoredHeld, nodes: &mut Nodes, held_bytes: &mut usize) -> Option<bool> {
    let index = match nodes.with_number(number) {
        Some(known) => Some(known.node.index),
        None => stored.held.event().and_then(|event| nodes.find_or_restore(&event.node)),
    };
    let Some(known) = index.and_then(|index| nodes.get_mut(index)) else { return Some(false) };
    known.sequencer.restore_held(stored, held_bytes).map(|()| true)
}

/// The node of a session, if need be one that there is no room for.
fn node_of(name: &str, nodes: &mut Nodes, homeless: &mut HashMap<Box<str>, Arc<Node>>) -> Arc<Node> {
    if let Some(known) = nodes.find_or_restore(name).and_then(|index| nodes.get(index)) {
        return Arc::clone(&known.node);
    }
    let place = homeless.len();
    let node = homeless.entry(caseless(name).into()).or_insert_with(|| Arc::new(nodes.homeless(name, place)));
    Arc::clone(node)
}
