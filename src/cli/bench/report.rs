//! The report: every figure of a step, and its ratio to the limit at the same load.

use serde::Serialize;

use super::arrivals::Counters;
use super::latencies::Percentiles;
use super::ramp::Outcome;
use super::step::Step;
use super::{Compression, Mode};
use crate::cli::appender::WireFormat;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) machine: Machine,
    /// How long each step sent.
    pub(super) seconds: f64,
    /// Whether it was cut short, so that its figures mean little.
    pub(super) quick: bool,
    pub(super) limits: Vec<Limit>,
    pub(super) runs: Vec<Run>,
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) os: &'static str,
    pub(super) architecture: &'static str,
    pub(super) processors: usize,
}

/// The machine's own limit with datagrams of one format.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Limit {
    pub(super) format: WireFormat,
    pub(super) rows: Vec<Row>,
}

/// A receiver in one setup.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) setup: Setup,
    pub(super) rows: Vec<Row>,
    pub(super) counts: Counts,
}

/// How the receiver is set up, and what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setup {
    pub(super) mode: Mode,
    pub(super) format: WireFormat,
    pub(super) compression: Compression,
}

/// Where all datagrams of a run went, from the start of the receiver on, also those of steps that are in no row.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Counts {
    /// Datagrams that the system took from the sender.
    pub(super) sent: u64,
    /// What the receiver says in its metrics.
    pub(super) receiver: Counters,
    /// Log records of events that arrived at the backend.
    pub(super) exported: u64,
    /// Whether all this adds up: the receiver counted each datagram, and the record of each accepted one arrived, or was
    /// given up and counted. Records of gaps may be among those that were given up, so these can only be too many.
    pub(super) balanced: bool,
}

/// At what load a row was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Load {
    /// So many events a second.
    PerSecond(u32),
    /// Four fifths of the highest rate that was held.
    FourFifths,
    /// The highest rate that was held.
    Ceiling,
}

/// One load and its figures. What a machine does not tell is missing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) load: Load,
    /// Whether the rate was held. A ceiling that was not reached is at least this high.
    pub(super) outcome: Outcome,
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// Samples behind the percentiles.
    pub(super) latency_samples: u64,
    pub(super) figures: Figures,
    /// The figures divided by those of the limit.
    pub(super) to_limit: Option<Figures>,
}

/// What is measured. Of a limit, `wire_bytes` are those of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) events_per_second: Option<f64>,
    /// Microseconds of processor time for an event that arrived, user and system.
    pub(super) cpu_us: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) p99_9_ms: Option<f64>,
    /// Megabytes of memory that are resident.
    pub(super) rss_mb: Option<f64>,
    /// Bytes of OTLP over TCP for an event that arrived.
    pub(super) wire_bytes: Option<f64>,
    /// Bytes written to the disk for an event that arrived.
    pub(super) disk_bytes: Option<f64>,
}

impl Row {
    pub(super) fn new(load: Load, step: &Step) -> Self {
        // What was lost cost little; what arrived is what was paid for.
        let (sent, arrived) = (step.sent.datagrams.max(1) as f64, step.arrived.max(1) as f64);
        let Percentiles { samples, p50_ms, p99_ms, p99_9_ms } = step.latency;
        let figures = Figures {
            events_per_second: Some(step.rate()),
            cpu_us: step.processor.map(|time| time.as_secs_f64() * 1e6 / arrived),
            p50_ms,
            p99_ms,
            p99_9_ms,
            rss_mb: step.resident.map(|bytes| bytes as f64 / 1e6),
            wire_bytes: Some(step.wire.map_or(step.sent.bytes as f64 / sent, |bytes| bytes as f64 / arrived)),
            disk_bytes: step.written.map(|bytes| bytes as f64 / arrived),
        };
        Self {
            load,
            outcome: step.outcome(),
            sent: step.sent.datagrams,
            lost: step.lost(),
            latency_samples: samples,
            figures,
            to_limit: None,
        }
    }

