//! Protobuf as bytes: keys, lengths and the scalar types that OTLP uses.
//!
//! As in every proto3 message, a field that holds its default value is not written. Fields are written in the order of
//! their numbers by whoever calls; numbers above 15 cost a second byte.

/// What stands behind a field's number: protobuf's wire types, without the two of the long abandoned groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number of one to ten bytes.
    Varint = 0,
    /// Eight bytes, little-endian.
    Fixed64 = 1,
    /// A length and as many bytes: text, ids, nested messages.
    Bytes = 2,
    /// Four bytes, little-endian.
    Fixed32 = 5,
}

impl Kind {
    /// The kind in the lowest three bits of a key; `None` for a group, or what protobuf does not know.
    pub(super) const fn of_key(key: u32) -> Option<Self> {
        match key & 0b111 {
            0 => Some(Self::Varint),
            1 => Some(Self::Fixed64),
            2 => Some(Self::Bytes),
            5 => Some(Self::Fixed32),
            _ => None,
        }
    }
}

/// Where a message goes: into bytes, or only into their number.
///
/// A nested message is preceded by its length. Writing each message by one function over either kind of sink means that
/// the length written before it and the bytes behind it cannot disagree.
pub(super) trait Sink: Sized {
    /// Bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    /// A number in groups of seven bits, lowest first, as few bytes as it takes.
    fn varint(&mut self, value: u64);

    /// Fields that all have a length and were written before, perhaps as those of another number: each under this key.
    fn fields(&mut self, key: u8, fields: &[u8]);

    /// A field's number and the kind of what follows.
    #[inline]
    fn key(&mut self, field: u32, kind: Kind) {
        self.varint(u64::from(field << 3 | kind as u32));
    }

    /// The key and length in front of `length` bytes.
    #[inline]
    fn header(&mut self, field: u32, length: usize) {
        self.key(field, Kind::Bytes);
        self.varint(length as u64);
    }

    /// Bytes of their own, even when there are none: ids, and text inside a `oneof`, where absent is not empty.
    #[inline]
    fn present(&mut self, field: u32, bytes: &[u8]) {
        self.header(field, bytes.len());
        self.raw(bytes);
    }

    /// Text, unless it is empty.
    #[inline]
    fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.present(field, text.as_bytes());
        }
    }

    /// A number inside a `oneof`, or one that is never 0.
    #[inline]
    fn number(&mut self, field: u32, value: u64) {
        self.key(field, Kind::Varint);
        self.varint(value);
    }

    /// Four bytes, unless they are 0.
    #[inline]
    fn fixed32(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.key(field, Kind::Fixed32);
            self.raw(&value.to_le_bytes());
        }
    }

    /// Eight bytes, unless they are 0.
    #[inline]
    fn fixed64(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, Kind::Fixed64);
            self.raw(&value.to_le_bytes());
        }
    }

    /// A message inside this one.
    #[inline]
    fn message(&mut self, field: u32, message: &impl Message) {
        self.sized_message(field, message, message.length());
    }

    /// The same, for a caller who has asked for the message's length already.
    #[inline]
    fn sized_message(&mut self, field: u32, message: &impl Message, length: usize) {
        self.header(field, length);
        message.write(self);
    }
}

/// What can be written as a protobuf message.
pub(super) trait Message {
    /// Writes the fields, without anything around them.
    fn write(&self, sink: &mut impl Sink);

    /// How many bytes the fields take.
    #[inline]
    fn length(&self) -> usize {
        let mut length = Length(0);
        self.write(&mut length);
        length.0
    }
}

/// The key of a field that has a length, as the one byte that it takes for a number up to 15.
#[inline]
pub(super) const fn short_key(field: u32) -> u8 {
    debug_assert!(field <= 15);
    (field << 3 | Kind::Bytes as u32) as u8
}

/// How many bytes `length` bytes take behind the key (of a number up to 15) and length of their own.
pub(super) const fn framed(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

/// How many bytes a number takes: one for each seven bits it has, and one for 0.
#[inline]
const fn varint_length(value: u64) -> usize {
    if value < 0x80 {
        return 1;
    }
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

impl Sink for Vec<u8> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn fields(&mut self, key: u8, fields: &[u8]) {
        let start = self.len();
        self.extend_from_slice(fields);
        if fields.first().is_some_and(|first| *first != key) {
            set_keys(self.get_mut(start..).unwrap_or_default(), key);
        }
    }
}

/// Replaces the key, one byte, of each of these fields.
fn set_keys(mut fields: &mut [u8], key: u8) {
    while let Some((first, behind)) = fields.split_first_mut() {
        *first = key;
        let (mut length, mut read) = (0, 0);
        while let Some(&byte) = behind.get(read) {
            length |= usize::from(byte & 0x7f) << (7 * read);
            read += 1;
            if byte < 0x80 {
                break;
            }
        }
        fields = behind.get_mut(read + length..).unwrap_or_default();
    }
}

/// A sink that only counts.
struct Length(usize);

impl Sink for Length {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += varint_length(value);
    }

    #[inline]
    fn fields(&mut self, _: u8, fields: &[u8]) {
        self.0 += fields.len();
    }

    /// What is only counted need not be counted twice, once for its length and once for itself.
    #[inline]
    fn sized_message(&mut self, field: u32, _: &impl Message, length: usize) {
        self.header(field, length);
        self.0 += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_one_byte_for_each_seven_bits() {
        for bits in 0..64 {
            for value in [(1_u64 << bits) - 1, 1 << bits, u64::MAX >> (63 - bits)] {
                let mut written = Vec::new();
                written.varint(value);
                assert_eq!(varint_length(value), written.len(), "{value}");
                assert_eq!(prost::encoding::decode_varint(&mut written.as_slice()), Ok(value));
                assert_eq!(prost::encoding::encoded_len_varint(value), written.len(), "not minimal: {value}");
            }
        }
    }
}
