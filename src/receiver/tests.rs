//! The loop over a scripted socket, where the real one cannot be made to fail; `tests/receiver.rs` has the real ones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver as Batches, sync_channel};

use super::portable::PortableSocket;
use super::socket::READ_MAX;
use super::*;

/// What a scripted socket does at one read.
enum Step {
    Datagrams(usize),
    Drops(u64),
    Fails(ErrorKind),
}

/// Plays its steps, numbers its datagrams, and says stop when it has nothing left.
struct Scripted<'a> {
    steps: VecDeque<Step>,
    next: usize,
    drops: u64,
    stop: &'a AtomicBool,
}

impl Socket for Scripted<'_> {
    fn read(&mut self, _wait: bool, slots: &mut Slots) -> io::Result<()> {
        slots.clear();
        match self.steps.pop_front() {
            Some(Step::Datagrams(count)) => {
                for _ in 0..count {
                    let text = self.next.to_string();
                    slots.free().next().expect("a free slot")[..text.len()].copy_from_slice(text.as_bytes());
                    slots.push(SocketAddr::from(([127, 0, 0, 1], 4000)), text.len());
                    self.next += 1;
                }
                Ok(())
            }
            Some(Step::Drops(drops)) => {
                self.drops += drops;
                Err(ErrorKind::WouldBlock.into())
            }
            Some(Step::Fails(kind)) => Err(kind.into()),
            None => {
                self.stop.store(true, Ordering::Relaxed);
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }

    fn kernel_drops(&mut self, _ask: bool) -> u64 {
        std::mem::take(&mut self.drops)
    }
}

fn config() -> Config {
    Config {
        endpoint: "127.0.0.1:0".to_owned(),
        receive_buffer: 1 << 20,
        max_datagram_size: 65_507,
        allowed_sources: Vec::new(),
        rate_limit_per_source: 0,
    }
}

fn play(steps: impl IntoIterator<Item = Step>, config: &Config, batches: &SyncSender<Batch>) -> Tally {
    let stop = AtomicBool::new(false);
    let socket = Scripted { steps: steps.into_iter().collect(), next: 0, drops: 0, stop: &stop };
    Receiver::new(socket, config, &Telemetry::default(), batches, || Timestamp::EPOCH).run(&stop)
}

fn numbers(batches: &Batches<Batch>) -> Vec<usize> {
    let texts = |batch: Batch| batch.iter().map(|datagram| datagram.bytes.to_vec()).collect::<Vec<_>>();
    let parse = |text: Vec<u8>| String::from_utf8(text).expect("digits").parse().expect("a number");
    batches.try_iter().flat_map(texts).map(parse).collect()
}

#[test]
fn no_error_ends_it() {
    let (sender, batches) = sync_channel(CHANNEL_BATCHES);
    let errors = [
        ErrorKind::Other,
        ErrorKind::PermissionDenied,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionRefused,
        ErrorKind::Interrupted,
        ErrorKind::OutOfMemory,
        ErrorKind::NotConnected,
    ];
    let steps = errors.into_iter().flat_map(|kind| [Step::Fails(kind), Step::Fails(kind), Step::Datagrams(1)]);
    let tally = play(steps, &config(), &sender);
    assert_eq!(numbers(&batches), (0..errors.len()).collect::<Vec<_>>());
    assert_eq!(tally.received, errors.len() as u64);
}

#[test]
fn errors_in_a_row_are_not_spun_upon() {
    let (sender, _batches) = sync_channel(CHANNEL_BATCHES);
    let began = Instant::now();
    play((0..11).map(|_| Step::Fails(ErrorKind::Other)), &config(), &sender);
    assert!(began.elapsed() >= ERROR_PAUSE * 10);
}

#[test]
fn a_full_read_waits_for_more_and_a_short_one_is_handed_over() {
    let (sender, batches) = sync_channel(CHANNEL_BATCHES);
    play(
        [Step::Datagrams(READ_MAX), Step::Datagrams(READ_MAX), Step::Datagrams(1), Step::Datagrams(2)],
        &config(),
        &sender,
    );
    let lengths: Vec<_> = batches.try_iter().map(|batch| batch.len()).collect();
    assert_eq!(lengths, [2 * READ_MAX + 1, 2]);
}

#[test]
fn a_full_channel_costs_nothing_until_the_batch_is_full_too() {
    let (sender, batches) = sync_channel(1);
    let full_reads = BATCH_DATAGRAMS_MAX / READ_MAX;
    // One batch fills the channel; the next goes on filling although it could have been handed over each time.
    let steps = std::iter::once(Step::Datagrams(1))
        .chain((0..full_reads).map(|_| Step::Datagrams(READ_MAX)))
        .chain([Step::Datagrams(0), Step::Datagrams(3)]);
    let tally = play(steps, &config(), &sender);
    let received = 1 + BATCH_DATAGRAMS_MAX as u64 + 3;
    // At the fourth thousandth and some the full batch was dropped whole; the last three found no place at the end.
    assert_eq!(tally, Tally { received, handed_over: 1, dropped: received - 1, kernel_dropped: 0 });
    assert_eq!(numbers(&batches), [0]);
}

#[test]
fn a_closed_channel_is_counted_and_survived() {
    let (sender, batches) = sync_channel(1);
    drop(batches);
    let tally = play((0..200).map(|_| Step::Datagrams(READ_MAX)), &config(), &sender);
    assert_eq!((tally.received, tally.handed_over, tally.dropped), (12_800, 0, 12_800));
}

#[test]
fn drops_of_the_kernel_are_added_up() {
    let (sender, _batches) = sync_channel(1);
    let tally = play([Step::Drops(3), Step::Datagrams(1), Step::Drops(4)], &config(), &sender);
    assert_eq!(tally, Tally { received: 1, handed_over: 1, dropped: 0, kernel_dropped: 7 });
}

#[test]
fn the_portable_socket_serves_the_same_loop() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(socket::RECEIVE_TIMEOUT)).expect("a timeout");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (channel, batches) = sync_channel(CHANNEL_BATCHES);
    let (telemetry, stop) = (Telemetry::default(), AtomicBool::new(true));
    for number in 0..200 {
        let target = socket.local_addr().expect("an address");
        sender.send_to(number.to_string().as_bytes(), target).expect("a datagram on its way");
    }
    let receiver = Receiver::new(PortableSocket::new(socket), &config(), &telemetry, &channel, || Timestamp::EPOCH);
    assert_eq!(receiver.run(&stop), Tally { received: 200, handed_over: 200, dropped: 0, kernel_dropped: 0 });
    assert_eq!(numbers(&batches), (0..200).collect::<Vec<_>>());
}
