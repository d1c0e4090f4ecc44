//! The outbox between the core and the exporter.
//!
//! What the core has encoded is appended here; the exporter reads it in the same order, signal by signal, and
//! acknowledges what it is done with. This store lives in bounded memory. Its interface is the one of a store on disk:
//! requests are opaque bytes, a place in the outbox is a [`Position`], and one cursor per signal tells what is done.
//!
//! # Invariants
//!
//! * Positions of a signal rise by one from append to append and are never used twice.
//! * Every item leaves exactly once: by [`Store::acknowledge`], or by expiring in [`Store::append`], which says so in
//!   what it returns. `appended = acknowledged + expired + pending` therefore holds whenever the lock is free.
//! * What [`Store::next`] has handed out never expires. Otherwise an item could be booked as expired and be delivered
//!   by the call that was on its way; the price is that the few calls in hand may outlive the budget.
//! * The lock is held for moves of pointers only: bodies are freed after it is released.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::signal::{ExportRequest, Signal};
use crate::time::RunningTime;

#[cfg(test)]
mod tests;

/// How much is kept for a backend that does not answer, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the store and of the generated key file.
    pub directory: PathBuf,
    /// Budget in bytes.
    pub max_size: u64,
    /// Budget in time.
    pub max_age: Duration,
}

/// How much is kept before the oldest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of memory, all signals together: the bodies and a fixed amount for each request.
    pub bytes: u64,
    /// Running time since the append.
    pub age: Duration,
}

/// A place in the outbox of one signal: after so many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before the first request.
    pub const START: Self = Self(0);

    const fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// How much one batch may hold. The first request is handed out whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of all bodies together.
    pub bytes: usize,
    /// Log records or spans.
    pub items: u64,
}

/// Stored requests of one signal that follow each other, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The requests in the order of their appending.
    pub requests: Vec<StoredRequest>,
    /// The position of the last one.
    pub last: Position,
}

/// One stored request: its bytes are shared with the store, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// Log records or spans in it.
    pub items: u32,
    /// The protobuf bytes, as they were appended.
    pub body: Bytes,
}

/// What had to go to stay inside the budget, in items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what expired has to be counted"]
pub struct Expired {
    /// Log records.
    pub logs: u64,
    /// Spans.
    pub traces: u64,
}

/// What waits in the outbox of one signal, in hand or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Export requests.
    pub requests: u64,
    /// Log records or spans in them.
    pub items: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// The handle to the outbox. Cheap to clone, callable from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: Budget,
    outboxes: Mutex<Outboxes>,
    appended: Notify,
}

#[derive(Debug, Default)]
struct Outboxes {
    logs: Outbox,
    traces: Outbox,
    /// The number of the next append over both signals: what is oldest is decided between them.
    order: u64,
}

