//! Trace and span ids, and every other keyed hash.
//!
//! Ids are made from what happened, so that a restart, a second receiver with the same key, or another system that knows
//! the key comes to the same ones. An input is a row of parts, each written as its length in bytes (32 bits, big endian)
//! and its bytes; numbers are big endian. No two different rows give the same bytes.
//!
//! | id | how | parts |
//! |---|---|---|
//! | trace, session id begins `c0de` | the 16 bytes of the id: Qlik has hashed it already | |
//! | trace, any other session id | HMAC-SHA-256(key), first 16 bytes | `trace`, node, id |
//! | trace, no session id | HMAC-SHA-256(key), first 16 bytes | `trace`, node, directory, user, opening time (64 bits), ordinal (32) |
//! | session span | SHA-256, first 8 bytes | `session`, trace, node, segment (32) |
//! | start marker | SHA-256, first 8 bytes | `start`, trace, node, segment (32) |
//! | connection span | SHA-256, first 8 bytes | `connection`, trace, node, open time (64), app (16 bytes or none), ordinal (32), part (32) |
//! | user | HMAC-SHA-256(key), first 16 bytes | `user`, directory, user |
//! | other text | HMAC-SHA-256(key), first 16 bytes | its kind, the text |
//! | key of the cover of a stored datagram | HMAC-SHA-256(key), all 32 bytes | `cover`, its name |
//!
//! The cover itself are the digests SHA-256(its key, number of the block (64 bits)), one behind the other, with nothing
//! between the two inputs. A datagram has up to 64 KiB, and a keyed hash for each block would cost twice as much.
//!
//! Node, directory and user are in the form in which they are compared ([`caseless`](crate::event::caseless)); a GUID is
//! its 36 lower-case characters; times are nanoseconds since the Unix epoch. A result of zeros, which OpenTelemetry calls
//! invalid, is replaced by the beginning of the SHA-256 of the whole digest.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::event::{Guid, SessionId};
use crate::signal::{SpanId, TraceId};
use crate::time::Timestamp;

/// The secret of every keyed hash. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// A key of any length; shorter than 16 bytes is a weak one.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(redacted)")
    }
}

/// A session id as it may be kept and sent: its trace id, and whether that is the id itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    bytes: [u8; 16],
    clear: bool,
}

impl SessionKey {
    /// A key that was stored: its bytes, and whether they are the id itself.
    pub(super) const fn restored(bytes: [u8; 16], clear: bool) -> Self {
        Self { bytes, clear }
    }

    /// The trace of a session that has this id from its opening on.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        TraceId(self.bytes)
    }

    /// The id itself, where Qlik has hashed it and it may be shown.
    #[must_use]
    pub fn guid(self) -> Option<Guid> {
        self.clear.then(|| Guid::from_bits(u128::from_be_bytes(self.bytes)))
    }
}

/// The id of a user on any node, for comparing: 16 bytes of a keyed hash.
pub type UserKey = [u8; 16];

/// Makes ids. The keyed state is computed once, so that a keyed hash costs two rounds of SHA-256.
#[derive(Clone)]
pub struct Ids {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ids(redacted)")
    }
}

