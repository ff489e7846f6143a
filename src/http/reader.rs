//! Whether a client reads what it is sent.
//!
//! An answer hands its transport one piece at a time, and the next when that has been written to
//! the socket. So an answer that is not read holds one piece, whatever the transport would buffer;
//! and an answer of which nothing has moved for a while is one that its client does not read.

use super::listen::{Line, UnderWay};
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

/// An answer of which nothing progresses for so long, because its client does not read, is closed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Of the HTTP/2 stream, or of the connection over HTTP/1.1, that is being served.
    pub(super) static READER: Arc<Reader>;
}

/// The client of one HTTP/2 stream, or of one connection over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Reader {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug)]
struct State {
    // Pieces that the transport has and has not written.
    held: usize,
    // Whether the next piece is there as soon as the transport asks for it.
    ready: bool,
    // The last progress.
    since: Instant,
    // The body that waits for its piece to be written.
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

    // The client is waited for from now on, or no longer.
    fn set_ready(&self, ready: bool) {
        let mut state = self.state();
        state.ready = ready;
        state.since = Instant::now();
    }

    // Whether every piece has been written; else the context is woken then.
    fn poll_written(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.held == 0 {
            return Poll::Ready(());
        }
        state.body = Some(context.waker().clone());
        Poll::Pending
    }

    // A piece for the transport.
    fn piece(self: &Arc<Self>, bytes: Bytes, holds: &Arc<Holds>) -> Bytes {
        let mut state = self.state();
        state.held += 1;
        state.since = Instant::now();
        drop(state);
        Bytes::from_owner(Piece { bytes, reader: self.clone(), _holds: holds.clone() })
    }

    /// Waits until every piece has been written.
    async fn written(&self) {
        loop {
            let written = self.written.notified();
            if self.state().held == 0 {
                return;
            }
            written.await;
        }
    }

    // How much longer the client is waited for.
    fn left(&self, patience: Duration) -> Duration {
        let state = self.state();
        if state.ready || state.held > 0 {
            (state.since + patience).saturating_duration_since(Instant::now())
        } else {
            patience
        }
    }

    /// Waits until nothing has progressed for so long because the client does not read.
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

// Bytes that the transport has.
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

/// Serves one HTTP/2 stream. When its client does not read, the stream is reset; when only the
/// transport has what is left of it, the connection is closed.
pub(super) async fn stream(serving: impl Future<Output = ()>, patience: Duration, line: Arc<Line>) {
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
        () = reader.stalled(patience) => line.close(),
    }
}

/// What a request holds until the last of its answer has been written.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Its place in the connection.
    #[expect(dead_code, reason = "it is given back when it is dropped")]
    pub(super) under_way: Option<UnderWay>,
    /// For the request itself.
    pub(super) room: Option<Charge>,
    /// In place of that.
    pub(super) reserve: Option<OwnedSemaphorePermit>,
    /// For what stays with its answer, if anything does.
    pub(super) answer: Option<Arc<Charge>>,
}

/// The body of an answer, given to the transport a piece at a time.
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
            // Nothing to send for now, or any more.
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
