//! The servers that are asked: Prometheus, VictoriaLogs in the place of Loki, and Jaeger in the place of Tempo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::http;
use crate::stand::{Failure, Process, free_port};

/// Labels and a value at one time.
pub(crate) type Sample = (BTreeMap<String, String>, f64);

/// A Prometheus that takes metrics by OTLP, as otel-config/grafana sets it up.
pub(crate) struct Prometheus {
    pub(crate) port: u16,
    _process: Process,
}

impl Prometheus {
    pub(crate) fn start(executable: &Path, config: &Path, folder: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let mut command = Command::new(executable);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-otlp-receiver")
            .arg("--enable-feature=created-timestamp-zero-ingestion");
        let mut process = Process::spawn("prometheus", &mut command, folder)?;
        answers(port, "/-/ready", &mut process)?;
        Ok(Self { port, _process: process })
    }

    /// What an expression is now.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Sample>, Failure> {
        let answer = http::json(self.port, "/api/v1/query", &[("query", expression)])?;
        let results = answer["data"]["result"].as_array().ok_or_else(|| format!("{expression}: {answer}"))?;
        results.iter().map(sample).collect()
    }

    /// What an expression is now, if it is one number.
    pub(crate) fn number(&self, expression: &str) -> Result<Option<f64>, Failure> {
        match self.query(expression)?.as_slice() {
            [] => Ok(None),
            [(_, value)] => Ok(Some(*value)),
            more => Err(format!("{expression} has {} values", more.len()).into()),
        }
    }
}

fn sample(result: &Value) -> Result<Sample, Failure> {
    let labels = serde_json::from_value(result["metric"].clone())?;
    let value = result["value"][1].as_str().ok_or("no value")?.parse()?;
    Ok((labels, value))
}

/// One log record: names as they came in, and values as text.
pub(crate) type Record = BTreeMap<String, String>;

/// A VictoriaLogs.
pub(crate) struct Logs {
    pub(crate) port: u16,
    _process: Process,
}

impl Logs {
    pub(crate) fn start(executable: &Path, folder: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let mut command = Command::new(executable);
        command
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .arg(format!("-storageDataPath={}", folder.join("victoria-logs").display()));
        let mut process = Process::spawn("victoria-logs", &mut command, folder)?;
        answers(port, "/health", &mut process)?;
        Ok(Self { port, _process: process })
    }

    /// Every record that a query of its own language finds.
    pub(crate) fn find(&self, query: &str) -> Result<Vec<Record>, Failure> {
        let answer = http::get(self.port, "/select/logsql/query", &[("query", query)])?;
        if answer.status != 200 {
            return Err(format!("{query}: {}: {}", answer.status, answer.body).into());
        }
        Ok(answer.body.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// The names of everything that any record has.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>, Failure> {
        let answer = http::json(self.port, "/select/logsql/field_names", &[("query", "*")])?;
        let names = answer["values"].as_array().ok_or("no names")?;
        Ok(names.iter().filter_map(|name| name["value"].as_str()).map(str::to_owned).collect())
    }
}

/// One span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) id: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A Jaeger.
pub(crate) struct Traces {
    pub(crate) port: u16,
    pub(crate) otlp_port: u16,
    _process: Process,
}

impl Traces {
    pub(crate) fn start(executable: &Path, folder: &Path) -> Result<Self, Failure> {
        let (port, otlp_port) = (free_port()?, free_port()?);
        let mut command = Command::new(executable);
        command
            .arg(format!("--query.http-server.host-port=127.0.0.1:{port}"))
            .arg(format!("--collector.otlp.grpc.host-port=127.0.0.1:{otlp_port}"));
        // What else it listens on is nobody's concern here.
        for other in [
            "query.grpc-server.host-port",
            "collector.otlp.http.host-port",
            "collector.grpc-server.host-port",
            "collector.http-server.host-port",
            "admin.http.host-port",
        ] {
            command.arg(format!("--{other}=127.0.0.1:{}", free_port()?));
        }
        let mut process = Process::spawn("jaeger", &mut command, folder)?;
        answers(port, "/api/services", &mut process)?;
        Ok(Self { port, otlp_port, _process: process })
    }

    /// Every span of a trace; none, if there is no such trace.
    pub(crate) fn by_id(&self, trace: &str) -> Result<Vec<Span>, Failure> {
        let answer = http::get(self.port, &format!("/api/traces/{trace}"), &[])?;
        match answer.status {
            200 => spans(&serde_json::from_str(&answer.body)?),
            404 => Ok(Vec::new()),
            other => Err(format!("{trace}: {other}: {}", answer.body).into()),
        }
    }

    /// Every span of those traces in which a span of a service with this name and these attributes is.
    pub(crate) fn search(
        &self,
        service: &str,
        name: Option<&str>,
        attributes: &BTreeMap<String, String>,
    ) -> Result<Vec<Span>, Failure> {
        let tags = serde_json::to_string(attributes)?;
        let mut parameters = vec![("service", service), ("limit", "100000"), ("lookback", "1h")];
        parameters.extend(name.map(|name| ("operation", name)));
        parameters.push(("tags", &tags));
        spans(&http::json(self.port, "/api/traces", &parameters)?)
    }
}

fn spans(answer: &Value) -> Result<Vec<Span>, Failure> {
    let traces = answer["data"].as_array().ok_or("no traces")?;
    let spans = traces.iter().filter_map(|trace| trace["spans"].as_array()).flatten();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let span = |span: &Value| {
        let references = span["references"].as_array().into_iter().flatten();
        let parent = references.filter(|one| one["refType"] == "CHILD_OF").find_map(|one| text(&one["spanID"]));
        let tags = span["tags"].as_array().into_iter().flatten();
        let attribute =
            |tag: &Value| Some((text(&tag["key"])?, text(&tag["value"]).unwrap_or_else(|| tag["value"].to_string())));
        Some(Span {
            trace: text(&span["traceID"])?,
            name: text(&span["operationName"])?,
            id: text(&span["spanID"])?,
            parent,
            attributes: tags.filter_map(attribute).collect(),
        })
    };
    spans.map(|one| span(one).ok_or_else(|| format!("no span: {one}").into())).collect()
}

/// Waits until a server says that it is ready.
fn answers(port: u16, path: &str, process: &mut Process) -> Result<(), Failure> {
    process.says("that it is ready", |_| http::get(port, path, &[]).ok().filter(|answer| answer.status == 200))?;
    Ok(())
}
