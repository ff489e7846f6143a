//! A large message on its way to one peer. It is read in batches while it arrives, so that a slow
//! peer pins one batch at most.

use super::DeliveryContext;
use super::stream::{append_chunk, frame_of};
use crate::broker::subscription::Subscription;
use crate::broker::throttle::ReplayBudget;
use crate::engine::Item;
use crate::net::error::WriteError;
use crate::net::transport::stream::SendStream;
use crate::wire::{Code, Encoded, GapCause};
use bytes::Bytes;
use std::future::poll_fn;
use tokio::time::sleep;

/// Bytes read under one lock and handed to the stream at once, 64 KiB.
const BATCH: usize = 64 << 10;

/// A subscription to exactly one large message, and its way onto a stream.
pub(crate) struct LargeTransfer {
    subscription: Subscription,
    // The topic's id, and the sequence.
    message: (u64, u64),
    // The budget for its bytes, unless it is delivered live.
    replay: Option<ReplayBudget>,
}

impl LargeTransfer {
    /// Subscribes to the message, or returns why it will not come. A message that is not delivered
    /// `live` waits for the session's budget.
    pub(crate) fn begin(
        context: &DeliveryContext,
        (topic, sequence): (u64, u64),
        live: bool,
    ) -> Result<Self, GapCause> {
        let subscription = Subscription::follow(&context.broker, topic, sequence)?;
        Ok(Self {
            subscription,
            message: (topic, sequence),
            replay: (!live).then(|| context.replay.clone()),
        })
    }

    /// Sends the frame `For`, then `head`, then all of the message. Returns the cause if the
    /// message was aborted.
    ///
    /// With `resets`, an abort resets the stream. A reset may overtake what was written before it,
    /// so the caller sends the gap elsewhere. Without it, the frame `Abort` goes on the stream.
    pub(crate) async fn send(
        self,
        tx: &mut SendStream,
        for_request: &Bytes,
        head: Bytes,
        resets: bool,
    ) -> Result<Option<GapCause>, WriteError> {
        let mut pieces = vec![for_request.clone(), head];
        let (mut ended, mut aborted) = (false, None);
        while !ended {
            if let Some(wait) = self.replay.as_ref().and_then(ReplayBudget::wait) {
                sleep(wait).await;
                continue;
            }
            let mut bytes = 0;
            let read = poll_fn(|context| {
                self.subscription.poll_read(context, BATCH, &mut |item| match &item {
                    Item::Chunk(chunk) => {
                        bytes += chunk.len();
                        append_chunk(chunk, &mut pieces);
                    }
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
            // A failed read means that the subscription ended with its session.
            ended |= read.await.is_err();
            if let Some(replay) = &self.replay {
                replay.spend(bytes as u64);
            }
            if let Some(code) = aborted
                && resets
            {
                tx.reset(code);
                break;
            }
            tx.write_for(&mut pieces).await?;
            pieces.clear();
            pieces.push(for_request.clone());
        }
        let (topic, sequence) = self.message;
        Ok(aborted.map(|code| match code {
            Code::EVICTED => self.subscription.why_missing(topic, sequence),
            _ => GapCause::Aborted,
        }))
    }
}
