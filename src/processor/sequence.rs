//! The order of one node's events: what comes twice, what is missing, and when a counter has restarted.
//!
//! The extended appender numbers its events from 1 to 2,147,483,647 and begins again with 1. *Places* count on where
//! numbers wrap, and everything below speaks of places. A number up to 16,777,216 ahead of the one that is expected next,
//! around the wrap too, lies ahead of it; any other lies before it. So much is never lost at once, and a counter that
//! restarts after a billion events must not look as if it had jumped.
//!
//! For a datagram at place `p`, where `next` is expected:
//!
//! * **First contact**: taken at once; what went before was not ours to hear, and is no gap.
//! * `p = next`: taken, and after it whatever was held for its place behind it.
//! * `p > next`: held, for a second or until too many are held. Then `[next, p)` is a gap, told of once, and it goes on.
//! * `p < next`, inside a gap that was told less than 10 s ago: taken, `late`. No proxy restarts and comes to the very
//!   number of a gap so soon, but a clock may be set back in the meantime.
//! * `p < next` and its time is more than 2 s after the last one taken in order: the counter has restarted. What is held
//!   goes first, then the restart is told, then `[1, number)` as a gap if the number is above 1.
//! * `p < next`, inside an older gap, or at most 1,000 before the first place of this count and within 60 s of it: taken,
//!   `late`, each place once.
//! * `p < next`, and nothing was taken in order for 60 s: the counter has restarted too, although the time does not say
//!   so. No network repeats itself after a minute, but a machine may come up with its clock set back.
//! * `p < next` otherwise: a duplicate. So is what is held already.
//!
//! A restart shown by its time is looked for before the older gaps: a datagram that is late is older than what overtook
//! it, so a later time speaks for a new count even where a gap is open at its number. For a minute after such a restart the
//! old count is remembered: a datagram whose time is nearer to its end than to the new beginning finds its place there.
//!
//! A datagram without a number is taken as it comes; one without a time counts as having happened when it came, and is
//! looked for in the gaps first.
//!
//! Stock datagrams have no number. The same bytes from the same source within 100 ms are a duplicate; and while the node
//! has sent extended datagrams within 24 h they are superseded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::event::{Datagram, Format};
use crate::time::{RunningTime, Timestamp};

mod gaps;
mod record;
#[cfg(test)]
mod tests;

use super::record::Changed;
use gaps::{Gaps, Serials};

pub(super) use record::StoredHeld;

/// The largest number; 1 follows it.
const NUMBER_MAX: u64 = 2_147_483_647;

/// How far ahead of the next place a number may be.
const AHEAD_MAX: u64 = 1 << 24;

/// How long an event is held for those before it.
const HOLD: Duration = Duration::from_secs(1);

/// Events of one node that are held at most.
const HELD_MAX: usize = 65_536;

/// Bytes that may be held of all nodes together. Beyond them nothing waits for its place.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many that were held are let go at a time. After a loss in a storm there are so many that all at once would be a
/// frame of a hundred megabytes.
const RELEASE_MAX: usize = 4096;

/// How much later than the last one taken an event with a lower number has to be for a restart.
const RESTART_LATER: Duration = Duration::from_secs(2);

/// How long after first contact events from before it may still come.
const CONTACT: Duration = Duration::from_secs(60);

/// How far before the first place an event may be.
const CONTACT_PLACES: u64 = 1000;

/// How long a gap is proof enough that what fills it is late, whatever its time.
const FRESH_GAP: Duration = Duration::from_secs(10);

/// How long nothing has to be taken in order for a lower number to be a restart.
const SILENCE: Duration = Duration::from_secs(60);

/// How long the old count is remembered after a restart.
const OLD_COUNT: Duration = Duration::from_secs(60);

/// How long stock datagrams are superseded after an extended one.
const SUPERSEDED: Duration = Duration::from_secs(24 * 3600);

/// How close two equal stock datagrams have to be to be one.
const STOCK_DUPLICATE: Duration = Duration::from_millis(100);

/// Stock datagrams that are compared with at most: 100 ms of 40,000 a second.
const STOCK_RECENT_MAX: usize = 4096;

/// A datagram that is an event, on its way to its place in the order.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Which appender wrote it.
    pub format: Format,
    /// Its number.
    pub sequence: Option<u32>,
    /// When the node says that it happened.
    pub time: Option<Timestamp>,
    /// The datagram itself.
    pub datagram: Datagram<'a>,
}

