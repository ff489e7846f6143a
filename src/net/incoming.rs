//! The publication that comes on one of a peer's streams: its digest so far, and how long it may
//! take.

use super::frames::{End, Frames};
use super::session::Peer;
use crate::engine::{Hashing, Intake};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::{Duration, Instant, timeout_at};

/// A publication of which nothing comes for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// From then on it is to come at this pace at least, taken over all of it: bytes a second. Over HTTP
/// too. A slow mobile link has twice that.
pub(crate) const PACE: u64 = 8 << 10;

/// What a peer's stream has brought.
pub(super) enum Came<'a> {
    Frames(&'a [Bytes]),
    End,
    /// A publication that has begun does not go on.
    Stalled,
}

/// What of a publication has come on a stream. It is given up if this is dropped before its end.
pub(super) struct Incoming {
    peer: Arc<Peer>,
    pub(super) hashing: Hashing,
    pub(super) intake: Intake,
    // Which publication it is, and how much of it had come, last time; when it began, and when more
    // came.
    seen: Option<(u64, u64)>,
    began: Instant,
    last: Instant,
}

impl Incoming {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        let now = Instant::now();
        let (hashing, intake) = Default::default();
        Self { peer, hashing, intake, seen: None, began: now, last: now }
    }

    /// The next frames of the stream.
    pub(super) async fn next<'a>(&mut self, frames: &'a mut Frames) -> Result<Came<'a>, End> {
        let next = match self.deadline() {
            None => frames.next().await,
            Some(deadline) => match timeout_at(deadline, frames.next()).await {
                Ok(next) => next,
                Err(_) => return Ok(Came::Stalled),
            },
        };
        Ok(next?.map_or(Came::End, Came::Frames))
    }

    // When the rest, or more of it, is to have come.
    fn deadline(&mut self) -> Option<Instant> {
        let progress = self.intake.progress();
        if progress != self.seen {
            // Looked at when its frames have been handled: the peer does not pay for our waiting.
            self.last = Instant::now();
            if progress.map(|(which, _)| which) != self.seen.map(|(which, _)| which) {
                self.began = self.last;
            }
            self.seen = progress;
        }
        let (_, came) = progress?;
        let paced = self.began + PATIENCE + Duration::from_secs(came / PACE);
        Some(paced.min(self.last + PATIENCE))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.intake.progress().is_some() {
            let Self { peer, intake, .. } = self;
            peer.core.tidy(|engine| peer.state().broke_off(engine, intake));
        }
    }
}
