//! Values as they stand in a field: trimmed, cleaned, or absent.

use std::borrow::Cow;

use super::text::{self, trim};
use super::{RejectReason, User};

/// Reads the values of one datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    /// Whether no value can hold a character that has to be removed. One look at a whole datagram costs a tenth of looking
    /// at each of its values.
    pub(super) are_plain: bool,
}

impl Values {
    /// A value, cleaned, unless it is one of the ways of writing none.
    #[inline]
    pub(super) fn present(self, field: &str) -> Option<Cow<'_, str>> {
        let field = trim(field);
        if is_absent(field) {
            None
        } else if self.are_plain {
            Some(Cow::Borrowed(field))
        } else {
            present_when_cleaned(field)
        }
    }

    pub(super) fn clean(self, field: &str) -> Cow<'_, str> {
        if self.are_plain { Cow::Borrowed(trim(field)) } else { text::clean(field) }
    }

    pub(super) fn host(self, field: &str) -> Result<Cow<'_, str>, RejectReason> {
        self.present(field).ok_or(RejectReason::NoHost)
    }

    pub(super) fn user<'a>(self, directory: &'a str, name: &'a str) -> Result<User<'a>, RejectReason> {
        let name = self.present(name).ok_or(RejectReason::NoUser)?;
        Ok(User { directory: self.present(directory), name })
    }
}

#[cold]
fn present_when_cleaned(field: &str) -> Option<Cow<'_, str>> {
    match text::clean(field) {
        Cow::Borrowed(value) => Some(Cow::Borrowed(value)),
        // What is left of it may be one of the ways of writing none.
        Cow::Owned(value) => (!is_absent(&value)).then_some(Cow::Owned(value)),
    }
}

/// Whether a field, trimmed, says that there is nothing: empty, log4net's `(null)`, or Qlik's `Not available`.
#[inline]
pub(super) fn is_absent(field: &str) -> bool {
    match field.as_bytes() {
        [] => true,
        [b'(', ..] => field == "(null)",
        [b'N' | b'n', ..] => field.eq_ignore_ascii_case("Not available"),
        _ => false,
    }
}
