//! Fields between separators, when a field may hold the separator itself.
//!
//! log4net escapes nothing. A `;` or TAB inside a user id, an app name or a Context looks like one between two fields, and
//! whoever may choose one of these may try to write fields of his own. So nothing is shifted and nothing guessed: with the
//! exact number of fields each has its place; with more, both anchors have to tell the same one reading.
//!
//! * The **phrase** that the appender filters by, which the message holds: no field behind the one with it begins the
//!   message. If two fields could be that one, somebody wrote the phrase into a value, and the datagram is rejected: it
//!   would be a forged event or a real one with a strange browser, and nothing in it says which.
//! * The **Origin**, one of a few known words, stands a known number of fields before the message. What is too many before
//!   it belongs to the user; what is too many behind it to what stands between Origin and message. Where two fields could
//!   be the Origin, the datagram is rejected too.
//!
//! A phrase in the field that should be the message therefore leaves no room for a separator before it, whatever the
//! Origin says. A directory is taken to hold no separator: `a;b` before the Origin is user `b` of directory `a`.

use memchr::{memchr, memchr_iter, memmem};

use super::RejectReason;
use super::text::{self, trim};
use super::value::Values;

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
    /// Everything before the message.
    pub(super) head: &'a str,
}

/// Origins that Qlik is known to write, and the ways of writing none.
const ORIGINS: [&str; 5] = ["AppAccess", "ManagementAccess", "Not available", "(null)", ""];

/// How many fields are looked at for anchors where the message is not in its place. More are in no honest user id, and
/// what is not looked at may hold a second Origin.
const FIELDS_MAX: usize = 256;

/// A datagram without its type, cut at the separators before the standard place of its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    text: &'a str,
    layout: Layout,
    /// Where the fields end, and how many of them do.
    ends: [usize; ENDS_MAX],
    count: usize,
    /// The first separator behind the beginning of the message.
    next: Option<usize>,
    pub(super) values: Values,
}

/// At least as many as a layout has fields before its message.
const ENDS_MAX: usize = 12;

impl<'a> Head<'a> {
    pub(super) fn split(text: &'a str, layout: Layout) -> Self {
        let values = Values { are_plain: false };
        let mut head = Self { text, layout, ends: [0; ENDS_MAX], count: 0, next: None, values };
        // Fields are short: a search for each of their ends costs more than a look at each byte.
        for (position, _) in text.bytes().enumerate().filter(|(_, byte)| *byte == layout.separator) {
            match head.ends.get_mut(head.count).filter(|_| head.count < layout.message) {
                Some(end) => *end = position,
                None => {
                    head.next = Some(position);
                    break;
                }
            }
            head.count += 1;
        }
        // With the exact number of fields no value holds a separator, which may be a character to be removed.
        head.values.are_plain = text::is_harmless_but_for(text, layout.separator)
            && (head.next.is_none() || text::is_harmless(layout.separator));
        head
    }

    /// A field before the message, in its standard place. The last one of a datagram that is cut off is taken as it is.
    pub(super) fn field(&self, index: usize) -> Result<&'a str, RejectReason> {
        let end = if index < self.count { self.end(index) } else { self.text.len() };
        let start = if index == 0 { 0 } else { self.end(index - 1) + 1 };
        if index > self.count { Err(RejectReason::TooFewFields) } else { Ok(self.slice(start, end)) }
    }

    fn end(&self, field: usize) -> usize {
        self.ends.get(field).copied().unwrap_or_default()
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Reads the fields from the user on. `phrase` is what the message of this Command holds.
    pub(super) fn read(&self, phrase: &memmem::Finder<'_>) -> Result<Reading<'a>, RejectReason> {
        let Self { text, layout, .. } = *self;
        if self.count < layout.message {
            return Err(RejectReason::TooFewFields);
        }
        let message_start = self.end(layout.message - 1) + 1;
        let standard = Reading {
            user: self.field(layout.user)?,
            origin: self.field(layout.origin)?,
            between: self.slice(self.end(layout.origin) + 1, message_start - 1),
            message: self.slice(message_start, text.len()),
            head: self.slice(0, message_start),
        };
        let Some(next) = self.next else { return Ok(standard) };
        let bytes = text.as_bytes();
        let behind = |from: usize| bytes.get(from..).unwrap_or_default();
        let Some(found) = phrase.find(behind(message_start)).map(|found| message_start + found) else {
            return Fields::split(text, layout.separator)?.without_phrase(layout, standard);
        };
        // Almost always the message holds separators of its own, behind the phrase.
        let is_standard = found < next;
        let end = if is_standard { Some(next) } else { memchr(layout.separator, behind(found)).map(|end| found + end) };
        if end.is_some_and(|end| phrase.find(behind(end)).is_some()) {
            return Err(RejectReason::Ambiguous);
        }
        if is_standard { Ok(standard) } else { Fields::split(text, layout.separator)?.with_phrase(layout, found) }
    }
}

/// All fields of a datagram that is not plain.
struct Fields<'a> {
    text: &'a str,
    /// Begin and end of each field.
    bounds: Vec<(usize, usize)>,
}

