//! What the servers answer to the questions of an administrator, held against what happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::logql::{self, Found};
use crate::servers::Record;
use crate::site::{Programs, Site, file, programs};
use crate::stand::{Failure, PATIENCE, until};
use crate::traceql;
use crate::truth::{Action, Session};

const HEARTBEAT: &str = "qlik.sense.session.heartbeat";

#[test]
fn our_own_events_are_found_as_they_happened() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let arguments = ["--users", "40", "--seed", "7", "--rate", "300", "--events", "3000"];
    let site = Site::simulate("extended", &programs, &arguments, "", &[])?;
    active_sessions_are_those_that_are_open(&site)?;
    a_trace_holds_its_session_and_all_connections(&site)?;
    sessions_are_found_by_user_and_app(&site)?;
    heartbeats_tell_who_is_on_with_which_apps(&site)?;
    events_are_found_with_their_trace_beside_them(&site)
}

#[test]
fn stock_events_are_found_as_they_came_in() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let site = stock_site(&programs)?;
    active_sessions_are_those_that_are_open(&site)?;
    sessions_are_found_by_user_and_app(&site)?;
    // Here the session's id is known from its connections at best, so that no trace is named after it: but each is whole.
    let query = r#"{ resource.service.name = "qlik-sense-proxy" && name = "qlik.sense.session" }"#;
    let sessions = traceql::ask(&site.traces, query)?;
    let ended = site.truth.sessions.iter().filter(|session| session.end.is_some());
    let mut of_truth: Vec<usize> = ended.map(|session| session.connections.len()).collect();
    let mut found = Vec::new();
    for session in &sessions {
        let spans = site.traces.by_id(&session.trace)?;
        found.push(spans.iter().filter(|span| span.parent.as_ref() == Some(&session.id)).count());
    }
    of_truth.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, of_truth, "connections of each session that has ended");
    Ok(())
}

fn stock_site(programs: &Programs) -> Result<Site, Failure> {
    // Slow, and with a seed that has no event twice within a moment.
    let arguments = ["--format", "stock", "--users", "150", "--seed", "29", "--rate", "30", "--events", "1000"];
    let site = Site::simulate("stock", programs, &arguments, "", &[])?;
    assert!(!site.truth.has_repetitions(), "choose another seed");
    Ok(site)
}

fn active_sessions_are_those_that_are_open(site: &Site) -> Result<(), Failure> {
    for node in &site.truth.nodes {
        let open = site.truth.sessions.iter().filter(|session| session.node == *node && session.end.is_none());
        let users: BTreeSet<_> = open.clone().map(|session| session.user_id().to_lowercase()).collect();
        let ask = |metric: &str| {
            site.prometheus.number(&format!("max by (qlik_sense_node) ({metric}{{qlik_sense_node=\"{node}\"}})"))
        };
        let of_truth = (Some(open.count() as f64), Some(users.len() as f64));
        assert_eq!((ask("qlik_sense_session_active")?, ask("qlik_sense_user_active")?), of_truth, "open on {node}");
    }
    let all = site.truth.sessions.iter().filter(|session| session.end.is_none()).count();
    assert_eq!(site.prometheus.number("sum(qlik_sense_session_active)")?, Some(all as f64));
    assert!(all > 5, "a site that somebody is on");
    Ok(())
}

/// An id that is copied from any log of Qlik Sense is the id of the trace.
fn a_trace_holds_its_session_and_all_connections(site: &Site) -> Result<(), Failure> {
    let ended = site.truth.sessions.iter().filter(|session| session.end.is_some());
    let mut asked = 0;
    for (session, trace) in ended.filter_map(|session| Some((session, trace_of(session)?))) {
        let spans = site.traces.by_id(&trace)?;
        let roots: Vec<_> = spans.iter().filter(|span| span.name == "qlik.sense.session").collect();
        let [root] = roots.as_slice() else { panic!("{} session spans of {}", roots.len(), session.id) };
        assert_eq!(root.attributes.get("user.id"), Some(&session.user_id()));
        assert_eq!(root.parent, None);
        let children = spans.iter().filter(|span| span.parent.as_ref() == Some(&root.id));
        let mut apps: Vec<_> = children.filter_map(|span| span.attributes.get("qlik.sense.app.name")).collect();
        let mut of_truth: Vec<_> = session.connections.iter().map(|connection| &connection.app_name).collect();
        apps.sort_unstable();
        of_truth.sort_unstable();
        assert_eq!(apps, of_truth, "connections of {}", session.id);
        assert_eq!(spans.len(), 1 + of_truth.len(), "nothing else in {}", session.id);
        asked += 1;
    }
    assert!(asked > 50, "only {asked} sessions have ended");
    Ok(())
}

fn sessions_are_found_by_user_and_app(site: &Site) -> Result<(), Failure> {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    let mut apps: BTreeMap<&str, usize> = BTreeMap::new();
    for session in site.truth.sessions.iter().filter(|session| session.end.is_some()) {
        *users.entry(session.user_id()).or_default() += 1;
    }
    for connection in site.truth.sessions.iter().flat_map(|session| {
        session.connections.iter().filter(|connection| session.end.is_some() || connection.close.is_some())
    }) {
        *apps.entry(&connection.app).or_default() += 1;
    }
    for (user, count) in users {
        let user = serde_json::to_string(&user)?;
        let query = format!(
            "{{ resource.service.name = \"qlik-sense-proxy\" && name = \"qlik.sense.session\" && span.user.id = {user} }}"
        );
        assert_eq!(traceql::ask(&site.traces, &query)?.len(), count, "{query}");
    }
    for (app, count) in apps {
        let query = format!(
            "{{ resource.service.name = \"qlik-sense-proxy\" && name = \"qlik.sense.connection\" && span.qlik.sense.app.id = \"{app}\" }}"
        );
        assert_eq!(traceql::ask(&site.traces, &query)?.len(), count, "{query}");
    }
    Ok(())
}

