//! The configurations in `otel-config/`, run with a real collector and our own traffic, against backends that look at what
//! arrives.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use sense_otel::signal::Signal;
use serde_yaml::Value;

use crate::intake::Intake;
use crate::site::{Programs, file, programs};
use crate::stand::{Collector, Failure, PATIENCE, Receiver, folder, free_port, sense_otel, simulate, until};
use crate::support::certificates::{self, Authority};
use crate::support::collector::{Collector as Backend, Options};
use crate::truth::Truth;

/// Events of one run; each is a log record.
const EVENTS: usize = 400;
const TRAFFIC: [&str; 6] = ["--events", "400", "--rate", "400", "--users", "12"];
const OPTIONS: &str = "telemetry: { metrics_interval: 1s }\nsessions: { heartbeat: 0s }";
/// OTLP's number for a sum since the last point.
const DELTA: i32 = 1;

#[test]
fn honeycomb_gets_everything_with_the_key_over_tls() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let folder = folder("honeycomb")?;
    let (backend, authority) = tls_backend(&folder);
    let environment = [
        ("HONEYCOMB_ENDPOINT", format!("localhost:{}", backend.addr().port())),
        ("HONEYCOMB_API_KEY", "hcaik_for_the_test".to_owned()),
        ("HONEYCOMB_CA_FILE", authority.to_string_lossy().into_owned()),
    ];
    let collector = contrib(&programs, "honeycomb", &environment, &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, OPTIONS)?;
    simulate(&folder, receiver.address, &TRAFFIC)?.succeed(PATIENCE)?;
    until_taken(&backend)?;
    receiver.stop()?;
    collector.stop()?;
    assert_honeycomb(&backend, EVENTS);
    Ok(())
}

#[test]
fn honeycomb_is_reached_without_a_collector() -> Result<(), Failure> {
    let folder = folder("direct-honeycomb")?;
    let (backend, authority) = tls_backend(&folder);
    let endpoint = format!("https://localhost:{}", backend.addr().port());
    let environment =
        [("HONEYCOMB_API_KEY", "hcaik_for_the_test"), ("HONEYCOMB_CA_FILE", &*authority.to_string_lossy())];
    let events = direct("honeycomb", &endpoint, &environment, &folder, &backend)?;
    assert_honeycomb(&backend, events);
    Ok(())
}

#[test]
fn tempo_and_a_datadog_agent_are_reached_without_a_collector() -> Result<(), Failure> {
    for name in ["tempo", "datadog-agent"] {
        let folder = folder(&format!("direct-{name}"))?;
        let backend = Backend::start();
        let endpoint = format!("http://{}", backend.addr());
        let events = direct(name, &endpoint, &[], &folder, &backend)?;
        assert_eq!(records(&backend).len(), if name == "tempo" { 0 } else { events }, "{name}");
        assert!(spans(&backend).iter().any(|span| span.name == "qlik.sense.session"), "{name}");
    }
    Ok(())
}

#[test]
fn datadog_gets_everything_with_the_key_and_metrics_as_it_wants_them() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let folder = folder("datadog")?;
    let intake = Intake::start(Some(("dd-api-key", "0123456789abcdef")))?;
    let environment = [
        ("DD_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", intake.port)),
        ("DD_API_KEY", "0123456789abcdef".to_owned()),
    ];
    let collector = contrib(&programs, "datadog", &environment, &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, OPTIONS)?;
    simulate(&folder, receiver.address, &TRAFFIC)?.succeed(PATIENCE)?;
    until("all records at the intake", PATIENCE, || Ok((http_records(&intake)?.len() >= EVENTS).then_some(())))?;
    // At least one export after the last event.
    thread::sleep(Duration::from_secs(3));
    receiver.stop()?;
    collector.stop()?;
    assert_eq!(http_records(&intake)?.len(), EVENTS);
    let requests = intake.received();
    let of = |path: &str| requests.iter().filter(move |request| request.path == path).collect::<Vec<_>>();
    assert_eq!(of("/v1/logs").len() + of("/v1/traces").len() + of("/v1/metrics").len(), requests.len());
    assert!(!of("/v1/traces").is_empty());
    let mut sums = BTreeMap::new();
    for request in of("/v1/metrics") {
        let request = ExportMetricsServiceRequest::decode(request.body.as_slice())?;
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            match metric.data {
                Some(Data::Sum(sum)) if sum.is_monotonic => {
                    assert_eq!(sum.aggregation_temporality, DELTA, "{}", metric.name);
                    *sums.entry(metric.name).or_insert(0) += sum.data_points.len();
                }
                Some(Data::Histogram(histogram)) => {
                    assert_eq!(histogram.aggregation_temporality, DELTA, "{}", metric.name)
                }
                _ => {}
            }
        }
    }
    assert!(sums.get("qlik.sense.events").is_some_and(|points| *points > 0), "{sums:?}");
    Ok(())
}

