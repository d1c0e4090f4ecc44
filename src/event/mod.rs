//! What Qlik Sense says: the vocabulary of the wire, valid by construction.
//!
//! A [`Datagram`] goes in, an [`Event`] or a [`RejectReason`] comes out. Strings borrow from the datagram wherever they
//! could be taken as they stand; they are already trimmed and free of control, bidi, zero-width and line-separator
//! characters, so that nothing behind this module has to think about hostile text again.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use memchr::memchr;

use crate::time::Timestamp;

pub mod agent;
mod context;
mod extended;
mod fields;
mod message;
mod stock;
pub mod text;
mod value;

/// One UDP datagram as it arrived, before anything is known about its content.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// When our own clock saw it.
    pub received: Timestamp,
    /// Who sent it: address and port of the appender's socket.
    pub source: SocketAddr,
    /// The payload, at most 65,507 bytes.
    pub bytes: &'a [u8],
}

/// What one accepted datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which appender wrote it.
    pub format: Format,
    /// What happened.
    pub action: Action,
    /// The proxy node that says so, as sent; never empty. Compare with [`caseless`].
    pub node: Cow<'a, str>,
    /// Who did it.
    pub user: User<'a>,
    /// The proxy session, where the datagram names one.
    pub session_id: Option<SessionId<'a>>,
    /// The appender's counter, 1 to 2,147,483,647 (extended format only).
    pub sequence: Option<u32>,
    /// When the node says that it happened (extended format only).
    pub time: Option<Timestamp>,
    /// The Result field, where it is present and not `0`: the attempt failed.
    pub failure: Option<Cow<'a, str>>,
    /// How the user came in, for example `AppAccess`.
    pub origin: Option<Cow<'a, str>>,
    /// The app that the event is about.
    pub app_id: Option<Guid>,
    /// The app's name, where the appender sends one.
    pub app_name: Option<Cow<'a, str>>,
    /// Path of the Context URL without its query, where Context is a path.
    pub path: Option<Cow<'a, str>>,
    /// Prefix of the virtual proxy, without slashes around it; `None` where Context tells no prefix.
    pub virtual_proxy: Option<Cow<'a, str>>,
    /// A W3C `traceparent` from the query of Context. Untrusted: good for a link, never for a parent.
    pub traceparent: Option<TraceParent>,
    /// The browser's User-Agent string.
    pub user_agent: Option<Cow<'a, str>>,
    /// Address of the client, where the message names exactly one.
    pub client_address: Option<IpAddr>,
}

impl Event<'_> {
    /// The same event, holding its texts itself.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Event {
            format: self.format,
            action: self.action,
            node: Cow::Owned(self.node.into_owned()),
            user: User { directory: owned(self.user.directory), name: Cow::Owned(self.user.name.into_owned()) },
            session_id: self.session_id.map(|id| match id {
                SessionId::Guid(guid) => SessionId::Guid(guid),
                SessionId::Opaque(text) => SessionId::Opaque(Cow::Owned(text.into_owned())),
            }),
            sequence: self.sequence,
            time: self.time,
            failure: owned(self.failure),
            origin: owned(self.origin),
            app_id: self.app_id,
            app_name: owned(self.app_name),
            path: owned(self.path),
            virtual_proxy: owned(self.virtual_proxy),
            traceparent: self.traceparent,
            user_agent: owned(self.user_agent),
            client_address: self.client_address,
        }
    }
}

/// Which of the wire formats a datagram is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The appenders of Butler SOS, and of its two older generations: no time, no sequence.
    Stock,
    /// Our own appender: sequence, event time and session id.
    Extended,
}

/// What happened, from the Command field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `Start session`
    SessionStart,
    /// `Stop session`
    SessionStop,
    /// `Open connection`
    ConnectionOpen,
    /// `Close connection`
    ConnectionClose,
}

impl Action {
    /// Every action, in the order of a session's life.
    pub const ALL: [Self; 4] = [Self::SessionStart, Self::ConnectionOpen, Self::ConnectionClose, Self::SessionStop];

    /// What OpenTelemetry calls it: the name of its log record, and the label of its counter.
    #[must_use]
    pub const fn event_name(self) -> &'static str {
        match self {
            Self::SessionStart => "session.start",
            Self::SessionStop => "session.end",
            Self::ConnectionOpen => "qlik.sense.connection.open",
            Self::ConnectionClose => "qlik.sense.connection.close",
        }
    }

    /// The Command as Qlik writes it.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::SessionStart => "Start session",
            Self::SessionStop => "Stop session",
            Self::ConnectionOpen => "Open connection",
            Self::ConnectionClose => "Close connection",
        }
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The user directory, `None` where the datagram has none.
    pub directory: Option<Cow<'a, str>>,
    /// The user id inside the directory; never empty.
    pub name: Cow<'a, str>,
}

