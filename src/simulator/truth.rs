//! What really happened, to hold a receiver's findings against.

use std::net::IpAddr;

use crate::event::{Action, Guid, TraceParent};
use crate::time::Timestamp;

/// Everything that has happened so far. Indexes point into the lists beside them and never change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Host names of the proxy nodes, as they stand in the datagrams.
    pub nodes: Vec<String>,
    /// Every event in the order in which it happened, delivered or not. On each node that is the order of its sequence.
    pub events: Vec<Event>,
    /// Every session in the order in which it started.
    pub sessions: Vec<Session>,
}

/// One log event of a proxy node, and so one datagram unless [`Fate`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened: whole milliseconds, as the extended format carries it.
    pub time: Timestamp,
    /// Index of its node.
    pub node: usize,
    /// The node's counter, from 1; absent in the stock format.
    pub sequence: Option<u32>,
    /// What happened.
    pub action: Action,
    /// Index of its session.
    pub session: usize,
    /// Index into the session's connections; `None` for session events and for a connection that was refused.
    pub connection: Option<usize>,
    /// Whether it failed: an opening of a connection with a Result other than 0, which changes nothing.
    pub refused: bool,
    /// What became of its datagram.
    pub fate: Fate,
}

/// What became of a datagram on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Sent once, at once.
    Sent,
    /// Never sent.
    Lost,
    /// Sent twice, the second time up to 20 ms later.
    Duplicated,
    /// Sent 1 to 30 ms late: whatever happens on its node in the meantime overtakes it.
    Delayed,
}

/// One proxy session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Index of its node.
    pub node: usize,
    /// The proxy session id as it stands in the datagrams, lower case where it is a GUID.
    pub id: String,
    /// The user's directory.
    pub user_directory: String,
    /// The user's name in the directory.
    pub user_name: String,
    /// The browser's User-Agent string, in the messages of its connections.
    pub user_agent: &'static str,
    /// Prefix of the virtual proxy, empty for the default one; in the Context of its connections.
    pub virtual_proxy: &'static str,
    /// Address of the client, in the messages of its connections.
    pub client: IpAddr,
    /// Time of its Start.
    pub start: Timestamp,
    /// Time of its Stop; `None` while it lasts, and for ever where no Stop ever comes.
    pub end: Option<Timestamp>,
    /// Every connection in the order of opening.
    pub connections: Vec<Connection>,
}

/// One connection to an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The app's id.
    pub app: Guid,
    /// The app's name, in the ObjectName of the extended format.
    pub app_name: &'static str,
    /// The path of its Context, without the query.
    pub path: String,
    /// The trace context in the query of its Context, of the Open and the Close.
    pub traceparent: Option<TraceParent>,
    /// Time of its Open.
    pub open: Timestamp,
    /// Time of its Close; `None` while it lasts, and for ever where no Close ever comes.
    pub close: Option<Timestamp>,
}

/// Sequence numbers of one node that were lost although later ones were sent: `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gap {
    /// Index of the node.
    pub node: usize,
    /// The first number missing.
    pub first: u32,
    /// The last number missing.
    pub last: u32,
}

impl Truth {
    /// The gaps that a receiver which heard everything else must find, in the order in which they can be known.
    ///
    /// What a node lost before its first datagram and after its last one is in no gap: nobody can know it.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut heard: Vec<Option<u32>> = vec![None; self.nodes.len()];
        let mut gaps = Vec::new();
        for event in self.events.iter().filter(|event| event.fate != Fate::Lost) {
            let (Some(sequence), Some(last)) = (event.sequence, heard.get_mut(event.node)) else { continue };
            if let Some(before) = last.replace(sequence)
                && let Some(missing) = sequence.checked_sub(before + 1)
                && missing > 0
            {
                gaps.push(Gap { node: event.node, first: before + 1, last: sequence - 1 });
            }
        }
        gaps
    }

    /// How many events have this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.events.iter().filter(|event| event.fate == fate).count()
    }
}
