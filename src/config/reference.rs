//! What a user can look up, made from the types: `docs/configuration.md`, `otel-config/sense-otel.yaml` and its JSON
//! schema.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};
use serde_yaml::{Mapping, Value};

use super::emit::{self, Remarks, flow};
use super::key_path::{KeyPath, Segment};
use super::spec::Spec;

/// What the page says before the keys.
const GUIDE: &str = include_str!("guide.md");

/// What the reference file says before the keys.
const REFERENCE_HEAD: &str = "\
# yaml-language-server: $schema=sense-otel.schema.json
#
# Every key of sense-otel with its default. An empty file does the same: keep what you change, leave out the rest.
# What the values may be is in docs/configuration.md; `sense-otel validate --config FILE` tells what is wrong.
";

/// Longest line of the reference file.
const LINE_MAX: usize = 110;

/// JSON schema of a configuration file, for editors. Ends with a line break.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = schema();
    allow_variables(&mut schema);
    format!("{schema:#}\n")
}

/// The page of all keys. Ends with a line break.
#[must_use]
pub fn markdown() -> String {
    let schema = schema();
    let mut text = GUIDE.to_owned();
    let Some(Value::Mapping(defaults)) = emit::to_value(&Spec::default()) else { return text };
    for (key, value) in &defaults {
        let Some(key) = key.as_str() else { continue };
        let path = KeyPath::ROOT.key(key);
        let Some(schema) = property(&schema, key) else { continue };
        text.push_str(&format!("\n## {key}\n\n{}\n", description(schema)));
        text.push_str("\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
        match value {
            Value::Mapping(section) if is_section(schema) => write_rows(section, schema, &path, &mut text),
            _ => write_row(&path, value, schema, &mut text),
        }
    }
    text
}

/// The commented file that holds every key at its default. Ends with a line break.
#[must_use]
pub fn reference_yaml() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    if let Some(Value::Mapping(defaults)) = emit::to_value(&Spec::default()) {
        emit::write_section(&defaults, &KeyPath::ROOT, 0, &Descriptions(schema()), &mut text);
    }
    text
}

/// The schema with all types in place, so that a key is found by its path.
fn schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Spec>().to_value()
}

/// A text with a variable in it may stand for any single value. Descriptions become one paragraph.
fn allow_variables(schema: &mut Json) {
    let Json::Object(object) = schema else { return };
    for key in ["properties", "items", "additionalProperties"] {
        match object.get_mut(key) {
            Some(Json::Object(properties)) if key == "properties" => properties.values_mut().for_each(allow_variables),
            Some(below) => allow_variables(below),
            None => {}
        }
    }
    let text = description(&Json::Object(object.clone()));
    if !text.is_empty() {
        object.insert("description".to_owned(), Json::String(text));
    }
    let is_typed = matches!(object.get("type").and_then(Json::as_str), Some("integer" | "boolean"));
    if is_typed || object.contains_key("enum") {
        let stays = |key: &str| matches!(key, "description" | "default");
        let kept: Map<String, Json> =
            object.iter().filter(|(key, _)| stays(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        let typed: Map<String, Json> =
            std::mem::replace(object, kept).into_iter().filter(|(key, _)| !stays(key)).collect();
        object.insert("anyOf".to_owned(), json!([typed, { "type": "string", "pattern": r"\$\{env:" }]));
    }
}

fn property<'a>(schema: &'a Json, key: &str) -> Option<&'a Json> {
    schema.get("properties")?.get(key)
}

fn is_section(schema: &Json) -> bool {
    schema.get("properties").is_some()
}

/// What a key means, as one paragraph.
fn description(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write_rows(section: &Mapping, schema: &Json, path: &KeyPath, text: &mut String) {
    for (key, value) in section {
        let Some((key, schema)) = key.as_str().and_then(|key| Some((key, property(schema, key)?))) else { continue };
        let path = path.key(key);
        match value {
            Value::Mapping(below) if is_section(schema) => write_rows(below, schema, &path, text),
            _ => write_row(&path, value, schema, text),
        }
    }
}

fn write_row(path: &KeyPath, default: &Value, schema: &Json, text: &mut String) {
    let meaning = description(schema).replace('|', "\\|");
    text.push_str(&format!("| `{path}` | {} | `{}` | {meaning} |\n", type_name(schema), flow(default)));
    let items = schema.get("items").filter(|items| is_section(items));
    let properties = items.and_then(|items| items.get("properties")).and_then(Json::as_object);
    for (key, schema) in properties.into_iter().flatten() {
        let default = schema.get("default").map(|default| default.to_string()).unwrap_or_default();
        let meaning = description(schema);
        text.push_str(&format!("| `{path}[].{key}` | {} | `{default}` | {meaning} |\n", type_name(schema)));
    }
}

/// What kind of value a key has, in words, with its range.
fn type_name(schema: &Json) -> String {
    if let Some(title) = schema.get("title").and_then(Json::as_str) {
        return title.to_owned();
    }
    if let Some(names) = schema.get("enum").and_then(Json::as_array) {
        let names: Vec<String> = names.iter().filter_map(Json::as_str).map(|name| format!("`{name}`")).collect();
        return format!("one of {}", names.join(", "));
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => {
            let limit = |key: &str| schema.get(key).and_then(Json::as_u64);
            match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
                _ => "whole number".to_owned(),
            }
        }
        Some("array") => match schema.get("items") {
            Some(items) if is_section(items) => "list of rules".to_owned(),
            Some(items) => format!("list of {}", type_name(items)),
            None => "list".to_owned(),
        },
        Some("object") => {
            let values = schema.get("additionalProperties").map(type_name).unwrap_or_default();
            format!("names with {values}")
        }
        _ => "text".to_owned(),
    }
}

/// The meaning of each key above it.
struct Descriptions(Json);

impl Remarks for Descriptions {
    fn above(&self, path: &KeyPath) -> Vec<String> {
        let mut schema = &self.0;
        for segment in path.segments() {
            match segment {
                Segment::Key(key) => match property(schema, key) {
                    Some(property) => schema = property,
                    None => return Vec::new(),
                },
                Segment::Index(_) => return Vec::new(),
            }
        }
        let indent = 2 * path.segments().len();
        let mut lines = wrap(&description(schema), LINE_MAX - indent);
        if path.segments().len() == 1 {
            lines.insert(0, String::new());
        }
        lines
    }

    fn beside(&self, _: &KeyPath) -> Option<String> {
        None
    }
}

/// Breaks a paragraph into lines of at most `most` characters, between words but not inside backquotes.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_in_backquotes = false;
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if is_in_backquotes || line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
        is_in_backquotes ^= word.matches('`').count() % 2 == 1;
    }
    lines
}
