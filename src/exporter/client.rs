//! The connection to the backend: channel, TLS, headers, compression, and one call over it.
//!
//! A request is sent as the bytes that were stored. Several stored requests of a signal, one behind the other, are one
//! request again, so that a backlog goes out in large calls without being decoded.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use bytes::{BufMut, Bytes};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use thiserror::Error;
use tonic::body::Body;
use tonic::codec::{BufferSettings, EncodeBody, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::answer::{self, Answer};
use super::{Compression, Config, TlsConfig};
use crate::signal::Signal;

#[cfg(test)]
mod tests;

/// How often a connection with calls under way is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to that may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there can be no connection with this configuration. Holds no secrets.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The endpoint is no `http://host:port` or `https://host:port`.
    #[error("exporter.endpoint must be http://host:port or https://host:port")]
    Endpoint,
    /// A file of `exporter.tls` could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that should hold certificates in PEM form holds none, or one that cannot be understood.
    #[error("{} holds no usable PEM certificate", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a private key in PEM form does not.
    #[error("{} holds no usable PEM private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// Only one of `cert_file` and `key_file` is given.
    #[error("exporter.tls needs cert_file and key_file together")]
    HalfIdentity,
    /// The parts were readable, and TLS could not be set up with them.
    #[error("exporter.tls cannot be used")]
    Tls(#[source] tonic::transport::Error),
    /// A header's name is not allowed in gRPC metadata.
    #[error("exporter.headers: `{name}` is not allowed as a name")]
    HeaderName {
        /// The name as configured.
        name: String,
    },
    /// A header's value is not allowed in gRPC metadata; for a name that ends in `-bin`, it is not base64.
    #[error("exporter.headers: the value of `{name}` cannot be sent")]
    HeaderValue {
        /// The name as configured.
        name: String,
    },
}

/// Makes ring the process's provider of cryptography, once. Called for every channel; the only place that chooses.
pub fn install_crypto_provider() {
    // An error means that one is installed already, which is what was wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A channel to the endpoint that connects when it is first used, and again whenever it has to.
///
/// Must be called inside a tokio runtime, which will run the connection.
///
/// # Errors
///
/// [`BuildError`], where the endpoint or a file of the TLS configuration cannot be used.
fn channel(config: &Config) -> Result<Channel, BuildError> {
    Ok(endpoint(config)?.connect_lazy())
}

/// Whether a connection could be set up: reads the files of the TLS configuration and connects to nobody.
///
/// # Errors
///
/// Every kind of [`BuildError`].
pub fn check(config: &Config) -> Result<(), BuildError> {
    endpoint(config)?;
    metadata(config)?;
    Ok(())
}

fn endpoint(config: &Config) -> Result<Endpoint, BuildError> {
    install_crypto_provider();
    let tls = match (config.endpoint.scheme_str(), config.endpoint.host()) {
        (Some("http"), Some(_)) => None,
        (Some("https"), Some(_)) => Some(tls_config(&config.tls, config.timeout)?),
        _ => return Err(BuildError::Endpoint),
    };
    let mut endpoint = Endpoint::from(config.endpoint.clone())
        .user_agent(concat!("sense-otel/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| BuildError::Endpoint)?
        .connect_timeout(config.timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).map_err(BuildError::Tls)?;
    }
    Ok(endpoint)
}

/// The configured headers as gRPC metadata, marked as sensitive. A value under a name that ends in `-bin` is configured
/// in base64.
///
/// # Errors
///
/// [`BuildError::HeaderName`] and [`BuildError::HeaderValue`].
fn metadata(config: &Config) -> Result<MetadataMap, BuildError> {
    let mut headers = HeaderMap::with_capacity(config.headers.len());
    for (name, value) in &config.headers {
        let key = HeaderName::from_bytes(name.as_bytes()).ok().filter(|key| !is_reserved(key));
        let key = key.ok_or_else(|| BuildError::HeaderName { name: name.clone() })?;
        let mut value =
            HeaderValue::from_str(value.expose_secret()).map_err(|_| BuildError::HeaderValue { name: name.clone() })?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let metadata = MetadataMap::from_headers(headers);
    for field in metadata.iter() {
        if let KeyAndValueRef::Binary(name, value) = field
            && value.to_bytes().is_err()
        {
            return Err(BuildError::HeaderValue { name: name.to_string() });
        }
    }
    Ok(metadata)
}

/// Names that the protocol itself uses.
fn is_reserved(name: &HeaderName) -> bool {
    name == TE || name == CONTENT_TYPE || name.as_str().starts_with("grpc-")
}

fn tls_config(config: &TlsConfig, timeout: Duration) -> Result<ClientTlsConfig, BuildError> {
    let mut tls = ClientTlsConfig::new().timeout(timeout);
    tls = match &config.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(authorities(path)?)),
        None => tls.with_native_roots(),
    };
    if let Some(name) = &config.server_name_override {
        tls = tls.domain_name(name);
    }
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => tls = tls.identity(identity(cert, key)?),
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return Err(BuildError::HalfIdentity),
    }
    Ok(tls)
}

/// The file's bytes, after a look at every certificate in it: tonic leaves out those that it cannot use, and would
/// trust nobody where none is left.
fn authorities(path: &Path) -> Result<Vec<u8>, BuildError> {
    let pem = read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or_else(|| BuildError::Certificate { path: path.to_owned() })?;
    }
    if roots.is_empty() {
        return Err(BuildError::Certificate { path: path.to_owned() });
    }
    Ok(pem)
}

