//! The appenders of Butler SOS, and of its two older generations.
//!
//! ```text
//!  /qseow-proxy-session/;host;Command;UserDirectory;UserId;Origin;Context;message     Butler SOS 7 and later
//!  /proxy-connection/;host;Command;UserDirectory;UserId;Origin;Context;message        Butler 5, Butler SOS 5.6
//!  host;Command;UserDirectory;UserId                                                  Butler 4 and earlier
//! ```
//!
//! The type says only how the rest is framed; what happened is what the Command says.

use super::fields::{Head, Layout};
use super::message::{self, Message};
use super::text::{trim, trim_slashes};
use super::value::Values;
use super::{Event, Format, RejectReason, SessionId, action, context, split_once};

const LAYOUT: Layout = Layout { separator: b';', user: 3, origin: 4, message: 6 };

const TYPES: [&str; 4] = ["qseow-proxy-session", "qseow-proxy-connection", "proxy-session", "proxy-connection"];

/// Reads a datagram of one of the three generations.
pub(super) fn decode(datagram: &str) -> Result<Event<'_>, RejectReason> {
    let (kind, rest) = split_once(datagram, LAYOUT.separator).unwrap_or((datagram, ""));
    let kind = trim_slashes(trim(kind));
    if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
        return decode_oldest(datagram);
    }
    let head = Head::split(rest, LAYOUT);
    head.field(LAYOUT.user)?;
    let action = action(head.field(1)?)?;
    let values = head.values;
    let node = values.host(head.field(0)?)?;
    let reading = head.read(message::phrase(action))?;
    let user = values.user(head.field(2)?, reading.user)?;
    let context = context::read(reading.between, LAYOUT.separator, values);
    let message = Message::read(reading.message, action, reading.phrase);
    Ok(Event {
        format: Format::Stock,
        action,
        node,
        session_id: message.session_id().map(SessionId::Guid),
        sequence: None,
        time: None,
        failure: None,
        origin: values.present(reading.origin),
        app_id: context.app_id,
        app_name: None,
        path: context.path,
        virtual_proxy: context.virtual_proxy,
        traceparent: context.traceparent,
        user_agent: message.user_agent(reading.head, values),
        client_address: message.client_address(reading.head),
        user,
    })
}

/// Nobody has looked whether a datagram of the oldest generation is plain.
const VALUES: Values = Values { are_plain: false };

/// The oldest generation has no type and no message: it is recognised by its Command, and a user id with a separator is
/// taken as it stands, because nothing follows it.
fn decode_oldest(text: &str) -> Result<Event<'_>, RejectReason> {
    let mut fields = text.splitn(4, ';');
    let (Some(host_field), Some(command)) = (fields.next(), fields.next()) else {
        return Err(RejectReason::UnknownType);
    };
    // A type that we do not know begins with a slash; a host does not.
    if host_field.contains('/') {
        return Err(RejectReason::UnknownType);
    }
    let action = action(command).map_err(|_| RejectReason::UnknownType)?;
    let (Some(directory), Some(user)) = (fields.next(), fields.next()) else {
        return Err(RejectReason::TooFewFields);
    };
    if host_field.trim().is_empty() {
        // An empty first field is an empty type in front of a newer generation, not a host.
        return Err(RejectReason::UnknownType);
    }
    if message::phrase(action).find(user.as_bytes()).is_some() {
        // So is a message behind the user: the fields of a newer generation without their type.
        return Err(RejectReason::UnknownType);
    }
    Ok(Event {
        format: Format::Stock,
        action,
        node: VALUES.host(host_field)?,
        user: VALUES.user(directory, user)?,
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
    })
}
