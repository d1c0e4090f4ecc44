//! What may be known about a person: nothing of a user, a browser or an address leaves where it is to be hashed or dropped.

mod support;

use std::collections::BTreeSet;

use sense_otel::processor::filter::{ExcludeRule, Handling, Privacy};
use sense_otel::processor::{Config, session};

use support::site::{Site, app, c0de};

const DIRECTORY: &str = "SecretDirectory";
const USER: &str = "secret.user";
const AGENT: &str = "SecretBrowser/7.5 (Secret OS)";
const ADDRESS: &str = "10.66.77.88";

/// Everything that a session of a person can bring about, as text.
fn everything(privacy: Privacy) -> (Site, String) {
    let sessions = session::Config { open_sessions_max: 3, ..session::Config::default() };
    let mut site = Site::new(Config { privacy, sessions, start_marker: true, ..Config::default() });
    for (number, id) in [c0de(1), "a-live-cookie".to_owned(), String::new()].into_iter().enumerate() {
        for command in ["Start session", "Open connection", "Close connection", "Open connection", "Stop session"] {
            let mut event = site.extended(command, USER, &id, &app(1));
            event.directory = DIRECTORY.to_owned();
            event.context = format!("/vp/app/{}/identity/{USER}/ttl/60?user={USER}", app(1));
            let phrase = match command {
                "Start session" => "Start session for user",
                "Stop session" => "Stop session for user",
                "Close connection" => "Proxy connection Closed for session",
                _ => "Proxy connection Opened for session",
            };
            event.message = format!("{phrase} '{DIRECTORY}\\{USER}' from {ADDRESS} UserAgent: '{AGENT}'");
            event.result = if number == 2 && command == "Close connection" { "403".to_owned() } else { "0".to_owned() };
            site.send(&event);
            site.minutes(16);
        }
        site.stop("nobody", "");
        let mut start = site.extended("Start session", USER, "", "");
        start.directory = DIRECTORY.to_owned();
        site.send(&start);
    }
    site.minutes(60 * 30);
    site.assert_balanced();
    let text = format!("{:?}{:?}{:?}", site.kept.logs, site.kept.spans, site.processor).to_lowercase();
    (site, text)
}

fn found(text: &str, what: &str) -> bool {
    text.contains(&what.to_lowercase())
}

#[test]
fn what_is_kept_is_there() {
    let (_, text) = everything(Privacy::default());
    for what in [DIRECTORY, USER, AGENT, ADDRESS] {
        assert!(found(&text, what), "{what} is not there");
    }
    assert!(!found(&text, "live-cookie"), "an id that may be a cookie never leaves");
}

#[test]
fn what_is_hashed_or_dropped_is_nowhere() {
    for handling in [Handling::Hash, Handling::Drop] {
        let privacy = Privacy { user: handling, user_agent: handling, client_address: handling };
        let (site, text) = everything(privacy);
        for what in [DIRECTORY, USER, "SecretBrowser", "Secret OS", ADDRESS, "live-cookie"] {
            assert!(!found(&text, what), "{what} leaked with {handling:?}");
        }
        let hashes: BTreeSet<&str> = site.kept.spans.iter().map(|span| span.attribute("user.hash")).collect();
        let hashed = handling == Handling::Hash;
        assert_eq!(hashes.iter().any(|hash| hash.len() == 32), hashed, "{hashes:?}");
        assert!(site.kept.spans.iter().all(|span| !span.attributes.contains_key("user.id")));
        let paths: BTreeSet<&str> = site.connection_spans().iter().map(|span| span.attribute("url.path")).collect();
        assert_eq!(paths, BTreeSet::from([format!("/vp/app/{}/identity/…/ttl/60", app(1)).as_str()]));
    }
}

#[test]
fn one_kind_does_not_depend_on_the_others() {
    let (_, text) = everything(Privacy { user: Handling::Drop, ..Privacy::default() });
    assert!(!found(&text, USER) && found(&text, AGENT) && found(&text, ADDRESS));
    let (_, text) = everything(Privacy { user_agent: Handling::Drop, ..Privacy::default() });
    assert!(found(&text, USER) && !found(&text, AGENT) && found(&text, ADDRESS));
    let (_, text) = everything(Privacy { client_address: Handling::Drop, ..Privacy::default() });
    assert!(found(&text, USER) && found(&text, AGENT) && !found(&text, ADDRESS));
}

/// Excluded users are counted and nothing else, and leave no gap in their node's sequence.
#[test]
fn who_is_left_out_leaves_no_trace() {
    let rule = ExcludeRule { directory: "secret*".to_owned(), user: "*".to_owned() };
    let mut site = Site::new(Config { exclude_users: vec![rule], ..Config::default() });
    site.start("goran", &c0de(1));
    for _ in 0..10 {
        let mut event = site.extended("Start session", USER, &c0de(2), "");
        event.directory = DIRECTORY.to_owned();
        site.send(&event);
    }
    site.stop("goran", &c0de(1));
    site.minutes(1);
    assert_eq!((site.kept.accepted, site.kept.excluded, site.kept.missing), (2, 10, 0));
    let text = format!("{:?}{:?}{:?}", site.kept.logs, site.kept.spans, site.processor).to_lowercase();
    assert!(!found(&text, USER));
}

#[test]
fn no_value_is_longer_than_allowed() {
    let limit = 64;
    let mut site = Site::new(Config { attribute_length_max: limit, ..Config::default() });
    let long = "Å".repeat(3000);
    for command in ["Start session", "Open connection", "Close connection", "Stop session"] {
        for result in ["0", long.as_str()] {
            let mut event = site.extended(command, &long, &long, &app(1));
            event.directory = long.clone();
            event.app_name = long.clone();
            event.context = format!("/{long}/app/{}", app(1));
            event.message = format!("Proxy connection Opened for session UserAgent: '{long}'");
            event.result = result.to_owned();
            site.send(&event);
        }
    }
    let spans = site.kept.spans.iter().map(|span| &span.attributes);
    for attributes in site.kept.logs.iter().map(|log| &log.attributes).chain(spans) {
        for (key, value) in attributes {
            assert!(value.len() <= limit, "{key} has {} bytes", value.len());
        }
    }
    let longest = site.kept.logs.iter().map(|log| log.body.len()).max().expect("records");
    assert!(longest < 8 * limit, "a body of {longest} bytes");
}
