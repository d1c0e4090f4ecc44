//! How the receiver is, in plain words: what comes in, what was lost, what waits, and what the backend does.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tonic::Code;

use crate::signal::Signal;
use crate::telemetry::{DropReason, Snapshot, Trouble};
use crate::time::Timestamp;

/// Events a second are counted over this many seconds.
const RATE_SECONDS: usize = 10;

/// How much attention a sentence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// All is well.
    Good,
    /// Somebody should know.
    Attention,
    /// Something does not work right now.
    Bad,
}

/// How the receiver is.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    level: Level,
    events_per_second: f64,
    pending: u64,
    gaps: u64,
    lost: u64,
    notes: Vec<Note>,
}

/// One sentence.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    level: Level,
    text: String,
}

/// What the sentences are made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) rate: f64,
    /// Since when the process runs, and now, by the wall clock.
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) troubles: [Option<Trouble>; 3],
    pub(super) in_memory: bool,
    /// A thread that does not turn, and since when.
    pub(super) standing_still: Option<(&'static str, Duration)>,
}

/// How many events came in each of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    counts: VecDeque<u64>,
}

impl Rate {
    /// So many have come since the start. To be told once a second.
    pub(super) fn tell(&mut self, accepted: u64) {
        if self.counts.len() > RATE_SECONDS {
            self.counts.pop_front();
        }
        self.counts.push_back(accepted);
    }

    /// Events a second.
    pub(super) fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.counts.front(), self.counts.back()) else { return 0.0 };
        let seconds = u32::try_from(self.counts.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let events = u32::try_from(last.saturating_sub(*first)).unwrap_or(u32::MAX);
        (f64::from(events) / f64::from(seconds) * 10.0).round() / 10.0
    }
}

impl Health {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let snapshot = facts.snapshot;
        let mut notes = vec![receiving(facts)];
        if let Some((thread, since)) = facts.standing_still {
            notes.push(bad(format!("The thread `{thread}` has not moved for {}. Restart the receiver.", plain(since))));
        }
        notes.extend(losses(facts));
        notes.extend(delivering(facts));
        notes.push(storing(facts));
        Self {
            level: notes.iter().map(|note| note.level).max().unwrap_or(Level::Good),
            events_per_second: facts.rate,
            pending: pending(snapshot),
            gaps: snapshot.nodes.iter().map(|node| node.gaps).sum(),
            lost: snapshot.lost(),
            notes,
        }
    }
}

fn receiving(facts: &Facts<'_>) -> Note {
    if facts.rate > 0.0 {
        return good(format!("{} events a second are coming in.", facts.rate));
    }
    let last = facts.snapshot.active.iter().map(|node| node.last_event).max();
    match last.filter(|last| *last > Timestamp::EPOCH) {
        Some(last) => good(format!("The last event came {} ago.", plain(facts.now.since(last)))),
        None if facts.snapshot.dropped_for(DropReason::DeniedSource) > facts.snapshot.rejected.iter().sum() => attention(
            "Datagrams come in, but from senders that are not in receiver.allowed_sources. The log names the last one."
                .into(),
        ),
        None if facts.snapshot.received > 0 => attention(
            "Datagrams come in, but none of them is an event. `sense-otel decode --listen` explains each.".into(),
        ),
        None => attention(
            "No event has come yet. Is the appender on the proxy nodes, and does it name this machine and port?".into(),
        ),
    }
}

fn losses(facts: &Facts<'_>) -> Vec<Note> {
    let snapshot = facts.snapshot;
    let mut notes = Vec::new();
    let missing: u64 = snapshot.nodes.iter().map(|node| node.missing).sum();
    if missing > 0 {
        let gaps: u64 = snapshot.nodes.iter().map(|node| node.gaps).sum();
        notes.push(attention(format!(
            "{} never arrived here, in {}: lost between the proxy and this machine.",
            count(missing, "event"),
            count(gaps, "gap")
        )));
    }
    if snapshot.kernel_dropped > 0 {
        notes.push(attention(format!(
            "{} did not fit into the receive buffer. Raise receiver.udp.receive_buffer and what the system grants.",
            count(snapshot.kernel_dropped, "datagram")
        )));
    }
    for reason in DropReason::ALL.into_iter().filter(|reason| reason.is_loss()) {
        let dropped = snapshot.dropped_for(reason);
        if dropped > 0 {
            notes.push(attention(format!("{} dropped: {}.", count(dropped, "datagram"), dropped_for(reason))));
        }
    }
    for (signal, what) in [(Signal::Logs, "log record"), (Signal::Traces, "span")] {
        let counts = snapshot.signal(signal);
        if counts.refused > 0 {
            notes.push(attention(format!("The backend refused {} for good.", count(counts.refused, what))));
        }
        if counts.quarantined > 0 {
            let number = count(counts.quarantined, what);
            notes.push(attention(format!(
                "{number} put aside: the backend would never take them. See `sense-otel quarantine list`."
            )));
        }
        if counts.expired > 0 {
            notes.push(bad(format!(
                "{} given up before the backend took them, and lost; the log says why.",
                count(counts.expired, what)
            )));
        }
    }
    let rejected: u64 = snapshot.rejected.iter().sum();
    if notes.is_empty() {
        notes.push(good(format!(
            "Nothing is known to be lost since the start, {} ago.",
            plain(facts.now.since(facts.started))
        )));
    }
    if rejected > 0 {
        notes.push(attention(format!("{} made no sense and were left out.", count(rejected, "datagram"))));
    }
    notes
}

