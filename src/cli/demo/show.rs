//! What the demo shows: event lines as they come in, finished sessions as waterfalls, progress, and a summary.

use std::io::{self, Write};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::signal::Signal;
use crate::telemetry::Snapshot;
use crate::time::Timestamp;

use super::gathering::Gathering;
use super::screen::Screen;
use super::sink::{Received, Record};
use super::waterfall::{Line, Role, fit, lines};

/// What to show, and how far that has come.
#[derive(Debug)]
pub(super) struct Show<W: Write> {
    screen: Screen<W>,
    time_zone: TimeZone,
    gathering: Gathering,
    /// Waterfalls to draw at most.
    sessions_max: Option<u64>,
    sessions_shown: u64,
    records: u64,
}

/// `1 session`, `2 sessions`
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The numbers at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) sessions: u64,
    pub(super) connections: u64,
    pub(super) events: u64,
    /// Log records and spans that the other end took.
    pub(super) delivered: u64,
    /// Datagrams, log records and spans that did not come through.
    pub(super) lost: u64,
}

/// What the pipeline left behind when it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Sessions that had not ended.
    pub(super) open_sessions: usize,
    /// Log records and spans that were not taken any more.
    pub(super) items: u64,
}

impl<W: Write> Show<W> {
    pub(super) fn new(screen: Screen<W>, time_zone: TimeZone, sessions_max: Option<u64>) -> Self {
        Self { screen, time_zone, gathering: Gathering::default(), sessions_max, sessions_shown: 0, records: 0 }
    }

    /// Writes a paragraph that stays.
    pub(super) fn paragraph(&mut self, lines: &[&str]) -> io::Result<()> {
        lines.iter().try_for_each(|line| self.screen.text(line))?;
        self.screen.gap()
    }

    /// Something arrived at the sink, `now` after the start.
    pub(super) fn arrived(&mut self, now: Duration, received: Received) -> io::Result<()> {
        match received {
            Received::Record(record) => {
                self.records += 1;
                if !self.is_complete() {
                    let line = self.event(&record);
                    self.screen.line(&line)?;
                }
            }
            Received::Span(span) => self.gathering.add(now, span),
            Received::Metrics => (),
        }
        self.draw_finished(now)
    }

    /// Draws sessions that have waited long enough for their last connections.
    pub(super) fn draw_finished(&mut self, now: Duration) -> io::Result<()> {
        for finished in self.gathering.finished(now) {
            if self.is_complete() {
                continue;
            }
            self.sessions_shown += 1;
            let drawing = self.screen.drawing;
            let waterfall = lines(&finished, drawing, |time| clock(time, &self.time_zone, "%H:%M"));
            self.screen.gap()?;
            for line in &waterfall {
                self.screen.line(line)?;
            }
            self.screen.gap()?;
        }
        Ok(())
    }

    /// Whether as many sessions were drawn as were asked for.
    pub(super) fn is_complete(&self) -> bool {
        self.sessions_max.is_some_and(|max| self.sessions_shown >= max)
    }

    /// Shows how far the demo is. `simulated` is the time of day at the simulated site.
    pub(super) fn progress(&mut self, simulated: Timestamp, snapshot: &Snapshot) -> io::Result<()> {
        let open: u64 = snapshot.active.iter().map(|node| node.sessions).sum();
        let text = format!(
            "{} at the simulated site | {open} sessions open | {} finished | {} events | {} lost",
            clock(simulated, &self.time_zone, "%H:%M"),
            snapshot.sessions_ended,
            snapshot.accepted,
            snapshot.lost(),
        );
        self.screen.progress(&text)
    }

    /// The last numbers: as the sink saw them, or as the collector acknowledged them if there is no sink. `sent` is the
    /// number of datagrams that the simulated site sent.
    pub(super) fn finish(mut self, sent: u64, snapshot: &Snapshot, left: Left, has_sink: bool) -> io::Result<Summary> {
        self.screen.finish()?;
        self.screen.gap()?;
        let summary = self.summary(sent, snapshot, left, has_sink);
        let Summary { sessions, connections, events, delivered, lost } = summary;
        self.screen.text(&format!(
            "{} with {} finished, {} still open.",
            count(sessions, "session"),
            count(connections, "connection"),
            count(left.open_sessions as u64, "session")
        ))?;
        self.screen
            .text(&format!("{events} events became {delivered} log records and spans; records lost: {lost}."))?;
        self.screen.finish()?;
        Ok(summary)
    }

    fn summary(&self, sent: u64, snapshot: &Snapshot, left: Left, has_sink: bool) -> Summary {
        let acknowledged: u64 =
            [Signal::Logs, Signal::Traces].iter().map(|signal| snapshot.signal(*signal).acknowledged).sum();
        let (sessions, connections, unseen) = if has_sink {
            let seen = self.records + self.gathering.session_count + self.gathering.connection_count;
            (self.gathering.session_count, self.gathering.connection_count, acknowledged.saturating_sub(seen))
        } else {
            (snapshot.sessions_ended, snapshot.connections_ended, 0)
        };
        let never_received = sent.saturating_sub(snapshot.received);
        // A datagram that never came is seen twice: here, and as a gap or a kernel drop.
        let lost = snapshot.lost().max(never_received) + left.items + unseen;
        Summary { sessions, connections, events: snapshot.accepted, delivered: acknowledged, lost }
    }

    fn event(&self, record: &Record) -> Line {
        let time = clock(record.time, &self.time_zone, "%H:%M:%S");
        let body = if record.body.is_empty() { &record.event_name } else { &record.body };
        let body = fit(body, self.screen.drawing.width.saturating_sub(time.len() + 2));
        let role = if record.is_warning { Role::Warning } else { Role::Plain };
        vec![(Role::Aside, format!("{time}  ")), (role, body)]
    }
}

/// The time of day, in the zone of whoever reads it.
fn clock(time: Timestamp, time_zone: &TimeZone, format: &str) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos()))
        .map(|time| time.to_zoned(time_zone.clone()).strftime(format).to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
