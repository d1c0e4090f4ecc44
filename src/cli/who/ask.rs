//! One HTTP request to the receiver.

use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::telemetry::text::one_line;

/// How long the whole of it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest answer in bytes. The largest that we give has some 10 MB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Longest text of a refusal in bytes.
const REFUSAL_MAX: usize = 1024;

/// Whom to ask for what.
#[derive(Debug)]
pub(super) struct Asked {
    /// `host:port`.
    pub(super) at: String,
    pub(super) path: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("the answer broke off")]
    Http(#[from] hyper::Error),
    #[error("this is no address that can be asked")]
    Request(#[from] http::Error),
    #[error("it answers {0}: {1}")]
    Refused(StatusCode, String),
    #[error("the answer is too long")]
    TooLong,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

impl Asked {
    /// The body of the answer.
    ///
    /// # Errors
    ///
    /// Every kind of [`Fault`].
    pub(super) async fn ask(&self) -> Result<Vec<u8>, Fault> {
        tokio::time::timeout(PATIENCE, self.answer()).await.map_err(|_| Fault::Silent)?
    }

    async fn answer(&self) -> Result<Vec<u8>, Fault> {
        let stream = TcpStream::connect(&self.at).await.map_err(Fault::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(&self.path).header(header::HOST, &self.at).body(String::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let text = read(response.into_body(), REFUSAL_MAX).await.unwrap_or_default();
            return Err(Fault::Refused(status, one_line(&String::from_utf8_lossy(&text))));
        }
        let body = read(response.into_body(), ANSWER_MAX).await;
        connection.abort();
        body
    }
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(Fault::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