const fn dropped_for(reason: DropReason) -> &'static str {
    match reason {
        DropReason::ChannelFull => "they came faster than they could be understood",
        DropReason::Oversize => "larger than receiver.udp.max_datagram_size",
        DropReason::DeniedSource => "not from one of receiver.allowed_sources",
        DropReason::RateLimited => "over receiver.rate_limit.per_source",
        DropReason::Superseded => "they came a second time, from the other appender",
        DropReason::StoreFull => "the store could not take them",
    }
}

fn delivering(facts: &Facts<'_>) -> Vec<Note> {
    let pending = pending(facts.snapshot);
    let [logs, traces, metrics] = facts.troubles;
    let mut notes = Vec::new();
    match (logs, traces) {
        // Mostly it is the whole backend that is away.
        (Some(logs), Some(traces)) if (logs.code, logs.is_parked) == (traces.code, traces.is_parked) => {
            notes.push(untaken("logs and no traces", Trouble { since: logs.since.max(traces.since), ..logs }));
        }
        _ => {
            notes.extend(logs.map(|trouble| untaken("logs", trouble)));
            notes.extend(traces.map(|trouble| untaken("traces", trouble)));
        }
    }
    if let Some(Trouble { since, code, .. }) = metrics {
        notes.push(attention(format!("The backend has taken no metrics for {} ({code:?}).", plain(since))));
    }
    if notes.is_empty() {
        let has_taken = facts.snapshot.signals.iter().any(|counts| counts.acknowledged > 0);
        return vec![match (has_taken, pending) {
            (true, _) => good("The backend takes everything.".into()),
            (false, 0) => good("Nothing had to be sent to the backend yet.".into()),
            (false, _) => attention("The backend has taken nothing yet.".into()),
        }];
    }
    if pending > 0 {
        notes.push(attention(format!("Log records and spans that wait for the backend: {}.", grouped(pending))));
    }
    notes
}

fn untaken(what: &str, trouble: Trouble) -> Note {
    let Trouble { since, code, is_parked } = trouble;
    let then = if is_parked { "tried now and then" } else { "sent when it is back" };
    bad(format!(
        "The backend has taken no {what} for {} ({code:?}: {}). They are kept, and {then}.",
        plain(since),
        meaning(code)
    ))
}

fn storing(facts: &Facts<'_>) -> Note {
    if facts.in_memory {
        return attention("Everything is in memory only, and forgotten at the end.".into());
    }
    if facts.snapshot.store_degraded {
        return bad("The disk of the store fails: everything is in memory until it works again. Is it full?".into());
    }
    good("What waits and what is open is safe on disk.".into())
}

/// What a gRPC code means to an administrator.
const fn meaning(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "it does not answer, or is overloaded",
        Code::DeadlineExceeded => "it answers too slowly",
        Code::Unauthenticated => "it wants other credentials",
        Code::PermissionDenied => "these credentials do not allow it",
        Code::Unimplemented => "it does not know this kind of data",
        Code::ResourceExhausted => "it takes no more for now",
        _ => "see the log",
    }
}

fn pending(snapshot: &Snapshot) -> u64 {
    snapshot.signal(Signal::Logs).pending().saturating_add(snapshot.signal(Signal::Traces).pending())
}

