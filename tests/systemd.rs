//! The real binary under a service manager, with this test in the place of systemd: it holds the socket, passes it on
//! as `LISTEN_FDS` says, and listens where `NOTIFY_SOCKET` says.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a broken test fixture fails the test")]

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use sense_otel::signal::Signal;
use tempfile::TempDir;

use support::collector::Collector;

mod support;

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// The receiver with what it is given: a folder, a collector, and passed descriptors.
struct Stand {
    folder: TempDir,
    collector: Collector,
}

impl Stand {
    fn new() -> Self {
        let stand = Self { folder: tempfile::tempdir().expect("a folder"), collector: Collector::start() };
        // Whoever binds this endpoint fails: a passed socket is used in its place, and its buffer is as it is.
        stand.configure("192.0.2.1:9997");
        stand
    }

    fn configure(&self, endpoint: &str) {
        let text = format!(
            "receiver: {{ udp: {{ endpoint: \"{endpoint}\", receive_buffer: 64KiB }} }}\n\
             exporter: {{ endpoint: \"http://{}\", signals: [logs] }}\n\
             store: {{ directory: '{}' }}\n",
            self.collector.addr(),
            self.folder.path().join("data").display()
        );
        fs::write(self.config(), text).expect("a file");
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("sense-otel.yaml")
    }

    /// The command that runs it with `descriptors` at 3 and 4, and `LISTEN_FDS` as told. The descriptors come in by way
    /// of the standard streams, from where a shell moves them: `LISTEN_PID` is only known to who becomes the receiver.
    fn command(&self, descriptors: Vec<OwnedFd>, listen_fds: &str) -> Command {
        let mut command = Command::new("sh");
        let moves = ["", "exec 3<&0 0</dev/null;", "exec 3<&0 4<&1 0</dev/null 1>/dev/null;"][descriptors.len()];
        command.arg("-c").arg(format!("{moves} LISTEN_PID=$$ {listen_fds} exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_sense-otel")).arg("run").arg("--config").arg(self.config());
        command.env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut descriptors = descriptors.into_iter();
        if let Some(first) = descriptors.next() {
            command.stdin(first);
        }
        if let Some(second) = descriptors.next() {
            command.stdout(second);
        }
        command
    }

    fn start(&self, sockets: &[&UdpSocket]) -> Receiver {
        let listen_fds = format!("LISTEN_FDS={} LISTEN_FDNAMES=events", sockets.len());
        let descriptors = sockets.iter().map(|socket| socket.try_clone().expect("a copy").into()).collect();
        Receiver(Some(self.command(descriptors, &listen_fds).spawn().expect("the binary runs")))
    }

    /// What it says when it is expected to end by itself.
    fn refusal(&self, descriptors: Vec<OwnedFd>, listen_fds: &str) -> String {
        let output = self.command(descriptors, listen_fds).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// The user of each log record that has arrived.
    fn arrived(&self) -> Vec<String> {
        let mut users = Vec::new();
        for call in self.collector.accepted(Signal::Logs) {
            let request = ExportLogsServiceRequest::decode(call.body).expect("a request");
            let records = request.resource_logs.into_iter().flat_map(|each| each.scope_logs);
            for record in records.flat_map(|each| each.log_records) {
                let user = record.attributes.into_iter().find(|attribute| attribute.key == "user.name");
                let value = user.and_then(|attribute| attribute.value?.value);
                if let Some(Value::StringValue(user)) = value {
                    users.push(user);
                }
            }
        }
        users
    }

    /// Waits until so many records have arrived, and checks that no event is there twice.
    fn expect(&self, count: usize) {
        until("all events", || (self.arrived().len() >= count).then_some(()));
        let arrived = self.arrived();
        let different: HashSet<_> = arrived.iter().collect();
        assert_eq!((arrived.len(), different.len()), (count, count));
    }
}

/// A process that ends with the test.
struct Receiver(Option<Child>);

impl Receiver {
    /// Asks it to stop, waits for the end, and returns what it said.
    fn stop(mut self) -> String {
        let child = self.0.take().expect("a process");
        terminate(child.id());
        let began = Instant::now();
        let Output { status, stderr, .. } = child.wait_with_output().expect("an end");
        let said = String::from_utf8(stderr).expect("text");
        assert!(status.success(), "{status}: {said}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}: {said}", began.elapsed());
        said
    }

