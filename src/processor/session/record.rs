//! What is stored of the sessions. The bytes are described in the head of [`processor::record`](crate::processor::record).

use std::time::Duration;

use crate::processor::ids::SessionKey;
use crate::processor::node::{Known, Nodes};
use crate::processor::record::{Ledger, Reader, RecordKey, Scribe, Writer};
use crate::signal::{SpanId, TraceId};
use crate::time::RunningTime;

use super::ended::Ended;
use super::{Config, Restart, SessionTracker};

mod open;
mod restore;

pub(super) use restore::Misfits;
pub(in crate::processor) use restore::Returning;

const ENDED_CLEAR: u8 = 1;
const ENDED_TRACE: u8 = 2;

impl SessionTracker {
    /// Begins to note what changes.
    pub(in crate::processor) fn start_noting(&mut self) {
        self.table.start_noting();
        self.sessions_without_id.changed.start();
        self.connections.changed.start();
        self.restarted.start();
    }

    /// The core's own record.
    pub(in crate::processor) fn write(&self, writer: &mut Writer<'_>) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let Config { expire_after, expire_connected_after, max_span_duration, heartbeat, .. } = &self.config;
        writer.number(self.events);
        writer.running(self.latest);
        writer.number(self.table.ended.next());
        writer.number(nanos(*expire_after));
        writer.number(nanos(*expire_connected_after));
        writer.number(nanos(*max_span_duration));
        writer.number(heartbeat.map_or(0, |heartbeat| nanos(heartbeat).saturating_add(1)));
    }

    /// Writes what has changed.
    pub(in crate::processor) fn changes(&mut self, nodes: &Nodes, scribe: &mut Scribe<'_, impl Ledger>) {
        let restarted = self.restarted.take();
        for known in restarted.iter().filter_map(|&node| nodes.get(node)) {
            if self.restarts.iter().any(|restart| restart.node == known.node.index) {
                self.put_restarts(known, scribe);
            } else {
                scribe.delete(RecordKey::Restarts(known.number));
            }
        }
        self.restarted.reuse(restarted);

        let ended = self.table.ended.changed.take();
        for &order in &ended {
            if !self.put_ended(order, nodes, scribe) {
                scribe.delete(RecordKey::Ended(order));
            }
        }
        self.table.ended.changed.reuse(ended);

        for (of, ordinals) in [(0, &mut self.sessions_without_id), (1, &mut self.connections)] {
            let changed = ordinals.changed.take();
            for &(generation, place) in &changed {
                let key = RecordKey::Ordinal(of, generation, place);
                match ordinals.at(generation, place) {
                    Some((thing, count)) => scribe.put(key, |writer| {
                        writer.bytes(&thing.0);
                        writer.number(count.into());
                    }),
                    None => scribe.delete(key),
                }
            }
            ordinals.changed.reuse(changed);
        }

        for opened in self.table.gone.take() {
            scribe.delete(RecordKey::Session(opened));
        }
        let changed = self.table.changed.take();
        for &slot in &changed {
            if let Some(session) = self.table.take_changed(slot) {
                open::put(session, scribe);
            }
        }
        self.table.changed.reuse(changed);
    }

    /// Writes the restarts of a node, if there are any.
    pub(in crate::processor) fn put_restarts(&self, known: &Known, scribe: &mut Scribe<'_, impl Ledger>) {
        let mut restarts = self.restarts.iter().filter(|restart| restart.node == known.node.index).peekable();
        if restarts.peek().is_some() {
            scribe.put(RecordKey::Restarts(known.number), |writer| {
                writer.text(&known.node.name);
                for restart in restarts {
                    writer.number(restart.before);
                    writer.running(restart.due);
                }
            });
        }
    }

    /// Writes ended ids from this order on; where to go on if the scribe is full before the end.
    pub(in crate::processor) fn ended_from(
        &self,
        from: u64,
        nodes: &Nodes,
        scribe: &mut Scribe<'_, impl Ledger>,
    ) -> Option<u64> {
        for order in self.table.ended.orders_from(from) {
            if scribe.is_full() {
                return Some(order);
            }
            self.put_ended(order, nodes, scribe);
        }
        None
    }

