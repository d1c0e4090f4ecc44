//! One socket as the receiver sees it: the seam between the loop and the system, and the place where tests inject errors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a read waits for the first datagram before the loop looks whether it is to stop.
pub(super) const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Datagrams that one read takes at most.
pub(super) const READ_MAX: usize = 64;

/// More than any UDP datagram has, so that none is ever cut off and an oversized one is known by its length on every
/// system.
const SLOT_SIZE: usize = 1 << 16;

/// Reads datagrams. The socket behind it blocks, with [`RECEIVE_TIMEOUT`].
pub(super) trait Socket {
    /// Replaces the content of `slots` by what is there now, at most [`READ_MAX`] datagrams. With `wait` it waits for the
    /// first, never for a second.
    ///
    /// # Errors
    ///
    /// Whatever the system says; nothing there is the kind `WouldBlock` or `TimedOut`. What is in `slots` was received
    /// even so.
    fn read(&mut self, wait: bool, slots: &mut Slots) -> io::Result<()>;

    /// How many datagrams the kernel has thrown away since the last call, as far as that is known without asking; with
    /// `ask` the system is asked. Always 0 where the system does not say.
    fn kernel_drops(&mut self, ask: bool) -> u64;
}

/// Room for the datagrams of one read, used again for each. Only the pages that datagrams really touch become resident.
#[derive(Debug)]
pub(super) struct Slots {
    buffer: Vec<u8>,
    arrivals: Vec<Arrival>,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    source: SocketAddr,
    length: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; SLOT_SIZE * READ_MAX], arrivals: Vec::with_capacity(READ_MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.arrivals.len() >= READ_MAX
    }

    /// Sender and payload of each arrival, in order. An IPv4 sender is IPv4 also on a dual-stack socket.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.buffer.chunks_exact(SLOT_SIZE);
        self.arrivals
            .iter()
            .zip(slots)
            .map(|(arrival, slot)| (arrival.source, slot.get(..arrival.length).unwrap_or(slot)))
    }

    pub(super) fn clear(&mut self) {
        self.arrivals.clear();
    }

    /// The slots that are still free, in order.
    pub(super) fn free(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.buffer.chunks_exact_mut(SLOT_SIZE).skip(self.arrivals.len())
    }

    /// Says what has arrived in the first of the free slots.
    pub(super) fn push(&mut self, source: SocketAddr, length: usize) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        self.arrivals.push(Arrival { source, length });
    }
}
