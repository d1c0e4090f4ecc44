//! Every number of our own at one moment, as plain data.

use crate::event::{Action, RejectReason};
use crate::signal::Signal;

use super::{DropReason, NodeActivity, PageRefusal};

/// Every counter of this process life, read at one moment.
///
/// The counters are read one after the other. At a quiet point, with nothing on its way between two stages, the
/// balances are exact; under load a datagram may have been counted on one side only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Datagrams read from a socket.
    pub received: u64,
    /// Datagrams that became an event and were handed to the session tracker.
    pub accepted: u64,
    /// Datagrams that repeated an earlier one.
    pub duplicate: u64,
    /// Datagrams of users that the configuration leaves out.
    pub excluded: u64,
    /// Datagrams that wait for an earlier sequence number at this moment.
    pub held: u64,
    /// Datagrams that an earlier process received, and that waited at its end.
    pub restored_held: u64,
    /// Datagrams that are no event, in the order of [`RejectReason::ALL`]; see [`Snapshot::rejected_for`].
    pub rejected: [u64; RejectReason::ALL.len()],
    /// Datagrams that were given up, in the order of [`DropReason::ALL`]; see [`Snapshot::dropped_for`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Datagrams that the kernel threw away because the socket's buffer was full. They were never received.
    pub kernel_dropped: u64,
    /// Reads from a socket that failed.
    pub receive_failures: u64,
    /// Sessions that ended, observed or inferred, each once.
    pub sessions_ended: u64,
    /// Connections that ended, observed or inferred, each once.
    pub connections_ended: u64,
    /// Whether the disk of the store fails, so that everything is in memory.
    pub store_degraded: bool,
    /// How often a file of the store failed, or none could be made.
    pub store_failures: u64,
    /// Frames of the store that had been durable and could not be read back at the start.
    pub store_lost_frames: u64,
    /// Records of what was open that could not be read back at the start, or that a newer version wrote.
    pub store_lost_records: u64,
    /// Requests that were in the quarantine and had to make room for newer ones.
    pub pushed_out: u64,
    /// Requests to the live page that were not answered, in the order of [`PageRefusal::ALL`].
    pub page_refused: [u64; PageRefusal::ALL.len()],
    /// What became of the items of each signal, in the order logs, traces, metrics; see [`Snapshot::signal`].
    pub signals: [SignalCounts; 3],
    /// Counts per node, sorted by name; nodes beyond the limit are summed up under [`super::OTHER`].
    pub nodes: Vec<NodeCounts>,
    /// What was open on each node when the pipeline said so last.
    pub active: Vec<NodeActivity>,
}

/// What became of log records, spans or metric data points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalCounts {
    /// Items that an earlier process made, and that were still to be delivered.
    pub restored: u64,
    /// Items made.
    pub produced: u64,
    /// Items that the backend took.
    pub acknowledged: u64,
    /// Items that the backend refused for good while taking others of the same request.
    pub refused: u64,
    /// Items given up because the backend would never take them.
    pub quarantined: u64,
    /// Those among them that could not be kept.
    pub discarded: u64,
    /// Items given up because the outbox was over its budget; for metrics, superseded by the next interval.
    pub expired: u64,
    /// How often sending was held back after a failed call, to be tried again. Calls that were under way side by side
    /// fail for one reason and count as one; metrics are not sent again, so each of their failed calls counts.
    pub retries: u64,
    /// How often the signal was parked.
    pub parks: u64,
    /// How often it could be delivered again after it could not.
    pub recoveries: u64,
    /// Answers that took a request, or most of it, and had something to say about it.
    pub remarks: u64,
}

/// Counts of one proxy node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// The node's name.
    pub node: String,
    /// Events by action, in the order of [`Action::ALL`].
    pub events: [u64; Action::ALL.len()],
    /// Gaps in the node's sequence numbers.
    pub gaps: u64,
    /// Events missing in those gaps.
    pub missing: u64,
    /// How often the node's counter began again, because its proxy service was restarted.
    pub restarts: u64,
}

/// Both sides of one equation of the accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// What came in.
    pub incoming: u64,
    /// What became of it.
    pub outgoing: u64,
}

impl Snapshot {
    /// How many datagrams were rejected for this reason.
    #[must_use]
    pub fn rejected_for(&self, reason: RejectReason) -> u64 {
        RejectReason::ALL.iter().zip(self.rejected).filter(|(each, _)| **each == reason).map(|(_, count)| count).sum()
    }

