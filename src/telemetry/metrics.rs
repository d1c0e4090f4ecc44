//! The same numbers as OpenTelemetry metrics, through the OpenTelemetry SDK.
//!
//! Counters and gauges are observed from [`Telemetry`] whenever the SDK collects, so that counting costs the hot path
//! one atomic addition; only the two duration histograms are recorded as they happen. Labels are bounded, and never a
//! user, session, app or client: their series would outlive the privacy settings and grow without end.
//!
//! The SDK collects on a thread of its own. The call itself runs on the given tokio runtime, where the connection
//! lives, and is not repeated: all numbers are cumulative, so the next interval brings what this one could not.

mod export;
mod keeping;
mod page;
mod scrape;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;

use crate::event::{Action, Guid, RejectReason};
use crate::signal::{ExpiryReason, Signal};

use super::counters::{LABEL_VALUES_MAX, NodeCounters};
use super::{DropReason, NodeActivity, OTHER, SignalCounts, Telemetry};

use keeping::{observe_quarantine, observe_store};
use page::observe_page;

pub use export::{Backend, Outcome};
pub use scrape::{Scrape, ScrapeError};

/// The running export of metrics. Dropping it stops without a last export.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    give_up: watch::Sender<bool>,
}

/// How long sessions and connections lasted.
#[derive(Debug)]
pub(super) struct Durations {
    session: Histogram<f64>,
    connection: Histogram<f64>,
    /// Prefixes seen so far. They come out of datagrams, so there is a bound.
    virtual_proxies: Mutex<HashSet<String>>,
}

const NODE: &str = "qlik.sense.node";
const EVENT: &str = "qlik.sense.event";
const VIRTUAL_PROXY: &str = "qlik.sense.virtual_proxy.prefix";
const SESSION_END_REASON: &str = "qlik.sense.session.end.reason";
const CONNECTION_CLOSE_REASON: &str = "qlik.sense.connection.close.reason";
/// What became of a datagram or an item.
pub(crate) const OUTCOME: &str = "sense_otel.outcome";
/// Why.
pub(crate) const REASON: &str = "sense_otel.reason";
/// Of which signal an item is.
pub(crate) const SIGNAL: &str = "sense_otel.signal";
const KIND: &str = "sense_otel.kind";

/// Upper bounds of the duration histograms in seconds: from a page that was left at once to a whole day.
const DURATION_BOUNDS: [f64; 15] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 14_400.0, 21_600.0, 28_800.0, 43_200.0,
    86_400.0,
];

/// Starts collecting `telemetry` every `interval`, and sending it to `backend` on `runtime`.
///
/// `resource` is added to the service's own identity. To be called once for each [`Telemetry`]: a second call would
/// send the same counters again, with no durations.
#[must_use]
pub fn start(
    telemetry: &Telemetry,
    backend: impl Backend,
    interval: Duration,
    resource: &[(String, String)],
    runtime: &Handle,
) -> Metrics {
    let (give_up, given_up) = watch::channel(false);
    let exporter = export::Exporter::new(telemetry.clone(), backend, interval, runtime.clone(), given_up);
    let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
    provide(telemetry, builder(resource).with_reader(reader), give_up)
}

/// Collects `telemetry` for [`Scrape`] whenever that is asked, and otherwise as [`start`] does, if there is a backend.
///
/// # Errors
///
/// The SDK cannot be read by Prometheus.
pub fn start_scraped(
    telemetry: &Telemetry,
    scrape: &Scrape,
    backend: Option<(impl Backend, Duration)>,
    resource: &[(String, String)],
    runtime: &Handle,
) -> Result<Metrics, ScrapeError> {
    let (give_up, given_up) = watch::channel(false);
    let mut builder = builder(resource).with_reader(scrape.reader()?);
    if let Some((backend, interval)) = backend {
        let exporter = export::Exporter::new(telemetry.clone(), backend, interval, runtime.clone(), given_up);
        builder = builder.with_reader(PeriodicReader::builder(exporter).with_interval(interval).build());
    }
    Ok(provide(telemetry, builder, give_up))
}

