//! An open session and its connections as a record.

use std::sync::Arc;
use std::time::Duration;

use crate::event::TraceParent;
use crate::processor::detail::Target;
use crate::processor::ids::SessionKey;
use crate::processor::node::Node;
use crate::processor::record::{
    Ledger, Memory, Reader, RecordKey, Scribe, TargetParts, Writer, write_browser, write_client, write_identity,
    write_target,
};
use crate::signal::{SpanId, TraceId};
use crate::time::{RunningTime, Timestamp};

use super::super::compact::{Opening, Session};
use super::super::state::{Connection, Piece, Start};

/// A piece that reaches further back than this, and than it may be long, is damage: it would be cut into thousands.
const PIECE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Shortest connection in a record: room for more is not taken on the word of a number.
const CONNECTION_MIN: usize = 15;

mod session {
    pub(super) const ID: u16 = 1;
    pub(super) const CLEAR: u16 = 2;
    pub(super) const TRACE: u16 = 4;
    pub(super) const INFERRED: u16 = 8;
    pub(super) const ALONE: u16 = 16;
    pub(super) const HEARTBEAT: u16 = 32;
    pub(super) const PREVIOUS: u16 = 64;
    pub(super) const BROWSER: u16 = 128;
    pub(super) const CLIENT: u16 = 256;
    pub(super) const PROXY: u16 = 512;
    pub(super) const ALL: u16 = 1023;
}

mod connection {
    pub(super) const NAMED: u16 = 1;
    pub(super) const ORDINAL: u16 = 2;
    pub(super) const LATER_PART: u16 = 4;
    pub(super) const PARENT: u16 = 8;
    pub(super) const SAME_TARGET: u16 = 16;
    pub(super) const SAME_BROWSER: u16 = 32;
    pub(super) const BROWSER: u16 = 64;
    pub(super) const SAME_CLIENT: u16 = 128;
    pub(super) const CLIENT: u16 = 256;
    pub(super) const TRACEPARENT: u16 = 512;
    pub(super) const APP: u16 = 1 << 10;
    pub(super) const APP_NAME: u16 = 1 << 11;
    pub(super) const PATH: u16 = 1 << 12;
    pub(super) const ORIGIN: u16 = 1 << 13;
    pub(super) const PROXY: u16 = 1 << 14;
    pub(super) const SAME_PROXY: u16 = 1 << 15;
}

/// A flag where something is so.
const fn flag(is_so: bool, flag: u16) -> u16 {
    if is_so { flag } else { 0 }
}

pub(super) fn put(session: &Session, scribe: &mut Scribe<'_, impl Ledger>) {
    scribe.put(RecordKey::Session(session.opened), |writer| write(session, writer));
}

fn write(session: &Session, writer: &mut Writer<'_>) {
    let Session { start, heard, .. } = session;
    let (segment, id, proxy) = (session.segment(), session.id(), session.virtual_proxy());
    let differs = id.is_none_or(|id| id.trace_id() != session.trace_id);
    let has_heartbeat = session.heartbeat_due != RunningTime::NEVER;
    writer.flags(
        flag(id.is_some(), session::ID)
            | flag(id.is_some_and(|id| id.guid().is_some()), session::CLEAR)
            | flag(differs, session::TRACE)
            | flag(session.started == Start::Inferred, session::INFERRED)
            | flag(session.alone, session::ALONE)
            | flag(has_heartbeat, session::HEARTBEAT)
            | flag(segment.previous.is_some(), session::PREVIOUS)
            | flag(session.browser().is_some(), session::BROWSER)
            | flag(session.client().is_some(), session::CLIENT)
            | flag(proxy.is_some(), session::PROXY),
    );
    writer.text(&session.node.name);
    if let Some(id) = id {
        writer.bytes(&id.trace_id().0);
    }
    if differs {
        writer.bytes(&session.trace_id.0);
    }
    writer.moment(*start);
    writer.number(segment.number.into());
    writer.number(segment.number.saturating_sub(session.first_segment()).into());
    writer.moment_near(segment.start, *start);
    writer.bytes(&segment.span_id.0);
    if let Some(previous) = segment.previous {
        writer.bytes(&previous.0);
    }
    writer.moment_near(session.last_activity(), *start);
    writer.running(*heard);
    writer.running_near(segment.due, *heard);
    if has_heartbeat {
        writer.running_near(session.heartbeat_due, *heard);
    }
    writer.running_near(session.deadline, if has_heartbeat { session.heartbeat_due } else { *heard });
    writer.near(session.touched(), session.opened);
    writer.near(session.moved(), session.touched());
    writer.number(session.connections_opened.into());
    write_identity(writer, &session.identity);
    if let Some(browser) = session.browser() {
        write_browser(writer, browser);
    }
    if let Some(client) = session.client() {
        write_client(writer, client);
    }
    if let Some(proxy) = proxy {
        writer.text(proxy);
    }
    writer.number(session.connections().len() as u64);
    let mut before = None;
    for connection in session.connections() {
        write_connection(session, connection, before, proxy, writer);
        before = Some(&*connection.target);
    }
}

