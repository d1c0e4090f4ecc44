//! Scripts of random log records and spans, and the requests that the generated types make of them.

use std::ops::Range;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use sense_otel::signal::{
    Attribute, ExportRequest, Link, LinkOrigin, LogRecord, Resource, Severity, Signal, Span, SpanContext, SpanId,
    SpanKind, TraceId, Value,
};
use sense_otel::time::Timestamp;

/// What is handed to the encoder, in order.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Index into the script's resources.
    pub(crate) resource: usize,
    pub(crate) item: Item,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Log(OwnedLog),
    Span(OwnedSpan),
}

#[derive(Clone, Debug)]
pub(crate) struct OwnedLog {
    times: (u64, u64),
    severity: Severity,
    event_name: String,
    body: String,
    attributes: Attributes,
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
}

#[derive(Clone, Debug)]
pub(crate) struct OwnedSpan {
    context: SpanContext,
    parent: Option<SpanId>,
    name: String,
    kind: SpanKind,
    times: (u64, u64),
    attributes: Attributes,
    links: Vec<OwnedLink>,
}

#[derive(Clone, Debug)]
struct OwnedLink {
    context: SpanContext,
    origin: LinkOrigin,
    attributes: Attributes,
}

#[derive(Clone, Debug)]
enum OwnedValue {
    Text(String),
    Int(i64),
    Bool(bool),
    Texts(Vec<String>),
}

type Attributes = Vec<(String, OwnedValue)>;

// What the strategies make.

/// Texts whose lengths, and whose attributes', records' and requests' lengths, lie around those at which a protobuf
/// length takes another byte; and texts of any characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        12 => "[a-z.]{1,20}",
        8 => any::<String>(),
        12 => (100_usize..130).prop_map(|length| "x".repeat(length)),
        1 => (16_300_usize..16_400).prop_map(|length| "y".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = OwnedValue> {
    prop_oneof![
        6 => text().prop_map(OwnedValue::Text),
        2 => prop_oneof![any::<i64>(), -2_i64..200].prop_map(OwnedValue::Int),
        1 => any::<bool>().prop_map(OwnedValue::Bool),
        1 => vec(text(), 0..5).prop_map(OwnedValue::Texts),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    vec((text(), value()), 0..6)
}

fn times() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![Just((0, 0)), any::<(u64, u64)>()]
}

fn context() -> impl Strategy<Value = SpanContext> {
    any::<([u8; 16], [u8; 8])>()
        .prop_map(|(trace_id, span_id)| SpanContext { trace_id: TraceId(trace_id), span_id: SpanId(span_id) })
}

fn log() -> impl Strategy<Value = OwnedLog> {
    let severity = prop_oneof![Just(Severity::Info), Just(Severity::Warn)];
    (times(), severity, text(), text(), attributes(), option::of((context(), any::<bool>()))).prop_map(
        |(times, severity, event_name, body, attributes, context)| OwnedLog {
            times,
            severity,
            event_name,
            body,
            attributes,
            trace_id: context.map(|(context, _)| context.trace_id),
            span_id: context.filter(|(_, in_span)| *in_span).map(|(context, _)| context.span_id),
        },
    )
}

fn span() -> impl Strategy<Value = OwnedSpan> {
    let parent = option::of(any::<[u8; 8]>().prop_map(SpanId));
    let kind = prop_oneof![Just(SpanKind::Internal), Just(SpanKind::Server)];
    let origin = prop_oneof![Just(LinkOrigin::Local), any::<u8>().prop_map(|flags| LinkOrigin::Remote { flags })];
    let link = (context(), origin, attributes());
    let links = vec(link.prop_map(|(context, origin, attributes)| OwnedLink { context, origin, attributes }), 0..3);
    (context(), parent, text(), kind, times(), attributes(), links).prop_map(
        |(context, parent, name, kind, times, attributes, links)| OwnedSpan {
            context,
            parent,
            name,
            kind,
            times,
            attributes,
            links,
        },
    )
}

/// As many entries as asked for, of four resources. All differ, since that is what the encoder sorts by.
pub(crate) fn script(entries: Range<usize>) -> impl Strategy<Value = Script> {
    let resources = vec(vec((text(), text()), 0..3), 4).prop_map(|mut resources| {
        for (place, attributes) in resources.iter_mut().enumerate().skip(1) {
            attributes.push(("place".to_owned(), place.to_string()));
        }
        resources.into_iter().map(|attributes| Arc::new(Resource { attributes })).collect()
    });
    let item = prop_oneof![log().prop_map(Item::Log), span().prop_map(Item::Span)];
    let entry = (0_usize..4, item).prop_map(|(resource, item)| Entry { resource, item });
    (resources, vec(entry, entries)).prop_map(|(resources, entries)| Script { resources, entries })
}

// As the encoder takes them.

impl OwnedValue {
    /// The texts of a list, where a borrowed value can point.
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Texts(texts) => texts.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn borrow<'a>(&'a self, texts: &'a [&'a str]) -> Value<'a> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Int(value) => Value::Int(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Texts(_) => Value::Texts(texts),
        }
    }
}