    /// Writes ordinals from this generation and place on; where to go on if the scribe is full before the end.
    pub(in crate::processor) fn ordinals_from(
        &self,
        major: u64,
        minor: u64,
        scribe: &mut Scribe<'_, impl Ledger>,
    ) -> Option<(u64, u64)> {
        let kinds = [(0_u8, &self.sessions_without_id), (1, &self.connections)];
        for (of, ordinals) in kinds.into_iter().filter(|(of, _)| u64::from(*of) >= major >> 63) {
            let from = if u64::from(of) == major >> 63 { (major & !KIND, minor) } else { (0, 0) };
            for (generation, place, thing, count) in ordinals.from(from) {
                if scribe.is_full() {
                    return Some((u64::from(of) << 63 | generation, place.into()));
                }
                scribe.put(RecordKey::Ordinal(of, generation, place), |writer| {
                    writer.bytes(&thing.0);
                    writer.number(count.into());
                });
            }
        }
        None
    }

    /// Writes open sessions from this place on; where to go on if the scribe is full before the end.
    pub(in crate::processor) fn sessions_from(&self, from: u64, scribe: &mut Scribe<'_, impl Ledger>) -> Option<u64> {
        for slot in u32::try_from(from).unwrap_or(u32::MAX)..self.table.slots() {
            if let Some(session) = self.table.get(slot) {
                if scribe.is_full() {
                    return Some(slot.into());
                }
                open::put(session, scribe);
            }
        }
        None
    }

    /// Writes an ended id; whether it is still remembered.
    fn put_ended(&self, order: u64, nodes: &Nodes, scribe: &mut Scribe<'_, impl Ledger>) -> bool {
        let Some((node, id, at, ended)) = self.table.ended.at(order) else { return false };
        let Some(known) = nodes.get(node) else { return false };
        scribe.put(RecordKey::Ended(order), |writer| write_ended(writer, &known.node.name, id, at, &ended));
        true
    }
}

/// The highest bit of a place in the walk through ordinals says which ones.
const KIND: u64 = 1 << 63;

fn write_ended(writer: &mut Writer<'_>, node: &str, id: SessionKey, at: RunningTime, ended: &Ended) {
    let clear = if id.guid().is_some() { ENDED_CLEAR } else { 0 };
    let differs = ended.trace_id != id.trace_id();
    writer.text(node);
    writer.byte(clear | if differs { ENDED_TRACE } else { 0 });
    writer.bytes(&id.trace_id().0);
    if differs {
        writer.bytes(&ended.trace_id.0);
    }
    writer.number(ended.segment.into());
    writer.bytes(&ended.span_id.0);
    writer.moment(ended.end);
    writer.running(at);
}

/// The node, the id, when its end was learned of, and the end.
fn read_ended<'a>(order: u64, reader: &mut Reader<'a>) -> Option<(&'a str, SessionKey, RunningTime, Ended)> {
    let node = reader.text()?;
    let flags = reader.byte().filter(|flags| flags & !(ENDED_CLEAR | ENDED_TRACE) == 0)?;
    let id = SessionKey::restored(reader.id()?, flags & ENDED_CLEAR != 0);
    let trace_id = if flags & ENDED_TRACE != 0 { TraceId(reader.id()?) } else { id.trace_id() };
    let (segment, span_id) = (reader.small()?, SpanId(reader.id()?));
    let (end, at) = (reader.moment()?, reader.running()?);
    reader.end()?;
    Some((node, id, at, Ended { trace_id, segment, span_id, end, order }))
}

/// The node and its restarts, still without its place.
fn read_restarts<'a>(reader: &mut Reader<'a>) -> Option<(&'a str, Vec<Restart>)> {
    let node = reader.text()?;
    let mut restarts = Vec::new();
    while reader.left() > 0 {
        restarts.push(Restart { node: 0, before: reader.counter()?, due: reader.running()? });
    }
    Some((node, restarts))
}