impl<'a> Fields<'a> {
    fn split(text: &'a str, separator: u8) -> Result<Self, RejectReason> {
        let mut bounds = Vec::new();
        let mut start = 0;
        for end in memchr_iter(separator, text.as_bytes()) {
            if bounds.len() == FIELDS_MAX {
                return Err(RejectReason::Ambiguous);
            }
            bounds.push((start, end));
            start = end + 1;
        }
        bounds.push((start, text.len()));
        Ok(Self { text, bounds })
    }

    fn field(&self, index: usize) -> &'a str {
        self.bounds.get(index).and_then(|&(start, end)| self.text.get(start..end)).unwrap_or_default()
    }

    /// From the beginning of one field to the end of another, with the separators between.
    fn joined(&self, first: usize, last: usize) -> &'a str {
        let (Some(&(start, _)), Some(&(_, end))) = (self.bounds.get(first), self.bounds.get(last)) else { return "" };
        self.text.get(start..end).unwrap_or_default()
    }

    fn is_origin(&self, index: usize) -> bool {
        ORIGINS.contains(&trim(self.field(index)))
    }

    /// The only field that holds the phrase is behind the standard place, so a field before it holds a separator.
    fn with_phrase(&self, layout: Layout, found: usize) -> Result<Reading<'a>, RejectReason> {
        let message = self.bounds.partition_point(|&(_, end)| end <= found);
        let last = message - (layout.message - layout.origin);
        let mut origins = (layout.origin..=last).filter(|&index| self.is_origin(index));
        match (origins.next(), origins.next()) {
            (Some(origin), None) => Ok(self.reading(layout, origin, message)),
            _ => Err(RejectReason::Ambiguous),
        }
    }

    /// No filter let this through, so it is no appender of ours or Butler SOS's. The standard places are believed only if
    /// the Origin stands in its place and in no other that it could stand in, or the user agent marks the message.
    fn without_phrase(&self, layout: Layout, standard: Reading<'a>) -> Result<Reading<'a>, RejectReason> {
        let last = self.bounds.len() - 1 - (layout.message - layout.origin);
        let others = (layout.origin + 1..=last).any(|index| self.is_origin(index));
        let marks = |index: usize| super::message::user_agent_marker(self.field(index)).is_some();
        let marked = || (layout.user..self.bounds.len()).filter(|&index| marks(index)).eq([layout.message]);
        let believed = !others && (self.is_origin(layout.origin) || marked());
        if believed { Ok(standard) } else { Err(RejectReason::Ambiguous) }
    }

    fn reading(&self, layout: Layout, origin: usize, message: usize) -> Reading<'a> {
        let (head, message_text) = self.text.split_at(self.bounds.get(message).map_or(0, |bounds| bounds.0));
        Reading {
            user: self.joined(layout.user, origin - 1),
            origin: self.field(origin),
            between: self.joined(origin + 1, message - 1),
            message: message_text,
            head,
        }
    }
}
