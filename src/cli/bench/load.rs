//! The load: datagrams that are encoded once, of which each sending changes only what differs from event to event.
//!
//! Every session starts, opens an app, closes it and stops: four events, with those of other sessions between them. An
//! event is known by its user and its kind, wherever it turns up again.

use fastrand::Rng;
use memchr::memmem;

use crate::event::{Action, Format};
use crate::simulator::wire::{Record, encode_extended, encode_stock};
use crate::simulator::{APP_NAMES, USER_AGENTS};
use crate::time::Timestamp;

/// Proxy nodes, each with a socket and a counter of its own.
pub(super) const NODES: u64 = 4;
/// Users of the site; each has one session at a time.
pub(super) const USERS: u64 = 20_000;
/// Kinds of events.
pub(super) const KINDS: usize = 4;
/// After so many events there are as many ends as beginnings.
pub(super) const WARM_UP_EVENTS: u64 = KINDS as u64 * KINDS as u64 * LAG * NODES;
/// What stands before the number of a user in a body or user id.
pub(super) const USER_PREFIX: &str = "user-";
/// Digits of the number of a user.
pub(super) const USER_DIGITS: usize = 5;

/// Sessions that a node starts between two events of one session.
const LAG: u64 = 60;
/// Users with the same number modulo this have the same browser and app.
const VARIANTS: u64 = 60;
const ACTIONS: [Action; KINDS] =
    [Action::SessionStart, Action::ConnectionOpen, Action::ConnectionClose, Action::SessionStop];

const USER: &str = "user-00000";
const SESSION: &str = "c0de0000-0000-0000-0000-000000000000";
/// Counters begin here, so that they always have ten digits.
const SEQUENCE: u32 = 1_000_000_000;
/// Digits of a session id that differ, behind `c0de`.
const SESSION_DIGITS: [std::ops::Range<usize>; 5] = [4..8, 9..13, 14..18, 19..23, 24..36];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// By what an event is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Below [`USERS`].
    pub(super) user: u64,
    /// Below [`KINDS`]: start, open, close, stop.
    pub(super) kind: usize,
    /// How many sessions the user has had before.
    pub(super) round: u64,
}

/// What one node sends, one event after the other, for ever.
#[derive(Debug)]
pub(super) struct NodeLoad {
    node: u64,
    /// By kind and variant.
    templates: Vec<Template>,
    next: u64,
    sequence: u32,
    /// A millisecond since the epoch and its text.
    time: (u64, String),
}

/// A datagram, and where in it stands what differs.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    users: Vec<usize>,
    sessions: Vec<usize>,
    sequence: Option<usize>,
    time: Option<usize>,
}

impl NodeLoad {
    /// The load of the node with this number, below [`NODES`].
    pub(super) fn new(format: Format, node: u64) -> Self {
        let templates = ACTIONS.iter().flat_map(|action| {
            (0..VARIANTS).map(move |variant| Template::new(format, node, *action, variant as usize))
        });
        Self { node, templates: templates.collect(), next: 0, sequence: SEQUENCE, time: (u64::MAX, String::new()) }
    }

    /// Writes the next datagram in the place of what is in `datagram`.
    pub(super) fn write_next(&mut self, now: Timestamp, datagram: &mut Vec<u8>) -> Event {
        let (kind, session) = self.advance();
        let event = Event { user: session % USERS, kind, round: session / USERS };
        let millis = now.as_nanos() / 1_000_000;
        if self.time.0 != millis {
            self.time = (millis, date(millis));
        }
        let place = kind * VARIANTS as usize + (event.user % VARIANTS) as usize;
        if let Some(template) = self.templates.get(place) {
            template.write(event.user, session, self.sequence, &self.time.1, datagram);
        }
        self.sequence += 1;
        event
    }

    /// The next event's kind and session, which is numbered over all nodes.
    fn advance(&mut self) -> (usize, u64) {
        loop {
            let (turn, kind) = (self.next / KINDS as u64, self.next % KINDS as u64);
            self.next += 1;
            if let Some(session) = turn.checked_sub(kind * LAG) {
                return (kind as usize, session * NODES + self.node);
            }
        }
    }
}

impl Template {
    fn new(format: Format, node: u64, action: Action, variant: usize) -> Self {
        let is_connection = matches!(action, Action::ConnectionOpen | Action::ConnectionClose);
        let app = random_guid(variant);
        let host = format!("pro2-win{}", node + 1);
        let context = format!("/app/{app}?reloaduri=https://{host}/sense/app/{app}");
        let message = message(action, variant);
        let record = Record {
            host: &host,
            session_id: Some(SESSION),
            command: Some(action.command()),
            result: Some("0"),
            user_directory: Some("BENCH"),
            user_id: Some(USER),
            origin: Some(if is_connection { "AppAccess" } else { "Not available" }),
            object_id: Some(if is_connection { &app } else { "0" }),
            object_name: Some(if is_connection { pick(&APP_NAMES, variant) } else { "Not available" }),
            context: Some(if is_connection { &context } else { "Not available" }),
            message: &message,
        };
        let bytes = match format {
            Format::Stock => encode_stock(&record),
            Format::Extended => encode_extended(&record, SEQUENCE, Timestamp::EPOCH),
        };
        let first = |text: &str| memmem::find(&bytes, text.as_bytes()).filter(|_| format == Format::Extended);
        Self {
            users: memmem::find_iter(&bytes, USER).map(|place| place + USER_PREFIX.len()).collect(),
            sessions: memmem::find_iter(&bytes, SESSION).collect(),
            sequence: first(&SEQUENCE.to_string()),
            time: first(&date(0)),
            bytes,
        }
    }

