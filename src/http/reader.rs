//! Detects clients that do not read their answers.
//!
//! An answer hands its transport one piece at a time, and the next one when that was written to the
//! socket. So an unread answer holds one piece, although the transport would buffer more. An answer
//! without progress for some time is one that the client does not read.

use super::connection::{ActiveRequest, ConnectionHandle};
use crate::broker::stop::Work;
use crate::engine::Charge;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep};

tokio::task_local! {
    /// The reader of the HTTP/2 stream, or of the HTTP/1.1 connection, that is being served.
    pub(super) static READER: Arc<Reader>;
}

/// The progress of the client of one HTTP/2 stream, or of one HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Reader {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug)]
struct State {
    // Number of pieces that the transport has not written yet.
    held: usize,
    // Whether the body has a next piece, so that the client is the one to wait for.
    ready: bool,
    // Time of the last progress.
    since: Instant,
    // The waker of the body, which waits until its piece was written.
    body: Option<Waker>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let state = State { held: 0, ready: false, since: Instant::now(), body: None };
        Self { state: Mutex::new(state), written: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Sets whether the answer waits for the client from now on.
    fn set_ready(&self, ready: bool) {
        let mut state = self.state();
        state.ready = ready;
        state.since = Instant::now();
    }

    // Waits until every piece was written.
    fn poll_written(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.held == 0 {
            return Poll::Ready(());
        }
        state.body = Some(context.waker().clone());
        Poll::Pending
    }

    // Returns a piece for the transport.
    fn piece(self: &Arc<Self>, bytes: Bytes, holds: &Arc<Holds>) -> Bytes {
        let mut state = self.state();
        state.held += 1;
        state.since = Instant::now();
        drop(state);
        Bytes::from_owner(Piece { bytes, reader: self.clone(), _holds: holds.clone() })
    }

    /// Waits until every piece was written.
    async fn written(&self) {
        loop {
            let written = self.written.notified();
            if self.state().held == 0 {
                return;
            }
            written.await;
        }
    }

    // Returns how much longer to wait for the client.
    fn left(&self, patience: Duration) -> Duration {
        let state = self.state();
        if state.ready || state.held > 0 {
            (state.since + patience).saturating_duration_since(Instant::now())
        } else {
            patience
        }
    }

    /// Waits until the answer has made no progress for `patience` because the client does not read.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let left = self.left(patience);
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

// Bytes that the transport has not written yet.
struct Piece {
    bytes: Bytes,
    reader: Arc<Reader>,
    _holds: Arc<Holds>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut state = self.reader.state();
        state.held -= 1;
        state.since = Instant::now();
        let body = state.body.take();
        drop(state);
        if let Some(body) = body {
            body.wake();
        }
        self.reader.written.notify_waiters();
    }
}

/// Serves one HTTP/2 stream. If its client does not read, resets the stream. If only the transport
/// still has pieces of it, closes the connection.
pub(super) async fn stream(
    serving: impl Future<Output = ()>,
    patience: Duration,
    connection: Arc<ConnectionHandle>,
) {
    let reader = Arc::new(Reader::new());
    let serving = READER.scope(reader.clone(), serving);
    tokio::select! {
        biased;
        () = serving => {}
        () = reader.stalled(patience) => {
            tracing::debug!("an answer is not read: its stream is reset");
            return;
        }
    }
    tokio::select! {
        biased;
        () = reader.written() => {}
        () = reader.stalled(patience) => connection.close(),
    }
}

/// Resources that a request holds until its whole answer was written.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Counts as a request of the connection.
    #[expect(dead_code, reason = "it is released when it is dropped")]
    pub(super) active: Option<ActiveRequest>,
    /// Counts as work in flight.
    pub(super) work: Option<Work>,
    /// The charge for the request itself.
    pub(super) room: Option<Charge>,
    /// A permit in place of the charge.
    pub(super) reserve: Option<OwnedSemaphorePermit>,
    /// The charge for memory that the answer keeps, if there is any.
    pub(super) answer: Option<Arc<Charge>>,
}

/// The body of an answer, which the transport gets one piece at a time.
pub(super) struct Permitted {
    body: Body,
    reader: Arc<Reader>,
    holds: Arc<Holds>,
}

impl Permitted {
    pub(super) fn new(body: Body, holds: Holds) -> Self {
        let reader = READER.try_with(Clone::clone).unwrap_or_else(|_| Arc::new(Reader::new()));
        reader.set_ready(true);
        Self { body, reader, holds: Arc::new(holds) }
    }
}

impl HttpBody for Permitted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        std::task::ready!(self.reader.poll_written(context));
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Self { reader, holds, .. } = &*self;
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let frame = frame.map_data(|bytes| reader.piece(bytes, holds));
                reader.set_ready(true);
                Poll::Ready(Some(Ok(frame)))
            }
            // There is nothing to send, for now or at all.
            other => {
                reader.set_ready(false);
                other
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Permitted {
    fn drop(&mut self) {
        self.reader.set_ready(false);
    }
}
