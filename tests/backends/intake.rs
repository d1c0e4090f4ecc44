//! A stand-in for what takes OTLP over HTTP: Datadog's intake, and Loki where a test wants to see every byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::read::GzDecoder;

use crate::stand::Failure;

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Decompressed.
    pub(crate) body: Vec<u8>,
}

/// It listens until the test ends.
pub(crate) struct Intake {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<Request>>>,
}

impl Intake {
    /// Says 403 to whoever lacks this header.
    pub(crate) fn start(required: Option<(&'static str, &'static str)>) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let received = Arc::default();
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&shared);
                thread::spawn(move || serve(stream, required, &received));
            }
        });
        Ok(Self { port, received })
    }

    /// Every request so far that was let in.
    pub(crate) fn received(&self) -> Vec<Request> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One connection, until the other side has enough. Whatever is wrong with it is missing in the test afterwards.
fn serve(mut stream: TcpStream, required: Option<(&str, &str)>, received: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = read(&mut reader)?;
        let is_let_in = required.is_none_or(|(name, value)| request.headers.get(name).is_some_and(|one| one == value));
        let status = if is_let_in { "200 OK" } else { "403 Forbidden" };
        if is_let_in {
            received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<String, String> = lines.iter().skip(1).filter_map(header).collect();
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut clear = Vec::new();
        GzDecoder::new(body.as_slice()).read_to_end(&mut clear).ok()?;
        body = clear;
    }
    Some(Request { path, headers, body })
}
