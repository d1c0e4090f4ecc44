//! What the text of a message tells: the browser, and for stock connections the session's id and the client's address.
//!
//! The wording around the four filter phrases is not documented, and differs between releases. So only what stands in a
//! place of its own is taken, and never from a text that a user chooses.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memmem};

use super::{Action, Guid, text};

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

/// What stands behind the phrase, up to the user agent.
fn behind_phrase(message: &str, action: Action) -> Option<&str> {
    let finder = phrase(action);
    let start = finder.find(message.as_bytes())? + finder.needle().len();
    let rest = message.get(start..)?;
    let end = user_agent_marker(rest).map_or(rest.len(), |(start, _)| start);
    rest.get(..end)
}

/// The id right behind the phrase of a connection event, if it has the form of one.
pub(super) fn session_id(message: &str, action: Action) -> Option<Guid> {
    if !matches!(action, Action::ConnectionOpen | Action::ConnectionClose) {
        // The phrase of a session event is followed by the user, and a user id may be a GUID.
        return None;
    }
    let rest = behind_phrase(message, action)?;
    let rest = rest.trim_start_matches([' ', '\t', '\'', '"', ':', '=']);
    let guid = Guid::parse(rest.as_bytes().get(..36)?)?;
    let follows = rest.as_bytes().get(36);
    follows.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-').then_some(guid)
}

/// The only address behind the phrase, unless the user's id holds it.
pub(super) fn client_address(message: &str, action: Action, user: &str) -> Option<IpAddr> {
    let rest = behind_phrase(message, action)?;
    if !rest.bytes().any(|byte| byte == b'.' || byte == b':') {
        return None;
    }
    let mut found: Option<IpAddr> = None;
    for token in rest.split(|character: char| character.is_whitespace() || "'\",;=".contains(character)) {
        let Some(address) = address(token) else { continue };
        if user.contains(token) || found.is_some_and(|other| other != address) {
            return None;
        }
        found = Some(address);
    }
    found
}

fn address(token: &str) -> Option<IpAddr> {
    let token = token.trim_end_matches('.');
    let bare = token.strip_prefix('[').and_then(|token| token.strip_suffix(']')).unwrap_or(token);
    let address = bare.parse().ok().or_else(|| token.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

/// The user agent: what follows the first marker to the end of its line, without a pair of quotes around it. log4net
/// appends an exception behind a line break.
pub(super) fn user_agent(message: &str) -> Option<Cow<'_, str>> {
    let (_, start) = user_agent_marker(message)?;
    let rest = message.get(start..)?;
    let end = memchr(b'\n', rest.as_bytes()).or_else(|| memchr(b'\r', rest.as_bytes())).unwrap_or(rest.len());
    let line = rest.get(..end)?.trim();
    let quoted = |quote: char| line.strip_prefix(quote).and_then(|line| line.strip_suffix(quote));
    let agent = text::clean(quoted('\'').or_else(|| quoted('"')).unwrap_or(line));
    (!agent.is_empty()).then_some(agent)
}

/// Begin and end of the first `UserAgent:`, in any case.
pub(super) fn user_agent_marker(text: &str) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"useragent";
    let bytes = text.as_bytes();
    memchr_iter(b':', bytes).find_map(|colon| {
        let start = colon.checked_sub(NAME.len())?;
        bytes.get(start..colon)?.eq_ignore_ascii_case(NAME).then_some((start, colon + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c0dec04e-89e4-c115-54a0-5f188dac8ef4";

    #[test]
    fn the_id_is_taken_only_from_its_place() {
        let of = |message: &str| session_id(message, Action::ConnectionOpen).map(|id| id.to_string());
        assert_eq!(of(&format!("Proxy connection Opened for session '{ID}' from x")).as_deref(), Some(ID));
        assert_eq!(of(&format!("connection Opened for session: {}", ID.to_uppercase())).as_deref(), Some(ID));
        assert_eq!(of(&format!("connection Opened for session of {ID}")), None);
        assert_eq!(of(&format!("connection Opened for session {ID}0")), None);
        assert_eq!(of(&format!("connection Closed for session {ID}")), None, "the phrase of another event");
        assert_eq!(of(&format!("connection Opened for session UserAgent: {ID}")), None);
        assert_eq!(session_id(&format!("Start session for user {ID}"), Action::SessionStart), None);
    }

    #[test]
    fn an_address_counts_if_it_is_the_only_one() {
        let of = |rest: &str| {
            let message = format!("connection Opened for session '{ID}' {rest} UserAgent: '10.9.9.9'");
            client_address(&message, Action::ConnectionOpen, "a 10.1.1.1 b").map(|address| address.to_string())
        };
        assert_eq!(of("from '::ffff:192.168.1.227'").as_deref(), Some("192.168.1.227"));
        assert_eq!(of("from [2001:db8::2]:443").as_deref(), Some("2001:db8::2"));
        assert_eq!(of("from [2001:db8::2]").as_deref(), Some("2001:db8::2"));
        assert_eq!(of("ip=10.0.0.7:5000; again 10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(of("from 10.0.0.7 to 10.0.0.8"), None);
        assert_eq!(of("from 10.1.1.1"), None, "the user calls himself that");
        assert_eq!(of("from nowhere 1:2"), None);
    }

    #[test]
    fn the_user_agent_is_the_rest_of_its_line() {
        let of = |message: &str| user_agent(message).map(Cow::into_owned);
        assert_eq!(of("x UserAgent: 'Mozilla/5.0 (a; b)'").as_deref(), Some("Mozilla/5.0 (a; b)"));
        assert_eq!(of("x useragent: curl/8.0").as_deref(), Some("curl/8.0"));
        assert_eq!(of("x UserAgent: 'Weird 'UA'; UserAgent: x'").as_deref(), Some("Weird 'UA'; UserAgent: x"));
        assert_eq!(of("x UserAgent: \"a\"\r\nSystem.Exception: b").as_deref(), Some("a"));
        assert_eq!(of("UserAgent: ''"), None);
        assert_eq!(of("no marker: here"), None);
    }
}