    fn id(&self) -> u32 {
        self.0.as_ref().expect("a process").id()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn terminate(process: u32) {
    signal(process, "TERM");
}

fn signal(process: u32, name: &str) {
    let done = Command::new("sh").arg("-c").arg(format!("kill -{name} {process}")).status().expect("a shell");
    assert!(done.success(), "{name}");
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The socket of a `.socket` unit: nobody has to run for it to take datagrams.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("a buffer");
    // Ours to find out that nothing depends on how the service manager left it.
    socket.set_nonblocking(true).expect("a socket option");
    socket
}

fn sender_to(address: SocketAddr) -> UdpSocket {
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    sender.connect(address).expect("a destination");
    sender
}

/// Events of users with these numbers, who are all different.
fn send(sender: &UdpSocket, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let text = format!("/qseow-proxy-session/;host1;Start session;LAB;user{number};Not available;;");
        sender.send(text.as_bytes()).expect("loopback takes datagrams");
    }
}

#[test]
fn what_was_sent_while_nobody_ran_is_received_after_the_start() {
    let (stand, socket) = (Stand::new(), socket());
    let sender = sender_to(socket.local_addr().expect("an address"));
    send(&sender, 0..500);
    let receiver = stand.start(&[&socket]);
    stand.expect(500);
    let said = receiver.stop();
    assert!(said.contains("the service manager passed the socket"), "{said}");
    assert!(said.contains(&format!("address={}", socket.local_addr().expect("an address"))), "{said}");
    assert!(said.contains("chosen by the service manager, which holds about "), "{said}");

    // Again and again: the socket is the same, and each process finds what came while there was none.
    send(&sender, 500..800);
    let receiver = stand.start(&[&socket]);
    stand.expect(800);
    let said = receiver.stop();
    assert!(!said.contains("dropped"), "{said}");
}

#[test]
fn restarts_under_load_lose_nothing() {
    let (stand, socket) = (Stand::new(), socket());
    let sender = sender_to(socket.local_addr().expect("an address"));
    let enough = AtomicBool::new(false);
    let (sent, receiver) = thread::scope(|scope| {
        // About 1,000 a second, for as long as the restarts last.
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !enough.load(Ordering::Relaxed) {
                send(&sender, sent..sent + 10);
                sent += 10;
                thread::sleep(Duration::from_millis(10));
            }
            sent
        });
        let start = || {
            let before = stand.arrived().len();
            let receiver = stand.start(&[&socket]);
            until("more events", || (stand.arrived().len() > before + 100).then_some(()));
            receiver
        };
        for _ in 0..3 {
            start().stop();
        }
        // The last one has something to do too: it must not be told to stop before it listens to that.
        let last = start();
        enough.store(true, Ordering::Relaxed);
        (sending.join().expect("a count"), last)
    });
    stand.expect(sent);
    let said = receiver.stop();
    assert!(!said.contains("dropped"), "{said}");
}

#[test]
fn several_sockets_are_all_received_on() {
    let (stand, first, second) = (Stand::new(), socket(), socket());
    let receiver = stand.start(&[&first, &second]);
    send(&sender_to(first.local_addr().expect("an address")), 0..100);
    send(&sender_to(second.local_addr().expect("an address")), 100..200);
    stand.expect(200);
    assert_eq!(receiver.stop().matches("listening (UDP)").count(), 2);
}

#[test]
fn drops_of_earlier_lives_are_told_and_not_counted_as_ours() {
    let (stand, socket) = (Stand::new(), socket());
    socket2::SockRef::from(&socket).set_recv_buffer_size(4096).expect("a buffer");
    let sender = sender_to(socket.local_addr().expect("an address"));
    send(&sender, 0..200);
    let receiver = stand.start(&[&socket]);
    until("some events", || (!stand.arrived().is_empty()).then_some(()));
    // These bring the kernel's count along.
    for number in 200..210 {
        let before = stand.arrived().len();
        send(&sender, number..number + 1);
        until("one more event", || (stand.arrived().len() > before).then_some(()));
    }
    let said = receiver.stop();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("dropped datagrams")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("before this start"), "{said}");
}

