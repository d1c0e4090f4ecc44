//! Fields between separators, when a field may hold the separator itself.
//!
//! log4net escapes nothing. A `;` or TAB inside a user id, an app name or a Context looks like one between two fields, and
//! whoever may choose one of these may try to write fields of his own. So nothing is shifted and nothing guessed: with the
//! exact number of fields each has its place; with more, both anchors have to tell the same one reading.
//!
//! * The **phrase** that the appender filters by, which the message holds: the field with it begins the message.
//! * The **Origin**, one of a few known words, stands a known number of fields before the message. What is too many before
//!   it belongs to the user; what is too many behind it to the field before the message, or for app names the one before.
//!
//! A message that begins exactly where it should leaves no room for a separator before it, whatever the Origin says. Where
//! a later field holds the phrase too, a second reading is possible in which the user id holds the first one: that is how a
//! forged event would look, so it is rejected as ambiguous. A Context holds no phrase: a request path has no blanks.

use memchr::{memchr_iter, memmem};

use super::RejectReason;

/// Where the fields of a format are, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) separator: u8,
    pub(super) user: usize,
    pub(super) origin: usize,
    pub(super) message: usize,
}

/// The fields that the anchors told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    pub(super) user: &'a str,
    pub(super) origin: &'a str,
    /// Everything between Origin and message.
    pub(super) between: &'a str,
    pub(super) message: &'a str,
}

/// Origins that Qlik is known to write, and the ways of writing none.
const ORIGINS: [&str; 5] = ["AppAccess", "ManagementAccess", "Not available", "(null)", ""];

/// How many fields are looked at for anchors. More separators than this are not in any user id or message of a person.
const FIELDS_MAX: usize = 256;

/// Reads a datagram without its type. `phrase` is what the message of this Command holds.
pub(super) fn read<'a>(
    text: &'a str,
    layout: Layout,
    phrase: &memmem::Finder<'_>,
) -> Result<Reading<'a>, RejectReason> {
    let mut separators = memchr_iter(layout.separator, text.as_bytes());
    let mut ends = [0; 16];
    for end in ends.iter_mut().take(layout.message) {
        *end = separators.next().ok_or(RejectReason::TooFewFields)?;
    }
    let end_of = |field: usize| ends.get(field).copied().unwrap_or_default();
    let slice = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let message_start = end_of(layout.message - 1) + 1;
    let standard = Reading {
        user: slice(end_of(layout.user - 1) + 1, end_of(layout.user)),
        origin: slice(end_of(layout.origin - 1) + 1, end_of(layout.origin)),
        between: slice(end_of(layout.origin) + 1, message_start - 1),
        message: slice(message_start, text.len()),
    };
    let Some(next) = separators.next() else { return Ok(standard) };
    // Almost always: the message holds separators of its own, behind the phrase and with no second one.
    let bytes = text.as_bytes();
    let find_from = |from: usize| phrase.find(bytes.get(from..).unwrap_or_default()).map(|found| from + found);
    if let Some(found) = find_from(message_start)
        && found < next
        && find_from(found + 1).is_none()
    {
        return Ok(standard);
    }
    Fields::split(text, layout.separator).resolve(layout, phrase, standard)
}

/// All fields of a datagram that is not plain.
struct Fields<'a> {
    text: &'a str,
    /// Begin and end of each field; the last one reaches to the end of the text.
    bounds: Vec<(usize, usize)>,
}

impl<'a> Fields<'a> {
    fn split(text: &'a str, separator: u8) -> Self {
        let mut bounds = Vec::new();
        let mut start = 0;
        for end in memchr_iter(separator, text.as_bytes()).take(FIELDS_MAX - 1) {
            bounds.push((start, end));
            start = end + 1;
        }
        bounds.push((start, text.len()));
        Self { text, bounds }
    }

    fn field(&self, index: usize) -> &'a str {
        self.bounds.get(index).and_then(|&(start, end)| self.text.get(start..end)).unwrap_or_default()
    }

    /// From the beginning of one field to the end of another, with the separators between.
    fn joined(&self, first: usize, last: usize) -> &'a str {
        let (Some(&(start, _)), Some(&(_, end))) = (self.bounds.get(first), self.bounds.get(last)) else { return "" };
        self.text.get(start..end).unwrap_or_default()
    }

    fn resolve(
        &self,
        layout: Layout,
        phrase: &memmem::Finder<'_>,
        standard: Reading<'a>,
    ) -> Result<Reading<'a>, RejectReason> {
        let holds_phrase = |index: usize| phrase.find(self.field(index).as_bytes()).is_some();
        let is_origin = |index: usize| ORIGINS.contains(&self.field(index).trim());
        let between = layout.message - layout.origin;
        let mut readings = Vec::new();
        let mut any_phrase = false;
        for message in (layout.message..self.bounds.len()).filter(|&index| holds_phrase(index)) {
            any_phrase = true;
            if message == layout.message {
                readings.push((layout.origin, message));
                continue;
            }
            let origins = (layout.origin..=message - between).filter(|&index| is_origin(index));
            // The field before the message is the Context in both formats, and it holds no phrase.
            readings.extend(
                origins
                    .filter(|&origin| (origin + 1..message).all(|index| !holds_phrase(index)))
                    .map(|origin| (origin, message)),
            );
        }
        match readings.as_slice() {
            [(origin, message)] => Ok(self.reading(layout, *origin, *message)),
            [] if !any_phrase => self.without_phrase(layout, is_origin, standard),
            _ => Err(RejectReason::Ambiguous),
        }
    }

    /// No filter let this through, so it is no appender of ours or Butler SOS's. The standard places are believed only if
    /// the Origin stands in its place and in no other that it could stand in, or the user agent marks the message.
    fn without_phrase(
        &self,
        layout: Layout,
        is_origin: impl Fn(usize) -> bool,
        standard: Reading<'a>,
    ) -> Result<Reading<'a>, RejectReason> {
        let last = self.bounds.len() - 1 - (layout.message - layout.origin);
        let others = (layout.origin + 1..=last).any(&is_origin);
        let marks = |index: usize| super::message::user_agent_marker(self.field(index)).is_some();
        let marked = (layout.user..self.bounds.len()).filter(|&index| marks(index)).eq([layout.message]);
        let believed = if is_origin(layout.origin) { !others } else { marked && !others };
        if believed { Ok(standard) } else { Err(RejectReason::Ambiguous) }
    }

    fn reading(&self, layout: Layout, origin: usize, message: usize) -> Reading<'a> {
        Reading {
            user: self.joined(layout.user, origin - 1),
            origin: self.field(origin),
            between: self.joined(origin + 1, message - 1),
            message: self.text.get(self.bounds.get(message).map_or(0, |bounds| bounds.0)..).unwrap_or_default(),
        }
    }
}
