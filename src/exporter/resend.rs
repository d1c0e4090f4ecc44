//! Sending stored requests once more, one at a time and once each: for a person who has found why they were refused.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Code;

use super::Config;
use super::answer::Answer;
use super::client::{BuildError, Client};
use super::retry::Disposition;
use crate::signal::Signal;
use crate::telemetry::text;

/// Sends to where the exporter sends, and in the same way.
#[derive(Debug)]
pub struct Resender {
    client: Client,
}

/// What came of a request. Texts are the backend's, fit for one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resent {
    /// The backend took it.
    Taken {
        /// All but this many items. It must not be sent again for them: the others would be there twice.
        refused: u64,
        /// What the backend said beside that; mostly empty.
        remark: String,
    },
    /// The backend does not want this request; it may want another.
    Refused {
        /// The gRPC code.
        code: Code,
        /// Why.
        message: String,
    },
    /// Nothing can be delivered for now: nobody answers, or not to us, or "later".
    Unavailable {
        /// The gRPC code.
        code: Code,
        /// Why.
        message: String,
    },
}

impl Resender {
    /// Connects when the first request is sent. `config.signals` is not looked at.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BuildError`], where endpoint, headers or TLS cannot be used as configured.
    pub fn new(config: Config) -> Result<Self, BuildError> {
        Ok(Self { client: Client::new(Arc::new(config))? })
    }

    /// Sends one request. Takes at most `exporter.timeout`.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Resent {
        match self.client.clone().send(signal, vec![body]).await {
            Answer::Accepted(acceptance) => Resent::Taken { refused: acceptance.rejected, remark: acceptance.message },
            Answer::Failed(failure) => {
                let disposition = Disposition::of(&failure);
                let (code, message) = (failure.code, text::one_line(&failure.message));
                match disposition {
                    Disposition::Quarantine | Disposition::Split | Disposition::RetryInDoubt { .. } => {
                        Resent::Refused { code, message }
                    }
                    Disposition::Retry { .. } | Disposition::Park => Resent::Unavailable { code, message },
                }
            }
        }
    }
}