/// What the gateway took is on its disk: the backend is away, the gateway is killed and started, and nothing is missing.
#[test]
fn a_gateway_keeps_what_the_backend_has_not_taken() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let folder = folder("gateway")?;
    let backend_port = free_port()?;
    let environment = [
        ("BACKEND_ENDPOINT", format!("127.0.0.1:{backend_port}")),
        ("BACKEND_INSECURE", "true".to_owned()),
        ("QUEUE_DIRECTORY", folder.join("queue").to_string_lossy().into_owned()),
    ];
    let mut collector = contrib(&programs, "gateway", &environment, &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, OPTIONS)?;
    simulate(&folder, receiver.address, &TRAFFIC)?.succeed(PATIENCE)?;
    thread::sleep(Duration::from_secs(2));
    receiver.stop()?;
    let log = receiver.process.output()?;
    let left = "logs_left=0 spans_left=0";
    assert!(log.contains(left), "the gateway took everything: {log}");
    collector.process.kill()?;
    let backend =
        Backend::with(Options { listen: Some(SocketAddr::from(([127, 0, 0, 1], backend_port))), ..Options::default() });
    assert!(backend.received().is_empty());
    let collector = contrib(&programs, "gateway", &environment, &folder)?;
    until_taken(&backend)?;
    collector.stop()?;
    assert_eq!(records(&backend).len(), EVENTS);
    Ok(())
}

/// Of another application one trace in a hundred is kept, of ours all of them.
#[test]
fn tail_sampling_leaves_our_spans_alone() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let folder = folder("tail-sampling")?;
    let backend = Backend::start();
    let environment = [
        ("BACKEND_ENDPOINT", backend.addr().to_string()),
        ("BACKEND_INSECURE", "true".to_owned()),
        ("DECISION_WAIT", "1s".to_owned()),
    ];
    let collector = contrib(&programs, "tail-sampling", &environment, &folder)?;
    let mut receiver = Receiver::start(&folder, 0, collector.port, OPTIONS)?;
    send_foreign_traces(collector.port, 1_000)?;
    simulate(&folder, receiver.address, &TRAFFIC)?.succeed(PATIENCE)?;
    until_taken(&backend)?;
    // The sampler's decision, and a batch.
    thread::sleep(Duration::from_secs(4));
    receiver.stop()?;
    collector.stop()?;
    let log = receiver.process.output()?;
    let spans = spans(&backend);
    let foreign = spans.iter().filter(|span| span.name == "checkout").count();
    assert!((1..100).contains(&foreign), "{foreign} of 1000 foreign traces are left");
    let (ours, sessions) =
        (spans.len() - foreign, spans.iter().filter(|span| span.name == "qlik.sense.session").count());
    let closed = records(&backend).iter().filter(|record| record.event_name == "session.end").count();
    assert!(sessions >= 5 && sessions == closed, "{sessions} session spans of {closed} sessions, {ours} in all: {log}");
    Ok(())
}

