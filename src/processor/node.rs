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
}

/// All nodes, up to a limit: a node is made up by whoever sends a datagram.
#[derive(Debug)]
pub(super) struct Nodes {
    by_key: HashMap<Box<str>, usize>,
    nodes: Vec<Known>,
    nodes_max: usize,
    length_max: usize,
    resource: Vec<(String, String)>,
}

impl Nodes {
    /// No nodes yet. `resource` is added to what is known of each.
    pub(super) fn new(nodes_max: usize, length_max: usize, resource: Vec<(String, String)>) -> Self {
        let nodes_max = nodes_max.min(usize::from(u16::MAX));
        Self { by_key: HashMap::default(), nodes: Vec::new(), nodes_max, length_max, resource }
    }

    /// The node with this name, new if need be; `None` when there are too many.
    pub(super) fn find_or_add(&mut self, name: &str) -> Option<&mut Known> {
        let name = text::cut(name, self.length_max);
        let key = caseless(&name);
        let index = match self.by_key.get(key.as_ref()) {
            Some(&index) => index,
            None if self.nodes.len() >= self.nodes_max => return None,
            None => self.add(&name, &key),
        };
        self.nodes.get_mut(index)
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
        let own = mapping::resource(name).map(|(key, value)| (key.to_owned(), value.to_owned()));
        // What the node is called is not for the configuration to say.
        let configured = self.resource.iter().filter(|(key, _)| !own.iter().any(|(ours, _)| ours == key)).cloned();
        let attributes = own.iter().cloned().chain(configured).collect();
        let node = Node {
            index: u16::try_from(index).unwrap_or(u16::MAX),
            name: name.into(),
            key: key.into(),
            resource: Arc::new(Resource { attributes }),
        };
        self.by_key.insert(key.into(), index);
        let last_event = Timestamp::EPOCH;
        self.nodes.push(Known { node: Arc::new(node), sequencer: Sequencer::default(), last_event });
        index
    }
}
