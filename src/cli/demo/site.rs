//! The simulated site: real datagrams over a real socket, a working day in about a minute.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// One datagram of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// Simulated time; never earlier than that of the one before.
    pub(super) at: Timestamp,
    /// Which node sends it, from 0.
    pub(super) node: usize,
    pub(super) bytes: Vec<u8>,
}

/// How simulated time runs against ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the day begins at the site.
    pub(super) day_begins: Timestamp,
    /// When it begins here.
    pub(super) began: Instant,
    /// Simulated seconds per second.
    pub(super) speed: u32,
}

/// What the other threads know about the site.
#[derive(Debug, Default)]
pub(super) struct Progress {
    sent: AtomicU64,
    is_over: AtomicBool,
    is_stopped: AtomicBool,
}

/// A sleeping site looks this often whether it should stop.
const NAP: Duration = Duration::from_millis(20);

impl Pace {
    /// The simulated time at this moment.
    pub(super) fn simulated(&self) -> Timestamp {
        self.day_begins + self.began.elapsed() * self.speed
    }

    /// When what happens at `simulated` time is to be sent.
    fn due(&self, simulated: Timestamp) -> Instant {
        self.began + simulated.since(self.day_begins) / self.speed.max(1)
    }
}

impl Progress {
    /// Datagrams sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Whether the site has sent its last datagram.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Asks the site to send no more.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }
}

/// Sends every datagram when its time has come, until there are no more or `progress` says stop.
pub(super) fn run(
    datagrams: impl Iterator<Item = Sending>,
    to: SocketAddr,
    pace: Pace,
    progress: &Progress,
) -> io::Result<()> {
    let result = send_all(datagrams, to, pace, progress);
    progress.is_over.store(true, Ordering::Release);
    result
}

fn send_all(
    datagrams: impl Iterator<Item = Sending>,
    to: SocketAddr,
    pace: Pace,
    progress: &Progress,
) -> io::Result<()> {
    // Each node sends from a socket of its own, as each proxy does.
    let mut sockets: Vec<UdpSocket> = Vec::new();
    for Sending { at, node, bytes } in datagrams {
        while sockets.len() <= node {
            sockets.push(UdpSocket::bind("127.0.0.1:0")?);
        }
        loop {
            if progress.is_stopped.load(Ordering::Acquire) {
                return Ok(());
            }
            match pace.due(at).saturating_duration_since(Instant::now()) {
                Duration::ZERO => break,
                wait => thread::sleep(wait.min(NAP)),
            }
        }
        if let Some(socket) = sockets.get(node) {
            socket.send_to(&bytes, to)?;
            progress.sent.fetch_add(1, Ordering::AcqRel);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_leave_in_compressed_time() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let to = receiver.local_addr().expect("a bound socket");
        let day_begins = Timestamp::from_nanos(1_000_000_000_000);
        let pace = Pace { day_begins, began: Instant::now(), speed: 36_000 };
        let hour = Duration::from_secs(3600);
        let sending = |at, node, text: &str| Sending { at, node, bytes: text.as_bytes().to_vec() };
        let datagrams = [sending(day_begins, 1, "first"), sending(day_begins + hour, 0, "an hour later")];
        let progress = Progress::default();

        run(datagrams.into_iter(), to, pace, &progress).expect("loopback takes datagrams");
        assert!(pace.began.elapsed() >= Duration::from_millis(100));
        assert!(pace.simulated() >= day_begins + hour);
        assert_eq!((progress.sent(), progress.is_over()), (2, true));
        let mut buffer = [0; 64];
        for expected in ["first", "an hour later"] {
            let length = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn a_stopped_site_does_not_wait_for_the_evening() {
        let day_begins = Timestamp::EPOCH;
        let pace = Pace { day_begins, began: Instant::now(), speed: 1 };
        let progress = Progress::default();
        progress.stop();
        let evening = day_begins + Duration::from_secs(36_000);
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        run([Sending { at: evening, node: 0, bytes: Vec::new() }].into_iter(), to, pace, &progress)
            .expect("nothing is sent");
        assert_eq!((progress.sent(), progress.is_over()), (0, true));
    }
}
