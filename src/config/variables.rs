//! Environment variables: `${env:NAME}` inside values, and those that the OpenTelemetry specification names.
//!
//! Variables are put into a value after the YAML was read, so that none can change the structure of the document, and
//! no secret is in a text that is shown.

use std::cell::Cell;

use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT,
};

use super::document::Document;
use super::fault::Place;
use super::key_path::{KeyPath, is_printable_key};
use super::node::{Entry, Node, Origin, Value};

/// A fault in a value, to be reported once the document may be changed again.
struct Found {
    path: KeyPath,
    place: Option<Place>,
    message: String,
    suggestion: Option<String>,
}

/// Puts the environment into every value of the document.
pub(super) fn expand(document: &mut Document<'_>, env: &impl Fn(&str) -> Option<String>) {
    let mut found = Vec::new();
    expand_node(&mut document.root, &KeyPath::ROOT, &Environment { env, room: Cell::new(ROOM) }, &mut found);
    for fault in found {
        document.add(&fault.path, fault.place, fault.message, fault.suggestion);
    }
}

/// How many bytes the variables of a document may put into it, all together: the same one may stand there very often.
const ROOM: usize = 1 << 20;

/// Where the values of variables are from, and how much room is left for them.
struct Environment<'a, E> {
    env: &'a E,
    room: Cell<usize>,
}

fn expand_node<E: Fn(&str) -> Option<String>>(
    node: &mut Node,
    path: &KeyPath,
    env: &Environment<'_, E>,
    found: &mut Vec<Found>,
) {
    match &mut node.value {
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand_node(item, &path.index(index), env, found);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                expand_node(&mut entry.node, &path.key(&entry.key), env, found);
            }
        }
        Value::Text(text) if text.contains('$') => match expand_text(text, env) {
            Ok((value, variables)) => {
                let written = std::mem::replace(text, value);
                if !variables.is_empty() {
                    node.origin = Origin::Expanded { written, variables };
                }
            }
            Err((message, suggestion)) => {
                if !node.is_struck() {
                    found.push(Found { path: path.clone(), place: node.place, message, suggestion });
                }
                node.set_struck();
            }
        },
        _ => {}
    }
}

type Expanded = (String, Vec<String>);
type Refused = (String, Option<String>);

/// Replaces `${env:NAME}` and `${env:NAME:-default}`; `$$` is one dollar sign, and one before anything else stays.
fn expand_text<E: Fn(&str) -> Option<String>>(text: &str, env: &Environment<'_, E>) -> Result<Expanded, Refused> {
    let mut value = String::new();
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        value.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            value.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((reference, after)) = after.split_once('}') else {
                return Err((
                    "`${` without a `}` after it".to_owned(),
                    Some("write `$$` for a dollar sign".to_owned()),
                ));
            };
            let (name, content) = resolve(reference, env.env)?;
            let Some(room) = env.room.get().checked_sub(content.len()) else {
                return Err(("the variables of the file hold more than 1MiB all together".to_owned(), None));
            };
            env.room.set(room);
            value.push_str(&content);
            variables.push(name);
            after
        } else {
            value.push('$');
            after
        };
    }
    value.push_str(rest);
    Ok((value, variables))
}

