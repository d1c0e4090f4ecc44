//! Our signals as OTLP's messages: which field holds what.
//!
//! Field numbers are those of OTLP 1 (`logs.proto`, `trace.proto`, `common.proto`, `resource.proto`), where they can
//! only ever be added to. Counts of dropped attributes, events and links are left out: 0 is what absent means, and what
//! is cut is cut inside a value, never an attribute.

use super::wire::{Message, Sink, short_key};
use crate::signal::{Attribute, Link, LinkOrigin, LogRecord, Resource, Span, Value};

/// The W3C flag of a trace that is recorded. All of ours are.
const SAMPLED: u32 = 0x01;
/// Set when the next bit means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// Set when the context came from another process.
const IS_REMOTE: u32 = 0x200;

/// An attribute is short if its key and text together have fewer bytes: with what stands before them, its length is
/// then below 128, as are the three lengths inside, and each takes one byte.
const SHORT_BYTES: usize = 128 - 6;

/// `opentelemetry.proto.logs.v1.LogRecord`; severity text is left unset, as the conventions for events ask.
impl Message for LogRecord<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        sink.fixed64(1, self.time.as_nanos());
        sink.number(2, self.severity as u64);
        sink.message(5, &Value::Text(self.body));
        attributes(sink, 6, self.attributes);
        if let Some(trace_id) = self.trace_id {
            sink.fixed32(8, SAMPLED);
            sink.present(9, &trace_id.0);
        }
        if let Some(span_id) = self.span_id {
            sink.present(10, &span_id.0);
        }
        sink.fixed64(11, self.observed_time.as_nanos());
        sink.text(12, self.event_name);
    }
}

/// `opentelemetry.proto.trace.v1.Span`; status is left unset, since nothing here fails.
impl Message for Span<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        sink.present(1, &self.context.trace_id.0);
        sink.present(2, &self.context.span_id.0);
        if let Some(parent) = self.parent {
            sink.present(4, &parent.0);
        }
        sink.text(5, self.name);
        sink.number(6, self.kind as u64);
        sink.fixed64(7, self.start.as_nanos());
        sink.fixed64(8, self.end.as_nanos());
        attributes(sink, 9, self.attributes);
        for link in self.links {
            sink.message(13, link);
        }
        sink.fixed32(16, SAMPLED | HAS_IS_REMOTE);
    }
}

/// `opentelemetry.proto.trace.v1.Span.Link`.
impl Message for Link<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.present(1, &self.context.trace_id.0);
        sink.present(2, &self.context.span_id.0);
        attributes(sink, 4, self.attributes);
        let flags = match self.origin {
            LinkOrigin::Local => SAMPLED | HAS_IS_REMOTE,
            LinkOrigin::Remote { flags } => u32::from(flags) | HAS_IS_REMOTE | IS_REMOTE,
        };
        sink.fixed32(6, flags);
    }
}

/// `opentelemetry.proto.resource.v1.Resource`.
impl Message for Resource {
    fn write(&self, sink: &mut impl Sink) {
        for (key, value) in &self.attributes {
            sink.message(1, &Attribute { key, value: Value::Text(value) });
        }
    }
}

/// `opentelemetry.proto.common.v1.InstrumentationScope`.
pub(super) struct Scope<'a> {
    /// What made the signals.
    pub(super) name: &'a str,
    /// Its version.
    pub(super) version: &'a str,
}

impl Message for Scope<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.text(1, self.name);
        sink.text(2, self.version);
    }
}

/// The bulk of every record, and nearly all of it short texts. For those the four lengths follow from two, and what
/// stands before the key, and before the text, is written at once: a record costs less than half as much.
#[inline]
fn attributes(sink: &mut impl Sink, field: u32, attributes: &[Attribute<'_>]) {
    for attribute in attributes {
        match *attribute {
            Attribute { key, value: Value::Text(text) } if !key.is_empty() && key.len() + text.len() < SHORT_BYTES => {
                let (key_length, text_length) = (key.len() as u8, text.len() as u8);
                sink.raw(&[short_key(field), key_length + text_length + 6, short_key(1), key_length]);
                sink.raw(key.as_bytes());
                sink.raw(&[short_key(2), text_length + 2, short_key(1), text_length]);
                sink.raw(text.as_bytes());
            }
            _ => sink.message(field, attribute),
        }
    }
}

/// `opentelemetry.proto.common.v1.KeyValue`.
impl Message for Attribute<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        sink.text(1, self.key);
        sink.message(2, &self.value);
    }
}

/// `opentelemetry.proto.common.v1.AnyValue`, a `oneof`: an empty text or a 0 is written, for it is not "no value".
impl Message for Value<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        match *self {
            Value::Text(text) => sink.present(1, text.as_bytes()),
            Value::Bool(value) => sink.number(2, value.into()),
            Value::Int(value) => sink.number(3, value.cast_unsigned()),
            Value::Texts(texts) => sink.message(5, &Texts(texts)),
        }
    }
}

/// `opentelemetry.proto.common.v1.ArrayValue` of texts.
struct Texts<'a>(&'a [&'a str]);

impl Message for Texts<'_> {
    fn write(&self, sink: &mut impl Sink) {
        for text in self.0 {
            sink.message(1, &Value::Text(text));
        }
    }
}
