//! Every query of every panel and of every alert finds something on a simulated site, and what Grafana reads is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::logql;
use crate::site::{Site, file, programs};
use crate::stand::Failure;
use crate::traceql;

const FOLDER: &str = "otel-config/grafana";

/// What shows nothing where all is well, as it is here.
const EMPTY_IF_WELL: [&str; 1] = ["Not delivered, and never will be"];

#[test]
fn every_panel_shows_something() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    // One in fifty datagrams is lost, so that there are gaps; and some are no events.
    let arguments = ["--users", "40", "--seed", "11", "--rate", "80", "--events", "2400", "--loss", "0.02"];
    let site = Site::simulate("dashboards", &programs, &arguments, "", &[b"hello", b"\xff\xfeh\0i\0", b""])?;
    let asked = assert_all_show_something(&site, |query| Some(query.to_owned()))?;
    assert!(asked > 40, "only {asked} queries were found in the dashboards");
    prometheus_alerts_ask_for_what_there_is(&site)?;
    loki_alerts_are_understood(&site)?;
    open_time_is_added_up(&site)
}

/// As docs/privacy.md says to change them where users are hashed.
#[test]
fn panels_of_users_show_hashed_ones() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let arguments = ["--users", "40", "--seed", "11", "--rate", "80", "--events", "800"];
    let site = Site::simulate("hashed", &programs, &arguments, "privacy: { user: hash }", &[])?;
    let asked = assert_all_show_something(&site, |query| {
        let changed = query.replace("user_id", "user_hash").replace("span.user.id", "span.user.hash");
        (changed != query).then_some(changed)
    })?;
    assert!(asked > 8, "only {asked} queries ask for users");
    assert!(!site.logs.names()?.contains("user.id"));
    Ok(())
}

/// Asks every query of every panel, as it is `changed` or not at all; returns how many.
fn assert_all_show_something(site: &Site, changed: impl Fn(&str) -> Option<String>) -> Result<usize, Failure> {
    let mut faults = Vec::new();
    let mut asked = 0;
    for (name, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            for mut query in queries(&panel) {
                let Some(text) = changed(&query.text) else { continue };
                query.text = text;
                asked += 1;
                let title = panel["title"].as_str().unwrap_or_default();
                match finds_something(site, &query) {
                    Ok(true) => {}
                    Ok(false) if EMPTY_IF_WELL.contains(&title) => {}
                    Ok(false) => faults.push(format!("{name}: {title}: nothing: {}", query.text)),
                    Err(error) => faults.push(format!("{name}: {title}: {error}: {}", query.text)),
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {asked} queries: {faults:#?}", faults.len());
    Ok(asked)
}

/// One query of a panel, with what Grafana would have put in.
struct Query {
    source: String,
    text: String,
}

fn finds_something(site: &Site, query: &Query) -> Result<bool, Failure> {
    match query.source.as_str() {
        "${prometheus}" => Ok(site.prometheus.query(&query.text)?.iter().any(|(_, value)| !value.is_nan())),
        "${loki}" => Ok(!logql::ask(&site.logs, &query.text)?.is_empty()),
        "${tempo}" => Ok(!traceql::ask(&site.traces, &query.text)?.is_empty()),
        other => Err(format!("no data source is called {other}").into()),
    }
}

fn queries(panel: &Value) -> Vec<Query> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    let query = |target: &Value| {
        let text = target["expr"].as_str().or_else(|| target["query"].as_str()).unwrap_or_default();
        let text = text.replace("$__rate_interval", "1m").replace("$__range", "15m").replace("$__auto", "1m");
        // Our site lives for less than a minute.
        let text = text.replace(":1m]", ":5s]");
        let text = text.replace("$node", ".*").replace("$user", ".*").replace("$app", ".*");
        Query { source: target["datasource"]["uid"].as_str().unwrap_or_default().to_owned(), text }
    };
    targets.map(query).collect()
}

/// A misspelled metric would keep an alert quiet for ever.
fn prometheus_alerts_ask_for_what_there_is(site: &Site) -> Result<(), Failure> {
    let rules: Value = serde_yaml::from_str(&file(&format!("{FOLDER}/rules/prometheus.yaml"))?)?;
    let rules = rules["groups"][0]["rules"].as_array().ok_or("no rules")?;
    let mut names = BTreeSet::new();
    for rule in rules {
        let expression = rule["expr"].as_str().ok_or("no expression")?;
        let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        names.extend(words.filter(|word| word.starts_with("qlik_sense_") || word.starts_with("sense_otel_")));
    }
    let labels = ["qlik_sense_node", "sense_otel_signal", "sense_otel_outcome", "sense_otel_reason"];
    names.retain(|name| !labels.contains(name));
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        // Nobody has restarted a proxy here.
        let is_there = !site.prometheus.query(name)?.is_empty();
        assert!(is_there || name == "qlik_sense_node_restarts_total", "there is no {name}");
    }
    Ok(())
}

/// Users with very many sessions are nowhere here, so the threshold is taken down.
fn loki_alerts_are_understood(site: &Site) -> Result<(), Failure> {
    let rules: Value = serde_yaml::from_str(&file(&format!("{FOLDER}/rules/loki.yaml"))?)?;
    let rules = rules["groups"][0]["rules"].as_array().ok_or("no rules")?;
    assert!(!rules.is_empty());
    for rule in rules {
        let expression = rule["expr"].as_str().ok_or("no expression")?;
        let (query, threshold) = expression.rsplit_once('>').ok_or("no threshold")?;
        assert!(threshold.trim().parse::<u32>()? >= 10);
        assert!(!logql::ask(&site.logs, &format!("{query} > 0"))?.is_empty(), "{query}");
        assert!(logql::ask(&site.logs, &format!("{query} > 1000"))?.is_empty(), "{query}");
    }
    Ok(())
}

/// What the collector adds up of the spans is what the spans say.
fn open_time_is_added_up(site: &Site) -> Result<(), Failure> {
    let query = r#"{ resource.service.name = "qlik-sense-proxy" && name = "qlik.sense.connection" }"#;
    let spans = traceql::ask(&site.traces, query)?.len() as f64;
    let counted = r#"sum(qlik_sense_span_duration_seconds_count{span_name="qlik.sense.connection"})"#;
    assert_eq!(site.prometheus.number(counted)?, Some(spans), "connections");
    // An increase is an estimate, but an app that was closed once has to be in it: its series did not begin with a zero.
    let increase = r#"sum(increase(qlik_sense_span_duration_seconds_count{span_name="qlik.sense.connection"}[15m]))"#;
    let increase = site.prometheus.number(increase)?.ok_or("no increase")?;
    assert!((0.95..1.1).contains(&(increase / spans)), "{increase} is estimated of {spans} connections");
    Ok(())
}

#[test]
fn dashboards_are_whole() -> Result<(), Failure> {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards()? {
        assert!(uids.insert(dashboard["uid"].as_str().ok_or("no uid")?.to_owned()), "{name}: its uid is taken");
        let variables = dashboard["templating"]["list"].as_array().ok_or("no variables")?;
        let variables: BTreeSet<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().ok_or("no title")?;
            assert!(ids.insert(panel["id"].to_string()), "{name}: {title}: its id is taken");
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(99);
            assert!(place("x") + place("w") <= 24, "{name}: {title} is too wide");
            for cell in (place("x")..place("x") + place("w"))
                .flat_map(|x| (place("y")..place("y") + place("h")).map(move |y| (x, y)))
            {
                assert!(cells.insert(cell), "{name}: {title} lies on another panel");
            }
            for word in panel.to_string().split('$').skip(1) {
                let word: String =
                    word.trim_start_matches('{').chars().take_while(char::is_ascii_alphanumeric).collect();
                assert!(word.is_empty() || variables.contains(word.as_str()), "{name}: {title}: no variable ${word}");
            }
        }
    }
    assert_eq!(uids.len(), 4);
    Ok(())
}

#[test]
fn alerts_fire_when_they_should() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (what, path) in [("check", "otel-config/grafana/rules/prometheus.yaml"), ("test", "tests/backends/alerts.yaml")]
    {
        let output = Command::new(programs.server("promtool")).arg(what).arg("rules").arg(root.join(path)).output()?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{path}: {said}");
    }
    Ok(())
}

