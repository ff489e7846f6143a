//! Writes whole frames, several to a message.

use super::socket::{BATCH, SocketSink};
use crate::wire::frame_span;
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use std::task::{Context, Poll, Waker};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The sending half of the channel. One task at a time writes.
pub(super) struct Writer {
    sink: SocketSink,
    // The last `For` frame that was written.
    last_for: Bytes,
    joined: BytesMut,
}

impl Writer {
    pub(super) fn new(sink: SocketSink) -> Self {
        Self { sink, last_for: Bytes::new(), joined: BytesMut::new() }
    }

    /// Writes pieces, which together are whole frames, as one message or several. With
    /// `begins_with_for`, the first piece is a `For` frame, and is left out if the last one was the
    /// same. A cancelled write leaves whole messages behind.
    pub(super) async fn write(
        &mut self,
        pieces: &mut [Bytes],
        begins_with_for: bool,
    ) -> Result<(), Error> {
        let for_request = pieces.first().filter(|_| begins_with_for).cloned();
        let mut pieces = match &for_request {
            Some(frame) if *frame == self.last_for => &mut pieces[1..],
            _ => pieces,
        };
        while !pieces.is_empty() {
            let (count, size) = first_message(pieces);
            let (message, rest) = pieces.split_at_mut(count);
            let message = match message {
                [piece] => std::mem::take(piece),
                // A buffer of this size would not be kept.
                _ if size > 2 * BATCH => message.concat().into(),
                _ => {
                    self.joined.reserve(size);
                    message.iter().for_each(|piece| self.joined.extend_from_slice(piece));
                    self.joined.split().freeze()
                }
            };
            // The write buffer is bounded, and also holds answers to pings. After a flush it is
            // empty, and has room for any message.
            self.sink.flush().await?;
            self.sink.feed(Message::Binary(message)).await?;
            // From here on the message is sent, even if this future is dropped.
            if let Some(frame) = &for_request {
                self.last_for.clone_from(frame);
            }
            pieces = rest;
        }
        self.sink.flush().await
    }

    /// Sends a close frame, or the answer to the peer's.
    pub(super) async fn close(&mut self, close: CloseFrame) -> Result<(), Error> {
        self.sink.send(Message::Close(Some(close))).await
    }

    /// Sends a ping, unless the socket has no room for it.
    pub(super) fn ping(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(())) = self.sink.poll_ready_unpin(&mut context) {
            // Errors are ignored, because reading reports a broken channel.
            let _ = self.sink.start_send_unpin(Message::Ping(Bytes::new()));
            let _ = self.sink.poll_flush_unpin(&mut context);
        }
    }
}

/// Returns the number of pieces that go into one message, and their bytes. It is all of them up to
/// two batches. Beyond that, the message ends after the first batch, where a frame ends.
fn first_message(pieces: &[Bytes]) -> (usize, usize) {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    if total <= 2 * BATCH {
        return (pieces.len(), total);
    }
    // A frame may continue in the next piece, but its length is always in one piece. `ahead` is the
    // number of bytes of the last frame beyond the pieces so far.
    let (mut size, mut ahead) = (0, 0);
    for (index, piece) in pieces.iter().enumerate() {
        let mut at = ahead.min(piece.len());
        ahead -= at;
        while at < piece.len() {
            let Ok(Some(span)) = frame_span(&piece[at..]) else {
                return (pieces.len(), total);
            };
            ahead = (at + span).saturating_sub(piece.len());
            at += span;
        }
        size += piece.len();
        if size >= BATCH && ahead == 0 {
            return (index + 1, size);
        }
    }
    (pieces.len(), total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_publish;

    #[test]
    fn many_frames_are_several_messages_each_of_whole_ones() {
        let sizes = [10, 5000, 70_000, 3, 1 << 20, 200, 4096, 4097, 60_000, 60_000, 60_000, 1];
        let mut pieces = Vec::new();
        for size in sizes {
            let frame = encode_publish(1, 1, 0, &vec![7; size].into());
            let (head, body) = frame.pieces();
            pieces.extend([head.clone(), body.clone()].into_iter().filter(|p| !p.is_empty()));
        }
        // Two frames in one piece, as with receipts.
        pieces.push([pieces[0].clone(), pieces[0].clone()].concat().into());
        let all: Vec<u8> = pieces.concat();
        let (mut messages, mut rest) = (Vec::new(), &pieces[..]);
        while !rest.is_empty() {
            let (count, size) = first_message(rest);
            let message = rest[..count].concat();
            assert_eq!(message.len(), size);
            let mut at = 0;
            while at < message.len() {
                at += frame_span(&message[at..]).unwrap().unwrap();
            }
            assert_eq!(at, message.len(), "a message ends where a frame does");
            messages.push(message);
            rest = &rest[count..];
        }
        assert!(messages.len() > 3, "{} messages", messages.len());
        assert_eq!(messages.concat(), all);
    }
}
