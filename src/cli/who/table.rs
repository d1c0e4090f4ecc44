//! Who is on, as lines of a table.

use std::fmt::Write;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use crate::cli::demo::fit;

use super::{Answer, Session, printable};

/// Columns but the last, which takes what is left.
const COLUMNS: usize = 6;

/// A name takes no more than this many columns of a terminal.
const NAME_WIDTH_MAX: usize = 32;

/// A state is one word.
const STATE_WIDTH_MAX: usize = 12;

/// Apps are not cut to less, however narrow the terminal.
const APPS_WIDTH_MIN: usize = 20;

/// Lines of a table beside its sessions: the head, the sum, and the line where the cursor stands.
const OTHER_LINES: usize = 3;

/// Writes the table: cut to `width` columns and `height` lines, if there is a terminal that has some.
pub(super) fn write(answer: &Answer, width: Option<usize>, height: Option<usize>, zone: &TimeZone, out: &mut String) {
    let lines_max = height.map_or(usize::MAX, |height| height.saturating_sub(OTHER_LINES).max(1));
    let heads = ["USER", "SINCE", "FOR", "STATE", "NODE", "BROWSER", "APPS"].map(str::to_owned);
    let shown = answer.sessions.iter().take(lines_max);
    let rows: Vec<[String; COLUMNS + 1]> =
        std::iter::once(heads).chain(shown.map(|session| row(session, answer, zone))).collect();
    if rows.len() > 1 {
        let mut widths = [0; COLUMNS];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let before: usize = widths.iter().map(|width| width + 2).sum();
        let apps_width = width.map(|width| width.saturating_sub(before).max(APPS_WIDTH_MIN));
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let padding = width.saturating_sub(cell.width()) + 2;
                let _ = write!(line, "{cell}{:padding$}", "");
            }
            let apps = row.last().map_or("", String::as_str);
            line.push_str(&apps_width.map_or_else(|| apps.to_owned(), |width| fit(apps, width)));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    sum(answer, rows.len() - 1, zone, out);
}

fn sum(answer: &Answer, shown: usize, zone: &TimeZone, out: &mut String) {
    let Answer { open, peak, matching, .. } = answer;
    let _ = write!(out, "users: {}, sessions: {}", open.users, open.sessions);
    if *matching != open.sessions {
        let _ = write!(out, ", matching: {matching}");
    }
    if shown as u64 != *matching {
        let _ = write!(out, ", shown: {shown}");
    }
    let _ = writeln!(out, "; most today: {} at {}", peak.sessions, clock(peak.at, zone));
}

fn row(session: &Session, answer: &Answer, zone: &TimeZone) -> [String; COLUMNS + 1] {
    let mut apps: Vec<String> = session.apps.iter().map(|app| printable(&app.app)).collect();
    apps.dedup();
    let hidden = session.connections_open.saturating_sub(session.apps.len() as u64);
    if hidden > 0 {
        apps.push(format!("and {hidden} more"));
    }
    let mark = if session.since_inferred { "~" } else { "" };
    let quiet_for = answer.at.duration_since(session.last_event);
    let state = match session.state.as_str() {
        crate::admin::STATE_IDLE => format!("idle {}", short(quiet_for)),
        state => fit(&printable(state), STATE_WIDTH_MAX),
    };
    [
        fit(&printable(&session.user), NAME_WIDTH_MAX),
        format!("{mark}{}", moment(session.since, answer.at, zone)),
        short(answer.at.duration_since(session.since)),
        state,
        fit(&printable(&session.node), NAME_WIDTH_MAX),
        fit(&printable(&session.browser), NAME_WIDTH_MAX),
        apps.join(", "),
    ]
}

/// The time of the day, with the date if that is another one.
fn moment(time: jiff::Timestamp, now: jiff::Timestamp, zone: &TimeZone) -> String {
    let (local, today) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    if local.date() == today.date() { clock(time, zone) } else { local.strftime("%m-%d %H:%M").to_string() }
}

fn clock(time: jiff::Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// `12s`, `41m`, `2h 13m`, `3d 4h`
fn short(duration: jiff::SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{
        "at": "2026-11-23T10:15:00Z",
        "open": { "sessions": 3, "connections": 3, "users": 2 },
        "peak": { "sessions": 7, "at": "2026-11-23T09:02:00Z", "since": "2026-11-23T06:00:00Z" },
        "matching": 2,
        "sessions": [
            { "user": "LAB\\goran", "node": "pro2-win1", "browser": "Chrome 126, Windows", "since": "2026-11-23T08:02:00Z",
              "last_event": "2026-11-23T10:00:00Z", "state": "active", "connections_open": 3,
              "apps": [{ "app": "Sales" }, { "app": "HR" }] },
            { "user": "LAB\\åsa", "node": "pro2-win1", "since": "2026-11-22T22:00:00Z", "since_inferred": true,
              "last_event": "2026-11-23T09:45:00Z", "state": "idle", "connections_open": 0, "apps": [] }
        ]
    }"#;

    fn written(answer: &Answer, width: Option<usize>, height: Option<usize>) -> String {
        let mut out = String::new();
        write(answer, width, height, &TimeZone::UTC, &mut out);
        out
    }

    fn answer() -> Answer {
        serde_json::from_str(ANSWER).expect("an answer")
    }

    #[test]
    fn there_is_a_line_for_each_session_and_one_with_the_sums() {
        let expected = "\
USER       SINCE         FOR      STATE     NODE       BROWSER              APPS
LAB\\goran  08:02         2h 13m   active    pro2-win1  Chrome 126, Windows  Sales, HR, and 1 more
LAB\\åsa    ~11-22 22:00  12h 15m  idle 30m  pro2-win1
users: 2, sessions: 3, matching: 2; most today: 7 at 09:02
";
        assert_eq!(written(&answer(), None, None), expected);
    }

    #[test]
    fn nobody_is_a_line_too() {
        let mut answer = answer();
        answer.sessions.clear();
        (answer.matching, answer.open.sessions, answer.open.users) = (0, 0, 0);
        assert_eq!(written(&answer, Some(80), None), "users: 0, sessions: 0; most today: 7 at 09:02\n");
    }

    #[test]
    fn a_small_terminal_gets_no_more_than_it_has_room_for() {
        let text = written(&answer(), Some(100), Some(4));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line.width() <= 100), "{text}");
        assert!(text.contains("shown: 1"), "{text}");
    }

    #[test]
    fn hostile_names_reach_no_terminal_and_no_other_column() {
        let mut answer = answer();
        let hostile = format!("\u{1b}[2J\u{202e}\r\nUSER  fake\u{7}\u{9b}{}", "名".repeat(200));
        let session = &mut answer.sessions[0];
        (session.user, session.node, session.state) = (hostile.clone(), hostile.clone(), hostile.clone());
        session.apps[0].app = hostile;
        let text = written(&answer, Some(160), None);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r', '\u{7}', '\u{9b}']), "{text:?}");
        assert!(text.lines().all(|line| line.width() <= 160), "{text}");
    }
}
