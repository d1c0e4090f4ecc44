//! Our own health: one method per happening, owning its counter and its log line.
//!
//! Every stage is handed a [`Telemetry`] and says what happened; it never writes a log line or a counter of its own.
//! Reasons are closed enums, texts from outside are sanitised here and nowhere else, and a line is written at most
//! once per reason and ten seconds, with the number of happenings since the last.
//!
//! [`Telemetry::snapshot`] is every number at one moment, with the two equations of the accounting as methods.
//! [`metrics`] sends the same numbers through the OpenTelemetry SDK. `docs/telemetry.md` explains each to operators.

pub mod advice;
pub mod metrics;

mod buffer;
mod counters;
mod heart;
mod lines;
mod log;
mod page;
mod reason;
mod snapshot;
mod store;
pub(crate) mod text;
mod throttle;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::Code;
use tracing::{info, warn};

use crate::event::{Action, RejectReason};
use crate::signal::{ExpiryReason, Signal};
use crate::time::Timestamp;

pub use counters::OTHER;
pub use heart::Heart;
pub use log::{Log, LogError, init_log, init_log_in, log_file};
pub use page::Trouble;
pub use reason::{DropReason, PageRefusal};
pub use snapshot::{Balance, NodeCounts, SignalCounts, Snapshot};
pub use store::Recovery;

use counters::{Counters, Nodes};
use heart::Hearts;
use lines::{Line, Lines};

/// Our own log and metrics.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directive of `tracing_subscriber::EnvFilter`, for example `info` or `sense_otel=debug`.
    pub level: String,
    /// How often metrics are exported.
    pub metrics_interval: Duration,
}

/// What is open on one proxy node at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeActivity {
    /// The node.
    pub node: String,
    /// Open sessions.
    pub sessions: u64,
    /// Open connections.
    pub connections: u64,
    /// Distinct users with an open session.
    pub users: u64,
    /// When the node's last datagram was received, by our own clock.
    pub last_event: Timestamp,
}

/// The handle that every stage holds. Cheap to clone; every method may be called from any thread.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counters: Counters,
    nodes: Nodes,
    lines: Lines,
    delivery: [Delivery; 3],
    hearts: Hearts,
    durations: OnceLock<metrics::Durations>,
}

/// Since when a signal cannot be delivered.
#[derive(Debug, Default)]
struct Delivery {
    /// Nanoseconds since the start; 0 while it works.
    failing_since: AtomicU64,
    /// The gRPC code of the last failure.
    code: AtomicI32,
    /// Whether the backend answers, but does not want it.
    is_parked: AtomicBool,
}

/// Receiving.
impl Telemetry {
    /// Datagrams were read from a socket.
    pub fn received(&self, datagrams: u64) {
        self.inner.counters.received.add(datagrams);
    }

    /// Datagrams were given up; `sender` is where the last of them is from, if that tells anything.
    pub fn dropped(&self, reason: DropReason, datagrams: u64, sender: Option<IpAddr>) {
        if let Some(counter) = self.inner.counters.dropped(reason) {
            counter.add(datagrams);
        }
        let sender = sender.map(|sender| sender.to_canonical().to_string()).unwrap_or_default();
        self.inner.lines.say(Line::Dropped(reason), datagrams, &sender);
    }

    /// The kernel dropped datagrams that did not fit into the socket's buffer; they were never received.
    pub fn kernel_dropped(&self, datagrams: u64) {
        self.inner.counters.kernel_dropped.add(datagrams);
        self.inner.lines.say(Line::KernelDropped, datagrams, "");
    }

    /// The kernel dropped datagrams on a socket that was passed to us, before it was ours: in the lives of processes before
    /// this one, which counted what they saw, or between them.
    pub fn kernel_dropped_earlier(&self, datagrams: u64) {
        if datagrams > 0 {
            warn!(
                datagrams,
                "the kernel dropped datagrams on the passed socket since it was opened and before this start; they are \
                 not in our counters"
            );
        }
    }

    /// What became of the wish for a receive buffer of `asked` bytes; `None` where a service manager chose it.
    pub fn receive_buffer(&self, asked: Option<usize>, effective: usize) {
        let holds = buffer::holds(effective);
        match asked {
            Some(asked) if effective < asked => warn!(
                asked,
                effective,
                "the system grants a smaller receive buffer than receiver.udp.receive_buffer asks for{holds}: a longer \
                 burst or pause overflows it; on Linux raise net.core.rmem_max"
            ),
            Some(asked) => info!(asked, effective, "receive buffer in bytes{holds}"),
            None => info!(effective, "receive buffer in bytes, chosen by the service manager{holds}"),
        }
    }

