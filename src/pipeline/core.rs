//! The core thread: batches of datagrams in, one commit frame of encoded requests out.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::admin::Recent;
use crate::otlp::{Encoder, Limits};
use crate::processor::{Input, Output, Processor, Report};
use crate::receiver::{Batch, CHANNEL_BATCHES};
use crate::signal::{ExpiryReason, ExportRequest, LogRecord, Resource, Run, Signal, Span};
use crate::store::Store;
use crate::telemetry::{DropReason, NodeActivity, Telemetry};
use crate::time::{Now, RunningTime};

use super::clock::Clock;
use super::journal::{Closed, Journal, ROOM_INTERVAL};
use super::names::Names;

mod show;

pub(super) use show::Show;

/// How long the first event of a frame waits for others.
const FRAME_AGE_MAX: Duration = Duration::from_millis(20);

/// Datagrams after which a frame is complete. With 4,096, which no processor's cache holds, the most that went through
/// without a loss was 170,000 events a second; with this it was 190,000 in three runs of four.
const FRAME_DATAGRAMS_MAX: usize = 1024;

/// Two looks at datagrams closer together than this are followed by a rest of this length, within the age of a frame: an
/// event took 53 us instead of 75 at a thousand a second, and 10 instead of 14 at ten thousand.
const REST: Duration = Duration::from_millis(4);

/// With as many datagrams at once there is nothing to be gained by a rest.
const REST_DATAGRAMS_MAX: usize = 256;

/// Records and spans after which a frame is complete: those of events that were held come on top of those of datagrams.
const FRAME_ITEMS_MAX: u64 = 16_384;

/// How often the numbers of what is open are renewed, and the store is told the time; and the longest sleep.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last frame waits for a store that does not keep up.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How often a disk that fails is tried meanwhile.
const LAST_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The core with what surrounds it.
pub(super) struct Core {
    processor: Processor,
    output: Encoding,
    journal: Journal,
    clock: Clock,
    frame_datagrams: usize,
    frame_due: Option<RunningTime>,
    /// When datagrams were last taken, and the rest after it was over.
    taken: RunningTime,
    /// How long datagrams may have waited for the end of a rest.
    rested: Duration,
    activity_due: RunningTime,
    show: Option<Show>,
}

/// What the core leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Sessions that are open.
    pub(super) open_sessions: usize,
    /// Whether the store has taken everything, what is open included.
    pub(super) whole: bool,
}

/// Encodes what the processor gives out, and counts what it reports.
struct Encoding {
    encoder: Encoder,
    logs: u64,
    spans: u64,
    telemetry: Telemetry,
    logs_wanted: bool,
    traces_wanted: bool,
    /// For the page, if there is one.
    recent: Option<Recent>,
}

impl Core {
    pub(super) fn new(
        processor: Processor,
        store: Store,
        telemetry: Telemetry,
        clock: Clock,
        signals: &[Signal],
        show: Option<Show>,
    ) -> Self {
        let output = Encoding {
            encoder: Encoder::new(env!("CARGO_PKG_VERSION"), Limits::default()),
            logs: 0,
            spans: 0,
            telemetry,
            logs_wanted: signals.contains(&Signal::Logs),
            traces_wanted: signals.contains(&Signal::Traces),
            recent: show.is_some().then(Recent::default),
        };
        Self {
            processor,
            output,
            journal: Journal::new(store),
            frame_datagrams: 0,
            frame_due: None,
            taken: RunningTime::START,
            rested: Duration::ZERO,
            activity_due: clock.now().running,
            clock,
            show,
        }
    }

    /// Works until the receiver is gone and everything it handed over is in the store, or the store is gone: then the
    /// whole pipeline ends.
    pub(super) fn run(mut self, batches: &Receiver<Batch>, names: &Receiver<Names>) -> End {
        let whole = self.work(batches, names).and_then(|()| self.finish()).is_ok();
        if !whole {
            self.give_up(batches);
        }
        self.output.telemetry.held(self.processor.held() as u64);
        self.show_activity();
        End { open_sessions: self.processor.open_sessions(), whole }
    }

