//! The receiver on real sockets: nothing is lost without being counted, whoever sends and however much.

#![expect(clippy::expect_used, reason = "a test that cannot set its scene has to fail")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sense_otel::receiver::{self, BATCH_DATAGRAMS_MAX, Batch, BindError, Bound, CHANNEL_BATCHES, Config, Tally};
use sense_otel::telemetry::Telemetry;
use sense_otel::time::Timestamp;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// One datagram, out of its batch.
#[derive(Debug, PartialEq, Eq)]
struct Owned {
    received: Timestamp,
    source: SocketAddr,
    bytes: Vec<u8>,
}

/// A running receiver and its channel.
struct Running {
    addresses: Vec<SocketAddr>,
    batches: Receiver<Batch>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl Running {
    fn start(config: &Config) -> Self {
        Self::start_bound(receiver::bind(config).expect("a free port"), config, CHANNEL_BATCHES)
    }

    /// The clock counts its readings, so that a later read has a later time.
    fn start_bound(bound: Bound, config: &Config, places: usize) -> Self {
        let addresses = bound.local_addresses();
        let (sender, batches) = sync_channel(places);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (config, stop) = (config.clone(), Arc::clone(&stop));
            move || {
                let readings = AtomicU64::new(1_000);
                let clock = || Timestamp::from_nanos(readings.fetch_add(1, Ordering::Relaxed));
                receiver::run(bound, &config, &Telemetry::default(), &sender, &stop, clock)
            }
        });
        Self { addresses, batches, stop, thread }
    }

    fn take(&self, count: usize) -> Vec<Owned> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        while taken.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let batch = self.batches.recv_timeout(left).expect("more datagrams");
            taken.extend(owned(&batch));
        }
        taken
    }

    /// Stops it and returns what it did, what was left in the channel, and how long stopping took.
    fn stop(self) -> (Tally, Vec<Owned>, Duration) {
        let began = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let tally = self.thread.join().expect("no panic");
        let took = began.elapsed();
        (tally, self.batches.try_iter().flat_map(|batch| owned(&batch)).collect(), took)
    }
}

fn owned(batch: &Batch) -> Vec<Owned> {
    assert!(!batch.is_empty(), "an empty batch is never handed over");
    let own = |datagram: sense_otel::event::Datagram<'_>| Owned {
        received: datagram.received,
        source: datagram.source,
        bytes: datagram.bytes.to_vec(),
    };
    batch.iter().map(own).collect()
}

fn config(endpoint: &str) -> Config {
    Config {
        endpoint: endpoint.to_owned(),
        receive_buffer: 4 << 20,
        max_datagram_size: 65_507,
        allowed_sources: Vec::new(),
        rate_limit_per_source: 0,
    }
}

fn sender_to(target: SocketAddr) -> UdpSocket {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let socket = UdpSocket::bind((any, 0)).expect("a free port");
    socket.connect(target).expect("a destination");
    socket
}

fn send_numbered(socket: &UdpSocket, numbers: std::ops::Range<usize>) {
    for number in numbers {
        socket.send(number.to_string().as_bytes()).expect("a datagram on its way");
    }
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

#[test]
fn all_arrive_in_order_with_their_source_and_a_time() {
    let running = Running::start(&config("127.0.0.1:0"));
    let sender = sender_to(running.addresses[0]);
    send_numbered(&sender, 0..5_000);
    let taken = running.take(5_000);
    for (number, datagram) in taken.iter().enumerate() {
        assert_eq!(datagram.bytes, number.to_string().as_bytes());
        assert_eq!(datagram.source, sender.local_addr().expect("an address"));
    }
    assert!(taken[0].received >= Timestamp::from_nanos(1_000));
    assert!(taken.is_sorted_by_key(|datagram| datagram.received));
    let (tally, rest, _) = running.stop();
    assert!(rest.is_empty());
    assert_eq!(tally, Tally { received: 5_000, handed_over: 5_000, dropped: 0, kernel_dropped: 0 });
}

#[test]
fn an_empty_datagram_and_the_largest_arrive_as_they_are() {
    let running = Running::start(&config("127.0.0.1:0"));
    let sender = sender_to(running.addresses[0]);
    let largest: Vec<u8> = (0..65_507_u32).map(|position| (position % 251) as u8).collect();
    for bytes in [b"".as_slice(), &largest, b"\0\xff"] {
        sender.send(bytes).expect("a datagram on its way");
    }
    let taken: Vec<_> = running.take(3).into_iter().map(|datagram| datagram.bytes).collect();
    assert_eq!(taken, [b"".to_vec(), largest, b"\0\xff".to_vec()]);
    running.stop();
}

#[test]
fn a_lone_datagram_does_not_wait_for_company() {
    let running = Running::start(&config("127.0.0.1:0"));
    let sender = sender_to(running.addresses[0]);
    // The best of many: one may meet a busy machine, a rule would meet them all.
    let fastest = (0..50).map(|number| {
        let began = Instant::now();
        send_numbered(&sender, number..number + 1);
        running.take(1);
        began.elapsed()
    });
    assert!(fastest.min().expect("fifty") < Duration::from_millis(5));
    running.stop();
}

#[test]
fn localhost_receives_on_every_loopback_address_at_one_port() {
    let running = Running::start(&config("localhost:0"));
    let ports: Vec<_> = running.addresses.iter().map(SocketAddr::port).collect();
    assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "{ports:?}");
    assert!(running.addresses.iter().all(|address| address.ip().is_loopback()));
    for (number, target) in running.addresses.iter().enumerate() {
        let sender = sender_to(*target);
        send_numbered(&sender, number..number + 1);
        assert_eq!(running.take(1)[0].source, sender.local_addr().expect("an address"));
    }
    let sent = running.addresses.len() as u64;
    let (tally, ..) = running.stop();
    assert_eq!(tally, Tally { received: sent, handed_over: sent, dropped: 0, kernel_dropped: 0 });
}

