//! A document and the faults found in it so far.

use std::collections::HashMap;

use super::fault::{Excerpt, Fault, Faults, Place};
use super::key_path::{KeyPath, is_printable_key, printable_key};
use super::node::{Node, Origin, Value, has_user_information};
use super::yaml::{self, SyntaxFault};

/// More are not shown: who has a hundred faults has the wrong file.
const FAULTS_MAX: usize = 100;

/// As much as is shown of a line, in characters. Nobody reads a longer one, and a hundred of them take their time.
const COLUMN_MAX: usize = 400;

/// The document that is being read.
#[derive(Debug)]
pub(super) struct Document<'text> {
    pub(super) root: Node,
    name: String,
    lines: Vec<&'text str>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'text> Document<'text> {
    /// Reads the YAML. Repeated keys are faults already.
    ///
    /// # Errors
    /// What the YAML parser cannot read; nothing more can be found out then.
    pub(super) fn read(name: &str, text: &'text str) -> Result<Self, SyntaxFault> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut root = yaml::read(text)?;
        if matches!(root.value, Value::Null) {
            root.value = Value::Map(Vec::new());
        }
        let lines = yaml::lines(text);
        mark_bare(&mut root, &lines);
        mark_shared(&root);
        let mut document = Self { root, name: name.to_owned(), lines, faults: Vec::new(), warnings: Vec::new() };
        let mut slips = Vec::new();
        strike_slips(&document.root, &KeyPath::ROOT, &mut slips);
        for slip in slips {
            document.add(&slip.path, slip.place, slip.message, slip.suggestion);
        }
        Ok(document)
    }

    /// Forgets every section but these.
    pub(super) fn keep_only(&mut self, sections: &[&str]) {
        if let Value::Map(entries) = &mut self.root.value {
            entries.retain(|entry| sections.contains(&entry.key.as_str()));
        }
    }

    /// Reports a fault at a place of its own.
    pub(super) fn add(&mut self, path: &KeyPath, place: Option<Place>, message: String, suggestion: Option<String>) {
        self.faults.push(Fault { path: path.to_string(), place, message, suggestion, excerpt: None });
    }

    /// Reports a fault of the value at `path`; an environment variable is named if the value is from one.
    pub(super) fn refuse(&mut self, path: &KeyPath, message: &str, suggestion: Option<String>) {
        let place = self.root.place_of(path);
        let message = self.with_variable(path, message);
        self.add(path, place, message, suggestion);
    }

    /// Reports a fault of the key at the end of `path`.
    pub(super) fn refuse_key(&mut self, path: &KeyPath, message: &str) {
        let place = self.root.place_of_key(path);
        let message = self.with_variable(path, message);
        self.add(path, place, message, None);
    }

    /// Names the environment variable that the value at `path` is from, if it is from one.
    fn with_variable(&self, path: &KeyPath, message: &str) -> String {
        match self.root.find(path).map(|node| &node.origin) {
            Some(Origin::Variable(name)) => format!("{name}: {message}"),
            _ => message.to_owned(),
        }
    }

    /// Reports that the value at `path` is not what it has to be; `predicate` is the sentence's end.
    pub(super) fn refuse_value(&mut self, path: &KeyPath, predicate: &str, suggestion: Option<String>) {
        let subject = self.root.find(path).map_or_else(|| "the default value".to_owned(), Node::subject);
        self.refuse(path, &format!("{subject} {predicate}"), suggestion);
    }

    /// Reports something that is allowed, but hardly meant.
    pub(super) fn warn(&mut self, path: &KeyPath, message: &str) {
        let place = match self.root.find(path).map(|node| &node.origin) {
            Some(Origin::Variable(name)) => (*name).to_owned(),
            _ => match self.root.place_of_key(path) {
                Some(place) => format!("{}:{}:{}", self.name, place.line, place.column),
                None => self.name.clone(),
            },
        };
        self.warnings.push(format!("{place}: {path}: {message}"));
    }

    /// Whether there are so many faults that looking for more helps nobody.
    pub(super) fn is_hopeless(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// The warnings, if there is no fault.
    ///
    /// # Errors
    /// All faults, each with the line it is in.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Faults> {
        if self.faults.is_empty() {
            return Ok(self.warnings);
        }
        let mut faults = std::mem::take(&mut self.faults);
        faults.truncate(FAULTS_MAX);
        let tokens = Tokens::of(&self.root);
        for fault in &mut faults {
            fault.excerpt = fault.place.and_then(|place| self.excerpt(place, &tokens));
        }
        Err(Faults::new(&self.name, faults))
    }

    /// The line of a fault up to the end of what is meant. What comes after, a comment for example, may be a secret and
    /// is left out; if something before it may be one, there is no line at all.
    fn excerpt(&self, place: Place, tokens: &Tokens) -> Option<Excerpt> {
        let line = self.lines.get(place.line.checked_sub(1)?)?;
        let mut text = String::new();
        for (index, character) in line.chars().enumerate().take(place.column - 1) {
            if index >= COLUMN_MAX {
                return None;
            }
            let is_indentation = character.is_whitespace() && text.trim_start().is_empty();
            if !is_indentation && tokens.is_hidden(Place { line: place.line, column: index + 1 }) {
                return None;
            }
            text.push(character);
        }
        let start = text.len();
        let rest: String = line.chars().skip(place.column - 1).collect();
        match tokens.at(place) {
            Some(Token { shown: true, text: token, .. }) => text.push_str(written_length(&rest, token)),
            Some(Token { key: true, text: token, .. }) => text.push_str(&printable_key(token)),
            _ => text.push('…'),
        }
        if let Some((end, _)) = text.char_indices().nth(COLUMN_MAX + 1) {
            text.truncate(end);
        }
        Some(Excerpt { span: start..text.len(), text })
    }
}

