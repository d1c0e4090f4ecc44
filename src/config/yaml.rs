//! YAML text -> [`Node`]s.
//!
//! `serde_yaml` knows the position of every value, yet tells it only in an error. So each single value is read by a
//! visitor that keeps what it is given and then *fails*: the error comes back with the position in its text, and the
//! reading goes on with the next value, since the one that failed has been consumed. That is how one reading gives the
//! whole document with all its positions, and why [`place_in`] reads them out of an error's text.
//!
//! What is too large, too deep or refers to itself is refused before it costs anything worth mentioning.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::Place;
use super::node::{Entry, Node, Value};

/// Largest file in bytes; the largest sensible one is some kilobytes long.
pub(super) const FILE_SIZE_MAX: u64 = 1 << 20;

/// How many values a document may have once its aliases are resolved.
const NODES_MAX: usize = 20_000;

/// How many brackets may be open; the parser's time grows with the square of it.
const OPEN_BRACKETS_MAX: usize = 200;

/// How many characters may be ones that begin a value; comments have some, too.
const INDICATORS_MAX: usize = 100_000;

/// How many directives (`%YAML`, `%TAG`) there may be: the parser compares each with all before it.
const DIRECTIVES_MAX: usize = 16;

/// How many bytes the values and keys of a document may have once its aliases are resolved: an alias is short, whatever
/// it stands for. Without aliases no file gets there, as an escape such as `\L` is shorter than its character by one
/// byte at most.
const TEXT_MAX: usize = 2 << 20;

/// The text of an error that means: this value was read, and here is where it stands.
const CAUGHT: &str = "caught";

const TOO_MANY: &str = "more values than a configuration has";
const TOO_LONG: &str = "more text than a configuration has";
const TAGGED: &str = "a tag";
const NESTED: &str = "values are nested too deeply";

/// Why a text is no document.
#[derive(Debug)]
pub(super) struct SyntaxFault {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) suggestion: Option<&'static str>,
}

impl SyntaxFault {
    fn new(place: Option<Place>, message: impl Into<String>, suggestion: Option<&'static str>) -> Self {
        Self { place, message: message.into(), suggestion }
    }

    fn too_many() -> Self {
        Self::new(None, format!("more than {NODES_MAX} values; a configuration never has so many"), None)
    }
}

/// Reads one document. An empty text is a document of nothing.
pub(super) fn read(text: &str) -> Result<Node, SyntaxFault> {
    refuse_controls_and_excess(text)?;
    let (nodes, room) = (Cell::new(0), Cell::new(TEXT_MAX));
    let root = Seed { nodes: &nodes, room: &room }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| explain(&error, text))?;
    if !matches!(root.value, Value::List(_) | Value::Map(_)) {
        // A single value ends the reading before the parser could tell what comes after it.
        IgnoredAny::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| explain(&error, text))?;
    }
    Ok(root)
}

/// The lines of a text, broken where the parser breaks them.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, found)) = rest.char_indices().find(|(_, character)| is_break(*character)) {
        let (line, after) = rest.split_at(at);
        lines.push(line);
        rest = after.strip_prefix("\r\n").or_else(|| after.strip_prefix(found)).unwrap_or("");
    }
    lines.push(rest);
    lines
}

