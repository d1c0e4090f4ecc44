//! A simulated site, and everything that stands behind it: the receiver, the collector with the configuration that we ship
//! for Tempo, Loki and Prometheus, and the servers.

use std::env;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use crate::servers::{Logs, Prometheus, Traces};
use crate::stand::{Collector, Failure, PATIENCE, Receiver, folder, free_port, simulate, until};
use crate::truth::Truth;

/// Where the programs are that nobody has on his machine.
pub(crate) struct Programs {
    pub(crate) otelcol: PathBuf,
    pub(crate) servers: PathBuf,
}

/// What happened, and those who are asked about it. All of them are still running, the receiver too.
pub(crate) struct Site {
    pub(crate) truth: Truth,
    pub(crate) prometheus: Prometheus,
    pub(crate) logs: Logs,
    pub(crate) traces: Traces,
    _collector: Collector,
    _receiver: Receiver,
}

impl Programs {
    pub(crate) fn server(&self, name: &str) -> PathBuf {
        self.servers.join(name)
    }
}

impl Site {
    /// Simulates with `arguments`, and waits until everything has arrived everywhere. `options` are lines of the receiver's
    /// configuration, `junk` datagrams that are no events.
    pub(crate) fn simulate(
        name: &str,
        programs: &Programs,
        arguments: &[&str],
        options: &str,
        junk: &[&[u8]],
    ) -> Result<Self, Failure> {
        let folder = folder(name)?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/grafana/prometheus.yaml");
        let prometheus = Prometheus::start(&programs.server("prometheus"), &config, &folder)?;
        let logs = Logs::start(&programs.server("victoria-logs"), &folder)?;
        let traces = Traces::start(&programs.server("jaeger"), &folder)?;
        let port = free_port()?;
        let environment = [
            ("OTLP_ENDPOINT", &*format!("127.0.0.1:{port}")),
            ("HEALTH_ENDPOINT", &format!("127.0.0.1:{}", free_port()?)),
            ("TEMPO_ENDPOINT", &format!("127.0.0.1:{}", traces.otlp_port)),
            ("LOKI_ENDPOINT", &format!("http://127.0.0.1:{}/insert/opentelemetry", logs.port)),
            ("PROMETHEUS_ENDPOINT", &format!("http://127.0.0.1:{}/api/v1/otlp", prometheus.port)),
            ("SPAN_METRICS_INTERVAL", "1s"),
        ];
        let config = "otel-config/collector/contrib/grafana.yaml";
        let collector = Collector::configured(&programs.otelcol, config, port, &environment, "otelcol", &folder)?;
        let options = format!("telemetry: {{ metrics_interval: 1s }}\nsessions: {{ heartbeat: 4s }}\n{options}");
        let receiver = Receiver::start(&folder, 0, collector.port, &options)?;
        let stranger = UdpSocket::bind("127.0.0.1:0")?;
        for datagram in junk {
            stranger.send_to(datagram, receiver.address)?;
        }
        // An increase is what comes after a first value.
        thread::sleep(Duration::from_secs(if junk.is_empty() { 0 } else { 3 }));
        let truth = folder.join("truth.json");
        let file = truth.to_string_lossy();
        let arguments = [arguments, &["--nodes", "3", "--truth", &file]].concat();
        simulate(&folder, receiver.address, &arguments)?.succeed(4 * PATIENCE)?;
        let truth = Truth::read(&truth)?;
        for datagram in junk {
            stranger.send_to(datagram, receiver.address)?;
        }
        let site = Self { truth, prometheus, logs, traces, _collector: collector, _receiver: receiver };
        site.settle().map_err(|error| format!("{error}; the logs are in {}", folder.display()))?;
        Ok(site)
    }

    /// Waits until nothing new comes: every event has been counted, and whatever was made has been delivered.
    fn settle(&self) -> Result<(), Failure> {
        let mut before = None;
        until("all telemetry at its servers", 2 * PATIENCE, || {
            thread::sleep(Duration::from_secs(2));
            let events = self.prometheus.number("sum(qlik_sense_events_total)")?;
            let pending = self.prometheus.number("sum(sense_otel_exporter_pending)")?;
            let spans = self.traces.search("qlik-sense-proxy", None, &std::collections::BTreeMap::new())?.len();
            let now = Some((events, spans));
            // The collector holds a batch for a second at most.
            let quiet = pending == Some(0.0) && now == before && spans > 0;
            before = now;
            Ok(quiet.then_some(()))
        })
    }
}

/// The programs, unless they are not here, which is said once and may be a failure.
pub(crate) fn programs() -> Option<Programs> {
    let named = |variable: &str| {
        let path = env::var_os(variable).map(PathBuf::from);
        assert!(path.is_some() || env::var_os("SENSE_OTEL_REQUIRE_BACKENDS").is_none(), "{variable} is not set");
        path
    };
    let found = named("SENSE_OTEL_OTELCOL_CONTRIB").zip(named("SENSE_OTEL_SERVERS"));
    if found.is_none() {
        crate::skipped("no servers: .ci/backends builds them and runs these tests");
    }
    found.map(|(otelcol, servers)| Programs { otelcol, servers })
}

/// A file of this package.
pub(crate) fn file(path: &str) -> Result<String, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}
