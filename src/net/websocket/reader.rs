//! Reads messages: those of control for its caller, and at the client those of requests for their
//! readers.

use super::activity::ActivityMonitor;
use super::channel_state::{ChannelState, locked};
use super::close_codes::{closed, connection_lost, failure};
#[cfg(feature = "daemon")]
use super::sieve::ReceiveQueue;
use super::socket::{BATCH, SocketStream};
use crate::net::error::ReadError;
use crate::wire::{Code, Refusal};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The receiving half of the channel.
pub(super) struct Reader {
    stream: SocketStream,
    // Data at the daemon's end, which bypasses `stream`.
    #[cfg(feature = "daemon")]
    received: Option<ReceiveQueue>,
    waker: Waker,
    // Pieces for control, and the error after them.
    read: VecDeque<Bytes>,
    failed: Option<ReadError>,
    // Nothing more can be read, although the peer may still be there.
    damaged: bool,
}

impl Reader {
    pub(super) fn new(stream: SocketStream, activity: &Arc<ActivityMonitor>) -> Self {
        Self {
            stream,
            #[cfg(feature = "daemon")]
            received: None,
            waker: activity.clone().into(),
            read: VecDeque::new(),
            failed: None,
            damaged: false,
        }
    }

    /// A reader whose stream has control frames only.
    #[cfg(feature = "daemon")]
    pub(super) fn of_sieve(
        stream: SocketStream,
        activity: &Arc<ActivityMonitor>,
        received: ReceiveQueue,
    ) -> Self {
        Self { received: Some(received), ..Self::new(stream, activity) }
    }

    /// Reads what there is for control, at least one piece, into the front of `pieces`.
    pub(super) fn poll_read(
        &mut self,
        state: &ChannelState,
        pieces: &mut [Bytes],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, ReadError>> {
        if self.read.is_empty() && self.failed.is_none() {
            // Registers before it checks for the end, so that it misses none.
            state.activity.register_reader(context.waker());
            if let Some(lost) = state.lost() {
                return Poll::Ready(Err(ReadError::ConnectionLost(lost)));
            }
            let more = self.fill(state);
            if self.read.is_empty() && self.failed.is_none() {
                // Everything went to requests. Their readers run first.
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
        let closed = || ReadError::ConnectionLost(connection_lost(&Error::AlreadyClosed));
        Poll::Ready(Err(failed.unwrap_or_else(closed)))
    }

    /// Reads and drops everything until the end.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.damaged {
            // Unread bytes may be left. Closing with them resets the connection, and the peer may
            // lose our goodbye (RFC 9112, section 9.6).
            return Poll::Pending;
        }
        #[cfg(feature = "daemon")]
        self.received.iter().for_each(ReceiveQueue::end);
        while let Some(Ok(_)) = ready!(self.stream.poll_next_unpin(context)) {}
        Poll::Ready(())
    }

    /// Reads messages from the socket until it has no more or a batch is full. Returns whether
    /// there may be more.
    fn fill(&mut self, state: &ChannelState) -> bool {
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        let mut bytes = 0;
        while bytes < BATCH {
            let message = self.stream.poll_next_unpin(&mut context);
            // The data before the message.
            #[cfg(feature = "daemon")]
            {
                bytes += self.take_received(state);
                if self.damaged {
                    return false;
                }
            }
            let Poll::Ready(message) = message else {
                return false;
            };
            if bytes == 0 {
                state.activity.note();
            }
            // The cost of each message, even if it is empty.
            bytes += 64;
            let failed = match message {
                Some(Ok(Message::Binary(message))) => {
                    bytes += message.len();
                    self.take(message, state).err().map(ReadError::Broken)
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
                None => Some(ReadError::ConnectionLost(connection_lost(&Error::ConnectionClosed))),
            };
            if failed.is_some() {
                self.failed = failed;
                return false;
            }
        }
        true
    }

    /// Takes the data that bypassed the stream. Returns its cost.
    #[cfg(feature = "daemon")]
    fn take_received(&mut self, state: &ChannelState) -> usize {
        let Some(received) = &self.received else {
            return 0;
        };
        let (cost, refusal) = received.take(&mut self.read);
        if cost > 0 {
            state.activity.note();
        }
        if let Some(refusal) = refusal {
            self.failed = Some(ReadError::Broken(refusal));
            self.damaged = true;
        }
        cost
    }

    fn take(&mut self, message: Bytes, state: &ChannelState) -> Result<(), Refusal> {
        match &state.demux {
            Some(demux) => {
                let mut wake = Vec::new();
                let taken = locked(demux).split(&message, &mut self.read, &mut wake);
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
