//! Attributes that were encoded before against the same attributes encoded anew.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use sense_otel::otlp::{Encoder, Limits};
use sense_otel::signal::{
    Attribute, Encoded, LogRecord, Resource, Run, Severity, Span, SpanContext, SpanId, SpanKind, TraceId, Value,
};
use sense_otel::time::Timestamp;

const CONTEXT: SpanContext = SpanContext { trace_id: TraceId([1; 16]), span_id: SpanId([2; 8]) };

fn log<'a>(attributes: &'a [Attribute<'a>]) -> LogRecord<'a> {
    LogRecord {
        time: Timestamp::from_nanos(1),
        observed_time: Timestamp::from_nanos(2),
        severity: Severity::Info,
        event_name: "session.start",
        body: "body",
        attributes,
        trace_id: Some(CONTEXT.trace_id),
        span_id: None,
    }
}

fn span<'a>(attributes: &'a [Attribute<'a>]) -> Span<'a> {
    Span {
        context: CONTEXT,
        parent: None,
        name: "span",
        kind: SpanKind::Server,
        start: Timestamp::from_nanos(1),
        end: Timestamp::from_nanos(2),
        attributes,
        links: &[],
    }
}

proptest! {
    /// Lengths lie around those at which a length takes another byte; a span comes first or a log record does, and both
    /// find what the other has left.
    #[test]
    fn a_run_is_written_like_its_attributes(
        texts in vec(prop_oneof!["[a-z]{0,20}", "[a-z]{90,140}", "[a-z]{16300,16400}"], 0..8),
        bounds in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
        spans_first in any::<bool>(),
    ) {
        let resource = Arc::new(Resource::default());
        let key = |place: usize| ["a", "qlik.sense.app.id", ""][place % 3];
        let attribute = |(place, text)| Attribute { key: key(place), value: Value::Text(text) };
        let mut all: Vec<Attribute<'_>> = texts.iter().map(String::as_str).enumerate().map(attribute).collect();
        all.push(Attribute { key: "number", value: Value::Int(7) });
        let mut bounds = [bounds.0, bounds.1, bounds.2].map(|index| index.index(all.len() + 1));
        bounds.sort_unstable();
        let encoded = [Encoded::new(), Encoded::new()];
        let runs = [
            Run { places: bounds[0]..bounds[1], encoded: &encoded[0] },
            Run { places: bounds[1]..bounds[2], encoded: &encoded[1] },
        ];
        let (mut with, mut without) = (Encoder::new("1", Limits::default()), Encoder::new("1", Limits::default()));
        for is_span in [spans_first, !spans_first, spans_first] {
            if is_span {
                with.span_alike(&resource, &span(&all), &runs);
                without.span(&resource, &span(&all));
            } else {
                with.log_alike(&resource, &log(&all), &runs);
                without.log(&resource, &log(&all));
            }
        }
        prop_assert_eq!(with.finish(), without.finish());
    }
}
