//! The outbox in bounded memory: for demos and tests, and for whoever says `--in-memory`.
//!
//! The lock is held for moves of pointers only: bodies are freed after it is released.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::commit::{PerSignal, Position};
use super::health::{Happening, Observer};
use super::outbox::Pending;
use super::{Batch, Budget, Limit, StoredRequest};
use crate::signal::{ExpiryReason, ExportRequest, Signal};
use crate::time::RunningTime;

#[cfg(test)]
mod tests;

/// The outboxes of all signals.
#[derive(Debug)]
pub(super) struct Memory {
    budget: Budget,
    observer: Arc<dyn Observer>,
    outboxes: Mutex<Outboxes>,
    appended: Notify,
}

#[derive(Debug, Default)]
struct Outboxes {
    signals: PerSignal<Outbox>,
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
pub(super) const OVERHEAD: u64 = size_of::<Stored>() as u64 + 32;

impl Memory {
    pub(super) fn new(budget: Budget, observer: Arc<dyn Observer>) -> Self {
        Self { budget, observer, outboxes: Mutex::default(), appended: Notify::new() }
    }

    pub(super) fn append(&self, requests: Vec<ExportRequest>, now: RunningTime) {
        let mut outboxes = self.lock();
        for request in requests {
            outboxes.push(request, now);
        }
        drop(outboxes);
        self.appended.notify_waiters();
        self.expire(now);
    }

    pub(super) fn expire(&self, now: RunningTime) {
        let removed = self.lock().expire(self.budget, now);
        let mut expired = PerSignal::<[Pending; 2]>::default();
        for (signal, stored, reason) in &removed {
            let size = stored.request.body.len() as u64;
            let what = Pending { requests: 1, items: u64::from(stored.request.items), bytes: size };
            if let Some([by_size, by_age]) = expired.of_mut(*signal) {
                if *reason == ExpiryReason::Age { by_age.plus(what) } else { by_size.plus(what) }
            }
        }
        for (signal, reasons) in expired.iter() {
            for (&what, reason) in reasons.iter().zip([ExpiryReason::Size, ExpiryReason::Age]) {
                if what.requests > 0 {
                    self.observer.observe(Happening::Expired { signal, what, reason });
                }
            }
        }
    }

    pub(super) fn next(&self, signal: Signal, after: Position, limit: Limit) -> Option<Batch> {
        self.lock().signals.of_mut(signal)?.next(after, limit)
    }

    pub(super) fn acknowledge(&self, signal: Signal, position: Position) {
        let freed = self.lock().signals.of_mut(signal).map(|outbox| outbox.acknowledge(position));
        drop(freed);
    }

    pub(super) fn pending(&self, signal: Signal) -> Pending {
        self.lock().signals.of(signal).map_or_else(Pending::default, |outbox| Pending {
            requests: outbox.len(),
            items: outbox.items,
            bytes: outbox.bytes,
        })
    }

    pub(super) fn holds_after(&self, signal: Signal, after: Position) -> bool {
        self.lock().signals.of(signal).is_some_and(|outbox| outbox.holds_after(after))
    }

    pub(super) const fn appended(&self) -> &Notify {
        &self.appended
    }

    fn lock(&self) -> MutexGuard<'_, Outboxes> {
        // No code that can panic runs under the lock, so a poisoned one is as good as any.
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outboxes {
    fn push(&mut self, request: ExportRequest, now: RunningTime) {
        let order = self.order;
        self.order = order.saturating_add(1);
        if let Some(outbox) = self.signals.of_mut(request.signal) {
            outbox.push(order, StoredRequest { items: request.items, body: request.body }, now);
        }
    }

    fn expire(&mut self, budget: Budget, now: RunningTime) -> Vec<(Signal, Stored, ExpiryReason)> {
        let mut removed = Vec::new();
        while let Some((signal, appended)) = self.oldest() {
            let reason = if self.cost() > budget.bytes {
                ExpiryReason::Size
            } else if now.since(appended) > budget.age {
                ExpiryReason::Age
            } else {
                break;
            };
            let expired = self.signals.of_mut(signal).and_then(Outbox::remove_oldest);
            removed.extend(expired.map(|stored| (signal, stored, reason)));
        }
        removed
    }

    /// Which signal holds the oldest request that may expire, and when that one was appended.
    fn oldest(&self) -> Option<(Signal, RunningTime)> {
        let fronts = self.signals.iter().filter_map(|(signal, outbox)| Some((signal, outbox.waiting.front()?)));
        fronts.min_by_key(|(_, stored)| stored.order).map(|(signal, stored)| (signal, stored.appended))
    }

    fn cost(&self) -> u64 {
        let costs =
            self.signals.iter().map(|(_, outbox)| outbox.bytes.saturating_add(OVERHEAD.saturating_mul(outbox.len())));
        costs.fold(0, u64::saturating_add)
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
