//! The configuration of a whole pipeline in the process of a test.

use std::net::SocketAddr;
use std::time::Duration;

use sense_otel::exporter::{Compression, RetryConfig, TlsConfig};
use sense_otel::pipeline::Config;
use sense_otel::processor::filter::ExcludeRule;
use sense_otel::processor::ids::Key;
use sense_otel::signal::Signal;
use sense_otel::{exporter, processor, receiver, store, telemetry};

/// Everything in memory, on a free port, without a page.
pub fn config(collector: SocketAddr) -> Config {
    Config {
        receiver: receiver::Config {
            endpoint: "127.0.0.1:0".to_owned(),
            receive_buffer: 8 << 20,
            max_datagram_size: 8192,
            allowed_sources: Vec::new(),
            rate_limit_per_source: 0,
        },
        processor: processor::Config {
            exclude_users: vec![ExcludeRule { directory: "internal".to_owned(), user: "sa_*".to_owned() }],
            ..processor::Config::default()
        },
        key: Some(Key::new(b"a key for tests only")),
        store: store::Config {
            directory: std::env::temp_dir(),
            max_size: 64 << 20,
            max_age: Duration::from_secs(3600),
        },
        in_memory: true,
        exporter: exporter::Config {
            endpoint: format!("http://{collector}").parse().expect("an address"),
            signals: vec![Signal::Logs, Signal::Traces, Signal::Metrics],
            headers: Vec::new(),
            tls: TlsConfig::default(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(10),
            retry: RetryConfig {
                initial_interval: Duration::from_millis(50),
                max_interval: Duration::from_millis(200),
            },
        },
        telemetry: telemetry::Config { level: "info".to_owned(), metrics_interval: Duration::from_secs(1) },
        app_names_file: None,
        admin: None,
    }
}
