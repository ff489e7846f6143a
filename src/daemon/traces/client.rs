//! The HTTP client of the exporter.

use crate::daemon::fetch::Fetcher;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Maximum size of an answer, bytes. It has a sentence at most.
const ANSWER: usize = 64 << 10;

/// The answer of a collector, in more detail than the exporter tells.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Spans that it has rejected, although it has taken the others.
    pub(super) rejected: usize,
    pub(super) error: Option<String>,
}

/// The answer to the last request.
#[derive(Debug, Clone, Default)]
pub(super) struct LastAnswer(Arc<Mutex<Answer>>);

impl LastAnswer {
    /// Takes it.
    pub(super) fn take(&self) -> Answer {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

/// The HTTP client of the exporter.
pub(super) struct Client {
    fetcher: Fetcher,
    deadline: Duration,
    last_answer: LastAnswer,
}

impl Client {
    pub(super) fn new(fetcher: Fetcher, deadline: Duration, last_answer: LastAnswer) -> Self {
        Self { fetcher, deadline, last_answer }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.fetcher.send(request, self.deadline, ANSWER).await;
        self.last_answer.set(match &sent {
            Ok(response) if response.status().is_success() => told(response.body()),
            Ok(response) => failed(format!("the answer has status {}", response.status().as_u16())),
            Err(error) => failed(error.to_string()),
        });
        Ok(sent?)
    }
}

fn failed(error: String) -> Answer {
    Answer { rejected: 0, error: Some(error) }
}

// Returns what an answer says about spans. An answer that is not protobuf says nothing.
fn told(body: &[u8]) -> Answer {
    let told = ExportTraceServiceResponse::decode(body).ok().and_then(|told| told.partial_success);
    let rejected = told.as_ref().map_or(0, |told| told.rejected_spans);
    let rejected = usize::try_from(rejected).unwrap_or(0);
    // Without a rejected span it is advice, which would be repeated with each batch.
    let error = told.filter(|_| rejected > 0).map(|told| {
        let message: String = told.error_message.chars().take(200).collect();
        format!("{rejected} spans were rejected: {message}")
    });
    Answer { rejected, error }
}

impl HttpClient for Client {
    // As `async_trait` writes it.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}
