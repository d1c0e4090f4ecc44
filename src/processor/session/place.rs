//! Which session an event belongs to. The rules are told in the head of the parent module.

use std::time::Duration;

use crate::event::Guid;
use crate::time::Timestamp;

use super::compact::Session;
use super::ended::Ended;
use super::state::Start;
use super::table::Slot;
use super::{Occurrence, SessionTracker};

/// How far apart a Start and the session that it confirms may be.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Where an event belongs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Open(Slot),
    Ended(Ended),
    Nowhere,
}

impl SessionTracker {
    /// The session of an event that is no Start.
    pub(super) fn place_of(
        &mut self,
        occurrence: &Occurrence<'_>,
        without_id: impl FnOnce(&Self) -> Option<Slot>,
    ) -> Place {
        let Some(id) = occurrence.id else {
            return without_id(self).map_or(Place::Nowhere, Place::Open);
        };
        let node = occurrence.node.index;
        if let Some(slot) = self.table.find(node, id) {
            return Place::Open(slot);
        }
        if let Some(ended) = self.table.find_ended(node, id) {
            return Place::Ended(ended);
        }
        let anonymous = self.table.of_user_without_id(node, occurrence.identity.key);
        match anonymous.min_by_key(|(_, session)| (session.start, session.opened)).map(|(slot, _)| slot) {
            Some(slot) => {
                self.table.adopt(slot, id);
                Place::Open(slot)
            }
            None => Place::Nowhere,
        }
    }

    pub(super) fn place_of_start(&mut self, occurrence: &Occurrence<'_>) -> Place {
        let node = occurrence.node.index;
        if let Some(id) = occurrence.id {
            if let Some(slot) = self.table.find(node, id) {
                return Place::Open(slot);
            }
            if let Some(ended) = self.table.find_ended(node, id) {
                return Place::Ended(ended);
            }
        }
        let user = occurrence.identity.key;
        let is_close = |session: &Session| apart(session.start, occurrence.time) <= CONFIRM_WITHIN;
        let sole = match occurrence.id {
            Some(_) => sole(self.table.of_user_without_id(node, user).filter(|(_, session)| is_close(session))),
            None => {
                let inferred = |session: &Session| session.started == Start::Inferred;
                sole(self.table.of_user(node, user).filter(|(_, session)| inferred(session) && is_close(session)))
            }
        };
        let Some(slot) = sole else { return Place::Nowhere };
        if let Some(id) = occurrence.id {
            self.table.adopt(slot, id);
        }
        Place::Open(slot)
    }

    pub(super) fn most_recently_active(&self, occurrence: &Occurrence<'_>) -> Option<Slot> {
        self.table.of_user(occurrence.node.index, occurrence.identity.key).next().map(|(slot, _)| slot)
    }

    pub(super) fn least_recently_active(&self, occurrence: &Occurrence<'_>) -> Option<Slot> {
        let (node, user) = (occurrence.node.index, occurrence.identity.key);
        let idle = self.table.of_user_reversed(node, user).find(|(_, session)| session.connections().is_empty());
        idle.or_else(|| self.table.of_user_reversed(node, user).next()).map(|(slot, _)| slot)
    }

    /// The session with the oldest open connection to the app. Without one the Close still is a sign of life, and the
    /// most recently active session gets it.
    pub(super) fn with_connection_to(&self, occurrence: &Occurrence<'_>, app: Option<Guid>) -> Option<Slot> {
        let (node, user) = (occurrence.node.index, occurrence.identity.key);
        let open = |session: &Session| {
            let index = session.find_connection(app)?;
            session.connections().get(index).map(|connection| connection.open)
        };
        let candidates =
            self.table.of_user(node, user).filter_map(|(slot, session)| Some((open(session)?, session.opened, slot)));
        let found = match app {
            Some(_) => candidates.min().map(|(.., slot)| slot),
            None => {
                let all = self.table.of_user(node, user).map(|(_, session)| session.connections().len()).sum::<usize>();
                candidates.map(|(.., slot)| slot).next().filter(|_| all == 1)
            }
        };
        found.or_else(|| self.most_recently_active(occurrence))
    }
}

/// The only one of these sessions.
fn sole<'a>(mut sessions: impl Iterator<Item = (Slot, &'a Session)>) -> Option<Slot> {
    let (slot, _) = sessions.next()?;
    sessions.next().is_none().then_some(slot)
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