/// The proxy session id of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionId<'a> {
    /// Any 8-4-4-4-12 hexadecimal id. Qlik's salted hash begins with `c0de` and is no valid UUID version.
    Guid(Guid),
    /// Any other non-empty id, as sent.
    Opaque(Cow<'a, str>),
}

/// A 128-bit id in 8-4-4-4-12 hexadecimal form; version and variant bits are not looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u128);

impl Guid {
    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits, first digit of the text first.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// How many bytes the text form has.
    pub const LENGTH: usize = 36;

    /// Reads exactly 36 bytes of the form 8-4-4-4-12, hexadecimal in either case. Anything else is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::LENGTH] = text.try_into().ok()?;
        if [text[8], text[13], text[18], text[23]] != [b'-'; 4] {
            return None;
        }
        let mut digits = [0; 32];
        digits[..8].copy_from_slice(&text[..8]);
        digits[8..12].copy_from_slice(&text[9..13]);
        digits[12..16].copy_from_slice(&text[14..18]);
        digits[16..20].copy_from_slice(&text[19..23]);
        digits[20..].copy_from_slice(&text[24..]);
        let (words, _) = digits.as_chunks::<8>();
        let mut bits = 0;
        for word in words {
            bits = (bits << 32) | u128::from(eight_hex_digits(*word)?);
        }
        Some(Self(bits))
    }

    /// The 36 lower-case characters of the text form.
    #[must_use]
    pub fn to_text(self) -> GuidText {
        let mut text = [b'-'; Self::LENGTH];
        let bytes = self.0.to_be_bytes();
        // Where each byte's two digits go.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        for (byte, place) in bytes.into_iter().zip(PLACES) {
            text[place] = HEX_DIGITS[usize::from(byte >> 4)];
            text[place + 1] = HEX_DIGITS[usize::from(byte & 0xf)];
        }
        GuidText(text)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.to_text().as_str())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The text of a [`Guid`], on the stack.
#[derive(Clone, Copy)]
// The standard library checks whole words from an aligned byte on: some 170 fewer instructions for an event.
#[repr(align(8))]
pub struct GuidText([u8; Guid::LENGTH]);

impl GuidText {
    /// The 36 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every byte is a hexadecimal digit or a hyphen, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A W3C trace context, version 00 or later, from a place that anybody can write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// The trace flags: bit 0 sampled, bit 1 random.
    pub flags: u8,
}

/// Why a datagram is no event. Closed: each reason is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// No bytes, or nothing but white space and NULs.
    Empty,
    /// UTF-16: the appender lacks `<encoding value="utf-8"/>`.
    Utf16,
    /// The first field is none of the types we know.
    UnknownType,
    /// Fewer fields than the type has: cut off on its way, or another pattern.
    TooFewFields,
    /// The Command field is absent.
    NoCommand,
    /// The Command is none of the four.
    UnknownCommand,
    /// The host field is absent: no node to book the event on.
    NoHost,
    /// The user id is absent.
    NoUser,
    /// A separator inside a field leaves more than one reading, and we do not guess.
    Ambiguous,
    /// One node more than `limits.nodes`. Decided by the processor, which knows the nodes.
    TooManyNodes,
}

impl RejectReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::Utf16,
        Self::UnknownType,
        Self::TooFewFields,
        Self::NoCommand,
        Self::UnknownCommand,
        Self::NoHost,
        Self::NoUser,
        Self::Ambiguous,
        Self::TooManyNodes,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Utf16 => "utf16",
            Self::UnknownType => "unknown_type",
            Self::TooFewFields => "too_few_fields",
            Self::NoCommand => "no_command",
            Self::UnknownCommand => "unknown_command",
            Self::NoHost => "no_host",
            Self::NoUser => "no_user",
            Self::Ambiguous => "ambiguous",
            Self::TooManyNodes => "too_many_nodes",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Reads one datagram.
///
/// A datagram is one event, whatever line breaks it holds. Bytes that are no UTF-8 are replaced, never a reason to reject:
/// an appender without an encoding writes the code page of its Windows.
///
/// # Errors
///
/// The one [`RejectReason`] that says why the datagram is no event.
pub fn decode(datagram: &[u8]) -> Result<Event<'_>, RejectReason> {
    if is_utf16(datagram) {
        return Err(RejectReason::Utf16);
    }
    // Asked first, because the lossy reader goes byte by byte.
    match std::str::from_utf8(datagram) {
        Ok(text) => decode_text(text),
        Err(_) => decode_text(&String::from_utf8_lossy(datagram)).map(Event::into_owned),
    }
}

