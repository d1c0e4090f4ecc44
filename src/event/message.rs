//! What the text of a message tells: the browser, and for stock connections the session's id and the client's address.
//!
//! The wording around the four filter phrases is not documented, and differs between releases. So only what stands in a
//! place of its own is taken, and never from a text that a user chooses.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use memchr::{memchr_iter, memchr2, memmem};

use super::fields::Phrase;
use super::text::{self, trim};
use super::value::Values;
use super::{Action, Guid};

/// Finds the phrase that the appender filters the messages of an action by. Source: Butler SOS's proxy appender.
pub(super) fn phrase(action: Action) -> &'static memmem::Finder<'static> {
    static FINDERS: LazyLock<[memmem::Finder<'static>; 4]> = LazyLock::new(|| {
        [
            memmem::Finder::new("Start session for user"),
            memmem::Finder::new("Stop session for user"),
            memmem::Finder::new("connection Opened for session"),
            memmem::Finder::new("connection Closed for session"),
        ]
    });
    let [start, stop, opened, closed] = &*FINDERS;
    match action {
        Action::SessionStart => start,
        Action::SessionStop => stop,
        Action::ConnectionOpen => opened,
        Action::ConnectionClose => closed,
    }
}

/// A message in its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    text: &'a str,
    action: Action,
    phrase: Phrase,
    /// Begin and end of the first user agent marker.
    marker: Option<(usize, usize)>,
    /// Whether what stands before the marker may hold an address.
    may_hold_address: bool,
}

impl<'a> Message<'a> {
    pub(super) fn read(text: &'a str, action: Action, phrase: Phrase) -> Self {
        // Most messages have no byte of an address before the marker, so that one search finds all there is.
        let first = memchr2(b'.', b':', text.as_bytes());
        let at_once = first.and_then(|colon| marker_at(text.as_bytes(), colon));
        let marker = if first.is_none() { None } else { at_once.or_else(|| user_agent_marker(text)) };
        Self { text, action, phrase, marker, may_hold_address: first.is_some() && at_once.is_none() }
    }

    /// From the phrase to the user agent. `None` if the phrase is in there twice: somebody may have chosen the one.
    fn behind_phrase(&self) -> Option<&'a str> {
        let start = match self.phrase {
            Phrase::Only(end) => end,
            Phrase::Repeated => return None,
            Phrase::NotSought => {
                let finder = phrase(self.action);
                let end = finder.find(self.text.as_bytes())? + finder.needle().len();
                if finder.find(self.text.as_bytes().get(end..)?).is_some() {
                    return None;
                }
                end
            }
        };
        let behind = self.text.get(start..)?;
        match self.marker {
            Some((end, _)) if end >= start => self.text.get(start..end),
            Some(_) => behind.get(..user_agent_marker(behind).map_or(behind.len(), |(end, _)| end)),
            None => Some(behind),
        }
    }

    /// Whether there may be an address between phrase and marker. None if all that could be one is behind the marker,
    /// and the phrase before it.
    fn may_be_address(&self) -> bool {
        if self.may_hold_address {
            return true;
        }
        let Some((end, _)) = self.marker else { return false };
        let before = match self.phrase {
            Phrase::Only(phrase_end) => phrase_end <= end,
            Phrase::Repeated => false,
            Phrase::NotSought => self.text.get(..end).is_some_and(|text| holds(text, phrase(self.action).needle())),
        };
        !before
    }

    /// The id right behind the phrase of a connection event, if it has the form of one.
    pub(super) fn session_id(&self) -> Option<Guid> {
        if !matches!(self.action, Action::ConnectionOpen | Action::ConnectionClose) {
            // The phrase of a session event is followed by the user, and a user id may be a GUID.
            return None;
        }
        let rest = self.behind_phrase()?.trim_start_matches([' ', '\t', '\'', '"', ':', '=']);
        let guid = Guid::parse(rest.as_bytes().get(..36)?)?;
        let follows = rest.as_bytes().get(36);
        let ends = follows.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
        (ends && guid.to_bits() != 0).then_some(guid)
    }

    /// The only address behind the phrase, unless a field before the message holds it: the user may have chosen it.
    pub(super) fn client_address(&self, head: &str) -> Option<IpAddr> {
        if !self.may_be_address() {
            return None;
        }
        let words = marked_words(self.behind_phrase()?).filter(|word| may_be_address(word));
        let mut addresses = words.filter_map(|word| Some((word, address(word)?)));
        let (word, only) = addresses.next()?;
        // Asked once, not for each address: a message may hold thousands.
        (addresses.all(|(_, other)| other == only) && !holds_address(head, word, only)).then_some(only)
    }

    /// The user agent: what follows the first marker to the end of its line, without a pair of quotes around it. log4net
    /// appends an exception right behind the message. None if a field before the message holds the marker, because then
    /// nobody knows whose it is.
    pub(super) fn user_agent(&self, head: &str, values: Values) -> Option<Cow<'a, str>> {
        let (_, start) = self.marker?;
        if text::has_t_before(head, b':') && user_agent_marker(head).is_some() {
            return None;
        }
        let behind = self.text.get(start..)?;
        let end = if values.are_plain { None } else { memchr2(b'\n', b'\r', behind.as_bytes()) };
        let line = trim(end.map_or(Some(behind), |end| behind.get(..end))?);
        values.present(unquoted(line))
    }
}

