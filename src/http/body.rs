//! A request's body: read once, into memory of its own, and bounded.

use super::{Problem, Shared};
use crate::engine::Limits;
use crate::wire::Code;
use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

/// A body of which nothing comes for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is too large is read and dropped for so long, so that its sender gets to read why.
const DRAIN: Duration = Duration::from_secs(5);
/// Room for a body whose length is not said, until it needs more. Bytes.
const GUESS: usize = 4096;

const KIB: usize = 1024;

/// KiB of bodies under way, all together: a quarter of the cache, as for a largest payload.
pub(super) fn budget(limits: &Limits) -> usize {
    (limits.cache / 4 / KIB).max(limits.payload.div_ceil(KIB))
}

/// Reads a payload.
pub(super) async fn read(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > shared.payload as u64) {
        if !headers.contains_key(header::EXPECT) {
            drain(body, shared.payload).await;
        }
        return Err(too_large(shared.payload));
    }
    // Set aside before it comes, all of it: two halves of bodies would wait for each other.
    let most = length.map_or(shared.payload, |length| length as usize);
    let kib = most.div_ceil(KIB).max(1) as u32;
    let Ok(_held) = shared.bodies.try_acquire_many(kib) else {
        return Err(Problem::of(
            Code::OVERLOADED,
            "too many payloads are under way at once: send this one again in a second",
        ));
    };
    let mut body = body;
    let mut bytes = Vec::with_capacity(length.map_or(GUESS, |length| length as usize));
    while let Some(piece) = next(&mut body).await? {
        if bytes.len() + piece.len() > shared.payload {
            drain(body, shared.payload).await;
            return Err(too_large(shared.payload));
        }
        bytes.extend_from_slice(&piece);
    }
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match tokio::time::timeout(PATIENCE, frame).await {
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
            Err(_) => {
                return Err(Problem::of(
                    Code::TIMED_OUT,
                    format!("nothing of the body came for {} s", PATIENCE.as_secs()),
                ));
            }
        }
    }
}

// Drops up to `most` bytes of a body.
async fn drain(mut body: Body, most: usize) {
    let drain = async {
        let mut dropped = 0;
        while let Ok(Some(piece)) = next(&mut body).await {
            dropped += piece.len();
            if dropped > most.saturating_mul(2) {
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