    /// Reading from a socket failed; the receiver goes on.
    pub fn receive_failed(&self, error: &io::Error) {
        self.inner.counters.receive_failures.add(1);
        self.inner.lines.say(Line::ReceiveFailed, 1, &text::one_line(&error.to_string()));
    }
}

/// Understanding.
impl Telemetry {
    /// Datagrams became events.
    pub fn accepted(&self, datagrams: u64) {
        self.inner.counters.accepted.add(datagrams);
    }

    /// Datagrams repeated earlier ones.
    pub fn duplicate(&self, datagrams: u64) {
        self.inner.counters.duplicate.add(datagrams);
    }

    /// Datagrams of users that are left out.
    pub fn excluded(&self, datagrams: u64) {
        self.inner.counters.excluded.add(datagrams);
    }

    /// Datagrams are no events.
    pub fn rejected(&self, reason: RejectReason, datagrams: u64) {
        if let Some(counter) = self.inner.counters.rejected(reason) {
            counter.add(datagrams);
        }
        self.inner.lines.say(Line::Rejected(reason), datagrams, "");
    }

    /// How many datagrams wait for an earlier one at this moment.
    pub fn held(&self, now_held: u64) {
        self.inner.counters.held.set(now_held);
    }

    /// An event of a node was taken.
    pub fn event(&self, node: &str, action: Action) {
        self.inner.nodes.with(node, |counters| {
            if let Some(counter) = counters.event(action) {
                counter.add(1);
            }
        });
    }

    /// Events of a node are missing in its sequence.
    pub fn gap(&self, node: &str, missing: u64) {
        self.inner.nodes.with(node, |counters| {
            counters.gaps.add(1);
            counters.missing.add(missing);
            self.inner.lines.say(Line::Gap, missing, &counters.node);
        });
    }

    /// A node's counter began again: its proxy service was restarted.
    pub fn restarted(&self, node: &str) {
        self.inner.nodes.with(node, |counters| {
            counters.restarts.add(1);
            self.inner.lines.say(Line::Restarted, 1, &counters.node);
        });
    }

    /// The file of app names was read.
    pub fn app_names(&self, names: usize) {
        info!(names, "app names read");
    }

    /// The file of app names cannot be used; the names of before stay.
    pub fn app_names_failed(&self, file: &Path, error: &dyn Error) {
        warn!(file = %file.display(), reason = text::one_line(&chain(error)), "the file of app names cannot be used");
    }

    /// What is open on each node at this moment: every node, once. To be called about once a second, which is also when
    /// log lines that were held back get written.
    pub fn set_active(&self, activity: Vec<NodeActivity>) {
        self.inner.nodes.set_active(activity);
        self.inner.lines.settle();
    }

    /// A session ended after `duration`, all its segments together.
    pub fn session_ended(&self, node: &str, virtual_proxy: Option<&str>, reason: &'static str, duration: Duration) {
        self.inner.counters.sessions_ended.add(1);
        if let Some(durations) = self.inner.durations.get() {
            durations.session_ended(self.inner.nodes.label(node), virtual_proxy, reason, duration);
        }
    }

    /// A connection ended after `duration`, all its parts together.
    pub fn connection_ended(&self, node: &str, virtual_proxy: Option<&str>, reason: &'static str, duration: Duration) {
        self.inner.counters.connections_ended.add(1);
        if let Some(durations) = self.inner.durations.get() {
            durations.connection_ended(self.inner.nodes.label(node), virtual_proxy, reason, duration);
        }
    }
}

/// Delivering.
impl Telemetry {
    /// Items were made and are now ours to deliver.
    pub fn produced(&self, signal: Signal, items: u64) {
        self.inner.counters.signal(signal).produced.add(items);
    }

    /// Items were given up: they are neither delivered nor pending.
    pub fn expired(&self, signal: Signal, items: u64, reason: ExpiryReason) {
        self.inner.counters.signal(signal).expired_for(reason).add(items);
        // The next interval's metrics replace the ones that could not be sent; that is no line's worth.
        if reason != ExpiryReason::Superseded {
            self.inner.lines.say(Line::Expired(signal, reason), items, "");
        }
    }

    /// The backend took items.
    pub fn acknowledged(&self, signal: Signal, items: u64) {
        self.inner.counters.signal(signal).acknowledged.add(items);
    }

    /// The backend refused items for good while taking the rest of the request, with a message of its own.
    pub fn refused(&self, signal: Signal, items: u64, message: &str) {
        let counters = self.inner.counters.signal(signal);
        counters.refused.add(items);
        counters.remarks.add(1);
        self.inner.lines.say(Line::Refused(signal), items, &text::one_line(message));
    }