/// A datagram that was held, to be decoded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its bytes.
    pub bytes: Box<[u8]>,
    /// When it was received.
    pub received: Timestamp,
    time: Timestamp,
    since: RunningTime,
}

/// One step of a node's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These are missing.
    Gap {
        /// The first number.
        first: u32,
        /// The last number; below the first where the numbers wrapped.
        last: u32,
        /// How many they are.
        missing: u64,
    },
    /// The counter began anew.
    Restarted,
    /// The datagram on offer has its place here.
    Take {
        /// Whether events after it were taken before it.
        late: bool,
    },
    /// The datagram on offer is from before the last restart of the counter, and late.
    TakeOld,
    /// A datagram that was held has its place here.
    Release(Held),
    /// The datagram on offer was received before.
    Duplicate,
    /// The datagram on offer is a stock one of a node that sends extended ones.
    Superseded,
}

/// The order of one node's events.
#[derive(Debug, Default)]
pub struct Sequencer {
    count: Option<Count>,
    old: Option<OldCount>,
    held: BTreeMap<u64, Held>,
    /// The places of what is held, and of some that no longer are, in the order of their coming; the first is held.
    waiting: VecDeque<(RunningTime, u64)>,
    last_extended: Option<RunningTime>,
    recent: Recent,
    serials: Serials,
    /// Places at which something was held, or is no longer.
    changed: Changed<u64>,
}

/// One run of the counter.
#[derive(Debug)]
struct Count {
    /// Counts the runs of a node.
    run: u64,
    next: u64,
    first: u64,
    began: RunningTime,
    /// The time of the last event that was taken in order, and when it was taken.
    last_time: Timestamp,
    last_taken: RunningTime,
    gaps: Gaps,
    /// What was taken from before the first place.
    before_first: Vec<u64>,
}

/// The run before the last restart, for events that come from it.
#[derive(Debug)]
struct OldCount {
    count: Count,
    /// What happened up to here is from before the restart: half way between its last event and the first one after it.
    border: Timestamp,
    until: RunningTime,
}

impl Count {
    fn begin(run: u64, place: u64, time: Timestamp, now: RunningTime) -> Self {
        Self {
            run,
            next: place,
            first: place,
            began: now,
            last_time: time,
            last_taken: now,
            gaps: Gaps::default(),
            before_first: Vec::new(),
        }
    }

    /// The place that a number means.
    fn place(&self, number: u32) -> u64 {
        let ahead = (u64::from(number) + NUMBER_MAX - number_at(self.next)) % NUMBER_MAX;
        if ahead <= AHEAD_MAX { self.next + ahead } else { (self.next + ahead).saturating_sub(NUMBER_MAX) }
    }

    /// Whether a lower place is still to be had; it is then taken.
    fn take_late(&mut self, place: u64, now: RunningTime, serials: &mut Serials) -> bool {
        if self.gaps.take(place, |_| true, serials) {
            return true;
        }
        let before_first = place < self.first
            && place + CONTACT_PLACES >= self.first
            && now.since(self.began) <= CONTACT
            && !self.before_first.contains(&place);
        if before_first {
            self.before_first.push(place);
        }
        before_first
    }

    /// The gap up to `place`, which is then the next.
    fn skip_to(&mut self, place: u64, now: RunningTime, serials: &mut Serials) -> Option<Step> {
        if place <= self.next {
            return None;
        }
        let (first, missing) = (self.next, place - self.next);
        self.gaps.add(now, first, place, serials);
        self.next = place;
        Some(Step::Gap { first: shown(first), last: shown(place - 1), missing })
    }
}

