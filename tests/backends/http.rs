//! As much of HTTP as asking a server on this machine takes. Version 1.0, so that an answer is what comes until the end.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::stand::Failure;

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks with GET.
pub(crate) fn get(port: u16, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, Failure> {
    let mut target = path.to_owned();
    for (position, (name, value)) in parameters.iter().enumerate() {
        target.push(if position == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&escaped(value));
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok(Answer { status, body: body.to_owned() })
}

/// Asks with GET for JSON, and wants no other answer than 200.
pub(crate) fn json(port: u16, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Failure> {
    let answer = get(port, path, parameters)?;
    if answer.status != 200 {
        return Err(format!("{path} {parameters:?}: {}: {}", answer.status, answer.body).into());
    }
    Ok(serde_json::from_str(&answer.body)?)
}

/// In a form that may stand in a URL's query.
fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