    fn write(&self, user: u64, session: u64, sequence: u32, time: &str, datagram: &mut Vec<u8>) {
        datagram.clear();
        datagram.extend_from_slice(&self.bytes);
        for &place in &self.users {
            decimal(datagram, place, USER_DIGITS, user);
        }
        if !self.sessions.is_empty() {
            // Two draws, for an id has more digits than one of them.
            let (high, low) = (scatter(session), scatter(!session));
            for &place in &self.sessions {
                hexadecimal(datagram, place, high, low);
            }
        }
        if let Some(place) = self.sequence {
            decimal(datagram, place, 10, u64::from(sequence));
        }
        if let Some(place) = self.time.and_then(|place| datagram.get_mut(place..place + time.len())) {
            place.copy_from_slice(time.as_bytes());
        }
    }
}

fn message(action: Action, variant: usize) -> String {
    let agent = pick(&USER_AGENTS, variant);
    let client = format!("::ffff:10.20.1.{variant}");
    match action {
        Action::SessionStart => format!("Start session for user BENCH\\{USER}"),
        Action::SessionStop => format!("Stop session for user BENCH\\{USER}"),
        Action::ConnectionOpen => {
            format!("Proxy connection Opened for session '{SESSION}' from '{client}'. UserAgent: '{agent}'")
        }
        Action::ConnectionClose => {
            format!("Proxy connection Closed for session '{SESSION}' from '{client}'. UserAgent: '{agent}'")
        }
    }
}

fn pick(texts: &[&'static str], number: usize) -> &'static str {
    texts.get(number % texts.len().max(1)).copied().unwrap_or_default()
}

fn random_guid(seed: usize) -> String {
    let mut rng = Rng::with_seed(seed as u64);
    let mut digits = |count: usize| (0..count).map(|_| format!("{:x}", rng.u32(..16))).collect::<String>();
    [digits(8), digits(4), digits(4), digits(4), digits(12)].join("-")
}

fn date(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// Numbers without a pattern, as hashed ids are, so that a session id compresses no better than a real one. The constants
/// are those of SplitMix64's finaliser.
const fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn decimal(datagram: &mut [u8], place: usize, digits: usize, mut number: u64) {
    for digit in datagram.iter_mut().skip(place).take(digits).rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn hexadecimal(datagram: &mut [u8], place: usize, high: u64, low: u64) {
    let mut bits = (u128::from(high) << 64) | u128::from(low);
    for digits in SESSION_DIGITS {
        for digit in datagram.iter_mut().skip(place + digits.start).take(digits.len()) {
            *digit = HEX.get((bits & 0xf) as usize).copied().unwrap_or(b'0');
            bits >>= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::event;

    const NOW: Timestamp = Timestamp::from_nanos(1_795_420_800_123_000_000);

    /// Decodes the first events of a node and hands each on, with what the load says of it.
    fn decoded(format: Format, node: u64, count: usize, mut take: impl FnMut(Event, event::Event<'_>)) {
        let mut load = NodeLoad::new(format, node);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let event = load.write_next(NOW, &mut bytes);
            take(event, event::decode(&bytes).expect("an event"));
        }
    }

    #[test]
    fn every_datagram_is_the_event_that_the_load_says() {
        for format in [Format::Stock, Format::Extended] {
            let mut sequence = SEQUENCE;
            decoded(format, 2, 5_000, |event, decoded| {
                assert_eq!(decoded.action, ACTIONS[event.kind]);
                assert_eq!(decoded.user.name, format!("user-{:05}", event.user));
                assert_eq!(decoded.node, "pro2-win3");
                if format == Format::Extended {
                    assert_eq!(decoded.sequence, Some(sequence));
                    assert_eq!(decoded.time, Some(NOW));
                    sequence += 1;
                }
            });
        }
    }

    #[test]
    fn each_session_has_its_four_events_under_one_id_of_its_own() {
        let mut ids = HashMap::<(u64, u64), String>::new();
        let mut kinds = HashMap::<(u64, u64), Vec<usize>>::new();
        for node in 0..NODES {
            decoded(Format::Extended, node, 6_000, |event, decoded| {
                let session = (event.user, event.round);
                let id = format!("{:?}", decoded.session_id);
                assert_eq!(ids.entry(session).or_insert_with(|| id.clone()), &id);
                kinds.entry(session).or_default().push(event.kind);
            });
        }
        let distinct: HashSet<_> = ids.values().collect();
        assert_eq!(distinct.len(), ids.len());
        let whole = kinds.values().filter(|kinds| kinds.len() == KINDS).count();
        assert!(whole > 5_000, "{whole}");
        assert!(kinds.values().all(|kinds| kinds.iter().copied().eq(0..kinds.len())));
        // Once it is warm, as many sessions end as begin.
        let open = kinds.values().filter(|kinds| kinds.len() < KINDS).count() as u64;
        assert_eq!(open, (KINDS as u64 - 1) * LAG * NODES);
    }
}
