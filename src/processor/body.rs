//! The body of each log record: one line that a person can read in Loki.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use crate::event::Action;
use crate::time::Timestamp;

use super::detail::Browser;
use super::session::{Connection, EndReason, Occurrence, Placement, Session};

/// `LAB\goran opened Sales (Chrome 126, Windows)`
pub(super) fn event(body: &mut String, occurrence: &Occurrence<'_>, placement: Placement<'_>) -> fmt::Result {
    let who = &occurrence.identity.label;
    let node = &occurrence.node.name;
    let action = occurrence.event.action;
    if let Some(result) = occurrence.failure {
        return write!(body, "{who}: {} failed on {node} with result {result}", action.command());
    }
    match action {
        Action::SessionStart => write!(body, "{who} started a session on {node}")?,
        Action::SessionStop => match placement {
            Placement::Session(session) => write!(
                body,
                "{who} ended the session on {node} after {}, {}",
                Span(occurrence.time.since(session.start)),
                Count(session.connections_opened as usize, "connection"),
            )?,
            _ => write!(body, "{who} ended a session on {node}")?,
        },
        Action::ConnectionOpen => write!(body, "{who} opened {}", What(occurrence))?,
        Action::ConnectionClose => match placement {
            Placement::Connection(_, connection) => {
                write!(
                    body,
                    "{who} closed {} after {}",
                    What(occurrence),
                    Span(occurrence.time.since(connection.open))
                )?;
            }
            _ => write!(body, "{who} closed {}", What(occurrence))?,
        },
    }
    if let Some(browser) = occurrence.browser {
        write!(body, "{}", With(browser))?;
    }
    match placement {
        Placement::Unmatched(_) | Placement::NoConnection(_) => body.write_str(", which was not known to be open"),
        Placement::AfterEnd(..) => body.write_str(", after the end of the session"),
        _ => Ok(()),
    }
}

/// `LAB\goran's session on pro2-win1 ended without a stop (expired)`
pub(super) fn inferred_end(body: &mut String, session: &Session, reason: EndReason, end: Timestamp) -> fmt::Result {
    let (who, node) = (&session.identity.label, &session.node.name);
    let after = Span(end.since(session.start));
    write!(body, "{who}'s session on {node} ended without a stop after {after} ({})", reason.as_str())
}

/// `LAB\goran has been on pro2-win1 for 2h 13m: Sales, HR`
pub(super) fn heartbeat(body: &mut String, session: &Session, wall: Timestamp, apps: &[&str]) -> fmt::Result {
    let (who, node) = (&session.identity.label, &session.node.name);
    write!(body, "{who} has been on {node} for {}", Span(wall.since(session.start)))?;
    for (position, app) in apps.iter().enumerate() {
        write!(body, "{} {app}", if position == 0 { ":" } else { "," })?;
    }
    if apps.is_empty() { body.write_str(", no app open") } else { Ok(()) }
}

/// `3 events of pro2-win1 were lost on their way (sequence 5 to 7)`
pub(super) fn gap(body: &mut String, node: &str, first: u32, last: u32, count: u64) -> fmt::Result {
    let were = if count == 1 { "was" } else { "were" };
    write!(body, "{} of {node} {were} lost on the way (sequence {first} to {last})", Count(count as usize, "event"))
}

/// The app's name, else its id, else the path.
struct What<'a>(&'a Occurrence<'a>);

impl Display for What<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let target = self.0.target;
        match (&target.app_name, target.app, &target.path) {
            (Some(name), ..) => formatter.write_str(name),
            (None, Some(app), _) => write!(formatter, "app {app}"),
            (None, None, Some(path)) => formatter.write_str(path),
            (None, None, None) => formatter.write_str("a connection"),
        }
    }
}

/// ` (Chrome 126, Windows)`
struct With<'a>(&'a Browser);

impl Display for With<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Browser::Clear { agent, .. } = self.0 else { return Ok(()) };
        match (agent.name(), agent.major_version(), agent.os()) {
            (Some(name), Some(major), Some(os)) => write!(formatter, " ({name} {major}, {os})"),
            (Some(name), None, Some(os)) => write!(formatter, " ({name}, {os})"),
            (Some(name), Some(major), None) => write!(formatter, " ({name} {major})"),
            (Some(name), None, None) => write!(formatter, " ({name})"),
            (None, _, Some(os)) => write!(formatter, " ({os})"),
            (None, _, None) => Ok(()),
        }
    }
}

/// `1 connection`, `2 connections`
struct Count(usize, &'static str);

impl Display for Count {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// The two largest units of a duration: `2d 3h`, `2h 13m`, `4m 5s`, `12s`.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        if days > 0 {
            write!(formatter, "{days}d {hours}h")
        } else if hours > 0 {
            write!(formatter, "{hours}h {minutes}m")
        } else if minutes > 0 {
            write!(formatter, "{minutes}m {}s", seconds % 60)
        } else {
            write!(formatter, "{seconds}s")
        }
    }
}

/// What a heartbeat calls an open connection.
pub(super) fn app_label(connection: &Connection) -> Option<&str> {
    connection.target.label()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        let shown = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(12), "12s");
        assert_eq!(shown(245), "4m 5s");
        assert_eq!(shown(7980), "2h 13m");
        assert_eq!(shown(183_600), "2d 3h");
    }

    #[test]
    fn a_gap_of_one_is_told_in_the_singular() {
        let mut body = String::new();
        gap(&mut body, "pro2-win1", 5, 5, 1).expect("a string takes all");
        assert_eq!(body, "1 event of pro2-win1 was lost on the way (sequence 5 to 5)");
    }
}
