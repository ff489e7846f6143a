//! A request's body: read once, into memory of its own, and bounded; what nobody wants is dropped
//! in a way that lets its sender read why.

use super::{Problem, Shared};
use crate::engine::Limits;
use crate::net::incoming::PACE;
use crate::wire::Code;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{SemaphorePermit, oneshot};

/// A body of which nothing comes for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What nobody wants is read and dropped for so long.
const DRAIN: Duration = Duration::from_secs(5);
/// What a body is given before any of it has come, bytes: a length is only a promise.
const FIRST: usize = 64 << 10;

const KIB: usize = 1024;

/// KiB of bodies under way, of what has come of them, all together: a quarter of the cache, as for a largest payload.
pub(super) fn budget(limits: &Limits) -> usize {
    (limits.cache / 4 / KIB).max(limits.payload.div_ceil(KIB))
}

/// Reads a payload.
pub(super) async fn read(shared: &Shared, mut body: Body) -> Result<Bytes, Problem> {
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > shared.payload as u64) {
        return Err(too_large(shared.payload));
    }
    let length = length.map_or(0, |length| length as usize);
    let began = Instant::now();
    let mut held = room_for(shared, 0, None)?;
    let mut bytes = Vec::with_capacity(length.min(FIRST));
    while let Some(piece) = next(&mut body, shared.patience).await? {
        let size = bytes.len() + piece.len();
        if size > shared.payload {
            return Err(too_large(shared.payload));
        }
        held = room_for(shared, size, Some(held))?;
        if slow(shared, began, size) {
            return Err(timed_out(shared.patience));
        }
        if bytes.capacity() < size && size <= length {
            // It has shown that it comes: copied this once, and no more to the end.
            bytes.reserve_exact(length - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

/// Whether so much has taken too long to come.
pub(super) fn slow(shared: &Shared, began: Instant, size: usize) -> bool {
    began.elapsed() > shared.patience + Duration::from_secs(size as u64 / PACE)
}

/// Room for a body of which so much has come, beyond what is held for it. No waiting for it: two
/// halves of bodies would wait for each other.
pub(super) fn room_for<'a>(
    shared: &'a Shared,
    size: usize,
    held: Option<SemaphorePermit<'a>>,
) -> Result<SemaphorePermit<'a>, Problem> {
    let before = held.as_ref().map_or(0, SemaphorePermit::num_permits);
    let more = size.div_ceil(KIB) - before;
    let mut room = shared.bodies.try_acquire_many(more as u32).map_err(|_| {
        Problem::of(
            Code::OVERLOADED,
            "too many payloads are under way at once: send this one again in a second",
        )
    })?;
    if let Some(held) = held {
        room.merge(held);
    }
    Ok(room)
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

pub(super) async fn next(body: &mut Body, patience: Duration) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match tokio::time::timeout(patience, frame).await {
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
pub(super) struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl Lent {
    /// Lends a body, if there is one.
    pub(super) fn lend(body: Body) -> (Body, Option<oneshot::Receiver<Body>>) {
        if body.is_end_stream() {
            return (body, None);
        }
        let (back, returned) = oneshot::channel();
        (Body::new(Self { body, back: Some(back) }), Some(returned))
    }
}

impl HttpBody for Lent {
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

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

/// Drops what has come back of a lent body: for a while, and up to twice a largest payload.
pub(super) async fn drain(shared: &Shared, returned: Option<oneshot::Receiver<Body>>) {
    let Some(Ok(mut body)) = returned.map(|mut returned| returned.try_recv()) else {
        return;
    };
    let drain = async {
        let mut left = shared.payload.saturating_mul(2);
        while let Ok(Some(piece)) = next(&mut body, DRAIN).await {
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
