//! A request's body: read once, into memory of its own, and bounded; what nobody wants is dropped
//! in a way that lets its sender read why.

use super::small::Small;
use super::{AppState, Problem};
use crate::broker::pace::{PACE, Pace};
use crate::wire::{Code, LARGE};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// What nobody wants is read and dropped for so long.
const DRAIN: Duration = Duration::from_secs(5);

/// Reads a payload. Up to 64 KiB of it need no share of the budget for large ones: what has come of
/// all such is bounded by [`Small`].
pub(super) async fn read(shared: &AppState, mut body: Body) -> Result<Bytes, Problem> {
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > shared.payload as u64) {
        return Err(too_large(shared.payload));
    }
    let length = length.map_or(0, |length| length as usize);
    let mut pace = Pace::new(Instant::now(), shared.patience);
    let small = Small::begin(&shared.small);
    let mut large = shared.budget.take(0).ok_or_else(overloaded)?;
    let mut bytes = Vec::new();
    loop {
        let piece = tokio::select! {
            biased;
            () = small.given_up() => return Err(overloaded()),
            piece = next(&mut body, &pace, shared.patience) => piece?,
        };
        let Some(piece) = piece else { break };
        let size = bytes.len() + piece.len();
        if size > shared.payload {
            return Err(too_large(shared.payload));
        }
        if !pace.came(Instant::now(), piece.len()) {
            return Err(timed_out(shared.patience));
        }
        // A length is only a promise, until some of it has come. Else each byte is copied twice.
        let most =
            if size <= length && length <= LARGE { length } else { size.next_power_of_two() };
        let mut most = most.max(bytes.capacity());
        let is_small = most <= LARGE;
        small.resize(if is_small { most } else { 0 });
        if !is_small && !large.resize(most) {
            // What there is room for may be enough. Not much less, or bytes are copied often.
            most = (size + size / 16).min(shared.payload).max(bytes.capacity());
            if !large.resize(most) {
                return Err(overloaded());
            }
        }
        bytes.reserve_exact(most - bytes.len());
        bytes.extend_from_slice(&piece);
    }
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

pub(super) fn overloaded() -> Problem {
    Problem::of(
        Code::OVERLOADED,
        "too many payloads are under way at once: send this one again in a second",
    )
}

pub(super) fn timed_out(patience: Duration) -> Problem {
    Problem::of(
        Code::TIMED_OUT,
        format!(
            "the body stood still for {patience:?}, or came more slowly than {} KiB a second: \
             send it again, over a better link or in smaller parts",
            PACE >> 10
        ),
    )
}

/// The next of a body that has to keep its pace.
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
                // Trailers say nothing here.
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

/// A body that comes back when it is given up.
///
/// To answer while a body is still coming is to break it off: over HTTP/1.1 the connection is
/// reset, over HTTP/2 the stream, and either may take the answer with it (RFC 9112, section 9.6).
pub(super) struct ReturnableBody {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl ReturnableBody {
    /// Lends a body, if there is one.
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

/// Drops what has come back of a lent body: for a while, and up to twice a largest payload.
pub(super) async fn drain(shared: &AppState, returned: Option<oneshot::Receiver<Body>>) {
    let Some(Ok(mut body)) = returned.map(|mut returned| returned.try_recv()) else {
        return;
    };
    let drain = async {
        let mut left = shared.payload.saturating_mul(2);
        let pace = Pace::new(Instant::now(), DRAIN);
        while let Ok(Some(piece)) = next(&mut body, &pace, DRAIN).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
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