/// Who was on at that time, and with what: the last heartbeat of each session that is open.
fn heartbeats_tell_who_is_on_with_which_apps(site: &Site) -> Result<(), Failure> {
    let open = site.truth.sessions.iter().filter(|session| session.end.is_none());
    let of_truth: BTreeMap<String, BTreeSet<String>> = open
        .filter_map(|session| {
            let connections = session.connections.iter().filter(|connection| connection.close.is_none());
            Some((trace_of(session)?, connections.map(|connection| connection.app_name.clone()).collect()))
        })
        .collect();
    assert!(of_truth.len() > 5, "only {} sessions are open", of_truth.len());
    let mut found = BTreeMap::new();
    // The next heartbeat comes within four seconds of the last event.
    let _ = until("heartbeats", PATIENCE, || {
        found.clear();
        let mut heartbeats =
            records(site, r#"{service_name="qlik-sense-proxy"} | event_name="qlik.sense.session.heartbeat""#)?;
        heartbeats.sort_by(|one, other| one.get("_time").cmp(&other.get("_time")));
        for heartbeat in heartbeats {
            let trace = heartbeat.get("trace_id").cloned().unwrap_or_default();
            let apps: BTreeSet<String> =
                serde_json::from_str(heartbeat.get("qlik.sense.session.apps").ok_or("no apps")?)?;
            if of_truth.contains_key(&trace) {
                found.insert(trace, apps);
            }
        }
        Ok((found == of_truth).then_some(()))
    });
    assert_eq!(found, of_truth);
    Ok(())
}

fn events_are_found_with_their_trace_beside_them(site: &Site) -> Result<(), Failure> {
    for action in [Action::SessionStart, Action::ConnectionOpen, Action::ConnectionClose, Action::SessionStop] {
        let name = action.event_name();
        let query = format!("{{service_name=\"qlik-sense-proxy\"}} | event_name=\"{name}\"");
        let mut found = traces_by_user(&records(site, &query)?);
        let events = site.truth.events.iter().filter(|event| event.action == action);
        let sessions = events.map(|event| &site.truth.sessions[event.session]);
        let mut of_truth: Vec<_> = sessions.map(|session| (session.user_id(), trace_of(session))).collect();
        // The trace of a session with another id is not known here, but it has one.
        for (_, trace) in &mut found {
            assert_eq!(trace.as_ref().map(String::len), Some(32), "{query}");
            *trace = trace.take().filter(|trace| trace.starts_with("c0de"));
        }
        found.sort_unstable();
        of_truth.sort_unstable();
        assert_eq!(found, of_truth, "{query}");
    }
    // From a trace to its records, as Grafana is told to ask for them.
    let sources: serde_json::Value =
        serde_yaml::from_str(&file("otel-config/grafana/provisioning/datasources/datasources.yaml")?)?;
    let sources = sources["datasources"].as_array().ok_or("no data sources")?;
    let link =
        sources.iter().find_map(|source| source["jsonData"]["tracesToLogsV2"]["query"].as_str()).ok_or("no link")?;
    for (number, session) in site.truth.sessions.iter().enumerate().take(100) {
        let Some(trace) = trace_of(session) else { continue };
        let found = records(site, &link.replace("$${__span.traceId}", &trace))?;
        let told = found.iter().filter(|record| record.get("event_name") != Some(&HEARTBEAT.to_owned())).count();
        let of_truth = site.truth.events.iter().filter(|event| event.session == number).count();
        assert_eq!(told, of_truth, "{link} of {trace}");
    }
    // What one user did, by the name that a person knows.
    let user = site.truth.sessions.iter().find(|session| trace_of(session).is_some()).ok_or("no session")?;
    let query =
        format!("{{service_name=\"qlik-sense-proxy\"}} | user_id=~\".*{}\"", user.user_name.replace('.', "[.]"));
    let found = records(site, &query)?;
    assert!(logql::by(&found, "trace_id").contains(trace_of(user).unwrap_or_default().as_str()), "{query}");
    assert_eq!(logql::by(&found, "user.name"), BTreeSet::from([user.user_name.as_str()]));
    Ok(())
}

fn records(site: &Site, query: &str) -> Result<Vec<Record>, Failure> {
    match logql::ask(&site.logs, query)? {
        Found::Records(records) => Ok(records),
        Found::Samples(_) => Err(format!("{query} asks for no records").into()),
    }
}

fn traces_by_user(records: &[Record]) -> Vec<(String, Option<String>)> {
    let user = |record: &Record| record.get("user.id").cloned().unwrap_or_default();
    records.iter().map(|record| (user(record), record.get("trace_id").cloned())).collect()
}

/// The trace that a session's id tells, which an id does that Qlik Sense has hashed.
fn trace_of(session: &Session) -> Option<String> {
    let id = session.id.replace('-', "").to_lowercase();
    id.starts_with("c0de").then_some(id)
}
