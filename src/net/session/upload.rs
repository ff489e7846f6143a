//! What comes on one of a peer's streams: how long it may take, how much of it may wait, and the
//! digest so far of a publication in chunks.

use super::allowance::Hold;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use crate::broker::pace::{PATIENCE, Pace};
use crate::engine::{Hashing, IncomingUpload};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::{Duration, Instant, timeout_at};

/// What is charged, or is a publication in chunks, is given up when nothing comes of it for
/// [`PATIENCE`]; any other frame, which holds nothing that others need, after so long: as long as the whole
/// session may be silent. Where a third of all packets is lost, QUIC needs more than 10 s at times.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// What a peer's stream has brought.
pub(crate) enum StreamRead<'a> {
    Frames(&'a [Bytes]),
    Finished,
    /// What has begun does not go on.
    TimedOut,
    /// There is no room for what has begun.
    NoRoom,
}

/// What is the same from one read to the next: a frame, or a publication in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Frame(u64),
    Publication(u64),
}

/// What of a publication has come on a stream. It is given up if this is dropped before its end.
pub(crate) struct Incoming {
    peer: Arc<Peer>,
    pub(crate) hashing: Hashing,
    pub(crate) intake: IncomingUpload,
    hold: Hold,
    // Its pace, how much of the stream had come, and since when the peer is not waited for.
    begun: Option<(Begun, Pace)>,
    came: u64,
    left: Option<Instant>,
}

impl Incoming {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        let (hashing, intake, hold) = Default::default();
        Self { peer, hashing, intake, hold, begun: None, came: 0, left: None }
    }

    /// The next frames of the stream, at least one. It is read while there is room for what is to
    /// be said to them; so of all the streams of a peer that does not read its answers, none has
    /// frames that wait.
    pub(crate) async fn next<'a>(
        &mut self,
        frames: &'a mut Frames,
    ) -> Result<StreamRead<'a>, SessionEnd> {
        if let (Some((_, pace)), Some(left)) = (&mut self.begun, self.left.take()) {
            // The peer does not pay for our waiting.
            pace.paused(left.elapsed());
        }
        loop {
            if frames.take()? {
                self.left = self.begun.map(|_| Instant::now());
                return Ok(StreamRead::Frames(frames.taken()));
            }
            if !self.hold.resize(&self.peer.allowance, frames.held()) {
                return Ok(StreamRead::NoRoom);
            }
            let deadline = self.deadline(frames);
            let outbox = &self.peer.outbox;
            let mut read = pin!(frames.read());
            let read = poll_fn(|context| match outbox.poll_room(context) {
                Poll::Ready(()) => read.as_mut().poll(context),
                Poll::Pending => Poll::Pending,
            });
            let read = match deadline {
                None => read.await,
                Some(deadline) => match timeout_at(deadline, read).await {
                    Ok(read) => read,
                    Err(_) => return Ok(StreamRead::TimedOut),
                },
            };
            if !read? {
                return Ok(StreamRead::Finished);
            }
        }
    }

    // When more is to have come of what has begun.
    fn deadline(&mut self, frames: &Frames) -> Option<Instant> {
        let publication = self.intake.progress().map(|(which, _)| Begun::Publication(which));
        let begun = publication.or_else(|| frames.waiting().map(Begun::Frame));
        let more = (frames.came() - self.came) / self.hold.crowding(&self.peer.allowance);
        self.came = frames.came();
        let patience = match begun {
            Some(Begun::Frame(_)) if !self.hold.is_charged() => LONG_PATIENCE,
            _ => PATIENCE,
        };
        self.begun = begun.map(|begun| {
            let now = Instant::now();
            match self.begun {
                Some((before, mut pace)) if before == begun => {
                    pace.set_patience(patience);
                    pace.buy(now, more as usize);
                    (begun, pace)
                }
                _ => (begun, Pace::new(now, patience)),
            }
        });
        self.begun.map(|(_, pace)| pace.deadline())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.hold.resize(&self.peer.allowance, 0);
        if self.intake.progress().is_some() {
            let Self { peer, intake, .. } = self;
            peer.context.broker.tidy(|engine| peer.state().upload_reset(engine, intake));
        }
    }
}
