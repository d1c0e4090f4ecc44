//! Reads the parts of a record, whatever its bytes are.

use crate::event::text::is_forbidden;
use crate::time::{RunningTime, Timestamp};

/// Counters above this are damage: so much never happens, and arithmetic with them must not overflow.
const COUNTER_MAX: u64 = 1 << 62;

/// A cursor that cannot overrun. Every part is `None` where the bytes do not hold it; nothing is taken from them that is
/// longer than they are.
#[derive(Clone, Debug)]
pub(in crate::processor) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::processor) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(in crate::processor) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// `None` where bytes are left: a version says all that its records hold.
    pub(in crate::processor) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    pub(in crate::processor) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(in crate::processor) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// An id, which is never all zero.
    pub(in crate::processor) fn id<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.array().filter(|id| *id != [0; N])
    }

    pub(in crate::processor) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(in crate::processor) fn flags(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::processor) fn number(&mut self) -> Option<u64> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(in crate::processor) fn small(&mut self) -> Option<u32> {
        self.number().and_then(|number| u32::try_from(number).ok())
    }

    /// A number that only ever counts up.
    pub(in crate::processor) fn counter(&mut self) -> Option<u64> {
        self.number().filter(|&number| number <= COUNTER_MAX)
    }

    pub(in crate::processor) fn near(&mut self, base: u64) -> Option<u64> {
        let folded = self.number()?;
        let difference = (folded >> 1).cast_signed() ^ -((folded & 1).cast_signed());
        Some(base.wrapping_add(difference.cast_unsigned()))
    }

    /// A number close to `base` that only ever counts up.
    pub(in crate::processor) fn near_counter(&mut self, base: u64) -> Option<u64> {
        self.near(base).filter(|&number| is_counter(number))
    }

    pub(in crate::processor) fn moment(&mut self) -> Option<Timestamp> {
        self.array().map(u64::from_be_bytes).map(Timestamp::from_nanos)
    }

    pub(in crate::processor) fn moment_near(&mut self, base: Timestamp) -> Option<Timestamp> {
        self.near(base.as_nanos()).map(Timestamp::from_nanos)
    }

    pub(in crate::processor) fn running(&mut self) -> Option<RunningTime> {
        self.array().map(u64::from_be_bytes).map(RunningTime::from_nanos)
    }

    pub(in crate::processor) fn running_near(&mut self, base: RunningTime) -> Option<RunningTime> {
        self.near(base.as_nanos()).map(RunningTime::from_nanos)
    }

    pub(in crate::processor) fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        self.text_of(length)
    }

    pub(in crate::processor) fn maybe_text(&mut self) -> Option<Option<&'a str>> {
        match self.number()? {
            0 => Some(None),
            more => self.text_of(more - 1).map(Some),
        }
    }

    /// As many bytes of text, without the characters that the rest of the core relies on never to see.
    pub(in crate::processor) fn text_of(&mut self, length: u64) -> Option<&'a str> {
        let bytes = self.bytes(usize::try_from(length).ok()?)?;
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.chars().any(is_forbidden)).then_some(text)
    }
}

/// The counter in a key.
pub(in crate::processor) const fn is_counter(number: u64) -> bool {
    number <= COUNTER_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::processor::record::write::Writer;

    proptest! {
        #[test]
        fn what_was_written_is_read(number: u64, base: u64, text in "[a-zÅ]{0,300}", maybe in proptest::option::of("[a-z]{0,3}")) {
            let mut bytes = Vec::new();
            let mut writer = Writer(&mut bytes);
            writer.number(number);
            writer.near(number, base);
            writer.text(&text);
            writer.maybe_text(maybe.as_deref());
            writer.moment(Timestamp::from_nanos(number));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.near(base), Some(number));
            prop_assert_eq!(reader.text(), Some(text.as_str()));
            prop_assert_eq!(reader.maybe_text(), Some(maybe.as_deref()));
            prop_assert_eq!(reader.moment(), Some(Timestamp::from_nanos(number)));
            prop_assert_eq!(reader.end(), Some(()));
            prop_assert_eq!(reader.byte(), None);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.left() > 0 && reader.text().or_else(|| reader.byte().map(|_| "")).is_some() {}
            let mut reader = Reader::new(&bytes);
            while reader.number().is_some() {}
        }
    }

    #[test]
    fn what_no_record_holds_is_refused() {
        assert_eq!(Reader::new(&[0xff; 10]).number(), None, "more than 64 bits");
        assert_eq!(Reader::new(&[5, b'a']).text(), None, "longer than the bytes");
        assert_eq!(Reader::new(&[3, 0xe2, 0x80, 0xae]).text(), None, "a bidirectional control");
        assert_eq!(Reader::new(&[1, 0xff]).text(), None, "no UTF-8");
        assert_eq!(Reader::new(&[0; 8]).id::<8>(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).counter(), None);
    }
}
