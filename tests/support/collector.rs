//! A collector that takes OTLP over gRPC, remembers every byte of it, and answers as it is told.
//!
//! It runs on a thread of its own, so that the exporter under test cannot starve it nor it the exporter, and dropping
//! it closes every connection at once, as the death of a process does.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use http::{HeaderMap, Request, Response};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use sense_otel::signal::Signal;
use tokio::sync::{Notify, oneshot};
use tonic::body::Body;
use tonic::codec::{
    Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBody, EncodeBuf, Encoder, SingleMessageCompressionOverride,
};
use tonic::codegen::Service;
use tonic::server::{Grpc, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Code, Status};

use super::certificates::Identity;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Larger than anything a test sends; a test that wants a limit answers with one.
const REQUEST_MAX: usize = 64 * 1024 * 1024;

/// One call as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    pub signal: Signal,
    /// The message, decompressed and not decoded.
    pub body: Bytes,
    pub headers: HeaderMap,
    /// The `grpc-encoding`, where the request had one.
    pub compression: Option<String>,
    pub at: Instant,
    /// Whether the answer was OK.
    pub accepted: bool,
}

/// What to answer.
#[derive(Debug)]
pub enum Answer {
    Ok,
    Partial {
        rejected: i64,
        message: String,
    },
    Status(Status),
    /// OK, with this in the place of the message.
    Message(Bytes),
    /// Takes the request and never answers.
    Hang,
    After(Duration, Box<Self>),
    /// Once the other half says so or is dropped.
    Once(oneshot::Receiver<()>, Box<Self>),
    /// Anything that HTTP can carry.
    Raw(Response<Body>),
}

impl Answer {
    pub fn status(code: Code, message: &str) -> Self {
        Self::Status(Status::new(code, message))
    }

    /// A status whose details ask for a wait.
    pub fn retry_after(code: Code, delay: Duration) -> Self {
        use tonic_types::{ErrorDetails, StatusExt};
        Self::Status(Status::with_error_details(code, "later", ErrorDetails::with_retry_info(Some(delay))))
    }

    /// Headers and nothing behind them.
    pub fn http(status: u16, headers: &[(&'static str, &str)]) -> Self {
        Self::Raw(response(status, headers, Body::empty()))
    }

    /// These messages, an error among them meaning a reset, and then an end without a status.
    pub fn without_status(messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Self {
        let body = EncodeBody::new_client(Opaque, messages, None, None);
        Self::Raw(response(200, &[("content-type", "application/grpc")], Body::new(body)))
    }

    /// OK, with a message that is compressed although nobody offered to read that.
    pub fn compressed(message: Bytes) -> Self {
        let encoding = Some(CompressionEncoding::Gzip);
        let messages = stream::iter([Ok(message)]);
        let body =
            EncodeBody::new_server(Opaque, messages, encoding, SingleMessageCompressionOverride::default(), None);
        let headers = [("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
        Self::Raw(response(200, &headers, Body::new(body)))
    }

    const fn is_acceptance(&self) -> bool {
        matches!(self, Self::Ok | Self::Partial { .. } | Self::Message(_))
    }
}

fn response(status: u16, headers: &[(&'static str, &str)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("an HTTP status");
    for &(name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("a header's value"));
    }
    response
}

/// Decides by the request.
type Rule = Box<dyn FnMut(&Received) -> Answer + Send>;

/// Where the collector listens and whom it lets in.
#[derive(Debug, Default)]
pub struct Options {
    /// Any free port of the loopback unless told otherwise.
    pub listen: Option<SocketAddr>,
    /// With it the collector speaks TLS only.
    pub identity: Option<Identity>,
    /// With it only clients with a certificate of this authority, in PEM form, come in.
    pub client_authority: Option<String>,
    /// Keeps no call: a rule has to look at each as it comes in.
    pub forgets: bool,
    /// With it each connection is ended when it is so old, as a balancer does: by a GOAWAY.
    pub connection_age_max: Option<Duration>,
}

/// The running collector. Dropping it ends it.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    connections: usize,
    forgets: bool,
    answers: HashMap<Signal, VecDeque<Answer>>,
    rules: HashMap<Signal, Rule>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Collector {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let listen = options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(listen).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::<Shared>::default();
        shared.lock().forgets = options.forgets;
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Export { shared: Arc::clone(&shared) };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, options, service) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next answers to calls of `signal`, before any rule is asked.
    pub fn answer(&self, signal: Signal, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().answers.entry(signal).or_default().extend(answers);
    }

    /// What decides when no answer is prepared. Without a rule everything is accepted.
    pub fn rule(&self, signal: Signal, rule: impl FnMut(&Received) -> Answer + Send + 'static) {
        self.shared.lock().rules.insert(signal, Box::new(rule));
    }

    /// Every call so far, in the order in which their bodies were complete.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// How many connections there were so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// The calls of `signal` that were answered with OK.
    pub fn accepted(&self, signal: Signal) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|call| call.signal == signal && call.accepted);
        received
    }

    /// Waits until the calls so far satisfy `until`; fails the test if they do not in a long time.
    pub async fn wait(&self, what: &str, until: impl Fn(&[Received]) -> bool) {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                if until(&self.shared.lock().received) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let calls = self.received().len();
            panic!("waited in vain for {what}; {calls} calls were made");
        }
    }

    /// Ends at once, connections and all.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, mut call: Received) -> Answer {
        let mut state = self.lock();
        let prepared = state.answers.get_mut(&call.signal).and_then(VecDeque::pop_front);
        let answer = prepared.unwrap_or_else(|| match state.rules.get_mut(&call.signal) {
            Some(rule) => rule(&call),
            None => Answer::Ok,
        });
        call.accepted = match &answer {
            Answer::After(_, later) | Answer::Once(_, later) => later.is_acceptance(),
            now => now.is_acceptance(),
        };
        if !state.forgets {
            state.received.push(call);
        }
        drop(state);
        self.changed.notify_waiters();
        answer
    }
}

async fn serve(listener: TcpListener, options: Options, service: Export) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let mut server = Server::builder();
    if let Some(identity) = options.identity {
        let identity = tonic::transport::Identity::from_pem(identity.certificate, identity.key);
        let mut tls = ServerTlsConfig::new().identity(identity);
        if let Some(authority) = options.client_authority {
            tls = tls.client_ca_root(Certificate::from_pem(authority));
        }
        server = server.tls_config(tls).expect("usable certificates");
    }
    if let Some(age) = options.connection_age_max {
        server = server.max_connection_age(age);
    }
    let shared = Arc::clone(&service.shared);
    let incoming =
        TcpIncoming::from(listener).with_nodelay(Some(true)).inspect(move |_| shared.lock().connections += 1);
    server.serve_with_incoming(service, incoming).await.expect("a server");
}

