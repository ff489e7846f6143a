//! The upload state of one of a peer's streams. It bounds the time and the memory of incomplete
//! frames and publications, and has the digest so far of a publication in chunks.

use super::allowance::Hold;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use crate::access::quota::OVER;
use crate::broker::pace::{PATIENCE, Pace};
use crate::broker::throttle::Received;
use crate::engine::{Hashing, IncomingUpload};
use crate::net::deadlines::IDLE;
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

/// The patience with a frame that is not charged, 30 s: as long as a whole session may be silent.
/// Such a frame holds nothing that others need. With a third of all packets lost, QUIC sometimes
/// needs more than 10 s. Charged frames and publications in chunks get [`PATIENCE`].
const LONG_PATIENCE: Duration = IDLE;

/// The result of reading a peer's stream.
pub(crate) enum StreamRead<'a> {
    Frames(&'a [Bytes]),
    Finished,
    /// The rest of a frame or publication did not arrive in time.
    TimedOut,
    /// The budget has no room for the rest of a frame.
    NoRoom,
}

/// Minimum time for which a batch waits that others leave no room for, 2.5 s. Without it, frames that are
/// no publications would go on uncounted.
const LEAST: Duration = Duration::from_millis(2500);

/// The publications that are refused because the peer is too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuses {
    None,
    /// The next one, so that the peer is told.
    Next,
    /// All of the batch: they came in a datagram and could not be slowed, or have waited for too long.
    /// Whether one was refused since.
    All {
        told: bool,
    },
}

/// The frame or publication that is incomplete. It equals itself from one read to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incomplete {
    Frame(u64),
    Publication(u64),
}

/// The upload state of one stream. Dropping it aborts a publication that has not ended.
pub(crate) struct StreamUpload {
    peer: Arc<Peer>,
    pub(crate) hashing: Hashing,
    pub(crate) upload: IncomingUpload,
    hold: Hold,
    // With its pace.
    incomplete: Option<(Incomplete, Pace)>,
    // Bytes of the stream received until the last read.
    received: u64,
    // Bytes of the stream that were counted against the peer's rate.
    counted: u64,
    pub(super) refuses: Refuses,
    // Since when the stream waits and its peer was not told.
    untold: Option<Instant>,
    // When frames were handed out. Until the next read the daemon, not the peer, takes the time.
    handed_out: Option<Instant>,
}