#[test]
fn what_compose_mounts_is_there() -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let compose: Value = serde_yaml::from_str(&file(&format!("{FOLDER}/compose.yaml"))?)?;
    let services = compose["services"].as_object().ok_or("no services")?;
    let mut mounted = 0;
    for volume in services.values().filter_map(|service| service["volumes"].as_array()).flatten() {
        let volume = volume.as_str().ok_or("no text")?;
        let source = volume.split(':').next().unwrap_or_default();
        if !source.starts_with('.') {
            assert!(compose["volumes"].get(source).is_some(), "no volume {source}");
            continue;
        }
        let path = folder.join(source);
        assert!(path.exists(), "{source} is not there");
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let _: Value =
                serde_yaml::from_str(&fs::read_to_string(&path)?).map_err(|error| format!("{source}: {error}"))?;
        }
        mounted += 1;
    }
    assert!(mounted > 7, "only {mounted} files are mounted");
    // Each data source is one that a dashboard asks for, and links lead to those that there are.
    let sources = file(&format!("{FOLDER}/provisioning/datasources/datasources.yaml"))?;
    let sources: Value = serde_yaml::from_str(&sources)?;
    let sources = sources["datasources"].as_array().ok_or("no data sources")?;
    let uids: BTreeSet<_> = sources.iter().filter_map(|source| source["uid"].as_str()).collect();
    let types: BTreeSet<_> = sources.iter().filter_map(|source| source["type"].as_str()).collect();
    assert_eq!(types, BTreeSet::from(["loki", "prometheus", "tempo"]));
    for (link, from) in
        [("/jsonData/derivedFields/0/datasourceUid", "loki"), ("/jsonData/tracesToLogsV2/datasourceUid", "tempo")]
    {
        let source = sources.iter().find(|source| source["type"] == from).ok_or("no such source")?;
        assert!(source.pointer(link).and_then(Value::as_str).is_some_and(|uid| uids.contains(uid)), "{link}");
    }
    Ok(())
}

fn dashboards() -> Result<Vec<(String, Value)>, Failure> {
    let mut dashboards = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        dashboards.push((name, serde_json::from_str(&fs::read_to_string(&path)?)?));
    }
    Ok(dashboards)
}

fn panels(dashboard: &Value) -> Vec<Value> {
    dashboard["panels"].as_array().cloned().unwrap_or_default()
}
