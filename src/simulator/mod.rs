//! A Qlik Sense site that never was: seeded users in, datagrams with their times out, and the truth to check against.
//!
//! ```text
//!  seed ──> site (nodes, users, apps) ──> plans of sessions ──> events in order ──> datagrams, some lost,
//!                                                                    │              twice or late
//!                                                                    └──> Truth
//! ```
//!
//! Pure: the same [`Config`] gives the same datagrams at the same times, on any machine. Whoever sends them paces them by
//! [`Emission::at`].
//!
//! A user begins a session, opens apps one after the other or beside each other, reloads some, closes them and goes; the
//! session's Stop comes half an hour after the last Close, or at once by logging out, or, as on real sites, never. Session
//! events come with the Origin and Context `Not available`, connection events with `AppAccess` and the URL of the app.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::event::Format;
use crate::time::Timestamp;

mod plan;
mod session;
mod site;
pub mod truth;
pub mod wire;

use plan::Plan;
use session::Session;
use site::Site;
pub use site::{APP_NAMES, USER_AGENTS};
use truth::{Fate, Truth};

/// The highest number of the appender's counter; 1 follows.
const SEQUENCE_MAX: u32 = 2_147_483_647;

/// The longest delay of the second of two equal datagrams, in milliseconds: short of what tells a repetition from a
/// duplicate in the stock format.
const DUPLICATE_DELAY_MAX: u64 = 20;

/// The longest delay of a datagram that is overtaken, in milliseconds.
const DELAY_MAX: u64 = 30;

/// What kind of site, and what happens to its datagrams.
#[derive(Clone, Debug)]
pub struct Config {
    /// The same seed gives the same site and the same day.
    pub seed: u64,
    /// How many users, at least 1. One in about thirty is anonymous.
    pub users: usize,
    /// How many proxy nodes, at least 1.
    pub nodes: usize,
    /// Which appender the nodes have.
    pub format: Format,
    /// When it begins; cut to whole milliseconds.
    pub start: Timestamp,
    /// How fast.
    pub pace: Pace,
    /// How users and browsers behave.
    pub habits: Habits,
    /// What happens to datagrams on their way.
    pub faults: Faults,
    /// After so many events nothing happens any more; what is due by then is still sent.
    pub events_max: u64,
    /// Whether [`Simulator::truth`] is kept. It grows by some 100 bytes an event; a load test does without.
    pub keeps_truth: bool,
}

/// How fast the events follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many events a second, evenly and without end, whatever they are. The sessions shrink to fit: this is for load.
    PerSecond(f64),
    /// As they would happen on a working day that is over after so long, most users coming in the first hours. What has
    /// not happened by its end never does. Whoever wants it faster divides the times.
    Day(Duration),
}

/// How users and browsers behave: shares from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Sessions whose Stop never comes.
    pub unstopped: f64,
    /// Tabs whose Close never comes; the Stop of their session ends them.
    pub unclosed: f64,
    /// Sessions beside which the user begins another one in a second browser, on any node.
    pub second_browser: f64,
    /// Sessions with an attempt to open an app that is refused. The stock format cannot say so and has none.
    pub refused: f64,
    /// Connections from a mashup that passes on its trace context.
    pub traced: f64,
}

/// What happens to datagrams: ratios from 0 to 1, of which each datagram meets one at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Never sent.
    pub loss: f64,
    /// Sent twice.
    pub duplicate: f64,
    /// Sent up to 30 ms late, and so overtaken by what follows closely enough.
    pub reorder: f64,
}

/// One datagram, due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Emission {
    /// When it is sent. Never earlier than that of the emission before.
    pub at: Timestamp,
    /// How many emissions were made before it, those included that are still due: the order among equal times.
    number: u64,
    /// Index of the node that sends it. Each node sends from a socket of its own.
    pub node: usize,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// The site at work: an iterator over its datagrams in the order in which they are sent.
