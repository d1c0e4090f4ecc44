//! The way of the metrics: the client and the reading of answers are those of logs and traces, and there the likeness
//! ends.
//!
//! Metrics are not stored. A call is made once; what it could not deliver, the next interval brings, with newer
//! numbers.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::answer::Answer;
use super::client::Client;
use super::retry::Disposition;
use crate::signal::Signal;
use crate::telemetry::metrics::{Backend, Outcome};

/// Sends metrics to where the exporter sends everything else.
#[derive(Clone, Debug)]
pub struct MetricsBackend {
    client: Arc<Mutex<Client>>,
}

impl MetricsBackend {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(Mutex::new(client)) }
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        // A client is replaced whole or not at all, so one that a panic left behind is as good as any.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self, request: Bytes) -> Outcome {
        let client = self.client().clone();
        match client.send(Signal::Metrics, vec![request]).await {
            Answer::Accepted(acceptance) => Outcome::Taken { refused: acceptance.rejected, remark: acceptance.message },
            Answer::Failed(failure) => {
                if !failure.from_server {
                    self.client().renew();
                }
                let parked = Disposition::of(&failure) == Disposition::Park;
                Outcome::Failed { code: failure.code, message: failure.message, parked }
            }
        }
    }
}

impl Backend for MetricsBackend {
    fn export(&self, request: Bytes) -> BoxFuture<'static, Outcome> {
        Box::pin(self.clone().send(request))
    }
}