    fn work(&mut self, batches: &Receiver<Batch>, names: &Receiver<Names>) -> Result<(), Closed> {
        // Before the first batch, which may come late: what was restored is shown, and what is too much of it ends.
        let mut has_room = self.turn()?;
        let heart = self.output.telemetry.heart("core");
        loop {
            heart.beat();
            let received = batches.recv_timeout(self.patience(has_room));
            while let Ok(names) = names.try_recv() {
                let now = self.clock.now();
                self.processor.handle(now, Input::AppNames(names), &mut self.output);
            }
            let datagrams = match received {
                Ok(batch) => self.take_waiting(batch, batches)?,
                Err(RecvTimeoutError::Timeout) => 0,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            has_room = self.turn()?;
            self.rest(datagrams);
        }
    }

    /// Does what is due. Returns whether the store has room, without which nothing is.
    fn turn(&mut self) -> Result<bool, Closed> {
        let now = self.clock.now();
        let has_room = self.journal.has_room()?;
        if has_room {
            self.processor.advance(now, &mut self.output);
            self.output.telemetry.held(self.processor.held() as u64);
            self.commit_if_due(now)?;
        }
        let is_tick = self.activity_due <= now.running;
        if is_tick {
            self.activity_due = now.running + ACTIVITY_INTERVAL;
            self.show_activity();
            self.journal.tick(now, &self.processor);
            if let Some(recent) = &mut self.output.recent {
                recent.refresh();
            }
            if let Some(show) = &mut self.show {
                show.tick(now, self.processor.open_sessions());
            }
        }
        if let Some((show, recent)) = self.show.as_mut().zip(self.output.recent.as_ref()) {
            show.turn(now, &self.clock, &self.processor, recent);
        }
        // With each tick goes what has changed without a datagram and without a signal.
        if (is_tick || self.journal.wants_checkpoint()) && self.journal.has_room()? {
            self.commit(now)?;
        }
        Ok(has_room)
    }

    /// How long nothing needs to be done.
    fn patience(&self, has_room: bool) -> Duration {
        if !has_room {
            return ROOM_INTERVAL;
        }
        if self.journal.wants_checkpoint() {
            return Duration::ZERO;
        }
        let deadlines = [self.frame_due, self.processor.deadline(), Some(self.activity_due)];
        let running = self.clock.now().running;
        let next = deadlines.into_iter().flatten().min().unwrap_or(running);
        let patience = next.since(running).min(ACTIVITY_INTERVAL);
        self.show.as_ref().map_or(patience, |show| patience.min(show.patience(running)))
    }

    /// Takes a batch and those that have come in the meantime, before anything is decided for want of them: what seems to
    /// be missing, or silent for too long, may be waiting here. Returns how many datagrams that were.
    fn take_waiting(&mut self, first: Batch, batches: &Receiver<Batch>) -> Result<usize, Closed> {
        self.take(&first)?;
        let mut datagrams = first.len();
        drop(first);
        for batch in batches.try_iter().take(CHANNEL_BATCHES) {
            self.take(&batch)?;
            datagrams += batch.len();
        }
        Ok(datagrams)
    }

    /// Lets more datagrams come together if a few came just now and shortly before.
    fn rest(&mut self, datagrams: usize) {
        self.rested = Duration::ZERO;
        if datagrams == 0 {
            return;
        }
        let now = self.clock.now().running;
        let are_few = datagrams < REST_DATAGRAMS_MAX && now.since(self.taken) < REST;
        self.taken = now;
        if let Some(due) = self.frame_due.filter(|_| are_few) {
            self.rested = due.since(now).min(REST);
            thread::sleep(self.rested);
            self.taken = self.clock.now().running;
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<(), Closed> {
        let has_room = self.journal.has_room();
        if has_room != Ok(true) {
            self.output.telemetry.dropped(DropReason::StoreFull, batch.len() as u64, None);
            return has_room.map(|_| ());
        }
        let now = self.clock.now();
        for datagram in batch.iter() {
            self.processor.handle(now, Input::Datagram(datagram), &mut self.output);
        }
        self.frame_datagrams += batch.len();
        self.commit_if_due(now)
    }

    fn commit_if_due(&mut self, now: Now) -> Result<(), Closed> {
        if self.output.encoder.is_empty() && self.frame_datagrams == 0 {
            self.frame_due = None;
            return Ok(());
        }
        let due = *self.frame_due.get_or_insert(now.running + (FRAME_AGE_MAX - self.rested));
        let is_large = self.output.logs + self.output.spans >= FRAME_ITEMS_MAX;
        if due <= now.running || self.frame_datagrams >= FRAME_DATAGRAMS_MAX || is_large {
            return self.commit(now);
        }
        Ok(())
    }

    fn commit(&mut self, now: Now) -> Result<(), Closed> {
        self.frame_due = None;
        self.frame_datagrams = 0;
        let requests = self.output.finish();
        self.journal.commit(now, requests, &mut self.processor)
    }

    /// Counts what has not come into the store and will not, up to the last batch of the receiver.
    fn give_up(&mut self, batches: &Receiver<Batch>) {
        for batch in batches {
            self.output.telemetry.dropped(DropReason::StoreFull, batch.len() as u64, None);
        }
        for request in self.journal.give_up().into_iter().chain(self.output.finish()) {
            self.output.telemetry.expired(request.signal, request.items.into(), ExpiryReason::Unwritten);
        }
    }

    /// Nothing more will come. What is held for its order outlives us in a store on disk, and is let go otherwise.
    fn finish(&mut self) -> Result<(), Closed> {
        let deadline = self.clock.now().running + LAST_PATIENCE;
        while !self.journal.has_room()? {
            if self.clock.now().running >= deadline {
                return Err(Closed);
            }
            thread::sleep(ROOM_INTERVAL);
        }
        self.make_durable(deadline)?;
        let now = self.clock.now();
        if !self.journal.is_durable() {
            self.processor.handle(now, Input::Drain, &mut self.output);
        }
        self.commit(now)
    }

    /// Writes the whole state once more where the disk failed and takes it again: otherwise the next start would find the
    /// last requests beside the state of long before.
    fn make_durable(&mut self, deadline: RunningTime) -> Result<(), Closed> {
        let mut retry_at = RunningTime::START;
        while self.journal.is_degraded() {
            let now = self.clock.now();
            if now.running >= deadline {
                break;
            }
            if self.journal.has_room()? && self.journal.wants_checkpoint() {
                self.commit(now)?;
                continue;
            }
            if now.running >= retry_at {
                self.journal.retry();
                retry_at = now.running + LAST_RETRY_INTERVAL;
            }
            thread::sleep(ROOM_INTERVAL);
        }
        Ok(())
    }

    fn show_activity(&self) {
        self.output.telemetry.set_active(activity(&self.processor));
    }
}

/// What is open on each node.
fn activity(processor: &Processor) -> Vec<NodeActivity> {
    let nodes = processor.nodes().map(|status| NodeActivity {
        node: status.node.name.to_string(),
        sessions: status.activity.sessions as u64,
        connections: status.activity.connections as u64,
        users: status.activity.users as u64,
        last_event: status.last_event,
    });
    nodes.collect()
}

impl Encoding {
    /// The requests so far, whose items count as produced from here on.
    fn finish(&mut self) -> Vec<ExportRequest> {
        self.telemetry.produced(Signal::Logs, std::mem::take(&mut self.logs));
        self.telemetry.produced(Signal::Traces, std::mem::take(&mut self.spans));
        self.encoder.finish()
    }
}

impl Output for Encoding {
    fn log(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>) {
        self.log_alike(resource, record, &[]);
    }

    fn span(&mut self, resource: &Arc<Resource>, span: &Span<'_>) {
        self.span_alike(resource, span, &[]);
    }

    fn log_alike(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>, runs: &[Run<'_>]) {
        if let Some(recent) = &mut self.recent {
            recent.log(resource, record);
        }
        if self.logs_wanted {
            self.encoder.log_alike(resource, record, runs);
            self.logs += 1;
        }
    }

    fn span_alike(&mut self, resource: &Arc<Resource>, span: &Span<'_>, runs: &[Run<'_>]) {
        if let Some(recent) = &mut self.recent {
            recent.span(resource, span);
        }
        if self.traces_wanted {
            self.encoder.span_alike(resource, span, runs);
            self.spans += 1;
        }
    }

    fn report(&mut self, report: Report<'_>) {
        let telemetry = &self.telemetry;
        match report {
            Report::Accepted { node, action } => {
                telemetry.accepted(1);
                telemetry.event(node, action);
            }
            Report::Duplicate => telemetry.duplicate(1),
            Report::Excluded => telemetry.excluded(1),
            Report::Superseded => telemetry.dropped(DropReason::Superseded, 1, None),
            Report::Rejected(reason) => telemetry.rejected(reason, 1),
            Report::Gap { node, missing } => telemetry.gap(node, missing),
            Report::Restarted { node } => telemetry.restarted(node),
            Report::SessionEnded { node, virtual_proxy, reason, duration } => {
                telemetry.session_ended(node, virtual_proxy, reason.as_str(), duration);
            }
            Report::ConnectionEnded { node, virtual_proxy, reason, duration } => {
                telemetry.connection_ended(node, virtual_proxy, reason.as_str(), duration);
            }
        }
    }
}

#[cfg(test)]
mod tests;
