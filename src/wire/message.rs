//! Encoding of messages and publications. A message is encoded once, and all its subscribers share
//! the bytes.

use super::varint;
use bytes::Bytes;

/// Maximum size of a payload that is copied behind its head, 4 KiB. A small message is thus one
/// buffer in memory and one to send. Longer payloads are shared, not copied.
pub const INLINE: usize = 4096;

/// A frame that is ready to send: `head`, then `body`. The body is empty if `head` contains the
/// payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    head: Bytes,
    body: Bytes,
    size: u32,
}

impl Encoded {
    fn new(kind: u8, fields: &[u64], payload: &Bytes) -> Self {
        let size = payload.len();
        let body = 1
            + fields.iter().map(|field| varint::len(*field)).sum::<usize>()
            + varint::len(size as u64)
            + size;
        let inline = size <= INLINE;
        let length = varint::len(body as u64) + body - if inline { 0 } else { size };
        let mut head = Vec::with_capacity(length);
        varint::put(&mut head, body as u64);
        head.push(kind);
        for field in fields {
            varint::put(&mut head, *field);
        }
        varint::put(&mut head, size as u64);
        if inline {
            head.extend_from_slice(payload);
        }
        debug_assert_eq!(head.len(), length);
        Self {
            head: head.into(),
            body: if inline { Bytes::new() } else { payload.clone() },
            size: size as u32,
        }
    }

    /// Returns the two buffers to send, in order; the second may be empty.
    pub fn pieces(&self) -> (&Bytes, &Bytes) {
        (&self.head, &self.body)
    }

    /// Returns the payload. Shares the bytes.
    pub fn payload(&self) -> Bytes {
        if self.body.is_empty() {
            self.head.slice(self.head.len() - self.size as usize..)
        } else {
            self.body.clone()
        }
    }

    /// Borrows the payload.
    pub fn payload_slice(&self) -> &[u8] {
        if self.body.is_empty() {
            &self.head[self.head.len() - self.size as usize..]
        } else {
            &self.body
        }
    }

    /// Returns the size of the payload, bytes.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Returns the size of the frame with its length prefix, bytes.
    pub fn wire_len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// Encodes a [`DaemonFrame::Message`](super::DaemonFrame::Message).
pub fn encode_message(
    topic: u64,
    sequence: u64,
    count: u64,
    stamp: u64,
    payload: &Bytes,
) -> Encoded {
    Encoded::new(3, &[topic, sequence, count, stamp], payload)
}

/// Encodes a [`ClientFrame::Publish`](super::ClientFrame::Publish).
pub fn encode_publish(alias: u32, number: u64, stamp: u64, payload: &Bytes) -> Encoded {
    Encoded::new(2, &[alias.into(), number, stamp], payload)
}

/// Encodes the part of a [`DaemonFrame::Chunk`] or [`ClientFrame::Chunk`] that precedes its `size`
/// bytes.
///
/// [`DaemonFrame::Chunk`]: super::DaemonFrame::Chunk
/// [`ClientFrame::Chunk`]: super::ClientFrame::Chunk
pub fn encode_chunk(towards_daemon: bool, size: usize) -> Bytes {
    let mut head = Vec::with_capacity(8);
    varint::put(&mut head, (1 + varint::len(size as u64) + size) as u64);
    head.push(if towards_daemon { 4 } else { 5 });
    varint::put(&mut head, size as u64);
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ClientFrame, DaemonFrame};
    use proptest::prelude::*;

    fn joined(encoded: &Encoded) -> Vec<u8> {
        let (head, body) = encoded.pieces();
        [&head[..], &body[..]].concat()
    }

    proptest! {
        #[test]
        fn equal_to_the_derived_encoding(
            topic: u64, sequence: u64, count: u64, stamp: u64, alias: u32,
            payload in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                proptest::collection::vec(any::<u8>(), INLINE - 1..INLINE + 2),
            ],
        ) {
            let bytes = Bytes::from(payload);
            let message = encode_message(topic, sequence, count, stamp, &bytes);
            let mut derived = Vec::new();
            DaemonFrame::Message { topic, sequence, count, stamp, payload: &bytes }.encode(&mut derived);
            prop_assert_eq!(joined(&message), derived);
            prop_assert_eq!(message.payload(), &bytes);
            prop_assert_eq!(message.payload_slice(), &bytes[..]);

            let publish = encode_publish(alias, sequence, stamp, &bytes);
            let mut derived = Vec::new();
            ClientFrame::Publish { alias, number: sequence, stamp, payload: &bytes }.encode(&mut derived);
            prop_assert_eq!(joined(&publish), derived);

            let (mut derived, mut to_daemon) = (Vec::new(), Vec::new());
            DaemonFrame::Chunk { bytes: &bytes }.encode(&mut derived);
            ClientFrame::Chunk { bytes: &bytes }.encode(&mut to_daemon);
            prop_assert_eq!([&encode_chunk(false, bytes.len())[..], &bytes[..]].concat(), derived);
            prop_assert_eq!([&encode_chunk(true, bytes.len())[..], &bytes[..]].concat(), to_daemon);
        }
    }
}
