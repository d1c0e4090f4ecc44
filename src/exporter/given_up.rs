//! What the backend will never take, on its way to the quarantine.
//!
//! It is durable there before the cursor of the store passes it, so a process that ends in between sends it once more,
//! is refused once more, and may keep it twice. What cannot be kept is given up all the same: a full disk must not hold
//! up what the backend would take.
//!
//! The disk is waited for on a thread of the runtime's pool. One put is two syncs, and a backend that refuses everything
//! makes one for each stored request: on the exporter's own thread they would hold up the other signal and the metrics.
//! A lane has at most its four flights in hand, and with that four puts; the quarantine takes them one after the other.

use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Code;

use super::flight::{Booking, Piece};
use super::retry::Failure;
use crate::signal::Signal;
use crate::store::{About, Kept, Poison, Quarantine};
use crate::telemetry::{chain, text};
use crate::time::Timestamp;

/// A stored request that is given up, or a part of one that was too large for the server.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// The number of the flight that waits for it.
    pub(super) flight: u64,
    pub(super) piece: Piece,
    pub(super) failure: Failure,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) flight: u64,
    pub(super) booking: Booking,
    /// How many older ones had to make room.
    pub(super) pushed_out: usize,
}

impl GivenUp {
    /// Keeps it if it can be kept. It is durable when this returns.
    pub(super) async fn lay(self, signal: Signal, quarantine: Quarantine) -> Laid {
        let Self { flight, piece, failure: Failure { code, message, .. } } = self;
        let (items, message) = (piece.items(), text::one_line(&message));
        let about = About {
            signal,
            items: u32::try_from(items).unwrap_or(u32::MAX),
            code: number(code),
            reason: message.clone(),
            wall: wall(),
        };
        let poison = Poison { about, body: piece.body() };
        let put = tokio::task::spawn_blocking(move || quarantine.put(&poison)).await;
        let (kept, pushed_out) = match put {
            Ok(Ok(Kept { id: Some(id), pushed_out })) => (Ok(id), pushed_out.len()),
            Ok(Ok(Kept { id: None, .. })) => (Err("the outbox is in memory".to_owned()), 0),
            Ok(Err(error)) => (Err(text::one_line(&chain(&error))), 0),
            Err(_) => (Err("writing it ended early".to_owned()), 0),
        };
        Laid { flight, booking: Booking::Quarantined { items, code, message, kept }, pushed_out }
    }
}

fn number(code: Code) -> u32 {
    u32::try_from(i32::from(code)).unwrap_or_default()
}

/// This moment, for people to read: nothing is decided by it.
fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}
