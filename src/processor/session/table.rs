//! Where sessions are found: by id, by user, by age, by deadline.
//!
//! Every session sits in one slab, and is known everywhere else by its place there: the tables of ids and users hold
//! places only, and ask the session whether it is the one. Chains run through the slab, linked in the sessions themselves
//! so that a login storm allocates nothing for them: one per user, most recently active first, and one per class of
//! eviction, next victim first. One ordered set holds each session's earliest deadline; a deadline that has moved later
//! in the meantime is found out when it comes up, so that an event costs no change in the set.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use slab::Slab;

use crate::processor::hashing::Seeded;
use crate::processor::ids::{SessionKey, UserKey};
use crate::processor::record::Changed;
use crate::time::{RunningTime, Timestamp};

use super::compact::Session;
use super::deadlines::Deadlines;
use super::ended::{Ended, EndedIds};

/// Place of a session in the slab.
pub(super) type Slot = u32;

const NONE: Slot = Slot::MAX;

/// How many sessions of one user are looked at for an event without an id, so that one user cannot slow down the rest.
/// Qlik Sense itself allows five at a time.
const OF_USER_MAX: usize = 256;

/// Neighbours in a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: Slot,
    after: Slot,
}

impl Default for Links {
    fn default() -> Self {
        Self { before: NONE, after: NONE }
    }
}

/// Sessions that are linked with each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: Slot,
    tail: Slot,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

/// The open sessions of one user on one node, in a ring: before the most recently active one comes the least.
#[derive(Clone, Copy, Debug)]
struct OfUser {
    head: Slot,
    /// How many of them have no id.
    without_id: u32,
}

impl OfUser {
    /// Makes a session, which is in no ring, the most recently active one.
    fn push_front(&mut self, sessions: &mut Slab<Session>, slot: Slot) {
        let Some(tail) = sessions.get(self.head as usize).map(|head| head.by_user.before) else { return };
        with(sessions, slot, |session| session.by_user = Links { before: tail, after: self.head });
        with(sessions, self.head, |session| session.by_user.before = slot);
        with(sessions, tail, |session| session.by_user.after = slot);
        self.head = slot;
    }

    /// Takes a session out; whether none is left.
    fn remove(&mut self, sessions: &mut Slab<Session>, slot: Slot) -> bool {
        let Some(Links { before, after }) = sessions.get(slot as usize).map(|session| session.by_user) else {
            return false;
        };
        if after == slot {
            return true;
        }
        with(sessions, before, |session| session.by_user.after = after);
        with(sessions, after, |session| session.by_user.before = before);
        if self.head == slot {
            self.head = after;
        }
        false
    }
}

pub(super) type LinksOf = fn(&mut Session) -> &mut Links;

impl Chain {
    pub(super) const fn is_empty(self) -> bool {
        self.head == NONE
    }

    pub(super) fn push_back(&mut self, sessions: &mut Slab<Session>, slot: Slot, links: LinksOf) {
        with(sessions, slot, |session| *links(session) = Links { before: self.tail, after: NONE });
        with(sessions, self.tail, |session| links(session).after = slot);
        self.tail = slot;
        if self.head == NONE {
            self.head = slot;
        }
    }

    pub(super) fn remove(&mut self, sessions: &mut Slab<Session>, slot: Slot, links: LinksOf) {
        let Some(Links { before, after }) = sessions.get_mut(slot as usize).map(|session| *links(session)) else {
            return;
        };
        with(sessions, before, |session| links(session).after = after);
        with(sessions, after, |session| links(session).before = before);
        if self.head == slot {
            self.head = after;
        }
        if self.tail == slot {
            self.tail = before;
        }
    }

    pub(super) fn pop_front(&mut self, sessions: &mut Slab<Session>, links: LinksOf) -> Option<Slot> {
        let first = (self.head != NONE).then_some(self.head)?;
        self.remove(sessions, first, links);
        Some(first)
    }
}

fn with(sessions: &mut Slab<Session>, slot: Slot, change: impl FnOnce(&mut Session)) {
    if let Some(session) = sessions.get_mut(slot as usize) {
        change(session);
    }
}

const fn by_age(session: &mut Session) -> &mut Links {
    &mut session.by_age
}

/// How much of a node is going on right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeActivity {
    /// Open sessions.
    pub sessions: usize,
    /// Open connections.
    pub connections: usize,
    /// Users with at least one open session.
    pub users: usize,
}