impl Sequencer {
    /// Offers a datagram; `out` is told what happens, in the order in which it does. Held bytes of all nodes are counted
    /// in `held_bytes`.
    pub fn offer(
        &mut self,
        now: RunningTime,
        arrival: &Arrival<'_>,
        held_bytes: &mut usize,
        mut out: impl FnMut(Step),
    ) {
        if arrival.format == Format::Stock {
            return self.offer_stock(now, arrival, out);
        }
        self.last_extended = Some(now);
        let time = arrival.time.unwrap_or(arrival.datagram.received);
        let Some(number) = arrival.sequence else { return out(Step::Take { late: false }) };
        let Some(count) = &mut self.count else {
            // Two rounds below lie places for what came before, however far the numbers wrap.
            let mut count = Count::begin(1, u64::from(number) + 2 * NUMBER_MAX, time, now);
            count.next += 1;
            self.count = Some(count);
            return out(Step::Take { late: false });
        };
        if self.old.as_ref().is_some_and(|old| old.until > now && time <= old.border) {
            return self.offer_to_old_count(number, now, out);
        }
        let place = count.place(number);
        // What is held for the next place goes first, when its turn comes.
        let is_next_held = self.held.contains_key(&count.next);
        if place == count.next && !is_next_held {
            count.next += 1;
            (count.last_time, count.last_taken) = (time, now);
            out(Step::Take { late: false });
            self.release_following(now, RELEASE_MAX, held_bytes, &mut out);
        } else if place >= count.next {
            self.hold(now, place, time, arrival, held_bytes, out);
        } else if count.gaps.take(
            place,
            |told| arrival.time.is_none() || now.since(told) < FRESH_GAP,
            &mut self.serials,
        ) {
            out(Step::Take { late: true });
        } else if time > count.last_time + RESTART_LATER {
            self.restart(now, number, time, held_bytes, out);
        } else if count.take_late(place, now, &mut self.serials) {
            out(Step::Take { late: true });
        } else if now.since(count.last_taken) > SILENCE {
            self.restart(now, number, time, held_bytes, out);
        } else {
            out(Step::Duplicate);
        }
    }

    /// Lets go what has been held long enough, a bounded number of it; [`Self::deadline`] tells whether more is due at once.
    pub fn advance(&mut self, now: RunningTime, held_bytes: &mut usize, mut out: impl FnMut(Step)) {
        if self.old.as_ref().is_some_and(|old| old.until <= now) {
            self.forget_old_count();
        }
        let mut left = RELEASE_MAX;
        while left > 0 && self.deadline().is_some_and(|deadline| deadline <= now) {
            left -= self.release_lowest(now, left, held_bytes, &mut out).min(left);
        }
    }

    /// Lets go everything that is held.
    pub fn flush(&mut self, now: RunningTime, held_bytes: &mut usize, mut out: impl FnMut(Step)) {
        while !self.held.is_empty() {
            self.release_lowest(now, usize::MAX, held_bytes, &mut out);
        }
    }

    /// When to call [`Self::advance`] next.
    #[must_use]
    pub fn deadline(&self) -> Option<RunningTime> {
        let is_next_held = self.count.as_ref().is_some_and(|count| self.held.contains_key(&count.next));
        if is_next_held {
            return Some(RunningTime::START);
        }
        self.waiting.front().map(|&(since, _)| since + HOLD)
    }