/// The name and the value of what stands between the braces.
fn resolve(reference: &str, env: &impl Fn(&str) -> Option<String>) -> Result<(String, String), Refused> {
    let Some(inside) = reference.strip_prefix("env:") else {
        // Said without what stands there: in a secret it may be a part of it.
        let suggestion = "write `${env:NAME}` or `${env:NAME:-default}`, and `$$` for a dollar sign";
        return Err(("what stands in `${…}` does not begin with `env:`".to_owned(), Some(suggestion.to_owned())));
    };
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        let suggestion = "a name is made of letters, digits and `_`, and does not begin with a digit";
        return Err(("`${env:…}` without the name of a variable".to_owned(), Some(suggestion.to_owned())));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err((format!("the default of `{name}` holds another variable, which is not understood"), None));
    }
    match env(name).or_else(|| default.map(str::to_owned)) {
        Some(value) => Ok((name.to_owned(), value)),
        None => {
            let suggestion = format!("set it, or give a default as in `${{env:{name}:-default}}`");
            Err((format!("the environment variable `{name}` is not set"), Some(suggestion)))
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The variables of the specification, and the keys they stand in for.
pub(super) const SPECIFIED: [(&str, &str); 5] = [
    (OTEL_EXPORTER_OTLP_ENDPOINT, "exporter.endpoint"),
    (OTEL_EXPORTER_OTLP_COMPRESSION, "exporter.compression"),
    (OTEL_EXPORTER_OTLP_TIMEOUT, "exporter.timeout"),
    (OTEL_EXPORTER_OTLP_HEADERS, "exporter.headers"),
    ("OTEL_RESOURCE_ATTRIBUTES", "resource"),
];

/// Takes from the variables of the specification what the document does not say; headers and attributes one by one. As
/// there, an empty variable is an unset one.
pub(super) fn fill_in(document: &mut Document<'_>, env: &impl Fn(&str) -> Option<String>) {
    for (name, target) in SPECIFIED {
        let Some(text) = env(name).filter(|text| !text.is_empty()) else { continue };
        let path = KeyPath::of(target);
        match target {
            "exporter.headers" | "resource" => match parse_pairs(&text) {
                // Said without the name: where the `=` of a value was taken for that of a pair, it is a part of it.
                Ok(pairs) if target != "resource" && pairs.iter().any(|(name, _)| !is_printable_key(name)) => {
                    document.add(&path, None, format!("{name}: an entry whose name is none of a header"), None);
                }
                Ok(pairs) => pairs.into_iter().for_each(|(key, value)| {
                    let node = Node::of_variable(Value::Text(value), name);
                    put(&mut document.root, &[target.split('.').collect(), vec![key.as_str()]].concat(), node);
                }),
                Err(predicate) => document.add(&path, None, format!("{name}: {predicate}"), None),
            },
            // The specification counts in milliseconds.
            "exporter.timeout" if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let node = Node::of_variable(Value::Text(format!("{text}ms")), name);
                put(&mut document.root, &target.split('.').collect::<Vec<_>>(), node);
            }
            "exporter.timeout" => {
                document.add(&path, None, format!("{name}: the value is no whole number of milliseconds"), None);
            }
            _ => {
                let node = Node::of_variable(Value::Text(text), name);
                put(&mut document.root, &target.split('.').collect::<Vec<_>>(), node);
            }
        }
    }
}

/// Adds a value below `node`, unless there is one, or something stands in its way (which is a fault found later).
fn put(node: &mut Node, path: &[&str], value: Node) {
    if matches!(node.value, Value::Null) && matches!(node.origin, Origin::File) {
        node.value = Value::Map(Vec::new());
    }
    let (Some((key, below)), Value::Map(entries)) = (path.split_first(), &mut node.value) else { return };
    // Header names differ not by case; resource attributes that differ by nothing else are a slip.
    let entry = entries.iter_mut().find(|entry| entry.key.eq_ignore_ascii_case(key));
    match (entry, below.is_empty()) {
        (Some(entry), false) => put(&mut entry.node, below, value),
        (Some(entry), true) if matches!(entry.node.value, Value::Null) => entry.node = value,
        (Some(_), true) => {}
        (None, true) => entries.push(Entry { key: (*key).to_owned(), key_place: None, is_bare: false, node: value }),
        (None, false) => {
            let mut node = Node::new(Value::Null, None);
            put(&mut node, below, value);
            entries.push(Entry { key: (*key).to_owned(), key_place: None, is_bare: false, node });
        }
    }
}

/// Reads `name=value,name=value`, percent-encoded; blanks around names and values do not count.
fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
        let read = pair.split_once('=').and_then(|(name, value)| {
            let name = percent_decode(name.trim()).filter(|name| !name.is_empty())?;
            Some((name, percent_decode(value.trim())?))
        });
        match read {
            Some(pair) => pairs.push(pair),
            None => return Err(format!("entry {} is not `name=value` in percent-encoding", index + 1)),
        }
    }
    Ok(pairs)
}

/// `None` if a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// That the value at `path` is from variables.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: KeyPath,
    pub(super) variables: Vec<String>,
}

/// Every value of the document that is from the environment, in part or as a whole.
pub(super) fn sources(document: &Document<'_>) -> Vec<Source> {
    let mut sources = Vec::new();
    collect_sources(&document.root, &KeyPath::ROOT, &mut sources);
    sources
}

fn collect_sources(node: &Node, path: &KeyPath, sources: &mut Vec<Source>) {
    match &node.origin {
        Origin::File => {}
        Origin::Expanded { variables, .. } => sources.push(Source { path: path.clone(), variables: variables.clone() }),
        Origin::Variable(name) => sources.push(Source { path: path.clone(), variables: vec![(*name).to_owned()] }),
    }
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_sources(item, &path.index(index), sources);
            }
        }
        Value::Map(entries) => {
            entries.iter().for_each(|entry| collect_sources(&entry.node, &path.key(&entry.key), sources));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("collector".to_owned()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("a: b\n- c".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in() {
        for (text, expected) in [
            ("http://${env:HOST}:4317", "http://collector:4317"),
            ("${env:HOST}${env:HOST}", "collectorcollector"),
            ("${env:NONE:-a:-b}", "a:-b"),
            ("${env:NONE:-}", ""),
            ("${env:EMPTY:-default}", ""),
            ("$${env:HOST}", "${env:HOST}"),
            ("a$b $$ $", "a$b $ $"),
            ("${env:YAML}", "a: b\n- c"),
        ] {
            let env = Environment { env: &env, room: Cell::new(ROOM) };
            assert_eq!(expand_text(text, &env).map(|(value, _)| value), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in [
            "${env:NONE}",
            "${HOST}",
            "${env:}",
            "${env:1A}",
            "${file:/etc/passwd}",
            "${",
            "${env:HOST",
            "${env:A:-${env:B}}",
        ] {
            let env = Environment { env: &env, room: Cell::new(ROOM) };
            assert!(expand_text(text, &env).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_are_percent_encoded() {
        let pairs = parse_pairs("a=b, c = d%2Ce%3D ,,f=g=h").unwrap();
        let expected =
            [("a", "b"), ("c", "d,e="), ("f", "g=h")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected);
        for text in ["a", "=b", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(parse_pairs(text).is_err(), "{text}");
        }
    }
}
