//! What came back from a call: the server's word, or the absence of one.
//!
//! The response is read here and not by tonic's own client, for these reasons. Whether a `grpc-status` came over the
//! wire decides between "ask again" and "never again", and tonic turns resets, timeouts and refused connections into
//! the same codes as a server's answers. And tonic makes UNKNOWN of any code whose `grpc-message` is not UTF-8, and
//! panics on a `grpc-status-details-bin` that is no base64; a backend must not be able to end us, nor what we deliver.

use std::borrow::Cow;
use std::error::Error;
use std::future::poll_fn;
use std::io::Read as _;
use std::pin::Pin;

use bytes::BytesMut;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Body as _;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::retry::Failure;
use crate::signal::Signal;
use crate::telemetry::text;

#[cfg(test)]
mod tests;

/// Largest response that is kept, in bytes. What is beyond it is skipped: what counts is the status that comes after
/// it.
const RESPONSE_MAX: usize = 4 * 1024 * 1024;

/// How much is skipped, in bytes, before a response is taken for one without end.
const SKIPPED_MAX: usize = 64 * 1024 * 1024;

/// Flag and length before a message.
const FRAME_HEAD: usize = 5;

const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server took the request, except for what it counts as rejected.
    Accepted(Acceptance),
    /// It did not, or nobody knows.
    Failed(Failure),
}

/// What a server says beside OK.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acceptance {
    /// Items that the server did not take and must not be sent again.
    pub(super) rejected: u64,
    /// The reason, or a warning where nothing was rejected. Fit for a log line: a server may send megabytes.
    pub(super) message: String,
}

impl Answer {
    /// Nobody answered.
    pub(super) fn silence(code: Code, message: String) -> Self {
        Self::Failed(Failure { from_server: false, code, message, retry_delay: None })
    }

    /// The connection failed before an answer came.
    pub(super) fn broken(error: &dyn Error) -> Self {
        Self::silence(Code::Unavailable, with_causes(error))
    }
}

/// Reads the response of a unary call to its end.
pub(super) async fn read(signal: Signal, response: Response<Body>) -> Answer {
    let (head, mut body) = response.into_parts();
    if head.headers.contains_key("grpc-status") {
        return conclude(signal, head.headers, None, &[]);
    }
    let encoding = head.headers.get("grpc-encoding");
    if head.status != StatusCode::OK {
        return without_grpc(head.status);
    }
    let mut data = BytesMut::new();
    let mut skipped = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(status) => return Answer::broken(&status),
        };
        match frame.into_data() {
            Ok(part) => {
                let room = (FRAME_HEAD + RESPONSE_MAX).saturating_sub(data.len()).min(part.len());
                let (kept, rest) = part.split_at(room);
                data.extend_from_slice(kept);
                skipped += rest.len();
                if skipped > SKIPPED_MAX {
                    return Answer::silence(Code::Unavailable, "the answer does not end".to_owned());
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if trailers.contains_key("grpc-status") {
                    return conclude(signal, trailers, encoding, &data);
                }
            }
        }
    }
    Answer::silence(Code::Unavailable, "the answer ended without a gRPC status".to_owned())
}

/// A server that speaks HTTP only: usually a proxy before the one that was meant.
fn without_grpc(status: StatusCode) -> Answer {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = "HTTP 413: the request is too large".to_owned();
        let code = Code::ResourceExhausted;
        return Answer::Failed(Failure { from_server: true, code, message, retry_delay: None });
    }
    Answer::silence(Code::Unavailable, format!("HTTP {} without a gRPC status", status.as_u16()))
}

/// The verdict in `headers`, which hold a `grpc-status`. The code decides, whatever text and details are like.
fn conclude(signal: Signal, headers: HeaderMap, encoding: Option<&HeaderValue>, data: &[u8]) -> Answer {
    let code = headers.get("grpc-status").map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()));
    if code == Code::Ok {
        return Answer::Accepted(acceptance(signal, encoding, data));
    }
    let message = headers.get("grpc-message").map(|text| percent_decode(text.as_bytes())).unwrap_or_default();
    let metadata = MetadataMap::from_headers(headers);
    let details = metadata.get_bin(STATUS_DETAILS).and_then(|details| details.to_bytes().ok()).unwrap_or_default();
    let retry_delay =
        Status::with_details(code, "", details).get_details_retry_info().and_then(|info| info.retry_delay);
    Answer::Failed(Failure { from_server: true, code, message, retry_delay })
}

/// A `grpc-message`. Servers write their locale's encoding into it, or forget to escape a `%`: what makes no sense is
/// kept or replaced, so that the rest can be read.
fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, escaped(after)) {
            (b'%', Some((escaped, after))) => {
                decoded.push(escaped);
                rest = after;
            }
            _ => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = text.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(((digit(high)? << 4) | digit(low)?, rest))
}

/// OK is the server's verdict on the whole request. If what it adds cannot be read, or is too large to be, asking again
/// would only send everything twice, so that is worth no more than a warning.
fn acceptance(signal: Signal, encoding: Option<&HeaderValue>, data: &[u8]) -> Acceptance {
    message(encoding, data).and_then(|message| partial_success(signal, &message)).unwrap_or_else(|| Acceptance {
        rejected: 0,
        message: "the server said OK, and its answer could not be read".to_owned(),
    })
}

/// The one message of a response. It is compressed as our request was by the Collector and by whatever else uses Go's
/// gRPC, and has to be read all the same: it may say that records were refused.
fn message<'a>(encoding: Option<&HeaderValue>, data: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let (&[is_compressed, a, b, c, d], message) = data.split_first_chunk::<FRAME_HEAD>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    match is_compressed {
        _ if length != message.len() => None,
        0 => Some(Cow::Borrowed(message)),
        1 => unpacked(encoding?.as_bytes(), message).map(Cow::Owned),
        _ => None,
    }
}

/// A message of at most [`RESPONSE_MAX`] bytes: a few may unpack to gigabytes.
fn unpacked(encoding: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let limit = RESPONSE_MAX as u64 + 1;
    let mut unpacked = Vec::new();
    match encoding {
        b"gzip" => GzDecoder::new(message).take(limit).read_to_end(&mut unpacked).ok()?,
        b"zstd" => zstd::Decoder::new(message).ok()?.take(limit).read_to_end(&mut unpacked).ok()?,
        _ => return None,
    };
    (unpacked.len() <= RESPONSE_MAX).then_some(unpacked)
}

fn partial_success(signal: Signal, message: &[u8]) -> Option<Acceptance> {
    let (rejected, message) = match signal {
        Signal::Logs => {
            let answer = ExportLogsServiceResponse::decode(message).ok()?;
            answer.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
        }
        Signal::Traces => {
            let answer = ExportTraceServiceResponse::decode(message).ok()?;
            answer.partial_success.map(|partial| (partial.rejected_spans, partial.error_message))
        }
        Signal::Metrics => {
            let answer = ExportMetricsServiceResponse::decode(message).ok()?;
            answer.partial_success.map(|partial| (partial.rejected_data_points, partial.error_message))
        }
    }
    .unwrap_or_default();
    // A negative count means nothing; none were rejected then.
    Some(Acceptance { rejected: u64::try_from(rejected).unwrap_or_default(), message: text::one_line(&message) })
}

/// An error and what it came from, in one line; a cause that its effect already quotes is left out.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
