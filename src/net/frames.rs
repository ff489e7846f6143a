//! A peer's streams, read frame by frame.

use super::link::{Gone, ReadError, Rx};
use crate::wire::{CHUNK, Code, FRAME_OVERHEAD, FrameError, FrameReader, INLINE, Refusal};
use bytes::Bytes;

/// Pieces taken from a stream at once: few until a stream turns out to bring more, as room for them
/// is kept while it says nothing.
const PIECES: std::ops::RangeInclusive<usize> = 2..=32;

/// Frames handed out at once. A message of a WebSocket may hold a million.
const FRAMES: usize = 256;

/// Frames above this are kept as they came in a WebSocket message: the memory around them is then
/// small beside them. What is between this and [`INLINE`] is copied, so that no payload keeps a
/// read buffer that it is a small part of. 64 KiB and a frame's head: a chunk is copied.
const KEPT: usize = CHUNK + FRAME_OVERHEAD;

/// Why a session ends.
pub(super) enum End {
    /// The peer said goodbye, or its connection is gone.
    Left(String),
    /// The daemon says goodbye.
    Refused(Refusal),
}

impl From<Gone> for End {
    fn from(Gone { code, reason }: Gone) -> Self {
        match code {
            // It may be there and unheard, as behind a network that comes back: it is to be told
            // that connecting again can help.
            Some(code @ Code::TIMED_OUT) => Self::Refused(Refusal::new(code, reason)),
            _ => Self::Left(reason),
        }
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

/// The frames of a datagram: all of them whole.
pub(super) fn datagram_frames(datagram: Bytes, limit: usize) -> Result<Vec<Bytes>, End> {
    let mut reader = FrameReader::new(limit);
    reader.push(datagram);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push(frame);
    }
    if reader.is_partial() {
        return Err(End::Refused(Refusal::new(
            Code::MALFORMED,
            "a datagram ended in the middle of a frame",
        )));
    }
    Ok(frames)
}

/// Reads frames, as many as have come, and hands them on together.
pub(super) struct Frames {
    rx: Rx,
    reader: FrameReader,
    pieces: Vec<Bytes>,
    // Those of `pieces` that hold something not read yet.
    unread: std::ops::Range<usize>,
    frames: Vec<Bytes>,
    // What came after the frames that are handed out first.
    end: Option<End>,
}

impl Frames {
    pub(super) fn new(rx: Rx, limit: usize) -> Self {
        Self {
            rx,
            reader: FrameReader::new(limit),
            pieces: vec![Bytes::new(); *PIECES.start()],
            unread: 0..0,
            frames: Vec::new(),
            end: None,
        }
    }

    /// At least one frame; none at the end of the stream. Those before a damaged one are handed
    /// out first.
    pub(super) async fn next(&mut self) -> Result<Option<&[Bytes]>, End> {
        self.frames.clear();
        self.cut();
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
                Err(ReadError::Broken(refusal)) => return Err(refusal.into()),
                Err(ReadError::Gone(gone)) => return Err(gone.into()),
            };
            self.unread = 0..read;
            if read == self.pieces.len() {
                self.pieces.resize(PIECES.end().min(&(2 * read)).to_owned(), Bytes::new());
            }
            self.cut();
        }
        Ok(Some(&self.frames))
    }

    /// Wants no more of the stream.
    pub(super) fn stop(&mut self, code: Code) {
        self.rx.stop(code);
    }

    /// Cuts frames out of what was read, until that is all or there are enough.
    fn cut(&mut self) {
        let messages = self.rx.is_messages();
        while self.end.is_none() && self.frames.len() < FRAMES {
            match self.reader.next_frame() {
                Ok(Some(frame)) if messages && (INLINE..KEPT).contains(&frame.len()) => {
                    self.frames.push(Bytes::copy_from_slice(&frame));
                }
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) if messages && self.reader.is_partial() => {
                    self.end = Some(End::Refused(Refusal::new(
                        Code::MALFORMED,
                        "a WebSocket message ended in the middle of a frame",
                    )));
                }
                Ok(None) => match self.unread.next() {
                    Some(piece) => self.reader.push(std::mem::take(&mut self.pieces[piece])),
                    None => return,
                },
                Err(error) => self.end = Some(error.into()),
            }
        }
    }
}
