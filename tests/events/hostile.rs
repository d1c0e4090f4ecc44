//! What holds for any bytes: nothing panics, nothing takes long, nothing forbidden comes out, nothing is made up.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sense_otel::event::text::is_forbidden;
use sense_otel::event::{Event, SessionId, decode};

use crate::table;

/// The largest payload of a datagram.
const BYTES_MAX: usize = 65_507;

/// What means something to the decoder, and what must never come out of it.
const PIECES: [&[u8]; 40] = [
    b";",
    b";;",
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x1b[31m",
    b"\x7f",
    b"\xc2\x85",
    b"\xe2\x80\xae",
    b"\xe2\x80\x8b",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\xc5",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b" ",
    b"'",
    b"\"",
    b"AppAccess",
    b"ManagementAccess",
    b"Not available",
    b"(null)",
    b"0",
    b"Start session",
    b"Start session for user",
    b"Stop session for user",
    b"connection Opened for session ",
    b"connection Closed for session ",
    b"UserAgent:",
    b"System.Exception: ",
    b"/app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69",
    b"c0dec04e-89e4-c115-54a0-5f188dac8ef4",
    b"?traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"%2",
    b"://",
    b" 10.0.0.7 ",
    b" [2001:db8::2]:443 ",
    b"/sense-otel/1/\t",
    b"/qseow-proxy-session/;",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(Index, &'static [u8]),
    Replace(Index, u8),
    Remove(Index, usize),
    Cut(Index),
    Append(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any::<Index>(), select(&PIECES[..])).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        2 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => any::<Index>().prop_map(Change::Append),
    ]
}

fn apply(datagram: &mut Vec<u8>, change: &Change, rows: &[table::Row]) {
    let place = |at: &Index, datagram: &[u8]| at.index(datagram.len() + 1);
    match change {
        Change::Insert(at, piece) => {
            let at = place(at, datagram);
            datagram.splice(at..at, piece.iter().copied());
        }
        Change::Replace(at, byte) => {
            let at = place(at, datagram);
            datagram.splice(at..datagram.len().min(at + 1), [*byte]);
        }
        Change::Remove(at, length) => {
            let at = place(at, datagram);
            datagram.drain(at..datagram.len().min(at + length));
        }
        Change::Cut(at) => datagram.truncate(place(at, datagram)),
        Change::Append(other) => datagram.extend_from_slice(&other.get(rows).datagram),
    }
}

/// Every text that leaves, by name.
fn texts<'a>(event: &'a Event<'_>) -> Vec<(&'static str, &'a str)> {
    let mut texts = vec![("node", event.node.as_ref()), ("user", event.user.name.as_ref())];
    let optional = [
        ("directory", &event.user.directory),
        ("failure", &event.failure),
        ("origin", &event.origin),
        ("app name", &event.app_name),
        ("path", &event.path),
        ("virtual proxy", &event.virtual_proxy),
        ("user agent", &event.user_agent),
    ];
    texts.extend(optional.into_iter().filter_map(|(name, text)| text.as_deref().map(|text| (name, text))));
    if let Some(SessionId::Opaque(id)) = &event.session_id {
        texts.push(("session id", id));
    }
    texts
}

/// What must be true of any event, whatever it came from.
fn check(datagram: &[u8]) {
    let Ok(event) = decode(datagram) else { return };
    let sent: String = String::from_utf8_lossy(datagram).chars().filter(|letter| !is_forbidden(*letter)).collect();
    for (name, text) in texts(&event) {
        assert!(!text.contains(is_forbidden), "{name} holds a forbidden character: {text:?}");
        assert!(!text.is_empty() && text.trim() == text, "{name} is empty or not trimmed: {text:?}");
        assert!(text != "(null)", "{name} says that there is none");
        assert!(sent.contains(text), "{name} was not sent: {text:?}");
    }
    assert!(event.sequence.is_none_or(|sequence| (1..=i32::MAX as u32).contains(&sequence)));
    assert!(!matches!(event.session_id, Some(SessionId::Guid(guid)) if guid.to_bits() == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_row_does_no_harm(row in any::<Index>(), changes in vec(change(), 0..12)) {
        thread_local! { static ROWS: Vec<table::Row> = short_rows() }
        ROWS.with(|rows| {
            let mut datagram = row.get(rows).datagram.clone();
            changes.iter().for_each(|change| apply(&mut datagram, change, rows));
            check(&datagram);
        });
    }

    #[test]
    fn pieces_in_any_order_do_no_harm(pieces in vec(select(&PIECES[..]), 0..60)) {
        check(&pieces.concat());
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }
}

/// Rows that are worth changing; the giants would only take time.
fn short_rows() -> Vec<table::Row> {
    table::rows().into_iter().filter(|row| row.datagram.len() < 1000).collect()
}

#[test]
fn the_largest_datagrams_take_no_time_of_note() {
    // Each of these is a few thousand of something that is looked for. A glance at all of them for each of them would take
    // minutes here; one glance takes milliseconds.
    let heads: [&[u8]; 4] = [
        b"",
        b"/qseow-proxy-connection/;h;Open connection;d;",
        b"/qseow-proxy-connection/;h;Open connection;d;u;AppAccess;/app/x?;connection Opened for session UserAgent: '",
        b"/sense-otel/1/\t1\t2025-07-14T22:30:05.042Z\th\tid\tOpen connection\t0\td\tu\tAppAccess\to\t",
    ];
    for head in heads {
        for piece in PIECES {
            let mut datagram = head.to_vec();
            datagram.extend(piece.iter().cycle().take(BYTES_MAX - head.len()));
            for _ in 0..5 {
                check(&datagram);
            }
        }
    }
}

#[test]
fn a_long_user_and_thousands_of_addresses_are_not_compared_with_each_other() {
    let user = "10.0.0.".repeat(4400);
    let head = format!("/qseow-proxy-session/;h;Start session;d;{user};Not available;;Start session for user");
    let addresses = " 10.0.0.7".repeat((BYTES_MAX - head.len()) / 9);
    for _ in 0..20 {
        check(format!("{head}{addresses}").as_bytes());
    }
}

/// Files of bytes, whose name begins with what becomes of them: `event` or the reason of the rejection.
#[test]
fn the_corpus_is_read_as_its_names_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("tests/corpus") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name of text");
        let Some((expected, "bin")) = name.split_once('.').map(|(expected, rest)| (expected, &rest[rest.len() - 3..]))
        else {
            continue;
        };
        let datagram = fs::read(&path).expect("bytes");
        check(&datagram);
        assert_eq!(decode(&datagram).map_or_else(|reason| reason.as_str(), |_| "event"), expected, "{name}");
        count += 1;
    }
    assert!(count >= 6, "the corpus is not there");
}
