//! Publishing large payloads over HTTP while they arrive.

use super::body::{next, overloaded, slow_down, timed_out};
use super::problem::Problem;
use super::state::AppState;
use crate::broker::pace::Pace;
use crate::broker::throttle::Throttle;
use crate::broker::upload::Upload;
use crate::engine::{BeginOutcome, Receipt, UploadError, UploadRequest};
use crate::net::now;
use crate::wire::{CHUNK, Code, Digest, Refusal};
use axum::body::Body;
use bytes::Bytes;
use tokio::time::Instant;

/// Publishes a payload of a known length while it arrives.
///
/// Returns the receipt and the payload's digest. The digest differs from the receipt's if another
/// payload was accepted before with the same key.
pub(super) async fn publish(
    state: &AppState,
    throttle: &Throttle,
    mut body: Body,
    request: &UploadRequest<'_>,
) -> Result<(Receipt, Digest), Problem> {
    let (upload, before) = match state.broker.with(|engine| engine.begin(now(), request))? {
        BeginOutcome::Arriving(id) => (Some(Upload::new(&state.broker, id)), None),
        BeginOutcome::Duplicate(receipt) => (None, Some(receipt)),
    };
    let mut pace = Pace::new(Instant::now(), state.patience);
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    // Uploads are bounded by a budget of their own, so that unfinished ones do not evict complete
    // messages.
    let mut held = state.uploads.take(0).ok_or_else(overloaded)?;
    while let Some(piece) = next(&mut body, &pace, state.patience).await? {
        size += piece.len();
        if !held.resize(size) {
            return Err(overloaded());
        }
        if !pace.received(Instant::now(), piece.len()) {
            return Err(timed_out(state.patience));
        }
        hasher.update(&piece);
        if let Some(upload) = &upload {
            // Copied, because the buffer holds more than this piece.
            for chunk in piece.chunks(CHUNK).map(Bytes::copy_from_slice) {
                state.broker.room_to_publish().await;
                upload.append(chunk).map_err(failed)?;
            }
        }
        pace.paused(slow_down(throttle, 0, piece.len()).await?);
    }
    let digest = Digest(*hasher.finalize().as_bytes());
    let receipt = match (upload, before) {
        (_, Some(receipt)) => receipt,
        (Some(upload), None) => upload.end(now(), digest).await.map_err(failed)?,
        (None, None) => return Err(failed(UploadError::Superseded)),
    };
    Ok((receipt, digest))
}

fn failed(error: UploadError) -> Problem {
    match error {
        UploadError::Refused(refusal) => refusal.into(),
        // Only a producer with numbers can begin a publication again.
        UploadError::Superseded => Refusal::new(Code::OVERLOADED, "begun again meanwhile").into(),
    }
}
