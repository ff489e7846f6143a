//! Blocks: what is written at once, with a checksum.
//!
//! ```text
//! 0   4  marker, by which a reader finds the next block after a damaged one
//! 4   4  length of the body, bytes
//! 8   1  kind
//! 9   8  number of the first record in it or, of a note, of the next record after it
//! 17  4  checksum (CRC-32) of the body
//! 21  4  checksum of the 21 bytes before
//! 25     body
//! ```
//!
//! Numbers are little-endian.

use super::header::word;
use std::io::{self, Read};

/// Length of a block before its body.
pub(crate) const HEAD: usize = 25;

const CHECKED: usize = HEAD - 4;

const MARKER: [u8; 4] = [0xf7, b'B', b'l', 0x0d];

/// The contents of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Records.
    Records = 1,
    /// A part of a snapshot.
    Part = 2,
    /// A note on the run.
    Note = 3,
}

/// A block that is being written.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    start: usize,
}

impl BlockWriter {
    /// Begins a block at the end of `out`.
    pub(crate) fn new(out: &mut Vec<u8>, kind: BlockKind, first: u64) -> Self {
        let start = out.len();
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[0; 4]);
        out.push(kind as u8);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        Self { start }
    }

    /// Ends it. Everything that was appended to `out` is its body.
    pub(crate) fn end(self, out: &mut [u8]) {
        let block = &mut out[self.start..];
        let length = (block.len() - HEAD) as u32;
        let checksum = crc32fast::hash(&block[HEAD..]);
        block[4..8].copy_from_slice(&length.to_le_bytes());
        block[17..21].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32fast::hash(&block[..CHECKED]);
        block[CHECKED..HEAD].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A block that was read.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: u8,
    pub(crate) first: u64,
    pub(crate) body: &'a [u8],
}

/// Reads the blocks of a file, after its header. Bytes that are no block are passed over.
#[derive(Debug)]
pub(crate) struct BlockReader<R> {
    file: R,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    // Number of bytes passed over so far, and the offset of the first of them.
    damaged: u64,
    damaged_at: Option<u64>,
    offset: u64,
    // Bytes of a block at the end of the file whose rest is not there.
    torn: u64,
}

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

impl<R: Read> BlockReader<R> {
    /// Begins after `offset` bytes of the file.
    pub(crate) fn new(file: R, offset: u64) -> Self {
        let (buffer, at, ended) = (Vec::new(), 0, false);
        Self { file, buffer, at, ended, damaged: 0, damaged_at: None, offset, torn: 0 }
    }

    /// Returns the number of bytes of a block at the end of the file whose rest was not written.
    pub(crate) fn torn(&self) -> u64 {
        self.torn
    }

    /// Returns the number of other bytes that were no block, and the offset of the first of them.
    pub(crate) fn damage(&self) -> Option<(u64, u64)> {
        self.damaged_at.map(|at| (self.damaged, at))
    }

    // Makes so many bytes available after the current place, if the file has them.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.buffer.len() - self.at < bytes && !self.ended {
            if self.at > 0 {
                self.buffer.drain(..self.at);
                self.at = 0;
            }
            let had = self.buffer.len();
            let most = (bytes - had).max(CHUNK) as u64;
            let read = self.file.by_ref().take(most).read_to_end(&mut self.buffer)?;
            self.ended = read == 0;
        }
        Ok(self.buffer.len() - self.at >= bytes)
    }

    fn skip(&mut self, bytes: usize) {
        self.damaged_at.get_or_insert(self.offset);
        self.damaged += bytes as u64;
        self.advance(bytes);
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }

    // Returns the length of the block here, if there is one.
    fn block_here(&mut self) -> io::Result<Option<usize>> {
        if !self.fill(HEAD)? {
            let rest = &self.buffer[self.at..];
            let marker = &MARKER[..rest.len().min(MARKER.len())];
            if rest.starts_with(marker) {
                self.torn = rest.len() as u64;
            }
            return Ok(None);
        }
        let head = &self.buffer[self.at..][..HEAD];
        let words = [4, 17, CHECKED].map(|at| word(head, at).unwrap_or_default());
        let [length, body, checksum] = words;
        // The length is known to be right before so much is read.
        if head[..4] != MARKER || crc32fast::hash(&head[..CHECKED]) != checksum {
            return Ok(None);
        }
        let length = length as usize;
        if !self.fill(HEAD + length)? {
            self.torn = (self.buffer.len() - self.at) as u64;
            return Ok(None);
        }
        let block = &self.buffer[self.at..][..HEAD + length];
        Ok((crc32fast::hash(&block[HEAD..]) == body).then_some(block.len()))
    }

    /// Returns the next block; none at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Block<'_>>> {
        let length = loop {
            if let Some(length) = self.block_here()? {
                break length;
            }
            if self.torn > 0 || !self.fill(1)? {
                return Ok(None);
            }
            // To the next byte that may begin a marker.
            let rest = &self.buffer[self.at + 1..];
            let next = rest.iter().position(|byte| *byte == MARKER[0]);
            self.skip(1 + next.unwrap_or(rest.len()));
        };
        let at = self.at;
        self.advance(length);
        let block = &self.buffer[at..at + length];
        let (head, body) = block.split_at(HEAD);
        let mut first = [0; 8];
        first.copy_from_slice(&head[9..17]);
        Ok(Some(Block { kind: head[8], first: u64::from_le_bytes(first), body }))
    }
}