fn write_connection(
    session: &Session,
    connection: &Connection,
    before: Option<&Target>,
    proxy: Option<&str>,
    writer: &mut Writer<'_>,
) {
    let Connection { open, named, ordinal, part, parent, target, browser, client, traceparent } = connection;
    let later_part = part.number != 1 || part.start != *open || part.previous.is_some();
    let parts = TargetParts::of(target, proxy);
    let same_target = before == Some(target);
    let (same_browser, same_client) = (browser.as_ref() == session.browser(), client.as_ref() == session.client());
    let of_target = flag(parts.app, connection::APP)
        | flag(parts.app_name, connection::APP_NAME)
        | flag(parts.path, connection::PATH)
        | flag(parts.origin, connection::ORIGIN)
        | flag(parts.virtual_proxy, connection::PROXY)
        | flag(parts.same_proxy, connection::SAME_PROXY);
    writer.flags(
        flag(named != open, connection::NAMED)
            | flag(*ordinal != 0, connection::ORDINAL)
            | flag(later_part, connection::LATER_PART)
            | flag(*parent != session.context().span_id, connection::PARENT)
            | flag(browser.is_some() && same_browser, connection::SAME_BROWSER)
            | flag(browser.is_some() && !same_browser, connection::BROWSER)
            | flag(client.is_some() && same_client, connection::SAME_CLIENT)
            | flag(client.is_some() && !same_client, connection::CLIENT)
            | flag(traceparent.is_some(), connection::TRACEPARENT)
            | if same_target { connection::SAME_TARGET } else { of_target },
    );
    writer.moment_near(*open, session.start);
    if named != open {
        writer.moment_near(*named, *open);
    }
    if *ordinal != 0 {
        writer.number((*ordinal).into());
    }
    if later_part {
        writer.number(part.number.into());
        writer.moment_near(part.start, *open);
        writer.byte(u8::from(part.previous.is_some()));
        writer.bytes(part.previous.as_ref().map_or(&[], |previous| &previous.0));
    }
    writer.bytes(&part.span_id.0);
    writer.running_near(part.due, session.segment_due());
    if *parent != session.context().span_id {
        writer.bytes(&parent.0);
    }
    if let Some(browser) = browser.as_ref().filter(|_| !same_browser) {
        write_browser(writer, browser);
    }
    if let Some(client) = client.as_ref().filter(|_| !same_client) {
        write_client(writer, client);
    }
    if let Some(foreign) = traceparent {
        writer.bytes(&foreign.trace_id);
        writer.bytes(&foreign.span_id);
        writer.byte(foreign.flags);
    }
    if !same_target {
        write_target(writer, target, parts);
    }
}