fn is_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What the parser would report without a position, or would take too long or too much memory to report.
fn refuse_controls_and_excess(text: &str) -> Result<(), SyntaxFault> {
    let mut open_brackets: usize = 0;
    let mut indicators = 0;
    let mut directives = 0;
    for (index, line) in lines(text).iter().enumerate() {
        let mut characters = line.chars().peekable();
        let mut column = 0;
        directives += usize::from(line.starts_with('%'));
        if directives > DIRECTIVES_MAX {
            let place = Some(Place { line: index + 1, column: 1 });
            return Err(SyntaxFault::new(place, format!("more than {DIRECTIVES_MAX} lines begin with `%`"), None));
        }
        while let Some(character) = characters.next() {
            column += 1;
            let place = Some(Place { line: index + 1, column });
            if character.is_control() && character != '\t' || matches!(character, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
            {
                let message = format!("the character U+{:04X} is not allowed in YAML", u32::from(character));
                return Err(SyntaxFault::new(place, message, None));
            }
            match character {
                '[' | '{' => open_brackets += 1,
                ']' | '}' => open_brackets = open_brackets.saturating_sub(1),
                _ => {}
            }
            let is_apart = characters.peek().is_none_or(|next| next.is_whitespace() || *next == ',');
            indicators += usize::from(match character {
                '[' | '{' | ',' | ':' => true,
                '-' | '?' => is_apart,
                _ => false,
            });
            if open_brackets > OPEN_BRACKETS_MAX {
                return Err(SyntaxFault::new(place, NESTED, None));
            }
            if indicators > INDICATORS_MAX {
                return Err(SyntaxFault::too_many());
            }
        }
    }
    Ok(())
}

/// The parser's own words where they hold nothing of the document, else ours.
fn explain(error: &serde_yaml::Error, text: &str) -> SyntaxFault {
    let place = error.location().map(|location| Place { line: location.line(), column: location.column() });
    let words = error.to_string();
    if words.contains(TOO_MANY) || words.contains("repetition limit exceeded") {
        return SyntaxFault::too_many();
    }
    if words.contains(TOO_LONG) {
        return SyntaxFault::new(place, "aliases (`*name`) that together stand for more than 2MiB of text", None);
    }
    if words.contains("recursion limit exceeded") {
        return SyntaxFault::new(place, NESTED, None);
    }
    if words.contains("more than one document") {
        let Some(place) = second_document(text) else {
            return SyntaxFault::new(None, "this is no YAML: more than one value, and nothing that parts them", None);
        };
        let message = "more than one document; `---` in the middle of a file begins another one";
        return SyntaxFault::new(Some(place), message, None);
    }
    let is_tagged = words.ends_with(TAGGED) || words.contains(&format!("{TAGGED} at "));
    if is_tagged || words.contains("invalid value: ") || words.contains("invalid type: ") {
        return SyntaxFault::new(place, "neither tags (`!name`) nor lists and sections as keys are understood", None);
    }
    broken(&words, place, text)
}

/// What the parser says of a text that is no YAML. Its words are all its own.
fn broken(words: &str, place: Option<Place>, text: &str) -> SyntaxFault {
    let problem = words.split(" at line ").next().unwrap_or_default();
    let problem = problem.split(" at position ").next().unwrap_or_default();
    let began = began(words);
    if let Some(("scanning a quoted scalar", began)) = began
        && (problem.contains("end of stream") || problem.contains("document indicator"))
    {
        return SyntaxFault::new(Some(began), "this is no YAML: the quotes that begin here do not end", None);
    }
    let line = place.and_then(|place| lines(text).get(place.line.wrapping_sub(1)).copied()).unwrap_or_default();
    let is_indented_by_tab = line.trim_start_matches(' ').starts_with('\t');
    let suggestion = match began {
        _ if is_indented_by_tab => Some("indent with spaces; YAML does not take tabs for that"),
        _ if problem.contains("alphabetic or numeric character") || problem.contains("unknown anchor") => {
            Some("a value that begins with `*` or `&` stands in quotes: `\"*\"`")
        }
        _ if problem.contains("escape character") || problem.contains("hexadecimal number") => {
            Some("inside of double quotes `\\` begins a special character; use single quotes, or `/` in a path")
        }
        _ if problem.starts_with("mapping values") => Some(
            "behind the colon of a key stands a blank, each key has a line of its own, and keys of one section begin in \
             one column",
        ),
        _ if is_bare_address(line) => Some("an address that begins with `[` stands in quotes: `\"[::]:9997\"`"),
        Some((what, _)) if what.contains("flow") && line.contains("${") => {
            Some("inside of `{ }` and `[ ]` a variable stands in quotes: `\"${env:NAME}\"`")
        }
        _ => None,
    };
    let within = match (began, place) {
        (Some((what, began)), Some(place)) if began.line != place.line && what.starts_with("parsing a ") => {
            format!(", while {what} that begins in line {}", began.line)
        }
        _ => String::new(),
    };
    SyntaxFault::new(place, format!("this is no YAML: {problem}{within}"), suggestion)
}

/// Whether a line has an IPv6 address with a port that is not in quotes: YAML takes the bracket for the beginning of a list.
fn is_bare_address(line: &str) -> bool {
    let Some((address, _)) = line.split_once("]:") else { return false };
    address.rsplit_once('[').is_some_and(|(before, inside)| inside.contains(':') && !before.ends_with(['"', '\'']))
}

/// What the parser was at when it came upon the problem, and where that begins.
fn began(words: &str) -> Option<(&str, Place)> {
    let (_, context) = words.split_once(", while ")?;
    let Some((what, position)) = context.rsplit_once(" at line ") else {
        // The very first character is the one position that the parser does not mention.
        return Some((context, Place { line: 1, column: 1 }));
    };
    let (line, column) = position.split_once(" column ")?;
    Some((what, Place { line: line.parse().ok()?, column: column.parse().ok()? }))
}

/// Where the second document of a text begins, which the parser does not tell.
fn second_document(text: &str) -> Option<Place> {
    let is_marker =
        |line: &str, marker| line.strip_prefix(marker).is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
    let (mut has_begun, mut has_ended) = (false, false);
    for (index, line) in lines(text).iter().enumerate() {
        let is_content = !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
        if is_marker(line, "...") {
            has_ended = has_begun;
        } else if has_begun && is_marker(line, "---") || has_ended && is_content {
            return Some(Place { line: index + 1, column: 1 });
        } else if is_content && !line.starts_with('%') {
            has_begun = true;
        }
    }
    None
}

/// Reads the position at the end of the text of an error that is [`CAUGHT`].
fn place_in(error: &impl fmt::Display) -> Option<Place> {
    let words = error.to_string();
    let (_, position) = words.rsplit_once(CAUGHT)?;
    if position.is_empty() {
        // The very first character is the one position that the parser does not mention.
        return Some(Place { line: 1, column: 1 });
    }
    let (line, column) = position.strip_prefix(" at line ")?.split_once(" column ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// Reads one value of any kind.
#[derive(Clone, Copy)]
struct Seed<'a> {
    nodes: &'a Cell<usize>,
    /// How many bytes of text there may still be.
    room: &'a Cell<usize>,
}

impl Seed<'_> {
    fn take_text<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        let room = self.room.get().checked_sub(text.len()).ok_or_else(|| E::custom(TOO_LONG))?;
        self.room.set(room);
        Ok(text.to_owned())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > NODES_MAX {
            return Err(D::Error::custom(TOO_MANY));
        }
        let caught = RefCell::new(None);
        match deserializer.deserialize_any(Catch { caught: &caught, seed: self }) {
            Ok(value) => Ok(Node::new(value, None)),
            Err(error) => match caught.take() {
                Some(value) => Ok(Node::new(value, place_in(&error))),
                None => Err(error),
            },
        }
    }
}