fn identity(cert_file: &Path, key_file: &Path) -> Result<Identity, BuildError> {
    let cert = read(cert_file)?;
    if CertificateDer::pem_slice_iter(&cert).next().is_none_or(|first| first.is_err()) {
        return Err(BuildError::Certificate { path: cert_file.to_owned() });
    }
    let key = read(key_file)?;
    PrivateKeyDer::from_pem_slice(&key).map_err(|_| BuildError::Key { path: key_file.to_owned() })?;
    Ok(Identity::from_pem(cert, key))
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}

/// Sends requests. Clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    config: Arc<Config>,
    channel: Channel,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(config: Arc<Config>) -> Result<Self, BuildError> {
        let mut headers = metadata(&config)?.into_headers();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(name) = encoding_name(config.compression) {
            headers.insert("grpc-encoding", HeaderValue::from_static(name));
            headers.insert("grpc-accept-encoding", HeaderValue::from_static(name));
        }
        Ok(Self { channel: channel(&config)?, config, headers })
    }

    /// Takes a new connection, and reads the files of the TLS configuration again: after silence the old connection
    /// may be a dead one that nobody has closed, or the certificate may have been replaced. Where the files cannot be
    /// used at this moment, the old ones stay.
    pub(super) fn renew(&mut self) {
        if let Ok(channel) = channel(&self.config) {
            self.channel = channel;
        }
    }

    /// Makes one call with `bodies`, one behind the other, as its request. Takes at most `exporter.timeout`.
    pub(super) async fn send(mut self, signal: Signal, bodies: Vec<Bytes>) -> Answer {
        let timeout = self.config.timeout;
        let call = async {
            if let Err(error) = poll_fn(|context| self.channel.poll_ready(context)).await {
                return Answer::broken(&error);
            }
            let request = self.request(signal, bodies);
            match self.channel.call(request).await {
                Ok(response) => answer::read(signal, response).await,
                Err(error) => Answer::broken(&error),
            }
        };
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Answer::silence(Code::DeadlineExceeded, format!("no answer within {timeout:?}")))
    }

    fn request(&self, signal: Signal, bodies: Vec<Bytes>) -> http::Request<Body> {
        let encoder = Concatenation { length: bodies.iter().map(Bytes::len).sum() };
        let body =
            EncodeBody::new_client(encoder, stream::iter([Ok(bodies)]), self.config.compression.encoding(), None);
        let mut request = http::Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = http::Uri::from_static(path(signal));
        *request.headers_mut() = self.headers.clone();
        request
    }
}

const fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    }
}

const fn encoding_name(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// Writes stored bytes as one message.
#[derive(Debug)]
struct Concatenation {
    /// Of the message, in bytes.
    length: usize,
}

impl Encoder for Concatenation {
    type Item = Vec<Bytes>;
    type Error = Status;

    fn encode(&mut self, bodies: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Self::Error> {
        buffer.reserve(self.length);
        for body in bodies {
            buffer.put(body);
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        // A first allocation that small messages fit into; large ones reserve what they need.
        BufferSettings::new(self.length.min(64 * 1024), 32 * 1024)
    }
}