    /// With its ratios to the row of the same load among those of the limit.
    pub(super) fn compared(self, limit: &[Self]) -> Self {
        let same = limit.iter().find(|row| row.load == self.load);
        Self { to_limit: same.map(|same| self.figures.divided_by(&same.figures)), ..self }
    }
}

impl Figures {
    /// Each figure divided by the other one's; bytes on the disk by the bytes of a datagram, for a limit writes none.
    pub(super) fn divided_by(&self, limit: &Self) -> Self {
        let ratio = |figure: fn(&Self) -> Option<f64>, by: fn(&Self) -> Option<f64>| {
            figure(self).zip(by(limit).filter(|by| *by > 0.0)).map(|(figure, by)| figure / by)
        };
        let same = |figure: fn(&Self) -> Option<f64>| ratio(figure, figure);
        Self {
            events_per_second: same(|figures| figures.events_per_second),
            cpu_us: same(|figures| figures.cpu_us),
            p50_ms: same(|figures| figures.p50_ms),
            p99_ms: same(|figures| figures.p99_ms),
            p99_9_ms: same(|figures| figures.p99_9_ms),
            rss_mb: same(|figures| figures.rss_mb),
            wire_bytes: same(|figures| figures.wire_bytes),
            disk_bytes: ratio(|figures| figures.disk_bytes, |figures| figures.wire_bytes),
        }
    }

    /// In the order of the table's columns.
    pub(super) fn columns(&self) -> [Option<f64>; 8] {
        [
            self.events_per_second,
            self.cpu_us,
            self.p50_ms,
            self.p99_ms,
            self.p99_9_ms,
            self.rss_mb,
            self.wire_bytes,
            self.disk_bytes,
        ]
    }
}

impl Counts {
    /// `unreadable` requests at the backend are never right.
    pub(super) fn new(sent: u64, receiver: Counters, exported: u64, unreadable: u64) -> Self {
        let arrived = exported..=exported + receiver.given_up;
        let balanced = receiver.total() == sent && arrived.contains(&receiver.accepted) && unreadable == 0;
        Self { sent, receiver, exported, balanced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_divided_by_that_of_the_limit() {
        let limit = Figures {
            events_per_second: Some(400_000.0),
            cpu_us: Some(1.5),
            p50_ms: None,
            p99_ms: Some(0.5),
            p99_9_ms: Some(0.0),
            rss_mb: Some(8.0),
            wire_bytes: Some(400.0),
            disk_bytes: Some(0.0),
        };
        let figures = Figures {
            events_per_second: Some(100_000.0),
            cpu_us: Some(4.5),
            p50_ms: Some(26.0),
            p99_ms: Some(50.0),
            p99_9_ms: Some(70.0),
            rss_mb: Some(16.0),
            wire_bytes: Some(100.0),
            disk_bytes: Some(800.0),
        };
        let expected = [Some(0.25), Some(3.0), None, Some(100.0), None, Some(2.0), Some(0.25), Some(2.0)];
        assert_eq!(figures.divided_by(&limit).columns(), expected);
    }

    #[test]
    fn a_run_is_balanced_if_no_datagram_is_missing_anywhere() {
        let receiver = Counters { accepted: 90, dropped: 4, kernel_drops: 6, ..Counters::default() };
        assert!(Counts::new(100, receiver, 90, 0).balanced);
        assert!(!Counts::new(101, receiver, 90, 0).balanced);
        assert!(!Counts::new(100, receiver, 89, 0).balanced);
        assert!(!Counts::new(100, receiver, 91, 0).balanced);
        assert!(!Counts::new(100, receiver, 90, 1).balanced);
        let gave_up = Counters { given_up: 10, ..receiver };
        assert!(Counts::new(100, gave_up, 80, 0).balanced);
        assert!(Counts::new(100, gave_up, 81, 0).balanced);
        assert!(!Counts::new(100, gave_up, 79, 0).balanced);
    }
}