#[test]
fn the_unspecified_ipv6_address_is_dual_stack() {
    let bound = receiver::bind(&config("[::]:0")).expect("a free port");
    assert_eq!(bound.fell_back_to_ipv4(), !has_ipv6());
    let port = bound.local_addresses()[0].port();
    let running = Running::start_bound(bound, &config("[::]:0"), CHANNEL_BATCHES);

    let over_v4 = sender_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    send_numbered(&over_v4, 0..1);
    // An IPv4 sender is told as IPv4, not in its mapped form.
    assert_eq!(running.take(1)[0].source, over_v4.local_addr().expect("an address"));
    if has_ipv6() {
        let over_v6 = sender_to(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        send_numbered(&over_v6, 0..1);
        assert_eq!(running.take(1)[0].source, over_v6.local_addr().expect("an address"));
    }
    running.stop();
}

#[test]
fn oversized_denied_and_limited_datagrams_are_counted_and_kept_out() {
    let oversize = Config { max_datagram_size: 10, ..config("127.0.0.1:0") };
    let running = Running::start(&oversize);
    let sender = sender_to(running.addresses[0]);
    for text in ["0123456789", "0123456789A", "short"] {
        sender.send(text.as_bytes()).expect("a datagram on its way");
    }
    assert_eq!(running.take(2).len(), 2);
    assert_eq!(running.stop().0, Tally { received: 3, handed_over: 2, dropped: 1, kernel_dropped: 0 });

    let denied = Config { allowed_sources: vec!["10.0.0.0/8".parse().expect("a network")], ..config("127.0.0.1:0") };
    assert_eq!(tally_of(&denied, 100), Tally { received: 100, handed_over: 0, dropped: 100, kernel_dropped: 0 });
    let allowed = Config { allowed_sources: vec!["127.0.0.0/8".parse().expect("a network")], ..config("127.0.0.1:0") };
    assert_eq!(tally_of(&allowed, 100), Tally { received: 100, handed_over: 100, dropped: 0, kernel_dropped: 0 });

    // One second's allowance at once, and at the most one more for each second that the test takes.
    let began = Instant::now();
    let limited = tally_of(&Config { rate_limit_per_source: 7, ..config("127.0.0.1:0") }, 100);
    let most = 7 + 7 * (began.elapsed().as_secs() + 1);
    assert!((7..=most).contains(&limited.handed_over), "{limited:?}");
    assert_eq!((limited.received, limited.handed_over + limited.dropped), (100, 100));
}

/// What becomes of `count` datagrams that are in the socket before the receiver runs, and after it is told to stop.
fn tally_of(config: &Config, count: usize) -> Tally {
    let bound = receiver::bind(config).expect("a free port");
    let sender = sender_to(bound.local_addresses()[0]);
    send_numbered(&sender, 0..count);
    Running::start_bound(bound, config, CHANNEL_BATCHES).stop().0
}

#[test]
fn a_full_channel_drops_whole_batches_and_counts_them() {
    let config = config("127.0.0.1:0");
    let bound = receiver::bind(&config).expect("a free port");
    let sender = sender_to(bound.local_addresses()[0]);
    let running = Running::start_bound(bound, &config, 1);
    // More than the channel and the batch being filled can hold, with nobody at the other end, in portions that the
    // kernel's buffer holds on its own.
    let sent = 3 * BATCH_DATAGRAMS_MAX;
    for first in (0..sent).step_by(512) {
        send_numbered(&sender, first..first + 512);
        std::thread::sleep(Duration::from_millis(2));
    }
    let (tally, left, _) = running.stop();
    assert_eq!(tally.received + tally.kernel_dropped, sent as u64);
    assert_eq!(tally.received, tally.handed_over + tally.dropped);
    assert_eq!(tally.handed_over, left.len() as u64);
    assert!(tally.dropped >= BATCH_DATAGRAMS_MAX as u64, "{tally:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_kernel_drops_is_counted_exactly() {
    let config = Config { receive_buffer: 4096, ..config("127.0.0.1:0") };
    let bound = receiver::bind(&config).expect("a free port");
    assert_eq!(bound.receive_buffer(), 4096);
    let sender = sender_to(bound.local_addresses()[0]);
    // Nobody reads yet: the buffer overflows.
    send_numbered(&sender, 0..1_000);
    let running = Running::start_bound(bound, &config, CHANNEL_BATCHES);
    let mut taken = running.take(1);
    assert_eq!(taken[0].bytes, b"0");
    // Each of the next datagrams brings the count with it: the first news, the others what is known.
    for number in 1_000..1_020 {
        send_numbered(&sender, number..number + 1);
        taken.extend(running.take(1));
    }
    let (tally, rest, _) = running.stop();
    assert!(rest.is_empty());
    assert!(tally.kernel_dropped > 900, "{tally:?}");
    assert_eq!(tally.received + tally.kernel_dropped, 1_020);
    assert_eq!((tally.dropped, tally.received), (0, taken.len() as u64));
}

#[cfg(target_os = "linux")]
#[test]
fn drops_without_a_later_datagram_are_counted_too() {
    let config = Config { receive_buffer: 4096, ..config("127.0.0.1:0") };
    let tally = tally_of(&config, 500);
    assert!(tally.kernel_dropped > 400, "{tally:?}");
    assert_eq!(tally.received + tally.kernel_dropped, 500);
}

#[test]
fn it_stops_soon_whether_idle_or_stuck() {
    let idle = || Running::start(&config("127.0.0.1:0")).stop().2;
    let stuck = || {
        let config = config("127.0.0.1:0");
        let bound = receiver::bind(&config).expect("a free port");
        let sender = sender_to(bound.local_addresses()[0]);
        let running = Running::start_bound(bound, &config, 1);
        for number in 0..10 {
            send_numbered(&sender, number..number + 1);
            std::thread::sleep(Duration::from_millis(2));
        }
        let (tally, _, took) = running.stop();
        assert_eq!((tally.received, tally.handed_over + tally.dropped), (10, 10));
        took
    };
    // The best of three, because the machine may be busy with other things.
    let idle = (0..3).map(|_| idle()).min().expect("three");
    let stuck = (0..3).map(|_| stuck()).min().expect("three");
    assert!(idle < Duration::from_millis(200) && stuck < Duration::from_millis(1200), "{idle:?} {stuck:?}");
}

#[test]
fn nothing_is_ever_answered() {
    let running = Running::start(&Config { max_datagram_size: 4, ..config("127.0.0.1:0") });
    let sender = sender_to(running.addresses[0]);
    for bytes in [b"ok".as_slice(), b"too large", b""] {
        sender.send(bytes).expect("a datagram on its way");
    }
    running.take(2);
    running.stop();
    sender.set_nonblocking(true).expect("a socket option");
    let answer = sender.recv(&mut [0; 64]).expect_err("no answer");
    assert_eq!(answer.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_endpoint_that_cannot_be_had_says_why_and_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let in_use = receiver::bind(&config(&address.to_string())).expect_err("in use");
    assert!(matches!(in_use, BindError::AddressInUse { address: named } if named == address), "{in_use}");
    assert!(in_use.to_string().contains("Butler SOS"));

    // An address of TEST-NET-1, which no machine has.
    let foreign = receiver::bind(&config("192.0.2.1:9997")).expect_err("not ours");
    assert!(matches!(foreign, BindError::NotLocal { .. }), "{foreign}");

    for endpoint in ["no-such-host.invalid:9997", "9997", "[::]", "localhost:port"] {
        let unresolvable = receiver::bind(&config(endpoint)).expect_err("no address");
        assert!(matches!(unresolvable, BindError::Unresolvable { .. }), "{endpoint}: {unresolvable}");
        assert!(unresolvable.to_string().contains(endpoint));
    }
}