    /// How many datagrams are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn offer_stock(&mut self, now: RunningTime, arrival: &Arrival<'_>, mut out: impl FnMut(Step)) {
        if self.last_extended.is_some_and(|last| now.since(last) < SUPERSEDED) {
            out(Step::Superseded);
        } else if self.recent.is_repeated(&arrival.datagram) {
            out(Step::Duplicate);
        } else {
            out(Step::Take { late: false });
        }
    }

    fn hold(
        &mut self,
        now: RunningTime,
        place: u64,
        time: Timestamp,
        arrival: &Arrival<'_>,
        held_bytes: &mut usize,
        mut out: impl FnMut(Step),
    ) {
        if self.held.contains_key(&place) {
            return out(Step::Duplicate);
        }
        let Datagram { bytes, received, .. } = arrival.datagram;
        *held_bytes += bytes.len();
        self.held.insert(place, Held { bytes: bytes.into(), received, time, since: now });
        self.waiting.push_back((now, place));
        self.changed.note(place);
        while self.held.len() > HELD_MAX || (*held_bytes > HELD_BYTES_MAX && !self.held.is_empty()) {
            self.release_lowest(now, 1, held_bytes, &mut out);
        }
    }

    fn restart(
        &mut self,
        now: RunningTime,
        number: u32,
        time: Timestamp,
        held_bytes: &mut usize,
        mut out: impl FnMut(Step),
    ) {
        self.flush(now, held_bytes, &mut out);
        out(Step::Restarted);
        self.forget_old_count();
        let run = self.count.as_ref().map_or(1, |count| count.run + 1);
        let mut count = Count::begin(run, 2 * NUMBER_MAX + 1, time, now);
        if let Some(gap) = count.skip_to(2 * NUMBER_MAX + u64::from(number), now, &mut self.serials) {
            out(gap);
        }
        count.next += 1;
        // Where the clock was set back nothing tells old from new.
        self.old = self.count.replace(count).map(|old| {
            let border = old.last_time + time.since(old.last_time) / 2;
            OldCount { count: old, border, until: now + OLD_COUNT }
        });
        if self.old.as_ref().is_some_and(|old| old.count.last_time >= time) {
            self.forget_old_count();
        }
        out(Step::Take { late: false });
    }

    fn offer_to_old_count(&mut self, number: u32, now: RunningTime, mut out: impl FnMut(Step)) {
        let Some(OldCount { count, .. }) = &mut self.old else { return };
        let place = count.place(number);
        // What the old count still waited for was never told as a gap: it is the end that nothing came after.
        let taken = if place >= count.next {
            if place > count.next {
                count.gaps.add(now, count.next, place, &mut self.serials);
            }
            count.next = place + 1;
            true
        } else {
            count.take_late(place, now, &mut self.serials)
        };
        out(if taken { Step::TakeOld } else { Step::Duplicate });
    }

    /// Forgets the run before the last restart, with its gaps.
    fn forget_old_count(&mut self) {
        for gap in self.old.take().iter().flat_map(|old| &old.count.gaps.ranges) {
            self.serials.changed.note(gap.serial);
        }
    }

    /// Gives up on what is missing before the lowest place that is held. Returns how many were let go.
    fn release_lowest(
        &mut self,
        now: RunningTime,
        max: usize,
        held_bytes: &mut usize,
        out: &mut impl FnMut(Step),
    ) -> usize {
        let (Some(count), Some(&lowest)) = (&mut self.count, self.held.keys().next()) else {
            // Nothing is held without a count.
            self.waiting.clear();
            self.held.clear();
            return max;
        };
        if let Some(gap) = count.skip_to(lowest, now, &mut self.serials) {
            out(gap);
        }
        self.release_following(now, max, held_bytes, out)
    }

    /// Lets go what is held for the next place, and the next. Returns how many that were.
    fn release_following(
        &mut self,
        now: RunningTime,
        max: usize,
        held_bytes: &mut usize,
        out: &mut impl FnMut(Step),
    ) -> usize {
        let Some(count) = &mut self.count else { return 0 };
        let mut released = 0;
        while released < max
            && let Some(entry) = self.held.first_entry()
            && *entry.key() <= count.next
        {
            self.changed.note(*entry.key());
            let held = entry.remove();
            *held_bytes = held_bytes.saturating_sub(held.bytes.len());
            count.next += 1;
            (count.last_time, count.last_taken) = (held.time, now);
            out(Step::Release(held));
            released += 1;
        }
        while self.waiting.front().is_some_and(|(_, place)| !self.held.contains_key(place)) {
            self.waiting.pop_front();
        }
        released
    }
}

/// The number at a place.
const fn number_at(place: u64) -> u64 {
    (place.saturating_sub(1)) % NUMBER_MAX + 1
}

fn shown(place: u64) -> u32 {
    u32::try_from(number_at(place)).unwrap_or(u32::MAX)
}

/// Stock datagrams that have just come, by the hash of source and bytes.
#[derive(Debug, Default)]
struct Recent {
    hasher: RandomState,
    seen: HashMap<u64, Timestamp>,
    order: VecDeque<(Timestamp, u64)>,
}

impl Recent {
    /// Whether the same datagram was received a moment ago. A keyed hash of 64 bits stands for it: among the 4,096 that
    /// are compared with, two different ones look alike once in some 10^15 datagrams.
    fn is_repeated(&mut self, datagram: &Datagram<'_>) -> bool {
        let received = datagram.received;
        while let Some(&(at, hash)) = self.order.front()
            && (!is_close(at, received) || self.order.len() >= STOCK_RECENT_MAX)
        {
            self.order.pop_front();
            if self.seen.get(&hash) == Some(&at) {
                self.seen.remove(&hash);
            }
        }
        let hash = self.hasher.hash_one((datagram.source, datagram.bytes));
        if self.seen.get(&hash).is_some_and(|&at| is_close(at, received)) {
            return true;
        }
        self.seen.insert(hash, received);
        self.order.push_back((received, hash));
        false
    }
}

/// In either order: the clock of the receiver may be set back.
fn is_close(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) <= STOCK_DUPLICATE
}
