//! The stream of one subscription, and how items become bytes for it.

use super::DeliveryContext;
use crate::engine::{Item, encode_item};
use crate::net::error::WriteError;
use crate::net::transport::stream::SendStream;
use crate::wire::{Encoded, LARGE, encode_chunk};
use bytes::Bytes;

/// A subscription's stream, opened when there is something to write. It is finished however its
/// delivery ends: what was written before still arrives, perhaps with a frame cut short at its end.
#[derive(Default)]
pub(crate) struct Stream(Option<SendStream>);

impl Stream {
    /// Writes pieces, of which the first says whose they are; what the peer knows is left out.
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

/// Of several streams with something to send, those with less to send go first.
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