/// A key that is one by mistake.
struct Slip {
    path: KeyPath,
    place: Option<Place>,
    message: String,
    suggestion: Option<String>,
}

/// Finds every key that its section has already or that has no colon, and goes on as if it was not written.
fn strike_slips(node: &Node, path: &KeyPath, slips: &mut Vec<Slip>) {
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                strike_slips(item, &path.index(index), slips);
            }
        }
        Value::Map(entries) => {
            let mut seen = HashMap::new();
            for entry in entries {
                if entry.is_bare {
                    entry.node.set_struck();
                    let suggestion = Some("a value that holds a comma stands in quotes".to_owned());
                    let message = "a key without a colon and a value".to_owned();
                    // Said without the key, which may be the rest of a secret.
                    slips.push(Slip { path: path.clone(), place: entry.key_place, message, suggestion });
                    continue;
                }
                let path = path.key(&entry.key);
                match seen.insert(entry.key.as_str(), entry.key_place) {
                    Some(first) => {
                        entry.node.set_struck();
                        seen.insert(entry.key.as_str(), first);
                        let first = first.map(|first| format!("; it is in line {} already", first.line));
                        let message = format!("the key is given twice{}", first.unwrap_or_default());
                        slips.push(Slip { path, place: entry.key_place, message, suggestion: None });
                    }
                    None => strike_slips(&entry.node, &path, slips),
                }
            }
        }
        _ => {}
    }
}

/// Finds the keys without a colon. YAML tells no difference between `{ key }` and `{ key: }`, so the text does.
fn mark_bare(node: &mut Node, lines: &[&str]) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| mark_bare(item, lines)),
        Value::Map(entries) => {
            for entry in entries {
                let is_nothing = matches!(entry.node.value, Value::Null);
                entry.is_bare = is_nothing && entry.key_place.is_some_and(|place| !has_colon(lines, place, &entry.key));
                mark_bare(&mut entry.node, lines);
            }
        }
        _ => {}
    }
}