/// Reads one key.
struct KeySeed<'a>(Seed<'a>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = (String, Option<Place>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let caught = RefCell::new(None);
        match deserializer.deserialize_str(CatchKey { caught: &caught, seed: self.0 }) {
            Ok(never) => match never {},
            Err(error) => match caught.take() {
                Some(key) => Ok((key, place_in(&error))),
                None => Err(error),
            },
        }
    }
}

/// Keeps a single value and fails; collects a list or a section and does not.
struct Catch<'a> {
    caught: &'a RefCell<Option<Value>>,
    seed: Seed<'a>,
}

impl Catch<'_> {
    fn keep<E: serde::de::Error>(&self, value: Value) -> Result<Value, E> {
        self.caught.replace(Some(value));
        Err(E::custom(CAUGHT))
    }
}

impl<'de> Visitor<'de> for Catch<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.keep(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.keep(Value::Number(value.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.keep(Value::Number(value.to_string()))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.keep(Value::Number(value.to_string()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.keep(Value::Number(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.keep(Value::Number(value.to_string()))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.keep(Value::Text(self.seed.take_text(value)?))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.keep(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.seed)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, key_place)) = access.next_key_seed(KeySeed(self.seed))? {
            entries.push(Entry { key, key_place, is_bare: false, node: access.next_value_seed(self.seed)? });
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom(TAGGED))
    }
}

/// Keeps the text of a key and fails.
struct CatchKey<'a> {
    caught: &'a RefCell<Option<String>>,
    seed: Seed<'a>,
}

impl Visitor<'_> for CatchKey<'_> {
    type Value = std::convert::Infallible;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        self.caught.replace(Some(self.seed.take_text(value)?));
        Err(E::custom(CAUGHT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key_path::KeyPath;

    fn place(line: usize, column: usize) -> Option<Place> {
        Some(Place { line, column })
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb:\n  - x\n  - { c: true, \"d e\": 'f' }\nà: |\n  text\ng: &h ~\ni: *h\n";
        let root = read(text).unwrap();
        let path = |dotted| KeyPath::of(dotted);
        for (path, key, value) in [
            (path("a"), place(1, 1), place(1, 4)),
            (path("b"), place(2, 1), place(2, 1)),
            (path("b").index(0), place(3, 5), place(3, 5)),
            (path("b").index(1), place(4, 7), place(4, 7)),
            (path("b").index(1).key("c"), place(4, 7), place(4, 10)),
            (path("b").index(1).key("d e"), place(4, 16), place(4, 23)),
            (path("à"), place(5, 1), place(5, 4)),
            (path("g"), place(7, 1), place(7, 4)),
            // An alias stands where its anchor does.
            (path("i"), place(8, 1), place(7, 4)),
        ] {
            assert_eq!(root.place_of_key(&path), key, "{path}");
            assert_eq!(root.place_of(&path), value, "{path}");
        }
    }

    #[test]
    fn a_place_is_read_from_the_end_of_an_error() {
        let root = read("{ ' at line 7 column 7': {caught at line 9 column 9: x} }").unwrap();
        let path = KeyPath::ROOT.key(" at line 7 column 7").key("caught at line 9 column 9");
        assert_eq!(root.place_of(&path), place(1, 54));
        assert_eq!(read("x").unwrap().place, place(1, 1));
    }

    #[test]
    fn lines_are_broken_where_the_parser_breaks_them() {
        assert_eq!(lines("a\nb\r\nc\rd\u{85}e\u{2028}f\u{2029}\r\n"), ["a", "b", "c", "d", "e", "f", "", ""]);
        let root = read("# 1\r# 2\r\n# 3\u{85}# 4\u{2028}# 5\u{2029}a: b").unwrap();
        assert_eq!(root.place_of(&KeyPath::of("a")), place(6, 4));
    }

    #[test]
    fn what_yaml_says_of_values_is_kept() {
        let root = read("[~, null, yes, true, 1, -1, 0x10, 1.5, 1e3, '1', 010, 12:30]").unwrap();
        let Value::List(items) = root.value else { panic!("no list") };
        let values: Vec<String> =
            items.iter().map(|item| format!("{} {}", item.kind(), item.scalar_text().unwrap_or("-"))).collect();
        let expected = [
            "nothing -",
            "nothing -",
            "a text yes",
            "true or false true",
            "a number 1",
            "a number -1",
            "a number 16",
            "a number 1.5",
            "a number 1000",
            "a text 1",
            "a text 010",
            "a text 12:30",
        ];
        assert_eq!(values, expected);
    }
}
