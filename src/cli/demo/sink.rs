//! A small OTLP server: takes logs, spans and metrics over gRPC and hands them on, decoded and cleaned.
//!
//! It runs on a thread of its own, so that it answers even while the exporter's runtime waits for it at the end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use http::Uri;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::{logs::v1 as logs, trace::v1 as trace};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::signal::Severity;
use crate::telemetry::text::one_line;
use crate::time::Timestamp;

/// One thing that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Received {
    Record(Record),
    Span(Span),
    /// One export of metrics.
    Metrics,
}

/// A log record, as far as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) event_name: String,
    /// Whether it asks for attention.
    pub(super) is_warning: bool,
    pub(super) body: String,
}

/// A span, as far as a person wants to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    /// Empty for a root.
    pub(super) parent_id: Vec<u8>,
    pub(super) name: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// Attributes of the span and of its resource, as text.
    pub(super) attributes: BTreeMap<String, String>,
}

/// The running server.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Why the server ended.
#[derive(Debug, Error)]
enum SinkError {
    #[error("cannot listen")]
    Listen(#[from] io::Error),
    #[error("cannot serve")]
    Serve(#[from] tonic::transport::Error),
}

impl Sink {
    /// Listens on a free port of this machine. A slow reader of `received` slows the exporter down; nothing is lost.
    pub(super) fn start(received: mpsc::Sender<Received>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("demo-sink".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    result = serve(listener, received) => {
                        if let Err(error) = result {
                            warn!(%error, "the demo's OTLP server ended");
                        }
                    }
                    _ = stopped => (),
                }
            });
        })?;
        Ok(Self { address, stop, thread })
    }

    /// Where an exporter sends to.
    pub(super) fn endpoint(&self) -> Uri {
        let parts = Uri::builder().scheme("http").authority(self.address.to_string()).path_and_query("/");
        // An address and a port always make an authority.
        parts.build().unwrap_or_default()
    }

    /// Stops at once; the channel ends when its last item is read.
    pub(super) fn stop(self) {
        // A server that has ended already does not listen for this.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn serve(listener: std::net::TcpListener, received: mpsc::Sender<Received>) -> Result<(), SinkError> {
    let incoming = TcpIncoming::from(TcpListener::from_std(listener)?);
    let service = Service { received };
    let (gzip, zstd) = (CompressionEncoding::Gzip, CompressionEncoding::Zstd);
    Server::builder()
        .add_service(LogsServiceServer::new(service.clone()).accept_compressed(gzip).accept_compressed(zstd))
        .add_service(TraceServiceServer::new(service.clone()).accept_compressed(gzip).accept_compressed(zstd))
        .add_service(MetricsServiceServer::new(service).accept_compressed(gzip).accept_compressed(zstd))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Service {
    received: mpsc::Sender<Received>,
}

impl Service {
    async fn pass_on(&self, items: impl Iterator<Item = Received>) -> Result<(), Status> {
        for item in items {
            self.received.send(item).await.map_err(|_| Status::unavailable("the demo is over"))?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        let records = scopes.flat_map(|scope| scope.log_records);
        self.pass_on(records.map(|record| Received::Record(Record::from(record)))).await?;
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource_spans in request.into_inner().resource_spans {
            let resource = attributes(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default());
            let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.pass_on(spans.map(|span| Received::Span(Span::new(span, &resource)))).await?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        _request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.pass_on([Received::Metrics].into_iter()).await?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl From<logs::LogRecord> for Record {
    fn from(record: logs::LogRecord) -> Self {
        Self {
            time: Timestamp::from_nanos(record.time_unix_nano),
            event_name: one_line(&record.event_name),
            is_warning: record.severity_number >= Severity::Warn as i32,
            body: record.body.map(text).unwrap_or_default(),
        }
    }
}

impl Span {
    fn new(span: trace::Span, resource: &BTreeMap<String, String>) -> Self {
        let mut attributes = attributes(span.attributes);
        for (key, value) in resource {
            attributes.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Self {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_id: span.parent_span_id,
            name: one_line(&span.name),
            start: Timestamp::from_nanos(span.start_time_unix_nano),
            end: Timestamp::from_nanos(span.end_time_unix_nano),
            attributes,
        }
    }

    /// An attribute's value, if it is there and not empty.
    pub(super) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, attribute.value.map(text).unwrap_or_default())).collect()
}

/// A value as a person reads it. What was typed by a user of Qlik Sense ends on a terminal, so it is cleaned.
fn text(value: AnyValue) -> String {
    match value.value {
        Some(any_value::Value::StringValue(text)) => one_line(&text),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::ArrayValue(array)) => array.values.into_iter().map(text).collect::<Vec<_>>().join(", "),
        // We send no maps, bytes or references into a string table.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
