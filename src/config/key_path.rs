//! Where a value stands in the document: `exporter.headers["x-team"]`, `allowed_sources[1]`.

use std::fmt;

/// The way from the root to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Segment>);

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The document itself.
    pub(super) const ROOT: Self = Self(Vec::new());

    /// The path written `a.b.c`; for our own keys, which have no dot in them.
    pub(super) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Segment::Key(key.to_owned())).collect())
    }

    /// The steps were collected on the way up, the last one first.
    pub(super) fn from_reversed(mut segments: Vec<Segment>) -> Self {
        segments.reverse();
        Self(segments)
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// Whether this is `above` or leads on from it.
    pub(super) fn starts_with(&self, above: &Self) -> bool {
        self.0.starts_with(&above.0)
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(formatter, "[{index}]")?,
                Segment::Key(key) if key.contains('.') => write!(formatter, "[\"{}\"]", printable_key(key))?,
                Segment::Key(key) if position == 0 => formatter.write_str(&printable_key(key))?,
                Segment::Key(key) => write!(formatter, ".{}", printable_key(key))?,
            }
        }
        Ok(())
    }
}

/// What may be shown of a key: its beginning as long as it looks like a name.
///
/// Where a colon was forgotten, as in `{ x-team=hunter2 }`, YAML takes name and secret for one key.
pub(super) fn printable_key(key: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    let name: String = key.chars().take_while(|&character| is_name_character(character)).take(CHARACTERS_MAX).collect();
    if name.len() == key.len() { name } else { format!("{name}…") }
}

/// Whether the whole key may be shown.
pub(super) fn is_printable_key(key: &str) -> bool {
    key.chars().all(is_name_character)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_document() {
        assert_eq!(KeyPath::ROOT.to_string(), "");
        assert_eq!(KeyPath::of("receiver.udp").key("endpoint").to_string(), "receiver.udp.endpoint");
        assert_eq!(KeyPath::of("exclude_users").index(2).key("user").to_string(), "exclude_users[2].user");
        assert_eq!(KeyPath::of("resource").key("service.name").to_string(), "resource[\"service.name\"]");
    }

    #[test]
    fn a_key_is_shown_as_far_as_it_looks_like_a_name() {
        assert_eq!(printable_key("x-team"), "x-team");
        assert_eq!(printable_key("x-team=hunter2"), "x-team…");
        assert_eq!(printable_key("\u{1b}[31m"), "…");
    }
}