/// `1 event`, `1,204 events`
fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12 s`, `4 min`, `2 h 13 min`, `3 days`
pub(super) fn plain(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (1, hours, _) => format!("{} h", 24 + hours),
        (days, ..) => format!("{days} days"),
    }
}

const fn good(text: String) -> Note {
    Note { level: Level::Good, text }
}

const fn attention(text: String) -> Note {
    Note { level: Level::Attention, text }
}

const fn bad(text: String) -> Note {
    Note { level: Level::Bad, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{NodeActivity, NodeCounts, SignalCounts};

    fn said(snapshot: &Snapshot, troubles: [Option<Trouble>; 3]) -> (Level, Vec<String>) {
        let facts = Facts {
            snapshot,
            rate: 0.0,
            started: Timestamp::EPOCH + Duration::from_secs(10),
            now: Timestamp::EPOCH + Duration::from_secs(10 + 7980),
            troubles,
            in_memory: false,
            standing_still: None,
        };
        let health = Health::of(&facts);
        (health.level, health.notes.into_iter().map(|note| note.text).collect())
    }

    fn healthy() -> Snapshot {
        let node = NodeActivity {
            node: "node1".into(),
            sessions: 1,
            connections: 1,
            users: 1,
            last_event: Timestamp::EPOCH + Duration::from_secs(7750),
        };
        let logs = SignalCounts { produced: 5, acknowledged: 5, ..SignalCounts::default() };
        Snapshot {
            active: vec![node],
            signals: [logs, SignalCounts::default(), SignalCounts::default()],
            ..Snapshot::default()
        }
    }

    #[test]
    fn all_is_well_in_four_sentences() {
        let (level, said) = said(&healthy(), [None; 3]);
        assert_eq!(level, Level::Good);
        assert_eq!(
            said,
            [
                "The last event came 4 min ago.",
                "Nothing is known to be lost since the start, 2 h 13 min ago.",
                "The backend takes everything.",
                "What waits and what is open is safe on disk.",
            ]
        );
    }

    #[test]
    fn a_backend_that_is_down_is_bad_and_says_what_waits() {
        let mut snapshot = healthy();
        snapshot.signals[0].produced = 1209;
        let trouble = Trouble { since: Duration::from_secs(250), code: Code::Unavailable, is_parked: false };
        let (level, said) = said(&snapshot, [Some(trouble), None, None]);
        assert_eq!(level, Level::Bad);
        assert_eq!(
            said[2..4],
            [
                "The backend has taken no logs for 4 min (Unavailable: it does not answer, or is overloaded). They are kept, \
                 and sent when it is back.",
                "Log records and spans that wait for the backend: 1,204.",
            ]
        );
    }

    #[test]
    fn what_was_lost_is_told_with_its_reason() {
        let mut snapshot = healthy();
        snapshot.nodes = vec![NodeCounts { node: "node1".into(), gaps: 1, missing: 12, ..NodeCounts::default() }];
        snapshot.rejected[0] = 1;
        let (level, said) = said(&snapshot, [None; 3]);
        assert_eq!(level, Level::Attention);
        assert_eq!(said[1], "12 events never arrived here, in 1 gap: lost between the proxy and this machine.");
        assert!(!said.iter().any(|text| text.starts_with("Nothing is known")), "{said:?}");
    }

    #[test]
    fn nothing_at_all_asks_for_attention() {
        let (level, said) = said(&Snapshot::default(), [None; 3]);
        assert_eq!(level, Level::Attention);
        assert!(said[0].starts_with("No event has come yet."), "{said:?}");
    }

    #[test]
    fn datagrams_that_bring_no_event_are_explained() {
        let mut snapshot = Snapshot { received: 3, ..Snapshot::default() };
        snapshot.rejected[0] = 3;
        let (_, said_of_rejected) = said(&snapshot, [None; 3]);
        assert!(said_of_rejected[0].contains("none of them is an event"), "{said_of_rejected:?}");
        let mut snapshot = Snapshot { received: 3, ..Snapshot::default() };
        let denied = DropReason::ALL.iter().position(|reason| *reason == DropReason::DeniedSource);
        snapshot.dropped[denied.expect("a reason")] = 3;
        let (level, said_of_denied) = said(&snapshot, [None; 3]);
        assert_eq!(level, Level::Attention);
        assert!(said_of_denied[0].contains("not in receiver.allowed_sources"), "{said_of_denied:?}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert!(rate.per_second().abs() < f64::EPSILON);
        for second in 0..100 {
            rate.tell(if second < 50 { second * 1000 } else { 49_000 + (second - 50) * 5 });
        }
        assert!((rate.per_second() - 5.0).abs() < f64::EPSILON, "{}", rate.per_second());
    }
}
