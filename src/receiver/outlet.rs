//! The receiver's end of the channel: fills batches, hands them over, and drops and counts what has no place.

use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use super::batch::{Batch, Supply};
use crate::event::Datagram;
use crate::telemetry::{DropReason, Telemetry};

/// The rest between two attempts at a full channel.
pub(super) const FULL_CHANNEL_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Outlet<'a> {
    telemetry: &'a Telemetry,
    batches: &'a SyncSender<Batch>,
    supply: Supply,
    filling: Batch,
    handed_over: u64,
    dropped: u64,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(telemetry: &'a Telemetry, batches: &'a SyncSender<Batch>) -> Self {
        let supply = Supply::new();
        Self { telemetry, batches, filling: supply.batch(), supply, handed_over: 0, dropped: 0 }
    }

    /// Whether nothing waits to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.is_empty()
    }

    /// Takes one datagram. Where the batch is full it goes first, and where it cannot go it is dropped: the newest
    /// datagrams find room again.
    pub(super) fn push(&mut self, datagram: Datagram<'_>) {
        if self.filling.is_full_for(datagram.bytes.len()) {
            self.hand_over();
            self.drop_pending();
        }
        self.filling.push(datagram);
    }

    /// Hands over what there is, or keeps it if the channel is full.
    pub(super) fn hand_over(&mut self) {
        if self.filling.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.filling, self.supply.batch());
        let datagrams = batch.len() as u64;
        match self.batches.try_send(batch) {
            Ok(()) => self.handed_over += datagrams,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => self.filling = batch,
        }
    }

    /// Counts datagrams that go no further. `sender` is where the last of them is from, if it is of any interest.
    pub(super) fn dropped(&mut self, reason: DropReason, datagrams: u64, sender: Option<IpAddr>) {
        if datagrams > 0 {
            self.dropped += datagrams;
            self.telemetry.dropped(reason, datagrams, sender);
        }
    }

    /// Hands over the last batch, waiting for the channel until `deadline`. Returns how many datagrams were handed over
    /// and how many dropped in all.
    pub(super) fn finish(mut self, deadline: Instant) -> (u64, u64) {
        self.hand_over();
        while !self.filling.is_empty() && Instant::now() < deadline {
            thread::sleep(FULL_CHANNEL_PAUSE);
            self.hand_over();
        }
        self.drop_pending();
        (self.handed_over, self.dropped)
    }

    fn drop_pending(&mut self) {
        let datagrams = self.filling.len() as u64;
        self.filling.clear();
        self.dropped(DropReason::ChannelFull, datagrams, None);
    }
}
