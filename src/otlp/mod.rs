//! Signals to the protobuf bytes of OTLP export requests, under a server's limits.
//!
//! Records are written straight from what the processor borrows them from into buffers that are used again: building
//! the generated types first costs about ten times as much (`benches/encode.rs`). The tests hold both byte for byte
//! equal.
//!
//! **Lengths** stand before what they measure. They are computed first, by the same function that writes, over a sink
//! that only counts. That is a few additions per attribute, and it is what lets a record's size be known *before* it is
//! written: whether it still fits is decided without taking anything back, and its buffer grows at most once. The other
//! way, leaving a byte free and moving the text when the length needs two, would move every long User-Agent up to three
//! times.
//!
//! ```text
//! wire      numbers, lengths, fields            message   which field holds what
//! request   resources, limits, whole requests   split     one stored request into two
//! ```

use std::sync::Arc;

use crate::signal::{ExportRequest, LogRecord, Resource, Run, Signal, Span};

mod message;
mod request;
mod split;
mod wire;

use message::{Scope, With};
use request::Requests;
pub use split::{count, split};

/// The instrumentation scope of everything that we send.
const SCOPE_NAME: &str = "sense-otel";
/// The semantic conventions that our attribute names follow where one exists.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// How large a request may become. Both hold for every request, except that a single record larger than
/// `request_bytes_max` goes alone: attribute lengths are limited far below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request before compression. Servers commonly refuse more than 4 MiB.
    pub request_bytes_max: usize,
    /// Log records or spans in a request.
    pub request_items_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_bytes_max: 3_670_016, request_items_max: 8192 }
    }
}

/// Writes log records and spans into requests: any number of them, then [`finish`](Self::finish), and again.
#[derive(Debug)]
pub struct Encoder {
    logs: Requests,
    traces: Requests,
}

impl Encoder {
    /// An encoder whose scope is `sense-otel` of this version.
    #[must_use]
    pub fn new(scope_version: &str, limits: Limits) -> Self {
        let requests = |signal| {
            let scope = Scope { name: SCOPE_NAME, version: scope_version };
            Requests::new(signal, limits, &scope, SCHEMA_URL)
        };
        Self { logs: requests(Signal::Logs), traces: requests(Signal::Traces) }
    }

    /// Adds a log record of this resource. Hand over the same `Arc` for the same resource: it is found faster.
    pub fn log(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>) {
        self.log_alike(resource, record, &[]);
    }

    /// The same, where these attributes are encoded already or will be needed again.
    pub fn log_alike(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>, runs: &[Run<'_>]) {
        self.logs.add(resource, &With { record, runs });
    }

    /// Adds a span of this resource. Hand over the same `Arc` for the same resource: it is found faster.
    pub fn span(&mut self, resource: &Arc<Resource>, span: &Span<'_>) {
        self.span_alike(resource, span, &[]);
    }

    /// The same, where these attributes are encoded already or will be needed again.
    pub fn span_alike(&mut self, resource: &Arc<Resource>, span: &Span<'_>, runs: &[Run<'_>]) {
        self.traces.add(resource, &With { record: span, runs });
    }

    /// All requests since the last time: those of logs, then those of traces, each in the order of what they hold.
    /// Within a request, records are sorted by resource and keep their order there.
    pub fn finish(&mut self) -> Vec<ExportRequest> {
        let mut requests = self.logs.finish();
        requests.append(&mut self.traces.finish());
        requests
    }

    /// Whether [`finish`](Self::finish) would hand over nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.traces.is_empty()
    }
}
