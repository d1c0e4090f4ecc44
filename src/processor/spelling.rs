//! Texts that attributes borrow and that have to be made first: ids, addresses and times, spelled out.

use std::net::IpAddr;

use crate::event::GuidText;
use crate::time::Timestamp;

use super::detail::Client;
use super::ids::{SessionKey, hex_digits};
use super::session::{Occurrence, Placement, Session};

/// RFC 3339 in UTC.
pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(time.as_nanos().into()).map(|time| time.to_string()).unwrap_or_default()
}

/// What `session.id` shows.
pub(super) enum SessionIdText {
    Guid(GuidText),
    Hash([u8; 32]),
}

impl SessionIdText {
    pub(super) fn of_session(session: &Session) -> Self {
        session.id().map_or_else(|| Self::Hash(hex_digits(session.trace_id.0)), Self::of_key)
    }

    fn of_key(key: SessionKey) -> Self {
        key.guid().map_or_else(|| Self::Hash(hex_digits(key.trace_id().0)), |guid| Self::Guid(guid.to_text()))
    }

    pub(super) fn of(occurrence: &Occurrence<'_>, placement: Placement<'_>) -> Option<Self> {
        match placement {
            Placement::Session(session)
            | Placement::Connection(session, _)
            | Placement::NoConnection(session)
            | Placement::Failed(Some(session), _) => Some(Self::of_session(session)),
            Placement::Unmatched(_) | Placement::AfterEnd(..) | Placement::Failed(None, _) => {
                occurrence.id.map(Self::of_key)
            }
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Guid(text) => text.as_str(),
            // Every byte is a digit, so the fallback is never taken.
            Self::Hash(text) => std::str::from_utf8(text).unwrap_or_default(),
        }
    }
}

/// Texts that attributes borrow and that have to be made first.
pub(super) struct Texts {
    pub(super) address: Option<String>,
}

impl Texts {
    pub(super) fn new(client: Option<&Client>) -> Self {
        let address = match client {
            Some(Client::Address(address)) => Some(address_text(*address)),
            Some(Client::Hash(_)) | None => None,
        };
        Self { address }
    }
}

/// The usual form of an address. Each log record and span of a session has one, mostly of four numbers, for which the
/// standard library goes through a formatter five times: 1,320 instructions, of which this leaves 390, the allocation among them.
fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(numbers) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, number) in numbers.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if number >= 100 {
            text.push(char::from(b'0' + number / 100));
        }
        if number >= 10 {
            text.push(char::from(b'0' + number / 10 % 10));
        }
        text.push(char::from(b'0' + number % 10));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spelled_as_the_standard_library_does() {
        for number in 0..=u8::MAX {
            let address = IpAddr::from([number, 255 - number, 9, number.reverse_bits()]);
            assert_eq!(address_text(address), address.to_string());
        }
        let six: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(address_text(six), "2001:db8::2");
    }
}
