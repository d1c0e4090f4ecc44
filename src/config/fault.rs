//! What is wrong with a configuration, and how it is shown.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A position in the file, as editors count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One thing that is wrong. No text in it holds a secret or the value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which key, for example `exporter.retry_on_failure.max_interval`; empty for the file as a whole.
    pub path: String,
    /// Where in the file; `None` for the file as a whole and for what came from an environment variable.
    pub place: Option<Place>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// The line to show.
    pub(super) excerpt: Option<Excerpt>,
}

/// As much of a line as may be shown, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl fmt::Display for Fault {
    /// `path: message`, on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Everything that is wrong with one configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    name: String,
    faults: Vec<Fault>,
}

impl Faults {
    /// The faults of the configuration called `name`; those without a place come first.
    pub(super) fn new(name: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.place);
        Self { name: name.to_owned(), faults }
    }

    /// A configuration that could not even be read.
    pub(super) fn of_file(name: &str, place: Option<Place>, message: String, suggestion: Option<&str>) -> Self {
        let suggestion = suggestion.map(str::to_owned);
        Self::new(name, vec![Fault { path: String::new(), place, message, suggestion, excerpt: None }])
    }

    /// The faults in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }

    /// All faults with the lines they are in, as the Rust compiler shows its own.
    ///
    /// With `color` the text holds terminal escape sequences. Ends without a line break.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for fault in &self.faults {
            text.push_str(&renderer.render(&[self.report(fault)]));
            text.push_str("\n\n");
        }
        let count = self.faults.len();
        let faults = if count == 1 { "fault" } else { "faults" };
        text.push_str(&format!("{}: {count} {faults}", self.name));
        text
    }

    fn report<'a>(&'a self, fault: &'a Fault) -> Group<'a> {
        let group = Level::ERROR.primary_title(fault.to_string());
        let group = match (&fault.excerpt, fault.place) {
            (Some(excerpt), Some(place)) => group.element(
                Snippet::source(excerpt.text.as_str())
                    .line_start(place.line)
                    .path(self.name.as_str())
                    .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
            ),
            (None, Some(place)) => {
                group.element(Origin::path(self.name.as_str()).line(place.line).char_column(place.column))
            }
            (_, None) => group.element(Origin::path(self.name.as_str())),
        };
        match &fault.suggestion {
            Some(suggestion) => group.element(Level::HELP.message(suggestion.as_str())),
            None => group,
        }
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

/// A value between quotes, for a message: shortened, and without anything that a terminal would obey.
pub(super) fn quoted(value: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let shown: String = value.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    let rest = if value.chars().nth(CHARACTERS_MAX).is_some() { "…" } else { "" };
    format!("\"{shown}{rest}\"")
}