impl StreamUpload {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        let (hashing, upload, hold) = Default::default();
        Self {
            peer,
            hashing,
            upload,
            hold,
            incomplete: None,
            received: 0,
            counted: 0,
            refuses: Refuses::None,
            untold: None,
            handed_out: None,
        }
    }

    /// Returns the next frames of the stream, at least one. It reads the stream only while the
    /// outbox has room for answers. A peer that does not read its answers therefore has no frames
    /// waiting in memory, on any of its streams.
    pub(crate) async fn next<'a>(
        &mut self,
        frames: &'a mut Frames,
    ) -> Result<StreamRead<'a>, SessionEnd> {
        if let (Some((_, pace)), Some(since)) = (&mut self.incomplete, self.handed_out.take()) {
            // The daemon's own delays do not count against the peer.
            pace.paused(since.elapsed());
        }
        loop {
            if frames.take()? {
                self.slow_down(frames.taken().len(), frames.received()).await;
                self.handed_out = self.incomplete.map(|_| Instant::now());
                return Ok(StreamRead::Frames(frames.taken()));
            }
            if frames.received() > self.counted {
                self.slow_down(0, frames.received()).await;
            }
            if !self.hold.resize(&self.peer.allowance, frames.held()) {
                return Ok(StreamRead::NoRoom);
            }
            let deadline = self.deadline(frames);
            let outbox = &self.peer.outbox;
            let read = {
                let mut read = pin!(frames.read());
                let read = poll_fn(|context| match outbox.poll_room(context) {
                    Poll::Ready(()) => read.as_mut().poll(context),
                    Poll::Pending => Poll::Pending,
                });
                match deadline {
                    None => read.await,
                    Some(deadline) => match timeout_at(deadline, read).await {
                        Ok(read) => read,
                        Err(_) => return Ok(StreamRead::TimedOut),
                    },
                }
            };
            if !read? {
                return Ok(StreamRead::Finished);
            }
            self.peer.received(frames.received() - self.counted);
        }
    }

    // Counts frames, and the bytes received since the last call, against the peer's rate. If that is
    // exceeded, waits before the frames are handled, so that each stream of a peer waits.
    async fn slow_down(&mut self, frames: usize, received: u64) {
        let bytes = received - std::mem::replace(&mut self.counted, received);
        if let Refuses::All { told } = self.refuses {
            self.refuses = Refuses::None;
            self.untold = self.untold.filter(|_| !told);
        }
        let mut begun = None;
        loop {
            let Received { resume_at, tell, again } = self.peer.throttle.receive(frames, bytes);
            if tell {
                self.refuses = Refuses::Next;
            }
            let Some(resume_at) = resume_at else {
                self.untold = None;
                break;
            };
            if !self.peer.is_open() {
                // A hello that waits would come too late. The publications with it are refused.
                self.refuses = if again { Refuses::All { told: false } } else { self.refuses };
                break;
            }
            let untold = *self.untold.get_or_insert_with(Instant::now);
            if again && begun.is_some() && untold.elapsed() >= OVER {
                // Others have used up what they share with it, and a longer wait would look silent.
                self.refuses = Refuses::All { told: false };
                break;
            }
            let now = *begun.get_or_insert_with(Instant::now);
            let latest = if again { (untold + OVER).max(now + LEAST) } else { resume_at };
            // Boxed, because most sessions never wait here.
            Box::pin(sleep_until(resume_at.min(latest))).await;
            self.peer.context.connection.note_unread();
            if !again {
                self.untold = None;
                break;
            }
        }
        if let (Some((_, pace)), Some(begun)) = (&mut self.incomplete, begun) {
            pace.paused(begun.elapsed());
        }
    }

    // Counts the stream among those that a draining daemon waits for.
    fn set_receiving(&self, now: bool) {
        match (self.incomplete.is_some(), now) {
            (false, true) => self.peer.context.begin_in_flight(),
            (true, false) => self.peer.context.end_in_flight(),
            _ => {}
        }
    }

    // The time by which more of what is incomplete has to arrive.
    fn deadline(&mut self, frames: &Frames) -> Option<Instant> {
        let publication = self.upload.progress().map(|(which, _)| Incomplete::Publication(which));
        let incomplete = publication.or_else(|| frames.incomplete().map(Incomplete::Frame));
        let more = (frames.received() - self.received) / self.hold.crowding(&self.peer.allowance);
        self.received = frames.received();
        let patience = match incomplete {
            Some(Incomplete::Frame(_)) if !self.hold.is_charged() => LONG_PATIENCE,
            _ => PATIENCE,
        };
        self.set_receiving(incomplete.is_some());
        self.incomplete = incomplete.map(|incomplete| {
            let now = Instant::now();
            match self.incomplete {
                Some((before, mut pace)) if before == incomplete => {
                    pace.set_patience(patience);
                    pace.buy(now, more as usize);
                    (incomplete, pace)
                }
                _ => (incomplete, Pace::new(now, patience)),
            }
        });
        self.incomplete.map(|(_, pace)| pace.deadline())
    }
}

impl Drop for StreamUpload {
    fn drop(&mut self) {
        self.set_receiving(false);
        self.hold.resize(&self.peer.allowance, 0);
        if self.upload.progress().is_some() {
            let Self { peer, upload, .. } = self;
            peer.context.broker.tidy(|engine| peer.session().upload_reset(engine, upload));
        }
    }
}
