//! Large payloads over HTTP: published while they arrive, and sent without being put together.

use super::body::{next, room_for, slow};
use super::{Problem, Shared};
use crate::engine::{Begun, Failed, Opening, Receipt, Rope, Upload};
use crate::net::now;
use crate::wire::{CHUNK, Code, Digest, Refusal};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

// Given up unless it comes to its end.
struct Arriving<'a> {
    shared: &'a Shared,
    upload: Option<Upload>,
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if let Some(upload) = self.upload {
            self.shared.core.tidy(|engine| engine.abort(upload));
        }
    }
}

/// Publishes a payload of a known length while it arrives. Gives its digest too: of one that was
/// accepted before under the same key, it may be another than the receipt's.
pub(super) async fn publish(
    shared: &Shared,
    mut body: Body,
    opening: &Opening<'_>,
) -> Result<(Receipt, Digest), Problem> {
    let (upload, before) = match shared.core.with(|engine| engine.begin(now(), opening))? {
        Begun::Arriving(upload) => (Some(upload), None),
        Begun::Duplicate(receipt) => (None, Some(receipt)),
    };
    let mut arriving = Arriving { shared, upload };
    let (began, mut hasher, mut size) = (Instant::now(), blake3::Hasher::new(), 0);
    // Those that may never come to their end are not to push out what did.
    let mut held = room_for(shared, 0, None)?;
    while let Some(piece) = next(&mut body, shared.patience).await? {
        size += piece.len();
        held = room_for(shared, size, Some(held))?;
        if slow(shared, began, size) {
            return Err(super::body::timed_out(shared.patience));
        }
        hasher.update(&piece);
        if let Some(upload) = upload {
            // Copied out of a buffer that holds more than this.
            for chunk in piece.chunks(CHUNK).map(Bytes::copy_from_slice) {
                shared.core.with(|engine| engine.append(upload, chunk)).map_err(failed)?;
            }
        }
    }
    let digest = Digest(*hasher.finalize().as_bytes());
    let receipt = match (upload, before) {
        (_, Some(receipt)) => receipt,
        (Some(upload), None) => {
            arriving.upload = None;
            shared.core.with(|engine| engine.end(now(), upload, digest)).map_err(failed)?
        }
        (None, None) => return Err(failed(Failed::Superseded)),
    };
    Ok((receipt, digest))
}

fn failed(failed: Failed) -> Problem {
    match failed {
        Failed::Refused(refusal) => refusal.into(),
        // Only producers with numbers do that.
        Failed::Superseded => Refusal::new(Code::OVERLOADED, "begun again meanwhile").into(),
    }
}

/// A payload in its pieces, shared with the cache.
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl From<&Rope> for Pieces {
    fn from(rope: &Rope) -> Self {
        Self { pieces: rope.pieces().cloned().collect(), left: rope.len() as u64 }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