fn texts(attributes: &Attributes) -> Vec<Vec<&str>> {
    attributes.iter().map(|(_, value)| value.texts()).collect()
}

fn borrow<'a>(attributes: &'a Attributes, texts: &'a [Vec<&'a str>]) -> Vec<Attribute<'a>> {
    let pairs = attributes.iter().zip(texts);
    pairs.map(|((key, value), texts)| Attribute { key, value: value.borrow(texts) }).collect()
}

impl OwnedLog {
    pub(crate) fn lend<R>(&self, then: impl FnOnce(&LogRecord<'_>) -> R) -> R {
        then(&LogRecord {
            time: Timestamp::from_nanos(self.times.0),
            observed_time: Timestamp::from_nanos(self.times.1),
            severity: self.severity,
            event_name: &self.event_name,
            body: &self.body,
            attributes: &borrow(&self.attributes, &texts(&self.attributes)),
            trace_id: self.trace_id,
            span_id: self.span_id,
        })
    }
}

impl OwnedSpan {
    pub(crate) fn lend<R>(&self, then: impl FnOnce(&Span<'_>) -> R) -> R {
        let link_texts = self.links.iter().map(|link| texts(&link.attributes)).collect::<Vec<_>>();
        let links = self.links.iter().zip(&link_texts);
        let link_attributes = links.map(|(link, texts)| borrow(&link.attributes, texts)).collect::<Vec<_>>();
        let links = self.links.iter().zip(&link_attributes);
        let links = links.map(|(link, attributes)| Link { context: link.context, origin: link.origin, attributes });
        then(&Span {
            context: self.context,
            parent: self.parent,
            name: &self.name,
            kind: self.kind,
            start: Timestamp::from_nanos(self.times.0),
            end: Timestamp::from_nanos(self.times.1),
            attributes: &borrow(&self.attributes, &texts(&self.attributes)),
            links: &links.collect::<Vec<_>>(),
        })
    }
}

// As the generated types say it.

impl Script {
    /// The requests of logs and of traces that hold everything, if there is anything.
    pub(crate) fn expected(&self, version: &str) -> Vec<ExportRequest> {
        let scope = common::InstrumentationScope {
            name: "sense-otel".to_owned(),
            version: version.to_owned(),
            ..Default::default()
        };
        let schema_url = "https://opentelemetry.io/schemas/1.44.0";
        let mut records = Vec::<(&Resource, logs::ScopeLogs)>::new();
        let mut spans = Vec::<(&Resource, trace::ScopeSpans)>::new();
        for entry in &self.entries {
            let resource = &*self.resources[entry.resource];
            match &entry.item {
                Item::Log(log) => group(&mut records, resource).log_records.push(log.expected()),
                Item::Span(span) => group(&mut spans, resource).spans.push(span.expected()),
            }
        }
        let (log_items, span_items) = (
            records.iter().map(|(_, scope)| scope.log_records.len()).sum::<usize>(),
            spans.iter().map(|(_, scope)| scope.spans.len()).sum::<usize>(),
        );
        let log_request = ExportLogsServiceRequest {
            resource_logs: records
                .into_iter()
                .map(|(resource, scope_logs)| logs::ResourceLogs {
                    resource: Some(expected_resource(resource)),
                    scope_logs: vec![logs::ScopeLogs {
                        scope: Some(scope.clone()),
                        schema_url: schema_url.to_owned(),
                        ..scope_logs
                    }],
                    ..Default::default()
                })
                .collect(),
        };
        let trace_request = ExportTraceServiceRequest {
            resource_spans: spans
                .into_iter()
                .map(|(resource, scope_spans)| trace::ResourceSpans {
                    resource: Some(expected_resource(resource)),
                    scope_spans: vec![trace::ScopeSpans {
                        scope: Some(scope.clone()),
                        schema_url: schema_url.to_owned(),
                        ..scope_spans
                    }],
                    ..Default::default()
                })
                .collect(),
        };
        let requests = [
            (Signal::Logs, log_items, log_request.encode_to_vec()),
            (Signal::Traces, span_items, trace_request.encode_to_vec()),
        ];
        let requests = requests.into_iter().filter(|(_, items, _)| *items > 0);
        requests.map(|(signal, items, body)| ExportRequest { signal, items: items as u32, body: body.into() }).collect()
    }
}

/// The scope of this resource, made where there is none.
fn group<'a, 'g, S: Default>(groups: &'g mut Vec<(&'a Resource, S)>, resource: &'a Resource) -> &'g mut S {
    let place = groups.iter().position(|(known, _)| *known == resource).unwrap_or_else(|| {
        groups.push((resource, S::default()));
        groups.len() - 1
    });
    &mut groups[place].1
}

impl OwnedLog {
    fn expected(&self) -> logs::LogRecord {
        logs::LogRecord {
            time_unix_nano: self.times.0,
            observed_time_unix_nano: self.times.1,
            severity_number: match self.severity {
                Severity::Info => logs::SeverityNumber::Info.into(),
                Severity::Warn => logs::SeverityNumber::Warn.into(),
            },
            body: Some(expected_text(&self.body)),
            attributes: expected_attributes(&self.attributes),
            flags: self.trace_id.map_or(0, |_| 1),
            trace_id: self.trace_id.map_or_else(Vec::new, |id| id.0.to_vec()),
            span_id: self.span_id.map_or_else(Vec::new, |id| id.0.to_vec()),
            event_name: self.event_name.clone(),
            ..Default::default()
        }
    }
}

impl OwnedSpan {
    fn expected(&self) -> trace::Span {
        trace::Span {
            trace_id: self.context.trace_id.0.to_vec(),
            span_id: self.context.span_id.0.to_vec(),
            parent_span_id: self.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
            flags: 0x101,
            name: self.name.clone(),
            kind: match self.kind {
                SpanKind::Internal => trace::span::SpanKind::Internal.into(),
                SpanKind::Server => trace::span::SpanKind::Server.into(),
            },
            start_time_unix_nano: self.times.0,
            end_time_unix_nano: self.times.1,
            attributes: expected_attributes(&self.attributes),
            links: self.links.iter().map(OwnedLink::expected).collect(),
            ..Default::default()
        }
    }
}

impl OwnedLink {
    fn expected(&self) -> trace::span::Link {
        trace::span::Link {
            trace_id: self.context.trace_id.0.to_vec(),
            span_id: self.context.span_id.0.to_vec(),
            attributes: expected_attributes(&self.attributes),
            flags: match self.origin {
                LinkOrigin::Local => 0x101,
                LinkOrigin::Remote { flags } => 0x300 | u32::from(flags),
            },
            ..Default::default()
        }
    }
}

fn expected_resource(resource: &Resource) -> resource::Resource {
    let attributes = resource.attributes.iter().map(|(key, value)| common::KeyValue {
        key: key.clone(),
        value: Some(expected_text(value)),
        ..Default::default()
    });
    resource::Resource { attributes: attributes.collect(), ..Default::default() }
}

fn expected_attributes(attributes: &Attributes) -> Vec<common::KeyValue> {
    let attributes = attributes.iter().map(|(key, value)| common::KeyValue {
        key: key.clone(),
        value: Some(match value {
            OwnedValue::Text(text) => expected_text(text),
            OwnedValue::Int(value) => any_value(common::any_value::Value::IntValue(*value)),
            OwnedValue::Bool(value) => any_value(common::any_value::Value::BoolValue(*value)),
            OwnedValue::Texts(texts) => any_value(common::any_value::Value::ArrayValue(common::ArrayValue {
                values: texts.iter().map(|text| expected_text(text)).collect(),
            })),
        }),
        ..Default::default()
    });
    attributes.collect()
}

fn expected_text(text: &str) -> common::AnyValue {
    any_value(common::any_value::Value::StringValue(text.to_owned()))
}

fn any_value(value: common::any_value::Value) -> common::AnyValue {
    common::AnyValue { value: Some(value) }
}
