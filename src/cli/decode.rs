//! `sense-otel decode`: what we understand of a datagram, and why not. The tool for "nothing arrives".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::event::{self, Event, Format, RejectReason, SessionId};
use crate::telemetry::advice;
use crate::telemetry::text::one_line;
use crate::time::Timestamp;

use super::report;
use super::stop::watch_for_interrupt;

mod escape;

const EXAMPLES: &str = r"Examples:
  sense-otel decode --listen [::]:9997
      Stop the receiver, run this in its place, and open an app in Qlik Sense:
      every datagram is explained.
  sense-otel decode datagrams.txt
      One datagram per line. \t \n \r \0 \\ and \xNN stand for the bytes that a
      line cannot hold.
  tcpdump -x ... | ... | sense-otel decode --hex
      One datagram per line as hexadecimal digits; blanks and colons between
      them do not matter.

Exit code: 0 if every datagram was understood, 1 if one was rejected or
something failed.";

/// Explain datagrams: what is understood of them, and why not
///
/// Reads datagrams from a file, from the standard input or from the network, and prints what sense-otel makes of each.
/// Prints user names and session ids as they are; mind where you paste them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DecodeArgs {
    /// File with one datagram per line; - is the standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Lines are hexadecimal digits
    #[arg(long)]
    hex: bool,
    /// Listen for datagrams at this address instead, until Ctrl-C
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["file", "hex"])]
    listen: Option<String>,
}

