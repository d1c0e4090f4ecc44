//! Metrics of the live page.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::super::{PageRefusal, Telemetry};
use super::REASON;

/// Whom it did not answer.
pub(super) fn observe_page(meter: &Meter, telemetry: &Telemetry) {
    let refused = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.page.refused")
        .with_unit("{request}")
        .with_description("Requests to the live page that were not answered, by the reason.")
        .with_callback(move |instrument| {
            let counts = refused.snapshot().page_refused;
            for (reason, count) in PageRefusal::ALL.iter().zip(counts) {
                instrument.observe(count, &[KeyValue::new(REASON, reason.as_str())]);
            }
        })
        .build();
}
