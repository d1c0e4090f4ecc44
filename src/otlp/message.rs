//! Our signals as OTLP's messages: which field holds what.
//!
//! Field numbers are those of OTLP 1 (`logs.proto`, `trace.proto`, `common.proto`, `resource.proto`), where they can
//! only ever be added to. Counts of dropped attributes, events and links are left out: 0 is what absent means, and what
//! is cut is cut inside a value, never an attribute.

use super::wire::{Message, Sink, short_key};
use crate::signal::{Attribute, Link, LinkOrigin, LogRecord, Resource, Run, Span, Value};

/// The W3C flag of a trace that is recorded. All of ours are.
const SAMPLED: u32 = 0x01;
/// Set when the next bit means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// Set when the context came from another process.
const IS_REMOTE: u32 = 0x200;

/// Where the attributes of a log record stand. Runs of attributes are kept as they are written there.
const LOG_ATTRIBUTES: u32 = 6;

/// An attribute is short if its key and text together have fewer bytes: with what stands before them, its length is
/// then below 128, as are the three lengths inside, and each takes one byte.
const SHORT_BYTES: usize = 128 - 6;

/// A log record or span, and which of its attributes are encoded already, in their order.
pub(super) struct With<'a, T> {
    pub(super) record: &'a T,
    pub(super) runs: &'a [Run<'a>],
}

/// `opentelemetry.proto.logs.v1.LogRecord`; severity text is left unset, as the conventions for events ask.
impl Message for With<'_, LogRecord<'_>> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        let record = self.record;
        sink.fixed64(1, record.time.as_nanos());
        sink.number(2, record.severity as u64);
        sink.message(5, &Value::Text(record.body));
        attributes_with(sink, LOG_ATTRIBUTES, record.attributes, self.runs);
        if let Some(trace_id) = record.trace_id {
            sink.fixed32(8, SAMPLED);
            sink.present(9, &trace_id.0);
        }
        if let Some(span_id) = record.span_id {
            sink.present(10, &span_id.0);
        }
        sink.fixed64(11, record.observed_time.as_nanos());
        sink.text(12, record.event_name);
    }
}

/// `opentelemetry.proto.trace.v1.Span`; status is left unset, since nothing here fails.
impl Message for With<'_, Span<'_>> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        let span = self.record;
        sink.present(1, &span.context.trace_id.0);
        sink.present(2, &span.context.span_id.0);
        if let Some(parent) = span.parent {
            sink.present(4, &parent.0);
        }
        sink.text(5, span.name);
        sink.number(6, span.kind as u64);
        sink.fixed64(7, span.start.as_nanos());
        sink.fixed64(8, span.end.as_nanos());
        attributes_with(sink, 9, span.attributes, self.runs);
        for link in span.links {
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

/// The same where some of them are encoded already. Copying a run takes as long as writing one attribute.
#[inline]
fn attributes_with(sink: &mut impl Sink, field: u32, all: &[Attribute<'_>], runs: &[Run<'_>]) {
    let mut written = 0;
    for Run { places, encoded } in runs {
        let Some(run) = all.get(places.clone()) else { continue };
        attributes(sink, field, all.get(written..places.start).unwrap_or_default());
        let bytes = encoded.get_or_make(|| encode(run));
        debug_assert_eq!(bytes, &*encode(run), "what is encoded has changed");
        sink.fields(short_key(field), bytes);
        written = places.end;
    }
    attributes(sink, field, all.get(written..).unwrap_or_default());
}

fn encode(run: &[Attribute<'_>]) -> Box<[u8]> {
    let mut bytes = Vec::new();
    attributes(&mut bytes, LOG_ATTRIBUTES, run);
    bytes.into()
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
