//! The loop of one signal: next, send, acknowledge or wait.
//!
//! * Batches are taken in the order of the store; at most [`FLIGHTS_MAX`] are in hand, each with one call at a time.
//! * Calls start in order and may end in any. The cursor follows the batches that are done without a gap, and only then
//!   are their items booked.
//! * After a failure no call starts for a time, and then one alone; see [`Gate`].
//! * What the backend will never take is given up after its own tries, so that it blocks nothing but itself. A call may
//!   carry thousands of stored requests of which one is bad, so a refused call is parted, and parted again, until the
//!   refused part is one stored request. Only that is given up, and put into the quarantine before the cursor moves.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::client::Client;
use super::flight::{Booking, Flight, Piece};
use super::gate::{Gate, Passage, Ticket};
use super::given_up::{GivenUp, Laid};
use super::retry::{DOUBTFUL_TRIES, Disposition, Failure};
use super::size::CallSize;
use super::{RetryConfig, Stop};
use crate::signal::Signal;
use crate::store::{Position, Quarantine, Status, Store};
use crate::telemetry::Telemetry;

/// Batches in hand, and with that calls at a time.
const FLIGHTS_MAX: usize = 4;

/// Everything of one signal that lies between the store and the backend.
#[derive(Debug)]
pub(super) struct Lane {
    signal: Signal,
    client: Client,
    store: Store,
    telemetry: Telemetry,
    gate: Gate,
    /// The oldest first.
    flights: VecDeque<Flight>,
    /// The number of the flight at the front.
    first: u64,
    /// Up to here everything is in hand or done.
    taken: Position,
    size: CallSize,
    trouble: Trouble,
    /// What is to be put into the quarantine.
    given_up: VecDeque<GivenUp>,
}

/// What the backend was last said to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Retrying,
    Parked,
}

/// A call to be made.
#[derive(Debug)]
struct Departure {
    flight: u64,
    ticket: Ticket,
    piece: Piece,
}

/// What a lane waits for.
#[derive(Debug)]
enum Errand {
    Call(Departure),
    Lay(GivenUp),
}

/// What has come of it.
#[derive(Debug)]
enum Arrival {
    Answered(Departure, Answer),
    Laid(Laid),
}

impl Lane {
    pub(super) fn new(
        signal: Signal,
        client: Client,
        retry: RetryConfig,
        store: Store,
        telemetry: Telemetry,
        seed: u64,
    ) -> Self {
        Self {
            signal,
            client,
            store,
            telemetry,
            gate: Gate::new(retry, seed),
            flights: VecDeque::with_capacity(FLIGHTS_MAX),
            first: 0,
            taken: Position::START,
            size: CallSize::LARGEST,
            trouble: Trouble::None,
            given_up: VecDeque::new(),
        }
    }

    /// Delivers until told to stop, then what is left until the deadline. Returns how many items stay behind.
    pub(super) async fn run(mut self, mut stop: Stop) -> u64 {
        let mut errands = FuturesUnordered::new();
        loop {
            let deadline = *stop.borrow_and_update();
            if let Some(deadline) = deadline {
                self.gate.hurry(deadline);
            }
            // One moment for all that follows: if the gate is shut for the calls, it has to be for the timer as well.
            let now = Instant::now();
            while let Some(errand) = self.errand(now) {
                errands.push(run(errand, self.signal, self.client.clone(), self.store.quarantine().clone()));
            }
            if deadline.is_some_and(|deadline| self.is_over(now, deadline, errands.is_empty())) {
                break;
            }
            tokio::select! {
                Some(arrival) = errands.next() => self.arrive(Instant::now(), arrival),
                () = self.store.appended(self.signal, self.taken), if self.may_take(now) => {}
                () = at(self.opens_at(now)) => {}
                () = at(deadline) => break,
                told = stop.changed(), if deadline.is_none() => {
                    if told.is_err() {
                        // Whoever could have told us is gone, and nobody waits for what is left.
                        break;
                    }
                }
            }
        }
        self.store.pending(self.signal).items
    }

    /// Whether there is nothing left to deliver, or no way to deliver it in time.
    fn is_over(&self, now: Instant, deadline: Instant, idle: bool) -> bool {
        let nothing_left = self.flights.is_empty() && self.store.pending(self.signal).requests == 0;
        // What is on disk is as safe as it would be with a backend that answers, and the next process may be waiting for us
        // to end: one failure is enough.
        let is_kept = self.store.status() == Status::Durable;
        let too_late = idle && self.opens_at(now).is_some_and(|opens| is_kept || opens >= deadline);
        nothing_left || too_late
    }

    fn may_take(&self, now: Instant) -> bool {
        self.flights.len() < FLIGHTS_MAX && self.gate.passage(now) != Passage::None
    }