impl Ids {
    /// Ids under this key.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        // HMAC takes a key of any length; the fallback is never taken and would only be another key.
        let keyed = Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
        Self { keyed }
    }

    /// The key of a session id on a node.
    #[must_use]
    pub fn session_key(&self, node: &str, id: &SessionId<'_>) -> SessionKey {
        let hashed = |text: &str| self.keyed(&[b"trace", node.as_bytes(), text.as_bytes()]);
        match id {
            SessionId::Guid(guid) if guid.to_bits() >> 112 == 0xc0de => {
                SessionKey { bytes: guid.to_bits().to_be_bytes(), clear: true }
            }
            SessionId::Guid(guid) => SessionKey { bytes: hashed(guid.to_text().as_str()), clear: false },
            SessionId::Opaque(text) => SessionKey { bytes: hashed(text), clear: false },
        }
    }

    /// The trace of a session that was opened without an id.
    #[must_use]
    pub fn trace_without_id(
        &self,
        node: &str,
        directory: &str,
        user: &str,
        opening: Timestamp,
        ordinal: u32,
    ) -> TraceId {
        let (opening, ordinal) = (opening.as_nanos().to_be_bytes(), ordinal.to_be_bytes());
        TraceId(self.keyed(&[b"trace", node.as_bytes(), directory.as_bytes(), user.as_bytes(), &opening, &ordinal]))
    }

    /// The span of a segment of a session, counted from 1.
    #[must_use]
    pub fn session_span(&self, trace: TraceId, node: &str, segment: u32) -> SpanId {
        plain(&[b"session", &trace.0, node.as_bytes(), &segment.to_be_bytes()])
    }

    /// The span that marks the start of a segment of a session.
    #[must_use]
    pub fn start_marker_span(&self, trace: TraceId, node: &str, segment: u32) -> SpanId {
        plain(&[b"start", &trace.0, node.as_bytes(), &segment.to_be_bytes()])
    }

    /// The span of a part of a connection, counted from 1. The ordinal tells apart connections of one session that were
    /// opened at the same moment.
    #[must_use]
    pub fn connection_span(
        &self,
        trace: TraceId,
        node: &str,
        open: Timestamp,
        app: Option<Guid>,
        ordinal: u32,
        part: u32,
    ) -> SpanId {
        let app = app.map(|app| app.to_bits().to_be_bytes());
        plain(&[
            b"connection",
            &trace.0,
            node.as_bytes(),
            &open.as_nanos().to_be_bytes(),
            app.as_ref().map_or(&[], <[u8; 16]>::as_slice),
            &ordinal.to_be_bytes(),
            &part.to_be_bytes(),
        ])
    }

    /// Who a user is, for comparing and for `user.hash`.
    #[must_use]
    pub fn user_key(&self, directory: &str, user: &str) -> UserKey {
        self.keyed(&[b"user", directory.as_bytes(), user.as_bytes()])
    }

    /// Covers bytes that must not be stored clear, or uncovers them: each is changed by its place and a keyed hash of
    /// `name`, which must not be given to any other bytes.
    pub(super) fn cover(&self, name: &[u8], bytes: &mut [u8]) {
        let key = self.keyed_digest(&[b"cover", name]);
        for (block, index) in bytes.chunks_mut(32).zip(0_u64..) {
            let cover = Sha256::new().chain_update(key).chain_update(index.to_be_bytes()).finalize();
            for (byte, cover) in block.iter_mut().zip(cover) {
                *byte ^= cover;
            }
        }
    }

    /// The keyed hash of any other text, as 32 hexadecimal digits. The kind keeps equal texts of different kinds apart.
    #[must_use]
    pub fn hash_text(&self, kind: &str, text: &str) -> Box<str> {
        hex(&self.keyed(&[kind.as_bytes(), text.as_bytes()]))
    }

    fn keyed(&self, parts: &[&[u8]]) -> [u8; 16] {
        beginning(self.keyed_digest(parts))
    }

    fn keyed_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut keyed = self.keyed.clone();
        for part in parts {
            keyed.update(&length(part));
            keyed.update(part);
        }
        keyed.finalize().into_bytes().into()
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub(super) fn hex(bytes: &[u8]) -> Box<str> {
    bytes.iter().flat_map(|&byte| hex_digits_of(byte)).map(char::from).collect()
}

/// The same of an id, without a place of its own on the heap.
pub(super) fn hex_digits(id: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id) {
        *pair = hex_digits_of(byte);
    }
    digits
}

fn hex_digits_of(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)])
}

