//! The last events and the last connections that ended, as the core put them out.
//!
//! Both are rings whose entries are used again, so that a full one costs no allocation. What is in them passed the privacy
//! settings on its way out. Of one second no more is remembered than a ring holds, for nobody could read it: at 50,000
//! events a second, remembering each took 3 % of a profile's samples.

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
#[derive(Debug, Default)]
pub struct Recent {
    happenings: VecDeque<Happening>,
    ended: VecDeque<Ended>,
    count: u64,
    left: Left,
}

/// How many more are remembered of this second.
#[derive(Clone, Copy, Debug)]
struct Left {
    happenings: usize,
    /// Warnings have room of their own, so that whatever else happens does not hide them.
    warnings: usize,
    ended: usize,
}

impl Default for Left {
    fn default() -> Self {
        Self { happenings: HAPPENINGS_MAX, warnings: HAPPENINGS_MAX, ended: ENDED_MAX }
    }
}

impl Recent {
    /// Another second has begun.
    pub fn refresh(&mut self) {
        self.left = Left::default();
    }

    /// Remembers an event, unless it is one of too many.
    pub fn log(&mut self, resource: &Resource, record: &LogRecord<'_>) {
        if record.event_name == HEARTBEAT {
            return;
        }
        self.count += 1;
        let is_warning = record.severity == Severity::Warn;
        if !take(if is_warning { &mut self.left.warnings } else { &mut self.left.happenings }) {
            return;
        }
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
        if span.kind != SpanKind::Server || !take(&mut self.left.ended) {
            return;
        }
        let mut entry = reused(&mut self.ended, ENDED_MAX).unwrap_or_else(|| Ended::empty(span.context.trace_id));
        entry.trace_id = span.context.trace_id;
        (entry.start, entry.end) = (span.start, span.end);
        set(&mut entry.app, told(resource, span.attributes).app);
        self.ended.push_back(entry);
    }

    /// The last events, oldest first; of a second with too many, the first.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        self.happenings.iter().cloned().collect()
    }

    /// The last connections that ended, oldest first; of a second with too many, the first.
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

/// Whether there was one left.
const fn take(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
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
    use crate::signal::{Attribute, SpanContext, SpanId, Value};

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
    fn of_a_second_the_first_are_remembered_and_as_many_warnings() {
        let mut recent = Recent::default();
        let log = |recent: &mut Recent, severity, body: &str| {
            recent.log(&Resource::default(), &LogRecord { severity, ..record("session.start", body, &[]) });
        };
        for _ in 0..HAPPENINGS_MAX + 50 {
            log(&mut recent, Severity::Info, "an event");
        }
        log(&mut recent, Severity::Warn, "a warning");
        let numbers =
            |recent: &Recent| recent.happenings().iter().map(|happening| happening.number as usize).collect::<Vec<_>>();
        let expected = (2..=HAPPENINGS_MAX).chain([HAPPENINGS_MAX + 51]);
        assert_eq!(numbers(&recent), expected.collect::<Vec<_>>(), "it has the place of the oldest");

        for _ in 0..2 * HAPPENINGS_MAX {
            log(&mut recent, Severity::Warn, "one of too many");
        }
        log(&mut recent, Severity::Info, "one of too many");
        assert_eq!(numbers(&recent).last(), Some(&(2 * HAPPENINGS_MAX + 50)), "the last warning that had room");

        recent.refresh();
        log(&mut recent, Severity::Info, "of the next second");
        let last = recent.happenings().pop();
        assert_eq!(
            last.map(|last| (last.number as usize, last.body)),
            Some((3 * HAPPENINGS_MAX + 53, "of the next second".to_owned()))
        );
    }

    #[test]
    fn of_a_second_the_first_connections_that_ended_are_remembered() {
        let mut recent = Recent::default();
        let end = |recent: &mut Recent, number: usize| {
            let span = Span {
                context: SpanContext { trace_id: TraceId([1; 16]), span_id: SpanId([1; 8]) },
                parent: None,
                name: "an app",
                kind: SpanKind::Server,
                start: Timestamp::EPOCH,
                end: Timestamp::from_nanos(number as u64),
                attributes: &[],
                links: &[],
            };
            recent.span(&Resource::default(), &span);
        };
        (0..ENDED_MAX + 7).for_each(|number| end(&mut recent, number));
        let ends =
            |recent: &Recent| recent.ended().iter().map(|ended| ended.end.as_nanos() as usize).collect::<Vec<_>>();
        assert_eq!(ends(&recent), (0..ENDED_MAX).collect::<Vec<_>>());
        recent.refresh();
        end(&mut recent, ENDED_MAX + 7);
        assert_eq!(ends(&recent), (1..ENDED_MAX).chain([ENDED_MAX + 7]).collect::<Vec<_>>());
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
