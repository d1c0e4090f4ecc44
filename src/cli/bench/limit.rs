//! The machine's own limit: a receiver that only counts, in a process of its own like the one that is measured.
//!
//! It reads datagrams as fast as the system gives them, and looks at nothing of them but their last bytes, which say when
//! they were sent. What sender and system need is in its figures, and nothing else.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use super::latencies::{Latencies, Percentiles};
use super::sender::STAMP_BYTES;
use super::{BenchError, RECEIVE_BUFFER};
use crate::pipeline::clock::wall;
use crate::receiver::{self, bind};
use crate::time::Timestamp;

/// More than any datagram of the load has.
const SLOT_BYTES: usize = 2048;
/// Datagrams that one read takes at most, as many as the real receiver takes.
const READ_MAX: usize = if cfg!(target_os = "linux") { 64 } else { 1 };

/// What the counting process counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) received: u64,
    pub(super) latency: Percentiles,
}

/// The counting process, from outside.
#[derive(Debug)]
pub(super) struct Limit {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Limit {
    /// Starts it.
    pub(super) fn start() -> Result<Self, BenchError> {
        let executable = std::env::current_exe().map_err(BenchError::Start)?;
        let mut command = Command::new(executable);
        command.args(["bench", "--count-only"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(BenchError::Start)?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or(BenchError::LimitEnded)?);
        let mut limit = Self { child, questions, answers, address: ([127, 0, 0, 1], 0).into() };
        limit.address = limit.answer()?;
        Ok(limit)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it counted since it was last asked; it answers when nothing more comes.
    pub(super) fn ask(&mut self) -> Result<Counted, BenchError> {
        let questions = self.questions.as_mut().ok_or(BenchError::LimitEnded)?;
        questions.write_all(b"\n").and_then(|()| questions.flush()).map_err(|_| BenchError::LimitEnded)?;
        self.answer()
    }

    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T, BenchError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|_| BenchError::LimitEnded)?;
        serde_json::from_str(&line).map_err(|_| BenchError::LimitEnded)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // The end of the questions is the end of the process.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

/// What was read at once.
#[derive(Debug)]
struct Reading {
    socket: UdpSocket,
    buffer: Vec<u8>,
    lengths: Vec<usize>,
}

impl Reading {
    fn new(socket: UdpSocket) -> Self {
        Self { socket, buffer: vec![0; SLOT_BYTES * READ_MAX], lengths: Vec::with_capacity(READ_MAX) }
    }

    /// Reads what there is, after a wait of a tenth of a second at most. Nothing is no failure.
    fn read(&mut self) -> io::Result<()> {
        self.lengths.clear();
        match self.receive() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    #[cfg(target_os = "linux")]
    fn receive(&mut self) -> io::Result<()> {
        use std::io::IoSliceMut;
        use std::os::fd::AsRawFd;

        use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(READ_MAX, None);
        let mut slots: Vec<_> = self.buffer.chunks_exact_mut(SLOT_BYTES).map(|slot| [IoSliceMut::new(slot)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let messages = recvmmsg(self.socket.as_raw_fd(), &mut headers, slots.iter_mut(), flags, None)?;
        self.lengths.extend(messages.map(|message| message.bytes));
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn receive(&mut self) -> io::Result<()> {
        let length = self.socket.recv(&mut self.buffer)?;
        self.lengths.push(length);
        Ok(())
    }

    /// When each of them was sent.
    fn stamps(&self) -> impl Iterator<Item = Timestamp> {
        let slots = self.buffer.chunks_exact(SLOT_BYTES).zip(&self.lengths);
        slots.filter_map(|(slot, length)| {
            let stamp = slot.get(..*length)?.last_chunk::<STAMP_BYTES>()?;
            Some(Timestamp::from_nanos(u64::from_le_bytes(*stamp)))
        })
    }
}

/// Counts what arrives on a free port, which it tells first, until the standard input ends. Each line there asks for what
/// was counted since the line before.
pub(super) fn count_until_told() -> ExitCode {
    match count() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::cli::report(&*error),
    }
}

fn count() -> Result<(), Box<dyn std::error::Error>> {
    let config = receiver::Config {
        endpoint: "127.0.0.1:0".to_owned(),
        receive_buffer: RECEIVE_BUFFER,
        max_datagram_size: SLOT_BYTES,
        allowed_sources: Vec::new(),
        rate_limit_per_source: 0,
    };
    let bound = bind(&config)?;
    say(&bound.local_addresses().first())?;
    let socket = bound.into_sockets().pop().ok_or(ErrorKind::AddrNotAvailable).map_err(io::Error::from)?;
    let (asked, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in io::stdin().lines().map_while(Result::ok) {
                asked.store(true, Ordering::Release);
            }
            ended.store(true, Ordering::Release);
        });
        let mut reading = Reading::new(socket);
        let mut counted = Counted::default();
        let mut latencies = Latencies::new();
        while !ended.load(Ordering::Acquire) {
            reading.read()?;
            let now = wall();
            counted.received += reading.lengths.len() as u64;
            reading.stamps().for_each(|sent| latencies.add(now.since(sent)));
            // Whoever asks has sent everything, and what the socket holds belongs to the answer.
            if reading.lengths.is_empty() && asked.swap(false, Ordering::AcqRel) {
                counted.latency = std::mem::replace(&mut latencies, Latencies::new()).percentiles();
                say(&std::mem::take(&mut counted))?;
            }
        }
        Ok(())
    })
}

fn say(answer: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    out.flush()
}
