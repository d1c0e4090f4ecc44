//! What OpenTelemetry hears: spans and log records, ready to be encoded.
//!
//! Everything borrows: a signal lives for one call from `processor::mapping` to its output, so that an event costs no
//! allocation on its way to the request buffer. The generated protobuf types stay inside the tests of `otlp`.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::time::Timestamp;

/// The three signals of OTLP that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Log records, one per event.
    Logs,
    /// Spans, one per session and connection.
    Traces,
    /// Metrics, on an interval, through the OpenTelemetry SDK.
    Metrics,
}

impl Signal {
    /// The name in configuration, log lines and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A trace id: 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span id: 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A span's place: its trace and its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace that the span belongs to.
    pub trace_id: TraceId,
    /// The span itself.
    pub span_id: SpanId,
}

/// Who speaks: one per proxy node. Attribute keys are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Key and value, in the order in which they are sent.
    pub attributes: Vec<(String, String)>,
}

/// One attribute. Keys are unique within their span or record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// The name, from `processor::mapping`.
    pub key: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// The kinds of attribute value we use: what every backend keeps as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// A list of texts.
    Texts(&'a [&'a str]),
}

/// Attributes of a record that many records have alike, one behind the other: an encoder need encode them only once.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Their places among the attributes of the record.
    pub places: Range<usize>,
    /// What the encoder has made of them, or will.
    pub encoded: &'a Encoded,
}

/// What an encoder made of attributes. Belongs to whatever the attributes are made from, which must never change.
#[derive(Default)]
pub struct Encoded(OnceLock<Box<[u8]>>);

impl Encoded {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The bytes, made now if they have not been before.
    pub fn get_or_make(&self, make: impl FnOnce() -> Box<[u8]>) -> &[u8] {
        self.0.get_or_init(make)
    }
}

/// A copy may be changed, so that it has to be encoded anew.
impl Clone for Encoded {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// It says nothing that what it belongs to does not say.
impl PartialEq for Encoded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Encoded {}

impl fmt::Debug for Encoded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Encoded")
    }
}

/// How much attention a log record asks for. The discriminant is OTLP's severity number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Something happened as it should.
    Info = 9,
    /// Something failed, was lost, or had to be inferred.
    Warn = 13,
}

/// One log record: an event in the sense of OpenTelemetry, because it has a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRecord<'a> {
    /// When it happened.
    pub time: Timestamp,
    /// When we saw it.
    pub observed_time: Timestamp,
    /// How much attention it asks for.
    pub severity: Severity,
    /// The event's name, for example `session.start`.
    pub event_name: &'a str,
    /// One line a person can read.
    pub body: &'a str,
    /// Attributes with unique keys.
    pub attributes: &'a [Attribute<'a>],
    /// The trace that the record belongs to, if it is known.
    pub trace_id: Option<TraceId>,
    /// The span that the record belongs to, often one that is sent only hours later; only with a trace.
    pub span_id: Option<SpanId>,
}

/// What a span is to the system that it ran in. The discriminant is OTLP's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Work inside the application: a session.
    Internal = 1,
    /// The server's side of a call: a connection.
    Server = 2,
}

/// One finished span. Each id is sent once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span<'a> {
    /// Trace and span id.
    pub context: SpanContext,
    /// The parent within the same trace; `None` for a root.
    pub parent: Option<SpanId>,
    /// The name, low in cardinality.
    pub name: &'a str,
    /// Internal or server.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; never before `start`.
    pub end: Timestamp,
    /// Attributes with unique keys.
    pub attributes: &'a [Attribute<'a>],
    /// Related spans, in this trace or another.
    pub links: &'a [Link<'a>],
}

/// A relation to another span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link<'a> {
    /// The other span.
    pub context: SpanContext,
    /// Where the other span's context came from; decides the link's flags.
    pub origin: LinkOrigin,
    /// Attributes with unique keys.
    pub attributes: &'a [Attribute<'a>],
}

/// Where a link's span context came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkOrigin {
    /// One of our own spans: sampled, known to be local.
    Local,
    /// Another system's span, with the W3C trace flags that it sent.
    Remote {
        /// Bit 0 sampled, bit 1 random.
        flags: u8,
    },
}

/// Why items are given up before the backend had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpiryReason {
    /// The outbox was over its budget in bytes: oldest first.
    Size,
    /// They were older than the outbox may keep them.
    Age,
    /// The disk of the store failed, and there was too much for the memory: oldest first.
    Memory,
    /// What the disk gave back was not what was written.
    Damaged,
    /// The disk did not give them back.
    Unreadable,
    /// The disk did not take them before the end of the process.
    Unwritten,
    /// The next interval's metrics stand for them.
    Superseded,
}

impl ExpiryReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 7] =
        [Self::Size, Self::Age, Self::Memory, Self::Damaged, Self::Unreadable, Self::Unwritten, Self::Superseded];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Memory => "memory",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::Unwritten => "unwritten",
            Self::Superseded => "superseded",
        }
    }
}

/// One encoded export request of a commit frame: the unit that is stored, sent and acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// Logs or traces; metrics have a way of their own.
    pub signal: Signal,
    /// How many log records or spans it holds; at least one.
    pub items: u32,
    /// The protobuf bytes of an `Export{Logs,Trace}ServiceRequest`. Two of one signal, one behind the other, are again
    /// a valid request: that is how a backlog is sent in large calls without being decoded.
    pub body: Bytes,
}
