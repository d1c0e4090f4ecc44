//! The sender: as many datagrams as are due, on threads of its own, whoever receives them.
//!
//! What is due is told by the time since the beginning, so that a late wake-up is made up for at once and the rate stays
//! what was asked for. Nothing here waits for the receiver.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Event, NODES, NodeLoad};
use super::times::{Clock, Times};
use crate::cli::datagrams::send;
use crate::event::Format;

/// Datagrams that are handed to the system at once, at most.
const BATCH: u64 = 64;

/// The shortest rest: a shorter one costs more than it is worth, and takes the processor from the receiver.
const REST_MIN: Duration = Duration::from_micros(200);

/// What is due at the end and not sent yet, because somebody else had the processor, may still go for so long.
const CATCH_UP: Duration = Duration::from_millis(50);

/// How soon an interrupt is seen.
const REST_MAX: Duration = Duration::from_millis(50);

/// A machine gives the sender one thread for so many processors.
const PROCESSORS_PER_THREAD: usize = 4;

/// Bytes at the end of a datagram that take the time of its sending.
pub(super) const STAMP_BYTES: usize = 8;

/// The nodes of the simulated site.
#[derive(Debug)]
pub(super) struct Sender<'a> {
    nodes: Vec<Node<'a>>,
    threads: usize,
    interrupted: &'a AtomicBool,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Datagrams that the system took.
    pub(super) datagrams: u64,
    /// Their bytes, without headers.
    pub(super) bytes: u64,
    /// From the first to the last, and the rest of the time that was asked for.
    pub(super) lasted: Duration,
}

#[derive(Debug)]
struct Node<'a> {
    socket: UdpSocket,
    target: SocketAddr,
    load: NodeLoad,
    clock: Clock,
    /// Where times of sending are noted; without it each datagram carries its own, in the place of its last bytes.
    times: Option<&'a Times>,
    datagrams: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl<'a> Sender<'a> {
    /// A sender to `target`. Times of sending go into `times`, or else into the datagrams themselves.
    ///
    /// # Errors
    ///
    /// The system has no sockets left.
    pub(super) fn new(
        target: SocketAddr,
        format: Format,
        clock: Clock,
        times: Option<&'a Times>,
        interrupted: &'a AtomicBool,
    ) -> io::Result<Self> {
        let node = |number| {
            Ok(Node {
                socket: UdpSocket::bind("127.0.0.1:0")?,
                target,
                load: NodeLoad::new(format, number),
                clock,
                times,
                datagrams: vec![Vec::new(); BATCH as usize],
                events: Vec::with_capacity(BATCH as usize),
            })
        };
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / PROCESSORS_PER_THREAD).clamp(1, NODES as usize / 2);
        Ok(Self { nodes: (0..NODES).map(node).collect::<io::Result<_>>()?, threads, interrupted })
    }

    /// Sends at `rate` events a second for so long; less is sent if that is more than can be.
    pub(super) fn send(&mut self, rate: f64, duration: Duration) -> Sent {
        let share = self.nodes.len().div_ceil(self.threads);
        let rate = rate / self.nodes.len().div_ceil(share) as f64;
        let interrupted = self.interrupted;
        thread::scope(|scope| {
            let groups = self.nodes.chunks_mut(share);
            let threads: Vec<_> =
                groups.map(|group| scope.spawn(move || pace(group, rate, duration, interrupted))).collect();
            let mut sent = Sent::default();
            for thread in threads {
                let part = thread.join().unwrap_or_default();
                sent.datagrams += part.datagrams;
                sent.bytes += part.bytes;
                sent.lasted = sent.lasted.max(part.lasted);
            }
            sent
        })
    }
}

/// Sends from these nodes by turns.
fn pace(nodes: &mut [Node<'_>], rate: f64, duration: Duration, interrupted: &AtomicBool) -> Sent {
    let began = Instant::now();
    let total = (rate * duration.as_secs_f64()).round().max(1.0) as u64;
    let mut sent = Sent::default();
    let (mut done, mut turn) = (0, 0);
    while done < total && !interrupted.load(Ordering::Relaxed) {
        let elapsed = began.elapsed();
        if elapsed > duration + CATCH_UP {
            break;
        }
        let due = ((elapsed.as_secs_f64() * rate) as u64 + 1).min(total);
        if due <= done {
            let next = Duration::from_secs_f64(done as f64 / rate);
            thread::sleep(next.saturating_sub(elapsed).clamp(REST_MIN, REST_MAX));
            continue;
        }
        let batch = (due - done).min(BATCH);
        let places = nodes.len().max(1);
        if let Some(node) = nodes.get_mut(turn % places) {
            node.send(batch as usize, &mut sent);
        }
        turn += 1;
        done += batch;
    }
    sent.lasted = began.elapsed().max(duration);
    sent
}

impl Node<'_> {
    fn send(&mut self, count: usize, sent: &mut Sent) {
        let now = self.clock.now();
        self.events.clear();
        let Some(batch) = self.datagrams.get_mut(..count) else { return };
        for datagram in &mut *batch {
            self.events.push(self.load.write_next(now, datagram));
        }
        // Once more, for the writing took its time and is none of the receiver's.
        let now = self.clock.now();
        match self.times {
            Some(times) => self.events.iter().for_each(|event| times.note(*event, now)),
            None => {
                batch.iter_mut().filter_map(|datagram| datagram.last_chunk_mut::<STAMP_BYTES>()).for_each(|stamp| {
                    *stamp = now.as_nanos().to_le_bytes();
                })
            }
        }
        sent.datagrams += send(&self.socket, self.target, batch) as u64;
        sent.bytes += batch.iter().map(|datagram| datagram.len() as u64).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sends_what_is_due_and_notes_when() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let target = receiver.local_addr().expect("an address");
        let (clock, times, interrupted) = (Clock::start(), Times::new(), AtomicBool::new(false));
        let mut sender =
            Sender::new(target, Format::Extended, clock, Some(&times), &interrupted).expect("a few sockets");
        let sent = sender.send(200.0, Duration::from_millis(500));
        // As many as any socket holds.
        assert!(sent.datagrams > 0 && sent.datagrams <= 100, "{sent:?}");
        let mut bytes = 0;
        let mut buffer = [0; 2048];
        for _ in 0..sent.datagrams {
            bytes += receiver.recv(&mut buffer).expect("a datagram") as u64;
        }
        assert_eq!(bytes, sent.bytes);
        // A session of each node, of which the first of all has user 0.
        let noted = times.sent(0, 0, clock.now()).expect("a time of sending");
        assert!(noted <= clock.now());
    }

    #[test]
    fn without_a_place_for_times_the_datagrams_carry_them() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let target = receiver.local_addr().expect("an address");
        let (clock, interrupted) = (Clock::start(), AtomicBool::new(false));
        let before = clock.now();
        let mut sender = Sender::new(target, Format::Stock, clock, None, &interrupted).expect("a few sockets");
        sender.send(100.0, Duration::from_millis(10));
        let mut buffer = [0; 2048];
        let length = receiver.recv(&mut buffer).expect("a datagram");
        let stamp = buffer[..length].last_chunk().expect("eight bytes");
        let sent = u64::from_le_bytes(*stamp);
        assert!((before.as_nanos()..=clock.now().as_nanos()).contains(&sent), "{sent}");
    }

    #[test]
    fn an_interrupt_ends_it() {
        let interrupted = AtomicBool::new(true);
        let target = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut sender = Sender::new(target, Format::Stock, Clock::start(), None, &interrupted).expect("a few sockets");
        assert_eq!(sender.send(1.0, Duration::from_secs(3_600)).datagrams, 0);
    }
}