/// Why datagrams could not be read.
#[derive(Debug, Error)]
enum DecodeError {
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("cannot listen at {0}: the port is in use; stop the receiver (and Butler SOS) for as long as this runs")]
    InUse(String),
    #[error("cannot listen at {0}; write it as host:port with an address of this machine, for example [::]:9997")]
    Listen(String, #[source] io::Error),
    #[error("cannot listen for Ctrl-C")]
    Interrupt(#[source] io::Error),
    #[error("cannot receive")]
    Receive(#[source] io::Error),
    #[error("line {0} is not hexadecimal")]
    Hex(u64),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

/// Explains datagrams.
pub(crate) fn run(args: &DecodeArgs) -> ExitCode {
    let mut out = anstream::stdout().lock();
    let result = match &args.listen {
        Some(endpoint) => listen(endpoint, &mut out),
        None => read(&args.file, args.hex, &mut out),
    };
    match result {
        Ok(tally) if tally.rejected == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Whoever pipes us into `head` has seen enough.
        Err(DecodeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    datagrams: u64,
    rejected: u64,
}

/// Lines longer than this are no datagram: 65,507 bytes, each written as `\xNN`.
const LINE_BYTES_MAX: u64 = 4 * 65_507 + 2;
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes of a rejected datagram that are shown.
const EXCERPT_BYTES: usize = 200;

/// What an explanation leaves of 80 columns.
const ADVICE_WIDTH: usize = 62;

const HINTS: &str = r"
Nothing has arrived for 10 seconds. What to look at, in this order:
  1. Does anything happen? Open an app in Qlik Sense now: that is an event.
  2. On each proxy node, the file C:\ProgramData\Qlik\Sense\Proxy\LocalLogConfig.xml has exactly this place and name.
     `sense-otel appender` prints one. Well-formed XML? A browser that opens the file shows the first mistake.
  3. Its remoteAddress and remotePort are this machine and this port. A name is resolved once, when the proxy starts.
  4. QMC, Proxies, Logging, 'Audit activity log level' is not Off; Basic is enough.
  5. Firewalls: UDP to this port is allowed in on this machine, and on the way from the proxy nodes.
     From a proxy node, in PowerShell, this must show up here:
     $u = New-Object Net.Sockets.UdpClient; [void]$u.Send([byte[]](116,101,115,116), 4, 'THIS-HOST', {port})
     with the name or the address of this machine in the place of THIS-HOST.
  6. The proxy service reads the file after a while; restarting 'Qlik Sense Proxy Service' settles it.
";

fn read(file: &Path, is_hex: bool, out: &mut impl Write) -> Result<Tally, DecodeError> {
    let failed = |error| DecodeError::File(file.to_owned(), error);
    if file == Path::new("-") {
        return read_lines(io::stdin().lock(), is_hex, out, failed);
    }
    let reader = BufReader::new(File::open(file).map_err(failed)?);
    read_lines(reader, is_hex, out, failed)
}

fn read_lines(
    mut lines: impl BufRead,
    is_hex: bool,
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> DecodeError,
) -> Result<Tally, DecodeError> {
    let mut tally = Tally::default();
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(&failed)? == 0 {
            break;
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let datagram =
            if is_hex { escape::from_hex(text).ok_or(DecodeError::Hex(number))? } else { escape::unescape(text) };
        explain(&datagram, None, &mut tally, out).map_err(DecodeError::Output)?;
    }
    tally.write(out).map_err(DecodeError::Output)?;
    Ok(tally)
}

impl Tally {
    fn write(self, out: &mut impl Write) -> io::Result<()> {
        let Self { datagrams, rejected } = self;
        writeln!(out, "datagrams: {datagrams} ({} understood, {rejected} rejected)", datagrams - rejected)
    }
}

fn listen(endpoint: &str, out: &mut impl Write) -> Result<Tally, DecodeError> {
    let interrupted = watch_for_interrupt().map_err(DecodeError::Interrupt)?;
    let socket = bind(endpoint).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => DecodeError::InUse(endpoint.to_owned()),
        _ => DecodeError::Listen(endpoint.to_owned(), error),
    })?;
    let address = socket.local_addr().map_err(DecodeError::Receive)?;
    writeln!(out, "listening at {address} (UDP), Ctrl-C ends").map_err(DecodeError::Output)?;
    let mut tally = Tally::default();
    let mut buffer = vec![0; 65_536];
    let mut last = Instant::now();
    let mut is_hinted = false;
    while !interrupted.load(Ordering::Relaxed) {
        out.flush().map_err(DecodeError::Output)?;
        match socket.recv_from(&mut buffer) {
            Ok((length, source)) => {
                last = Instant::now();
                is_hinted = false;
                let datagram = buffer.get(..length).unwrap_or_default();
                explain(datagram, Some(source), &mut tally, out).map_err(DecodeError::Output)?;
            }
            Err(error) if is_timeout(&error) && last.elapsed() >= SILENCE && !is_hinted => {
                is_hinted = true;
                let hints = HINTS.replace("{port}", &address.port().to_string());
                out.write_all(hints.as_bytes()).map_err(DecodeError::Output)?;
            }
            Err(error) if is_timeout(&error) => (),
            // Windows reports here that somebody could not be reached; that is no reason to stop listening.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (),
            Err(error) => return Err(DecodeError::Receive(error)),
        }
    }
    tally.write(out).and_then(|()| out.flush()).map_err(DecodeError::Output)?;
    Ok(tally)
}

/// A socket for both address families where the address is `[::]`, and with a timeout to look at the clock.
fn bind(endpoint: &str) -> io::Result<UdpSocket> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in endpoint.to_socket_addrs()? {
        let bound = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => return Ok(socket.into()),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Prints what one datagram says, or why it says nothing.
fn explain(datagram: &[u8], source: Option<SocketAddr>, tally: &mut Tally, out: &mut impl Write) -> io::Result<()> {
    tally.datagrams += 1;
    let number = tally.datagrams;
    // An IPv4 address that a socket of both families got is one that nobody would know in its IPv6 form.
    let canonical = |source: SocketAddr| SocketAddr::new(source.ip().to_canonical(), source.port());
    let source = source.map(|source| format!(" from {}", canonical(source))).unwrap_or_default();
    match event::decode(datagram) {
        Ok(event) => {
            writeln!(out, "{number}: {}{source}", event.action.command())?;
            write_fields(&event, out)?;
        }
        Err(reason) => {
            tally.rejected += 1;
            writeln!(out, "{number}: rejected, {}{source}", reason.as_str())?;
            write_rejection(datagram, reason, out)?;
        }
    }
    writeln!(out)
}

fn write_rejection(datagram: &[u8], reason: RejectReason, out: &mut impl Write) -> io::Result<()> {
    let mut name = "why";
    for line in wrap(advice::rejected(reason), ADVICE_WIDTH) {
        write_field(name, &line, out)?;
        name = "";
    }
    let shown = datagram.get(..EXCERPT_BYTES).unwrap_or(datagram);
    let more = if shown.len() < datagram.len() { "..." } else { "" };
    let excerpt = format!("{}{more} ({} bytes)", shown.escape_ascii(), datagram.len());
    write_field("datagram", &excerpt, out)
}

/// The fields that are there, then the names of those that are not.
fn write_fields(event: &Event<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut absent = Vec::new();
    for (name, value) in fields(event) {
        match value {
            Some(value) => write_field(name, &value, out)?,
            None => absent.push(name),
        }
    }
    if absent.is_empty() { Ok(()) } else { write_field("absent", &absent.join(", "), out) }
}

fn write_field(name: &str, value: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "   {name:<14} {value}")
}

/// Lines of whole words, each at most `width` bytes unless a single word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn fields(event: &Event<'_>) -> [(&'static str, Option<String>); 15] {
    let clean = |text: &str| one_line(text);
    let user = match &event.user.directory {
        Some(directory) => format!(r"{directory}\{}", event.user.name),
        None => event.user.name.to_string(),
    };
    let format = match event.format {
        Format::Stock => "stock (Butler SOS): no time, no sequence",
        Format::Extended => "extended (sense-otel appender)",
    };
    let session = event.session_id.as_ref().map(|session| match session {
        SessionId::Guid(guid) => guid.to_string(),
        SessionId::Opaque(id) => clean(id),
    });
    let failure = event.failure.as_deref().map(|result| format!("{} (the attempt failed)", clean(result)));
    let link = event.traceparent.map(|parent| {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("trace {}, span {}", hex(&parent.trace_id), hex(&parent.span_id))
    });
    [
        ("format", Some(format.to_owned())),
        ("node", Some(clean(&event.node))),
        ("user", Some(clean(&user))),
        ("session id", session),
        ("result", failure),
        ("origin", event.origin.as_deref().map(clean)),
        ("app id", event.app_id.map(|id| id.to_string())),
        ("app name", event.app_name.as_deref().map(clean)),
        ("path", event.path.as_deref().map(clean)),
        ("virtual proxy", event.virtual_proxy.as_deref().map(clean)),
        ("browser", event.user_agent.as_deref().map(clean)),
        ("client address", event.client_address.map(|address| address.to_string())),
        ("time", event.time.map(utc)),
        ("sequence", event.sequence.map(|sequence| sequence.to_string())),
        ("traceparent", link),
    ]
}

fn utc(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos())).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_is_numbered_and_tallied() {
        let mut out = Vec::new();
        let input = &b"\n/nonsense/;a\r\n\nincomplete\n"[..];
        let failed = |error| DecodeError::File(PathBuf::from("-"), error);
        let tally = read_lines(input, false, &mut out, failed).expect("memory can be read");
        assert_eq!((tally.datagrams, tally.rejected), (2, 2));
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("1: rejected, unknown_type\n   why            "), "{text}");
        assert!(text.contains("\n   datagram       /nonsense/;a (12 bytes)\n\n2: rejected, "), "{text}");
        assert!(text.ends_with("\ndatagrams: 2 (0 understood, 2 rejected)\n"), "{text}");
    }

    #[test]
    fn hex_that_is_none_names_its_line() {
        let failed = |error| DecodeError::File(PathBuf::from("-"), error);
        let error = read_lines(&b"2f\n2g\n"[..], true, &mut Vec::new(), failed).expect_err("not hexadecimal");
        assert_eq!(error.to_string(), "line 2 is not hexadecimal");
    }

    #[test]
    fn a_rejected_datagram_cannot_touch_the_terminal() {
        let mut out = Vec::new();
        explain(b"\x1b[2J\xff\xe2\x80\xae\n", None, &mut Tally::default(), &mut out).expect("memory takes everything");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains(r"\x1b[2J\xff\xe2\x80\xae\n (9 bytes)"), "{text}");
    }

    #[test]
    fn both_families_reach_a_wildcard_socket() {
        let socket = bind("[::]:0").or_else(|_| bind("0.0.0.0:0")).expect("a free port");
        let port = socket.local_addr().expect("a bound socket").port();
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        sender.send_to(b"four", ("127.0.0.1", port)).expect("loopback takes datagrams");
        let mut buffer = [0; 16];
        assert_eq!(socket.recv_from(&mut buffer).expect("a datagram").0, 4);
    }
}
