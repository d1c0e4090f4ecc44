//! Where sessions are found: by id, by user, by age, by deadline.
//!
//! Every session sits in one slab. Two chains run through it, linked in the sessions themselves so that a login storm
//! allocates nothing for them: one per user, most recently active first, and one per class of eviction, next victim
//! first. One ordered set holds each session's earliest deadline; a deadline that has moved later in the meantime is
//! found out when it comes up, so that an event costs no change in the set.

use std::collections::BTreeSet;

use slab::Slab;

use crate::processor::hashing::HashMap;
use crate::processor::ids::{SessionKey, UserKey};
use crate::processor::record::Changed;
use crate::time::{RunningTime, Timestamp};

use super::ended::{Ended, EndedIds};
use super::state::Session;

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

#[derive(Clone, Copy, Debug)]
struct Chain {
    head: Slot,
    tail: Slot,
    length: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, length: 0 }
    }
}

/// The open sessions of one user on one node.
#[derive(Clone, Copy, Debug, Default)]
struct OfUser {
    chain: Chain,
    /// How many of them have no id.
    without_id: usize,
}

type LinksOf = fn(&mut Session) -> &mut Links;

impl Chain {
    fn push_front(&mut self, sessions: &mut Slab<Session>, slot: Slot, links: LinksOf) {
        with(sessions, slot, |session| *links(session) = Links { before: NONE, after: self.head });
        with(sessions, self.head, |session| links(session).before = slot);
        self.head = slot;
        if self.tail == NONE {
            self.tail = slot;
        }
        self.length += 1;
    }

    fn push_back(&mut self, sessions: &mut Slab<Session>, slot: Slot, links: LinksOf) {
        with(sessions, slot, |session| *links(session) = Links { before: self.tail, after: NONE });
        with(sessions, self.tail, |session| links(session).after = slot);
        self.tail = slot;
        if self.head == NONE {
            self.head = slot;
        }
        self.length += 1;
    }

    fn remove(&mut self, sessions: &mut Slab<Session>, slot: Slot, links: LinksOf) {
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
        self.length = self.length.saturating_sub(1);
    }
}

fn with(sessions: &mut Slab<Session>, slot: Slot, change: impl FnOnce(&mut Session)) {
    if let Some(session) = sessions.get_mut(slot as usize) {
        change(session);
    }
}

