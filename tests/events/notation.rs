//! The notation of `docs/events.md`: text with escapes for bytes, and an event as names with values.

use std::borrow::Cow;

use sense_otel::event::{Action, Event, Format, Guid, RejectReason, SessionId, TraceParent, User};
use sense_otel::time::Timestamp;

/// What becomes of a datagram.
pub(crate) type Outcome = Result<Event<'static>, RejectReason>;

/// The bytes that a text in the notation stands for.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, element) = match first {
            '\\' => escape(rest)?,
            '{' | '|' | '`' => return Err(format!("`{first}` is written as an escape")),
            _ if first.is_control() => return Err("a control character is written as an escape".to_owned()),
            _ => (first.len_utf8(), first.to_string().into_bytes()),
        };
        rest = &rest[length..];
        let mut times = 1;
        if let Some(behind) = rest.strip_prefix('{') {
            let (number, behind) = behind.split_once('}').ok_or("a brace that is not closed")?;
            times = number.parse().map_err(|_| format!("{{{number}}} is no number of times"))?;
            rest = behind;
        }
        (0..times).for_each(|_| bytes.extend_from_slice(&element));
    }
    Ok(bytes)
}

/// Length of the escape that the text begins with, and what it stands for.
fn escape(text: &str) -> Result<(usize, Vec<u8>), String> {
    let byte = match text.as_bytes().get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = text.get(2..4).ok_or("an escape that is cut off")?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?;
            return Ok((4, vec![byte]));
        }
        other => return Err(format!("no such escape: {other:?}")),
    };
    Ok((2, vec![byte]))
}

/// Reads what a row expects: a rejection, or an event as code spans with line breaks between.
pub(crate) fn outcome(cell: &str) -> Result<Outcome, String> {
    if let Some(reason) = cell.strip_prefix("rejected: ") {
        let name = span(reason)?;
        let reason = RejectReason::ALL.into_iter().find(|reason| reason.as_str() == name);
        return reason.map(Err).ok_or_else(|| format!("no such reason: {name}"));
    }
    let mut pairs = Vec::new();
    for part in cell.split("<br>") {
        let (name, value) = span(part)?.split_once(' ').ok_or_else(|| format!("no value: {part}"))?;
        let value = String::from_utf8(bytes(value)?).map_err(|error| format!("{name}: {error}"))?;
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(format!("`{name}` twice"));
        }
        pairs.push((name, value));
    }
    event(pairs).map(Ok)
}

/// The inside of a code span that is the whole text.
pub(crate) fn span(text: &str) -> Result<&str, String> {
    let inside = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
    inside.filter(|inside| !inside.contains('`')).ok_or_else(|| format!("no code span: {text}"))
}

fn event(pairs: Vec<(&str, String)>) -> Result<Event<'static>, String> {
    let mut pairs = pairs.into_iter();
    let (format, command) = pairs.next().ok_or("nothing")?;
    let format = match format {
        "stock" => Format::Stock,
        "extended" => Format::Extended,
        other => return Err(format!("no such format: {other}")),
    };
    let action = Action::ALL.into_iter().find(|action| action.command() == command);
    let action = action.ok_or_else(|| format!("no such Command: {command}"))?;
    let user = User { directory: None, name: Cow::Borrowed("") };
    let mut event = nothing(format, action, user);
    for (name, value) in pairs {
        set(&mut event, name, value)?;
    }
    if event.node.is_empty() || event.user.name.is_empty() {
        return Err("an event has a node and a user".to_owned());
    }
    Ok(event)
}

fn nothing(format: Format, action: Action, user: User<'static>) -> Event<'static> {
    Event {
        format,
        action,
        node: Cow::Borrowed(""),
        user,
        session_id: None,
        sequence: None,
        time: None,
        failure: None,
        origin: None,
        app_id: None,
        app_name: None,
        path: None,
        virtual_proxy: None,
        traceparent: None,
        user_agent: None,
        client_address: None,
    }
}

fn set(event: &mut Event<'static>, name: &str, value: String) -> Result<(), String> {
    let wrong = || format!("`{name}` cannot be {value:?}");
    match name {
        "session" => event.session_id = Some(SessionId::Guid(guid(&value).ok_or_else(wrong)?)),
        "sequence" => event.sequence = Some(value.parse().map_err(|_| wrong())?),
        "time" => event.time = Some(time(&value).ok_or_else(wrong)?),
        "app" => event.app_id = Some(guid(&value).ok_or_else(wrong)?),
        "traceparent" => event.traceparent = Some(traceparent(&value).ok_or_else(wrong)?),
        "client" => event.client_address = Some(value.parse().map_err(|_| wrong())?),
        "opaque-session" => event.session_id = Some(SessionId::Opaque(value.into())),
        "node" => event.node = value.into(),
        "directory" => event.user.directory = Some(value.into()),
        "user" => event.user.name = value.into(),
        "failure" => event.failure = Some(value.into()),
        "origin" => event.origin = Some(value.into()),
        "app-name" => event.app_name = Some(value.into()),
        "path" => event.path = Some(value.into()),
        "virtual-proxy" => event.virtual_proxy = Some(value.into()),
        "user-agent" => event.user_agent = Some(value.into()),
        _ => return Err(format!("no such name: {name}")),
    }
    Ok(())
}

/// An id as it is printed, which is in lower case.
fn guid(text: &str) -> Option<Guid> {
    Guid::parse(text.as_bytes()).filter(|guid| guid.to_string() == text)
}

fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

fn traceparent(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let mut part = |length| parts.next().filter(|part| part.len() == length);
    let trace_id = u128::from_str_radix(part(32)?, 16).ok()?.to_be_bytes();
    let span_id = u64::from_str_radix(part(16)?, 16).ok()?.to_be_bytes();
    let flags = u8::from_str_radix(part(2)?, 16).ok()?;
    parts.next().is_none().then_some(TraceParent { trace_id, span_id, flags })
}

#[test]
fn bytes_are_written_as_text() {
    assert_eq!(bytes("aÅ\\n\\r\\t\\0\\\\\\xC5\\x7C").expect("text"), b"a\xc3\x85\n\r\t\0\\\xc5|");
    assert_eq!(bytes("A{3}\\0{2}Å{2}").expect("text"), "AAA\0\0ÅÅ".as_bytes());
    for wrong in ["\\", "\\q", "\\x", "\\xG0", "{3}{4}", "A{", "A{x}", "a`b", "a|b", "\t"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_outcome_is_refused() {
    let good = "`stock Start session`<br>`node a`<br>`user b`";
    assert!(matches!(outcome(good), Ok(Ok(event)) if event.node == "a" && event.user.name == "b"));
    assert_eq!(outcome("rejected: `empty`"), Ok(Err(RejectReason::Empty)));
    for wrong in [
        "",
        "rejected",
        "rejected: `nothing`",
        "rejected: empty",
        "`stock Start`<br>`node a`<br>`user b`",
        "`extended Start session`<br>`node a`",
        "`stick Start session`<br>`node a`<br>`user b`",
        &format!("{good}<br>`user c`"),
        &format!("{good}<br>`colour c`"),
        &format!("{good}<br>`sequence x`"),
        &format!("{good}<br>`app A421F4A2-C311-4EF4-BA41-FE2E6A2B0D69`"),
        &format!("{good}<br>`traceparent 1-2-3`"),
        &format!("{good} and"),
    ] {
        assert!(outcome(wrong).is_err(), "{wrong}");
    }
}
