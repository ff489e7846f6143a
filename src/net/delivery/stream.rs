//! The stream of one subscription, and how items become bytes for it.

use super::DeliveryContext;
use crate::engine::{Item, encode_item};
use crate::net::error::WriteError;
use crate::net::transport::stream::SendStream;
use crate::wire::{Encoded, LARGE, encode_chunk};
use bytes::Bytes;

/// A subscription's stream, opened by the first write. It is finished however its delivery ends.
/// Bytes written before still arrive, and the last frame may be incomplete.
#[derive(Default)]
pub(crate) struct Stream(Option<SendStream>);

impl Stream {
    /// Writes pieces, of which the first is the frame `For`. It is left out where the peer knows
    /// the request.
    pub(crate) async fn write(
        &mut self,
        context: &DeliveryContext,
        pieces: &mut [Bytes],
    ) -> Result<(), WriteError> {
        let tx = match &mut self.0 {
            Some(tx) => tx,
            None => self
                .0
                .insert(context.connection.open_uni().await.map_err(WriteError::ConnectionLost)?),
        };
        tx.write_for(pieces).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tx) = &mut self.0 {
            tx.finish();
        }
    }
}

/// The priority of a stream with `size` bytes to send. Smaller payloads go first.
pub(crate) fn priority(size: usize) -> i32 {
    match size {
        0..=4096 => 0,
        4097..=LARGE => -1,
        _ => -2,
    }
}

/// Appends a chunk's frame.
pub(crate) fn append_chunk(chunk: &Bytes, pieces: &mut Vec<Bytes>) {
    pieces.push(encode_chunk(false, chunk.len()));
    pieces.push(chunk.clone());
}

/// Appends a message's bytes.
pub(crate) fn append_encoded(message: &Encoded, pieces: &mut Vec<Bytes>) {
    let (head, body) = message.pieces();
    pieces.push(head.clone());
    if !body.is_empty() {
        pieces.push(body.clone());
    }
}

/// An item's frame.
pub(crate) fn frame_of(item: &Item<'_>) -> Bytes {
    let mut frame = Vec::with_capacity(64);
    encode_item(item, &mut frame);
    frame.into()
}
