//! Cuts a byte stream into frames, whatever pieces it arrives in.

use super::INLINE;
use super::varint::{self, Prefix};
use bytes::{Buf, Bytes, BytesMut};

/// A stream that cannot be cut into frames; it is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is not a varint of at most 32 bits in its shortest form, or is zero.
    #[error("a frame begins with its length: a varint from 1 to 4294967295 in its shortest form")]
    BadLength,
    /// Longer than the limit.
    #[error("a frame of {size} bytes is above the limit of {limit} bytes here")]
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

/// Cuts frames out of pieces. A frame that lies whole in one piece is not copied, unless it is
/// longer than [`INLINE`], and so would be kept as it is and the rest of the piece with it. Of
/// the others at most one is held, in a buffer of exactly its length.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    piece: Bytes,
    partial: BytesMut,
    // Length of the frame in `partial`; 0 while its prefix is not complete.
    wanted: usize,
}

impl FrameReader {
    /// A reader that refuses frames longer than `limit` bytes, length prefix not included.
    pub fn new(limit: usize) -> Self {
        Self { limit, piece: Bytes::new(), partial: BytesMut::new(), wanted: 0 }
    }

    /// Hands over the next piece. Call [`next_frame`](Self::next_frame) until it gives none before the
    /// next push.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "frames were left in the piece before");
        self.piece = piece;
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.wanted > 0 || !self.partial.is_empty() || !self.piece.is_empty()
    }

    /// The next whole frame, without its length.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
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
                        let frame = self.piece.split_to(size);
                        let pins = size > INLINE && !self.piece.is_empty();
                        return Ok(Some(if pins { Bytes::copy_from_slice(&frame) } else { frame }));
                    }
                    self.begin(size);
                }
            }
        }
        Ok(self.fill())
    }

    fn check(&self, prefix: &Prefix) -> Result<(usize, usize), FrameError> {
        match *prefix {
            Prefix::Value(size, width) if size > 0 => {
                if size > self.limit {
                    return Err(FrameError::TooLarge { size, limit: self.limit });
                }
                Ok((size, width))
            }
            _ => Err(FrameError::BadLength),
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
                    self.begin(size);
                    return Ok(self.fill());
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, size: usize) {
        // Reserved, not touched: a length that is never filled costs no memory.
        self.partial = BytesMut::with_capacity(size);
        self.wanted = size;
    }

    fn fill(&mut self) -> Option<Bytes> {
        let missing = self.wanted - self.partial.len();
        let take = missing.min(self.piece.len());
        self.partial.extend_from_slice(&self.piece.split_to(take));
        if take < missing {
            return None;
        }
        self.wanted = 0;
        Some(std::mem::take(&mut self.partial).freeze())
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
}