const fn by_user(session: &mut Session) -> &mut Links {
    &mut session.by_user
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
    ids: HashMap<(u16, SessionKey), Slot>,
    users: HashMap<(u16, UserKey), OfUser>,
    ages: [Chain; 3],
    /// What is due at the same moment comes in the order in which it was opened.
    deadlines: BTreeSet<(RunningTime, u64, Slot)>,
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
        self.ids.get(&(node, id)).copied()
    }

    /// The ended session with this id.
    pub(super) fn find_ended(&self, node: u16, id: SessionKey) -> Option<Ended> {
        self.ended.find(node, id)
    }

    /// A user's open sessions on a node, most recently active first; no more than [`OF_USER_MAX`].
    pub(super) fn of_user(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        self.chained(self.users.get(&(node, user)))
    }

    /// Those of them that have no id. Almost always there are none, and then none of the others is looked at: going
    /// through the 200 sessions that each user has in the bench with 100,000 open ones was half of what an event cost.
    pub(super) fn of_user_without_id(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        let of_user = self.users.get(&(node, user)).filter(|of_user| of_user.without_id > 0);
        self.chained(of_user).filter(|(_, session)| session.id.is_none())
    }

    fn chained(&self, of_user: Option<&OfUser>) -> impl Iterator<Item = (Slot, &Session)> {
        let first = of_user.map_or(NONE, |of_user| of_user.chain.head);
        let with_session = |slot: Slot| self.get(slot).map(|session| (slot, session));
        std::iter::successors(with_session(first), move |(_, session)| with_session(session.by_user.after))
            .take(OF_USER_MAX)
    }

    /// A user's open sessions on a node, least recently active first; no more than [`OF_USER_MAX`].
    pub(super) fn of_user_reversed(&self, node: u16, user: UserKey) -> impl Iterator<Item = (Slot, &Session)> {
        let first = self.users.get(&(node, user)).map_or(NONE, |of_user| of_user.chain.tail);
        let with_session = |slot: Slot| self.get(slot).map(|session| (slot, session));
        std::iter::successors(with_session(first), move |(_, session)| with_session(session.by_user.before))
            .take(OF_USER_MAX)
    }

    /// Takes in a session that begins. Its deadline must be set.
    pub(super) fn insert(&mut self, session: Session) -> Slot {
        let (node, user, id) = (session.node.index, session.identity.key, session.id);
        let (deadline, opened, changed) = (session.deadline, session.opened, session.changed);
        let connections = session.connections.len();
        let slot = self.sessions.insert(session) as Slot;
        if changed {
            self.changed.note(slot);
        }
        if let Some(id) = id {
            self.ended.forget(node, id);
            self.ids.insert((node, id), slot);
        }
        let of_user = self.users.entry((node, user)).or_default();
        let first = of_user.chain.length == 0;
        of_user.chain.push_front(&mut self.sessions, slot, by_user);
        of_user.without_id += usize::from(id.is_none());
        let class = self.class(slot);
        if let Some(chain) = self.ages.get_mut(class) {
            chain.push_back(&mut self.sessions, slot, by_age);
        }
        self.deadlines.insert((deadline, opened, slot));
        let activity = self.activity_of(node);
        activity.sessions += 1;
        activity.connections += connections;
        activity.users += usize::from(first);
        slot
    }

    /// Takes out a session that has ended. Its id is remembered, if it has one.
    pub(super) fn remove(&mut self, slot: Slot, end: Timestamp, now: RunningTime, remembered_max: usize) {
        let class = self.class(slot);
        if let Some(chain) = self.ages.get_mut(class) {
            chain.remove(&mut self.sessions, slot, by_age);
        }
        let Some((node, user, id)) =
            self.get(slot).map(|session| (session.node.index, session.identity.key, session.id))
        else {
            return;
        };
        let mut last = false;
        if let Some(of_user) = self.users.get_mut(&(node, user)) {
            of_user.chain.remove(&mut self.sessions, slot, by_user);
            of_user.without_id = of_user.without_id.saturating_sub(usize::from(id.is_none()));
            last = of_user.chain.length == 0;
        }
        if last {
            self.users.remove(&(node, user));
        }
        let Some(session) = self.sessions.try_remove(slot as usize) else { return };
        self.gone.note(session.opened);
        self.deadlines.remove(&(session.deadline, session.opened, slot));
        let activity = self.activity_of(node);
        activity.sessions = activity.sessions.saturating_sub(1);
        activity.connections = activity.connections.saturating_sub(session.connections.len());
        activity.users = activity.users.saturating_sub(usize::from(last));
        if let Some(id) = session.id {
            self.ids.remove(&(node, id));
            self.ended.remember(node, id, &session, end, now, remembered_max);
        }
    }

    /// Gives a session without an id the id that it turned out to have.
    pub(super) fn adopt(&mut self, slot: Slot, id: SessionKey) {
        let Some((node, user)) = self.get(slot).map(|session| (session.node.index, session.identity.key)) else {
            return;
        };
        if let Some(of_user) = self.users.get_mut(&(node, user)) {
            of_user.without_id = of_user.without_id.saturating_sub(1);
        }
        // The class of eviction depends on the id, so the session leaves its chain under the old one.
        self.reorder(slot, |session| session.id = Some(id));
        self.ids.insert((node, id), slot);
    }

    /// Makes a session the most recently active one of its user and the last in line for eviction.
    pub(super) fn touch(&mut self, slot: Slot) {
        let Some((node, user)) = self.get(slot).map(|session| (session.node.index, session.identity.key)) else {
            return;
        };
        if let Some(OfUser { chain, .. }) = self.users.get_mut(&(node, user))
            && chain.head != slot
        {
            chain.remove(&mut self.sessions, slot, by_user);
            chain.push_front(&mut self.sessions, slot, by_user);
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
            self.deadlines.remove(&(session.deadline, session.opened, slot));
            session.deadline = deadline;
            self.deadlines.insert((deadline, session.opened, slot));
        }
    }

    /// The earliest deadline of all, of sessions and of remembered ids.
    pub(super) fn deadline(&self) -> Option<RunningTime> {
        let session = self.deadlines.first().map(|&(deadline, ..)| deadline);
        session.into_iter().chain(self.ended.deadline()).min()
    }

    /// A session whose deadline has come.
    pub(super) fn due(&self, now: RunningTime) -> Option<Slot> {
        self.deadlines.first().filter(|&&(deadline, ..)| deadline <= now).map(|&(.., slot)| slot)
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
            Some(session) if session.alone && session.id.is_none() => 0,
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
