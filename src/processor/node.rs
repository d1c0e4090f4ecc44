//! The proxy nodes that we have heard of, each with the order of its events.

use std::sync::Arc;

use crate::event::{caseless, text};
use crate::signal::Resource;
use crate::time::{RunningTime, Timestamp};

use super::hashing::HashMap;
use super::mapping;
use super::sequence::Sequencer;

/// One proxy node.
#[derive(Debug)]
pub struct Node {
    /// Its place in the order in which nodes were first heard of.
    pub index: u16,
    /// Its name as first sent.
    pub name: Box<str>,
    /// Its name in the form that is compared and hashed.
    pub key: Box<str>,
    /// What its signals are sent under.
    pub resource: Arc<Resource>,
}

/// A node with what changes about it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) node: Arc<Node>,
    pub(super) sequencer: Sequencer,
    /// When its last event was received.
    pub(super) last_event: Timestamp,
    /// Its number in records: the order in which nodes were first heard of, without those that were forgotten.
    pub(super) number: u32,
    /// Whether its record is out of date.
    pub(super) changed: bool,
}

/// All nodes, up to a limit: a node is made up by whoever sends a datagram.
#[derive(Debug)]
pub(super) struct Nodes {
    by_key: HashMap<Box<str>, usize>,
    nodes: Vec<Known>,
    nodes_max: usize,
    length_max: usize,
    resource: Vec<(String, String)>,
    number_next: u32,
    noting: bool,
}

impl Nodes {
    /// No nodes yet. `resource` is added to what is known of each.
    pub(super) fn new(nodes_max: usize, length_max: usize, resource: Vec<(String, String)>) -> Self {
        let nodes_max = nodes_max.min(usize::from(u16::MAX));
        Self {
            by_key: HashMap::default(),
            nodes: Vec::new(),
            nodes_max,
            length_max,
            resource,
            number_next: 0,
            noting: false,
        }
    }

    /// The node with this name, new if need be; `None` when there are too many.
    pub(super) fn find_or_add(&mut self, name: &str) -> Option<&mut Known> {
        let index = self.place_of(name)?;
        let known = self.nodes.get_mut(index)?;
        known.changed = true;
        Some(known)
    }

    /// A node by its place.
    pub(super) fn get(&self, index: u16) -> Option<&Known> {
        self.nodes.get(usize::from(index))
    }

    /// A node by its place.
    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut Known> {
        self.nodes.get_mut(usize::from(index))
    }

    /// A node by its number in records.
    pub(super) fn with_number(&mut self, number: u32) -> Option<&mut Known> {
        let index = self.nodes.binary_search_by_key(&number, |known| known.number).ok()?;
        self.nodes.get_mut(index)
    }

    /// Whether there is no room for another node.
    pub(super) fn is_full(&self) -> bool {
        self.nodes.len() >= self.nodes_max
    }

    /// Takes back a node that was stored under this number, in the order of numbers; false where its name is taken.
    pub(super) fn restore(&mut self, number: u32, name: &str, mut sequencer: Sequencer, last_event: Timestamp) -> bool {
        let name = text::cut(name, self.length_max);
        let key = caseless(&name);
        if self.by_key.contains_key(key.as_ref()) {
            return false;
        }
        self.number_next = number;
        let index = self.add(&name, &key);
        if self.noting {
            sequencer.start_noting();
        }
        if let Some(known) = self.nodes.get_mut(index) {
            (known.sequencer, known.last_event, known.changed) = (sequencer, last_event, false);
        }
        true
    }

    /// The place of a node that something was stored of, if there is room for it.
    pub(super) fn find_or_restore(&mut self, name: &str) -> Option<u16> {
        self.place_of(name).and_then(|index| u16::try_from(index).ok())
    }

    fn place_of(&mut self, name: &str) -> Option<usize> {
        let name = text::cut(name, self.length_max);
        let key = caseless(&name);
        match self.by_key.get(key.as_ref()) {
            Some(&index) => Some(index),
            None if self.is_full() => None,
            None => Some(self.add(&name, &key)),
        }
    }

    /// Something of a node happened at this moment, which says something only where nothing else is known of it.
    pub(super) fn heard_of(&mut self, index: u16, moment: Timestamp) {
        if let Some(known) = self.nodes.get_mut(usize::from(index)).filter(|known| known.changed) {
            known.last_event = known.last_event.max(moment);
        }
    }

    /// A node that there is no room for; `place` tells it from others like it.
    pub(super) fn homeless(&self, name: &str, place: usize) -> Node {
        let name = text::cut(name, self.length_max);
        self.node(&name, &caseless(&name), self.nodes_max.saturating_add(place))
    }

    /// Begins to note what changes, of nodes that are yet to come too.
    pub(super) fn start_noting(&mut self) {
        self.noting = true;
        self.nodes.iter_mut().for_each(|known| known.sequencer.start_noting());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.nodes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.nodes.iter_mut()
    }

    pub(super) fn deadline(&self) -> Option<RunningTime> {
        self.nodes.iter().filter_map(|known| known.sequencer.deadline()).min()
    }

    pub(super) fn held(&self) -> usize {
        self.nodes.iter().map(|known| known.sequencer.held()).sum()
    }

    fn add(&mut self, name: &str, key: &str) -> usize {
        let index = self.nodes.len();
        let node = Arc::new(self.node(name, key, index));
        self.by_key.insert(key.into(), index);
        let mut sequencer = Sequencer::default();
        if self.noting {
            sequencer.start_noting();
        }
        let number = self.number_next;
        self.number_next = number.saturating_add(1);
        self.nodes.push(Known { node, sequencer, last_event: Timestamp::EPOCH, number, changed: true });
        index
    }

    fn node(&self, name: &str, key: &str, index: usize) -> Node {
        let own = mapping::resource(name).map(|(key, value)| (key.to_owned(), value.to_owned()));
        // What the node is called is not for the configuration to say.
        let configured = self.resource.iter().filter(|(key, _)| !own.iter().any(|(ours, _)| ours == key)).cloned();
        let attributes = own.iter().cloned().chain(configured).collect();
        Node {
            index: u16::try_from(index).unwrap_or(u16::MAX),
            name: name.into(),
            key: key.into(),
            resource: Arc::new(Resource { attributes }),
        }
    }
}