fn plain(parts: &[&[u8]]) -> SpanId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(length(part));
        hash.update(part);
    }
    SpanId(beginning(hash.finalize().into()))
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The first bytes of a digest; of the digest's own digest while they are all zero.
fn beginning<const N: usize>(mut digest: [u8; 32]) -> [u8; N] {
    loop {
        let mut first = [0; N];
        for (place, byte) in first.iter_mut().zip(digest) {
            *place = byte;
        }
        if first.iter().any(|&byte| byte != 0) {
            return first;
        }
        digest = Sha256::digest(digest).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        Ids::new(&Key::new(b"a key that two receivers share"))
    }

    fn guid(text: &str) -> SessionId<'_> {
        SessionId::Guid(Guid::parse(text.as_bytes()).expect("a guid"))
    }

    // The expected values below were computed apart from this code, with another implementation of both hashes.

    #[test]
    fn ids_are_what_another_system_computes() {
        let ids = ids();
        let trace = ids.session_key("pro2-win1", &guid("ea7821ab-dbad-4b1f-851d-cb06a73e10a7")).trace_id();
        assert_eq!(trace.to_string(), EXPECTED[0]);
        let opaque = ids.session_key("pro2-win1", &SessionId::Opaque("cookie".into())).trace_id();
        assert_eq!(opaque.to_string(), EXPECTED[1]);
        let opening = Timestamp::from_nanos(1_795_420_800_000_000_000);
        assert_eq!(ids.trace_without_id("pro2-win1", "lab", "goran", opening, 0).to_string(), EXPECTED[2]);
        assert_eq!(ids.session_span(trace, "pro2-win1", 1).to_string(), EXPECTED[3]);
        let app = Guid::parse(b"a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69");
        assert_eq!(ids.connection_span(trace, "pro2-win1", opening, app, 0, 1).to_string(), EXPECTED[4]);
        assert_eq!(ids.connection_span(trace, "pro2-win1", opening, None, 0, 1).to_string(), EXPECTED[5]);
        assert_eq!(&*hex(&ids.user_key("lab", "goran")), EXPECTED[6]);
        assert_eq!(ids.start_marker_span(trace, "pro2-win1", 1).to_string(), EXPECTED[7]);
    }

    const EXPECTED: [&str; 8] = [
        "745126754763a75d81adc80e810500d1",
        "6930fd477d65cf9770e12319e27c528c",
        "ee6706b6a7c86a8c38ef0f2d50ef00e5",
        "015eb1f008e595db",
        "18fff14746271cc9",
        "9f34d7a8abdb0a7b",
        "bef43a53cba9cd212a16943cb2614f1e",
        "3400c8f2e57f8b14",
    ];

    #[test]
    fn an_id_that_qlik_has_hashed_is_the_trace_id() {
        let key = ids().session_key("pro2-win1", &guid("C0DEC04E-89e4-c115-54a0-5f188dac8ef4"));
        assert_eq!(key.trace_id().to_string(), "c0dec04e89e4c11554a05f188dac8ef4");
        assert_eq!(key.guid().map(|guid| guid.to_string()).as_deref(), Some("c0dec04e-89e4-c115-54a0-5f188dac8ef4"));
    }

    #[test]
    fn parts_cannot_be_moved_from_one_to_the_next() {
        let opening = Timestamp::from_nanos(1);
        let one = ids().trace_without_id("node", "ab", "c", opening, 0);
        assert_ne!(one, ids().trace_without_id("node", "a", "bc", opening, 0));
        assert_ne!(one, ids().trace_without_id("nodea", "b", "c", opening, 0));
        assert_ne!(one, ids().trace_without_id("node", "ab", "c", opening, 1));
        assert_ne!(one, Ids::new(&Key::new(b"another key")).trace_without_id("node", "ab", "c", opening, 0));
    }

    #[test]
    fn a_cover_is_what_another_system_computes_and_covers_twice_to_nothing() {
        let mut bytes = [0; 40];
        ids().cover(b"a name", &mut bytes);
        assert_eq!(&*hex(&bytes), "197005b3dcbbe3fa22f01e877f0ae6a8427c19ec511945249e2763dec351ac5dcf54793a888cca26");
        ids().cover(b"a name", &mut bytes);
        assert_eq!(bytes, [0; 40]);
    }

    #[test]
    fn zeros_are_hashed_again() {
        let id: [u8; 8] = beginning([0; 32]);
        assert_eq!(&*hex(&id), "66687aadf862bd77", "the beginning of SHA-256 of 32 zeros");
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?} {:?}", Key::new(b"secret"), ids()), "Key(redacted) Ids(redacted)");
    }
}
