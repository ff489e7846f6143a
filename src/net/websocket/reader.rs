//! What is heard: messages, and whether there is anybody.

use super::close_codes::{closed, failure, lost};
#[cfg(feature = "daemon")]
use super::sieve::Heard;
use super::socket::SocketStream;
use super::{BATCH, Channel, locked};
use crate::net::error::ReadError;
use crate::wire::{Code, Refusal};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The other end of the channel.
pub(super) struct Reader {
    stream: SocketStream,
    // What comes past the stream: all that is data, at a daemon.
    #[cfg(feature = "daemon")]
    heard: Option<Heard>,
    waker: Waker,
    // For control, and what is said after it.
    read: VecDeque<Bytes>,
    failed: Option<ReadError>,
    // The socket can be read no further, although the peer may still be there.
    damaged: bool,
}

/// Stands between the socket and the task that reads it, and notes when the socket has anything to
/// say: bytes of a long message that is not whole yet, or room to write, show as well as a whole
/// message does that the peer is there.
pub(super) struct ActivityMonitor {
    task: AtomicWaker,
    since: Instant,
    // Milliseconds after that.
    heard: AtomicU64,
}

impl ActivityMonitor {
    pub(super) fn new() -> Arc<Self> {
        let since = Instant::now();
        Arc::new(Self { task: AtomicWaker::new(), since, heard: AtomicU64::new(0) })
    }

    /// Wakes whoever reads, for another reason than that there is something to hear.
    pub(super) fn wake_reader(&self) {
        self.task.wake();
    }

    fn note(&self) {
        self.heard.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    /// How long there has been nothing to hear.
    pub(super) fn quiet(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Relaxed)))
    }
}

impl Wake for ActivityMonitor {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note();
        self.task.wake();
    }
}

impl Reader {
    pub(super) fn new(stream: SocketStream, activity: &Arc<ActivityMonitor>) -> Self {
        Self {
            stream,
            #[cfg(feature = "daemon")]
            heard: None,
            waker: activity.clone().into(),
            read: VecDeque::new(),
            failed: None,
            damaged: false,
        }
    }

    /// One whose stream has control frames only.
    #[cfg(feature = "daemon")]
    pub(super) fn of_sieve(
        stream: SocketStream,
        activity: &Arc<ActivityMonitor>,
        heard: Heard,
    ) -> Self {
        Self { heard: Some(heard), ..Self::new(stream, activity) }
    }

    /// What there is for control, at least one piece, into the front of `pieces`.
    pub(super) fn poll_read(
        &mut self,
        shared: &Channel,
        pieces: &mut [Bytes],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, ReadError>> {
        if self.read.is_empty() && self.failed.is_none() {
            // Before asking whether it is over, so that no end is missed.
            shared.activity.task.register(context.waker());
            if let Some(gone) = shared.gone() {
                return Poll::Ready(Err(ReadError::ConnectionLost(gone)));
            }
            let more = self.fill(shared);
            if self.read.is_empty() && self.failed.is_none() {
                // Others got all of it: it is their turn first.
                if more {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        let moved = self.read.len().min(pieces.len());
        if moved > 0 {
            pieces.iter_mut().zip(self.read.drain(..moved)).for_each(|(to, from)| *to = from);
            return Poll::Ready(Ok(moved));
        }
        let failed = self.failed.take();
        Poll::Ready(Err(
            failed.unwrap_or_else(|| ReadError::ConnectionLost(lost(&Error::AlreadyClosed)))
        ))
    }

    /// Reads and drops what still comes, to the end.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.damaged {
            // There may be something left to read, and to close with that cuts off a peer that
            // has not read our goodbye yet (RFC 9112, section 9.6).
            return Poll::Pending;
        }
        #[cfg(feature = "daemon")]
        self.heard.iter().for_each(Heard::end);
        while let Some(Ok(_)) = ready!(self.stream.poll_next_unpin(context)) {}
        Poll::Ready(())
    }

    /// Takes messages from the socket until it has no more or a batch is full; whether there may
    /// be more.
    fn fill(&mut self, shared: &Channel) -> bool {
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        let mut bytes = 0;
        while bytes < BATCH {
            let message = self.stream.poll_next_unpin(&mut context);
            // What came before it.
            #[cfg(feature = "daemon")]
            {
                bytes += self.take_heard(shared);
                if self.damaged {
                    return false;
                }
            }
            let Poll::Ready(message) = message else {
                return false;
            };
            if bytes == 0 {
                shared.activity.note();
            }
            // What each costs to take, even if it is empty.
            bytes += 64;
            let failed = match message {
                Some(Ok(Message::Binary(message))) => {
                    bytes += message.len();
                    self.take(message, shared).err().map(ReadError::Broken)
                }
                Some(Ok(Message::Text(_))) => Some(ReadError::Broken(Refusal::new(
                    Code::MALFORMED,
                    "a text message: frames come in binary messages",
                ))),
                Some(Ok(Message::Close(close))) => Some(ReadError::ConnectionLost(closed(close))),
                Some(Ok(_)) => None,
                Some(Err(error)) => {
                    let failed = failure(&error);
                    self.damaged = matches!(failed, ReadError::Broken(_));
                    Some(failed)
                }
                None => Some(ReadError::ConnectionLost(lost(&Error::ConnectionClosed))),
            };
            if failed.is_some() {
                self.failed = failed;
                return false;
            }
        }
        true
    }

    /// Takes what came past the stream; what that costs.
    #[cfg(feature = "daemon")]
    fn take_heard(&mut self, shared: &Channel) -> usize {
        let Some(heard) = &self.heard else {
            return 0;
        };
        let (cost, refusal) = heard.take(&mut self.read);
        if cost > 0 {
            shared.activity.note();
        }
        if let Some(refusal) = refusal {
            self.failed = Some(ReadError::Broken(refusal));
            self.damaged = true;
        }
        cost
    }

    fn take(&mut self, message: Bytes, shared: &Channel) -> Result<(), Refusal> {
        match &shared.demux {
            Some(demux) => {
                let mut wake = Vec::new();
                let taken = locked(demux).take(&message, &mut self.read, &mut wake);
                wake.into_iter().for_each(Waker::wake);
                taken
            }
            None => {
                self.read.extend(Some(message).filter(|message| !message.is_empty()));
                Ok(())
            }
        }
    }
}