/// All open sessions, and the ids of ended ones.
#[derive(Debug, Default)]
pub(super) struct Table {
    sessions: Slab<Session>,
    hasher: Seeded,
    ids: HashTable<Slot>,
    users: HashTable<OfUser>,
    ages: [Chain; 3],
    deadlines: Deadlines,
    pub(super) ended: EndedIds,
    /// Sessions whose records are out of date; some have ended since.
    pub(super) changed: Changed<Slot>,
    /// The numbers of sessions that have ended.
    pub(super) gone: Changed<u64>,
    activity: Vec<NodeActivity>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Session> {
        self.sessions.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.note(slot);
        self.sessions.get_mut(slot as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Session)> {
        self.sessions.iter().map(|(slot, session)| (slot as Slot, session))
    }

    /// All open sessions, the next to be given up first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (Slot, &Session)> {
        let with_session = |slot: Slot| self.get(slot).map(|session| (slot, session));
        self.ages.iter().flat_map(move |chain| {
            std::iter::successors(with_session(chain.head), move |(_, session)| with_session(session.by_age.after))
        })
    }

    /// Open sessions, connections and users of each node, by the node's index.
    pub(super) fn activity(&self) -> &[NodeActivity] {
        &self.activity
    }

    /// The open session with this id.
    pub(super) fn find(&self, node: u16, id: SessionKey) -> Option<Slot> {
        let is_it = |slot: &Slot| is_of_id(&self.sessions, *slot, node, id);
        self.ids.find(self.hasher.hash_one((node, Some(id))), is_it).copied()
    }

    /// The ended session with this id.
    pub(super) fn find_ended(&self, node: u16, id: SessionKey) -> Option<Ended> {
        self.ended.find(node, id)
    }

    /// A user's open sessions on a node, most recently active first; no more than [`OF_USER_MAX`].
    pub(super) fn of_user(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        self.chained(self.user(node, user))
    }

    /// Those of them that have no id. Almost always there are none, and then none of the others is looked at: going
    /// through the 200 sessions that each user has in the bench with 100,000 open ones was half of what an event cost.
    pub(super) fn of_user_without_id(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        let of_user = self.user(node, user).filter(|of_user| of_user.without_id > 0);
        self.chained(of_user).filter(|(_, session)| !session.has_id())
    }

    fn user(&self, node: u16, user: UserKey) -> Option<&OfUser> {
        self.users.find(self.hasher.hash_one((node, user)), |known| is_of_user(&self.sessions, known, node, user))
    }

    fn user_mut(&mut self, node: u16, user: UserKey) -> Option<&mut OfUser> {
        let Self { users, sessions, hasher, .. } = self;
        users.find_mut(hasher.hash_one((node, user)), |known| is_of_user(sessions, known, node, user))
    }

    fn chained(&self, of_user: Option<&OfUser>) -> impl Iterator<Item = (Slot, &Session)> {
        let first = of_user.map_or(NONE, |of_user| of_user.head);
        self.around(first, move |session| (session.by_user.after != first).then_some(session.by_user.after))
    }

    /// A user's open sessions on a node, least recently active first; no more than [`OF_USER_MAX`].
    pub(super) fn of_user_reversed(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        let head = self.user(node, user).map_or(NONE, |of_user| of_user.head);
        let first = self.get(head).map_or(NONE, |session| session.by_user.before);
        self.around(first, move |session| (session.by_user.before != first).then_some(session.by_user.before))
    }

    fn around(&self, first: Slot, next: impl Fn(&Session) -> Option<Slot>) -> impl Iterator<Item = (Slot, &Session)> {
        let with_session = |slot: Slot| self.get(slot).map(|session| (slot, session));
        std::iter::successors(with_session(first), move |(_, session)| with_session(next(session)?)).take(OF_USER_MAX)
    }

    /// Takes in a session that begins. Its deadline must be set.
    pub(super) fn insert(&mut self, session: Session) -> Slot {
        let (node, user, id, changed) = (session.node.index, session.identity.key, session.id(), session.changed);
        let connections = session.connections().len();
        let slot = self.sessions.insert(session) as Slot;
        if changed {
            self.changed.note(slot);
        }
        if let Some(id) = id {
            self.ended.forget(node, id);
            self.insert_id(slot, node, id);
        }
        let is_first = self.insert_into_user(slot, node, user, id.is_none());
        let class = self.class(slot);
        if let Some(chain) = self.ages.get_mut(class) {
            chain.push_back(&mut self.sessions, slot, by_age);
        }
        self.deadlines.insert(&mut self.sessions, slot);
        let activity = self.activity_of(node);
        activity.sessions += 1;
        activity.connections += connections;
        activity.users += usize::from(is_first);
        slot
    }