fn builder(resource: &[(String, String)]) -> MeterProviderBuilder {
    SdkMeterProvider::builder().with_resource(identity(resource))
}

/// Every instrument, once.
fn provide(telemetry: &Telemetry, builder: MeterProviderBuilder, give_up: watch::Sender<bool>) -> Metrics {
    let provider = builder.build();
    let scope = InstrumentationScope::builder("sense-otel").with_version(env!("CARGO_PKG_VERSION")).build();
    let meter = provider.meter_with_scope(scope);
    observe_activity(&meter, telemetry);
    observe_nodes(&meter, telemetry);
    observe_receiver(&meter, telemetry);
    observe_exporter(&meter, telemetry);
    observe_store(&meter, telemetry);
    observe_quarantine(&meter, telemetry);
    observe_page(&meter, telemetry);
    if telemetry.inner.durations.set(Durations::new(&meter)).is_err() {
        warn!("metrics were started twice: durations go to the first backend only");
    }
    Metrics { provider, give_up }
}

impl Metrics {
    /// Sends the last numbers and stops. Takes `within` at most, whatever the backend does.
    pub async fn shutdown(self, within: Duration) {
        let provider = self.provider.clone();
        // The SDK waits for its thread, and its thread for this runtime: waiting here would stop both.
        let mut stopped = tokio::task::spawn_blocking(move || provider.shutdown());
        if tokio::time::timeout(within, &mut stopped).await.is_err() {
            self.give_up.send_replace(true);
            // Nothing holds the SDK's thread any more; the result would only say that there was no time.
            let _ = stopped.await;
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // The SDK shuts down when its provider is dropped, and would wait for a call that nobody drives any more.
        self.give_up.send_replace(true);
    }
}

impl Durations {
    fn new(meter: &Meter) -> Self {
        let histogram = |name, description| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build()
        };
        Self {
            session: histogram("qlik.sense.session.duration", "How long ended sessions lasted."),
            connection: histogram("qlik.sense.connection.duration", "How long ended connections lasted."),
            virtual_proxies: Mutex::default(),
        }
    }

    pub(super) fn session_ended(
        &self,
        node: String,
        virtual_proxy: Option<&str>,
        reason: &'static str,
        duration: Duration,
    ) {
        let reason = KeyValue::new(SESSION_END_REASON, reason);
        self.record(&self.session, node, virtual_proxy, reason, duration);
    }

    pub(super) fn connection_ended(
        &self,
        node: String,
        virtual_proxy: Option<&str>,
        reason: &'static str,
        duration: Duration,
    ) {
        let reason = KeyValue::new(CONNECTION_CLOSE_REASON, reason);
        self.record(&self.connection, node, virtual_proxy, reason, duration);
    }

    fn record(
        &self,
        histogram: &Histogram<f64>,
        node: String,
        virtual_proxy: Option<&str>,
        reason: KeyValue,
        duration: Duration,
    ) {
        let node = KeyValue::new(NODE, node);
        let seconds = duration.as_secs_f64();
        match virtual_proxy {
            Some(prefix) => {
                let prefix = KeyValue::new(VIRTUAL_PROXY, self.bounded(prefix));
                histogram.record(seconds, &[node, reason, prefix]);
            }
            None => histogram.record(seconds, &[node, reason]),
        }
    }

    fn bounded(&self, prefix: &str) -> String {
        let mut known = self.virtual_proxies.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(prefix) {
            return prefix.to_owned();
        }
        if known.len() >= LABEL_VALUES_MAX || prefix.len() > super::text::FOREIGN_TEXT_MAX {
            return OTHER.to_owned();
        }
        known.insert(prefix.to_owned());
        prefix.to_owned()
    }
}

