//! Records of one signal, gathered into requests.
//!
//! A record is written behind the others of its resource as soon as it comes; what stands around them is known only
//! when the request is complete, and is put around them then:
//!
//! ```text
//! request = { 1: ResourceX }            once per resource, in the order in which they first appeared
//! ResourceX = 1: Resource, 2: ScopeX    X is Logs or Spans: the numbers are the same for both
//! ScopeX = 1: scope, 2: record ..., 3: schema url
//! ```
//!
//! There is room for that before the records of each resource. So the buffer of the first resource, on most sites the
//! only one, becomes the body as it is, and only the others are copied behind it: 0.1 us an event, where all were copied.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::Limits;
use super::message::Scope;
use super::wire::{Message, Sink, framed};
use crate::signal::{ExportRequest, Resource, Signal};

/// The key and length of a message of up to 32 GiB take at most this many bytes.
const HEADER_BYTES_MAX: usize = 6;

/// The requests of one signal since the last [`finish`](Self::finish).
#[derive(Debug)]
pub(super) struct Requests {
    signal: Signal,
    limits: Limits,
    /// Fields of every ScopeX: before its records and behind them.
    scope: Vec<u8>,
    schema_url: Vec<u8>,
    /// Resources of this request and of those before it since the last `finish`.
    groups: Vec<Group>,
    /// The group that had the last record: records of one node come in runs.
    recent: usize,
    /// Records in the request being gathered.
    items: u32,
    /// What the request being gathered takes at most, in bytes.
    bytes: usize,
    closed: Vec<ExportRequest>,
}

/// What one resource says.
#[derive(Debug)]
struct Group {
    resource: Arc<Resource>,
    /// The first field of ResourceX.
    head: Vec<u8>,
    /// The second fields of ScopeX, of the request being gathered, behind [`room`](Self::room) bytes for what comes
    /// before them. Empty if there are none.
    records: Vec<u8>,
    /// Bytes that the records of the last request took: what the next one is likely to take.
    used: usize,
    /// Whether there was a record since the last `finish`.
    spoke: bool,
}

impl Requests {
    pub(super) fn new(signal: Signal, limits: Limits, scope: &Scope<'_>, schema_url: &str) -> Self {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        before.message(1, scope);
        behind.text(3, schema_url);
        Self {
            signal,
            limits,
            scope: before,
            schema_url: behind,
            groups: Vec::new(),
            recent: 0,
            items: 0,
            bytes: 0,
            closed: Vec::new(),
        }
    }

    /// Adds a record to the request being gathered, or to the next one if it does not fit.
    pub(super) fn add(&mut self, resource: &Arc<Resource>, record: &impl Message) {
        let length = record.length();
        let index = self.group(resource);
        if self.items >= self.limits.request_items_max
            || self.bytes + self.cost(index, length) > self.limits.request_bytes_max
        {
            self.close();
        }
        self.bytes += self.cost(index, length);
        self.items += 1;
        let group = &mut self.groups[index];
        group.open(&self.scope, &self.schema_url);
        group.records.reserve(framed(length));
        group.records.sized_message(2, record, length);
    }

    /// Closes the request being gathered, and hands over all since the last time, oldest first. Resources that said
    /// nothing since the last one are forgotten.
    pub(super) fn finish(&mut self) -> Vec<ExportRequest> {
        self.close();
        self.groups.retain_mut(|group| mem::take(&mut group.spoke));
        mem::take(&mut self.closed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items == 0 && self.closed.is_empty()
    }

    /// The index of the resource's group, which is made if there is none. Equal resources share a group, but only one
    /// that is the same allocation is found without comparing texts.
    fn group(&mut self, resource: &Arc<Resource>) -> usize {
        let same = |group: &Group| Arc::ptr_eq(&group.resource, resource);
        if self.groups.get(self.recent).is_some_and(same) {
            return self.recent;
        }
        let equal = |group: &Group| group.resource == *resource;
        let known = self.groups.iter().position(same).or_else(|| self.groups.iter().position(equal));
        self.recent = known.unwrap_or_else(|| {
            self.groups.push(Group::new(Arc::clone(resource)));
            self.groups.len() - 1
        });
        self.recent
    }

    /// What a record of `length` bytes adds to the request at most: with the first of its group comes what stands
    /// around the records.
    fn cost(&self, index: usize, length: usize) -> usize {
        let group = &self.groups[index];
        let around = if group.records.is_empty() {
            2 * HEADER_BYTES_MAX + group.head.len() + self.scope.len() + self.schema_url.len()
        } else {
            0
        };
        around + framed(length)
    }

    /// Ends the request being gathered, unless it is empty.
    fn close(&mut self) {
        if self.items == 0 {
            return;
        }
        let mut groups = self.groups.iter_mut().filter(|group| !group.records.is_empty());
        // There is a first one, as there are records.
        let (start, mut body) =
            groups.next().map(|group| group.take(&self.scope, &self.schema_url)).unwrap_or_default();
        for group in groups {
            let (start, records) = group.take(&self.scope, &self.schema_url);
            body.raw(&records[start..]);
        }
        self.bytes = 0;
        let items = mem::take(&mut self.items);
        // An outbox in memory holds it for long: it is given what it takes, and no more.
        body.shrink_to_fit();
        self.closed.push(ExportRequest { signal: self.signal, items, body: Bytes::from(body).slice(start..) });
    }
}

impl Group {
    fn new(resource: Arc<Resource>) -> Self {
        let mut head = Vec::new();
        head.message(1, &*resource);
        Self { resource, head, records: Vec::new(), used: 0, spoke: false }
    }

