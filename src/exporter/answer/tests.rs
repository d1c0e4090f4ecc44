use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use proptest::prelude::*;
use tonic_types::ErrorDetails;

use super::*;

fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    pairs
        .iter()
        .map(|&(name, value)| (name.parse().expect("a name"), HeaderValue::from_bytes(value).expect("legal")))
        .collect()
}

fn failure(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        Answer::Accepted(acceptance) => panic!("accepted: {acceptance:?}"),
    }
}

fn frame(compressed: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[compressed], &length.to_be_bytes()[..], message].concat()
}

#[test]
fn the_servers_status_is_read_with_text_and_retry_info() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1_500)));
    let status = Status::with_error_details(Code::ResourceExhausted, "später, bitte", details);
    let sent = status.into_http::<()>().headers().clone();
    let read = failure(conclude(Signal::Logs, sent, None, &[]));
    assert_eq!(read.code, Code::ResourceExhausted);
    assert_eq!(read.message, "später, bitte");
    assert_eq!(read.retry_delay, Some(Duration::from_millis(1_500)));
    assert!(read.from_server);
}

#[test]
fn details_that_make_no_sense_are_left_out() {
    for details in [&b"no base64 at all!"[..], b"////", b"AAAA", b"", b"\xff\xfe"] {
        let sent = headers(&[("grpc-status", b"14"), ("grpc-message", b"down"), (STATUS_DETAILS, details)]);
        let read = failure(conclude(Signal::Logs, sent, None, &[]));
        assert_eq!((read.code, read.message.as_str(), read.retry_delay), (Code::Unavailable, "down", None));
    }
}

#[test]
fn the_code_is_read_whatever_the_text_is_encoded_in() {
    for number in 1..17 {
        let code = Code::from_i32(number);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let mut sent = Status::with_error_details(code, "", details).into_http::<()>().headers().clone();
        sent.insert("grpc-message", HeaderValue::from_static("%FF"));
        let read = failure(conclude(Signal::Logs, sent, None, &[]));
        assert_eq!((read.code, read.message.as_str()), (code, "\u{fffd}"));
        assert_eq!(read.retry_delay, Some(Duration::from_secs(2)), "{code:?}");
    }
    for (sent, told) in
        [("verf%FCgbar", "verf\u{fffd}gbar"), ("100%", "100%"), ("%4", "%4"), ("%zz %c3%A5 %%41", "%zz å %A"), ("", "")]
    {
        assert_eq!(percent_decode(sent.as_bytes()), told, "{sent}");
    }
    assert_eq!(percent_decode(b"verf\xfcgbar"), "verf\u{fffd}gbar");
}

#[test]
fn partial_success_is_read_from_one_whole_message() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "why".to_owned() };
    let message = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short");
    let read = Acceptance { rejected: 3, message: "why".to_owned() };
    assert_eq!(acceptance(Signal::Logs, None, &frame(0, length, &message)), read);
    assert_eq!(acceptance(Signal::Traces, None, &frame(0, length, &message)), read, "the signals share their layout");
    assert_eq!(acceptance(Signal::Logs, None, &frame(0, 0, b"")), Acceptance::default());

    for unreadable in [
        frame(1, length, &message),
        frame(0, length + 1, &message),
        frame(0, length - 1, &message),
        frame(0, u32::MAX, &message),
        frame(0, 3, b"\xff\xff\xff"),
        b"\0\0\0".to_vec(),
        Vec::new(),
    ] {
        let read = acceptance(Signal::Logs, None, &unreadable);
        assert_eq!(read.rejected, 0);
        assert!(read.message.contains("could not be read"), "{unreadable:?}");
    }
}

#[test]
fn partial_success_is_read_from_a_compressed_message() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "why".to_owned() };
    let message = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let read = |encoding: &'static str, packed: &[u8]| {
        let length = u32::try_from(packed.len()).expect("short");
        acceptance(Signal::Logs, Some(&HeaderValue::from_static(encoding)), &frame(1, length, packed))
    };
    assert_eq!(read("gzip", &gzipped(&message)).rejected, 3);
    assert_eq!(read("zstd", &zstd::encode_all(&message[..], 1).expect("memory")).rejected, 3);
    let bomb = vec![0; 1 + RESPONSE_MAX];
    for (encoding, packed) in [
        ("gzip", message.clone()),
        ("zstd", message.clone()),
        ("br", gzipped(&message)),
        ("gzip", gzipped(&bomb)),
        ("zstd", zstd::encode_all(&bomb[..], 1).expect("memory")),
    ] {
        let read = read(encoding, &packed);
        assert!(read.rejected == 0 && read.message.contains("could not be read"), "{encoding}: {read:?}");
    }
}

fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(message, flate2::Compression::fast()).read_to_end(&mut packed).expect("memory");
    packed
}

#[test]
fn a_remark_of_megabytes_is_not_carried_around() {
    let remark = ExportLogsPartialSuccess { rejected_log_records: 0, error_message: "la\nla ".repeat(500_000) };
    let message = ExportLogsServiceResponse { partial_success: Some(remark) }.encode_to_vec();
    let read = acceptance(Signal::Logs, None, &frame(0, u32::try_from(message.len()).expect("below 4 MiB"), &message));
    assert!(read.message.starts_with("la la la") && read.message.len() <= 256, "{}", read.message.len());
}

#[test]
fn a_cause_is_told_once() {
    let refused = std::io::Error::other("refused");
    let wrapped = std::io::Error::other(format!("connect: {refused}"));
    let mut status = Status::unavailable("no connection");
    status.set_source(std::sync::Arc::new(wrapped));
    let text = with_causes(&status);
    assert_eq!(text.matches("refused").count(), 1, "{text}");
}

proptest! {
    /// A backend may send what it likes.
    #[test]
    fn no_answer_ends_us(
        status in prop::collection::vec(1_u8.., 0..4),
        text in prop::collection::vec(any::<u8>(), 0..40),
        details in prop::collection::vec(any::<u8>(), 0..80),
        data in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut sent = HeaderMap::new();
        for (name, value) in [("grpc-status", status), ("grpc-message", text), (STATUS_DETAILS, details)] {
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                sent.insert(name, value);
            }
        }
        for signal in [Signal::Logs, Signal::Traces, Signal::Metrics] {
            for encoding in ["gzip", "zstd", "br"].map(HeaderValue::from_static) {
                let _ = conclude(signal, sent.clone(), Some(&encoding), &data);
                let _ = unpacked(encoding.as_bytes(), &data);
            }
        }
    }
}