/// Whether a colon follows the key at `place`.
fn has_colon(lines: &[&str], place: Place, key: &str) -> bool {
    // A line without an end would be searched for each of its keys.
    if place.column > 10 * COLUMN_MAX {
        return false;
    }
    let line = lines.get(place.line.wrapping_sub(1)).copied().unwrap_or_default();
    let at = line.char_indices().nth(place.column.wrapping_sub(1)).map_or(line.len(), |(at, _)| at);
    let rest = line.get(at..).unwrap_or_default();
    let after = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest.get(1..).and_then(|rest| rest.split_once(quote)).map(|(_, after)| after),
        _ => rest.strip_prefix(key),
    };
    after.is_some_and(|after| after.trim_start().starts_with(':'))
}

/// Finds the values that an alias brings to several keys: they have one place.
fn mark_shared(root: &Node) {
    let mut values = HashMap::new();
    visit_values(root, &mut |node| {
        if let Some(place) = node.place
            && let Some(first) = values.insert(place, node)
        {
            first.set_shared();
            node.set_shared();
        }
    });
}

fn visit_values<'a>(node: &'a Node, visit: &mut impl FnMut(&'a Node)) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| visit_values(item, visit)),
        Value::Map(entries) => entries.iter().for_each(|entry| visit_values(&entry.node, visit)),
        Value::Null => {}
        _ => visit(node),
    }
}

/// The part of `rest` that `token` was read from, if it is on one line.
fn written_length<'a>(rest: &'a str, token: &str) -> &'a str {
    let end = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest.get(1..).and_then(|inside| inside.find(quote)).map(|end| end + 2),
        // Of a number the digits are known, but not how many were written.
        _ => rest.strip_prefix(token).filter(|_| !token.is_empty()).map(|after| {
            let is_end = |character: char| character.is_whitespace() || matches!(character, ',' | ']' | '}' | ':');
            token.len() + after.find(is_end).unwrap_or(after.len())
        }),
    };
    let first = rest.chars().next().map_or(0, char::len_utf8);
    rest.get(..end.unwrap_or(first)).unwrap_or_default()
}

/// Every key and every single value in the order of the file.
struct Tokens(Vec<Token>);

/// A key or a single value.
struct Token {
    place: Place,
    shown: bool,
    key: bool,
    text: String,
}

impl Tokens {
    fn of(root: &Node) -> Self {
        let mut tokens = Vec::new();
        collect(root, &mut tokens);
        tokens.sort_by_key(|token| token.place);
        tokens.dedup_by(|later, first| {
            let is_same = later.place == first.place;
            first.shown &= !is_same || later.shown;
            is_same
        });
        Self(tokens)
    }

    fn at(&self, place: Place) -> Option<&Token> {
        self.0.binary_search_by_key(&place, |token| token.place).ok().and_then(|index| self.0.get(index))
    }

    /// Whether what stands at `place` belongs to something that is not to be shown: all up to the next token does,
    /// since only the beginning of a value is known.
    fn is_hidden(&self, place: Place) -> bool {
        let after = self.0.partition_point(|token| token.place <= place);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|token| !token.shown)
    }
}

fn collect(node: &Node, tokens: &mut Vec<Token>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect(item, tokens)),
        Value::Map(entries) => {
            for entry in entries {
                if let Some(place) = entry.key_place {
                    let shown = is_printable_key(&entry.key);
                    let shown = shown && !entry.is_bare;
                    tokens.push(Token { place, shown, key: !entry.is_bare, text: entry.key.clone() });
                }
                collect(&entry.node, tokens);
            }
        }
        _ => {
            if let Some(place) = node.place {
                let text = match &node.origin {
                    Origin::Expanded { written, .. } => written.clone(),
                    _ => node.scalar_text().unwrap_or_default().to_owned(),
                };
                let shown = node.is_shown() && !has_user_information(&text);
                tokens.push(Token { place, shown, key: false, text });
            }
        }
    }
}
