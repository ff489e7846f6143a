//! What the daemon sends on a stream: frames, and large messages put together.

use super::reassembly::{Assembly, CompleteMessage, Step};
use super::{SessionClosed, SessionState};
use crate::net::error::ReadError;
use crate::net::transport::stream::RecvStream;
use crate::wire::{Code, FrameReader, MAX_CONTROL_FRAME};
use bytes::Bytes;

/// Bytes of a large message that are hashed before others have their turn, 1 MiB.
const TURN: usize = 1 << 20;

/// What has come.
pub(super) enum Arrived {
    /// A frame that is not part of a large message.
    Frame(Bytes),
    /// A large message has begun to arrive: its topic and sequence.
    Begun(u64, u64),
    /// It is complete.
    CompleteMessage(CompleteMessage),
    /// It will not be completed.
    Aborted(u64, u64, Code),
}

/// Why nothing more comes.
pub(super) enum Fault {
    /// The session is over.
    ConnectionLost(SessionClosed),
    /// The daemon broke the protocol: the session ends here.
    Broken(SessionClosed),
}

impl From<Fault> for SessionClosed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::ConnectionLost(closed) | Fault::Broken(closed) => closed,
        }
    }
}

pub(super) fn broken(error: impl std::fmt::Display) -> SessionClosed {
    SessionClosed { code: None, reason: format!("the daemon broke the protocol: {error}") }
}

pub(super) fn fault(error: impl std::fmt::Display) -> Fault {
    Fault::Broken(broken(error))
}

/// A stream, cut into frames.
pub(super) struct Incoming {
    rx: RecvStream,
    reader: FrameReader,
    assembly: Assembly,
}

impl Incoming {
    /// The control stream, of which something has been read.
    pub(super) fn control(rx: RecvStream, reader: FrameReader) -> Self {
        Self { rx, reader, assembly: Assembly::new(0) }
    }

    /// A stream of messages, none of them larger than `payload`: the large ones come in chunks.
    pub(super) fn new(rx: RecvStream, payload: u64) -> Self {
        let reader = FrameReader::new(MAX_CONTROL_FRAME);
        Self { rx, reader, assembly: Assembly::new(payload) }
    }

    /// The next frame, whatever it is; none at the end of the stream. Losing the future loses
    /// nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(fault)? {
                return Ok(Some(frame));
            }
            let mut piece = [Bytes::new()];
            match self.rx.read(&mut piece).await {
                Ok(Some(_)) => self.reader.push(std::mem::take(&mut piece[0])),
                Ok(None) | Err(ReadError::Reset) => return Ok(None),
                Err(ReadError::Broken(refusal)) => return Err(fault(refusal)),
                Err(ReadError::ConnectionLost(gone)) => {
                    return Err(Fault::ConnectionLost(gone.into()));
                }
            }
        }
    }

    /// What comes next; none at the end of the stream, also where that is inside a large message.
    /// Losing the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Fault> {
        let mut hashed = 0;
        while let Some(frame) = self.next_frame().await? {
            match self.assembly.take(&frame).map_err(fault)? {
                Step::Other => return Ok(Some(Arrived::Frame(frame))),
                Step::Begun(topic, sequence) => return Ok(Some(Arrived::Begun(topic, sequence))),
                Step::CompleteMessage(whole) => return Ok(Some(Arrived::CompleteMessage(whole))),
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

    /// Topic and sequence of the large message that is still arriving.
    pub(super) fn arriving(&self) -> Option<(u64, u64)> {
        self.assembly.arriving()
    }

    /// Whether its end is not the daemon's: it was not read fast enough.
    pub(super) fn is_cut_short(&self) -> bool {
        self.rx.is_cut_short()
    }
}

impl SessionState {
    /// Why a stream ended too early. A daemon that broke the protocol is told, and the session is
    /// over.
    pub(super) fn fault(&self, fault: Fault) -> SessionClosed {
        if let Fault::Broken(closed) = &fault {
            self.break_off(closed.clone());
        }
        fault.into()
    }
}
