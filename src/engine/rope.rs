//! A large payload, in the pieces in which it arrived. All subscribers share them.

use super::cost::{PIECE_COST, allocated};
use crate::wire::CHUNK;
use bytes::Bytes;
use std::fmt;

/// Bytes before a piece in the memory in which it arrived: the head of its frame.
const FRAMED: usize = 4;

/// The pieces of a payload, in order. Each has at most the length of a chunk, and memory of its own.
#[derive(Clone, Default)]
pub struct Rope {
    // Each piece with the offset of its end.
    pieces: Vec<(usize, Bytes)>,
    cost: usize,
}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rope({} bytes)", self.len())
    }
}

/// Two are equal if their bytes are, however they are cut.
impl PartialEq for Rope {
    fn eq(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|rope| rope.pieces().flat_map(|piece| piece.iter()));
        one.eq(other)
    }
}

impl Eq for Rope {}

fn cost(piece: &Bytes) -> usize {
    PIECE_COST + allocated(piece.len() + FRAMED)
}

impl Rope {
    /// Copies a payload into chunks, each in memory of its own.
    pub(crate) fn cut(payload: &[u8]) -> Self {
        let mut rope = Self::default();
        rope.pieces.reserve_exact(payload.len().div_ceil(CHUNK));
        for chunk in payload.chunks(CHUNK) {
            // Without the head of a frame.
            rope.cost += PIECE_COST + allocated(chunk.len());
            rope.pieces.push((rope.len() + chunk.len(), Bytes::copy_from_slice(chunk)));
        }
        rope
    }

    /// Returns the length, bytes.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the pieces, shared.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().map(|(_, piece)| piece)
    }

    /// Copies the payload into one piece. Do not call it while holding a lock.
    pub fn join(&self) -> Bytes {
        let mut joined = Vec::with_capacity(self.len());
        self.pieces().for_each(|piece| joined.extend_from_slice(piece));
        joined.into()
    }

    /// Appends a piece. It is joined with the last one if that is not longer, up to the length of a
    /// chunk. So even the smallest pieces become few, and each byte is copied a few times at most.
    pub(crate) fn push(&mut self, mut piece: Bytes) {
        while let Some((_, last)) = self.pieces.last()
            && last.len() <= piece.len()
            && last.len() + piece.len() <= CHUNK
        {
            self.cost -= cost(last);
            piece = [&last[..], &piece[..]].concat().into();
            self.pieces.pop();
        }
        self.cost += cost(&piece);
        self.pieces.push((self.len() + piece.len(), piece));
    }

    /// Returns the bytes at an offset: a chunk, or less if a piece ends. None at the end.
    pub(crate) fn at(&self, offset: usize) -> Option<Bytes> {
        let index = self.pieces.partition_point(|(end, _)| *end <= offset);
        let (end, piece) = self.pieces.get(index)?;
        let from = piece.len() - (end - offset);
        Some(piece.slice(from..piece.len().min(from + CHUNK)))
    }

    /// Returns the bytes charged for it.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_come_out_as_they_went_in(
            sizes in proptest::collection::vec(
                prop_oneof![1_usize..4, 1_usize..2000, 1_usize..=CHUNK], 0..200),
        ) {
            let (mut rope, mut all) = (Rope::default(), Vec::new());
            for (n, size) in sizes.into_iter().enumerate() {
                let piece: Vec<u8> = (0..size).map(|at| (at + n) as u8).collect();
                all.extend_from_slice(&piece);
                rope.push(piece.into());
                prop_assert_eq!(rope.len(), all.len());
            }
            let (mut offset, mut got) = (0, Vec::new());
            while let Some(piece) = rope.at(offset) {
                prop_assert!((1..=CHUNK).contains(&piece.len()));
                offset += piece.len();
                got.extend_from_slice(&piece);
            }
            prop_assert!(got == all);
            prop_assert!(rope.join() == all);
            let charged: usize = rope.pieces().map(cost).sum();
            prop_assert_eq!(rope.cost(), charged);
        }
    }

    #[test]
    fn the_smallest_pieces_are_joined() {
        let mut rope = Rope::default();
        (0..200_000_u32).for_each(|n| rope.push(vec![n as u8].into()));
        assert!(rope.pieces.len() <= 3 + 17, "{} pieces", rope.pieces.len());
        assert!(rope.cost() < 300_000);
    }

    #[test]
    fn a_payload_is_cut_into_chunks_that_are_charged_as_they_are() {
        let payload: Vec<u8> = (0..3 * CHUNK + 5).map(|at| (at % 251) as u8).collect();
        let rope = Rope::cut(&payload);
        let sizes: Vec<_> = rope.pieces().map(Bytes::len).collect();
        assert_eq!(sizes, [CHUNK, CHUNK, CHUNK, 5]);
        assert_eq!((rope.len(), rope.cost()), (payload.len(), 3 * CHUNK + 16 + 4 * PIECE_COST));
        assert_eq!(rope.at(CHUNK).unwrap().as_ptr(), rope.pieces[1].1.as_ptr());
        assert_eq!(rope.at(3 * CHUNK + 1).unwrap().len(), 4);
        assert_eq!(rope.at(3 * CHUNK + 5), None);
        assert!(rope.join() == payload);
    }
}
