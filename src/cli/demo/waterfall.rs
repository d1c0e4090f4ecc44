//! A finished session as lines of text: a header, the session's bar, and a bar per connection below it.
//!
//! ```text
//! LAB\goran  Chrome 126, Windows  2h 13m  08:02-10:15  pro2-win1
//!   session         ████████████████████████████████████████████  2h 13m
//!   Sales Overview  ██████████████                                   41m
//!   Inventory                       ████████████████████████████  1h 25m  session stopped
//! ```
//!
//! Pure: what to show goes in, lines with roles instead of colours come out.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::time::Timestamp;

use super::sink::Span;

/// What a piece of a line is; the screen decides how that looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    User,
    Aside,
    SessionBar,
    ConnectionBar,
    Warning,
}

/// One line: pieces of text with their roles.
pub(super) type Line = Vec<(Role, String)>;

/// How lines are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawing {
    /// Columns of the terminal.
    pub(super) width: usize,
    /// Whether the terminal can show block characters.
    pub(super) is_unicode: bool,
}

/// A session that has ended, with the connections that arrived for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) session: Span,
    pub(super) connections: Vec<Span>,
}

/// Connections shown of one session; the rest is summed up in a line.
const CONNECTIONS_MAX: usize = 8;
const INDENT: usize = 2;
const LABEL_WIDTH_MAX: usize = 28;
const BAR_WIDTH_MIN: usize = 8;

/// The lines of one session. `clock` prints a moment as `08:02`.
pub(super) fn lines(finished: &Finished, drawing: Drawing, clock: impl Fn(Timestamp) -> String) -> Vec<Line> {
    let mut connections: Vec<&Span> = finished.connections.iter().collect();
    connections.sort_by_key(|connection| (connection.start, connection.end));
    let shown = connections.get(..CONNECTIONS_MAX.min(connections.len())).unwrap_or_default();

    let labels = shown.iter().map(|connection| label(connection).width());
    let label_width_max = LABEL_WIDTH_MAX.min(drawing.width / 3);
    let label_width = labels.chain([SESSION.width()]).max().unwrap_or(0).min(label_width_max);
    let remarks = shown.iter().filter_map(|connection| remark(connection)).chain(remark(&finished.session));
    let remark_width = remarks.map(|remark| remark.width() + 2).max().unwrap_or(0);
    let durations = shown.iter().copied().chain([&finished.session]).map(|span| duration(lasted(span)).width());
    let duration_width = durations.max().unwrap_or(0);
    let fixed = INDENT + label_width + 2 + 2 + duration_width + remark_width;
    let row = Row {
        drawing,
        label_width,
        duration_width,
        bar_width: drawing.width.saturating_sub(fixed).max(BAR_WIDTH_MIN),
        whole: &finished.session,
    };

    let mut lines = vec![header(finished, drawing, clock)];
    lines.push(row.line(SESSION, &finished.session, Role::SessionBar));
    lines.extend(shown.iter().map(|connection| row.line(&label(connection), connection, Role::ConnectionBar)));
    let hidden = connections.len() - shown.len();
    if hidden > 0 {
        lines.push(vec![(Role::Aside, format!("{:INDENT$}and {hidden} more connections", ""))]);
    }
    lines
}

/// A duration in its two largest units: `2h 13m`, `41m 7s`, `850ms`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) => format!("{}ms", duration.as_millis()),
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) if minutes < 10 => format!("{minutes}m {seconds}s"),
        (0, 0, minutes, _) => format!("{minutes}m"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// `text` in at most `width` columns; what is cut ends in an ellipsis.
pub(in crate::cli) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut room = width.saturating_sub(1);
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if columns > room {
            break;
        }
        room -= columns;
        fitted.push(character);
    }
    if width > 0 {
        fitted.push('…');
    }
    fitted
}

const SESSION: &str = "session";

/// What all bars of one session share.
struct Row<'a> {
    drawing: Drawing,
    label_width: usize,
    duration_width: usize,
    bar_width: usize,
    whole: &'a Span,
}

impl Row<'_> {
    fn line(&self, label: &str, span: &Span, role: Role) -> Line {
        let label = fit(label, self.label_width);
        let padding = " ".repeat(self.label_width.saturating_sub(label.width()) + 2);
        let (before, bar, after) = self.bar(span);
        let lasted = duration(lasted(span));
        let duration_width = self.duration_width;
        let mut line = vec![
            (Role::Plain, format!("{:INDENT$}{label}{padding}{}", "", " ".repeat(before))),
            (role, bar),
            (Role::Plain, format!("{}  {lasted:>duration_width$}", " ".repeat(after))),
        ];
        if let Some(remark) = remark(span) {
            // A Close that is missing because the Stop closed everything is what browsers do.
            let role = if remark == "session stopped" { Role::Aside } else { Role::Warning };
            line.push((role, format!("  {remark}")));
        }
        line
    }

    /// Empty columns, the bar, empty columns. A connection that ran beyond its session is cut to it.
    fn bar(&self, span: &Span) -> (usize, String, usize) {
        let whole = self.whole.end.since(self.whole.start).as_nanos().max(1);
        let columns = self.bar_width as u128;
        let from = (span.start.since(self.whole.start).as_nanos() * columns / whole).min(columns - 1);
        let until = (span.end.since(self.whole.start).as_nanos() * columns).div_ceil(whole).clamp(from + 1, columns);
        let [before, until] = [from, until].map(|column| usize::try_from(column).unwrap_or(0));
        let block = if self.drawing.is_unicode { "█" } else { "=" };
        (before, block.repeat(until - before), self.bar_width - until)
    }
}

fn header(finished: &Finished, drawing: Drawing, clock: impl Fn(Timestamp) -> String) -> Line {
    let session = &finished.session;
    // A session without a browser of its own may have learnt it from a connection.
    let find = |key| {
        session.attribute(key).or_else(|| finished.connections.iter().find_map(|connection| connection.attribute(key)))
    };
    let user = find("user.id").or_else(|| find("user.hash")).unwrap_or("somebody");
    let times = format!("{}-{}", clock(session.start), clock(session.end));
    let mut asides = vec![duration(lasted(session)), times];
    if let Some(name) = find("user_agent.name") {
        let version = find("user_agent.version").and_then(|version| version.split('.').next());
        let browser = version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
        let system = find("user_agent.os.name").map(|system| format!(", {system}")).unwrap_or_default();
        asides.insert(0, browser + &system);
    }
    if let Some(node) = find("host.name") {
        asides.push(node.to_owned());
    }
    let user = fit(user, drawing.width / 2);
    let aside = fit(&asides.join("  "), drawing.width.saturating_sub(user.width() + 2));
    vec![(Role::User, user), (Role::Aside, format!("  {aside}"))]
}

fn lasted(span: &Span) -> Duration {
    span.end.since(span.start)
}

/// What a connection was for.
fn label(connection: &Span) -> String {
    let keys = ["qlik.sense.app.name", "qlik.sense.app.id", "url.path"];
    keys.iter().find_map(|key| connection.attribute(key)).unwrap_or("connection").to_owned()
}

/// How it ended, unless it was stopped or closed by its user.
fn remark(span: &Span) -> Option<String> {
    let reason = ["qlik.sense.session.end.reason", "qlik.sense.connection.close.reason"]
        .iter()
        .find_map(|key| span.attribute(key))?;
    match reason {
        "stopped" | "closed" => None,
        reason => Some(reason.replace('_', " ")),
    }
}

#[cfg(test)]
mod tests;
