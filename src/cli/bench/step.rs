//! One step: so many events a second for so long, and what became of them.

use std::thread;
use std::time::{Duration, Instant};

use super::BenchError;
use super::latencies::Percentiles;
use super::limit::Limit;
use super::ramp::Outcome;
use super::receiver::Receiver;
use super::sender::{Sender, Sent};
use super::sink::Sink;
use super::usage::Usage;

/// What is not there when nothing has come for so long is lost. A receiver may hold events for a second.
const SILENCE: Duration = Duration::from_secs(3);

/// How often it is looked whether everything is there.
const LOOK: Duration = Duration::from_millis(5);

/// A rate is held only if the last event is exported so soon after it was sent: otherwise a backlog grew.
const LATE_MAX: Duration = Duration::from_secs(1);

/// A sender that comes to less of what was asked for than this did not send that fast.
const REACHED_MIN: f64 = 0.9;

/// What is measured.
#[derive(Debug)]
pub(super) enum Subject {
    /// A receiver that only counts.
    Limit(Limit),
    /// The receiver, and the backend that it exports to.
    Receiver(Receiver, Sink),
}

/// What one step found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Events a second that were asked for.
    pub(super) asked: f64,
    pub(super) sent: Sent,
    /// Datagrams that arrived, as a log record at the backend or in the count of the limit.
    pub(super) arrived: u64,
    /// How long after the last datagram the last record came.
    pub(super) late: Duration,
    pub(super) latency: Percentiles,
    /// Processor time from the first datagram to the last record.
    pub(super) processor: Option<Duration>,
    /// Bytes resident when the last datagram was sent.
    pub(super) resident: Option<u64>,
    /// Bytes written to the disk.
    pub(super) written: Option<u64>,
    /// Bytes of OTLP over TCP; `None` for the limit, which exports nothing.
    pub(super) wire: Option<u64>,
}

impl Step {
    /// Sends to `subject` at `rate` for so long and waits for everything that comes of it.
    pub(super) fn measure(
        subject: &mut Subject,
        sender: &mut Sender<'_>,
        rate: f64,
        duration: Duration,
    ) -> Result<Self, BenchError> {
        let process = subject.process();
        let (before, wire, arrived) = (Usage::of(process), subject.wire(), subject.arrived());
        let sent = sender.send(rate, duration);
        let resident = Usage::of(process).resident;
        let (arrived, late, latency, after) = match subject {
            Subject::Limit(limit) => {
                let counted = limit.ask()?;
                (counted.received, Duration::ZERO, counted.latency, Usage::of(process))
            }
            Subject::Receiver(_, sink) => {
                let (arrived, late) = wait(sink, arrived, sent.datagrams);
                let after = Usage::of(process);
                (arrived, late, sink.arrivals().percentiles(), after)
            }
        };
        Ok(Self {
            asked: rate,
            sent,
            arrived,
            late,
            latency,
            processor: after.processor.zip(before.processor).map(|(after, before)| after.saturating_sub(before)),
            resident,
            written: after.written.zip(before.written).map(|(after, before)| after.saturating_sub(before)),
            wire: subject.wire().zip(wire).map(|(after, before)| after - before),
        })
    }

    pub(super) fn lost(&self) -> u64 {
        self.sent.datagrams.saturating_sub(self.arrived)
    }

    /// Events a second that were sent.
    pub(super) fn rate(&self) -> f64 {
        self.sent.datagrams as f64 / self.sent.lasted.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.lost() > 0 || self.late > LATE_MAX {
            Outcome::Failed
        } else if self.rate() < self.asked * REACHED_MIN {
            Outcome::NotReached
        } else {
            Outcome::Held
        }
    }
}

impl Subject {
    pub(super) fn process(&self) -> u32 {
        match self {
            Self::Limit(limit) => limit.process(),
            Self::Receiver(receiver, _) => receiver.process(),
        }
    }

    fn wire(&self) -> Option<u64> {
        match self {
            Self::Limit(_) => None,
            Self::Receiver(_, sink) => Some(sink.wire()),
        }
    }

    fn arrived(&self) -> u64 {
        match self {
            Self::Limit(_) => 0,
            Self::Receiver(_, sink) => sink.arrivals().events(),
        }
    }
}

/// Waits until `sent` events more than `before` have arrived, or nothing arrives any more. How many did, and how long after
/// the call the last one came.
fn wait(sink: &Sink, before: u64, sent: u64) -> (u64, Duration) {
    let began = Instant::now();
    let mut arrived = sink.arrivals().events() - before;
    let mut last = Duration::ZERO;
    while arrived < sent && began.elapsed() - last < SILENCE {
        thread::sleep(LOOK);
        let now = sink.arrivals().events() - before;
        if now > arrived {
            (arrived, last) = (now, began.elapsed());
        }
    }
    (arrived, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held_if_everything_came_in_time() {
        let sent = Sent { datagrams: 1_000, bytes: 0, lasted: Duration::from_secs(1) };
        let step = Step {
            asked: 1_000.0,
            sent,
            arrived: 1_000,
            late: Duration::from_millis(40),
            latency: Percentiles::default(),
            processor: None,
            resident: None,
            written: None,
            wire: None,
        };
        assert_eq!(step.outcome(), Outcome::Held);
        let one_lost = Step { arrived: 999, ..step };
        assert_eq!((one_lost.lost(), one_lost.outcome()), (1, Outcome::Failed));
        assert_eq!(Step { late: Duration::from_millis(1_200), ..step }.outcome(), Outcome::Failed);
        assert_eq!(Step { asked: 1_200.0, ..step }.outcome(), Outcome::NotReached);
    }
}
