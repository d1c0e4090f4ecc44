//! UDP socket(s) to batches of datagrams.
//!
//! One thread a socket, and nothing in its loop waits for anything but the socket: no file, no lock, no parsing. What is
//! read is handed over at once when the socket has no more, so that a lone event is not late; under load batches fill up.
//! When the core does not keep up, the batch being filled goes on filling, and only a full batch before a full channel is
//! dropped, whole and counted.
//!
//! ```text
//!  kernel buffer ──64 a read──> admission ──> batch ──try_send──> channel of CHANNEL_BATCHES ──> core
//!   └ drops: counted by            └ denied,    └ full, and the channel too: dropped
//!     the kernel, read here          limited,     └ buffers come back when the core drops the batch
//!                                    oversize
//! ```
//!
//! Every datagram that is read is in a batch, or counted under exactly one reason. Nothing is ever answered.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::event::Datagram;
use crate::telemetry::{DropReason, Heart, Telemetry};
use crate::time::Timestamp;

mod admission;
mod batch;
mod bind;
#[cfg(any(test, target_os = "linux"))]
mod kernel_drops;
#[cfg(target_os = "linux")]
mod linux;
mod outlet;
#[cfg(target_os = "linux")]
mod passed;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod socket;

use admission::Admission;
pub use batch::{BATCH_BYTES_MAX, BATCH_DATAGRAMS_MAX, Batch, CHANNEL_BATCHES};
pub use bind::{BindError, Bound, bind};
#[cfg(target_os = "linux")]
use linux::LinuxSocket as SystemSocket;
use outlet::{FULL_CHANNEL_PAUSE, Outlet};
#[cfg(target_os = "linux")]
pub use passed::passed;
#[cfg(not(target_os = "linux"))]
use portable::PortableSocket as SystemSocket;
use socket::{Slots, Socket};

/// Two short reads closer together than this are followed by a rest of this length: at some thousand datagrams a second
/// that saves most of the wake-ups, which cost more than the reading. It delays a datagram by as much at most.
const COALESCE: Duration = Duration::from_millis(1);

/// How often the kernel is asked for its count of drops; the last ones of a burst come with no later datagram.
const KERNEL_DROPS_INTERVAL: Duration = Duration::from_secs(1);

/// The rest after an error that follows another.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// How long a receiver that is to stop goes on with what the kernel holds already.
const LAST_LOOK: Duration = Duration::from_millis(40);

/// How long the last batch waits for a place in the channel; a core that works off what is there needs less.
const LAST_BATCH: Duration = Duration::from_secs(1);

/// How datagrams are received.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` to listen on; `[::]:9997` is dual stack.
    pub endpoint: String,
    /// `SO_RCVBUF` to ask for, in bytes.
    pub receive_buffer: usize,
    /// A larger datagram is dropped, in bytes, 1 to 65,507.
    pub max_datagram_size: usize,
    /// Who may send; empty is anyone. Host names are resolved already.
    pub allowed_sources: Vec<IpNet>,
    /// Datagrams per second and source address; 0 is no limit.
    pub rate_limit_per_source: u32,
}

/// What a receiver did in its life, for whoever waits for its end: `received = handed_over + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams read from the sockets.
    pub received: u64,
    /// Datagrams in batches that went into the channel.
    pub handed_over: u64,
    /// Datagrams dropped, whatever the reason.
    pub dropped: u64,
    /// Datagrams that the kernel threw away before they could be read; not part of `received`.
    pub kernel_dropped: u64,
}

/// No socket was passed: only systemd does that.
///
/// # Errors
///
/// None.
#[cfg(not(target_os = "linux"))]
pub fn passed() -> Result<Option<Bound>, BindError> {
    Ok(None)
}

/// Receives until `stop` is true, on the calling thread and, where `bound` has several sockets, on one more for each.
///
/// Batches go into `batches`, which should have [`CHANNEL_BATCHES`] places; a receiver whose channel is closed goes on
/// reading and counts what nobody wants as dropped. Go on taking batches until this returns: the last one is dropped
/// if the channel has no place for it by then. `clock` is the wall clock, read once for each read of the socket.
/// Errors of the socket are reported and never end it. Returns within 200 ms of `stop` if batches are taken, and within
/// 1.2 s if they are not.
pub fn run<C>(
    bound: Bound,
    config: &Config,
    telemetry: &Telemetry,
    batches: &SyncSender<Batch>,
    stop: &AtomicBool,
    clock: C,
) -> Tally
where
    C: Fn() -> Timestamp + Sync,
{
    let asked = (!bound.passed).then_some(config.receive_buffer);
    telemetry.receive_buffer(asked, bound.receive_buffer);
    let passed = bound.passed;
    let serve = |socket| {
        let mut socket = SystemSocket::new(socket);
        if passed {
            telemetry.kernel_dropped_earlier(socket.leave_out_earlier_drops());
        }
        Receiver::new(socket, config, telemetry, batches, &clock).run(stop)
    };
    let mut sockets = bound.sockets.into_iter();
    let Some(first) = sockets.next() else { return Tally::default() };
    thread::scope(|scope| {
        let spawn = |socket| thread::Builder::new().name("receiver".to_owned()).spawn_scoped(scope, || serve(socket));
        let others: Vec<_> = sockets.map(spawn).collect();
        let mut tally = serve(first);
        for other in others {
            match other {
                Ok(other) => tally = tally.plus(other.join().unwrap_or_default()),
                Err(error) => telemetry.receive_failed(&error),
            }
        }
        tally
    })
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            handed_over: self.handed_over + other.handed_over,
            dropped: self.dropped + other.dropped,
            kernel_dropped: self.kernel_dropped + other.kernel_dropped,
        }
    }
}