    /// How many datagrams were dropped for this reason.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        DropReason::ALL.iter().zip(self.dropped).filter(|(each, _)| **each == reason).map(|(_, count)| count).sum()
    }

    /// What became of the items of one signal.
    #[must_use]
    pub const fn signal(&self, signal: Signal) -> SignalCounts {
        let [logs, traces, metrics] = self.signals;
        match signal {
            Signal::Logs => logs,
            Signal::Traces => traces,
            Signal::Metrics => metrics,
        }
    }

    /// `received + restored_held = accepted + duplicate + excluded + rejected + dropped + held`.
    #[must_use]
    pub fn datagrams_balance(&self) -> Balance {
        let terms = [self.accepted, self.duplicate, self.excluded, self.held];
        let incoming = self.received.saturating_add(self.restored_held);
        Balance { incoming, outgoing: terms.iter().chain(&self.rejected).chain(&self.dropped).sum() }
    }

    /// `restored + produced = acknowledged + refused + quarantined + expired + pending`, where only the outbox knows `pending`.
    #[must_use]
    pub const fn signal_balance(&self, signal: Signal, pending: u64) -> Balance {
        let counts = self.signal(signal);
        Balance { incoming: counts.incoming(), outgoing: counts.settled().saturating_add(pending) }
    }

    /// Events, log records and spans that are known to be lost: dropped by us or by the kernel, missing in a sequence,
    /// refused, quarantined or given up.
    ///
    /// A datagram that the kernel dropped also leaves a gap in its node's sequence, so of the two only the larger
    /// number is taken.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let missing: u64 = self.nodes.iter().map(|node| node.missing).sum();
        let dropped: u64 =
            DropReason::ALL.iter().filter(|reason| reason.is_loss()).map(|reason| self.dropped_for(*reason)).sum();
        let undelivered: u64 = [Signal::Logs, Signal::Traces]
            .iter()
            .map(|signal| self.signal(*signal))
            .map(|counts| counts.refused + counts.quarantined + counts.expired)
            .sum();
        dropped + missing.max(self.kernel_dropped) + undelivered
    }
}

impl SignalCounts {
    /// Items whose fate is decided.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.acknowledged.saturating_add(self.refused).saturating_add(self.quarantined).saturating_add(self.expired)
    }

    /// Items that are, or were, ours to deliver.
    #[must_use]
    pub const fn incoming(&self) -> u64 {
        self.restored.saturating_add(self.produced)
    }

    /// Items whose fate is open: in the outbox or on the wire.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.incoming().saturating_sub(self.settled())
    }
}

impl NodeCounts {
    /// Events of one action.
    #[must_use]
    pub fn events_of(&self, action: Action) -> u64 {
        Action::ALL.iter().zip(self.events).filter(|(each, _)| **each == action).map(|(_, count)| count).sum()
    }
}

impl Balance {
    /// Whether nothing is unaccounted for.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.incoming == self.outgoing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_is_on_its_side_of_the_equation() {
        let mut snapshot =
            Snapshot { received: 63, accepted: 1, duplicate: 2, excluded: 4, held: 8, ..Snapshot::default() };
        snapshot.rejected[3] = 16;
        snapshot.dropped[2] = 32;
        assert_eq!(snapshot.datagrams_balance(), Balance { incoming: 63, outgoing: 63 });
        assert!(snapshot.datagrams_balance().is_exact());

        snapshot.restored_held = 3;
        assert_eq!(snapshot.datagrams_balance(), Balance { incoming: 66, outgoing: 63 });
        snapshot.restored_held = 0;
        snapshot.kernel_dropped = 1000;
        assert!(snapshot.datagrams_balance().is_exact(), "what the kernel dropped was never received");
        snapshot.received += 1;
        assert!(!snapshot.datagrams_balance().is_exact());
    }

    #[test]
    fn an_item_is_settled_or_pending() {
        let traces = SignalCounts {
            produced: 31,
            acknowledged: 1,
            refused: 2,
            quarantined: 4,
            expired: 8,
            ..SignalCounts::default()
        };
        let snapshot =
            Snapshot { signals: [SignalCounts::default(), traces, SignalCounts::default()], ..Snapshot::default() };
        assert_eq!(traces.pending(), 16);
        assert_eq!(SignalCounts { restored: 32, ..traces }.pending(), 48);
        assert_eq!(snapshot.signal_balance(Signal::Traces, 16), Balance { incoming: 31, outgoing: 31 });
        assert!(!snapshot.signal_balance(Signal::Traces, 15).is_exact());
        assert!(snapshot.signal_balance(Signal::Logs, 0).is_exact());
    }

    #[test]
    fn a_kernel_drop_that_left_a_gap_is_one_loss() {
        let node = NodeCounts { node: "pro2-win1".into(), missing: 5, gaps: 1, ..NodeCounts::default() };
        let mut snapshot = Snapshot { kernel_dropped: 5, nodes: vec![node], ..Snapshot::default() };
        assert_eq!(snapshot.lost(), 5);
        snapshot.kernel_dropped = 7;
        assert_eq!(snapshot.lost(), 7);
    }
}