/// Who speaks: this process, not Qlik Sense. The instance is new at each start, as the counters are.
fn identity(resource: &[(String, String)]) -> Resource {
    let instance = Guid::from_bits(fastrand::u128(..)).to_string();
    Resource::builder_empty()
        .with_attributes(resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_attributes([
            KeyValue::new("service.name", "sense-otel"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

/// What is open now, per node. Each part of [`NodeActivity`] is one instrument.
fn observe_activity(meter: &Meter, telemetry: &Telemetry) {
    type Part = fn(&NodeActivity) -> u64;
    let parts: [(&'static str, &'static str, &'static str, Part); 3] = [
        ("qlik.sense.session.active", "{session}", "Open sessions.", |node| node.sessions),
        ("qlik.sense.connection.active", "{connection}", "Open connections.", |node| node.connections),
        ("qlik.sense.user.active", "{user}", "Distinct users with an open session.", |node| node.users),
    ];
    for (name, unit, description, part) in parts {
        let telemetry = telemetry.clone();
        meter
            .i64_observable_up_down_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |instrument| {
                for node in telemetry.inner.nodes.active() {
                    instrument.observe(signed(part(&node)), &[KeyValue::new(NODE, node.node)]);
                }
            })
            .build();
    }
    let telemetry = telemetry.clone();
    meter
        .f64_observable_gauge("qlik.sense.node.last_event.age")
        .with_unit("s")
        .with_description("Time since the node's last event was received.")
        .with_callback(move |instrument| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            for node in telemetry.inner.nodes.active() {
                let last = Duration::from_nanos(node.last_event.as_nanos());
                instrument.observe(now.saturating_sub(last).as_secs_f64(), &[KeyValue::new(NODE, node.node)]);
            }
        })
        .build();
}

/// What each node sent.
fn observe_nodes(meter: &Meter, telemetry: &Telemetry) {
    let events = telemetry.clone();
    meter
        .u64_observable_counter("qlik.sense.events")
        .with_unit("{event}")
        .with_description("Events of Qlik Sense that were taken.")
        .with_callback(move |instrument| {
            for node in events.inner.nodes.all() {
                for action in Action::ALL {
                    let labels = [KeyValue::new(NODE, node.node.clone()), KeyValue::new(EVENT, action.event_name())];
                    instrument.observe(node.event(action).map_or(0, |count| count.value()), &labels);
                }
            }
        })
        .build();
    type Part = fn(&NodeCounters) -> u64;
    let parts: [(&'static str, &'static str, &'static str, Part); 3] = [
        ("qlik.sense.node.restarts", "{restart}", "Restarts of the proxy service.", |node| node.restarts.value()),
        ("sense_otel.receiver.gaps", "{gap}", "Gaps in a node's sequence.", |node| node.gaps.value()),
        ("sense_otel.receiver.gap.events", "{event}", "Events missing in those gaps.", |node| node.missing.value()),
    ];
    for (name, unit, description, part) in parts {
        let telemetry = telemetry.clone();
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |instrument| {
                for node in telemetry.inner.nodes.all() {
                    instrument.observe(part(&node), &[KeyValue::new(NODE, node.node.clone())]);
                }
            })
            .build();
    }
}

/// What became of each datagram.
fn observe_receiver(meter: &Meter, telemetry: &Telemetry) {
    let datagrams = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.receiver.datagrams")
        .with_unit("{datagram}")
        .with_description("Datagrams received, by what became of them.")
        .with_callback(move |instrument| {
            let snapshot = datagrams.snapshot();
            for (outcome, count) in
                [("accepted", snapshot.accepted), ("duplicate", snapshot.duplicate), ("excluded", snapshot.excluded)]
            {
                instrument.observe(count, &[KeyValue::new(OUTCOME, outcome)]);
            }
            let rejected = RejectReason::ALL.map(RejectReason::as_str).into_iter().zip(snapshot.rejected);
            let dropped = DropReason::ALL.map(DropReason::as_str).into_iter().zip(snapshot.dropped);
            let reasons =
                rejected.map(|counted| ("rejected", counted)).chain(dropped.map(|counted| ("dropped", counted)));
            for (outcome, (reason, count)) in reasons {
                instrument.observe(count, &[KeyValue::new(OUTCOME, outcome), KeyValue::new(REASON, reason)]);
            }
        })
        .build();
    let kernel = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.receiver.kernel_drops")
        .with_unit("{datagram}")
        .with_description("Datagrams that the kernel dropped because the socket's buffer was full.")
        .with_callback(move |instrument| instrument.observe(kernel.inner.counters.kernel_dropped.value(), &[]))
        .build();
    let failures = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.receiver.errors")
        .with_unit("{error}")
        .with_description("Reads from a socket that failed.")
        .with_callback(move |instrument| instrument.observe(failures.inner.counters.receive_failures.value(), &[]))
        .build();
    let restored = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.receiver.restored")
        .with_unit("{datagram}")
        .with_description("Datagrams that an earlier process received and held.")
        .with_callback(move |instrument| instrument.observe(restored.inner.counters.restored_held.value(), &[]))
        .build();
    let held = telemetry.clone();
    meter
        .i64_observable_up_down_counter("sense_otel.receiver.held")
        .with_unit("{datagram}")
        .with_description("Datagrams that wait for an earlier one.")
        .with_callback(move |instrument| instrument.observe(signed(held.inner.counters.held.value()), &[]))
        .build();
}

/// What became of each log record, span and data point.
fn observe_exporter(meter: &Meter, telemetry: &Telemetry) {
    type Part = fn(&SignalCounts) -> u64;
    const OUTCOMES: [(&str, Part); 3] = [
        ("acknowledged", |counts| counts.acknowledged),
        ("refused", |counts| counts.refused),
        ("quarantined", |counts| counts.quarantined),
    ];
    let items = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.exporter.items")
        .with_unit("{item}")
        .with_description("Log records, spans and metric points, by what became of them.")
        .with_callback(move |instrument| {
            let snapshot = items.snapshot();
            for signal in [Signal::Logs, Signal::Traces, Signal::Metrics] {
                for (outcome, part) in OUTCOMES {
                    let labels = [KeyValue::new(SIGNAL, signal.as_str()), KeyValue::new(OUTCOME, outcome)];
                    instrument.observe(part(&snapshot.signal(signal)), &labels);
                }
                for reason in ExpiryReason::ALL {
                    let labels = [
                        KeyValue::new(SIGNAL, signal.as_str()),
                        KeyValue::new(OUTCOME, "expired"),
                        KeyValue::new(REASON, reason.as_str()),
                    ];
                    instrument.observe(items.inner.counters.signal(signal).expired_for(reason).value(), &labels);
                }
            }
        })
        .build();
    let restored = telemetry.clone();
    meter
        .u64_observable_counter("sense_otel.exporter.restored")
        .with_unit("{item}")
        .with_description("Log records and spans that an earlier process made and did not deliver.")
        .with_callback(move |instrument| {
            let snapshot = restored.snapshot();
            for signal in [Signal::Logs, Signal::Traces] {
                instrument.observe(snapshot.signal(signal).restored, &[KeyValue::new(SIGNAL, signal.as_str())]);
            }
        })
        .build();
    let pending = telemetry.clone();
    meter
        .i64_observable_up_down_counter("sense_otel.exporter.pending")
        .with_unit("{item}")
        .with_description("Log records and spans that the backend has not taken yet.")
        .with_callback(move |instrument| {
            let snapshot = pending.snapshot();
            for signal in [Signal::Logs, Signal::Traces] {
                let labels = [KeyValue::new(SIGNAL, signal.as_str())];
                instrument.observe(signed(snapshot.signal(signal).pending()), &labels);
            }
        })
        .build();
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
