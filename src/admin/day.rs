//! Today: the highest number of open sessions, and how it went over the day.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Unit, ZonedRound};

use crate::time::Timestamp;

/// Length of a step of the curve.
pub(super) const STEP: Duration = Duration::from_secs(300);

/// Fewer steps without a word are taken to be as the one before.
const PASSED_OVER_MAX: usize = 3;

/// Steps of the longest day, when clocks are set back by an hour.
const STEPS_MAX: usize = 25 * 12;

/// The day of the machine's time zone. Begins anew at its midnight, and at each start of the process.
#[derive(Clone, Debug)]
pub struct Day {
    zone: TimeZone,
    midnight: Timestamp,
    next_midnight: Timestamp,
    /// Since when it is watched: midnight, or the start of the process.
    pub(super) since: Timestamp,
    /// The most sessions, and when there were that many first.
    pub(super) peak: (u64, Timestamp),
    /// The most sessions of each step since midnight; `None` where nobody watched.
    pub(super) curve: Vec<Option<u64>>,
}

impl Day {
    /// A day in this time zone that nothing is known of.
    #[must_use]
    pub const fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            midnight: Timestamp::EPOCH,
            next_midnight: Timestamp::EPOCH,
            since: Timestamp::EPOCH,
            peak: (0, Timestamp::EPOCH),
            curve: Vec::new(),
        }
    }

    /// So many sessions are open at this moment.
    pub fn observe(&mut self, at: Timestamp, sessions: u64) {
        // A clock that was set back may be before this midnight.
        if at >= self.next_midnight || at < self.midnight {
            self.begin(at);
        }
        if sessions > self.peak.0 || self.peak.1 == Timestamp::EPOCH {
            self.peak = (sessions, at);
        }
        let step = usize::try_from(at.since(self.midnight).as_secs() / STEP.as_secs()).unwrap_or(usize::MAX);
        if step >= STEPS_MAX {
            return;
        }
        let known = self.curve.len();
        if known <= step {
            // A few steps may be passed over where time is compressed; in a longer pause nobody watched.
            let between = if step - known < PASSED_OVER_MAX { self.curve.last().copied().flatten() } else { None };
            self.curve.resize(step, between);
            self.curve.push(None);
        }
        if let Some(most) = self.curve.get_mut(step) {
            *most = Some(most.unwrap_or(0).max(sessions));
        }
    }

    /// When the day began.
    pub(super) const fn midnight(&self) -> Timestamp {
        self.midnight
    }

    fn begin(&mut self, at: Timestamp) {
        let was_watched = self.next_midnight > Timestamp::EPOCH && at >= self.next_midnight;
        let (midnight, next) = self.around(at).unwrap_or((at, at + Duration::from_secs(24 * 3600)));
        self.since = if was_watched { midnight } else { at };
        (self.midnight, self.next_midnight) = (midnight, next);
        self.peak = (0, Timestamp::EPOCH);
        self.curve.clear();
    }

    /// The midnights before and after a moment.
    fn around(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let moment = jiff::Timestamp::from_nanosecond(at.as_nanos().into()).ok()?.to_zoned(self.zone.clone());
        let begins = moment.round(ZonedRound::new().smallest(Unit::Day).mode(jiff::RoundMode::Trunc)).ok()?;
        let ends = begins.checked_add(1.day()).ok()?;
        let stamp = |time: &jiff::Zoned| u64::try_from(time.timestamp().as_nanosecond()).ok();
        Some((Timestamp::from_nanos(stamp(&begins)?), Timestamp::from_nanos(stamp(&ends)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().expect("a time");
        Timestamp::from_nanos(u64::try_from(time.as_nanosecond()).expect("after 1970"))
    }

    fn day(zone: &str) -> Day {
        Day::new(TimeZone::get(zone).expect("a zone that is known"))
    }

    #[test]
    fn the_peak_is_the_first_moment_of_the_most_and_goes_at_midnight() {
        let mut day = day("Europe/Stockholm");
        for (time, sessions) in [("08:00", 3), ("09:00", 7), ("09:30", 7), ("10:00", 2)] {
            day.observe(at(&format!("2026-11-23T{time}:00+01:00")), sessions);
        }
        assert_eq!(day.peak, (7, at("2026-11-23T09:00:00+01:00")));
        assert_eq!(day.since, at("2026-11-23T08:00:00+01:00"), "nobody watched before");
        assert_eq!((day.curve.len(), day.curve[95], day.curve[96], day.curve[108]), (121, None, Some(3), Some(7)));

        day.observe(at("2026-11-24T00:00:01+01:00"), 1);
        assert_eq!(day.peak, (1, at("2026-11-24T00:00:01+01:00")));
        assert_eq!(day.since, at("2026-11-24T00:00:00+01:00"));
        assert_eq!(day.curve, [Some(1)]);
    }

    #[test]
    fn a_day_is_as_long_as_its_zone_says() {
        let mut day = day("Europe/Stockholm");
        // Clocks go back at 03:00: this day has 25 hours.
        day.observe(at("2026-10-25T00:00:00+02:00"), 1);
        day.observe(at("2026-10-25T23:59:59+01:00"), 2);
        assert_eq!(day.curve.len(), STEPS_MAX);
        assert_eq!(day.curve[0], Some(1), "still the same day");
        day.observe(at("2026-10-26T00:00:00+01:00"), 3);
        assert_eq!(day.curve, [Some(3)]);
    }

    #[test]
    fn a_step_that_was_passed_over_is_as_the_one_before_and_a_pause_is_not() {
        let mut day = day("UTC");
        for (time, sessions) in [("00:00", 3), ("00:12", 4), ("01:00", 5)] {
            day.observe(at(&format!("2026-11-23T{time}:00Z")), sessions);
        }
        assert_eq!(day.curve[..4], [Some(3), Some(3), Some(4), None]);
        assert_eq!(day.curve[11..], [None, Some(5)]);
    }

    #[test]
    fn nobody_at_all_is_a_peak_of_none() {
        let mut day = day("UTC");
        day.observe(at("2026-11-23T08:00:00Z"), 0);
        assert_eq!(day.peak, (0, at("2026-11-23T08:00:00Z")));
        day.observe(at("2026-11-22T08:00:00Z"), 5);
        assert_eq!(day.peak, (5, at("2026-11-22T08:00:00Z")), "the clock was set back by a day");
    }
}
