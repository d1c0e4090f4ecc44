//! The counters themselves, written by any thread at any time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::info;

use crate::event::{self, Action, RejectReason};
use crate::signal::{ExpiryReason, Signal};

use super::snapshot::{NodeCounts, SignalCounts, Snapshot};
use super::{DropReason, NodeActivity, PageRefusal, text};

/// How many distinct values a label may have; every further one is counted as [`OTHER`]. Node names come out of
/// datagrams that anybody can send, and each would cost a series for ever.
pub(super) const LABEL_VALUES_MAX: usize = 256;

/// The label of every node or virtual proxy beyond the 256th.
pub const OTHER: &str = "other";

/// A number that only grows, or a gauge that is set. Relaxed: nobody derives an order from it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Counts that have no node.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) accepted: Counter,
    pub(super) duplicate: Counter,
    pub(super) excluded: Counter,
    pub(super) held: Counter,
    pub(super) restored_held: Counter,
    pub(super) rejected: [Counter; RejectReason::ALL.len()],
    pub(super) dropped: [Counter; DropReason::ALL.len()],
    pub(super) kernel_dropped: Counter,
    pub(super) receive_failures: Counter,
    pub(super) sessions_ended: Counter,
    pub(super) connections_ended: Counter,
    pub(super) store_degraded: Counter,
    pub(super) store_failures: Counter,
    pub(super) store_lost_frames: Counter,
    pub(super) store_lost_records: Counter,
    pub(super) pushed_out: Counter,
    pub(super) page_refused: [Counter; PageRefusal::ALL.len()],
    pub(super) signals: [SignalCounters; 3],
}

/// Counts of one signal's items.
#[derive(Debug, Default)]
pub(super) struct SignalCounters {
    pub(super) restored: Counter,
    pub(super) produced: Counter,
    pub(super) acknowledged: Counter,
    pub(super) refused: Counter,
    pub(super) quarantined: Counter,
    pub(super) discarded: Counter,
    expired: [Counter; ExpiryReason::ALL.len()],
    pub(super) retries: Counter,
    pub(super) parks: Counter,
    pub(super) recoveries: Counter,
    pub(super) remarks: Counter,
}

/// Counts per node, and what the pipeline said last about each.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: RwLock<HashMap<String, Arc<NodeCounters>>>,
    active: RwLock<Vec<NodeActivity>>,
}

/// Counts of one node.
#[derive(Debug)]
pub(super) struct NodeCounters {
    /// The name as first seen: what the labels say.
    pub(super) node: String,
    pub(super) events: [Counter; Action::ALL.len()],
    pub(super) gaps: Counter,
    pub(super) missing: Counter,
    pub(super) restarts: Counter,
}

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The counters of one signal.
    pub(super) const fn signal(&self, signal: Signal) -> &SignalCounters {
        let [logs, traces, metrics] = &self.signals;
        match signal {
            Signal::Logs => logs,
            Signal::Traces => traces,
            Signal::Metrics => metrics,
        }
    }

    /// The counter of one reject reason.
    pub(super) fn rejected(&self, reason: RejectReason) -> Option<&Counter> {
        position(&RejectReason::ALL, reason).and_then(|position| self.rejected.get(position))
    }

    /// The counter of one drop reason.
    pub(super) fn dropped(&self, reason: DropReason) -> Option<&Counter> {
        position(&DropReason::ALL, reason).and_then(|position| self.dropped.get(position))
    }

    /// The counter of one reason not to answer.
    pub(super) fn page_refused(&self, reason: PageRefusal) -> Option<&Counter> {
        position(&PageRefusal::ALL, reason).and_then(|position| self.page_refused.get(position))
    }

    /// Every number at this moment.
    pub(super) fn snapshot(&self, nodes: &Nodes) -> Snapshot {
        // What a datagram became is read before `received`, so that under load the balance never claims more
        // outcomes than datagrams.
        let outcomes = Snapshot {
            accepted: self.accepted.value(),
            duplicate: self.duplicate.value(),
            excluded: self.excluded.value(),
            held: self.held.value(),
            restored_held: self.restored_held.value(),
            rejected: self.rejected.each_ref().map(Counter::value),
            dropped: self.dropped.each_ref().map(Counter::value),
            kernel_dropped: self.kernel_dropped.value(),
            receive_failures: self.receive_failures.value(),
            sessions_ended: self.sessions_ended.value(),
            connections_ended: self.connections_ended.value(),
            store_degraded: self.store_degraded.value() > 0,
            store_failures: self.store_failures.value(),
            store_lost_frames: self.store_lost_frames.value(),
            store_lost_records: self.store_lost_records.value(),
            pushed_out: self.pushed_out.value(),
            page_refused: self.page_refused.each_ref().map(Counter::value),
            signals: self.signals.each_ref().map(SignalCounters::counts),
            nodes: nodes.counts(),
            active: nodes.active(),
            received: 0,
        };
        Snapshot { received: self.received.value(), ..outcomes }
    }
}

