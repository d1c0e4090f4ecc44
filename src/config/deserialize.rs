//! [`Node`]s -> the types of [`super::spec`], with every fault on the way.
//!
//! `serde` stops at the first fault. Since every key has a default, the value at fault can be struck out and the
//! document read once more: each round finds one more fault, until one goes through. Rounds are cheap, the text is not
//! parsed again.
//!
//! [`NodeDeserializer`] is strict about kinds and speaks to administrators: no names of Rust types, and no value that
//! is a secret or comes from the environment.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::document::Document;
use super::key_path::{KeyPath, Segment, printable_key};
use super::node::{Entry, Node, Value};
use super::suggestion;

/// Reads the whole document; `None` if there is no point in looking any further.
pub(super) fn collect<T: for<'de> Deserialize<'de>>(document: &mut Document<'_>) -> Option<T> {
    loop {
        let mismatch = match T::deserialize(NodeDeserializer(&document.root)) {
            Ok(value) => return Some(value),
            Err(mismatch) => mismatch,
        };
        let path = KeyPath::from_reversed(mismatch.reversed_path);
        report(document, &path, mismatch.problem);
        if path == KeyPath::ROOT || document.is_hopeless() {
            return None;
        }
        document.root.strike(&path);
    }
}

fn report(document: &mut Document<'_>, path: &KeyPath, problem: Problem) {
    match problem {
        Problem::UnknownKey(known) => {
            let Some(Segment::Key(key)) = path.segments().last() else { return };
            if key == "<<" {
                document.refuse_key(path, "merge keys are not understood; the keys have to stand here themselves");
                return;
            }
            let message = format!("there is no key `{}` here", printable_key(key));
            let suggestion = suggestion::for_name(key, known);
            document.add(path, document.root.place_of_key(path), message, Some(suggestion));
        }
        Problem::UnknownName(known) => {
            let text = document.root.find(path).and_then(Node::scalar_text).unwrap_or_default();
            let suggestion = suggestion::nearest(text, known).map(|nearest| format!("did you mean `{nearest}`?"));
            document.refuse_value(path, &format!("is not one of {}", known.join(", ")), suggestion);
        }
        Problem::Kind(expected) => {
            let node = document.root.find(path);
            let found = node.map_or("nothing", Node::kind);
            let has_colon = node.and_then(Node::scalar_text).is_some_and(|text| text.contains(':'));
            let suggestion = match found {
                "a number" | "true or false" if expected == TEXT => Some("put it in quotes".to_owned()),
                TEXT if expected == SECTION && has_colon => {
                    Some("behind the colon of a key stands a blank: `key: value`".to_owned())
                }
                "nothing" if expected == TEXT => Some("for the empty text write `\"\"`".to_owned()),
                _ => None,
            };
            document.refuse(path, &format!("{found} where {expected} belongs"), suggestion);
        }
        Problem::Predicate(predicate) => document.refuse_value(path, &predicate, None),
    }
}

const TEXT: &str = "a text";
const SECTION: &str = "a section with keys";

/// Why a value is not what its key asks for.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// Where, the last step first.
    reversed_path: Vec<Segment>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// The key at the end of the path; what there is instead.
    UnknownKey(&'static [&'static str]),
    /// A value that is none of these.
    UnknownName(&'static [&'static str]),
    /// A value of another kind than this one.
    Kind(String),
    /// The rest of a sentence that begins with the value.
    Predicate(String),
}

impl Mismatch {
    fn new(problem: Problem) -> Self {
        Self { reversed_path: Vec::new(), problem }
    }

    fn kind(expected: &str) -> Self {
        Self::new(Problem::Kind(expected.to_owned()))
    }

    fn below(mut self, segment: Segment) -> Self {
        self.reversed_path.push(segment);
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the value does not fit its key")
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    /// Our own types give the rest of a sentence that begins with the value.
    fn custom<T: fmt::Display>(predicate: T) -> Self {
        Self::new(Problem::Predicate(predicate.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::Kind(expected.to_string()))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey(known))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownName(known))
    }
}

/// Gives `serde` one value of the document.
#[derive(Clone, Copy)]
struct NodeDeserializer<'a>(&'a Node);

impl NodeDeserializer<'_> {
    /// A single value that is no secret.
    fn shown(self) -> Self {
        self.0.set_shown();
        self
    }

    /// A whole number, at most `most`.
    fn whole_number(self, most: u64) -> Result<u64, Mismatch> {
        let (Value::Number(text) | Value::Text(text)) = &self.shown().0.value else {
            return Err(Mismatch::kind("a whole number"));
        };
        let number = text.parse().map_err(|_| Mismatch::new(Problem::Predicate("is no whole number".to_owned())))?;
        if number > most {
            return Err(Mismatch::new(Problem::Predicate(format!("is more than {most}"))));
        }
        Ok(number)
    }

    fn text(self) -> Result<String, Mismatch> {
        match &self.0.value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(Mismatch::kind(TEXT)),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => {
                self.0.set_shown();
                visitor.visit_bool(*value)
            }
            Value::Number(text) | Value::Text(text) => {
                self.0.set_shown();
                match (&self.0.value, text.parse()) {
                    (Value::Number(_), Ok(number)) => visitor.visit_u64(number),
                    (Value::Number(_), Err(_)) => visitor.visit_f64(text.parse().unwrap_or(f64::NAN)),
                    _ => visitor.visit_str(text),
                }
            }
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, &[])),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.0.set_shown();
        match (&self.0.value, self.0.scalar_text()) {
            (Value::Bool(_) | Value::Text(_), Some("true")) => visitor.visit_bool(true),
            (Value::Bool(_) | Value::Text(_), Some("false")) => visitor.visit_bool(false),
            (Value::Text(_), _) => Err(Mismatch::new(Problem::Predicate("is neither true nor false".to_owned()))),
            _ => Err(Mismatch::kind("true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_u64(self.whole_number(u64::from(u32::MAX))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_string(self.shown().text()?)
    }

    /// The one newtype that asks for this is [`super::scalar::Secret`]: a text that is not to be shown.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.0.value {
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            _ => Err(Mismatch::kind("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.0.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, &[])),
            _ => Err(Mismatch::kind("a section with names and values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match &self.0.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, keys)),
            _ => Err(Mismatch::kind(SECTION)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let name: StringDeserializer<Mismatch> = self.shown().text()?.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// The items of a list that are not struck.
struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some((index, node)) = self.items.find(|(_, node)| !node.is_struck()) else { return Ok(None) };
        seed.deserialize(NodeDeserializer(node)).map(Some).map_err(|mismatch| mismatch.below(Segment::Index(index)))
    }
}

/// The entries of a section that are not struck.
struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    /// The keys that have a default, which is what such a key without a value stands for.
    defaulted: &'static [&'static str],
    current: Option<&'a Entry>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [Entry], defaulted: &'static [&'static str]) -> Self {
        Self { entries: entries.iter(), defaulted, current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let defaulted = self.defaulted;
        let stands_for_default =
            |entry: &Entry| matches!(entry.node.value, Value::Null) && defaulted.contains(&entry.key.as_str());
        let Some(entry) = self.entries.find(|entry| !entry.node.is_struck() && !stands_for_default(entry)) else {
            return Ok(None);
        };
        self.current = Some(entry);
        let key: StringDeserializer<Mismatch> = entry.key.clone().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mismatch| mismatch.below(Segment::Key(entry.key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let Some(entry) = self.current else { return Err(Mismatch::kind("a key")) };
        seed.deserialize(NodeDeserializer(&entry.node))
            .map_err(|mismatch| mismatch.below(Segment::Key(entry.key.clone())))
    }
}
