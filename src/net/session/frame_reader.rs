//! A peer's streams, read frame by frame.

use super::end::SessionEnd;
use crate::net::error::ReadError;
use crate::net::transport::stream::RecvStream;
use crate::wire::{ClientFrame, Code, FrameReader, Refusal};
use bytes::Bytes;

/// Pieces taken from a stream at once: few until a stream turns out to bring more, as room for them
/// is kept while it says nothing.
const PIECES: std::ops::RangeInclusive<usize> = 2..=32;

/// Frames handed out at once. A piece may hold thousands.
const FRAMES: usize = 256;

/// And of those that ask for a message, which is held until it is sent: 8, as many as a session has
/// answers under way.
const GETS: usize = 8;

/// Room for so many is kept between batches: 1 KiB a stream.
const KEPT: usize = 32;

fn malformed(reason: &'static str) -> SessionEnd {
    SessionEnd::Refused(Refusal::new(Code::MALFORMED, reason))
}

/// The frames of a datagram: all of them whole. `payload` is the largest payload, bytes.
pub(crate) fn datagram_frames(datagram: Bytes, payload: usize) -> Result<Vec<Bytes>, SessionEnd> {
    let mut reader = FrameReader::of_client(payload);
    reader.push(datagram);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push(frame);
    }
    if reader.is_partial() {
        return Err(malformed("a datagram ended in the middle of a frame"));
    }
    Ok(frames)
}

/// Reads frames, as many as have come, to be handed on together.
pub(crate) struct Frames {
    rx: RecvStream,
    reader: FrameReader,
    pieces: Vec<Bytes>,
    // Those of `pieces` that hold something not read yet.
    unread: std::ops::Range<usize>,
    frames: Vec<Bytes>,
    // What came after the frames that are handed out first.
    end: Option<SessionEnd>,
    // Frames that were whole, and bytes that came, so far.
    whole: u64,
    came: u64,
}

impl Frames {
    /// `payload` is the largest payload, bytes.
    pub(crate) fn new(rx: RecvStream, payload: usize) -> Self {
        Self {
            rx,
            reader: FrameReader::of_client(payload),
            pieces: vec![Bytes::new(); *PIECES.start()],
            unread: 0..0,
            frames: Vec::new(),
            end: None,
            whole: 0,
            came: 0,
        }
    }

    /// Takes the next frames of what was read; whether there are any. If not, there is more to
    /// [`read`](Self::read). Those before a damaged one are taken first.
    pub(crate) fn take(&mut self) -> Result<bool, SessionEnd> {
        if self.frames.capacity() > KEPT {
            self.frames = Vec::with_capacity(KEPT);
        }
        self.frames.clear();
        self.cut();
        self.whole += self.frames.len() as u64;
        match self.end.take_if(|_| self.frames.is_empty()) {
            Some(end) => Err(end),
            None => Ok(!self.frames.is_empty()),
        }
    }

    /// Those that were taken last.
    pub(crate) fn taken(&self) -> &[Bytes] {
        &self.frames
    }

    /// Reads what there is; false at the end of the stream. Losing the future loses nothing.
    pub(crate) async fn read(&mut self) -> Result<bool, SessionEnd> {
        let read = match self.rx.read(&mut self.pieces).await {
            Ok(Some(read)) => read,
            Ok(None) if self.reader.is_partial() => {
                return Err(malformed("a stream ended in the middle of a frame"));
            }
            Ok(None) | Err(ReadError::Reset) => return Ok(false),
            Err(ReadError::Broken(refusal)) => return Err(refusal.into()),
            Err(ReadError::ConnectionLost(gone)) => return Err(gone.into()),
        };
        self.unread = 0..read;
        self.came += self.pieces[..read].iter().map(|piece| piece.len() as u64).sum::<u64>();
        if read == self.pieces.len() {
            self.pieces.resize(PIECES.end().min(&(2 * read)).to_owned(), Bytes::new());
        }
        Ok(true)
    }

    /// Which frame has begun and is not complete, by how many were before it; none if none has.
    pub(crate) fn waiting(&self) -> Option<u64> {
        self.reader.is_waiting().then_some(self.whole)
    }

    /// Bytes that came, so far.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// Bytes held of a frame that is not complete.
    pub(crate) fn held(&self) -> usize {
        self.reader.held()
    }

    /// What has come of a frame that is not complete.
    pub(crate) fn begun(&self) -> &[u8] {
        self.reader.begun().unwrap_or_default()
    }

    /// Passes over a frame that is not complete.
    pub(crate) fn skip(&mut self) {
        self.reader.skip();
    }

    /// Wants no more of the stream.
    pub(crate) fn stop(&mut self, code: Code) {
        self.rx.stop(code);
    }

    /// Cuts frames out of what was read, until that is all or there are enough.
    fn cut(&mut self) {
        let mut room = FRAMES;
        while self.end.is_none() && room > 0 {
            match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    let takes = if ClientFrame::may_get(&frame) { FRAMES / GETS } else { 1 };
                    room = room.saturating_sub(takes);
                    self.frames.push(frame);
                }
                Ok(None) => match self.unread.next().map(|at| std::mem::take(&mut self.pieces[at]))
                {
                    Some(piece) if piece.is_empty() && self.rx.is_messages() => {
                        if self.reader.is_partial() {
                            let reason = "a WebSocket message ended in the middle of a frame";
                            self.end = Some(malformed(reason));
                        }
                    }
                    Some(piece) => self.reader.push(piece),
                    None => return,
                },
                Err(error) => self.end = Some(error.into()),
            }
        }
    }
}