/// One signal's queue, in rising positions: first what is in the exporter's hands, then what may still expire.
#[derive(Debug, Default)]
struct Outbox {
    in_hand: VecDeque<Stored>,
    waiting: VecDeque<Stored>,
    /// Of the request that was appended last.
    last: Position,
    items: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Stored {
    position: Position,
    order: u64,
    appended: RunningTime,
    request: StoredRequest,
}

/// What a request costs besides its body: the entry, and the head of the shared buffer.
const OVERHEAD: u64 = size_of::<Stored>() as u64 + 32;

impl Store {
    /// An empty outbox that keeps what it holds in memory.
    #[must_use]
    pub fn in_memory(budget: Budget) -> Self {
        let shared = Shared { budget, outboxes: Mutex::default(), appended: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Appends `requests` in their order, then lets the oldest expire until the budget is kept, whatever their signal.
    /// A request that alone exceeds the budget expires at once. Metrics have a way of their own and are ignored.
    pub fn append(&self, requests: Vec<ExportRequest>, now: RunningTime) -> Expired {
        let mut outboxes = self.lock();
        for request in requests {
            outboxes.push(request, now);
        }
        let removed = outboxes.expire(self.shared.budget, now);
        drop(outboxes);
        self.shared.appended.notify_waiters();

        let mut expired = Expired::default();
        for (signal, stored) in removed {
            let items = u64::from(stored.request.items);
            match signal {
                Signal::Logs => expired.logs = expired.logs.saturating_add(items),
                Signal::Traces => expired.traces = expired.traces.saturating_add(items),
                Signal::Metrics => {}
            }
        }
        expired
    }

    /// The requests that follow `after`, as many as `limit` allows and at least one, or `None` if nothing does. They
    /// count as handed out: they stay, and do not expire, until they are acknowledged.
    #[must_use]
    pub fn next(&self, signal: Signal, after: Position, limit: Limit) -> Option<Batch> {
        self.lock().outbox_mut(signal)?.next(after, limit)
    }

    /// Everything of `signal` up to `position` is done with. An earlier position changes nothing.
    pub fn acknowledge(&self, signal: Signal, position: Position) {
        let freed = self.lock().outbox_mut(signal).map(|outbox| outbox.acknowledge(position));
        drop(freed);
    }

    /// What of `signal` has been appended and neither acknowledged nor expired.
    #[must_use]
    pub fn pending(&self, signal: Signal) -> Pending {
        self.lock().outbox_mut(signal).map_or_else(Pending::default, |outbox| Pending {
            requests: outbox.len(),
            items: outbox.items,
            bytes: outbox.bytes,
        })
    }

    /// Waits until a request of `signal` follows `after`; returns at once if one does. May be cancelled at any time.
    pub async fn appended(&self, signal: Signal, after: Position) {
        loop {
            // Made before the look at the outbox: it hears every append from here on, polled or not.
            let woken = self.shared.appended.notified();
            if self.lock().outbox_mut(signal).is_some_and(|outbox| outbox.holds_after(after)) {
                return;
            }
            woken.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outboxes> {
        // No code that can panic runs under the lock, so a poisoned one is as good as any.
        self.shared.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outboxes {
    fn outbox_mut(&mut self, signal: Signal) -> Option<&mut Outbox> {
        match signal {
            Signal::Logs => Some(&mut self.logs),
            Signal::Traces => Some(&mut self.traces),
            Signal::Metrics => None,
        }
    }

    fn push(&mut self, request: ExportRequest, now: RunningTime) {
        let order = self.order;
        self.order = order.saturating_add(1);
        if let Some(outbox) = self.outbox_mut(request.signal) {
            outbox.push(order, StoredRequest { items: request.items, body: request.body }, now);
        }
    }

    fn expire(&mut self, budget: Budget, now: RunningTime) -> Vec<(Signal, Stored)> {
        let mut removed = Vec::new();
        while let Some((signal, appended)) = self.oldest() {
            if self.cost() <= budget.bytes && now.since(appended) <= budget.age {
                break;
            }
            let expired = self.outbox_mut(signal).and_then(Outbox::remove_oldest);
            removed.extend(expired.map(|stored| (signal, stored)));
        }
        removed
    }

    /// Which signal holds the oldest request that may expire, and when that one was appended.
    fn oldest(&self) -> Option<(Signal, RunningTime)> {
        [(Signal::Logs, &self.logs), (Signal::Traces, &self.traces)]
            .into_iter()
            .filter_map(|(signal, outbox)| outbox.waiting.front().map(|stored| (stored.order, signal, stored.appended)))
            .min_by_key(|&(order, ..)| order)
            .map(|(_, signal, appended)| (signal, appended))
    }

    fn cost(&self) -> u64 {
        [&self.logs, &self.traces]
            .into_iter()
            .map(|outbox| outbox.bytes.saturating_add(OVERHEAD.saturating_mul(outbox.len())))
            .fold(0, u64::saturating_add)
    }
}

impl Outbox {
    fn push(&mut self, order: u64, request: StoredRequest, appended: RunningTime) {
        self.last = self.last.following();
        self.items = self.items.saturating_add(u64::from(request.items));
        self.bytes = self.bytes.saturating_add(request.body.len() as u64);
        self.waiting.push_back(Stored { position: self.last, order, appended, request });
    }

    fn next(&mut self, after: Position, limit: Limit) -> Option<Batch> {
        let skipped = self.in_hand.partition_point(|stored| stored.position <= after);
        let mut batch = Batch { requests: Vec::new(), last: after };
        let mut room = limit;
        for stored in self.in_hand.iter().skip(skipped) {
            if !batch.take(stored, &mut room) {
                return Some(batch);
            }
        }
        while let Some(stored) = self.waiting.front() {
            if stored.position > after && !batch.take(stored, &mut room) {
                break;
            }
            self.in_hand.extend(self.waiting.pop_front());
        }
        (!batch.requests.is_empty()).then_some(batch)
    }

    fn acknowledge(&mut self, position: Position) -> Vec<Stored> {
        let mut freed = Vec::new();
        for queue in [&mut self.in_hand, &mut self.waiting] {
            let done = queue.partition_point(|stored| stored.position <= position);
            freed.extend(queue.drain(..done));
        }
        for stored in &freed {
            self.items = self.items.saturating_sub(u64::from(stored.request.items));
            self.bytes = self.bytes.saturating_sub(stored.request.body.len() as u64);
        }
        freed
    }

    fn remove_oldest(&mut self) -> Option<Stored> {
        let stored = self.waiting.pop_front()?;
        self.items = self.items.saturating_sub(u64::from(stored.request.items));
        self.bytes = self.bytes.saturating_sub(stored.request.body.len() as u64);
        Some(stored)
    }

    fn holds_after(&self, position: Position) -> bool {
        self.waiting.back().or_else(|| self.in_hand.back()).is_some_and(|stored| stored.position > position)
    }

    fn len(&self) -> u64 {
        (self.in_hand.len() as u64).saturating_add(self.waiting.len() as u64)
    }
}

impl Batch {
    /// Takes `stored` if there is room for it, or nothing was taken before it.
    fn take(&mut self, stored: &Stored, room: &mut Limit) -> bool {
        let StoredRequest { items, ref body } = stored.request;
        let left = room.bytes.checked_sub(body.len()).zip(room.items.checked_sub(u64::from(items)));
        if left.is_none() && !self.requests.is_empty() {
            return false;
        }
        // Only a first request can be larger than all the room there is; nothing may follow it.
        (room.bytes, room.items) = left.unwrap_or((0, 0));
        self.requests.push(stored.request.clone());
        self.last = stored.position;
        true
    }
}