    fn insert_id(&mut self, slot: Slot, node: u16, id: SessionKey) {
        let Self { ids, sessions, hasher, .. } = self;
        let rehash = |slot: &Slot| {
            let of_session = |session: &Session| hasher.hash_one((session.node.index, session.id()));
            sessions.get(*slot as usize).map_or(0, of_session)
        };
        ids.insert_unique(hasher.hash_one((node, Some(id))), slot, rehash);
    }

    /// Makes a session the most recently active one of its user; whether it is the only one.
    fn insert_into_user(&mut self, slot: Slot, node: u16, user: UserKey, is_without_id: bool) -> bool {
        let Self { users, sessions, hasher, .. } = self;
        let hash = hasher.hash_one((node, user));
        if let Some(known) = users.find_mut(hash, |known| is_of_user(sessions, known, node, user)) {
            known.push_front(sessions, slot);
            known.without_id += u32::from(is_without_id);
            return false;
        }
        with(sessions, slot, |session| session.by_user = Links { before: slot, after: slot });
        let of_user = OfUser { head: slot, without_id: u32::from(is_without_id) };
        let rehash = |known: &OfUser| {
            let of_session = |session: &Session| hasher.hash_one((session.node.index, session.identity.key));
            sessions.get(known.head as usize).map_or(0, of_session)
        };
        users.insert_unique(hash, of_user, rehash);
        true
    }

    /// Takes a session out of those of its user; whether it was the only one.
    fn remove_from_user(&mut self, slot: Slot, node: u16, user: UserKey, is_without_id: bool) -> bool {
        let Self { users, sessions, hasher, .. } = self;
        let hash = hasher.hash_one((node, user));
        let Ok(mut known) = users.find_entry(hash, |known| is_of_user(sessions, known, node, user)) else {
            return false;
        };
        let of_user = known.get_mut();
        of_user.without_id = of_user.without_id.saturating_sub(u32::from(is_without_id));
        let is_last = of_user.remove(sessions, slot);
        if is_last {
            known.remove();
        }
        is_last
    }

    /// Takes out a session that has ended. Its id is remembered, if it has one.
    pub(super) fn remove(&mut self, slot: Slot, end: Timestamp, now: RunningTime, remembered_max: usize) {
        let class = self.class(slot);
        if let Some(chain) = self.ages.get_mut(class) {
            chain.remove(&mut self.sessions, slot, by_age);
        }
        let of_session = |session: &Session| (session.node.index, session.identity.key, session.id());
        let Some((node, user, id)) = self.get(slot).map(of_session) else { return };
        let is_last = self.remove_from_user(slot, node, user, id.is_none());
        self.deadlines.remove(&mut self.sessions, slot);
        if let Some(id) = id
            && let Ok(known) = self.ids.find_entry(self.hasher.hash_one((node, Some(id))), |known| *known == slot)
        {
            known.remove();
        }
        let Some(session) = self.sessions.try_remove(slot as usize) else { return };
        self.gone.note(session.opened);
        let activity = self.activity_of(node);
        activity.sessions = activity.sessions.saturating_sub(1);
        activity.connections = activity.connections.saturating_sub(session.connections().len());
        activity.users = activity.users.saturating_sub(usize::from(is_last));
        if let Some(id) = id {
            self.ended.remember(node, id, &session, end, now, remembered_max);
        }
    }

    /// Gives a session without an id the id that it turned out to have.
    pub(super) fn adopt(&mut self, slot: Slot, id: SessionKey) {
        let Some((node, user)) = self.get(slot).map(|session| (session.node.index, session.identity.key)) else {
            return;
        };
        if let Some(of_user) = self.user_mut(node, user) {
            of_user.without_id = of_user.without_id.saturating_sub(1);
        }
        // The class of eviction depends on the id, so the session leaves its chain under the old one.
        self.reorder(slot, |session| session.set_id(id));
        self.insert_id(slot, node, id);
    }

