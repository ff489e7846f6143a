//! What is sent: whole frames, some together in a message.

use super::BATCH;
use super::socket::SocketSink;
use crate::wire::frame_span;
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use std::task::{Context, Poll, Waker};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// One end of the channel; whoever writes has it to itself.
pub(super) struct Writer {
    sink: SocketSink,
    // The `For` frame that was said last.
    whose: Bytes,
    joined: BytesMut,
}

impl Writer {
    pub(super) fn new(sink: SocketSink) -> Self {
        Self { sink, whose: Bytes::new(), joined: BytesMut::new() }
    }

    /// Writes pieces, all of them whole frames together, as one message, or as several where they
    /// are many; with `whose`, the first piece says for whom the rest is, and is left out where
    /// that was said last. Given up half-way, it leaves whole messages behind.
    pub(super) async fn write(&mut self, pieces: &mut [Bytes], whose: bool) -> Result<(), Error> {
        let for_whom = pieces.first().filter(|_| whose).cloned();
        let mut pieces = match &for_whom {
            Some(whose) if *whose == self.whose => &mut pieces[1..],
            _ => pieces,
        };
        while !pieces.is_empty() {
            let (count, size) = first_message(pieces);
            let (message, rest) = pieces.split_at_mut(count);
            let message = match message {
                [piece] => std::mem::take(piece),
                // A buffer of this size is not kept.
                _ if size > 2 * BATCH => message.concat().into(),
                _ => {
                    self.joined.reserve(size);
                    message.iter().for_each(|piece| self.joined.extend_from_slice(piece));
                    self.joined.split().freeze()
                }
            };
            // What waits to be sent is bounded, answers to pings among it. A message always has
            // room, as nothing is before it.
            self.sink.flush().await?;
            self.sink.feed(Message::Binary(message)).await?;
            // From here on it is under way, whatever becomes of this future.
            if let Some(whose) = &for_whom {
                self.whose.clone_from(whose);
            }
            pieces = rest;
        }
        self.sink.flush().await
    }

    /// Says that this end closes, or answers that the other does.
    pub(super) async fn close(&mut self, close: CloseFrame) -> Result<(), Error> {
        self.sink.send(Message::Close(Some(close))).await
    }

    /// Asks for a sign of life, unless there is no room for it.
    pub(super) fn ping(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(())) = self.sink.poll_ready_unpin(&mut context) {
            // A channel that is broken is found out by reading.
            let _ = self.sink.start_send_unpin(Message::Ping(Bytes::new()));
            let _ = self.sink.poll_flush_unpin(&mut context);
        }
    }
}

/// How many of the pieces go into one message, and how many bytes these have: all, unless they are
/// more than a batch and there is a frame's end to cut at.
fn first_message(pieces: &[Bytes]) -> (usize, usize) {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    if total <= 2 * BATCH {
        return (pieces.len(), total);
    }
    // Pieces end where frames do, or a frame goes on in the next piece; its length stands whole in
    // one piece. `ahead`: how far the last frame reaches beyond the pieces so far.
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
        // Frames of one piece, as receipts come.
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
