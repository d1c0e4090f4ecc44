//! As much of TraceQL as our dashboards speak: one span of which several things hold, answered from a Jaeger.

use std::collections::BTreeMap;

use crate::servers::{Span, Traces};
use crate::stand::Failure;

/// The spans that a query like `{ resource.service.name = "a" && name = "b" && span.user.id = "c" }` finds.
///
/// `=~ ".*"` holds for everything; no other regular expression is known here.
pub(crate) fn ask(traces: &Traces, query: &str) -> Result<Vec<Span>, Failure> {
    let inner = query.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or_else(|| format!("{query} has no braces"))?;
    let (mut service, mut name, mut attributes) = (None, None, BTreeMap::new());
    for condition in inner.split("&&") {
        let (field, operator, value) = condition_of(condition.trim())?;
        match (field, operator) {
            (_, "=~") if value == ".*" => {}
            ("resource.service.name", "=") => service = Some(value),
            ("name", "=") => name = Some(value),
            (field, "=") if field.starts_with("span.") => {
                attributes.insert(field["span.".len()..].to_owned(), value);
            }
            _ => return Err(format!("not understood: {condition}").into()),
        }
    }
    let service = service.ok_or_else(|| format!("{query} names no service"))?;
    let mut spans = traces.search(&service, name.as_deref(), &attributes)?;
    spans.retain(|span| {
        name.as_ref().is_none_or(|name| *name == span.name)
            && attributes.iter().all(|(key, value)| span.attributes.get(key) == Some(value))
    });
    Ok(spans)
}

fn condition_of(condition: &str) -> Result<(&str, &str, String), Failure> {
    let (field, rest) = condition.split_once(' ').ok_or_else(|| format!("no condition: {condition}"))?;
    let (operator, value) = rest.split_once(' ').ok_or_else(|| format!("no condition: {condition}"))?;
    Ok((field, operator, serde_json::from_str(value.trim())?))
}