/// Every `Export` method there is.
#[derive(Clone, Debug)]
struct Export {
    shared: Arc<Shared>,
}

impl Service<Request<Body>> for Export {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let signal = match request.uri().path() {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
            other => {
                let status = Status::unimplemented(format!("no method {other}"));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let raw = Arc::<Mutex<Option<Response<Body>>>>::default();
        let headers = request.headers().clone();
        let handler = Handler { signal, headers, shared: Arc::clone(&self.shared), raw: Arc::clone(&raw) };
        Box::pin(async move {
            let mut grpc = Grpc::new(Opaque)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(REQUEST_MAX);
            let response = grpc.unary(handler, request).await;
            let raw = raw.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(raw.unwrap_or(response))
        })
    }
}

struct Handler {
    signal: Signal,
    headers: HeaderMap,
    shared: Arc<Shared>,
    /// Set instead of an answer that gRPC could express.
    raw: Arc<Mutex<Option<Response<Body>>>>,
}

impl UnaryService<Bytes> for Handler {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let compression = self.headers.get("grpc-encoding").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut answer = self.shared.take(Received {
            signal: self.signal,
            body: request.into_inner(),
            headers: self.headers.clone(),
            compression,
            at: Instant::now(),
            accepted: false,
        });
        let (signal, raw) = (self.signal, Arc::clone(&self.raw));
        Box::pin(async move {
            answer = match answer {
                Answer::After(delay, later) => {
                    tokio::time::sleep(delay).await;
                    *later
                }
                Answer::Once(said, later) => {
                    let _ = said.await;
                    *later
                }
                now => now,
            };
            match answer {
                Answer::Ok => Ok(tonic::Response::new(Bytes::new())),
                Answer::Partial { rejected, message } => Ok(tonic::Response::new(partial(signal, rejected, message))),
                Answer::Message(message) => Ok(tonic::Response::new(message)),
                Answer::Status(status) => Err(status),
                Answer::Hang => pending().await,
                Answer::Raw(response) => {
                    *raw.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
                    Ok(tonic::Response::new(Bytes::new()))
                }
                Answer::After(..) | Answer::Once(..) => panic!("one delay is enough"),
            }
        })
    }
}

fn partial(signal: Signal, rejected: i64, error_message: String) -> Bytes {
    let message = match signal {
        Signal::Logs => {
            let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
            ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        }
        Signal::Traces => {
            let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        }
        Signal::Metrics => {
            let partial = ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message };
            ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        }
    };
    message.into()
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
struct Opaque;

impl Codec for Opaque {
    type Encode = Bytes;
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
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
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
