//! `sense-otel`: Qlik Sense session and connection events as OpenTelemetry logs, spans and metrics.
//!
//! ```text
//!  proxy nodes ──UDP──> receiver ──batches──> processor ──> otlp ──> store ──────────> exporter ──gRPC──> collector
//!                       own thread            core thread: order,                      tokio
//!                                             filter, track, map,
//!                                             encode a commit frame
//!                                             └── Picture, while somebody looks ──> admin (page, who)
//! ```
//!
//! The file list is the pipeline. Imports point strictly down this table; a module marked P is pure: no tokio, threads,
//! clock, files, sockets, environment or unseeded randomness. `tests/architecture` enforces both.
//!
//! | layer | modules |
//! |---|---|
//! | 6 | `cli` |
//! | 5 | `config` |
//! | 4 | `pipeline` |
//! | 3 | `receiver`, `exporter`, `admin` |
//! | 2 | `processor` P, `otlp` P, `simulator` P, `store`, `telemetry` |
//! | 1 | `event` P, `signal` P |
//! | 0 | `time` P |

pub mod time;

pub mod event;
pub mod signal;

pub mod receiver;

pub mod processor;

pub mod otlp;
pub mod store;

pub mod exporter;
pub mod telemetry;

pub mod admin;

pub mod simulator;

pub mod pipeline;

pub mod config;

pub mod cli;
