//! Large payloads over HTTP: published while they arrive.

use super::body::{next, overloaded, timed_out};
use super::{AppState, Problem};
use crate::broker::pace::Pace;
use crate::broker::upload::Upload;
use crate::engine::{BeginOutcome, Receipt, UploadError, UploadRequest};
use crate::net::now;
use crate::wire::{CHUNK, Code, Digest, Refusal};
use axum::body::Body;
use bytes::Bytes;
use tokio::time::Instant;

/// Publishes a payload of a known length while it arrives. Gives its digest too: of one that was
/// accepted before under the same key, it may be another than the receipt's.
pub(super) async fn publish(
    shared: &AppState,
    mut body: Body,
    opening: &UploadRequest<'_>,
) -> Result<(Receipt, Digest), Problem> {
    let (upload, before) = match shared.broker.with(|engine| engine.begin(now(), opening))? {
        BeginOutcome::Arriving(id) => (Some(Upload::new(&shared.broker, id)), None),
        BeginOutcome::Duplicate(receipt) => (None, Some(receipt)),
    };
    let mut pace = Pace::new(Instant::now(), shared.patience);
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    // Those that may never come to their end are not to push out what did.
    let mut held = shared.uploads.take(0).ok_or_else(overloaded)?;
    while let Some(piece) = next(&mut body, &pace, shared.patience).await? {
        size += piece.len();
        if !held.resize(size) {
            return Err(overloaded());
        }
        if !pace.came(Instant::now(), piece.len()) {
            return Err(timed_out(shared.patience));
        }
        hasher.update(&piece);
        if let Some(upload) = &upload {
            // Copied out of a buffer that holds more than this.
            for chunk in piece.chunks(CHUNK).map(Bytes::copy_from_slice) {
                upload.append(chunk).map_err(failed)?;
            }
        }
    }
    let digest = Digest(*hasher.finalize().as_bytes());
    let receipt = match (upload, before) {
        (_, Some(receipt)) => receipt,
        (Some(upload), None) => upload.end(now(), digest).map_err(failed)?,
        (None, None) => return Err(failed(UploadError::Superseded)),
    };
    Ok((receipt, digest))
}

fn failed(failed: UploadError) -> Problem {
    match failed {
        UploadError::Refused(refusal) => refusal.into(),
        // Only producers with numbers do that.
        UploadError::Superseded => Refusal::new(Code::OVERLOADED, "begun again meanwhile").into(),
    }
}
