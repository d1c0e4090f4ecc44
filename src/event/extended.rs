//! Our own appender: one for all four events, with one counter, separated by TAB because `;` occurs in values.
//!
//! ```text
//!  /sense-otel/1/ sequence time host ProxySessionId Command Result UserDirectory UserId Origin ObjectId ObjectName Context message
//! ```
//!
//! A property that Qlik does not set is `(null)`: any field but Command, host and user may be absent.

use super::fields::{Head, Layout};
use super::message::{self, Message};
use super::text::trim;
use super::value::Values;
use super::{Event, Format, Guid, RejectReason, SessionId, action, context, split_once};
use crate::time::Timestamp;

const LAYOUT: Layout = Layout { separator: b'\t', user: 7, origin: 8, message: 12 };

/// The largest number of the appender's counter: `%rownum{2147483647}`.
const SEQUENCE_MAX: u32 = 2_147_483_647;

/// Reads what follows the type.
pub(super) fn decode(rest: &str) -> Result<Event<'_>, RejectReason> {
    let head = Head::split(rest, LAYOUT);
    // The user id is the last field that a datagram may be cut off in without being cut short.
    head.field(LAYOUT.user)?;
    let action = action(head.field(4)?)?;
    let values = head.values;
    let node = values.host(head.field(2)?)?;
    let reading = head.read(message::phrase(action))?;
    let user = values.user(head.field(6)?, reading.user)?;
    let (object_id, object_name, context) = if reading.is_standard {
        (head.field(9)?, head.field(10)?, head.field(11)?)
    } else {
        object_and_context(reading.between)?
    };
    let context = context::read(context, LAYOUT.separator, values);
    let app_id = context.app_id.or_else(|| Guid::parse(trim(object_id).as_bytes()));
    let app_name = values.present(object_name).filter(|name| Guid::parse(name.as_bytes()).is_none());
    let message = Message::read(reading.message, action, reading.phrase);
    Ok(Event {
        format: Format::Extended,
        action,
        node,
        session_id: session(head.field(3)?, values),
        sequence: trim(head.field(0)?).parse().ok().filter(|number| (1..=SEQUENCE_MAX).contains(number)),
        time: read_time(trim(head.field(1)?)),
        failure: values.present(head.field(5)?).filter(|result| result != "0"),
        origin: values.present(reading.origin),
        app_id,
        app_name,
        path: context.path,
        virtual_proxy: context.virtual_proxy,
        traceparent: context.traceparent,
        user_agent: message.user_agent(reading.head, values),
        client_address: message.client_address(reading.head),
        user,
    })
}

/// ObjectId, ObjectName and Context. A TAB too many could be in the name, in the Context, or in a message that repeats a
/// user's id before its phrase: nothing tells which.
fn object_and_context(between: &str) -> Result<(&str, &str, &str), RejectReason> {
    let (object_id, rest) = split_once(between, b'\t').ok_or(RejectReason::TooFewFields)?;
    let (object_name, context) = split_once(rest, b'\t').ok_or(RejectReason::TooFewFields)?;
    if split_once(context, b'\t').is_some() {
        Err(RejectReason::Ambiguous)
    } else {
        Ok((object_id, object_name, context))
    }
}

/// A session id; `0` and zeros are what Qlik writes for "not through the proxy".
fn session(field: &str, values: Values) -> Option<SessionId<'_>> {
    // Almost always it is one as it stands; what is left may become one, or nothing, when it is cleaned.
    let guid = |guid: Guid| (guid.to_bits() != 0).then_some(SessionId::Guid(guid));
    if let Some(id) = Guid::parse(field.as_bytes()) {
        return guid(id);
    }
    let id = values.present(field)?;
    match Guid::parse(id.as_bytes()) {
        Some(id) => guid(id),
        None => (!id.bytes().all(|byte| byte == b'0')).then_some(SessionId::Opaque(id)),
    }
}

/// `2025-07-14T22:30:05.042Z`, as the appender writes it; any other time with an offset is read too, more slowly.
fn read_time(field: &str) -> Option<Timestamp> {
    read_usual_time(field.as_bytes()).or_else(|| {
        let time: jiff::Timestamp = field.parse().ok()?;
        u64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos)
    })
}

fn read_usual_time(field: &[u8]) -> Option<Timestamp> {
    let field: &[u8; 24] = field.try_into().ok()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
        b'.',
        f1,
        f2,
        f3,
        b'Z',
    ] = *field
    else {
        return None;
    };
    let mut digits = Digits { seen: 0 };
    let year = digits.number([y1, y2, y3, y4]);
    let (month, day) = (digits.number([mo1, mo2]), digits.number([d1, d2]));
    let (hour, minute, second) = (digits.number([h1, h2]), digits.number([mi1, mi2]), digits.number([s1, s2]));
    let millisecond = digits.number([f1, f2, f3]);
    if digits.seen > 9 {
        return None;
    }
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if year < 1970 || day == 0 || day > days_of_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since the epoch, counting years from March so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    (seconds * 1000 + millisecond).checked_mul(1_000_000).map(Timestamp::from_nanos)
}

/// Reads decimal numbers, and asks only once whether all of them were some.
struct Digits {
    /// More than 9 once there was a byte that is no digit.
    seen: u8,
}

impl Digits {
    fn number<const N: usize>(&mut self, digits: [u8; N]) -> u64 {
        digits.into_iter().fold(0, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            self.seen = self.seen.max(digit);
            number * 10 + u64::from(digit)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_that_is_none_is_none() {
        for field in [
            "",
            "(null)",
            "2025-02-30T00:00:00.000Z",
            "2025-13-01T00:00:00.000Z",
            "2025-07-14T24:30:05.042Z",
            "2025-07-15 00:30:05,042",
            "1969-12-31T23:59:59.999Z",
            "9999-12-31T23:59:59.999Z",
        ] {
            assert_eq!(read_time(field), None, "{field}");
        }
    }

    #[test]
    fn other_ways_of_writing_a_time_are_read() {
        let expected = read_time("2025-07-14T22:30:05.042Z").expect("a time");
        assert_eq!(expected.as_nanos(), 1_752_532_205_042_000_000);
        for field in ["2025-07-15T00:30:05.042+02:00", "2025-07-15T00:30:05.0420000+02:00", "20250715T003005.042+0200"]
        {
            assert_eq!(read_time(field), Some(expected), "{field}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_reader_agrees_with_the_library(seconds in 0..7_258_118_400_i64, millis in 0..1000_i64) {
            let time = jiff::Timestamp::from_millisecond(seconds * 1000 + millis).expect("in range");
            let text = time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            let read = read_usual_time(text.as_bytes()).expect("the usual form");
            prop_assert_eq!(i128::from(read.as_nanos()), time.as_nanosecond());
        }
    }
}
