//! A peer's streams, read frame by frame.

use super::link::{Gone, ReadError, Rx};
use crate::wire::{Code, FrameError, FrameReader, Refusal};
use bytes::Bytes;

/// Pieces taken from a stream at once.
const PIECES: usize = 32;

/// Why a session ends.
pub(super) enum End {
    /// The peer said goodbye, or its connection is gone.
    Left(String),
    /// The daemon says goodbye.
    Refused(Refusal),
}

impl From<Gone> for End {
    fn from(gone: Gone) -> Self {
        Self::Left(gone.reason)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            _ => Code::MALFORMED,
        };
        Self::Refused(Refusal::new(code, error.to_string()))
    }
}

/// Reads frames, as many as have come, and hands them on together.
pub(super) struct Frames {
    rx: Rx,
    reader: FrameReader,
    pieces: [Bytes; PIECES],
    frames: Vec<Bytes>,
    // What came after the frames that are handed out first.
    end: Option<End>,
}

impl Frames {
    pub(super) fn new(rx: Rx, limit: usize) -> Self {
        Self {
            rx,
            reader: FrameReader::new(limit),
            pieces: std::array::from_fn(|_| Bytes::new()),
            frames: Vec::new(),
            end: None,
        }
    }

    /// At least one frame; none at the end of the stream. Those before a damaged one are handed
    /// out first.
    pub(super) async fn next(&mut self) -> Result<Option<&[Bytes]>, End> {
        self.frames.clear();
        while self.frames.is_empty() {
            if let Some(end) = self.end.take() {
                return Err(end);
            }
            let read = match self.rx.read(&mut self.pieces).await {
                Ok(Some(read)) => read,
                Ok(None) if self.reader.is_partial() => {
                    return Err(End::Refused(Refusal::new(
                        Code::MALFORMED,
                        "a stream ended in the middle of a frame",
                    )));
                }
                Ok(None) | Err(ReadError::Reset) => return Ok(None),
                Err(ReadError::Gone(gone)) => return Err(gone.into()),
            };
            for piece in &mut self.pieces[..read] {
                self.reader.push(std::mem::take(piece));
                loop {
                    match self.reader.next_frame() {
                        Ok(Some(frame)) => self.frames.push(frame),
                        Ok(None) => break,
                        Err(error) => {
                            self.end = Some(error.into());
                            break;
                        }
                    }
                }
                if self.end.is_some() {
                    break;
                }
            }
        }
        Ok(Some(&self.frames))
    }
}
