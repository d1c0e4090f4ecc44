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
        if let Some(from) = next {
            let spent = making.spent + clock.now().running.since(began);
            self.making = Some(Making { from, spent, ..making });
            return;
        }
        let Making { began: begin, sessions, spent, .. } = making;
        self.room = sessions.len() + sessions.len() / 8;
        self.finish(now, sessions, processor, recent);
        let spent = spent + clock.now().running.since(began);
        self.next = begin + INTERVAL.max(spent * SHARE);
    }

    fn finish(&mut self, now: Now, sessions: Vec<SessionView>, processor: &Processor, recent: &Recent) {
        let at = self.clock.at(now.wall);
        self.day.observe(at, processor.open_sessions() as u64);
        let (happenings, ended) = (recent.happenings(), recent.ended());
        self.live.show(Picture::new(at, sessions, activity(processor), happenings, ended, self.day.clone()));
        self.take_down = now.running + KEEP;
    }

    /// How long nothing needs to be done for the page.
    pub(super) fn patience(&self, running: RunningTime) -> Duration {
        if self.making.is_some() {
            return Duration::ZERO;
        }
        if self.live.is_wanted() { self.next.since(running).min(NOTICE) } else { NOTICE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Datagram;
    use crate::processor::ids::Key;
    use crate::processor::{Config, Input, Output, Report};
    use crate::signal::{LogRecord, Resource, Span};
    use crate::time::Timestamp;

    struct Nowhere;

    impl Output for Nowhere {
        fn log(&mut self, _: &std::sync::Arc<Resource>, _: &LogRecord<'_>) {}
        fn span(&mut self, _: &std::sync::Arc<Resource>, _: &Span<'_>) {}
        fn report(&mut self, _: Report<'_>) {}
    }

    fn site(sessions: usize) -> Processor {
        let mut processor = Processor::new(Config::default(), &Key::new(b"a key for tests only"));
        for user in 0..sessions {
            let text = format!("/qseow-proxy-session/;node1;Start session;LAB;user{user};;;Start session for user");
            let source = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
            let datagram = Datagram { received: Timestamp::EPOCH, source, bytes: text.as_bytes() };
            processor.handle(Now::default(), Input::Datagram(datagram), &mut Nowhere);
        }
        processor
    }

    fn at(seconds: u64) -> Now {
        let elapsed = Duration::from_secs(seconds);
        Now { wall: Timestamp::EPOCH + elapsed, running: RunningTime::START + elapsed }
    }

    #[test]
    fn nothing_is_made_while_nobody_looks() {
        let (processor, live) = (site(3), Live::default());
        let mut show = Show::new(live.clone(), PageClock::default());
        let clock = Clock::start(RunningTime::START);
        for second in 0..5 {
            show.turn(at(second), &clock, &processor, &Recent::default());
        }
        assert!(show.making.is_none() && live.shown().is_none());
        assert_eq!(show.patience(RunningTime::START), NOTICE);
    }

    #[test]
    fn a_large_picture_is_made_in_portions_and_holds_everyone_once() {
        let (processor, live) = (site(3500), Live::default());
        let mut show = Show::new(live.clone(), PageClock::default());
        let clock = Clock::start(RunningTime::START);
        live.wish();
        let mut turns = 0;
        while live.shown().is_none() {
            show.turn(at(1), &clock, &processor, &Recent::default());
            assert!(live.shown().is_some() || show.patience(RunningTime::START) == Duration::ZERO);
            turns += 1;
        }
        assert!((4..=6).contains(&turns), "{turns} portions");
        let picture = live.shown().expect("it is there");
        let users: std::collections::HashSet<_> = picture.sessions.iter().map(|session| session.identity.key).collect();
        assert_eq!((picture.sessions.len(), users.len(), picture.nodes[0].sessions), (3500, 3500, 3500));

        // The next one only if somebody wants it, and not before its time.
        show.turn(at(100), &clock, &processor, &Recent::default());
        assert!(show.making.is_none());
        live.wish();
        show.turn(at(1), &clock, &processor, &Recent::default());
        assert!(show.making.is_none(), "a second has not passed");
        show.turn(at(100), &clock, &processor, &Recent::default());
        assert!(show.making.is_some());
    }

    #[test]
    fn a_picture_that_nobody_looks_at_is_taken_down() {
        let (processor, live) = (site(1), Live::default());
        let mut show = Show::new(live.clone(), PageClock::default());
        live.wish();
        show.turn(at(1), &Clock::start(RunningTime::START), &processor, &Recent::default());
        show.tick(at(5), 1);
        assert!(live.shown().is_some());
        show.tick(at(12), 1);
        assert!(live.shown().is_none());
    }
}