/// A session that was stored under this number. `length_max` is the longest span.
pub(super) fn read(
    opened: u64,
    reader: &mut Reader<'_>,
    memory: &mut Memory<'_>,
    length_max: Duration,
    node: impl FnOnce(&str) -> Arc<Node>,
) -> Option<Session> {
    let flags = reader.flags().filter(|flags| flags & !session::ALL == 0)?;
    let has = |flag: u16| flags & flag != 0;
    let name = reader.text().filter(|name| !name.is_empty())?;
    let id = if has(session::ID) { Some(SessionKey::restored(reader.id()?, has(session::CLEAR))) } else { None };
    let trace_id = match id {
        Some(id) if !has(session::TRACE) => id.trace_id(),
        _ => TraceId(reader.id()?),
    };
    let start = reader.moment()?;
    let number = reader.small()?;
    let first_segment = number.checked_sub(reader.small()?).filter(|first| *first > 0)?;
    let segment_start = reader.moment_near(start)?;
    let span_id = SpanId(reader.id()?);
    let previous = if has(session::PREVIOUS) { Some(SpanId(reader.id()?)) } else { None };
    let last_activity = reader.moment_near(start)?;
    let heard = reader.running()?;
    let due = reader.running_near(heard)?;
    let heartbeat_due = if has(session::HEARTBEAT) { reader.running_near(heard)? } else { RunningTime::NEVER };
    let deadline = reader.running_near(if has(session::HEARTBEAT) { heartbeat_due } else { heard })?;
    let touched = reader.near_counter(opened)?;
    let moved = reader.near_counter(touched)?;
    let connections_opened = reader.small()?;
    let identity = memory.read_identity(reader)?;
    let browser = if has(session::BROWSER) { memory.read_browser(reader)? } else { None };
    let client = if has(session::CLIENT) { memory.read_client(reader)? } else { None };
    let proxy = if has(session::PROXY) { Some(reader.text()?) } else { None };
    let count = usize::try_from(reader.number()?).ok()?;
    let mut session = Session::new(Opening {
        node: node(name),
        identity,
        id,
        trace_id,
        start,
        started: if has(session::INFERRED) { Start::Inferred } else { Start::Observed },
        segment: Piece { number, start: segment_start, span_id, previous, due },
        first_segment,
        heard,
        opened,
        heartbeat_due,
    });
    session.recall(last_activity, moved, touched);
    session.learn(browser.as_ref(), client.as_ref(), proxy.map(|proxy| memory.target_of_proxy(proxy)).as_ref());
    session.connections_opened = connections_opened;
    session.alone = has(session::ALONE);
    session.changed = false;
    session.deadline = deadline;
    if count > 0 {
        session.reserve(count.min(reader.left() / CONNECTION_MIN));
    }
    for _ in 0..count {
        let connection = read_connection(&session, reader, memory, proxy)?;
        session.add_connection(connection);
    }
    reader.end()?;
    let longest = length_max.max(PIECE_MAX);
    let pieces = session.connections().iter().map(|connection| connection.part).chain([session.segment()]);
    let is_sound = pieces.into_iter().all(|piece| last_activity.since(piece.start) <= longest);
    is_sound.then_some(session)
}

fn read_connection(
    session: &Session,
    reader: &mut Reader<'_>,
    memory: &mut Memory<'_>,
    proxy: Option<&str>,
) -> Option<Connection> {
    let flags = reader.flags()?;
    let has = |flag: u16| flags & flag != 0;
    let open = reader.moment_near(session.start)?;
    let named = if has(connection::NAMED) { reader.moment_near(open)? } else { open };
    let ordinal = if has(connection::ORDINAL) { reader.small()? } else { 0 };
    let (number, start, previous) =
        if has(connection::LATER_PART) { read_later(reader, open)? } else { (1, open, None) };
    let span_id = SpanId(reader.id()?);
    let due = reader.running_near(session.segment_due())?;
    let parent = if has(connection::PARENT) { SpanId(reader.id()?) } else { session.context().span_id };
    let browser = match (has(connection::SAME_BROWSER), has(connection::BROWSER)) {
        (true, false) => session.browser().cloned(),
        (false, true) => memory.read_browser(reader)?,
        (false, false) => None,
        (true, true) => return None,
    };
    let client = match (has(connection::SAME_CLIENT), has(connection::CLIENT)) {
        (true, false) => session.client().cloned(),
        (false, true) => memory.read_client(reader)?,
        (false, false) => None,
        (true, true) => return None,
    };
    let traceparent = if has(connection::TRACEPARENT) {
        Some(Box::new(TraceParent { trace_id: reader.id()?, span_id: reader.id()?, flags: reader.byte()? }))
    } else {
        None
    };
    let target = if has(connection::SAME_TARGET) {
        Arc::clone(&session.connections().last()?.target)
    } else {
        let parts = TargetParts {
            app: has(connection::APP),
            app_name: has(connection::APP_NAME),
            path: has(connection::PATH),
            origin: has(connection::ORIGIN),
            virtual_proxy: has(connection::PROXY),
            same_proxy: has(connection::SAME_PROXY),
        };
        memory.read_target(reader, parts, proxy)?
    };
    let part = Piece { number, start, span_id, previous, due };
    Some(Connection { open, named, ordinal, part, parent, target, browser, client, traceparent })
}

/// Number, start and the span before of a part that is not as the first one was.
fn read_later(reader: &mut Reader<'_>, open: Timestamp) -> Option<(u32, Timestamp, Option<SpanId>)> {
    let number = reader.small().filter(|number| *number > 0)?;
    let start = reader.moment_near(open)?;
    let previous = match reader.byte()? {
        0 => None,
        1 => Some(SpanId(reader.id()?)),
        _ => return None,
    };
    Some((number, start, previous))
}
