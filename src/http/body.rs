//! A request's body. It is read once, into memory of its own, which is bounded. A body that is not
//! needed is discarded in a way that lets its sender read the answer.

use super::connection::ConnectionHandle;
use super::problem::Problem;
use super::small::Small;
use super::state::AppState;
use crate::access::quota::OVER;
use crate::broker::pace::{PACE, Pace};
use crate::broker::throttle::{Received, Throttle};
use crate::wire::{Code, LARGE};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Maximum time for which a body that is not needed is read and discarded.
const DRAIN: Duration = Duration::from_secs(5);

/// Reads a payload. Up to 64 KiB are not charged to the budget for large ones: [`Small`] bounds the
/// received bytes of all small payloads together.
pub(super) async fn read(
    state: &AppState,
    throttle: &Throttle,
    mut body: Body,
) -> Result<Bytes, Problem> {
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > state.payload as u64) {
        return Err(too_large(state.payload));
    }
    let length = length.map_or(0, |length| length as usize);
    let mut pace = Pace::new(Instant::now(), state.patience);
    let small = Small::begin(&state.small);
    let mut large = state.budget.take(0).ok_or_else(overloaded)?;
    let mut bytes = Vec::new();
    loop {
        let piece = tokio::select! {
            biased;
            () = small.evicted() => return Err(overloaded()),
            piece = next(&mut body, &pace, state.patience) => piece?,
        };
        let Some(piece) = piece else { break };
        let size = bytes.len() + piece.len();
        if size > state.payload {
            return Err(too_large(state.payload));
        }
        if !pace.received(Instant::now(), piece.len()) {
            return Err(timed_out(state.patience));
        }
        // The announced length may be wrong, so that only a small one is reserved at once. Otherwise
        // the buffer doubles, and each byte is copied twice.
        let most =
            if size <= length && length <= LARGE { length } else { size.next_power_of_two() };
        let mut most = most.max(bytes.capacity());
        let is_small = most <= LARGE;
        small.resize(if is_small { most } else { 0 });
        if !is_small && !large.resize(most) {
            // A little more than the received bytes may fit. Less than a sixteenth would copy the
            // bytes too often.
            most = (size + size / 16).min(state.payload).max(bytes.capacity());
            if !large.resize(most) {
                return Err(overloaded());
            }
        }
        bytes.reserve_exact(most - bytes.len());
        bytes.extend_from_slice(&piece);
        let slowed = tokio::select! {
            biased;
            () = small.evicted() => return Err(overloaded()),
            slowed = slow_down(throttle, 0, piece.len()) => slowed?,
        };
        pace.paused(slowed);
    }
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

/// Counts what an address has sent, and waits if that is more than it may send. Returns for how long.
/// One that stays above its rate is refused, and so
/// is one whose rate others have used up for 10 s.
pub(super) async fn slow_down(
    throttle: &Throttle,
    messages: usize,
    bytes: usize,
) -> Result<Duration, Problem> {
    let mut begun = None;
    loop {
        let Received { resume_at, tell, again } = throttle.receive(messages, bytes as u64);
        let waited = begun.map_or(Duration::ZERO, |begun: Instant| begun.elapsed());
        if tell || (again && waited >= OVER) {
            return Err(throttle.refuse().into());
        }
        let Some(resume_at) = resume_at else {
            return Ok(waited);
        };
        begun.get_or_insert_with(Instant::now);
        // Boxed, because few requests wait.
        Box::pin(sleep_until(resume_at)).await;
        if !again {
            return Ok(begun.map_or(waited, |begun| begun.elapsed()));
        }
    }
}

pub(super) fn overloaded() -> Problem {
    Problem::of(
        Code::OVERLOADED,
        "too many payloads are arriving at once: send this one again in a second",
    )
}

pub(super) fn timed_out(patience: Duration) -> Problem {
    Problem::of(
        Code::TIMED_OUT,
        format!(
            "the body made no progress for {patience:?}, or was slower than {} KiB a second: \
             send it again, over a better link or in smaller parts",
            PACE >> 10
        ),
    )
}

/// Returns the next bytes of a body, which has to keep its pace.
pub(super) async fn next(
    body: &mut Body,
    pace: &Pace,
    patience: Duration,
) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match timeout_at(pace.deadline(), frame).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                // Trailers are ignored.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => {
                return Err(Problem::bad_request(format!("the body broke off: {error}")));
            }
            Err(_) => return Err(timed_out(patience)),
        }
    }
}

/// A body that is returned when its handler drops it.
///
/// An answer that is sent while the body is still arriving interrupts the body. HTTP/1.1 then resets
/// the connection, and HTTP/2 the stream. Either may destroy the answer (RFC 9112, section 9.6).
pub(super) struct ReturnableBody {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl ReturnableBody {
    /// Lends a body to a handler. Returns how to get it back, unless the body is empty.
    pub(super) fn lend(body: Body) -> (Body, Option<oneshot::Receiver<Body>>) {
        if body.is_end_stream() {
            return (body, None);
        }
        let (back, returned) = oneshot::channel();
        (Body::new(Self { body, back: Some(back) }), Some(returned))
    }
}

impl HttpBody for ReturnableBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ReturnableBody {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

/// Reads and discards a returned body, for at most [`DRAIN`], and at most twice the maximum size of a
/// payload. An address that is above its rate is read more slowly, or no more.
pub(super) async fn drain(
    state: &AppState,
    connection: Option<&ConnectionHandle>,
    returned: Option<oneshot::Receiver<Body>>,
) {
    let Some(Ok(mut body)) = returned.map(|mut returned| returned.try_recv()) else {
        return;
    };
    let drain = async {
        let mut left = state.payload.saturating_mul(2);
        let mut pace = Pace::new(Instant::now(), DRAIN);
        while let Ok(Some(piece)) = next(&mut body, &pace, DRAIN).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
            if let Some(connection) = connection {
                let throttle = &connection.budgets().throttle;
                let Ok(slowed) = slow_down(throttle, 0, piece.len()).await else { return };
                pace.paused(slowed);
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN, drain).await;
}

fn too_large(most: usize) -> Problem {
    Problem::of(
        Code::PAYLOAD_TOO_LARGE,
        format!("the payload is above the daemon's limit of {most} bytes (limits.payload)"),
    )
}
