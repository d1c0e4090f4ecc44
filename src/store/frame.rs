//! The envelope of everything that is written to a segment: what it is, how long, and whether it is whole.
//!
//! The bytes are in the table of the module head of `store`. Two checksums make damage cost as little as it can: the
//! one over the header says whether the lengths may be believed, so that a frame with a damaged head is stepped over
//! exactly; the one over the head says whether its meaning may be believed. Bodies have theirs inside the head, so that
//! they need not be read to know that the rest is good.

use crc32c::{crc32c, crc32c_append};
use memchr::memmem;

/// How every frame begins. Its first and last byte occur in no UTF-8 text, so no field that a stranger fills can
/// look like the beginning of a frame.
const MARKER: [u8; 4] = [0xf5, b'S', b'O', 0xfa];

/// Version of this format.
pub(super) const VERSION: u8 = 1;

/// Bytes of the header of a frame.
pub(super) const HEADER_LENGTH: usize = 32;

/// Bytes of the header that its own checksum covers.
const COVERED: usize = HEADER_LENGTH - 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something that was committed.
    Commit = 1,
    /// The summary at the end of a segment that is full.
    Seal = 2,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What follows.
    pub(super) kind: Kind,
    /// The number of the frame: one more than that of the frame before it.
    pub(super) sequence: u64,
    /// Bytes of the head, which says what the frame means.
    pub(super) head: u32,
    /// Bytes of all bodies behind the head.
    pub(super) bodies: u32,
    /// Checksum of the head.
    checksum: u32,
}

impl Header {
    /// The header that `bytes` begin with, if they do begin with one that is whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_LENGTH)?;
        let mut reader = Reader::new(header);
        if reader.take(MARKER.len())? != MARKER {
            return None;
        }
        let (version, kind, reserved) = (reader.u8()?, reader.u8()?, reader.take(2)?);
        let decoded = Self {
            kind: match kind {
                1 => Kind::Commit,
                2 => Kind::Seal,
                _ => return None,
            },
            sequence: reader.u64()?,
            head: reader.u32()?,
            bodies: reader.u32()?,
            checksum: reader.u32()?,
        };
        let whole = reader.u32()? == crc32c(header.get(..COVERED)?);
        (whole && version == VERSION && reserved == [0, 0]).then_some(decoded)
    }

    /// Whether `head` is what was written.
    pub(super) fn describes(&self, head: &[u8]) -> bool {
        head.len() as u64 == u64::from(self.head) && crc32c(head) == self.checksum
    }

    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> u64 {
        HEADER_LENGTH as u64 + u64::from(self.head) + u64::from(self.bodies)
    }
}

/// The beginning of a frame whose head is `first` and `rest`. The rest and `bodies` bytes have to follow it: what is large
/// is not copied. Neither the head nor the bodies may reach 4 GiB.
pub(super) fn begin(kind: Kind, sequence: u64, first: &[u8], rest: &[u8], bodies: u64) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(HEADER_LENGTH + first.len());
    buffer.extend_from_slice(&MARKER);
    buffer.extend_from_slice(&[VERSION, kind as u8, 0, 0]);
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.extend_from_slice(&length(first.len() as u64 + rest.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&length(bodies).to_le_bytes());
    buffer.extend_from_slice(&crc32c_append(crc32c(first), rest).to_le_bytes());
    let checksum = crc32c(&buffer);
    buffer.extend_from_slice(&checksum.to_le_bytes());
    buffer.extend_from_slice(first);
    buffer
}

/// A length as it is written. The store takes nothing that is longer than this can say.
pub(super) fn length(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Where in `bytes` the next frame may begin: at the first marker, or at the last bytes that could be the start of one.
/// The second value says whether it is a marker.
pub(super) fn find(bytes: &[u8]) -> (usize, bool) {
    match memmem::find(bytes, &MARKER) {
        Some(at) => (at, true),
        None => (bytes.len().saturating_sub(MARKER.len() - 1), false),
    }
}

/// A cursor over bytes that cannot overrun.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    /// What is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(head: &[u8]) -> Vec<u8> {
        let (head, rest) = head.split_at(head.len() / 2);
        let mut buffer = begin(Kind::Commit, 7, head, rest, 3);
        buffer.extend_from_slice(rest);
        buffer.extend_from_slice(b"abc");
        buffer
    }

    #[test]
    fn the_checksum_is_the_one_of_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = frame(b"head");
        let header = Header::decode(&bytes).expect("a header");
        assert_eq!((header.kind, header.sequence, header.head, header.bodies), (Kind::Commit, 7, 4, 3));
        assert_eq!(header.length(), bytes.len() as u64);
        assert!(header.describes(b"head"));
    }

    #[test]
    fn every_flipped_bit_of_header_and_head_is_seen() {
        let whole = frame(b"head");
        for bit in 0..(HEADER_LENGTH + 4) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let good = Header::decode(&bytes).is_some_and(|header| header.describes(&bytes[HEADER_LENGTH..][..4]));
            assert!(!good, "bit {bit}");
        }
        for length in 0..HEADER_LENGTH {
            assert_eq!(Header::decode(&whole[..length]), None);
        }
    }

    #[test]
    fn a_marker_is_found_and_half_of_one_is_kept_for_the_next_look() {
        let mut bytes = b"rubbish".to_vec();
        assert_eq!(find(&bytes), (4, false));
        bytes.extend_from_slice(&frame(b""));
        assert_eq!(find(&bytes), (7, true));
        assert_eq!(find(&[]), (0, false));
        assert!(std::str::from_utf8(&MARKER[..1]).is_err() && std::str::from_utf8(&MARKER[3..]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::decode(&bytes);
            let (at, found) = find(&bytes);
            prop_assert!(at <= bytes.len() && (!found || bytes[at..].starts_with(&MARKER)));
        }
    }
}
