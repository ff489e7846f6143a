//! Encoding and decoding of one frame: what both directions share.

use super::varint;
use serde::{Deserialize, Serialize, Serializer};

/// The bytes are not a frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a frame of weir/1: see docs/protocol.md")]
pub struct DecodeError;

// Serializes all bytes at once, because serde's own serializer for `&[u8]` takes one at a time.
pub(super) fn raw<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(super) fn encode<T: Serialize>(frame: &T, out: &mut Vec<u8>) {
    // The length takes 1 to 5 bytes. The frame is written after one byte of space, and is then moved
    // if its length needs more.
    let start = out.len();
    out.push(0);
    let taken = std::mem::take(out);
    // This cannot fail: extending a Vec does not, and postcard can encode every field of a frame.
    *out = postcard::to_extend(frame, taken).unwrap_or_default();
    let body = out.len() - start - 1;
    let width = varint::len(body as u64);
    if width > 1 {
        out.resize(out.len() + width - 1, 0);
        out.copy_within(start + 1..start + 1 + body, start + width);
    }
    varint::write(&mut out[start..start + width], body as u64);
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Ok(frame),
        _ => Err(DecodeError),
    }
}