    /// Makes a session the most recently active one of its user and the last in line for eviction.
    pub(super) fn touch(&mut self, slot: Slot) {
        let Some((node, user)) = self.get(slot).map(|session| (session.node.index, session.identity.key)) else {
            return;
        };
        let Self { users, sessions, hasher, .. } = self;
        let hash = hasher.hash_one((node, user));
        if let Some(of_user) = users.find_mut(hash, |known| is_of_user(sessions, known, node, user))
            && of_user.head != slot
        {
            of_user.remove(sessions, slot);
            of_user.push_front(sessions, slot);
        }
        self.reorder(slot, |session| session.alone = false);
    }

    /// Notes how many connections of a session came or went.
    pub(super) fn count_connections(&mut self, node: u16, opened: usize, closed: usize) {
        let activity = self.activity_of(node);
        activity.connections = (activity.connections + opened).saturating_sub(closed);
    }

    /// Sets a session's earliest deadline.
    pub(super) fn schedule(&mut self, slot: Slot, deadline: RunningTime) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        if session.deadline != deadline {
            if !session.changed {
                session.changed = true;
                self.changed.note(slot);
            }
            self.deadlines.remove(&mut self.sessions, slot);
            with(&mut self.sessions, slot, |session| session.deadline = deadline);
            self.deadlines.insert(&mut self.sessions, slot);
        }
    }

    /// The earliest deadline of all, of sessions and of remembered ids.
    pub(super) fn deadline(&self) -> Option<RunningTime> {
        let session = self.deadlines.first().map(|(deadline, _)| deadline);
        session.into_iter().chain(self.ended.deadline()).min()
    }

    /// A session whose deadline has come.
    pub(super) fn due(&self, now: RunningTime) -> Option<Slot> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, slot)| slot)
    }

    /// The session to give up first: with an opening event only, oldest first, without id before with; then the one
    /// that was least recently active.
    pub(super) fn victim(&self) -> Option<Slot> {
        self.ages.iter().map(|chain| chain.head).find(|&slot| slot != NONE)
    }

    /// Begins to note what changes.
    pub(super) fn start_noting(&mut self) {
        self.sessions.iter_mut().for_each(|(_, session)| session.changed = false);
        self.changed.start();
        self.gone.start();
        self.ended.changed.start();
    }

    /// A session whose record is out of date, which is then no longer so.
    pub(super) fn take_changed(&mut self, slot: Slot) -> Option<&Session> {
        let session = self.sessions.get_mut(slot as usize).filter(|session| session.changed)?;
        session.changed = false;
        Some(session)
    }

    /// Every session is at a place below this one.
    pub(super) fn slots(&self) -> Slot {
        Slot::try_from(self.sessions.capacity()).unwrap_or(Slot::MAX)
    }

    /// Notes that a session changes.
    fn note(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && !session.changed
        {
            session.changed = true;
            self.changed.note(slot);
        }
    }

    fn reorder(&mut self, slot: Slot, change: impl FnOnce(&mut Session)) {
        let before = self.class(slot);
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        change(session);
        let after = self.class(slot);
        let stays_last = before == after && self.ages.get(after).is_some_and(|chain| chain.tail == slot);
        if stays_last {
            return;
        }
        if let Some(chain) = self.ages.get_mut(before) {
            chain.remove(&mut self.sessions, slot, by_age);
        }
        if let Some(chain) = self.ages.get_mut(after) {
            chain.push_back(&mut self.sessions, slot, by_age);
        }
    }

    fn class(&self, slot: Slot) -> usize {
        match self.get(slot) {
            Some(session) if session.alone && !session.has_id() => 0,
            Some(session) if session.alone => 1,
            _ => 2,
        }
    }

    fn activity_of(&mut self, node: u16) -> &mut NodeActivity {
        let index = usize::from(node);
        if self.activity.len() <= index {
            self.activity.resize(index + 1, NodeActivity::default());
        }
        &mut self.activity[index]
    }
}

fn is_of_id(sessions: &Slab<Session>, slot: Slot, node: u16, id: SessionKey) -> bool {
    let session = sessions.get(slot as usize);
    session.is_some_and(|session| session.node.index == node && session.id() == Some(id))
}

fn is_of_user(sessions: &Slab<Session>, known: &OfUser, node: u16, user: UserKey) -> bool {
    let session = sessions.get(known.head as usize);
    session.is_some_and(|session| session.node.index == node && session.identity.key == user)
}
