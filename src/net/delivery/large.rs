//! A large message on its way to one peer: read as it arrives, a batch at a time, so that a slow
//! one pins no more than that.

use super::DeliveryContext;
use super::stream::{append_chunk, frame_of};
use crate::broker::subscription::Subscription;
use crate::engine::Item;
use crate::net::error::WriteError;
use crate::net::transport::stream::SendStream;
use crate::wire::{Code, Encoded, GapCause};
use bytes::Bytes;
use std::future::poll_fn;

/// Bytes read under one lock and handed to the stream at once, 64 KiB.
const BATCH: usize = 64 << 10;

/// One on its way to a peer.
pub(crate) struct Follow(Subscription);

impl Follow {
    /// Begins; or says why the message will not come.
    pub(crate) fn begin(
        context: &DeliveryContext,
        topic: u64,
        sequence: u64,
    ) -> Result<Self, GapCause> {
        Ok(Self(Subscription::follow(&context.broker, topic, sequence)?))
    }

    /// Sends all of it, after what says whose it is, and what else comes first. When it is aborted,
    /// its stream is reset, if that is wanted: then the reset may overtake whatever was said on it,
    /// so that it is to be told elsewhere; else the abort is said. Gives whether it was.
    pub(crate) async fn send(
        self,
        tx: &mut SendStream,
        whose: &Bytes,
        head: Bytes,
        resets: bool,
    ) -> Result<Option<GapCause>, WriteError> {
        let mut pieces = vec![whose.clone(), head];
        let (mut ended, mut aborted) = (false, None);
        while !ended {
            let read = poll_fn(|context| {
                self.0.poll_read(context, BATCH, &mut |item| match &item {
                    Item::Chunk(chunk) => append_chunk(chunk, &mut pieces),
                    Item::Message(message) => {
                        ended = true;
                        let encoded = message.encoded().map(Encoded::pieces);
                        pieces
                            .extend(encoded.into_iter().flat_map(|(a, b)| [a.clone(), b.clone()]));
                    }
                    _ => {
                        if let Item::Abort { code } = item {
                            aborted = Some(code);
                        }
                        ended = matches!(item, Item::End { .. } | Item::Abort { .. });
                        pieces.push(frame_of(&item));
                    }
                })
            });
            // It has ended otherwise, with the session.
            ended |= read.await.is_err();
            if let Some(code) = aborted
                && resets
            {
                tx.reset(code);
                break;
            }
            tx.write_for(&mut pieces).await?;
            pieces.clear();
            pieces.push(whose.clone());
        }
        Ok(aborted.map(cause))
    }
}

fn cause(code: Code) -> GapCause {
    if code == Code::EVICTED { GapCause::Evicted } else { GapCause::Aborted }
}
