//! What a collector's `file` exporter wrote: OTLP in JSON, one export request a line, flattened into rows.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// Attributes by key.
pub(crate) type Attributes = BTreeMap<String, Value>;

/// Everything that arrived, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Row<Span>>,
    pub(crate) records: Vec<Row<Record>>,
    pub(crate) metrics: Vec<Row<Metric>>,
}

/// One item with the resource and the scope that it came under.
#[derive(Clone, Debug)]
pub(crate) struct Row<Item> {
    pub(crate) resource: Attributes,
    pub(crate) scope: String,
    pub(crate) item: Item,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue", deserialize_with = "number")]
    Int(i64),
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "arrayValue")]
    List {
        #[serde(default)]
        values: Vec<Self>,
    },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    #[serde(default)]
    pub(crate) parent_span_id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: u32,
    #[serde(rename = "startTimeUnixNano", deserialize_with = "number")]
    pub(crate) start: u64,
    #[serde(rename = "endTimeUnixNano", deserialize_with = "number")]
    pub(crate) end: u64,
    #[serde(default, deserialize_with = "attributes")]
    pub(crate) attributes: Attributes,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    #[serde(rename = "timeUnixNano", deserialize_with = "number")]
    pub(crate) time: u64,
    #[serde(rename = "observedTimeUnixNano", deserialize_with = "number")]
    pub(crate) observed_time: u64,
    #[serde(rename = "severityNumber", default)]
    pub(crate) severity: u32,
    #[serde(default)]
    pub(crate) event_name: String,
    pub(crate) body: Option<Value>,
    #[serde(default, deserialize_with = "attributes")]
    pub(crate) attributes: Attributes,
    #[serde(default)]
    pub(crate) trace_id: String,
    #[serde(default)]
    pub(crate) span_id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) unit: String,
    #[serde(alias = "gauge", alias = "histogram")]
    pub(crate) sum: Option<Points>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Points {
    pub(crate) data_points: Vec<Point>,
    /// 1 delta, 2 cumulative; 0 for a gauge.
    #[serde(default)]
    pub(crate) aggregation_temporality: u32,
    #[serde(default)]
    pub(crate) is_monotonic: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    #[serde(default, deserialize_with = "attributes")]
    pub(crate) attributes: Attributes,
    /// A whole number: the value, or the count of a histogram. `None` for a floating point number.
    #[serde(default, alias = "count", deserialize_with = "some_number")]
    pub(crate) as_int: Option<i64>,
}

impl Received {
    /// Reads the `logs.json`, `traces.json` and `metrics.json` of `folder`. A file that is not there yet is empty, and a
    /// last line that is not yet written whole is left for the next time.
    pub(crate) fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            spans: read_rows(&folder.join("traces.json"))?,
            records: read_rows(&folder.join("logs.json"))?,
            metrics: read_rows(&folder.join("metrics.json"))?,
        })
    }
}

/// The rows of one export request in JSON.
pub(crate) fn parse_rows<'a, Item: Deserialize<'a>>(text: &'a str) -> Result<Vec<Row<Item>>, serde_json::Error> {
    let request: Request<Item> = serde_json::from_str(text)?;
    let mut rows = Vec::new();
    for group in request.groups {
        for scope_group in group.scope_groups {
            rows.extend(scope_group.items.into_iter().map(|item| Row {
                resource: group.resource.attributes.clone(),
                scope: scope_group.scope.name.clone(),
                item,
            }));
        }
    }
    Ok(rows)
}

fn read_rows<Item: DeserializeOwned>(path: &Path) -> Result<Vec<Row<Item>>, Box<dyn Error>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        rows.extend(parse_rows(line).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(rows)
}

/// An export request: the three signals differ in what they call their lists.
#[derive(Deserialize)]
struct Request<Item> {
    #[serde(alias = "resourceSpans", alias = "resourceLogs", alias = "resourceMetrics")]
    groups: Vec<Group<Item>>,
}

#[derive(Deserialize)]
struct Group<Item> {
    resource: Resource,
    #[serde(alias = "scopeSpans", alias = "scopeLogs", alias = "scopeMetrics")]
    scope_groups: Vec<ScopeGroup<Item>>,
}

#[derive(Deserialize)]
struct ScopeGroup<Item> {
    scope: Scope,
    #[serde(alias = "spans", alias = "logRecords", alias = "metrics")]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    value: Value,
}

/// A key that stands twice is an error: OTLP says that keys are unique, and backends take either value.
fn attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
    let mut attributes = Attributes::new();
    for KeyValue { key, value } in Vec::<KeyValue>::deserialize(deserializer)? {
        if let Some(before) = attributes.insert(key.clone(), value) {
            return Err(D::Error::custom(format!("attribute {key} stands twice, first as {before:?}")));
        }
    }
    Ok(attributes)
}

/// OTLP writes 64-bit numbers as strings.
fn number<'de, D: Deserializer<'de>, Number: FromStr<Err: Display>>(deserializer: D) -> Result<Number, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn some_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    number(deserializer).map(Some)
}
