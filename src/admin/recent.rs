//! The last events and the last connections that ended, as the core put them out.
//!
//! Both are rings whose entries are used again, so that a full one costs no allocation. What is in them passed the privacy
//! settings on its way out. No more than a ring holds is remembered of one second, but for warnings: whoever looks could not
//! read it, and it was a twentieth of what an event costs at 50,000 a second.

use std::collections::VecDeque;

use crate::event::text;
use crate::processor::view::told;
use crate::signal::{LogRecord, Resource, Severity, Span, SpanKind, TraceId};
use crate::time::Timestamp;

/// Events that are remembered.
const HAPPENINGS_MAX: usize = 200;

/// Connections that are remembered after their end, of all sessions together.
const ENDED_MAX: usize = 4096;

/// Longest text that is remembered, in bytes.
const TEXT_MAX: usize = 256;

/// Each open session says this every few minutes, which is no news.
const HEARTBEAT: &str = "qlik.sense.session.heartbeat";

/// One event, as its log record told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Counts all events since the start, from 1.
    pub number: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Whether something failed, was lost, or had to be inferred.
    pub is_warning: bool,
    /// The event's name, for example `session.start`.
    pub name: String,
    /// One line that a person can read.
    pub body: String,
    /// The proxy node.
    pub node: String,
    /// The user, or what stands for one; may be empty.
    pub user: String,
    /// The app's name, id or path; may be empty.
    pub app: String,
}

/// One connection that has ended, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The trace of its session.
    pub trace_id: TraceId,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The app's name, id or path; may be empty.
    pub app: String,
}

/// What happened last. Belongs to the core.
#[derive(Debug)]
pub struct Recent {
    happenings: VecDeque<Happening>,
    ended: VecDeque<Ended>,
    count: u64,
    /// How many more are remembered of this second.
    happenings_left: usize,
    ended_left: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            happenings: VecDeque::new(),
            ended: VecDeque::new(),
            count: 0,
            happenings_left: HAPPENINGS_MAX,
            ended_left: ENDED_MAX,
        }
    }
}

impl Recent {
    /// Another second has begun.
    pub fn refresh(&mut self) {
        (self.happenings_left, self.ended_left) = (HAPPENINGS_MAX, ENDED_MAX);
    }

    /// Remembers an event, unless it is one of too many.
    pub fn log(&mut self, resource: &Resource, record: &LogRecord<'_>) {
        if record.event_name == HEARTBEAT {
            return;
        }
        self.count += 1;
        let is_warning = record.severity == Severity::Warn;
        if self.happenings_left == 0 && !is_warning {
            return;
        }
        self.happenings_left = self.happenings_left.saturating_sub(1);
        let mut entry = reused(&mut self.happenings, HAPPENINGS_MAX).unwrap_or_else(Happening::empty);
        let told = told(resource, record.attributes);
        entry.number = self.count;
        entry.time = record.time;
        entry.is_warning = is_warning;
        set(&mut entry.name, record.event_name);
        set(&mut entry.body, record.body);
        set(&mut entry.node, told.node);
        set(&mut entry.user, told.user);
        set(&mut entry.app, told.app);
        self.happenings.push_back(entry);
    }

    /// Remembers a connection that has ended, unless it is one of too many.
    pub fn span(&mut self, resource: &Resource, span: &Span<'_>) {
        if span.kind != SpanKind::Server || self.ended_left == 0 {
            return;
        }
        self.ended_left -= 1;
        let mut entry = reused(&mut self.ended, ENDED_MAX).unwrap_or_else(|| Ended::empty(span.context.trace_id));
        entry.trace_id = span.context.trace_id;
        (entry.start, entry.end) = (span.start, span.end);
        set(&mut entry.app, told(resource, span.attributes).app);
        self.ended.push_back(entry);
    }

    /// The last events, oldest first.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        self.happenings.iter().cloned().collect()
    }

    /// The last connections that ended, oldest first.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        self.ended.iter().cloned().collect()
    }
}

