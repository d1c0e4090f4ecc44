//! Puts the spans of a session together again: they arrive one by one, in any order, over several calls.

use std::collections::HashMap;
use std::time::Duration;

use super::sink::Span;
use super::waterfall::Finished;

/// How long a finished session waits for connections that are still on their way.
const PATIENCE: Duration = Duration::from_millis(500);

/// A trace and a span in it.
type Place = (Vec<u8>, Vec<u8>);

/// Spans whose session is not complete yet. Time is an argument: the time since the demo began.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    connections: HashMap<Place, Vec<Span>>,
    /// In the order of their arrival.
    sessions: Vec<(Duration, Span)>,
    /// Sessions that arrived.
    pub(super) session_count: u64,
    /// Connections that arrived.
    pub(super) connection_count: u64,
}

impl Gathering {
    /// A span arrived.
    pub(super) fn add(&mut self, now: Duration, span: Span) {
        match span.name.as_str() {
            "qlik.sense.session" => {
                self.session_count += 1;
                self.sessions.push((now, span));
            }
            "qlik.sense.connection" => {
                self.connection_count += 1;
                let parent = (span.trace_id.clone(), span.parent_id.clone());
                self.connections.entry(parent).or_default().push(span);
            }
            // A start marker or whatever else a later version sends is not drawn.
            _ => (),
        }
    }

    /// The sessions that are complete, or that have waited long enough.
    pub(super) fn finished(&mut self, now: Duration) -> Vec<Finished> {
        let mut finished = Vec::new();
        let connections = &mut self.connections;
        self.sessions.retain(|(arrived, session)| {
            let place = (session.trace_id.clone(), session.span_id.clone());
            let arrived_connections = connections.get(&place).map_or(0, Vec::len);
            let announced = session.attribute("qlik.sense.session.connections").and_then(|count| count.parse().ok());
            let is_complete = announced.is_some_and(|announced: usize| arrived_connections >= announced);
            if !is_complete && now.saturating_sub(*arrived) < PATIENCE {
                return true;
            }
            let connections = connections.remove(&place).unwrap_or_default();
            finished.push(Finished { session: session.clone(), connections });
            false
        });
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, span_id: u8, parent_id: &[u8]) -> Span {
        Span {
            trace_id: vec![7],
            span_id: vec![span_id],
            parent_id: parent_id.to_vec(),
            name: name.into(),
            ..Span::default()
        }
    }

    fn session(connections: u32) -> Span {
        let mut session = span("qlik.sense.session", 1, &[]);
        session.attributes.insert("qlik.sense.session.connections".into(), connections.to_string());
        session
    }

    #[test]
    fn a_complete_session_is_shown_at_once_in_either_order() {
        for session_comes_first in [true, false] {
            let mut gathering = Gathering::default();
            let mut spans =
                vec![session(2), span("qlik.sense.connection", 2, &[1]), span("qlik.sense.connection", 3, &[1])];
            if !session_comes_first {
                spans.reverse();
            }
            for span in spans {
                assert_eq!(gathering.finished(Duration::ZERO), []);
                gathering.add(Duration::ZERO, span);
            }
            let finished = gathering.finished(Duration::ZERO);
            assert_eq!(finished.len(), 1);
            assert_eq!(finished[0].connections.len(), 2);
            assert_eq!((gathering.session_count, gathering.connection_count), (1, 2));
            assert_eq!(gathering.finished(PATIENCE), [], "once");
        }
    }

    #[test]
    fn patience_ends() {
        let mut gathering = Gathering::default();
        gathering.add(Duration::from_secs(1), session(3));
        gathering.add(Duration::from_secs(1), span("qlik.sense.connection", 2, &[1]));
        gathering.add(Duration::from_secs(1), span("qlik.sense.connection", 2, &[9]));
        assert_eq!(gathering.finished(Duration::from_secs(1)), []);
        let finished = gathering.finished(Duration::from_secs(1) + PATIENCE);
        assert_eq!(finished[0].connections.len(), 1, "the other one belongs to another session");
    }
}
