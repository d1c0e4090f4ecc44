//! The document as values that know where they stand.

use std::cell::Cell;

use super::fault::{Place, quoted};
use super::key_path::{KeyPath, Segment};

/// A value of the document.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Where it begins. Lists and sections have none of their own: their key stands for them.
    pub(super) place: Option<Place>,
    pub(super) origin: Origin,
    /// A fault was found here, so that the rest goes on as if this value was not written.
    struck: Cell<bool>,
    /// It was read as something that is no secret, so that it may be shown.
    shown: Cell<bool>,
    /// An alias brings it to several keys, one of which may be that of a secret.
    shared: Cell<bool>,
}

/// What YAML says a value is. Numbers keep their text: only the key knows which range is right.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Option<Place>,
    /// It stands without a colon, as `b` does in `{ a: x, b }`: hardly a key, but what follows a comma in a value.
    pub(super) is_bare: bool,
    pub(super) node: Node,
}

/// Who wrote a value.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The file, as it stands there.
    File,
    /// The file, with variables in it; the text before they were put in, and their names.
    Expanded { written: String, variables: Vec<String> },
    /// An environment variable of the OpenTelemetry specification.
    Variable(&'static str),
}

impl Node {
    pub(super) fn new(value: Value, place: Option<Place>) -> Self {
        Self {
            value,
            place,
            origin: Origin::File,
            struck: Cell::new(false),
            shown: Cell::new(false),
            shared: Cell::new(false),
        }
    }

    /// A value that an environment variable gave.
    pub(super) fn of_variable(value: Value, name: &'static str) -> Self {
        Self { origin: Origin::Variable(name), ..Self::new(value, None) }
    }

    /// The value that `path` leads to, unless something on the way is struck.
    pub(super) fn find(&self, path: &KeyPath) -> Option<&Self> {
        let mut is_struck = false;
        let (_, node) = self.descend(path, |node| is_struck |= node.is_struck())?;
        (!is_struck).then_some(node)
    }

    /// Whether there is a value at `path` that does not count because of a fault in it or above it.
    pub(super) fn is_struck_at(&self, path: &KeyPath) -> bool {
        let mut is_struck = self.is_struck();
        self.descend(path, |node| is_struck |= node.is_struck());
        is_struck
    }

    /// Where the value at `path` stands: itself, or else the nearest key above it.
    pub(super) fn place_of(&self, path: &KeyPath) -> Option<Place> {
        self.descend(path, |_| ()).and_then(|(above, node)| node.place.or(above))
    }

    /// Where the key at the end of `path` stands.
    pub(super) fn place_of_key(&self, path: &KeyPath) -> Option<Place> {
        self.descend(path, |_| ()).and_then(|(above, node)| above.or(node.place))
    }

    /// Goes on as if the value at `path` was not written.
    pub(super) fn strike(&self, path: &KeyPath) {
        if let Some((_, node)) = self.descend(path, |_| ()) {
            node.set_struck();
        }
    }

    /// The value at `path`, and the place of the last key on the way; of repeated keys the first is meant.
    fn descend(&self, path: &KeyPath, mut visit: impl FnMut(&Self)) -> Option<(Option<Place>, &Self)> {
        let mut above = None;
        let mut node = self;
        for segment in path.segments() {
            node = match (segment, &node.value) {
                (Segment::Index(index), Value::List(items)) => {
                    let item = items.get(*index)?;
                    above = item.first_place().or(above);
                    item
                }
                (Segment::Key(key), Value::Map(entries)) => {
                    let entry = entries.iter().find(|entry| entry.key == *key)?;
                    above = entry.key_place;
                    &entry.node
                }
                _ => return None,
            };
            visit(node);
        }
        Some((above, node))
    }

    /// The first place inside this value.
    fn first_place(&self) -> Option<Place> {
        self.place.or_else(|| match &self.value {
            Value::List(items) => items.iter().find_map(Self::first_place),
            Value::Map(entries) => entries.iter().find_map(|entry| entry.key_place),
            _ => None,
        })
    }

    /// Whether a key of this section does not count because of a fault.
    pub(super) fn has_struck_entry(&self) -> bool {
        matches!(&self.value, Value::Map(entries) if entries.iter().any(|entry| entry.node.is_struck()))
    }

    pub(super) fn is_struck(&self) -> bool {
        self.struck.get()
    }

    /// Strikes this very value.
    pub(super) fn set_struck(&self) {
        self.struck.set(true);
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown.get() && !self.shared.get()
    }

    /// Says that this value is no secret.
    pub(super) fn set_shown(&self) {
        self.shown.set(true);
    }

    /// Says that this value stands at several keys.
    pub(super) fn set_shared(&self) {
        self.shared.set(true);
    }

    /// Whether the value is in the file as it stands and no secret, so that a suggestion may repeat it.
    pub(super) fn is_written(&self) -> bool {
        matches!(self.origin, Origin::File) && self.is_shown()
    }

    /// What a sentence about this value begins with; never a secret, nor what an environment variable holds.
    pub(super) fn subject(&self) -> String {
        match (&self.origin, &self.value) {
            _ if !self.is_shown() => "the value".to_owned(),
            (Origin::Variable(_), _) => "the value".to_owned(),
            (Origin::Expanded { written, .. }, _) => format!("the value of {}", quoted(written)),
            (Origin::File, Value::Text(text)) if has_user_information(text) => "the value".to_owned(),
            (Origin::File, Value::Text(text)) => quoted(text),
            (Origin::File, Value::Number(text)) => text.clone(),
            (Origin::File, Value::Bool(value)) => value.to_string(),
            (Origin::File, _) => "the value".to_owned(),
        }
    }

    /// What it is, for a message about what belongs there.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }

    /// The text of a single value.
    pub(super) fn scalar_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            _ => None,
        }
    }
}

/// Whether a text looks like an address with a name and a password in it.
pub(super) fn has_user_information(text: &str) -> bool {
    text.contains('@')
}
