//! What the core shows to the live page: a picture of everything that is open, made while somebody looks.
//!
//! A picture of 200,000 sessions takes longer than a batch may wait. It is therefore made in portions, one in each turn of
//! the core, and never takes more than a part of its time.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::admin::{Day, Live, PageClock, Picture, Recent};
use crate::processor::Processor;
use crate::processor::view::SessionView;
use crate::time::{Now, RunningTime};

use super::super::clock::Clock;
use super::activity;

/// Places that are looked at in one turn: less than a millisecond of work.
const PORTION: u32 = 1000;

/// The shortest time between the beginnings of two pictures.
const INTERVAL: Duration = Duration::from_secs(1);

/// A picture takes no more than this part of the time.
const SHARE: u32 = 20;

/// How soon it is noticed that somebody begins to look while no event comes.
const NOTICE: Duration = Duration::from_millis(200);

/// A picture that nobody looks at any more goes after this time.
const KEEP: Duration = Duration::from_secs(10);

/// Makes pictures for the page.
#[derive(Debug)]
pub(in crate::pipeline) struct Show {
    live: Live,
    clock: PageClock,
    day: Day,
    /// When the next picture may begin.
    next: RunningTime,
    /// When the last one is taken down.
    take_down: RunningTime,
    making: Option<Making>,
    /// Room that the last picture needed.
    room: usize,
}

/// A picture in the making.
#[derive(Debug)]
struct Making {
    began: RunningTime,
    /// Where the walk goes on.
    from: u32,
    sessions: Vec<SessionView>,
    spent: Duration,
}

impl Show {
    pub(in crate::pipeline) fn new(live: Live, clock: PageClock) -> Self {
        let day = Day::new(TimeZone::system());
        let (next, take_down) = (RunningTime::START, RunningTime::NEVER);
        Self { live, clock, day, next, take_down, making: None, room: 0 }
    }

    /// Notes how many sessions are open. To be called about once a second.
    pub(super) fn tick(&mut self, now: Now, sessions: usize) {
        self.day.observe(self.clock.at(now.wall), sessions as u64);
        if self.take_down <= now.running && !self.live.is_wanted() {
            self.live.take_down();
            self.take_down = RunningTime::NEVER;
        }
    }

    /// Makes a portion of a picture, if somebody looks.
    pub(super) fn turn(&mut self, now: Now, clock: &Clock, processor: &Processor, recent: &Recent) {
        let mut making = match self.making.take() {
            Some(making) => making,
            None if self.next <= now.running && self.live.take_wish() => {
                let sessions = Vec::with_capacity(self.room.min(processor.open_sessions().saturating_mul(2)));
                Making { began: now.running, from: 0, sessions, spent: Duration::ZERO }
            }
            None => return,
        };
        let began = clock.now().running;
        let next = processor.view(making.from, PORTION, &mut making.sessions);
        making.spent += clock.now().running.since(began);
        match next {
            Some(from) => self.making = Some(Making { from, ..making }),
            None => self.finish(now, making, processor, recent),
        }
    }

    fn finish(&mut self, now: Now, making: Making, processor: &Processor, recent: &Recent) {
        let Making { began, sessions, spent, .. } = making;
        self.room = sessions.len() + sessions.len() / 8;
        self.next = began + INTERVAL.max(spent * SHARE);
        self.take_down = now.running + KEEP;
        let at = self.clock.at(now.wall);
        let (happenings, ended) = (recent.happenings(), recent.ended());
        self.live.show(Picture::new(at, sessions, activity(processor), happenings, ended, self.day.clone()));
    }

    /// How long nothing needs to be done for the page.
    pub(super) fn patience(&self, running: RunningTime) -> Duration {
        if self.making.is_some() {
            return Duration::ZERO;
        }
        if self.live.is_wanted() { self.next.since(running).min(NOTICE) } else { NOTICE }
    }
}
