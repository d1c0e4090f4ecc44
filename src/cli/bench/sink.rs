//! The backend: takes OTLP over gRPC, answers at once, and keeps only numbers.
//!
//! Nothing is decoded but what those need: of a log record the user in its body, when it was received, and its event
//! name; of metrics the receiver's own counters. Anything more would take the processor from the receiver.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use http::{Request, Response};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::server::{Grpc, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::warn;

use super::arrivals::Arrivals;
use super::counted::Counted;

/// Larger than any request of the exporter.
const REQUEST_MAX: usize = 64 * 1024 * 1024;

const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The running backend. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Bytes that came in over TCP: requests as they were compressed, and what HTTP/2 puts around them.
    wire: Arc<AtomicU64>,
    arrivals: Mutex<Arrivals>,
}

impl Sink {
    /// Listens on a free port of this machine and hands everything to `arrivals`.
    pub(super) fn start(arrivals: Arrivals) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { wire: Arc::default(), arrivals: Mutex::new(arrivals) });
        let service = Export(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("bench-sink".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    result = serve(listener, service) => {
                        if let Err(error) = result {
                            warn!(%error, "the OTLP server of the measurement ended");
                        }
                    }
                    _ = stopped => (),
                }
            });
        })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that came in over TCP so far.
    pub(super) fn wire(&self) -> u64 {
        self.shared.wire.load(Ordering::Relaxed)
    }

    /// What has arrived so far.
    pub(super) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.shared.arrivals()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that anybody waits for.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, service: Export) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wire = Arc::clone(&service.0.wire);
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let counted = incoming.map(move |stream| stream.map(|stream| Counted::new(stream, Arc::clone(&wire))));
    Server::builder().serve_with_incoming(service, counted).await?;
    Ok(())
}

/// The three `Export` methods.
#[derive(Clone, Debug)]
struct Export(Arc<Shared>);

impl Service<Request<Body>> for Export {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let take: fn(&mut Arrivals, Bytes) = match request.uri().path() {
            LOGS => Arrivals::take_logs,
            TRACES => |_, _| (),
            METRICS => Arrivals::take_metrics,
            _ => return Box::pin(ready(Ok(Status::unimplemented("no such method").into_http()))),
        };
        let handler = Handler { shared: Arc::clone(&self.0), take };
        Box::pin(async move {
            let mut grpc = Grpc::new(Opaque)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(REQUEST_MAX);
            Ok(grpc.unary(handler, request).await)
        })
    }
}

struct Handler {
    shared: Arc<Shared>,
    take: fn(&mut Arrivals, Bytes),
}

impl UnaryService<Bytes> for Handler {
    type Response = ();
    type Future = Ready<Result<tonic::Response<()>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        (self.take)(&mut self.shared.arrivals(), request.into_inner());
        ready(Ok(tonic::Response::new(())))
    }
}

/// Requests as the bytes that they are, and the empty answer that means that all was taken.
#[derive(Clone, Copy, Debug)]
struct Opaque;

impl Codec for Opaque {
    type Encode = ();
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Opaque {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
