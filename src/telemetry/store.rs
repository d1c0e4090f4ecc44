//! What the store and its recovery are said to be like.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::event::RejectReason;
use crate::signal::Signal;

use super::Telemetry;
use super::lines::Line;

/// What came back of an earlier process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Sessions that are open again.
    pub sessions: u64,
    /// Datagrams that are held again for their order.
    pub held: u64,
    /// Held datagrams of nodes that are too many now.
    pub rejected: u64,
    /// Sessions of users whom the configuration leaves out now.
    pub excluded: u64,
    /// Records that could not be read, or did not fit to the others.
    pub damaged: u64,
    /// Records that a newer version wrote.
    pub newer: u64,
    /// Records that the limits of now leave no room for, held datagrams among them.
    pub no_room: u64,
    /// How long nobody was there, by the wall clock; `None` at the very first start.
    pub down: Option<Duration>,
}

/// Keeping.
impl Telemetry {
    /// An earlier process left items that are still to be delivered.
    pub fn restored(&self, signal: Signal, items: u64) {
        self.inner.counters.signal(signal).restored.add(items);
    }

    /// The core is as an earlier process left it. After all calls of [`Self::restored`].
    pub fn recovered(&self, recovery: &Recovery) {
        let Recovery { sessions, held, rejected, excluded, damaged, newer, no_room, down } = *recovery;
        let counters = &self.inner.counters;
        counters.restored_held.add(held.saturating_add(rejected));
        counters.held.set(held);
        self.rejected(RejectReason::TooManyNodes, rejected);
        counters.store_lost_records.add(damaged.saturating_add(newer));
        if damaged > 0 {
            error!(
                records = damaged,
                "a part of what was open could not be read back from the store, and is forgotten"
            );
        }
        if newer > 0 {
            error!(records = newer, "a part of what was open was written by a newer version, and is forgotten");
        }
        if no_room > 0 {
            warn!(
                records = no_room,
                "a part of what was remembered is forgotten: there are more nodes than limits.nodes allows now"
            );
        }
        if excluded > 0 {
            info!(sessions = excluded, "open sessions of users who are excluded now are forgotten");
        }
        let [logs, spans] = [Signal::Logs, Signal::Traces].map(|signal| counters.signal(signal).restored.value());
        match down {
            Some(down) => info!(
                sessions,
                held,
                logs,
                spans,
                "going on where the process before ended, {:.1} s ago",
                down.as_secs_f64()
            ),
            None => info!("a new store"),
        }
    }

    /// Parts of the store could not be read, and are lost. Says nothing if all are zero.
    pub fn store_damaged(&self, frames: u64, bytes: u64, headers: u64) {
        self.inner.counters.store_lost_frames.add(frames);
        if frames > 0 || bytes > 0 {
            error!(frames, bytes, "the store is damaged: these frames are lost, each was up to 20 ms of events");
        }
        if headers > 0 {
            warn!(segments = headers, "the store is damaged: the heads of these segments, nothing is lost by that");
        }
    }

    /// The process before lost its disk, and ended before its state was written anew.
    pub fn store_records_are_old(&self) {
        error!(
            "the disk failed before the last end: what was open is as it was before that, and what ended since may end again"
        );
    }

    /// Files of the store that nobody can read were moved to its folder `damaged`, or could not be.
    pub fn store_files_set_aside(&self, moved: &[String], stuck: &[String]) {
        if !moved.is_empty() {
            error!(files = moved.len(), first = moved.first(), "unreadable files of the store were moved to `damaged`");
        }
        if !stuck.is_empty() {
            error!(
                files = stuck.len(),
                first = stuck.first(),
                "unreadable files of the store cannot be moved, and stay"
            );
        }
    }

    /// The disk fails: from here on everything is in memory, until [`Self::store_durable`].
    pub fn store_degraded(&self, reason: &'static str) {
        self.inner.counters.store_degraded.set(1);
        self.inner.counters.store_failures.add(1);
        self.inner.lines.say(Line::Degraded, 1, reason);
    }

    /// Everything is on disk again.
    pub fn store_durable(&self) {
        self.inner.counters.store_degraded.set(0);
        self.inner.lines.say(Line::Durable, 1, "");
    }

    /// A file of the store failed; what was on its way to it goes into another.
    pub fn store_file_abandoned(&self, reason: &'static str) {
        self.inner.counters.store_failures.add(1);
        self.inner.lines.say(Line::Abandoned, 1, reason);
    }

    /// An old file of the store cannot be removed, for now.
    pub fn store_file_stuck(&self, reason: &'static str) {
        self.inner.counters.store_failures.add(1);
        self.inner.lines.say(Line::Stuck, 1, reason);
    }
}