#[test]
fn what_is_no_udp_socket_is_an_error_that_says_which_and_what_to_do() {
    let stand = Stand::new();
    let listener: OwnedFd = TcpListener::bind("127.0.0.1:0").expect("a free port").into();
    let path = stand.folder.path().join("datagrams");
    let unix: OwnedFd = UnixDatagram::bind(path).expect("a socket").into();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket").into();
    let file: OwnedFd = fs::File::open("/dev/null").expect("a file").into();
    for wrong in [listener, unix, unbound, file] {
        let said = stand.refusal(vec![wrong], "LISTEN_FDS=1");
        assert!(said.starts_with("error: cannot start: cannot listen for datagrams: file descriptor 3"), "{said}");
        assert!(said.contains("ListenDatagram="), "{said}");
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port").into();
    let said = stand.refusal(vec![socket().into(), tcp], "LISTEN_FDS=2");
    assert!(said.contains("file descriptor 4"), "{said}");
    let said = stand.refusal(Vec::new(), "LISTEN_FDS=1");
    assert!(said.contains("file descriptor 3"), "{said}");
    for count in ["-1", "65", "2000000000"] {
        let said = stand.refusal(Vec::new(), &format!("LISTEN_FDS={count}"));
        assert!(said.contains(&format!("LISTEN_FDS={count} is no number of sockets")), "{said}");
    }
}

#[test]
fn without_passed_sockets_it_binds_as_configured() {
    let stand = Stand::new();
    // That endpoint cannot be bound, which shows that it was tried. Sockets for another process are none for us.
    for listen_fds in ["", "LISTEN_FDS=0", "LISTEN_PID=1 LISTEN_FDS=1"] {
        let said = stand.refusal(vec![socket().into()], listen_fds);
        assert!(said.contains("192.0.2.1:9997 is no address of this machine"), "{listen_fds}: {said}");
    }
}

#[test]
fn the_service_manager_is_told_of_readiness_life_and_stop() {
    let (stand, socket) = (Stand::new(), socket());
    let path = stand.folder.path().join("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    let listen: Vec<OwnedFd> = vec![socket.try_clone().expect("a copy").into()];
    let mut command = stand.command(listen, "WATCHDOG_PID=$$ LISTEN_FDS=1");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let receiver = Receiver(Some(command.spawn().expect("the binary runs")));

    let ready = message(&notify, PATIENCE).expect("a message");
    let address = socket.local_addr().expect("an address");
    assert_eq!(ready, format!("READY=1\nSTATUS=receiving at {address} (UDP)\n"));
    // Within the interval, each time, with as much delay as a busy machine may add.
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(message(&notify, PATIENCE).expect("a message"), "WATCHDOG=1\n");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    // A process that does not run gives no sign of life.
    signal(receiver.id(), "STOP");
    while message(&notify, Duration::from_millis(200)).is_ok() {}
    assert_eq!(message(&notify, Duration::from_secs(3)).expect_err("silence").kind(), ErrorKind::WouldBlock);
    signal(receiver.id(), "CONT");
    assert_eq!(message(&notify, PATIENCE).expect("a message"), "WATCHDOG=1\n");

    receiver.stop();
    let rest: Vec<_> = std::iter::from_fn(|| message(&notify, Duration::from_millis(100)).ok()).collect();
    let last = rest.last().expect("a message");
    assert_eq!(last, "STOPPING=1\nSTATUS=sending what is left\n", "{rest:?}");
}

#[test]
fn no_sign_of_life_is_given_that_nobody_waits_for_and_none_is_missed() {
    let stand = Stand::new();
    stand.configure("127.0.0.1:0");
    let path = stand.folder.path().join("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    // The watchdog of another process.
    let mut command = stand.command(Vec::new(), "WATCHDOG_PID=1");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let receiver = Receiver(Some(command.spawn().expect("the binary runs")));
    assert!(message(&notify, PATIENCE).expect("a message").starts_with("READY=1\n"));
    assert_eq!(message(&notify, Duration::from_millis(300)).expect_err("silence").kind(), ErrorKind::WouldBlock);
    receiver.stop();

    // A manager that is gone is no reason to fail.
    let socket = socket();
    let mut command = stand.command(vec![socket.try_clone().expect("a copy").into()], "LISTEN_FDS=1");
    command.env("NOTIFY_SOCKET", Path::new("/no/such/socket")).env("WATCHDOG_USEC", "20000");
    let receiver = Receiver(Some(command.spawn().expect("the binary runs")));
    send(&sender_to(socket.local_addr().expect("an address")), 0..1);
    stand.expect(1);
    let said = receiver.stop();
    assert_eq!(said.matches("NOTIFY_SOCKET").count(), 1, "{said}");
}

#[test]
fn passed_sockets_are_closed_in_children() {
    let (stand, socket) = (Stand::new(), socket());
    let receiver = stand.start(&[&socket]);
    send(&sender_to(socket.local_addr().expect("an address")), 0..1);
    stand.expect(1);
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/3", receiver.id())).expect("the descriptor");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    let flags = u32::from_str_radix(flags, 8).expect("octal digits");
    assert_eq!(flags & 0o2_000_000, 0o2_000_000, "close-on-exec of {info}");
    receiver.stop();
}

fn message(socket: &UnixDatagram, within: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(within)).expect("a socket option");
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
