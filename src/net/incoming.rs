//! What comes on one of a peer's streams: how long it may take, how much of it may wait, and the
//! digest so far of a publication in chunks.

use super::frames::{End, Frames};
use super::hold::Hold;
use super::session::Peer;
use crate::engine::{Hashing, Intake};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::{Duration, Instant, timeout_at};

/// What is charged, or is a publication in chunks, is given up when nothing comes of it for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Any other frame, which holds nothing that others need, after so long: as long as the whole
/// session may be silent. Where a third of all packets is lost, QUIC needs more than 10 s at times.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// And it is to come at this pace at least: bytes a second. Over HTTP too. A slow mobile link has
/// twice that.
pub(crate) const PACE: u64 = 8 << 10;

/// By when more is to have come of what has begun: bytes put that off as long as they may take at
/// [`PACE`], but never beyond the patience there is, from when they came. So what came fast long ago
/// does not excuse what comes slowly now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    /// Something begins.
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self { due: now + patience }
    }

    /// So many bytes of it came.
    pub(super) fn came(&mut self, now: Instant, bytes: u64, patience: Duration) {
        let bought = Duration::from_micros(bytes.saturating_mul(1_000_000) / PACE);
        self.due = (self.due + bought).min(now + patience);
    }

    /// For so long it was not its sender that kept it.
    pub(super) fn paused(&mut self, pause: Duration) {
        self.due += pause;
    }

    /// When it is given up if nothing more comes.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

/// What a peer's stream has brought.
pub(super) enum Came<'a> {
    Frames(&'a [Bytes]),
    End,
    /// What has begun does not go on.
    Stalled,
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
pub(super) struct Incoming {
    peer: Arc<Peer>,
    pub(super) hashing: Hashing,
    pub(super) intake: Intake,
    hold: Hold,
    // Its pace, how much of the stream had come, and since when the peer is not waited for.
    begun: Option<(Begun, Pace)>,
    came: u64,
    left: Option<Instant>,
}

impl Incoming {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        let (hashing, intake, hold) = Default::default();
        Self { peer, hashing, intake, hold, begun: None, came: 0, left: None }
    }

    /// The next frames of the stream, at least one. It is read while there is room for what is to
    /// be said to them; so of all the streams of a peer that does not read its answers, none has
    /// frames that wait.
    pub(super) async fn next<'a>(&mut self, frames: &'a mut Frames) -> Result<Came<'a>, End> {
        if let (Some((_, pace)), Some(left)) = (&mut self.begun, self.left.take()) {
            // The peer does not pay for our waiting.
            pace.paused(left.elapsed());
        }
        loop {
            if frames.take()? {
                self.left = self.begun.map(|_| Instant::now());
                return Ok(Came::Frames(frames.taken()));
            }
            if !self.hold.resize(&self.peer.allowance, frames.held()) {
                return Ok(Came::NoRoom);
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
                    Err(_) => return Ok(Came::Stalled),
                },
            };
            if !read? {
                return Ok(Came::End);
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
                    pace.came(now, more, patience);
                    (begun, pace)
                }
                _ => (begun, Pace::new(now, patience)),
            }
        });
        self.begun.map(|(_, pace)| pace.due())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.hold.resize(&self.peer.allowance, 0);
        if self.intake.progress().is_some() {
            let Self { peer, intake, .. } = self;
            peer.core.tidy(|engine| peer.state().broke_off(engine, intake));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin, PATIENCE);
        assert_eq!(pace.due(), begin + PATIENCE);
        // A great deal at once buys no more than patience.
        pace.came(begin + SECOND, 100 << 20, PATIENCE);
        assert_eq!(pace.due(), begin + 11 * SECOND);
        // Then a byte now and then.
        for n in 2..=10 {
            pace.came(begin + n * SECOND, 1, PATIENCE);
        }
        assert!(pace.due() < begin + 11 * SECOND + SECOND / 100);
        // At the pace, for ever; below it, not for long.
        for (bytes, endures) in [(PACE, true), (PACE / 2, false)] {
            let (mut pace, mut now) = (Pace::new(begin, PATIENCE), begin);
            for _ in 0..100 {
                now += SECOND;
                pace.came(now, bytes, PATIENCE);
            }
            assert_eq!(pace.due() > now, endures, "{bytes} a second");
        }
        let mut pace = Pace::new(begin, PATIENCE);
        pace.paused(3 * SECOND);
        assert_eq!(pace.due(), begin + 13 * SECOND);
        // Small at first, and then charged.
        let mut pace = Pace::new(begin, LONG_PATIENCE);
        assert_eq!(pace.due(), begin + LONG_PATIENCE);
        pace.came(begin + SECOND, 100_000, PATIENCE);
        assert_eq!(pace.due(), begin + 11 * SECOND);
    }
}
