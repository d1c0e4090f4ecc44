//! A [`Spec`] as YAML text: the configuration in effect, and the commented reference.

use serde_yaml::{Mapping, Value};

use super::key_path::KeyPath;
use super::spec::Spec;
use super::variables::Source;

/// What is written around a key.
pub(super) trait Remarks {
    /// Comment lines above the key, without `#`; an empty one is an empty line.
    fn above(&self, path: &KeyPath) -> Vec<String>;
    /// A comment on the line of the key.
    fn beside(&self, path: &KeyPath) -> Option<String>;
}

/// The configuration in effect; the variables that a value is from stand beside it.
pub(super) fn effective(spec: &Spec, sources: &[Source]) -> String {
    let mut text = String::new();
    if let Some(Value::Mapping(mut mapping)) = to_value(spec) {
        mapping.iter_mut().for_each(|(_, value)| escape_dollars(value));
        write_section(&mapping, &KeyPath::ROOT, 0, &Variables(sources), &mut text);
    }
    text
}

/// The specification as ordered values; it has nothing that YAML cannot say.
pub(super) fn to_value(spec: &Spec) -> Option<Value> {
    serde_yaml::to_value(spec).ok()
}

struct Variables<'a>(&'a [Source]);

impl Remarks for Variables<'_> {
    fn above(&self, _: &KeyPath) -> Vec<String> {
        Vec::new()
    }

    fn beside(&self, path: &KeyPath) -> Option<String> {
        let of_path = self.0.iter().filter(|source| source.path.starts_with(path));
        let names: Vec<&str> = of_path.flat_map(|source| source.variables.iter().map(String::as_str)).collect();
        (!names.is_empty()).then(|| format!("from {}", names.join(", ")))
    }
}

/// A dollar sign begins a variable, so that a real one is written twice.
fn escape_dollars(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Sequence(items) => items.iter_mut().for_each(escape_dollars),
        Value::Mapping(mapping) => mapping.iter_mut().for_each(|(_, value)| escape_dollars(value)),
        _ => {}
    }
}

/// Writes the keys of a section with `indent` spaces before them.
pub(super) fn write_section(
    mapping: &Mapping,
    path: &KeyPath,
    indent: usize,
    remarks: &impl Remarks,
    text: &mut String,
) {
    let margin = " ".repeat(indent);
    for (key, value) in mapping {
        let Value::String(key) = key else { continue };
        let path = path.key(key);
        for line in remarks.above(&path) {
            let comment = if line.is_empty() { String::new() } else { format!("{margin}# {line}") };
            text.push_str(&comment);
            text.push('\n');
        }
        text.push_str(&format!("{margin}{}:", scalar(key)));
        match value {
            Value::Mapping(section) if !section.is_empty() => {
                text.push('\n');
                write_section(section, &path, indent + 2, remarks, text);
            }
            Value::Sequence(items) if items.iter().any(Value::is_mapping) => {
                text.push('\n');
                items.iter().for_each(|item| text.push_str(&format!("{margin}  - {}\n", flow(item))));
            }
            _ => {
                let beside = remarks.beside(&path).map(|remark| format!("   # {remark}")).unwrap_or_default();
                text.push_str(&format!(" {}{beside}\n", flow(value)));
            }
        }
    }
}

/// A value on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => scalar(text),
        Value::Sequence(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Mapping(mapping) if mapping.is_empty() => "{}".to_owned(),
        Value::Mapping(mapping) => {
            let entries: Vec<String> =
                mapping.iter().map(|(key, value)| format!("{}: {}", flow(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Tagged(tagged) => flow(&tagged.value),
    }
}

/// A text, in quotes where YAML would read something else without them.
fn scalar(text: &str) -> String {
    let is_plain_character =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '/' | ':' | '-');
    let begins_plainly = text.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '.' | '/'));
    let is_plain = begins_plainly && !text.ends_with(':') && text.chars().all(is_plain_character);
    if is_plain && serde_yaml::from_str::<Value>(text).is_ok_and(|value| value.is_string()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(character),
            _ if character.is_alphanumeric() => quoted.push(character),
            '\0'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04X}", u32::from(character))),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_needs_quotes_has_them() {
        for (text, expected) in [
            ("localhost:9997", "localhost:9997"),
            ("./data", "./data"),
            ("4h", "4h"),
            ("[::]:9997", "\"[::]:9997\""),
            ("", "\"\""),
            ("true", "\"true\""),
            ("5", "\"5\""),
            ("1.10", "\"1.10\""),
            ("a: b", "\"a: b\""),
            ("*", "\"*\""),
        ] {
            assert_eq!(scalar(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in ".{0,20}", other in any::<String>()) {
            for text in [text, other] {
                let written = scalar(&text);
                let read: Value = serde_yaml::from_str(&format!("{{ {written}: [{written}] }}")).unwrap();
                prop_assert_eq!(&read[text.as_str()][0], &Value::String(text.clone()));
            }
        }
    }
}