/// The words with a dot or a colon in them, as every address has one. Nothing else is looked at byte by byte.
fn marked_words(text: &str) -> impl Iterator<Item = &str> {
    let is_border = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'\'' | b'"' | b',' | b';' | b'=');
    let mut rest = text;
    std::iter::from_fn(move || {
        let mark = memchr2(b'.', b':', rest.as_bytes())?;
        let (before, behind) = rest.as_bytes().split_at_checked(mark)?;
        let start = before.iter().rposition(is_border).map_or(0, |border| border + 1);
        let end = behind.iter().position(is_border).map_or(rest.len(), |length| mark + length);
        let word = rest.get(start..end)?;
        rest = rest.get(end..)?;
        Some(word)
    })
}

/// Rules out almost every word without parsing it.
fn may_be_address(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']'))
}

/// Whether a text holds this address, as it stands in the word that was read or in its usual form.
fn holds_address(text: &str, word: &str, address: IpAddr) -> bool {
    if address.is_ipv4()
        && let Some(dotted) = word.split([':', '[', ']']).find(|part| part.contains('.'))
    {
        // Four numbers have one form only, which the word holds as it is, maybe with dots behind it.
        return text.contains(dotted.trim_end_matches('.'));
    }
    text.contains(word) || text.contains(&address.to_string())
}

fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim_end_matches('.');
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    let address = bare.parse().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    (!address.is_unspecified()).then(|| address.to_canonical())
}

/// The text without a pair of quotes around it, and without an exception behind the second one.
fn unquoted(line: &str) -> &str {
    let Some(quote) = line.bytes().next().filter(|byte| matches!(byte, b'\'' | b'"')) else { return line };
    let inside = line.get(1..).unwrap_or_default();
    let mut closing = memchr_iter(quote, inside.as_bytes());
    let end = closing.find(|&end| begins_with_exception(inside.get(end + 1..).unwrap_or_default()));
    let end = end.or_else(|| inside.len().checked_sub(1).filter(|&last| inside.as_bytes().get(last) == Some(&quote)));
    end.and_then(|end| inside.get(..end)).unwrap_or(line)
}

/// Whether this is the text of a .NET exception: `System.Net.WebException: ...`.
fn begins_with_exception(text: &str) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'`');
    let length = text.bytes().take(EXCEPTION_NAME_MAX).take_while(|byte| is_part(byte)).count();
    let follows = text.as_bytes().get(length);
    text.get(..length).is_some_and(|name| name.ends_with("Exception")) && follows.is_none_or(|byte| *byte == b':')
}

/// No type has a longer name. Looking on would cost a second glance at the rest for every quote in it.
const EXCEPTION_NAME_MAX: usize = 200;

/// Whether the text before a marker holds a phrase. It is so short that a finder takes twice as long.
fn holds(text: &str, phrase: &[u8]) -> bool {
    text.as_bytes().windows(phrase.len()).any(|window| window.first() == phrase.first() && window == phrase)
}

/// Begin and end of the first `UserAgent:`, in any case.
pub(super) fn user_agent_marker(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    memchr_iter(b':', bytes).find_map(|colon| marker_at(bytes, colon))
}