    /// Bytes that stand before the records at most.
    fn room(&self, scope: &[u8]) -> usize {
        2 * HEADER_BYTES_MAX + self.head.len() + scope.len()
    }

    /// Makes room for what comes before the records, unless there are some. With it comes room for as many as the last
    /// time and an eighth more: a buffer that has to grow is copied.
    fn open(&mut self, scope: &[u8], schema_url: &[u8]) {
        self.spoke = true;
        if self.records.is_empty() {
            let room = self.room(scope);
            self.records.reserve_exact(room + self.used + self.used / 8 + schema_url.len());
            self.records.resize(room, 0);
        }
    }

    /// The whole ResourceX, and where it begins in the buffer that it was gathered in.
    fn take(&mut self, scope: &[u8], schema_url: &[u8]) -> (usize, Vec<u8>) {
        let mut whole = mem::take(&mut self.records);
        let room = self.room(scope);
        self.used = whole.len() - room;
        whole.raw(schema_url);
        let mut before = Vec::with_capacity(room);
        let scope_length = scope.len() + whole.len() - room;
        before.header(1, self.head.len() + framed(scope_length));
        before.raw(&self.head);
        before.header(2, scope_length);
        before.raw(scope);
        let start = room - before.len();
        whole[start..room].copy_from_slice(&before);
        (start, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Value;

    fn requests() -> Requests {
        Requests::new(Signal::Logs, Limits::default(), &Scope { name: "scope", version: "1" }, "schema")
    }

    fn resource(name: &str) -> Arc<Resource> {
        Arc::new(Resource { attributes: vec![("host.name".to_owned(), name.to_owned())] })
    }

    #[test]
    fn buffers_are_handed_over_and_silent_resources_are_let_go() {
        let (mut requests, busy, quiet) = (requests(), resource("busy"), resource("quiet"));
        let large = "x".repeat(1 << 20);
        requests.add(&busy, &Value::Text(&large));
        requests.add(&quiet, &Value::Text("small"));
        assert_eq!(requests.finish().len(), 1);
        assert!(requests.groups.iter().all(|group| group.records.capacity() == 0));
        requests.add(&busy, &Value::Text("small"));
        assert!(requests.groups[0].records.capacity() > 1 << 20, "the same again needs no allocation");
        requests.finish();
        assert_eq!(requests.groups.len(), 1);
        requests.add(&busy, &Value::Text("small"));
        assert!(requests.groups[0].records.capacity() < 1 << 10, "and the buffer follows the load down");
        requests.finish();
        requests.finish();
        assert!(requests.groups.is_empty());
    }

    #[test]
    fn the_bound_on_a_request_is_never_below_its_size_and_close_to_it() {
        let (mut requests, first, second) = (requests(), resource("first"), resource("second"));
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let text = "x".repeat(length);
            requests.add(&first, &Value::Text(&text));
            requests.add(&second, &Value::Text("y"));
            let bound = requests.bytes;
            let size = requests.finish().iter().map(|request| request.body.len()).sum::<usize>();
            assert!((size..=size + 4 * HEADER_BYTES_MAX).contains(&bound), "{bound} for {size}");
        }
    }
}
