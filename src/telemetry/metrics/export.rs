//! One call per collection: the SDK's metrics over the connection that everything else takes.
//!
//! This stands in for the exporter of `opentelemetry-otlp`, which cannot be kept from adding headers out of the
//! environment to a connection that was configured otherwise, has no deadline on a channel of ours, and reports
//! failures in unthrottled log lines. How a call is made is not known here: it comes in as a [`Backend`].

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Code;

use crate::signal::{ExpiryReason, Signal};

use super::Telemetry;

/// The way to whoever takes the metrics.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Sends one request, the protobuf bytes of an `ExportMetricsServiceRequest`, once. Ends within a deadline of its
    /// own; runs on the runtime that [`super::start`] is given.
    fn export(&self, request: Bytes) -> BoxFuture<'static, Outcome>;
}

/// What became of a request of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend took it.
    Taken {
        /// Data points that it did not take, and never will.
        refused: u64,
        /// What it had to say, as it said it; often nothing.
        remark: String,
    },
    /// It did not, or nobody knows.
    Failed {
        /// The gRPC code, the server's or our own.
        code: Code,
        /// The text, as it came.
        message: String,
        /// Whether the backend answers, but wants no metrics from us as things are.
        parked: bool,
    },
}

/// Sends what the SDK collects, and tells [`Telemetry`] what became of it.
#[derive(Debug)]
pub(super) struct Exporter {
    telemetry: Telemetry,
    backend: Box<dyn Backend>,
    interval: Duration,
    runtime: Handle,
    given_up: watch::Receiver<bool>,
}

impl Exporter {
    pub(super) fn new(
        telemetry: Telemetry,
        backend: impl Backend,
        interval: Duration,
        runtime: Handle,
        given_up: watch::Receiver<bool>,
    ) -> Self {
        Self { telemetry, backend: Box::new(backend), interval, runtime, given_up }
    }

    /// The call, on the runtime of the connection; cut short when nobody waits for it any more.
    async fn call(&self, request: Bytes) -> Outcome {
        let mut call = self.runtime.spawn(self.backend.export(request));
        let mut given_up = self.given_up.clone();
        // The SDK polls this on its own thread, outside the runtime, so that it ends even if the runtime stands still.
        tokio::select! {
            outcome = &mut call => outcome.unwrap_or_else(|_| cancelled("the runtime has stopped")),
            _ = given_up.wait_for(|given_up| *given_up) => {
                call.abort();
                cancelled("stopping")
            }
        }
    }

    pub(super) fn report(&self, points: u64, outcome: Outcome) {
        match outcome {
            Outcome::Taken { refused, remark } => {
                let refused = refused.min(points);
                self.telemetry.acknowledged(Signal::Metrics, points - refused);
                self.telemetry.delivering(Signal::Metrics);
                if refused > 0 {
                    self.telemetry.refused(Signal::Metrics, refused, &remark);
                } else if !remark.is_empty() {
                    self.telemetry.remarked(Signal::Metrics, &remark);
                }
            }
            Outcome::Failed { code, message, parked } => {
                self.telemetry.expired(Signal::Metrics, points, ExpiryReason::Superseded);
                if parked {
                    self.telemetry.parked(Signal::Metrics, code, &message);
                } else {
                    self.telemetry.retrying(Signal::Metrics, code, &message, self.interval);
                }
            }
        }
    }
}

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let message = ExportMetricsServiceRequest::from(metrics);
        let points = data_points(&message);
        self.telemetry.produced(Signal::Metrics, points);
        let outcome = self.call(message.encode_to_vec().into()).await;
        self.report(points, outcome);
        // An error would only make the SDK write a line of its own, each time.
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn cancelled(why: &str) -> Outcome {
    Outcome::Failed { code: Code::Cancelled, message: why.to_owned(), parked: false }
}

fn data_points(message: &ExportMetricsServiceRequest) -> u64 {
    let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let points = scopes.flat_map(|scope| &scope.metrics).map(|metric| match &metric.data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    });
    points.map(|points| u64::try_from(points).unwrap_or(u64::MAX)).sum()
}
