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
    /// Whether each field stands in its standard place.
    pub(super) is_standard: bool,
    /// What is known of the phrase in the message.
    pub(super) phrase: Phrase,
}

/// Where a message holds the phrase of its Command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phrase {
    /// Nobody has looked.
    NotSought,
    /// Once, and this is where it ends.
    Only(usize),
    /// More than once.
    Repeated,
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
    /// Where the fields begin, and where one more would: each ends at the separator before the next.
    starts: [usize; STARTS_MAX],
    /// How many of them end.
    count: usize,
    /// The first separator behind the beginning of the message.
    next: Option<usize>,
    pub(super) values: Values,
}

/// Room for the fields before the message, the message, and what would be behind it.
const STARTS_MAX: usize = 14;

impl<'a> Head<'a> {
    pub(super) fn split(text: &'a str, layout: Layout) -> Self {
        let (starts, count) = find_starts(text.as_bytes(), layout);
        let mut head = Self { text, layout, starts, count, next: None, values: Values { are_plain: false } };
        let message_start = if count < layout.message { text.len() } else { head.start(layout.message) };
        let (before, message) = text.split_at_checked(message_start).unwrap_or((text, ""));
        let is_plain = text::is_plain(message);
        // A separator that is to be removed from values is in no plain message.
        if !is_plain || text::is_harmless(layout.separator) {
            head.next = memchr(layout.separator, message.as_bytes()).map(|at| message_start + at);
        }
        head.values.are_plain = is_plain && text::is_harmless_but_for(before, layout.separator);
        head
    }

    /// A field before the message, in its standard place. The last one of a datagram that is cut off is taken as it is.
    #[inline]
    pub(super) fn field(&self, index: usize) -> Result<&'a str, RejectReason> {
        if index > self.count {
            return Err(RejectReason::TooFewFields);
        }
        Ok(self.slice(self.start(index), self.start(index + 1).saturating_sub(1)))
    }

    #[inline]
    fn start(&self, field: usize) -> usize {
        self.starts.get(field).copied().unwrap_or_default()
    }

    #[inline]
    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Reads the fields from the user on. `phrase` is what the message of this Command holds.
    pub(super) fn read(&self, phrase: &memmem::Finder<'_>) -> Result<Reading<'a>, RejectReason> {
        let Self { text, layout, .. } = *self;
        if self.count < layout.message {
            return Err(RejectReason::TooFewFields);
        }
        let message_start = self.start(layout.message);
        let mut standard = Reading {
            user: self.field(layout.user)?,
            origin: self.field(layout.origin)?,
            between: self.slice(self.start(layout.origin + 1), message_start - 1),
            message: self.slice(message_start, text.len()),
            head: self.slice(0, message_start),
            is_standard: true,
            phrase: Phrase::NotSought,
        };
        let Some(next) = self.next else { return Ok(standard) };
        let bytes = text.as_bytes();
        let find_behind = |from: usize| phrase.find(bytes.get(from..).unwrap_or_default()).map(|found| from + found);
        let Some(found) = find_behind(message_start) else {
            return Fields::split(text, layout.separator)?.without_phrase(layout, standard);
        };
        // Almost always the message holds separators of its own, behind the phrase.
        let is_standard = found < next;
        let behind = found + phrase.needle().len();
        let second = find_behind(behind);
        if let Some(second) = second {
            let rest = bytes.get(behind..).unwrap_or_default();
            let end = if is_standard { Some(next) } else { memchr(layout.separator, rest).map(|end| behind + end) };
            // No phrase holds a separator, so each is in one field.
            if end.is_some_and(|end| second > end || find_behind(end).is_some()) {
                return Err(RejectReason::Ambiguous);
            }
        }
        if is_standard {
            standard.phrase = if second.is_none() { Phrase::Only(behind - message_start) } else { Phrase::Repeated };
            Ok(standard)
        } else {
            Fields::split(text, layout.separator)?.with_phrase(layout, found)
        }
    }
}

/// Where the fields up to the message begin, and how many of them end. Looked for in eight bytes at a time: cutting a
/// connection event takes 1,200 instructions, and took 3,600 byte by byte.
fn find_starts(bytes: &[u8], layout: Layout) -> ([usize; STARTS_MAX], usize) {
    let (mut starts, mut count) = ([0; STARTS_MAX], 0);
    let mut add = |position| {
        count += 1;
        if let Some(start) = starts.get_mut(count) {
            *start = position + 1;
        }
        count < layout.message
    };
    let (words, rest) = bytes.as_chunks::<8>();
    'found: {
        for (index, word) in words.iter().enumerate() {
            let mut found = equal_bytes(u64::from_le_bytes(*word), layout.separator);
            while found != 0 {
                if !add(8 * index + (found.trailing_zeros() / 8) as usize) {
                    break 'found;
                }
                found &= found - 1;
            }
        }
        for (index, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == layout.separator) {
            if !add(8 * words.len() + index) {
                break 'found;
            }
        }
    }
    // The last one ends with the text.
    if let Some(start) = starts.get_mut(count + 1) {
        *start = bytes.len() + 1;
    }
    (starts, count)
}

/// The highest bit of each byte that is equal to this one.
#[inline]
const fn equal_bytes(word: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    // A byte is zero where it has no high bit, and adding 127 to the rest of it gives none.
    let different = word ^ u64::from_le_bytes([byte; 8]);
    !(((different & LOW) + LOW) | different | LOW)
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
            is_standard: false,
            phrase: Phrase::NotSought,
        }
    }
}