impl Happening {
    const fn empty() -> Self {
        Self {
            number: 0,
            time: Timestamp::EPOCH,
            is_warning: false,
            name: String::new(),
            body: String::new(),
            node: String::new(),
            user: String::new(),
            app: String::new(),
        }
    }
}

impl Ended {
    const fn empty(trace_id: TraceId) -> Self {
        Self { trace_id, start: Timestamp::EPOCH, end: Timestamp::EPOCH, app: String::new() }
    }
}

/// The oldest entry of a full ring.
fn reused<T>(ring: &mut VecDeque<T>, length_max: usize) -> Option<T> {
    if ring.len() < length_max { None } else { ring.pop_front() }
}

fn set(text: &mut String, to: &str) {
    text.clear();
    text.push_str(&text::cut(to, TEXT_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Attribute, Value};

    fn record<'a>(name: &'a str, body: &'a str, attributes: &'a [Attribute<'a>]) -> LogRecord<'a> {
        LogRecord {
            time: Timestamp::from_nanos(7),
            observed_time: Timestamp::from_nanos(8),
            severity: Severity::Info,
            event_name: name,
            body,
            attributes,
            trace_id: None,
            span_id: None,
        }
    }

    #[test]
    fn the_last_events_are_remembered_with_who_and_what() {
        let resource = Resource { attributes: vec![("host.name".to_owned(), "node1".to_owned())] };
        let attributes = [
            Attribute { key: "user.id", value: Value::Text("LAB\\goran") },
            Attribute { key: "qlik.sense.app.id", value: Value::Text("an id") },
            Attribute { key: "qlik.sense.app.name", value: Value::Text("Sales") },
        ];
        let mut recent = Recent::default();
        for number in 0..HAPPENINGS_MAX + 3 {
            recent.refresh();
            recent.log(&resource, &record("session.start", &format!("body {number}"), &attributes));
            recent.log(&resource, &record(HEARTBEAT, "still there", &attributes));
        }
        let happenings = recent.happenings();
        assert_eq!(happenings.len(), HAPPENINGS_MAX);
        let (first, last) = (&happenings[0], &happenings[HAPPENINGS_MAX - 1]);
        assert_eq!((first.number, first.body.as_str()), (4, "body 3"));
        assert_eq!((last.node.as_str(), last.user.as_str(), last.app.as_str()), ("node1", "LAB\\goran", "Sales"));
        assert!(!happenings.iter().any(|happening| happening.name == HEARTBEAT));
    }

    #[test]
    fn of_a_second_no_more_is_remembered_than_there_is_room_for_but_every_warning() {
        let mut recent = Recent::default();
        for number in 0..HAPPENINGS_MAX + 50 {
            recent.log(&Resource::default(), &record("session.start", &number.to_string(), &[]));
        }
        assert_eq!(recent.happenings().last().map(|last| last.number), Some(HAPPENINGS_MAX as u64));
        let warning = LogRecord { severity: Severity::Warn, ..record("qlik.sense.receiver.gap", "3 are missing", &[]) };
        recent.log(&Resource::default(), &warning);
        assert_eq!(recent.happenings().last().map(|last| last.number), Some(HAPPENINGS_MAX as u64 + 51));
        recent.log(&Resource::default(), &record("session.start", "one of too many", &[]));
        recent.refresh();
        recent.log(&Resource::default(), &record("session.start", "of the next second", &[]));
        let happenings = recent.happenings();
        assert!(!happenings.iter().any(|happening| happening.body == "one of too many"));
        let last = happenings.last().map(|last| (last.number, last.body.as_str()));
        assert_eq!(last, Some((HAPPENINGS_MAX as u64 + 53, "of the next second")));
    }

    #[test]
    fn long_texts_are_cut() {
        let mut recent = Recent::default();
        let body = "名".repeat(1000);
        recent.log(&Resource::default(), &record("session.start", &body, &[]));
        let happening = recent.happenings().remove(0);
        assert!(happening.body.len() <= TEXT_MAX && happening.body.ends_with('…'), "{}", happening.body.len());
    }
}