#[derive(Debug)]
pub struct Simulator {
    config: Config,
    rng: Rng,
    site: Site,
    /// What happens next, by milliseconds since the start.
    agenda: BinaryHeap<Reverse<Appointment>>,
    appointments: u64,
    sessions: Vec<Session>,
    /// Places in `sessions` whose session is over.
    free: Vec<usize>,
    /// Datagrams that are made but not sent.
    due: BinaryHeap<Reverse<Emission>>,
    emissions: u64,
    /// The last number of each node's counter.
    sequences: Vec<u32>,
    events: u64,
    truth: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Appointment {
    millis: u64,
    number: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The user of this index begins a session.
    Arrival(usize),
    /// The session in this place takes its next step.
    Step(usize),
}

impl Config {
    /// Fifty ordinary users on four nodes, without faults, with the truth kept.
    ///
    /// In the stock format every session stops and nobody has two at a time: its events do not say which session they
    /// belong to, so that the truth about several open ones of a user cannot be found.
    #[must_use]
    pub fn new(format: Format, start: Timestamp, pace: Pace) -> Self {
        let (unstopped, second_browser) = if format == Format::Stock { (0.0, 0.0) } else { (0.08, 0.05) };
        Self {
            seed: 1,
            users: 50,
            nodes: 4,
            format,
            start,
            pace,
            habits: Habits { unstopped, unclosed: 0.02, second_browser, refused: 0.02, traced: 0.03 },
            faults: Faults::default(),
            events_max: u64::MAX,
            keeps_truth: true,
        }
    }
}

impl Simulator {
    /// The site before its first event.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut rng = Rng::with_seed(config.seed);
        let site = Site::new(&mut rng, &config);
        let sequences = vec![0; site.nodes.len()];
        let truth = Truth { nodes: site.nodes.clone(), ..Truth::default() };
        let mut simulator = Self {
            config,
            rng,
            site,
            agenda: BinaryHeap::new(),
            appointments: 0,
            sessions: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            emissions: 0,
            sequences,
            events: 0,
            truth,
        };
        for user in 0..simulator.site.users.len() {
            let millis = simulator.first_arrival();
            simulator.appoint(millis, What::Arrival(user));
        }
        simulator
    }

