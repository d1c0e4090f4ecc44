//! `sense-otel who`: who is on, in the terminal, from the receiver that runs here.
//!
//! It asks the same address as the live page. What comes back was written by whoever can send a datagram, or by whatever
//! else listens at that port, so nothing of it reaches the terminal that is not fit to be shown.

mod ask;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;
use thiserror::Error;

use crate::admin::LIMIT_MAX;
use crate::config;
use crate::telemetry::text::is_unprintable;

use super::{chain, report};

use ask::{Asked, Fault};

const EXAMPLES: &str = "\
Examples:
  sense-otel who --config sense-otel.yaml
      Everyone who is on. --config tells where the receiver's page is
      (admin.endpoint).
  sense-otel who --user goran --watch
      Only users with goran in their name, and again every two seconds.
  sense-otel who --app \"Sales Overview\" --json
      As JSON, for other programs; docs/live.md has the fields.

What is shown holds user names, as far as the configuration let them pass.

Exit codes: 0 done, 1 no receiver answered, 2 usage.";

/// How often `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Home, and nothing below it.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Show who is on right now, from the receiver that runs on this machine
///
/// Lists each open session with its user, since when it is open, its browser and its open apps. A user is `active` with an
/// app open, or if something was heard in the last 15 minutes; otherwise `idle`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WhoArgs {
    /// Configuration file (YAML) of the receiver; without it every key has its default
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the receiver's page is, in place of admin.endpoint in the configuration
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    at: Option<String>,
    /// Only users with this in their name, directory included
    #[arg(long, value_name = "TEXT")]
    user: Option<String>,
    /// Only sessions with such an app open, by name or id
    #[arg(long, value_name = "TEXT")]
    app: Option<String>,
    /// Only nodes with this in their name
    #[arg(long, value_name = "TEXT")]
    node: Option<String>,
    /// Show again every two seconds, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
}

/// Why nothing could be shown.
#[derive(Debug, Error)]
enum WhoError {
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    #[error("cannot ask the receiver at {at}; is it running, and is that its admin.endpoint?")]
    Ask {
        at: String,
        #[source]
        fault: Fault,
    },
    #[error("what answers at {at} is no sense-otel of this version")]
    Answer {
        at: String,
        #[source]
        error: serde_json::Error,
    },
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

/// What the receiver answers, as far as the table needs it.
#[derive(Debug, Deserialize)]
struct Answer {
    at: jiff::Timestamp,
    open: Open,
    peak: Peak,
    matching: u64,
    sessions: Vec<Session>,
}

#[derive(Debug, Deserialize)]
struct Open {
    sessions: u64,
    users: u64,
}

#[derive(Debug, Deserialize)]
struct Peak {
    sessions: u64,
    at: jiff::Timestamp,
}

#[derive(Debug, Deserialize)]
struct Session {
    user: String,
    node: String,
    #[serde(default)]
    browser: String,
    since: jiff::Timestamp,
    #[serde(default)]
    since_inferred: bool,
    last_event: jiff::Timestamp,
    state: String,
    connections_open: u64,
    apps: Vec<App>,
}

#[derive(Debug, Deserialize)]
struct App {
    app: String,
}

/// Shows who is on.
pub(crate) fn run(args: &WhoArgs) -> ExitCode {
    match who(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever pipes us into `head` has seen enough.
        Err(WhoError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn who(args: &WhoArgs) -> Result<(), WhoError> {
    let asked = Asked { at: place(args)?, path: path(args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WhoError::Runtime)?;
    let mut has_answered = false;
    loop {
        let body = match runtime.block_on(asked.ask()) {
            Ok(body) => body,
            // A receiver that is restarted is there again soon, and whoever watches wants to go on watching.
            Err(fault) if args.watch && has_answered => {
                tell_absence(&asked.at, &fault).map_err(WhoError::Output)?;
                std::thread::sleep(WATCH_INTERVAL);
                continue;
            }
            Err(fault) => return Err(WhoError::Ask { at: printable(&asked.at), fault }),
        };
        has_answered = true;
        let not_ours = |error| WhoError::Answer { at: printable(&asked.at), error };
        let answer: Answer = serde_json::from_slice(&body).map_err(not_ours)?;
        let mut screen = String::new();
        if args.json {
            let value: serde_json::Value = serde_json::from_slice(&body).map_err(not_ours)?;
            screen.push_str(&escaped(&format!("{value:#}\n")));
        } else {
            if args.watch && io::stdout().is_terminal() {
                screen.push_str(CLEAR);
            }
            let size = terminal_size::terminal_size();
            let width = size.map(|(width, _)| usize::from(width.0));
            let height = size.filter(|_| args.watch).map(|(_, height)| usize::from(height.0));
            table::write(&answer, width, height, &TimeZone::system(), &mut screen);
        }
        let mut out = anstream::stdout().lock();
        out.write_all(screen.as_bytes()).and_then(|()| out.flush()).map_err(WhoError::Output)?;
        drop(out);
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// Says in the place of the table that there is nobody to ask.
fn tell_absence(at: &str, fault: &Fault) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
    writeln!(out, "{clear}The receiver at {} does not answer ({}); asking again.", printable(at), chain(fault))?;
    out.flush()
}

fn place(args: &WhoArgs) -> Result<String, WhoError> {
    if let Some(at) = &args.at {
        return Ok(at.clone());
    }
    let loaded = config::load_sections(args.config.as_deref(), &["admin"], config::environment, config::addresses_of)
        .map_err(|faults| WhoError::Config(faults.render(true)))?;
    let endpoint = loaded.pipeline.admin.map(|admin| admin.endpoint).unwrap_or_default();
    // All addresses is nowhere to go to.
    Ok(match endpoint.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        _ => endpoint,
    })
}

/// The path of the request.
fn path(args: &WhoArgs) -> String {
    let mut path = format!("/api/sessions?order=user&limit={LIMIT_MAX}");
    for (name, value) in [("user", &args.user), ("app", &args.app), ("node", &args.node)] {
        let Some(value) = value else { continue };
        path.push('&');
        path.push_str(name);
        path.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    path
}

/// JSON whose texts are spelled without what a terminal should not get.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unprintable(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// A text without what a terminal should not get.
fn printable(text: &str) -> String {
    crate::telemetry::text::one_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: &str) -> WhoArgs {
        let user = Some(user.to_owned());
        WhoArgs { config: None, at: None, user, app: None, node: None, watch: false, json: false }
    }

    #[test]
    fn a_filter_cannot_become_another_one() {
        let path = path(&args("a&node=b c\u{e5}#\r\n"));
        assert_eq!(path, "/api/sessions?order=user&limit=10000&user=a%26node%3Db%20c%C3%A5%23%0D%0A");
    }

    #[test]
    fn json_is_the_same_with_every_dangerous_character_spelled_out() {
        let value = serde_json::json!({ "user": "a\u{202e}b\u{1b}[2J\u{9b}\u{e0041}å\u{7f}" });
        let text = escaped(&format!("{value:#}\n"));
        assert!(!text.chars().any(|character| character != '\n' && is_unprintable(character)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
