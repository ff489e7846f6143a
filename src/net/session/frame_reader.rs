//! A peer's streams, read frame by frame.

use super::end::SessionEnd;
use crate::net::error::ReadError;
use crate::net::transport::stream::RecvStream;
use crate::wire::{ClientFrame, Code, FrameReader, Refusal};
use bytes::Bytes;

/// Pieces read from a stream at once. The number begins small and doubles with each full read,
/// because an idle stream keeps the space for them.
const PIECES: std::ops::RangeInclusive<usize> = 2..=32;

/// Maximum number of frames handed out at once. A piece may hold thousands.
const FRAMES: usize = 256;

/// Maximum number of `Get` frames among them, 8: as many as a session may have answers in flight.
/// Each answer holds a message until it is sent.
const GETS: usize = 8;

/// Number of frames for which space is kept between batches: 1 KiB a stream.
const KEPT: usize = 32;

fn malformed(reason: &'static str) -> SessionEnd {
    SessionEnd::Refused(Refusal::new(Code::MALFORMED, reason))
}

/// Returns the frames of a datagram, which holds whole frames only. `payload` is the largest
/// payload, bytes.
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

/// Reads a stream, and hands out its frames in batches.
pub(crate) struct Frames {
    rx: RecvStream,
    reader: FrameReader,
    pieces: Vec<Bytes>,
    // Those of `pieces` that have not been split into frames yet.
    unread: std::ops::Range<usize>,
    frames: Vec<Bytes>,
    // Returned after the frames that precede it.
    end: Option<SessionEnd>,
    // Complete frames, and bytes received, so far.
    complete: u64,
    received: u64,
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
            complete: 0,
            received: 0,
        }
    }

    /// Takes the next frames of what was read. Returns whether there are any; if not,
    /// [`read`](Self::read) has to read more. Frames before a damaged one are returned first.
    pub(crate) fn take(&mut self) -> Result<bool, SessionEnd> {
        if self.frames.capacity() > KEPT {
            self.frames = Vec::with_capacity(KEPT);
        }
        self.frames.clear();
        self.split();
        self.complete += self.frames.len() as u64;
        match self.end.take_if(|_| self.frames.is_empty()) {
            Some(end) => Err(end),
            None => Ok(!self.frames.is_empty()),
        }
    }

    /// The frames that [`take`](Self::take) took last.
    pub(crate) fn taken(&self) -> &[Bytes] {
        &self.frames
    }

    /// Reads what there is. Returns false at the end of the stream. Cancel safe.
    pub(crate) async fn read(&mut self) -> Result<bool, SessionEnd> {
        let read = match self.rx.read(&mut self.pieces).await {
            Ok(Some(read)) => read,
            Ok(None) if self.reader.is_partial() => {
                return Err(malformed("a stream ended in the middle of a frame"));
            }
            Ok(None) | Err(ReadError::Reset) => return Ok(false),
            Err(ReadError::Broken(refusal)) => return Err(refusal.into()),
            Err(ReadError::ConnectionLost(lost)) => return Err(lost.into()),
        };
        self.unread = 0..read;
        self.received += self.pieces[..read].iter().map(|piece| piece.len() as u64).sum::<u64>();
        if read == self.pieces.len() {
            self.pieces.resize(PIECES.end().min(&(2 * read)).to_owned(), Bytes::new());
        }
        Ok(true)
    }

    /// The number of the incomplete frame, which is the number of frames before it.
    pub(crate) fn incomplete(&self) -> Option<u64> {
        self.reader.is_waiting().then_some(self.complete)
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes held of the incomplete frame.
    pub(crate) fn held(&self) -> usize {
        self.reader.held()
    }

    /// The bytes received of the incomplete frame.
    pub(crate) fn incomplete_bytes(&self) -> &[u8] {
        self.reader.begun().unwrap_or_default()
    }

    /// Skips the incomplete frame.
    pub(crate) fn skip(&mut self) {
        self.reader.skip();
    }

    /// Asks the peer to stop sending (RFC 9000, section 3.5).
    pub(crate) fn stop(&mut self, code: Code) {
        self.rx.stop(code);
    }

    /// Splits what was read into frames, until all is split or the batch is full.
    fn split(&mut self) {
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
