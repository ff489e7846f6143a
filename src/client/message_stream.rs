//! A stream from the daemon, cut into frames. Large messages are reassembled.

use super::error::SessionClosed;
use super::reassembly::{CompleteMessage, Reassembly, Step};
use crate::net::error::ReadError;
use crate::net::transport::stream::RecvStream;
use crate::wire::{Code, FrameReader, MAX_CONTROL_FRAME};
use bytes::Bytes;

/// Bytes of a large message that are hashed before other tasks have a turn, 1 MiB.
const TURN: usize = 1 << 20;

/// An item that has arrived on a stream.
pub(super) enum Arrived {
    /// A frame that is not part of a large message.
    Frame(Bytes),
    /// A large message has begun to arrive: its topic and sequence.
    Begun(u64, u64),
    /// A large message is complete.
    Complete(CompleteMessage),
    /// A large message will not be completed: its topic, its sequence and the reason.
    Aborted(u64, u64, Code),
}

/// Why a stream ended too early.
pub(super) enum Fault {
    /// The session is over.
    Closed(SessionClosed),
    /// The daemon broke the protocol, and the client has to end the session.
    Violation(SessionClosed),
}

impl From<Fault> for SessionClosed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed(closed) | Fault::Violation(closed) => closed,
        }
    }
}

/// Returns the reason of a session that ends because the daemon broke the protocol.
pub(super) fn violation(error: impl std::fmt::Display) -> SessionClosed {
    let reason = format!("the daemon broke the protocol: {error}");
    SessionClosed { code: None, reason, retry: false }
}

pub(super) fn fault(error: impl std::fmt::Display) -> Fault {
    Fault::Violation(violation(error))
}

/// A stream from the daemon.
pub(super) struct MessageStream {
    receive: RecvStream,
    reader: FrameReader,
    reassembly: Reassembly,
}

impl MessageStream {
    /// Continues the control stream with what its reader has buffered.
    pub(super) fn control(receive: RecvStream, reader: FrameReader) -> Self {
        Self { receive, reader, reassembly: Reassembly::new(0) }
    }

    /// Begins a stream of messages with at most `payload` bytes. Large ones arrive in chunks.
    pub(super) fn new(receive: RecvStream, payload: u64) -> Self {
        let reader = FrameReader::new(MAX_CONTROL_FRAME);
        Self { receive, reader, reassembly: Reassembly::new(payload) }
    }

    /// Returns the next frame of any kind, or `None` at the end of the stream. Dropping the future
    /// loses nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(fault)? {
                return Ok(Some(frame));
            }
            let mut piece = [Bytes::new()];
            match self.receive.read(&mut piece).await {
                Ok(Some(_)) => self.reader.push(std::mem::take(&mut piece[0])),
                Ok(None) | Err(ReadError::Reset) => return Ok(None),
                Err(ReadError::Broken(refusal)) => return Err(fault(refusal)),
                Err(ReadError::ConnectionLost(lost)) => {
                    return Err(Fault::Closed(lost.into()));
                }
            }
        }
    }

    /// Returns what arrives next, or `None` at the end of the stream, which may be inside a large
    /// message. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Fault> {
        let mut hashed = 0;
        while let Some(frame) = self.next_frame().await? {
            match self.reassembly.take(&frame).map_err(fault)? {
                Step::Other => return Ok(Some(Arrived::Frame(frame))),
                Step::Begun(topic, sequence) => return Ok(Some(Arrived::Begun(topic, sequence))),
                Step::Complete(message) => return Ok(Some(Arrived::Complete(message))),
                Step::Aborted(topic, sequence, code) => {
                    return Ok(Some(Arrived::Aborted(topic, sequence, code)));
                }
                Step::More => hashed += frame.len(),
            }
            if hashed >= TURN {
                hashed = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(None)
    }

    /// Returns topic and sequence of the large message that is still arriving.
    pub(super) fn arriving(&self) -> Option<(u64, u64)> {
        self.reassembly.arriving()
    }

    /// Returns whether the stream has overflowed: the client dropped the rest of it, because it was not
    /// read fast enough.
    pub(super) fn has_overflowed(&self) -> bool {
        self.receive.has_overflowed()
    }
}