    /// The backend took a whole request and had something to say about it, or nothing that could be read.
    pub fn remarked(&self, signal: Signal, message: &str) {
        self.inner.counters.signal(signal).remarks.add(1);
        self.inner.lines.say(Line::Remarked(signal), 1, &text::one_line(message));
    }

    /// Items were given up because the backend would never take them. They are kept, as the request of this number in
    /// the quarantine.
    pub fn quarantined(&self, signal: Signal, items: u64, code: Code, message: &str, request: u64) {
        self.inner.counters.signal(signal).quarantined.add(items);
        let detail = format!("{}; kept as request {request}", answer(code, message));
        self.inner.lines.say(Line::Quarantined(signal), items, &detail);
    }

    /// Items were given up because the backend would never take them, and could not be kept. They count as quarantined
    /// too.
    pub fn discarded(&self, signal: Signal, items: u64, code: Code, message: &str, why: &str) {
        let counters = self.inner.counters.signal(signal);
        counters.quarantined.add(items);
        counters.discarded.add(items);
        let detail = format!("{}; not kept: {}", answer(code, message), text::one_line(why));
        self.inner.lines.say(Line::Discarded(signal), items, &detail);
    }

    /// The oldest requests in the quarantine had to make room, and are gone.
    pub fn pushed_out(&self, requests: u64) {
        self.inner.counters.pushed_out.add(requests);
        self.inner.lines.say(Line::PushedOut, requests, "");
    }

    /// A call failed in a way that may pass; the next try comes after `wait`.
    pub fn retrying(&self, signal: Signal, code: Code, message: &str, wait: Duration) {
        self.failing(signal, code, false);
        self.inner.counters.signal(signal).retries.add(1);
        let detail = format!("{}; next try in {:.1} s", answer(code, message), wait.as_secs_f64());
        self.inner.lines.say(Line::Retrying(signal), 1, &detail);
    }

    /// The backend wants no such signal from us for now; it is kept and tried slowly.
    pub fn parked(&self, signal: Signal, code: Code, message: &str) {
        self.failing(signal, code, true);
        self.inner.counters.signal(signal).parks.add(1);
        self.inner.lines.say(Line::Parked(signal), 1, &answer(code, message));
    }

    /// A call succeeded. Says so if the signal could not be delivered before.
    pub fn delivering(&self, signal: Signal) {
        let failing_since = &self.delivery(signal).failing_since;
        if failing_since.load(Ordering::Relaxed) == 0 {
            return;
        }
        let since = failing_since.swap(0, Ordering::Relaxed);
        if since != 0 {
            self.inner.counters.signal(signal).recoveries.add(1);
            let failed_for = self.inner.lines.elapsed().saturating_sub(Duration::from_nanos(since));
            info!(%signal, "delivering again after {:.1} s", failed_for.as_secs_f64());
        }
    }

    fn failing(&self, signal: Signal, code: Code, is_parked: bool) {
        let delivery = self.delivery(signal);
        delivery.code.store(i32::from(code), Ordering::Relaxed);
        delivery.is_parked.store(is_parked, Ordering::Relaxed);
        let now = u64::try_from(self.inner.lines.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        // Only the first failure in a row sets the moment.
        let _ = delivery.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn delivery(&self, signal: Signal) -> &Delivery {
        let [logs, traces, metrics] = &self.inner.delivery;
        match signal {
            Signal::Logs => logs,
            Signal::Traces => traces,
            Signal::Metrics => metrics,
        }
    }
}

/// Watching.
impl Telemetry {
    /// A heart for a thread that has to go on turning; `name` is for whoever is told that it stands still.
    #[must_use]
    pub fn heart(&self, name: &'static str) -> Heart {
        self.inner.hearts.add(name)
    }

    /// The thread whose heart has not beaten for the longest time, and for how long, if that is more than `patience`.
    #[must_use]
    pub fn standing_still(&self, patience: Duration) -> Option<(&'static str, Duration)> {
        self.inner.hearts.standing_still(patience)
    }

    /// Every number at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.inner.counters.snapshot(&self.inner.nodes)
    }
}

/// An error with all its causes. Not sanitised.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A gRPC status in one piece of a line; the message was written by the other side.
fn answer(code: Code, message: &str) -> String {
    match text::one_line(message) {
        message if message.is_empty() => format!("{code:?}"),
        message => format!("{code:?}: {message}"),
    }
}

#[cfg(test)]
mod tests;
