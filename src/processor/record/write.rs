//! Writes the parts of a record.

use crate::time::{RunningTime, Timestamp};

/// Appends to the value of one record. The module head of `record` names the parts.
#[derive(Debug)]
pub(in crate::processor) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(in crate::processor) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Bytes as they are; the reader has to know how many.
    pub(in crate::processor) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Sixteen flags.
    pub(in crate::processor) fn flags(&mut self, flags: u16) {
        self.bytes(&flags.to_be_bytes());
    }

    /// A number that is mostly small.
    pub(in crate::processor) fn number(&mut self, number: u64) {
        let mut rest = number;
        while rest > 0x7f {
            self.byte((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    /// A number that is mostly close to `base`, above or below it.
    pub(in crate::processor) fn near(&mut self, number: u64, base: u64) {
        let difference = number.wrapping_sub(base).cast_signed();
        self.number(((difference << 1) ^ (difference >> 63)).cast_unsigned());
    }

    pub(in crate::processor) fn moment(&mut self, moment: Timestamp) {
        self.bytes(&moment.as_nanos().to_be_bytes());
    }

    pub(in crate::processor) fn moment_near(&mut self, moment: Timestamp, base: Timestamp) {
        self.near(moment.as_nanos(), base.as_nanos());
    }

    pub(in crate::processor) fn running(&mut self, moment: RunningTime) {
        self.bytes(&moment.as_nanos().to_be_bytes());
    }

    pub(in crate::processor) fn running_near(&mut self, moment: RunningTime, base: RunningTime) {
        self.near(moment.as_nanos(), base.as_nanos());
    }

    pub(in crate::processor) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// A text that may be absent: its length plus 1, or 0.
    pub(in crate::processor) fn maybe_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.number(text.len() as u64 + 1);
                self.bytes(text.as_bytes());
            }
            None => self.byte(0),
        }
    }
}
