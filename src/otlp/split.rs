//! One stored request into two, for a server that refuses it as too large.
//!
//! Requests of logs, traces and metrics are built alike: resources in field 1, scopes in field 2 of a resource, records
//! in field 2 of a scope. So one walk serves logs and spans, and no record is decoded: each goes over byte for byte,
//! with whatever a newer version wrote into it. It happens seldom, so it is plain rather than fast.

use std::ops::Range;

use bytes::Bytes;

use super::wire::{Kind, Sink};
use crate::signal::{ExportRequest, Signal};

/// The way from a request to its records: the field numbers of resources, of scopes, of records.
const PATH: [u32; 3] = [1, 2, 2];

/// Halves a request: the first half of its records, and the rest, both in their order and with their resources and
/// scopes.
///
/// `None` if it holds fewer than two records, cannot be read, or is one of metrics, which are never stored.
#[must_use]
pub fn split(signal: Signal, body: &[u8]) -> Option<(ExportRequest, ExportRequest)> {
    let items = count(signal, body)?;
    let half = items / 2;
    if half == 0 {
        return None;
    }
    let part = |wanted: Range<u32>| {
        let items = wanted.end - wanted.start;
        let body = Selection::of(wanted).copy(body, &PATH)?;
        Some(ExportRequest { signal, items, body: Bytes::from(body) })
    };
    Some((part(0..half)?, part(half..items)?))
}

/// How many log records or spans a request holds; `None` if it cannot be read, or is one of metrics: their items are
/// not what stands in a scope, but the points within.
#[must_use]
pub fn count(signal: Signal, body: &[u8]) -> Option<u32> {
    if signal == Signal::Metrics {
        return None;
    }
    let mut nothing = Selection::of(0..0);
    nothing.copy(body, &PATH)?;
    Some(nothing.seen)
}

/// A walk over a request that keeps the wanted records.
struct Selection {
    /// Which records to keep, by their place in the request.
    wanted: Range<u32>,
    /// Records met so far.
    seen: u32,
    /// Records kept so far.
    kept: u32,
}

impl Selection {
    const fn of(wanted: Range<u32>) -> Self {
        Self { wanted, seen: 0, kept: 0 }
    }

    /// The message without the records that are not wanted, nor what would stand around none. `path` is the way from
    /// here; its length bounds the depth. `None` if the message cannot be read.
    fn copy(&mut self, message: &[u8], path: &[u32]) -> Option<Vec<u8>> {
        let (&number, deeper) = path.split_first()?;
        let mut copy = Vec::new();
        let mut rest = message;
        while !rest.is_empty() {
            let field = Field::first(&mut rest)?;
            if field.number != number {
                copy.raw(field.whole);
                continue;
            }
            let content = field.content?;
            if deeper.is_empty() {
                if self.wanted.contains(&self.seen) {
                    copy.raw(field.whole);
                    self.kept += 1;
                }
                self.seen = self.seen.checked_add(1)?;
            } else {
                let kept = self.kept;
                let inner = self.copy(content, deeper)?;
                if self.kept > kept {
                    copy.present(number, &inner);
                }
            }
        }
        Some(copy)
    }
}

/// A field of a message.
struct Field<'a> {
    number: u32,
    /// Key, length and content.
    whole: &'a [u8],
    /// The content, if the field is one that has a length.
    content: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// Takes the first field off the rest of a message. `None` if there is no whole one.
    fn first(rest: &mut &'a [u8]) -> Option<Self> {
        let start = *rest;
        let key = u32::try_from(varint(rest)?).ok()?;
        let number = Some(key >> 3).filter(|&number| number != 0)?;
        let mut content = None;
        match Kind::of_key(key)? {
            Kind::Varint => {
                varint(rest)?;
            }
            Kind::Fixed64 => {
                rest.split_off(..8)?;
            }
            Kind::Bytes => {
                let length = usize::try_from(varint(rest)?).ok()?;
                content = Some(rest.split_off(..length)?);
            }
            Kind::Fixed32 => {
                rest.split_off(..4)?;
            }
        }
        let whole = start.get(..start.len() - rest.len())?;
        Some(Self { number, whole, content })
    }
}

/// Takes a number of at most ten bytes and 64 bits off the front.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *rest.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
