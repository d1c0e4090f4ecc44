//! Everything that the core shows of itself at one moment.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use crate::processor::view::SessionView;
use crate::signal::TraceId;
use crate::telemetry::NodeActivity;
use crate::time::Timestamp;

use super::{Day, Ended, Happening};

/// How many apps are summed up.
const APPS_MAX: usize = 12;

/// What is open, and what happened last.
#[derive(Debug)]
pub struct Picture {
    /// When it was finished, by the page's clock.
    pub at: Timestamp,
    /// Every open session, in no particular order.
    pub sessions: Vec<SessionView>,
    /// What is open on each node.
    pub nodes: Vec<NodeActivity>,
    /// The last events, oldest first.
    pub happenings: Vec<Happening>,
    /// The last connections that ended, oldest first.
    pub ended: Vec<Ended>,
    /// Today so far.
    pub day: Day,
    digest: OnceLock<Digest>,
}

/// What a picture comes to. Made when somebody wants to know, and then once.
#[derive(Debug)]
pub(super) struct Digest {
    /// Different users, whatever the node.
    pub(super) users: usize,
    /// Open connections.
    pub(super) connections: usize,
    /// The apps that are open in the most sessions, and in how many.
    pub(super) apps: Vec<(String, usize)>,
}

impl Picture {
    /// A picture of these parts.
    #[must_use]
    pub const fn new(
        at: Timestamp,
        sessions: Vec<SessionView>,
        nodes: Vec<NodeActivity>,
        happenings: Vec<Happening>,
        ended: Vec<Ended>,
        day: Day,
    ) -> Self {
        Self { at, sessions, nodes, happenings, ended, day, digest: OnceLock::new() }
    }

    pub(super) fn digest(&self) -> &Digest {
        self.digest.get_or_init(|| Digest::of(&self.sessions))
    }

    /// The connections that have ended lately, by the trace of their session.
    pub(super) fn ended_by_trace(&self) -> HashMap<TraceId, Vec<&Ended>> {
        let mut by_trace: HashMap<TraceId, Vec<&Ended>> = HashMap::new();
        for ended in &self.ended {
            by_trace.entry(ended.trace_id).or_default().push(ended);
        }
        by_trace
    }
}

impl Digest {
    fn of(sessions: &[SessionView]) -> Self {
        let users: HashSet<_> = sessions.iter().map(|session| session.identity.key).collect();
        let connections = sessions.iter().map(|session| session.connections_open).sum();
        let mut apps: HashMap<&str, (usize, usize)> = HashMap::new();
        for (index, session) in sessions.iter().enumerate() {
            for connection in &session.connections {
                let Some(app) = connection.target.app_name.as_deref().or(connection.target.app_id.as_deref()) else {
                    continue;
                };
                let (count, last) = apps.entry(app).or_insert((0, usize::MAX));
                // Two tabs of one app are one session with it.
                if *last != index {
                    (*count, *last) = (*count + 1, index);
                }
            }
        }
        let mut apps: Vec<(&str, usize)> = apps.into_iter().map(|(app, (count, _))| (app, count)).collect();
        apps.sort_unstable_by_key(|&(app, count)| (Reverse(count), app));
        apps.truncate(APPS_MAX);
        let apps = apps.into_iter().map(|(app, count)| (app.to_owned(), count)).collect();
        Self { users: users.len(), connections, apps }
    }
}