impl SignalCounters {
    /// The counter of what was given up for this reason.
    pub(super) const fn expired_for(&self, reason: ExpiryReason) -> &Counter {
        let [size, age, memory, damaged, unreadable, unwritten, superseded] = &self.expired;
        match reason {
            ExpiryReason::Size => size,
            ExpiryReason::Age => age,
            ExpiryReason::Memory => memory,
            ExpiryReason::Damaged => damaged,
            ExpiryReason::Unreadable => unreadable,
            ExpiryReason::Unwritten => unwritten,
            ExpiryReason::Superseded => superseded,
        }
    }

    fn counts(&self) -> SignalCounts {
        let settled = SignalCounts {
            acknowledged: self.acknowledged.value(),
            refused: self.refused.value(),
            quarantined: self.quarantined.value(),
            expired: self.expired.iter().map(Counter::value).sum(),
            ..SignalCounts::default()
        };
        SignalCounts {
            restored: self.restored.value(),
            produced: self.produced.value(),
            discarded: self.discarded.value(),
            retries: self.retries.value(),
            parks: self.parks.value(),
            recoveries: self.recoveries.value(),
            remarks: self.remarks.value(),
            ..settled
        }
    }
}

impl NodeCounters {
    fn new(node: &str) -> Self {
        Self {
            node: text::one_line(node),
            events: Default::default(),
            gaps: Counter::default(),
            missing: Counter::default(),
            restarts: Counter::default(),
        }
    }

    /// The counter of one action.
    pub(super) fn event(&self, action: Action) -> Option<&Counter> {
        position(&Action::ALL, action).and_then(|position| self.events.get(position))
    }

    fn counts(&self) -> NodeCounts {
        NodeCounts {
            node: self.node.clone(),
            events: self.events.each_ref().map(Counter::value),
            gaps: self.gaps.value(),
            missing: self.missing.value(),
            restarts: self.restarts.value(),
        }
    }
}

impl Nodes {
    /// Hands over the counters of `node`, whatever its case; those of [`OTHER`] if there are too many nodes.
    pub(super) fn with<T>(&self, node: &str, happening: impl FnOnce(&NodeCounters) -> T) -> T {
        self.find_or_meet(node, happening, |counters| {
            info!(node = counters.node, "a node is heard for the first time");
        })
    }

    /// The same, with what is to be done if nobody has asked for the node before.
    fn find_or_meet<T>(
        &self,
        node: &str,
        happening: impl FnOnce(&NodeCounters) -> T,
        met: impl FnOnce(&NodeCounters),
    ) -> T {
        let node = bounded(node);
        let key = event::caseless(node);
        if let Some(counters) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(key.as_ref()) {
            return happening(counters);
        }
        let (counters, is_new) = self.meet(node, key);
        if is_new {
            met(&counters);
        }
        happening(&counters)
    }

    /// The counters of a node that was not there a moment ago, and whether it still was not.
    fn meet(&self, node: &str, key: Cow<'_, str>) -> (Arc<NodeCounters>, bool) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (key, label) = if known.len() < LABEL_VALUES_MAX || known.contains_key(key.as_ref()) {
            (key.into_owned(), node)
        } else {
            (OTHER.to_owned(), OTHER)
        };
        match known.entry(key) {
            Entry::Occupied(occupied) => (Arc::clone(occupied.get()), false),
            Entry::Vacant(vacant) => (Arc::clone(vacant.insert(Arc::new(NodeCounters::new(label)))), true),
        }
    }

    /// The bounded label of `node`. No sign of life: the sessions of a node may be from the store.
    pub(super) fn label(&self, node: &str) -> String {
        self.find_or_meet(node, |counters| counters.node.clone(), |_| {})
    }

    /// Every node, in no order.
    pub(super) fn all(&self) -> Vec<Arc<NodeCounters>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Replaces what is known about open sessions. Nodes beyond the limit are summed up.
    pub(super) fn set_active(&self, activity: Vec<NodeActivity>) {
        let mut merged: Vec<NodeActivity> = Vec::with_capacity(activity.len());
        for each in activity {
            let label = self.label(&each.node);
            // The pipeline names each node once, so that only the label of all the others can come twice.
            let other = if label == OTHER { merged.iter_mut().find(|known| known.node == OTHER) } else { None };
            match other {
                Some(other) => {
                    other.sessions += each.sessions;
                    other.connections += each.connections;
                    other.users += each.users;
                    other.last_event = other.last_event.max(each.last_event);
                }
                None => merged.push(NodeActivity { node: label, ..each }),
            }
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = merged;
    }

    /// What the pipeline said last.
    pub(super) fn active(&self) -> Vec<NodeActivity> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> Vec<NodeCounts> {
        let mut counts: Vec<NodeCounts> = self.all().iter().map(|node| node.counts()).collect();
        counts.sort_by(|one, other| one.node.cmp(&other.node));
        counts
    }
}

/// One array of counters per closed enum: the place of a value in its `ALL`.
fn position<T: PartialEq + Copy, const N: usize>(all: &[T; N], value: T) -> Option<usize> {
    all.iter().position(|each| *each == value)
}

/// A host name has at most 253 characters; what is longer is hostile and not worth its memory.
fn bounded(name: &str) -> &str {
    name.get(..name.floor_char_boundary(text::FOREIGN_TEXT_MAX)).unwrap_or(name)
}
