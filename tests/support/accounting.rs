//! The equation of delivery, as tests assert it.

use sense_otel::signal::Signal;
use sense_otel::store::Store;
use sense_otel::telemetry::Telemetry;

/// Where the items of one signal went. The one place of these tests that knows how the telemetry tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub produced: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub quarantined: u64,
    pub expired: u64,
}

pub fn counts(telemetry: &Telemetry, signal: Signal) -> Counts {
    let counts = telemetry.snapshot().signal(signal);
    Counts {
        produced: counts.produced,
        acknowledged: counts.acknowledged,
        refused: counts.refused,
        quarantined: counts.quarantined,
        expired: counts.expired,
    }
}

/// How often the telemetry was told of trouble with one signal, and of its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub retrying: u64,
    pub parked: u64,
    pub delivering: u64,
    pub refused: u64,
}

pub fn told(telemetry: &Telemetry, signal: Signal) -> Told {
    let counts = telemetry.snapshot().signal(signal);
    Told { retrying: counts.retries, parked: counts.parks, delivering: counts.recoveries, refused: counts.remarks }
}

/// `produced = acknowledged + refused + quarantined + expired + pending`; nothing is restored in memory.
pub fn assert_balanced(telemetry: &Telemetry, store: &Store) {
    for signal in [Signal::Logs, Signal::Traces] {
        let counts = counts(telemetry, signal);
        let pending = store.pending(signal).items;
        let found = counts.acknowledged + counts.refused + counts.quarantined + counts.expired + pending;
        assert_eq!(counts.produced, found, "{signal}: {counts:?}, {pending} pending");
    }
}