fn decode_text(text: &str) -> Result<Event<'_>, RejectReason> {
    let text = match text.as_bytes() {
        [b'/', .., b'!'..=b'~'] => text,
        _ => {
            let is_padding = |character: char| character.is_whitespace() || character == '\0';
            let text = text.trim_start_matches(|character| is_padding(character) || character == '\u{feff}');
            // Only what follows the last field: inside it, white space is trimmed with the field's value.
            text.trim_end_matches(['\r', '\n', '\0'])
        }
    };
    if text.is_empty() {
        return Err(RejectReason::Empty);
    }
    match behind_extended(text) {
        Some(rest) => extended::decode(rest),
        None => stock::decode(text),
    }
}

/// What follows the type of our own appender and a TAB, if that is how a datagram begins.
fn behind_extended(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix(EXTENDED).and_then(|rest| rest.strip_prefix('\t')) {
        return Some(rest);
    }
    let (kind, rest) = text.split_at_checked(EXTENDED.len())?;
    if !kind.eq_ignore_ascii_case(EXTENDED) {
        return None;
    }
    let (space, rest) = split_once(rest, b'\t')?;
    space.trim_end().is_empty().then_some(rest)
}

/// Both sides of the first `separator`, an ASCII character.
fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr(separator, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The type of our own appender's datagrams, with the version of their format.
const EXTENDED: &str = "/sense-otel/1/";

/// UTF-16 shows as a byte order mark, or as a NUL at every other place of the type, which is plain ASCII.
fn is_utf16(datagram: &[u8]) -> bool {
    match datagram {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, third, fourth, ..] => {
            let zeros = [*first == 0, *second == 0, *third == 0, *fourth == 0];
            zeros == [false, true, false, true] || zeros == [true, false, true, false]
        }
        _ => false,
    }
}

/// The Command, in any case.
fn action(field: &str) -> Result<Action, RejectReason> {
    let field = text::trim(field);
    let exact = Action::ALL.into_iter().find(|action| action.command() == field);
    let action = exact.or_else(|| Action::ALL.into_iter().find(|action| action.command().eq_ignore_ascii_case(field)));
    match action {
        Some(action) => Ok(action),
        None if value::is_absent(field) => Err(RejectReason::NoCommand),
        None => Err(RejectReason::UnknownCommand),
    }
}

/// The form in which hosts, directories and users are compared: without case. Borrows where nothing changes.
#[must_use]
pub fn caseless(text: &str) -> Cow<'_, str> {
    if text.bytes().fold(true, |plain, byte| plain & byte.is_ascii() & !byte.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of each byte as a hexadecimal digit; more than 15 where it is none.
const HEX_VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value: u8 = 0;
    while value < 16 {
        let digit = HEX_DIGITS[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

/// Eight hexadecimal digits, all at the same time: a GUID takes 185 instructions, and took 310 digit by digit.
fn eight_hex_digits(digits: [u8; 8]) -> Option<u32> {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let word = u64::from_be_bytes(digits);
    let letters = (word >> 6) & each(1);
    // Letters begin with 0x41 or 0x61.
    let values = (word & each(0xf)) + 9 * letters;
    // What these values are written as has to be what was read, in lower case.
    let above_9 = ((values + each(6)) >> 4) & each(1);
    let written = values + each(b'0') + u64::from(b'a' - b'9' - 1) * above_9;
    if values & each(0xf0) != 0 || written != word | (letters << 5) {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) as u32)
}

fn hex_digit(byte: u8) -> Option<u8> {
    Some(HEX_VALUES[usize::from(byte)]).filter(|value| *value <= 0xf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_in_either_case_and_printed_in_lower_case() {
        let guid = Guid::parse(b"C0DEC04E-89e4-c115-54a0-5f188dac8ef4").expect("a guid");
        assert_eq!(guid.to_string(), "c0dec04e-89e4-c115-54a0-5f188dac8ef4");
        assert_eq!(guid.to_bits() >> 112, 0xc0de);
    }

    #[test]
    fn what_has_not_the_shape_is_no_guid() {
        for text in [
            "",
            "c0dec04e89e4c11554a05f188dac8ef4",
            "c0dec04e-89e4-c115-54a0-5f188dac8ef",
            "c0dec04e-89e4-c115-54a0-5f188dac8efg",
            "c0dec04e089e4-c115-54a0-5f188dac8ef4",
            "{c0dec04e-89e4-c115-54a0-5f188dac8ef4}",
        ] {
            assert_eq!(Guid::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn comparison_is_without_case_beyond_ascii() {
        assert_eq!(caseless("LAB"), "lab");
        assert_eq!(caseless("ÅSA"), "åsa");
        assert!(matches!(caseless("pro2-win1"), Cow::Borrowed(_)));
    }
}
