//! The body of each log record: one line that a person can read in Loki. Put together from its parts: with `write!` it took
//! 700 instructions on average, and takes 150.

use std::time::Duration;

use crate::event::Action;
use crate::time::Timestamp;

use super::detail::{Browser, Target};
use super::session::{EndReason, Occurrence, Placement, Session};

/// `LAB\goran opened Sales (Chrome 126, Windows)`
pub(super) fn event(body: &mut String, who: &str, occurrence: &Occurrence<'_>, placement: Placement<'_>) {
    let node = &*occurrence.node.name;
    let action = occurrence.event.action;
    if let Some(result) = occurrence.failure {
        return add(body, &[who, ": ", action.command(), " failed on ", node, " with result ", result]);
    }
    match (action, placement) {
        (Action::SessionStart, _) => add(body, &[who, " started a session on ", node]),
        (Action::SessionStop, Placement::Session(session)) => {
            add(body, &[who, " ended the session on ", node, " after "]);
            add_duration(body, occurrence.time.since(session.start));
            body.push_str(", ");
            add_count(body, session.connections_opened.into(), "connection");
        }
        (Action::SessionStop, _) => add(body, &[who, " ended a session on ", node]),
        (Action::ConnectionOpen, _) => {
            add(body, &[who, " opened "]);
            add_target(body, occurrence.target);
        }
        (Action::ConnectionClose, _) => {
            add(body, &[who, " closed "]);
            add_target(body, occurrence.target);
            if let Placement::Connection(_, connection) = placement {
                body.push_str(" after ");
                add_duration(body, occurrence.time.since(connection.open));
            }
        }
    }
    if let Some(browser) = occurrence.browser {
        add_browser(body, browser);
    }
    match placement {
        Placement::Unmatched(_) | Placement::NoConnection(_) => body.push_str(", which was not known to be open"),
        Placement::AfterEnd(..) => body.push_str(", after the end of the session"),
        _ => {}
    }
}

/// `LAB\goran's session on pro2-win1 ended without a stop after 4h 0m (expired)`
pub(super) fn inferred_end(body: &mut String, session: &Session, reason: EndReason, end: Timestamp) {
    add(body, &[session.identity.label(), "'s session on ", &session.node.name, " ended without a stop after "]);
    add_duration(body, end.since(session.start));
    add(body, &[" (", reason.as_str(), ")"]);
}

/// `LAB\goran has been on pro2-win1 for 2h 13m: Sales, HR`
pub(super) fn heartbeat(body: &mut String, session: &Session, wall: Timestamp, apps: &[&str]) {
    add(body, &[session.identity.label(), " has been on ", &session.node.name, " for "]);
    add_duration(body, wall.since(session.start));
    for (position, app) in apps.iter().enumerate() {
        add(body, &[if position == 0 { ": " } else { ", " }, app]);
    }
    if apps.is_empty() {
        body.push_str(", no app open");
    }
}

/// `3 events of pro2-win1 were lost on the way (sequence 5 to 7)`
pub(super) fn gap(body: &mut String, node: &str, first: u32, last: u32, count: u64) {
    add_count(body, count, "event");
    add(body, &[" of ", node, if count == 1 { " was" } else { " were" }, " lost on the way (sequence "]);
    add_number(body, first.into());
    body.push_str(" to ");
    add_number(body, last.into());
    body.push(')');
}

fn add(body: &mut String, parts: &[&str]) {
    for part in parts {
        body.push_str(part);
    }
}

/// The app's name, else its id, else the path.
fn add_target(body: &mut String, target: &Target) {
    match (&target.app_name, &target.app_id, &target.path) {
        (Some(name), ..) => body.push_str(name),
        (None, Some(app), _) => add(body, &["app ", app]),
        (None, None, Some(path)) => body.push_str(path),
        (None, None, None) => body.push_str("a connection"),
    }
}

/// ` (Chrome 126, Windows)`
fn add_browser(body: &mut String, browser: &Browser) {
    let Browser::Clear { agent, .. } = browser else { return };
    match (agent.name(), agent.major_version(), agent.os()) {
        (Some(name), Some(major), Some(os)) => add(body, &[" (", name, " ", major, ", ", os, ")"]),
        (Some(name), None, Some(os)) => add(body, &[" (", name, ", ", os, ")"]),
        (Some(name), Some(major), None) => add(body, &[" (", name, " ", major, ")"]),
        (Some(name), None, None) => add(body, &[" (", name, ")"]),
        (None, _, Some(os)) => add(body, &[" (", os, ")"]),
        (None, _, None) => {}
    }
}

/// `1 connection`, `2 connections`
fn add_count(body: &mut String, count: u64, what: &str) {
    add_number(body, count);
    add(body, &[" ", what, if count == 1 { "" } else { "s" }]);
}

/// The two largest units of a duration: `2d 3h`, `2h 13m`, `4m 5s`, `12s`.
fn add_duration(body: &mut String, duration: Duration) {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = if days > 0 {
        [(days, "d "), (hours, "h")]
    } else if hours > 0 {
        [(hours, "h "), (minutes, "m")]
    } else if minutes > 0 {
        [(minutes, "m "), (seconds % 60, "s")]
    } else {
        add_number(body, seconds);
        return body.push('s');
    };
    for (number, unit) in parts {
        add_number(body, number);
        body.push_str(unit);
    }
}

/// A number in decimal digits.
fn add_number(body: &mut String, number: u64) {
    if number >= 10 {
        add_number(body, number / 10);
    }
    body.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        let shown = |seconds| {
            let mut body = String::new();
            add_duration(&mut body, Duration::from_secs(seconds));
            body
        };
        assert_eq!(shown(12), "12s");
        assert_eq!(shown(245), "4m 5s");
        assert_eq!(shown(7980), "2h 13m");
        assert_eq!(shown(183_600), "2d 3h");
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(864_000 + 36_000), "10d 10h");
    }

    #[test]
    fn a_gap_of_one_is_told_in_the_singular() {
        let mut body = String::new();
        gap(&mut body, "pro2-win1", 5, 5, 1);
        assert_eq!(body, "1 event of pro2-win1 was lost on the way (sequence 5 to 5)");
    }
}
