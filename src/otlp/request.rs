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

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::Limits;
use super::message::Scope;
use super::wire::{Message, Sink, framed};
use crate::signal::{ExportRequest, Resource, Signal};

/// The key and length of a message of up to 32 GiB take at most this many bytes.
const HEADER_BYTES_MAX: usize = 6;
/// A buffer of this size is never worth giving back.
const BUFFER_BYTES_MIN: usize = 4096;

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
    /// The second fields of ScopeX, of the request being gathered.
    records: Vec<u8>,
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
        group.spoke = true;
        group.records.reserve(framed(length));
        group.records.sized_message(2, record, length);
    }

    /// Closes the request being gathered, and hands over all since the last time, oldest first. Buffers are kept for
    /// the next time, except those of resources that said nothing since the last one.
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
        let mut body = Vec::with_capacity(self.bytes);
        for group in self.groups.iter_mut().filter(|group| !group.records.is_empty()) {
            let scope_length = self.scope.len() + group.records.len() + self.schema_url.len();
            body.header(1, group.head.len() + framed(scope_length));
            body.raw(&group.head);
            body.header(2, scope_length);
            body.raw(&self.scope);
            body.raw(&group.records);
            body.raw(&self.schema_url);
            group.clear();
        }
        self.bytes = 0;
        let items = mem::take(&mut self.items);
        self.closed.push(ExportRequest { signal: self.signal, items, body: Bytes::from(body) });
    }
}

impl Group {
    fn new(resource: Arc<Resource>) -> Self {
        let mut head = Vec::new();
        head.message(1, &*resource);
        Self { resource, head, records: Vec::new(), spoke: false }
    }

    /// Forgets the records. The buffer keeps at most twice what it held, so that all buffers together never hold more
    /// than two requests' worth, whichever nodes were busy one after the other.
    fn clear(&mut self) {
        let used = self.records.len();
        self.records.clear();
        self.records.shrink_to(BUFFER_BYTES_MIN.max(2 * used));
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

    fn capacity(requests: &Requests) -> usize {
        requests.groups.iter().map(|group| group.records.capacity()).sum()
    }

    #[test]
    fn buffers_follow_the_load_down_and_silent_resources_are_let_go() {
        let (mut requests, busy, quiet) = (requests(), resource("busy"), resource("quiet"));
        let large = "x".repeat(1 << 20);
        requests.add(&busy, &Value::Text(&large));
        requests.add(&quiet, &Value::Text("small"));
        assert_eq!(requests.finish().len(), 1);
        assert!((1 << 20..1 << 22).contains(&capacity(&requests)), "the same again needs no allocation");
        requests.add(&busy, &Value::Text("small"));
        requests.finish();
        assert_eq!(requests.groups.len(), 1);
        assert!(capacity(&requests) <= BUFFER_BYTES_MIN);
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