    /// When the gate lets a call through, if it does not yet. Once it does, a call starts, or there is none to make.
    fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.gate.opens_at().filter(|&opens| opens > now)
    }

    fn errand(&mut self, now: Instant) -> Option<Errand> {
        match self.given_up.pop_front() {
            Some(given_up) => Some(Errand::Lay(given_up)),
            None => self.depart(now).map(Errand::Call),
        }
    }

    /// The next call that may start now.
    fn depart(&mut self, now: Instant) -> Option<Departure> {
        if self.gate.passage(now) == Passage::None {
            return None;
        }
        let waiting = self.flights.iter().position(Flight::is_waiting);
        let index = match waiting {
            Some(index) => index,
            None if self.may_take(now) => {
                let batch = self.store.next(self.signal, self.taken, self.size.limit())?;
                self.taken = batch.last;
                self.flights.push_back(Flight::new(batch));
                self.flights.len() - 1
            }
            None => return None,
        };
        let piece = self.flights.get_mut(index)?.depart()?;
        Some(Departure { flight: self.first + index as u64, ticket: self.gate.pass(), piece })
    }

    fn arrive(&mut self, now: Instant, arrival: Arrival) {
        match arrival {
            Arrival::Answered(Departure { flight, ticket, piece }, Answer::Accepted(acceptance)) => {
                self.gate.answered(ticket);
                self.size.accepted();
                self.recovered(now);
                self.land(flight, piece.accepted(acceptance));
            }
            Arrival::Answered(Departure { flight, ticket, piece }, Answer::Failed(failure)) => {
                self.failed(now, flight, ticket, piece, failure);
            }
            Arrival::Laid(Laid { flight, booking, pushed_out }) => {
                self.telemetry.pushed_out(pushed_out as u64);
                self.land(flight, [booking]);
            }
        }
        self.settle();
    }

    fn failed(&mut self, now: Instant, flight: u64, ticket: Ticket, mut piece: Piece, failure: Failure) {
        match Disposition::of(&failure) {
            Disposition::Split => {
                self.gate.answered(ticket);
                self.size.refused(piece.bytes());
                match piece.halve(self.signal) {
                    Some(halves) => self.turn_back(flight, halves),
                    None => self.give_up(flight, piece, failure),
                }
            }
            Disposition::Retry { at_least } => {
                self.hold_back(now, ticket, &failure, at_least);
                self.turn_back(flight, [piece]);
            }
            Disposition::RetryInDoubt { at_least } => {
                piece.doubts += 1;
                if piece.doubts < DOUBTFUL_TRIES {
                    self.hold_back(now, ticket, &failure, at_least);
                    self.turn_back(flight, [piece]);
                } else if let Some(parts) = piece.part_in_doubt() {
                    self.hold_back(now, ticket, &failure, at_least);
                    self.turn_back(flight, parts);
                } else {
                    // Nothing was taken, so this is no sign that the backend is well: the next request waits as this
                    // one would have.
                    self.gate.shut(ticket, now, at_least);
                    self.give_up(flight, piece, failure);
                }
            }
            Disposition::Park => {
                if self.gate.park(ticket, now).is_some() && self.trouble != Trouble::Parked {
                    self.trouble = Trouble::Parked;
                    self.telemetry.parked(self.signal, failure.code, &failure.message);
                }
                self.turn_back(flight, [piece]);
            }
            Disposition::Quarantine => {
                self.gate.answered(ticket);
                match piece.part() {
                    Some(parts) => self.turn_back(flight, parts),
                    None => self.give_up(flight, piece, failure),
                }
            }
        }
    }

    /// No call starts for a time. What failed has to be turned back, or given up.
    fn hold_back(&mut self, now: Instant, ticket: Ticket, failure: &Failure, at_least: Duration) {
        if let Some(wait) = self.gate.shut(ticket, now, at_least) {
            self.trouble = Trouble::Retrying;
            self.telemetry.retrying(self.signal, failure.code, &failure.message, wait);
            if !failure.from_server {
                self.client.renew();
            }
        }
    }

    /// This is the one place where a stored request is given up, or a part of one that was too large for the server. Its
    /// flight goes on waiting for it until it is in the quarantine.
    fn give_up(&mut self, flight: u64, piece: Piece, failure: Failure) {
        self.given_up.push_back(GivenUp { flight, piece, failure });
    }

    fn land(&mut self, flight: u64, bookings: impl IntoIterator<Item = Booking>) {
        if let Some(flight) = self.flight(flight) {
            flight.land(bookings);
        }
    }

    fn turn_back<const PIECES: usize>(&mut self, flight: u64, pieces: [Piece; PIECES]) {
        if let Some(flight) = self.flight(flight) {
            flight.turn_back(pieces.into_iter());
        }
    }

    /// A flight by its number. One with an errand under way is never removed, so there always is one.
    fn flight(&mut self, number: u64) -> Option<&mut Flight> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.flights.get_mut(index)
    }

    /// Moves the cursor over the batches that are done without a gap.
    fn settle(&mut self) {
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.is_done()) {
            self.first += 1;
            self.store.acknowledge(self.signal, flight.last);
            for booking in flight.bookings {
                self.book(&booking);
            }
        }
    }

    fn book(&self, booking: &Booking) {
        match booking {
            Booking::Acknowledged { items } => self.telemetry.acknowledged(self.signal, *items),
            Booking::Refused { items, message } => self.telemetry.refused(self.signal, *items, message),
            Booking::Remarked { message } => self.telemetry.remarked(self.signal, message),
            Booking::Quarantined { items, code, message, kept: Ok(id) } => {
                self.telemetry.quarantined(self.signal, *items, *code, message, id.0);
            }
            Booking::Quarantined { items, code, message, kept: Err(why) } => {
                self.telemetry.discarded(self.signal, *items, *code, message, why);
            }
        }
    }

    fn recovered(&mut self, now: Instant) {
        if self.trouble != Trouble::None && self.gate.passage(now) == Passage::Free {
            self.trouble = Trouble::None;
            self.telemetry.delivering(self.signal);
        }
    }
}

async fn run(errand: Errand, signal: Signal, client: Client, quarantine: Quarantine) -> Arrival {
    match errand {
        Errand::Call(departure) => {
            let answer = client.send(signal, departure.piece.bodies()).await;
            Arrival::Answered(departure, answer)
        }
        Errand::Lay(given_up) => Arrival::Laid(given_up.lay(signal, quarantine).await),
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
