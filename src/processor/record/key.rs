//! The names of records.

use super::read::{Reader, is_counter};

/// Longest key.
const KEY_MAX: usize = 13;

/// What a record is about. The order of the kinds is the order in which they are walked and restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::processor) enum RecordKey {
    Core,
    /// A node, by its number.
    Node(u32),
    /// A gap of a node, by its serial.
    Gap(u32, u64),
    /// A held datagram of a node, by its place.
    Held(u32, u64),
    /// The restarts of a node's counter whose time of suspicion is not over.
    Restarts(u32),
    /// An ended id, by the order of the ends.
    Ended(u64),
    /// How often a thing was opened: sessions without id (0) or connections (1), generation, place in it.
    Ordinal(u8, u64, u16),
    /// An open session, by the order of opening.
    Session(u64),
}

impl RecordKey {
    /// The version in which records of this kind are written. Those of lower versions can be read.
    pub(super) const fn version(self) -> u8 {
        match self {
            Self::Core
            | Self::Node(_)
            | Self::Gap(..)
            | Self::Held(..)
            | Self::Restarts(_)
            | Self::Ended(_)
            | Self::Ordinal(..)
            | Self::Session(_) => 1,
        }
    }

    pub(super) fn encode(self) -> KeyBytes {
        let mut key = KeyBytes { bytes: [0; KEY_MAX], length: 0 };
        match self {
            Self::Core => key.push(&[1]),
            Self::Node(node) => key.push(&[2]).push(&node.to_be_bytes()),
            Self::Gap(node, serial) => key.push(&[3]).push(&node.to_be_bytes()).push(&serial.to_be_bytes()),
            Self::Held(node, place) => key.push(&[4]).push(&node.to_be_bytes()).push(&place.to_be_bytes()),
            Self::Restarts(node) => key.push(&[5]).push(&node.to_be_bytes()),
            Self::Ended(order) => key.push(&[6]).push(&order.to_be_bytes()),
            Self::Ordinal(of, generation, place) => {
                key.push(&[7, of]).push(&generation.to_be_bytes()).push(&place.to_be_bytes())
            }
            Self::Session(opened) => key.push(&[8]).push(&opened.to_be_bytes()),
        };
        key
    }

    /// The key with these bytes, if they are one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        let key = match kind {
            1 => Self::Core,
            2 => Self::Node(node(&mut reader)?),
            3 => Self::Gap(node(&mut reader)?, counter(&mut reader)?),
            4 => Self::Held(node(&mut reader)?, counter(&mut reader)?),
            5 => Self::Restarts(node(&mut reader)?),
            6 => Self::Ended(counter(&mut reader)?),
            7 => {
                let of = reader.byte().filter(|of| *of <= 1)?;
                Self::Ordinal(of, counter(&mut reader)?, reader.array().map(u16::from_be_bytes)?)
            }
            8 => Self::Session(counter(&mut reader)?),
            _ => return None,
        };
        reader.end().map(|()| key)
    }

    /// Whether a first byte is that of a kind we know.
    pub(super) const fn is_known(kind: u8) -> bool {
        matches!(kind, 1..=8)
    }
}

fn node(reader: &mut Reader<'_>) -> Option<u32> {
    reader.array().map(u32::from_be_bytes)
}

fn counter(reader: &mut Reader<'_>) -> Option<u64> {
    reader.array().map(u64::from_be_bytes).filter(|&number| is_counter(number))
}

/// A key as it is stored, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyBytes {
    bytes: [u8; KEY_MAX],
    length: usize,
}

impl KeyBytes {
    fn push(&mut self, bytes: &[u8]) -> &mut Self {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
        }
        self.length += bytes.len();
        self
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let keys = [
            RecordKey::Core,
            RecordKey::Node(7),
            RecordKey::Gap(7, 8),
            RecordKey::Held(7, u64::from(u32::MAX)),
            RecordKey::Restarts(u32::MAX),
            RecordKey::Ended(9),
            RecordKey::Ordinal(1, 10, 4095),
            RecordKey::Session(11),
        ];
        for key in keys {
            let encoded = key.encode();
            assert_eq!(RecordKey::decode(encoded.as_slice()), Some(key));
            for length in 0..encoded.as_slice().len() {
                assert_eq!(RecordKey::decode(&encoded.as_slice()[..length]), None);
            }
        }
        assert_eq!(RecordKey::decode(&[8, 255, 0, 0, 0, 0, 0, 0, 0]), None, "no such counter");
        assert_eq!(RecordKey::decode(&[9]), None);
    }
}
