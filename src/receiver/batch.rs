//! Many datagrams in one allocation, and the buffers on their way back.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::event::Datagram;
use crate::time::Timestamp;

/// Datagrams in a batch at most.
pub const BATCH_DATAGRAMS_MAX: usize = 4096;

/// Payload bytes in a batch at most. One datagram always fits.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// The capacity that the channel of batches should have.
///
/// A batch takes at most twice [`BATCH_BYTES_MAX`] for its payload, because a vector grows by doubling, and half a
/// mebibyte for its entries: sixteen of them, the one being filled and the one being worked on stay below 48 MiB. At the
/// usual 400 bytes a datagram that is 40,000 datagrams, which is four seconds of 10,000 datagrams per second.
pub const CHANNEL_BATCHES: usize = 16;

/// Buffers that wait to be used again; more are given back to the allocator.
const SPARE_BUFFERS: usize = 4;

/// A larger buffer is not kept for re-use: a burst must not leave its mark on the idle process.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// Datagrams in the order in which one socket gave them out. Dropping it sends its buffers back to the receiver.
#[derive(Debug)]
pub struct Batch {
    buffers: Buffers,
    home: SyncSender<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: usize,
    length: usize,
    received: Timestamp,
    source: SocketAddr,
}

impl Batch {
    /// A batch for a test of whoever takes them.
    #[cfg(test)]
    pub(crate) fn of<'a>(datagrams: impl IntoIterator<Item = Datagram<'a>>) -> Self {
        let mut batch = Supply::new().batch();
        datagrams.into_iter().for_each(|datagram| batch.push(datagram));
        batch
    }

    /// How many datagrams it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffers.entries.len()
    }

    /// Whether it holds none. The receiver never hands over such a batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffers.entries.is_empty()
    }

    /// The datagrams in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.buffers.entries.iter().map(|entry| Datagram {
            received: entry.received,
            source: entry.source,
            bytes: self.buffers.bytes.get(entry.offset..entry.offset + entry.length).unwrap_or_default(),
        })
    }

    /// Whether a datagram of `length` bytes would take it beyond its limits.
    pub(super) fn is_full_for(&self, length: usize) -> bool {
        self.len() >= BATCH_DATAGRAMS_MAX || (!self.is_empty() && self.buffers.bytes.len() + length > BATCH_BYTES_MAX)
    }

    pub(super) fn push(&mut self, datagram: Datagram<'_>) {
        self.buffers.entries.push(Entry {
            offset: self.buffers.bytes.len(),
            length: datagram.bytes.len(),
            received: datagram.received,
            source: datagram.source,
        });
        self.buffers.bytes.extend_from_slice(datagram.bytes);
    }

    /// Forgets the datagrams and keeps the buffers.
    pub(super) fn clear(&mut self) {
        self.buffers.bytes.clear();
        self.buffers.entries.clear();
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.buffers.bytes.capacity() <= SPARE_BYTES_MAX {
            self.clear();
            // Enough spare ones already, or no receiver any more: then the allocator has it.
            let _ = self.home.try_send(std::mem::take(&mut self.buffers));
        }
    }
}

/// Where batches come from and where their buffers come back to.
#[derive(Debug)]
pub(super) struct Supply {
    home: SyncSender<Buffers>,
    spare: Receiver<Buffers>,
}

impl Supply {
    pub(super) fn new() -> Self {
        let (home, spare) = sync_channel(SPARE_BUFFERS);
        Self { home, spare }
    }

    /// An empty batch, in used buffers if there are any.
    pub(super) fn batch(&self) -> Batch {
        Batch { buffers: self.spare.try_recv().unwrap_or_default(), home: self.home.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(bytes: &[u8]) -> Datagram<'_> {
        Datagram { received: Timestamp::from_nanos(7), source: "192.0.2.1:4000".parse().expect("an address"), bytes }
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut batch = Supply::new().batch();
        assert!(batch.is_empty());
        for text in ["first", "", "third"] {
            batch.push(datagram(text.as_bytes()));
        }
        let texts: Vec<_> = batch.iter().map(|datagram| datagram.bytes.to_vec()).collect();
        assert_eq!(texts, [b"first".to_vec(), b"".to_vec(), b"third".to_vec()]);
        assert_eq!(batch.len(), 3);
        assert!(batch.iter().all(|datagram| datagram.received.as_nanos() == 7 && datagram.source.port() == 4000));
    }

    #[test]
    fn it_is_full_by_number_and_by_bytes_but_takes_one_of_any_size() {
        let mut by_number = Supply::new().batch();
        while !by_number.is_full_for(0) {
            by_number.push(datagram(b""));
        }
        assert_eq!(by_number.len(), BATCH_DATAGRAMS_MAX);

        let large = vec![b'A'; 65_507];
        let mut by_bytes = Supply::new().batch();
        while !by_bytes.is_full_for(large.len()) {
            by_bytes.push(datagram(&large));
        }
        assert_eq!(by_bytes.len(), BATCH_BYTES_MAX / large.len());
        assert!(!Supply::new().batch().is_full_for(2 * BATCH_BYTES_MAX));
    }

    #[test]
    fn buffers_come_back_unless_they_grew_large() {
        let supply = Supply::new();
        let mut small = supply.batch();
        small.push(datagram(b"a user id"));
        drop(small);
        let again = supply.batch();
        assert!(again.is_empty());
        assert!(again.buffers.bytes.capacity() >= b"a user id".len());
        drop(again);

        let mut large = supply.batch();
        large.push(datagram(&vec![0; SPARE_BYTES_MAX + 1]));
        drop(large);
        assert_eq!(supply.batch().buffers.bytes.capacity(), 0);
    }
}
