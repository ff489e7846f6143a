//! Cuts a byte stream into frames. The pieces of the stream may have any size.

use super::client_frame::kind;
use super::varint::{self, Prefix};
use super::{CHUNK, FRAME_OVERHEAD, INLINE, MAX_CONTROL_FRAME};
use bytes::{Buf, Bytes, BytesMut};

/// The stream cannot be cut into frames, from here to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is zero, has more than 32 bits, or does not have its shortest form.
    #[error("a frame begins with its length: a varint from 1 to 4294967295 in its shortest form")]
    BadLength,
    /// The frame is longer than the limit of its kind.
    #[error("a frame of {size} bytes is above the limit of {limit} bytes for its kind")]
    TooLarge {
        /// Length of the frame, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
}

/// Returns the size of the frame at the start of `bytes`, its length included. The frame may end
/// beyond them. Returns `None` if the length itself is incomplete.
pub fn frame_span(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    match varint::prefix(bytes) {
        Prefix::Value(size, width) if size > 0 => Ok(Some(width.saturating_add(size))),
        Prefix::Partial => Ok(None),
        _ => Err(FrameError::BadLength),
    }
}

/// Maximum size of the client frames that are neither publications, nor parts of them, nor
/// subscriptions: 16 KiB. The longest of them is a hello with its token.
pub const MAX_SMALL_FRAME: usize = 16 << 10;

/// The buffer of an incomplete frame grows with the received bytes up to this size, 64 KiB. Beyond
/// it, the buffer has the length of the frame.
const GROWN: usize = 64 << 10;

/// Maximum size of a frame, which may depend on its kind, the first byte.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// The same limit for all frames.
    All(usize),
    /// The limits of client frames. The value is the limit of publications, which is the highest.
    Client(usize),
}

impl Limit {
    /// Returns the limit of all kinds.
    fn most(self) -> usize {
        match self {
            Self::All(limit) => limit,
            Self::Client(publication) => publication,
        }
    }

    /// Returns the limit of one kind.
    fn of(self, kind: u8) -> usize {
        match (self, kind) {
            (Self::All(limit), _) => limit,
            (Self::Client(publication), kind::PUBLISH) => publication,
            (Self::Client(_), kind::SUBSCRIBE) => MAX_CONTROL_FRAME,
            // A chunk's frame also has its kind, and the number of its bytes.
            (Self::Client(_), kind::CHUNK) => CHUNK + 8,
            (Self::Client(_), _) => MAX_SMALL_FRAME,
        }
    }
}

/// Cuts frames out of pieces.
///
/// A frame that one piece contains completely is not copied, unless it is longer than [`INLINE`]:
/// a cached frame would keep the rest of the piece in memory. At most one frame is incomplete. Its
/// buffer grows with the received bytes, and has exactly the frame's length in the end.
///
/// ```
/// use weir::wire::{DaemonFrame, FrameReader, MAX_CONTROL_FRAME};
///
/// let mut reader = FrameReader::new(MAX_CONTROL_FRAME);
/// let pong = DaemonFrame::Pong { request: 1, clock: 7 }.to_bytes();
/// reader.push(pong.slice(..2));
/// assert_eq!(reader.next_frame()?, None);
/// reader.push(pong.slice(2..));
/// let frame = reader.next_frame()?.unwrap();
/// assert_eq!(DaemonFrame::decode(&frame)?, DaemonFrame::Pong { request: 1, clock: 7 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FrameReader {
    limit: Limit,
    piece: Bytes,
    partial: BytesMut,
    // Length of the frame in `partial`; 0 while its prefix is incomplete.
    wanted: usize,
    // Bytes of a skipped frame that have not arrived yet.
    skipped: usize,
}

impl FrameReader {
    /// Creates a reader that rejects frames of more than `limit` bytes, without the length prefix.
    pub fn new(limit: usize) -> Self {
        Self::of(Limit::All(limit))
    }

    /// Creates a reader of client frames for payloads up to `payload` bytes.
    ///
    /// It rejects a frame that is too long for its kind as soon as it has the length and the first
    /// byte. Only publications may be longer than [`MAX_CONTROL_FRAME`]. Frames longer than
    /// [`INLINE`] are copied, so that they do not keep the memory in which they arrived.
    pub fn of_client(payload: usize) -> Self {
        let publication = payload.saturating_add(FRAME_OVERHEAD);
        Self::of(Limit::Client(publication.max(MAX_CONTROL_FRAME)))
    }

    fn of(limit: Limit) -> Self {
        let (piece, partial) = (Bytes::new(), BytesMut::new());
        Self { limit, piece, partial, wanted: 0, skipped: 0 }
    }

