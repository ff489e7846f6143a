//! Cuts a byte stream into frames, whatever pieces it arrives in.

use super::frame::kind;
use super::varint::{self, Prefix};
use super::{CHUNK, FRAME_OVERHEAD, INLINE, MAX_CONTROL_FRAME};
use bytes::{Buf, Bytes, BytesMut};

/// A stream that cannot be cut into frames; it is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is not a varint of at most 32 bits in its shortest form, or is zero.
    #[error("a frame begins with its length: a varint from 1 to 4294967295 in its shortest form")]
    BadLength,
    /// Longer than the limit of its kind.
    #[error("a frame of {size} bytes is above the limit of {limit} bytes for its kind")]
    TooLarge {
        /// Length of the frame, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
}

/// Bytes of the frame that `bytes` begin with, its length included: it may end beyond them. None
/// if not even the length is whole.
pub fn frame_span(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    match varint::prefix(bytes) {
        Prefix::Value(size, width) if size > 0 => Ok(Some(width.saturating_add(size))),
        Prefix::Partial => Ok(None),
        _ => Err(FrameError::BadLength),
    }
}

/// The largest frame of a client's that is neither a publication, nor a part of one, nor a
/// subscription: 16 KiB. The longest is a hello with its token.
pub const MAX_SMALL_FRAME: usize = 16 << 10;

/// A buffer of a frame that goes on is of the frame's length once so many bytes have come, 64 KiB;
/// until then it grows with them.
const GROWN: usize = 64 << 10;

/// How long a frame may be. Its kind is its first byte.
#[derive(Debug, Clone, Copy)]
enum Limit {
    All(usize),
    /// Frames of a client's: of a publication, so much, and no less than of any other.
    Client(usize),
}

impl Limit {
    /// Of any frame.
    fn most(self) -> usize {
        match self {
            Self::All(limit) => limit,
            Self::Client(publication) => publication,
        }
    }

    /// Of one whose first byte is known.
    fn of(self, kind: u8) -> usize {
        match (self, kind) {
            (Self::All(limit), _) => limit,
            (Self::Client(publication), kind::PUBLISH) => publication,
            (Self::Client(_), kind::SUBSCRIBE) => MAX_CONTROL_FRAME,
            // Its index, and the length of its bytes.
            (Self::Client(_), kind::CHUNK) => CHUNK + 8,
            (Self::Client(_), _) => MAX_SMALL_FRAME,
        }
    }
}

/// Cuts frames out of pieces. A frame that lies whole in one piece is not copied, unless it is
/// longer than [`INLINE`], and so would be kept as it is and the rest of the piece with it. Of
/// the others at most one is held, in a buffer that grows as its bytes come, and is of exactly its
/// length in the end.
#[derive(Debug)]
pub struct FrameReader {
    limit: Limit,
    piece: Bytes,
    partial: BytesMut,
    // Length of the frame in `partial`; 0 while its prefix is not complete.
    wanted: usize,
    // Bytes of a frame that nobody wants any more, and that are still to come.
    skipped: usize,
}

impl FrameReader {
    /// A reader that refuses frames longer than `limit` bytes, length prefix not included.
    pub fn new(limit: usize) -> Self {
        Self::of(Limit::All(limit))
    }

    /// A reader of a client's frames. One that is too long for its kind is refused as soon as its
    /// length and its first byte are there; only a publication, of payloads up to `payload` bytes,
    /// is ever longer than [`MAX_CONTROL_FRAME`]. No frame keeps the memory that it came in, unless
    /// it is as short as [`INLINE`].
    pub fn of_client(payload: usize) -> Self {
        let publication = payload.saturating_add(FRAME_OVERHEAD);
        Self::of(Limit::Client(publication.max(MAX_CONTROL_FRAME)))
    }

    fn of(limit: Limit) -> Self {
        let (piece, partial) = (Bytes::new(), BytesMut::new());
        Self { limit, piece, partial, wanted: 0, skipped: 0 }
    }

    /// Hands over the next piece. Call [`next_frame`](Self::next_frame) until it gives none before the
    /// next push.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "frames were left in the piece before");
        self.piece = piece;
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.is_waiting() || self.skipped > 0
    }

    /// As [`is_partial`](Self::is_partial), but for one that is [passed over](Self::skip).
    pub fn is_waiting(&self) -> bool {
        self.wanted > 0 || !self.partial.is_empty() || !self.piece.is_empty()
    }

    /// Bytes held of a frame that is not complete.
    pub fn held(&self) -> usize {
        self.partial.len().max(self.partial.capacity().min(GROWN))
    }

    /// What has come of a frame that is not complete, without its length; nothing if that is not
    /// known yet.
    pub fn begun(&self) -> Option<&[u8]> {
        (self.wanted > 0).then_some(&self.partial)
    }

    /// Passes over a frame that is not complete: what has come of it is dropped, and what still
    /// comes.
    pub fn skip(&mut self) {
        self.skipped += self.wanted.saturating_sub(self.partial.len());
        (self.partial, self.wanted) = (BytesMut::new(), 0);
    }

    /// The next whole frame, without its length.
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

    // Whether a frame would keep more memory than its own.
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

    // The frame's first byte is that of the piece.
    fn check_kind(&self, size: usize) -> Result<(), FrameError> {
        match self.piece.first().map(|kind| self.limit.of(*kind)) {
            Some(limit) if size > limit => Err(FrameError::TooLarge { size, limit }),
            _ => Ok(()),
        }
    }

    // A prefix that was cut in two: take one byte after the other.
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

    // A length that is never filled costs no memory, and the last buffer is of exactly that length.
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

    // The kind stands in the first byte, whatever pieces it comes in.
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
                    let told = reader.next_frame().and_then(|_| {
                        reader.push(Bytes::copy_from_slice(&bytes[cut..]));
                        reader.next_frame()
                    });
                    let refused = FrameError::TooLarge { size, limit };
                    assert_eq!(told, if size > limit { Err(refused) } else { Ok(None) });
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
    fn a_frame_costs_what_has_come_of_it() {
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

    // A read buffer is shared by what came with it.
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
