//! Metrics of what is kept: the store, and the quarantine.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::signal::Signal;

use super::super::Telemetry;
use super::{KIND, SIGNAL};

/// How the store is.
pub(super) fn observe_store(meter: &Meter, telemetry: &Telemetry) {
    let degraded = telemetry.clone();
    meter
        .u64_observable_gauge("sense_otel.store.degraded")
        .with_description("1 while the disk of the store fails and everything is in memory, 0 otherwise.")
        .with_callback(move |instrument| instrument.observe(degraded.inner.counters.store_degraded.value(), &[]))
        .build();
    let failures = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.store.failures")
        .with_unit("{failure}")
        .with_description("Files of the store that failed, and that could not be made.")
        .with_callback(move |instrument| instrument.observe(failures.inner.counters.store_failures.value(), &[]))
        .build();
    let lost = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.store.lost")
        .with_unit("{item}")
        .with_description("What had been on disk and could not be read back at the start.")
        .with_callback(move |instrument| {
            let counters = &lost.inner.counters;
            for (kind, count) in [("frame", &counters.store_lost_frames), ("record", &counters.store_lost_records)] {
                instrument.observe(count.value(), &[KeyValue::new(KIND, kind)]);
            }
        })
        .build();
}

/// What became of what the backend would never take.
pub(super) fn observe_quarantine(meter: &Meter, telemetry: &Telemetry) {
    let discarded = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.quarantine.discarded")
        .with_unit("{item}")
        .with_description("Quarantined log records and spans that could not be kept.")
        .with_callback(move |instrument| {
            let snapshot = discarded.snapshot();
            for signal in [Signal::Logs, Signal::Traces] {
                let labels = [KeyValue::new(SIGNAL, signal.as_str())];
                instrument.observe(snapshot.signal(signal).discarded, &labels);
            }
        })
        .build();
    let pushed_out = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.quarantine.pushed_out")
        .with_unit("{request}")
        .with_description("Requests in the quarantine that had to make room for newer ones.")
        .with_callback(move |instrument| instrument.observe(pushed_out.inner.counters.pushed_out.value(), &[]))
        .build();
}
