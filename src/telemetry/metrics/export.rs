//! One call per collection: the SDK's metrics over our own channel.
//!
//! This stands in for the exporter of `opentelemetry-otlp`, which cannot be kept from adding headers out of the
//! environment to a connection that was configured otherwise, has no deadline on a channel of ours, and reports
//! failures in unthrottled log lines.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::signal::Signal;

use super::{Destination, Telemetry};

/// Sends what the SDK collects, and tells [`Telemetry`] what became of it.
#[derive(Debug)]
pub(super) struct Exporter {
    telemetry: Telemetry,
    client: MetricsServiceClient<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
    interval: Duration,
    runtime: Handle,
    given_up: watch::Receiver<bool>,
}

impl Exporter {
    pub(super) fn new(
        telemetry: Telemetry,
        destination: Destination,
        interval: Duration,
        runtime: Handle,
        given_up: watch::Receiver<bool>,
    ) -> Self {
        let Destination { channel, metadata, compression, timeout } = destination;
        let mut client = MetricsServiceClient::new(channel);
        if let Some(encoding) = compression {
            client = client.send_compressed(encoding).accept_compressed(encoding);
        }
        Self { telemetry, client, metadata, timeout, interval, runtime, given_up }
    }

    /// The call, with its deadline, on the runtime of the channel; cut short when nobody waits for it any more.
    async fn call(&self, message: ExportMetricsServiceRequest) -> Result<ExportMetricsServiceResponse, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        let (mut client, timeout) = (self.client.clone(), self.timeout);
        let mut call = self.runtime.spawn(async move {
            match tokio::time::timeout(timeout, client.export(request)).await {
                Ok(answer) => answer.map(Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded("no answer in time")),
            }
        });
        let mut given_up = self.given_up.clone();
        // The SDK polls this on its own thread, outside the runtime, so that it ends even if the runtime stands still.
        tokio::select! {
            answer = &mut call => answer.unwrap_or_else(|_| Err(Status::cancelled("the runtime has stopped"))),
            _ = given_up.wait_for(|given_up| *given_up) => {
                call.abort();
                Err(Status::cancelled("stopping"))
            }
        }
    }

    fn report(&self, points: u64, answer: Result<ExportMetricsServiceResponse, Status>) {
        match answer {
            Ok(response) => {
                let partial = response.partial_success.unwrap_or_default();
                let refused = u64::try_from(partial.rejected_data_points).unwrap_or(0).min(points);
                self.telemetry.acknowledged(Signal::Metrics, points - refused);
                self.telemetry.delivering(Signal::Metrics);
                if refused > 0 {
                    self.telemetry.refused(Signal::Metrics, refused, &partial.error_message);
                }
            }
            Err(status) => {
                self.telemetry.expired(Signal::Metrics, points);
                let cause = cause(&status);
                match status.code() {
                    Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
                        self.telemetry.parked(Signal::Metrics, status.code(), &cause);
                    }
                    code => self.telemetry.retrying(Signal::Metrics, code, &cause, self.interval),
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
        let answer = self.call(message).await;
        self.report(points, answer);
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

/// What went wrong at the bottom: a refused connection says no more than "transport error" at the top.
fn cause(status: &Status) -> String {
    let mut deepest: Option<&dyn Error> = status.source();
    while let Some(deeper) = deepest.and_then(Error::source) {
        deepest = Some(deeper);
    }
    deepest.map_or_else(|| status.message().to_owned(), ToString::to_string)
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