/// Begin and end of the `UserAgent:` that this is the end of, if it is a colon and the end of one.
fn marker_at(bytes: &[u8], colon: usize) -> Option<(usize, usize)> {
    const MARKER: &[u8] = b"useragent:";
    let start = (colon + 1).checked_sub(MARKER.len())?;
    // Almost every colon is ruled out by what stands before it.
    if !matches!(bytes.get(colon - 1), Some(b't' | b'T')) {
        return None;
    }
    bytes.get(start..=colon)?.eq_ignore_ascii_case(MARKER).then_some((start, colon + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values = Values { are_plain: false };

    const ID: &str = "c0dec04e-89e4-c115-54a0-5f188dac8ef4";

    #[test]
    fn the_id_is_taken_only_from_its_place() {
        let id = |message: &str, action| {
            Message::read(message, action, Phrase::NotSought).session_id().map(|id| id.to_string())
        };
        let of = |message: &str| id(message, Action::ConnectionOpen);
        assert_eq!(of(&format!("Proxy connection Opened for session '{ID}' from x")).as_deref(), Some(ID));
        assert_eq!(of(&format!("connection Opened for session: {}", ID.to_uppercase())).as_deref(), Some(ID));
        assert_eq!(of(&format!("connection Opened for session of {ID}")), None);
        assert_eq!(of(&format!("connection Opened for session {ID}0")), None);
        assert_eq!(of(&format!("connection Closed for session {ID}")), None, "the phrase of another event");
        assert_eq!(of(&format!("connection Opened for session UserAgent: {ID}")), None);
        assert_eq!(
            of(&format!("x connection Opened for session {ID} connection Opened for session 'y'")),
            None,
            "twice"
        );
        assert_eq!(of(&format!("UserAgent: of x connection Opened for session '{ID}'")).as_deref(), Some(ID));
        assert_eq!(of(&format!("connection Opened for session {}", ID.replace(|digit| digit != '-', "0"))), None);
        assert_eq!(id(&format!("Start session for user {ID}"), Action::SessionStart), None);
    }

    #[test]
    fn an_address_counts_if_it_is_the_only_one() {
        let of = |rest: &str| {
            let message = format!("connection Opened for session '{ID}' {rest} UserAgent: '10.9.9.9'");
            let message = Message::read(&message, Action::ConnectionOpen, Phrase::NotSought);
            message.client_address("a 10.1.1.1 b").map(|address| address.to_string())
        };
        assert_eq!(of("from '::ffff:192.168.1.227'").as_deref(), Some("192.168.1.227"));
        assert_eq!(of("from [2001:db8::2]:443").as_deref(), Some("2001:db8::2"));
        assert_eq!(of("from [2001:db8::2]").as_deref(), Some("2001:db8::2"));
        assert_eq!(of("ip=10.0.0.7:5000; again 10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(of("from 10.0.0.7 to 10.0.0.8"), None);
        assert_eq!(of("from 10.1.1.1"), None, "the user calls himself that");
        assert_eq!(of("from ::ffff:10.1.1.1"), None, "the same in another form");
        assert_eq!(of("from [::ffff:10.1.1.1]:443."), None, "the same in another form");
        assert_eq!(of("from ::ffff:a01:101"), None, "the same in another form");
        assert_eq!(of("from ::ffff:a01:102").as_deref(), Some("10.1.1.2"));
        assert_eq!(of("from [::ffff:10.1.1.2]:443.").as_deref(), Some("10.1.1.2"));
        assert_eq!(of("from nowhere 1:2 :: 0.0.0.0"), None);
    }

    #[test]
    fn the_user_agent_is_the_rest_of_its_line() {
        fn read(message: &str) -> Message<'_> {
            Message::read(message, Action::ConnectionOpen, Phrase::NotSought)
        }
        let of = |message: &str| read(message).user_agent("head", VALUES).map(Cow::into_owned);
        assert_eq!(of("x UserAgent: 'Mozilla/5.0 (a; b)'").as_deref(), Some("Mozilla/5.0 (a; b)"));
        assert_eq!(of("x useragent: curl/8.0").as_deref(), Some("curl/8.0"));
        assert_eq!(of("x UserAgent: 'Weird 'UA'; UserAgent: x'").as_deref(), Some("Weird 'UA'; UserAgent: x"));
        assert_eq!(of("x UserAgent: \"a\"\r\nSystem.Exception: b").as_deref(), Some("a"));
        assert_eq!(of("UserAgent: 'a \u{202e}b'System.Net.WebException: c 'd'\n  at e").as_deref(), Some("a b"));
        assert_eq!(of("UserAgent: 'a'System.Exception").as_deref(), Some("a"));
        assert_eq!(of("UserAgent: 'a 'NoException b'").as_deref(), Some("a 'NoException b"));
        assert_eq!(of("UserAgent: 'a").as_deref(), Some("'a"), "no pair");
        assert_eq!(of("UserAgent: '"), Some("'".to_owned()));
        assert_eq!(of("UserAgent: ''"), None);
        assert_eq!(of("UserAgent: (null)"), None);
        assert_eq!(read("x UserAgent: 'y'").user_agent("user useragent:", VALUES), None, "nobody knows whose it is");
        assert_eq!(of("no marker: here"), None);
    }
}