/// One socket's receiver.
struct Receiver<'a, S, C> {
    socket: S,
    slots: Slots,
    clock: C,
    admission: Admission,
    outlet: Outlet<'a>,
    telemetry: &'a Telemetry,
    /// The origin of the monotonic times below.
    began: Instant,
    last_arrival: Duration,
    kernel_drops_asked: Duration,
    failures_in_a_row: u32,
    heart: Heart,
    tally: Tally,
}

impl<'a, S: Socket, C: Fn() -> Timestamp> Receiver<'a, S, C> {
    fn new(socket: S, config: &Config, telemetry: &'a Telemetry, batches: &'a SyncSender<Batch>, clock: C) -> Self {
        Self {
            socket,
            slots: Slots::new(),
            clock,
            admission: Admission::new(config),
            outlet: Outlet::new(telemetry, batches),
            telemetry,
            began: Instant::now(),
            last_arrival: Duration::ZERO,
            kernel_drops_asked: Duration::ZERO,
            failures_in_a_row: 0,
            heart: telemetry.heart("receiver"),
            tally: Tally::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Tally {
        while !stop.load(Ordering::Relaxed) {
            self.heart.beat();
            self.turn();
        }
        self.finish()
    }

    /// One read and what follows from it.
    fn turn(&mut self) {
        // With a batch that the channel did not take there is something to come back to soon.
        let wait = self.outlet.is_empty();
        if self.read(wait) {
            return;
        }
        self.outlet.hand_over();
        if !self.outlet.is_empty() {
            thread::sleep(FULL_CHANNEL_PAUSE);
        } else if self.slots.len() > 0 {
            if self.began.elapsed().saturating_sub(self.last_arrival) < COALESCE {
                thread::sleep(COALESCE);
            }
            self.last_arrival = self.began.elapsed();
        }
    }

    /// Reads once and takes in what there is. Returns whether there may be more right now.
    fn read(&mut self, wait: bool) -> bool {
        let outcome = self.socket.read(wait, &mut self.slots);
        self.take_in();
        match outcome {
            Ok(()) => self.failures_in_a_row = 0,
            Err(error) => self.failed(&error),
        }
        let ask = self.began.elapsed().saturating_sub(self.kernel_drops_asked) >= KERNEL_DROPS_INTERVAL;
        self.count_kernel_drops(ask);
        self.slots.is_full()
    }

    fn take_in(&mut self) {
        if self.slots.len() == 0 {
            return;
        }
        self.tally.received += self.slots.len() as u64;
        self.telemetry.received(self.slots.len() as u64);
        let received = (self.clock)();
        let now = self.began.elapsed();
        let mut refused =
            [DropReason::DeniedSource, DropReason::RateLimited, DropReason::Oversize].map(|reason| (reason, 0, None));
        for (source, bytes) in self.slots.iter() {
            match self.admission.judge(source.ip(), bytes.len(), now) {
                Ok(()) => self.outlet.push(Datagram { received, source, bytes }),
                Err(reason) => {
                    for (_, count, sender) in refused.iter_mut().filter(|(known, ..)| *known == reason) {
                        *count += 1;
                        *sender = Some(source.ip());
                    }
                }
            }
        }
        for (reason, count, sender) in refused {
            self.outlet.dropped(reason, count, sender);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                self.failures_in_a_row = 0;
                return;
            }
            // Somebody's answer to a datagram that was never ours: we send none.
            ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused => {}
            _ => self.telemetry.receive_failed(error),
        }
        if self.failures_in_a_row > 0 {
            thread::sleep(ERROR_PAUSE);
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
    }

    fn count_kernel_drops(&mut self, ask: bool) {
        if ask {
            self.kernel_drops_asked = self.began.elapsed();
        }
        let drops = self.socket.kernel_drops(ask);
        if drops > 0 {
            self.tally.kernel_dropped += drops;
            self.telemetry.kernel_dropped(drops);
        }
    }

    /// What the kernel holds already was sent in time, so it is taken along; then the last batch.
    fn finish(mut self) -> Tally {
        let began = Instant::now();
        while self.read(false) && began.elapsed() < LAST_LOOK {}
        self.count_kernel_drops(true);
        let (handed_over, dropped) = self.outlet.finish(Instant::now() + LAST_BATCH);
        Tally { handed_over, dropped, ..self.tally }
    }
}

#[cfg(test)]
mod tests;
