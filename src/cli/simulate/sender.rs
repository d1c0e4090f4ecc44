//! Sends a simulated site's datagrams at their times.

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::datagrams::send;
use crate::simulator::Simulator;
use crate::time::Timestamp;

/// Datagrams that are handed to the system at once, at most.
const BATCH_MAX: usize = 64;

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How soon an interrupt is seen.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);

/// A socket for each node, and what went through them.
#[derive(Debug)]
pub(super) struct Sender {
    target: SocketAddr,
    nodes: Vec<Node>,
    began: Instant,
    sent: u64,
    failed: u64,
    /// When progress was last shown; `None` where nobody looks.
    shown: Option<Instant>,
}

#[derive(Debug)]
struct Node {
    socket: UdpSocket,
    waiting: Vec<Vec<u8>>,
}

impl Sender {
    /// The sockets are not connected: whether a receiver is there is no business of a log4net appender's either.
    pub(super) fn new(target: SocketAddr, nodes: usize) -> io::Result<Self> {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let node = |_| Ok(Node { socket: UdpSocket::bind(any)?, waiting: Vec::with_capacity(BATCH_MAX) });
        let nodes = (0..nodes).map(node).collect::<io::Result<_>>()?;
        let shown = io::stderr().is_terminal().then(Instant::now);
        Ok(Self { target, nodes, began: Instant::now(), sent: 0, failed: 0, shown })
    }

    /// Sends every datagram at its time after `start`, which is now: those of one millisecond together.
    pub(super) fn send_all(&mut self, simulator: &mut Simulator, start: Timestamp, interrupted: &AtomicBool) {
        self.began = Instant::now();
        for emission in simulator {
            if !self.wait_until(emission.at.since(start), interrupted) {
                break;
            }
            if let Some(node) = self.nodes.get_mut(emission.node) {
                node.waiting.push(emission.bytes);
                if node.waiting.len() >= BATCH_MAX {
                    self.flush();
                }
            }
        }
        self.flush();
        if self.shown.is_some() {
            anstream::eprint!("\r\x1b[K");
        }
    }

    /// Waits until `due` after the beginning, with everything sent that was due before. Returns false if interrupted.
    fn wait_until(&mut self, due: Duration, interrupted: &AtomicBool) -> bool {
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return false;
            }
            let wait = due.saturating_sub(self.began.elapsed());
            if wait.is_zero() {
                return true;
            }
            self.flush();
            thread::sleep(wait.min(INTERRUPT_INTERVAL));
        }
    }

    fn flush(&mut self) {
        for node in &mut self.nodes {
            let sent = send(&node.socket, self.target, &node.waiting);
            self.sent += sent as u64;
            self.failed += (node.waiting.len() - sent) as u64;
            node.waiting.clear();
        }
        self.show_progress();
    }

    fn show_progress(&mut self) {
        let Some(shown) = &mut self.shown else { return };
        if shown.elapsed() >= PROGRESS_INTERVAL {
            *shown = Instant::now();
            anstream::eprint!("\r{}", self.summary());
        }
    }

    /// What was sent, and how fast.
    pub(super) fn summary(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.sent as f64 / seconds.max(f64::MIN_POSITIVE);
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("sent {} datagrams to {} in {seconds:.1} s, {rate:.0}/s{failed}", self.sent, self.target)
    }
}