    /// What has happened so far, whether it has been sent or not. Empty but for the nodes where it is not kept.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Host names of the nodes, by [`Emission::node`].
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        &self.site.nodes
    }

    /// How many events have happened so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many sessions are between their first and their last event.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.sessions.len() - self.free.len()
    }

    fn first_arrival(&mut self) -> u64 {
        /// How many of thirty arrive in each eighth of the day.
        const ARRIVALS: [u64; 8] = [8, 8, 4, 2, 4, 2, 1, 1];
        let Pace::Day(length) = self.config.pace else {
            return self.rng.u64(..600_000);
        };
        let mut drawn = self.rng.u64(..ARRIVALS.iter().sum::<u64>());
        let mut eighth = 0;
        for arrivals in ARRIVALS {
            if drawn < arrivals {
                break;
            }
            drawn -= arrivals;
            eighth += 1;
        }
        let length_of_eighth = (millis(length) / 8).max(1);
        eighth * length_of_eighth + self.rng.u64(..length_of_eighth)
    }

    fn appoint(&mut self, millis: u64, what: What) {
        self.appointments += 1;
        self.agenda.push(Reverse(Appointment { millis, number: self.appointments, what }));
    }

    /// When the next appointment is, unless nothing happens any more.
    fn next_moment(&self) -> Option<Timestamp> {
        let Reverse(next) = self.agenda.peek()?;
        if self.events >= self.config.events_max {
            return None;
        }
        match self.config.pace {
            Pace::PerSecond(_) => Some(self.moment(next.millis)),
            Pace::Day(length) => (next.millis <= millis(length)).then(|| self.moment(next.millis)),
        }
    }

    /// The time that the clocks of the nodes show for an appointment.
    fn moment(&self, planned: u64) -> Timestamp {
        let since_start = match self.config.pace {
            Pace::PerSecond(rate) => (self.events as f64 * 1_000.0 / rate.max(f64::MIN_POSITIVE)) as u64,
            Pace::Day(_) => planned,
        };
        let start = self.config.start.as_nanos() / 1_000_000 * 1_000_000;
        Timestamp::from_nanos(start) + Duration::from_millis(since_start)
    }

    fn keep_appointment(&mut self) {
        let Some(Reverse(appointment)) = self.agenda.pop() else { return };
        match appointment.what {
            What::Arrival(user) => self.begin(appointment.millis, user),
            What::Step(place) => self.take_step(appointment.millis, place),
        }
    }

    /// Draws the user's next session, and one beside it where there is a second browser.
    fn begin(&mut self, now: u64, user: usize) {
        let over = self.admit(now, user, None);
        if chance(&mut self.rng, self.config.habits.second_browser) {
            let node = self.rng.usize(..self.site.nodes.len());
            let beside = now + self.rng.u64(1..=over / 4);
            self.admit(beside, user, Some(node));
        }
        if self.comes_back(now + over) {
            self.appoint(now + over, What::Arrival(user));
        }
    }

    /// The later in the day, the more users have gone home.
    fn comes_back(&mut self, planned: u64) -> bool {
        match self.config.pace {
            Pace::PerSecond(_) => true,
            Pace::Day(length) => chance(&mut self.rng, 1.0 - planned as f64 / millis(length) as f64),
        }
    }

    /// Plans a session that starts at `start` and returns when its user may begin another one, in milliseconds after it.
    fn admit(&mut self, start: u64, user: usize, node: Option<usize>) -> u64 {
        let mut habits = self.config.habits;
        if self.config.format == Format::Stock {
            habits.refused = 0.0;
        }
        let plan = Plan::draw(&mut self.rng, &habits);
        let over = plan.over;
        let Some(session) = Session::new(&mut self.rng, &self.site, user, node, start, plan, &habits) else {
            return over;
        };
        let place = self.free.pop().unwrap_or(self.sessions.len());
        match self.sessions.get_mut(place) {
            Some(vacant) => *vacant = session,
            None => self.sessions.push(session),
        }
        self.appoint(start, What::Step(place));
        over
    }

    fn take_step(&mut self, planned: u64, place: usize) {
        let time = self.moment(planned);
        let fate = self.draw_fate();
        let Some(session) = self.sessions.get_mut(place) else { return };
        let Some((step, next)) = session.advance() else { return };
        let node = session.node;
        let sequence = self.sequences.get_mut(node).map_or(1, |last| {
            *last = *last % SEQUENCE_MAX + 1;
            *last
        });
        let bytes = session.datagram(&self.site, step, self.config.format, sequence, time);
        if self.config.keeps_truth {
            let sequence = (self.config.format == Format::Extended).then_some(sequence);
            session.record(&mut self.truth, &self.site, step, time, sequence, fate);
        }
        match next {
            Some(millis) => self.appoint(millis, What::Step(place)),
            None => self.free.push(place),
        }
        self.events += 1;
        self.emit(time, node, bytes, fate);
    }

    fn draw_fate(&mut self) -> Fate {
        let Faults { loss, duplicate, reorder } = self.config.faults;
        let drawn = self.rng.f64();
        if drawn < loss {
            Fate::Lost
        } else if drawn < loss + duplicate {
            Fate::Duplicated
        } else if drawn < loss + duplicate + reorder {
            Fate::Delayed
        } else {
            Fate::Sent
        }
    }

    fn emit(&mut self, time: Timestamp, node: usize, bytes: Vec<u8>, fate: Fate) {
        match fate {
            Fate::Lost => {}
            Fate::Sent => self.post(time, node, bytes),
            Fate::Delayed => {
                let delay = Duration::from_millis(self.rng.u64(1..=DELAY_MAX));
                self.post(time + delay, node, bytes);
            }
            Fate::Duplicated => {
                let delay = Duration::from_millis(self.rng.u64(..=DUPLICATE_DELAY_MAX));
                self.post(time, node, bytes.clone());
                self.post(time + delay, node, bytes);
            }
        }
    }

    fn post(&mut self, at: Timestamp, node: usize, bytes: Vec<u8>) {
        self.emissions += 1;
        self.due.push(Reverse(Emission { at, number: self.emissions, node, bytes }));
    }
}

impl Iterator for Simulator {
    type Item = Emission;

    fn next(&mut self) -> Option<Emission> {
        loop {
            let moment = self.next_moment();
            let is_due = self.due.peek().is_some_and(|Reverse(first)| moment.is_none_or(|moment| first.at <= moment));
            if is_due {
                return self.due.pop().map(|Reverse(emission)| emission);
            }
            moment?;
            self.keep_appointment();
        }
    }
}

fn chance(rng: &mut Rng, share: f64) -> bool {
    rng.f64() < share
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
