//! One batch from the moment it is taken out of the store until all of it has found its end.

use std::collections::VecDeque;

use bytes::Bytes;
use tonic::Code;

use super::answer::Acceptance;
use super::retry::DOUBTFUL_TRIES;
use crate::otlp;
use crate::signal::{ExportRequest, Signal};
use crate::store::{Batch, Position, QuarantineId, StoredRequest};

/// A batch that is being delivered. It begins as one piece; refused as a whole, it goes on as several, one call at a
/// time and in their order.
#[derive(Debug)]
pub(super) struct Flight {
    /// Of its last request: how far the cursor moves when the batch is done.
    pub(super) last: Position,
    /// What is still to be sent, the next one first.
    waiting: VecDeque<Piece>,
    /// Whether a piece is on its way.
    calling: bool,
    /// What became of the items so far.
    pub(super) bookings: Vec<Booking>,
}

/// Stored requests that are sent as one.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    requests: Vec<StoredRequest>,
    /// How often the server has answered to it with a code that says nothing.
    pub(super) doubts: u32,
}

/// The end of some items. Told to the telemetry when the cursor passes them, because until then the store counts them
/// as pending, and no item may be counted twice. Texts are cut to a line: they may wait for long, and be many.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Booking {
    /// The server has them.
    Acknowledged { items: u64 },
    /// The server took the call and not these.
    Refused { items: u64, message: String },
    /// The server has them all, and something to say.
    Remarked { message: String },
    /// The server will never take them. They are kept under this name, or for this reason are not.
    Quarantined { items: u64, code: Code, message: String, kept: Result<QuarantineId, String> },
}

impl Flight {
    pub(super) fn new(batch: Batch) -> Self {
        let piece = Piece { requests: batch.requests, doubts: 0 };
        Self { last: batch.last, waiting: VecDeque::from([piece]), calling: false, bookings: Vec::new() }
    }

    /// The piece to send next, unless one is on its way.
    pub(super) fn depart(&mut self) -> Option<Piece> {
        if self.calling {
            return None;
        }
        let piece = self.waiting.pop_front()?;
        self.calling = true;
        Some(piece)
    }

    /// The piece that departed has found its end.
    pub(super) fn land(&mut self, booking: impl IntoIterator<Item = Booking>) {
        self.calling = false;
        self.bookings.extend(booking);
    }

    /// What departed has to be sent again, as these pieces.
    pub(super) fn turn_back(&mut self, pieces: impl DoubleEndedIterator<Item = Piece>) {
        self.calling = false;
        for piece in pieces.rev() {
            self.waiting.push_front(piece);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        !self.calling && self.waiting.is_empty()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.calling && !self.waiting.is_empty()
    }
}

impl Piece {
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.requests.iter().map(|request| request.body.clone()).collect()
    }

    /// As one request.
    pub(super) fn body(&self) -> Bytes {
        match self.requests.as_slice() {
            [only] => only.body.clone(),
            _ => self.bodies().concat().into(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.requests.iter().map(|request| request.body.len()).sum()
    }

    pub(super) fn items(&self) -> u64 {
        self.requests.iter().map(|request| u64::from(request.items)).sum()
    }

    /// Two pieces with the same stored requests in the same order, or `None` if there is only one.
    pub(super) fn part(&self) -> Option<[Self; 2]> {
        let requests = self.requests.as_slice();
        let (first, second) = requests.split_at_checked(requests.len() / 2).filter(|(first, _)| !first.is_empty())?;
        Some([first, second].map(|requests| Self { requests: requests.to_vec(), doubts: 0 }))
    }

    /// As [`Piece::part`], for a piece that got no clear answer as often as one may. A part with several stored
    /// requests is tried once only, for it has been tried with the whole, and the search shall end; a single one has
    /// all its tries.
    pub(super) fn part_in_doubt(&self) -> Option<[Self; 2]> {
        self.part().map(|parts| {
            parts.map(|part| {
                let doubts = if part.requests.len() > 1 { DOUBTFUL_TRIES - 1 } else { 0 };
                Self { doubts, ..part }
            })
        })
    }

    /// Two smaller pieces with the same items in the same order, or `None` if there is only one item, or bytes that
    /// cannot be taken apart. Stored requests are parted first; a single one is decoded and halved.
    pub(super) fn halve(&self, signal: Signal) -> Option<[Self; 2]> {
        self.part().or_else(|| {
            let only = self.requests.first()?;
            let (first, second) = otlp::split(signal, &only.body)?;
            // Accounting trusts these counts, so a split that loses or invents items is none.
            if u64::from(first.items) + u64::from(second.items) != u64::from(only.items) {
                return None;
            }
            let piece = |half: ExportRequest| Self {
                requests: vec![StoredRequest { items: half.items, body: half.body }],
                doubts: 0,
            };
            Some([piece(first), piece(second)])
        })
    }

    /// What an accepted piece is booked as. A server cannot reject more than it was sent.
    pub(super) fn accepted(&self, acceptance: Acceptance) -> Vec<Booking> {
        let items = self.items();
        let rejected = acceptance.rejected.min(items);
        let mut bookings = Vec::with_capacity(2);
        if rejected < items {
            bookings.push(Booking::Acknowledged { items: items - rejected });
        }
        if rejected > 0 {
            bookings.push(Booking::Refused { items: rejected, message: acceptance.message });
        } else if !acceptance.message.is_empty() {
            bookings.push(Booking::Remarked { message: acceptance.message });
        }
        bookings
    }
}