/// Two receivers that hear the same say the same.
#[test]
fn two_receivers_send_the_same() -> Result<(), Failure> {
    let Some(programs) = programs() else { return Ok(()) };
    let folder = folder("two-receivers")?;
    let (loki, tempo) = (Intake::start(None)?, Backend::start());
    let environment = [
        ("LOKI_ENDPOINT", format!("http://127.0.0.1:{}/otlp", loki.port)),
        ("TEMPO_ENDPOINT", tempo.addr().to_string()),
        ("PROMETHEUS_ENDPOINT", format!("http://127.0.0.1:{}", Intake::start(None)?.port)),
    ];
    let collector = contrib(&programs, "two-receivers", &environment, &folder)?;
    let shipped: Value = serde_yaml::from_str(&file("otel-config/two-receivers/sense-otel.yaml")?)?;
    assert_eq!(shipped["privacy"]["key"], Value::from("${env:SENSE_OTEL_KEY}"));
    let options = format!("{OPTIONS}\nprivacy: {{ key: one-key-for-both-of-them }}");
    let mut receivers = Vec::new();
    for name in ["first", "second"] {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        receivers.push(Receiver::start(&folder, 0, collector.port, &options)?);
    }
    // Stands where the two appenders of a proxy do.
    let relay = UdpSocket::bind("127.0.0.1:0")?;
    let address = relay.local_addr()?;
    let targets: Vec<SocketAddr> = receivers.iter().map(|receiver| receiver.address).collect();
    thread::spawn(move || {
        let mut datagram = [0; 65_536];
        while let Ok(length) = relay.recv(&mut datagram) {
            for target in &targets {
                let _ = relay.send_to(&datagram[..length], target);
            }
        }
    });
    simulate(&folder, address, &TRAFFIC)?.succeed(PATIENCE)?;
    until("all records of both", PATIENCE, || Ok((http_records(&loki)?.len() >= 2 * EVENTS).then_some(())))?;
    for receiver in &mut receivers {
        receiver.stop()?;
    }
    collector.stop()?;
    let mut records: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for record in http_records(&loki)? {
        *records.entry(record.encode_to_vec()).or_default() += 1;
    }
    let twice = records.values().filter(|count| **count == 2).count();
    assert_eq!((twice, records.len()), (EVENTS, EVENTS), "records that came twice, with every byte the same");
    let mut spans: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for span in self::spans(&tempo) {
        *spans.entry(span.encode_to_vec()).or_default() += 1;
    }
    assert!(
        spans.len() > 20 && spans.values().all(|count| *count == 2),
        "{} spans, not all of them twice",
        spans.len()
    );
    Ok(())
}