    /// Adds the next piece. Before that, [`next_frame`](Self::next_frame) must have returned `None`.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "the previous piece still has frames");
        self.piece = piece;
    }

    /// Returns whether a frame is incomplete.
    pub fn is_partial(&self) -> bool {
        self.is_waiting() || self.skipped > 0
    }

    /// Returns whether a frame is incomplete that is not [skipped](Self::skip).
    pub fn is_waiting(&self) -> bool {
        self.wanted > 0 || !self.partial.is_empty() || !self.piece.is_empty()
    }

    /// Returns the memory that an incomplete frame takes, bytes.
    pub fn held(&self) -> usize {
        self.partial.len().max(self.partial.capacity().min(GROWN))
    }

    /// Returns the received bytes of an incomplete frame, without its length. Returns `None` while
    /// the length is unknown.
    pub fn begun(&self) -> Option<&[u8]> {
        (self.wanted > 0).then_some(&self.partial)
    }

    /// Skips an incomplete frame: drops its received bytes now, and the others as they arrive.
    pub fn skip(&mut self) {
        self.skipped += self.wanted.saturating_sub(self.partial.len());
        (self.partial, self.wanted) = (BytesMut::new(), 0);
    }

    /// Returns the next complete frame, without its length.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.skipped > 0 {
            let passed = self.skipped.min(self.piece.len());
            self.piece.advance(passed);
            self.skipped -= passed;
        }
        if self.wanted == 0 {
            if !self.partial.is_empty() {
                return self.finish_prefix();
            }
            match varint::prefix(&self.piece) {
                Prefix::Partial => {
                    self.partial.extend_from_slice(&self.piece);
                    self.piece = Bytes::new();
                    return Ok(None);
                }
                prefix => {
                    let (size, width) = self.check(&prefix)?;
                    self.piece.advance(width);
                    if self.piece.len() >= size {
                        self.check_kind(size)?;
                        let frame = self.piece.split_to(size);
                        return Ok(Some(if self.pins(size) {
                            Bytes::copy_from_slice(&frame)
                        } else {
                            frame
                        }));
                    }
                    self.wanted = size;
                }
            }
        }
        self.fill()
    }

    // Returns whether a frame would keep more memory than its own.
    fn pins(&self, size: usize) -> bool {
        size > INLINE && (!self.piece.is_empty() || matches!(self.limit, Limit::Client(_)))
    }

    fn check(&self, prefix: &Prefix) -> Result<(usize, usize), FrameError> {
        match *prefix {
            Prefix::Value(size, width) if size > 0 => {
                let limit = self.limit.most();
                if size > limit {
                    return Err(FrameError::TooLarge { size, limit });
                }
                Ok((size, width))
            }
            _ => Err(FrameError::BadLength),
        }
    }

    // Requires that the frame begins at the start of the piece.
    fn check_kind(&self, size: usize) -> Result<(), FrameError> {
        match self.piece.first().map(|kind| self.limit.of(*kind)) {
            Some(limit) if size > limit => Err(FrameError::TooLarge { size, limit }),
            _ => Ok(()),
        }
    }

    // Completes a prefix that was cut in two, one byte at a time.
    fn finish_prefix(&mut self) -> Result<Option<Bytes>, FrameError> {
        while !self.piece.is_empty() {
            self.partial.extend_from_slice(&self.piece.split_to(1));
            match varint::prefix(&self.partial) {
                Prefix::Partial => {}
                prefix => {
                    let (size, _) = self.check(&prefix)?;
                    (self.partial, self.wanted) = (BytesMut::new(), size);
                    return self.fill();
                }
            }
        }
        Ok(None)
    }

    fn fill(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            self.check_kind(self.wanted)?;
        }
        let missing = self.wanted - self.partial.len();
        let take = missing.min(self.piece.len());
        self.grow(self.partial.len() + take);
        self.partial.extend_from_slice(&self.piece.split_to(take));
        if take < missing {
            return Ok(None);
        }
        self.wanted = 0;
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    // Memory follows the received bytes, not the announced length, and the last buffer has exactly
    // that length.
    fn grow(&mut self, needed: usize) {
        if needed <= self.partial.capacity() {
            return;
        }
        let room = if needed > GROWN { self.wanted } else { self.wanted.min(4 * needed) };
        let mut grown = BytesMut::with_capacity(room);
        grown.extend_from_slice(&self.partial);
        self.partial = grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..400), 0..20),
            cuts in proptest::collection::vec(1_usize..300, 1..50),
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                varint::put(&mut stream, frame.len() as u64);
                stream.extend_from_slice(frame);
            }
            let mut reader = FrameReader::new(1000);
            let mut got = Vec::new();
            let mut rest = Bytes::from(stream);
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                reader.push(rest.split_to(cut));
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert!(!reader.is_partial());
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn damaged_bytes_never_panic(pieces: Vec<Vec<u8>>) {
            let mut reader = FrameReader::new(64);
            'pieces: for piece in pieces {
                reader.push(piece.into());
                loop {
                    match reader.next_frame() {
                        Ok(Some(frame)) => prop_assert!((1..=64).contains(&frame.len())),
                        Ok(None) => break,
                        Err(_) => break 'pieces,
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
        let mut reader = FrameReader::new(10);
        reader.push(Bytes::from_static(&[11]));
        assert_eq!(reader.next_frame(), Err(FrameError::TooLarge { size: 11, limit: 10 }));
        let mut reader = FrameReader::new(10);
        reader.push(Bytes::from_static(&[0]));
        assert_eq!(reader.next_frame(), Err(FrameError::BadLength));
    }

    // The kind is the first byte, which may be in another piece than the length.
    #[test]
    fn a_clients_frame_is_refused_by_its_first_byte() {
        for (kind, limit) in [
            (0, MAX_SMALL_FRAME),
            (kind::PUBLISH, 3_000_000 + FRAME_OVERHEAD),
            (kind::CHUNK, CHUNK + 8),
            (kind::SUBSCRIBE, MAX_CONTROL_FRAME),
            (99, MAX_SMALL_FRAME),
        ] {
            for size in [limit, limit + 1] {
                let mut bytes = Vec::new();
                varint::put(&mut bytes, size as u64);
                bytes.push(kind);
                for cut in 0..bytes.len() {
                    let mut reader = FrameReader::of_client(3_000_000);
                    reader.push(Bytes::copy_from_slice(&bytes[..cut]));
                    let read = reader.next_frame().and_then(|_| {
                        reader.push(Bytes::copy_from_slice(&bytes[cut..]));
                        reader.next_frame()
                    });
                    let refused = FrameError::TooLarge { size, limit };
                    assert_eq!(read, if size > limit { Err(refused) } else { Ok(None) });
                    assert!(reader.held() < 64);
                }
                bytes.resize(bytes.len() + size - 1, 0);
                let mut reader = FrameReader::of_client(3_000_000);
                reader.push(bytes.into());
                assert_eq!(reader.next_frame().is_ok(), size == limit, "{size} in one piece");
            }
        }
    }

    #[test]
    fn a_frame_takes_memory_for_its_received_bytes() {
        let mut reader = FrameReader::new(1 << 30);
        let mut bytes = Vec::new();
        varint::put(&mut bytes, 1 << 24);
        reader.push(bytes.into());
        let mut came = 0;
        loop {
            if let Some(frame) = reader.next_frame().unwrap() {
                assert_eq!(frame.len(), 1 << 24);
                break;
            }
            assert!(reader.held() <= 4 * came.max(16) && reader.held() >= came, "{came}");
            reader.push(Bytes::from(vec![7; 1000.min((1 << 24) - came)]));
            came += 1000;
        }
        assert_eq!(reader.held(), 0);
    }

    #[test]
    fn what_is_passed_over_leaves_the_frames_after_it() {
        for came in [0, 1, 500, 999] {
            let mut reader = FrameReader::new(1000);
            let mut bytes = Vec::new();
            varint::put(&mut bytes, 1000);
            bytes.resize(bytes.len() + came, 7);
            reader.push(bytes.into());
            assert_eq!(reader.next_frame(), Ok(None));
            assert_eq!(reader.begun().map(<[u8]>::len), Some(came));
            reader.skip();
            assert!(reader.is_partial() && !reader.is_waiting() && reader.held() == 0);
            let mut rest = vec![7; 1000 - came];
            rest.extend_from_slice(&[2, 8, 9]);
            for byte in rest {
                assert!(reader.is_partial() || byte != 7);
                reader.push(Bytes::copy_from_slice(&[byte]));
                if let Some(frame) = reader.next_frame().unwrap() {
                    assert_eq!(frame, &[8, 9][..]);
                }
            }
            assert!(!reader.is_partial());
        }
    }

    // The frames of one read share its buffer.
    #[test]
    fn no_long_frame_keeps_what_it_came_in() {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, INLINE as u64 + 1);
        bytes.push(kind::PUBLISH);
        bytes.resize(bytes.len() + INLINE, 7);
        let bytes = Bytes::from(bytes);
        let mut reader = FrameReader::of_client(1 << 20);
        reader.push(bytes.clone());
        let frame = reader.next_frame().unwrap().unwrap();
        assert!(!bytes.as_ptr_range().contains(&frame.as_ptr()));
    }
}
