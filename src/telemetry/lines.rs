//! Our own log lines: what each happening says, at which level, and how often.
//!
//! Each kind of line has its own [`Throttle`]. Nothing here ever holds a user, a session, a header or the content of a
//! datagram.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::event::RejectReason;
use crate::signal::{ExpiryReason, Signal};

use super::throttle::Throttle;
use super::{DropReason, PageRefusal, advice};

/// One kind of throttled line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Dropped(DropReason),
    Rejected(RejectReason),
    KernelDropped,
    Gap,
    Restarted,
    ReceiveFailed,
    Degraded,
    Durable,
    Abandoned,
    Stuck,
    Expired(Signal, ExpiryReason),
    Refused(Signal),
    Remarked(Signal),
    Quarantined(Signal),
    Discarded(Signal),
    PushedOut,
    PageRefused(PageRefusal),
    Retrying(Signal),
    Parked(Signal),
}

/// When each kind of line was written last, and how many happenings it has not told yet.
#[derive(Debug)]
pub(super) struct Lines {
    started: Instant,
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    line: Line,
    throttle: Throttle,
    /// That of the last happening.
    detail: Mutex<String>,
}

const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Traces, Signal::Metrics];

impl Default for Lines {
    fn default() -> Self {
        let by_signal =
            [Line::Refused, Line::Remarked, Line::Quarantined, Line::Discarded, Line::Retrying, Line::Parked];
        let alone = [
            Line::KernelDropped,
            Line::Gap,
            Line::Restarted,
            Line::ReceiveFailed,
            Line::Degraded,
            Line::Durable,
            Line::Abandoned,
            Line::Stuck,
            Line::PushedOut,
        ];
        let lines = alone
            .into_iter()
            .chain(DropReason::ALL.map(Line::Dropped))
            .chain(RejectReason::ALL.map(Line::Rejected))
            .chain(PageRefusal::ALL.map(Line::PageRefused))
            .chain(SIGNALS.into_iter().flat_map(|signal| ExpiryReason::ALL.map(|reason| Line::Expired(signal, reason))))
            .chain(by_signal.into_iter().flat_map(|kind| SIGNALS.map(kind)));
        let kind = |line| Kind { line, throttle: Throttle::default(), detail: Mutex::default() };
        Self { started: Instant::now(), kinds: lines.map(kind).collect() }
    }
}

impl Lines {
    /// Time since the process started its telemetry.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// `count` happenings of this kind; writes a line unless one was written a moment ago. `detail` is already
    /// sanitised.
    pub(super) fn say(&self, line: Line, count: u64, detail: &str) {
        if count == 0 {
            return;
        }
        let Some(kind) = self.kinds.iter().find(|each| each.line == line) else { return };
        match kind.throttle.add(self.elapsed(), count) {
            Some(untold) => write(line, untold, detail),
            None => detail.clone_into(&mut kind.detail.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Writes the lines that were held back and whose time has come.
    pub(super) fn settle(&self) {
        let now = self.elapsed();
        for kind in &self.kinds {
            if let Some(untold) = kind.throttle.due(now) {
                let detail = std::mem::take(&mut *kind.detail.lock().unwrap_or_else(PoisonError::into_inner));
                write(kind.line, untold, &detail);
            }
        }
    }
}

fn write(kind: Line, count: u64, detail: &str) {
    match kind {
        Line::Dropped(reason) => {
            // Some come from nowhere in particular.
            let sender = (!detail.is_empty()).then_some(detail);
            let advice = advice::dropped(reason);
            if reason.is_loss() {
                warn!(reason = reason.as_str(), datagrams = count, sender, "datagrams dropped: {advice}");
            } else {
                info!(reason = reason.as_str(), datagrams = count, sender, "datagrams dropped: {advice}");
            }
        }
        Line::Rejected(reason) => {
            warn!(reason = reason.as_str(), datagrams = count, "datagrams rejected: {}", advice::rejected(reason));
        }
        Line::KernelDropped => {
            warn!(datagrams = count, "datagrams lost in the kernel, the socket's buffer was full: {}", advice::BUFFER);
        }
        Line::Gap => {
            warn!(events = count, node = detail, "events missing in the sequence of a node, {}", advice::GAP);
        }
        Line::Restarted => {
            info!(
                restarts = count,
                node = detail,
                "the proxy service was restarted on a node, the last such one is named"
            );
        }
        Line::ReceiveFailed => warn!(failures = count, error = detail, "receiving failed, going on"),
        Line::Degraded | Line::Durable | Line::Abandoned | Line::Stuck => write_of_store(kind, count, detail),
        Line::Expired(signal, reason) => {
            error!(%signal, items = count, reason = reason.as_str(), "given up: {}", advice::expired(reason));
        }
        Line::Refused(signal) => {
            error!(%signal, items = count, answer = detail, "refused by the backend and not sent again");
        }
        Line::Remarked(signal) => {
            warn!(%signal, calls = count, answer = detail, "the backend takes everything, and has something to say");
        }
        Line::Quarantined(signal) => {
            error!(%signal, items = count, answer = detail, "quarantined: {}", advice::QUARANTINED);
        }
        Line::Discarded(signal) => {
            error!(%signal, items = count, answer = detail, "discarded: the backend would never take them");
        }
        Line::PushedOut => {
            error!(requests = count, "the quarantine is full: its oldest requests had to make room, and are gone");
        }
        Line::PageRefused(reason) => {
            warn!(reason = reason.as_str(), requests = count, "the live page did not answer: {}", advice::page(reason));
        }
        Line::Retrying(signal) => {
            warn!(%signal, attempts = count, answer = detail, "the backend does not take it, trying again");
        }
        Line::Parked(signal) => error!(
            %signal,
            attempts = count,
            answer = detail,
            "parked: the backend answers, but it wants no such signal from us; check endpoint and credentials, and take out \
             of exporter.signals what it never takes"
        ),
    }
}

fn write_of_store(kind: Line, count: u64, detail: &str) {
    match kind {
        Line::Durable => info!("the store is whole again: everything is on disk"),
        Line::Abandoned => warn!(
            failures = count,
            reason = detail,
            "a file of the store failed and is written to no more, going on with another"
        ),
        Line::Stuck => error!(
            failures = count,
            reason = detail,
            "an old file of the store cannot be removed, so the store may outgrow store.max_size; trying again"
        ),
        _ => error!(
            failures = count,
            reason = detail,
            "THE STORE IS DEGRADED: the disk does not take what it is given. Receiving and sending go on from memory, and \
             all that is in memory is lost if the process ends; trying again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_has_one_throttle() {
        let lines = Lines::default();
        for (position, kind) in lines.kinds.iter().enumerate() {
            let first = lines.kinds.iter().position(|each| each.line == kind.line);
            assert_eq!(first, Some(position), "{kind:?}");
        }
        assert_eq!(
            lines.kinds.len(),
            9 + PageRefusal::ALL.len()
                + DropReason::ALL.len()
                + RejectReason::ALL.len()
                + (6 + ExpiryReason::ALL.len()) * SIGNALS.len()
        );
    }
}