#[test]
fn configurations_of_the_receiver_are_valid() -> Result<(), Failure> {
    let shipped =
        ["direct/honeycomb", "direct/tempo", "direct/datadog-agent", "two-receivers/sense-otel", "grafana/sense-otel"];
    for name in shipped {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("otel-config/{name}.yaml"));
        let environment = [("HONEYCOMB_API_KEY", "a-key"), ("SENSE_OTEL_KEY", "0123456789abcdef")];
        let output = sense_otel().arg("validate").arg("--config").arg(path).envs(environment).output()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Runs one of the configurations for the contrib collector.
fn contrib(programs: &Programs, name: &str, more: &[(&str, String)], folder: &Path) -> Result<Collector, Failure> {
    let port = free_port()?;
    let own =
        [("OTLP_ENDPOINT", format!("127.0.0.1:{port}")), ("HEALTH_ENDPOINT", format!("127.0.0.1:{}", free_port()?))];
    let environment: Vec<_> = own.iter().chain(more).map(|(name, value)| (*name, value.as_str())).collect();
    let config = format!("otel-config/collector/contrib/{name}.yaml");
    Collector::configured(&programs.otelcol, &config, port, &environment, "otelcol", folder)
}

/// Runs one of the configurations without a collector, with nothing else changed but the addresses of this machine.
/// Returns how many events there were of users that it does not leave out.
fn direct(
    name: &str,
    endpoint: &str,
    environment: &[(&str, &str)],
    folder: &Path,
    backend: &Backend,
) -> Result<usize, Failure> {
    let mut config: Value = serde_yaml::from_str(&file(&format!("otel-config/direct/{name}.yaml"))?)?;
    config["receiver"]["udp"]["endpoint"] = "127.0.0.1:0".into();
    config["exporter"]["endpoint"] = endpoint.into();
    config["store"]["directory"] = folder.join("data").to_string_lossy().into_owned().into();
    config["admin"]["endpoint"] = format!("127.0.0.1:{}", free_port()?).into();
    config["telemetry"]["metrics_interval"] = "1s".into();
    let path = folder.join("sense-otel.yaml");
    fs::write(&path, serde_yaml::to_string(&config)?)?;
    let mut receiver = Receiver::run(&path, environment, folder)?;
    let truth = folder.join("truth.json");
    let truth_argument = truth.to_string_lossy();
    let arguments = [&TRAFFIC[..], &["--truth", &*truth_argument]].concat();
    simulate(folder, receiver.address, &arguments)?.succeed(PATIENCE)?;
    let events = Truth::read(&truth)?.without(r"INTERNAL\sa_repository").events.len();
    assert!(events < EVENTS, "somebody is to be left out");
    let is_traces_only = name == "tempo";
    until("everything at the backend", PATIENCE, || {
        let is_all = if is_traces_only { !spans(backend).is_empty() } else { records(backend).len() >= events };
        Ok(is_all.then_some(()))
    })?;
    thread::sleep(Duration::from_secs(2));
    receiver.stop()?;
    Ok(events)
}

fn tls_backend(folder: &Path) -> (Backend, PathBuf) {
    let authority = Authority::new();
    let options = Options { identity: Some(authority.issue("localhost")), ..Options::default() };
    (Backend::with(options), certificates::write(folder, "authority.pem", &authority.pem()))
}

fn assert_honeycomb(backend: &Backend, events: usize) {
    assert_eq!(records(backend).len(), events);
    assert!(spans(backend).iter().any(|span| span.name == "qlik.sense.session"));
    assert!(!backend.accepted(Signal::Metrics).is_empty());
    for call in backend.received() {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(header("x-honeycomb-team"), "hcaik_for_the_test", "{:?}", call.signal);
        if call.signal == Signal::Metrics {
            assert_eq!(header("x-honeycomb-dataset"), "sense-otel-metrics");
        }
    }
}

fn until_taken(backend: &Backend) -> Result<(), Failure> {
    until("all records at the backend", 2 * PATIENCE, || {
        let is_all = records(backend).len() >= EVENTS && !backend.accepted(Signal::Metrics).is_empty();
        Ok((is_all && !spans(backend).is_empty()).then_some(()))
    })
}

fn records(backend: &Backend) -> Vec<LogRecord> {
    backend.accepted(Signal::Logs).into_iter().flat_map(|call| log_records(&call.body).unwrap_or_default()).collect()
}

fn http_records(intake: &Intake) -> Result<Vec<LogRecord>, Failure> {
    let mut records = Vec::new();
    for request in intake.received().iter().filter(|request| request.path.ends_with("/v1/logs")) {
        records.extend(log_records(&request.body)?);
    }
    Ok(records)
}

fn log_records(body: &[u8]) -> Result<Vec<LogRecord>, Failure> {
    let request = ExportLogsServiceRequest::decode(body)?;
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    Ok(scopes.flat_map(|scope| scope.log_records).collect())
}

fn spans(backend: &Backend) -> Vec<Span> {
    let request = |body: &[u8]| ExportTraceServiceRequest::decode(body).unwrap_or_default();
    let resources = backend.accepted(Signal::Traces).into_iter().flat_map(|call| request(&call.body).resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

/// Traces of one span each, of an application that is none of our business.
fn send_foreign_traces(port: u16, count: u128) -> Result<(), Failure> {
    let name = Any { value: Some(AnyValue::StringValue("shop".to_owned())) };
    let attribute = KeyValue { key: "service.name".to_owned(), value: Some(name), ..KeyValue::default() };
    // Ids as random ones are, since the sampler goes by them.
    let span = |number: u128| Span {
        trace_id: number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes().to_vec(),
        span_id: 7_u64.to_be_bytes().to_vec(),
        name: "checkout".to_owned(),
        ..Span::default()
    };
    let spans = ScopeSpans { spans: (1..=count).map(span).collect(), ..ScopeSpans::default() };
    let resource = Resource { attributes: vec![attribute], ..Resource::default() };
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans: vec![spans], ..ResourceSpans::default() }];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
        let mut client = TraceServiceClient::new(endpoint.connect().await?);
        client.export(ExportTraceServiceRequest { resource_spans }).await?;
        Ok(())
    })
}
