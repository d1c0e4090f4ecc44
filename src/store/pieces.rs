//! What is written at once, without being copied together first.

use std::io::IoSlice;

use bytes::Bytes;

/// Bytes that are to lie one behind the other in a file: of frames, their heads and the bodies as the core made them.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: Vec<Bytes>,
    length: u64,
}

impl Pieces {
    pub(super) fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.length = self.length.saturating_add(piece.len() as u64);
            self.pieces.push(piece);
        }
    }

    /// Bytes of all of them.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().map(|piece| IoSlice::new(piece)).collect()
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        let mut pieces = Self::default();
        pieces.push(bytes);
        pieces
    }
}
