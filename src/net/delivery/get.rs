//! The answer to a `Get`.

use super::large::LargeTransfer;
use super::stream::priority;
use super::{DeliveryContext, DeliveryEnd, Sending};
use crate::engine::GetReply;
use crate::wire::{Code, LARGE, Refusal};
use bytes::Bytes;
use std::sync::Arc;

/// Sends the answer to a `Get`, on a stream of its own unless the transport is a WebSocket. `head`
/// holds the frames `For` and `Topic`.
pub(crate) async fn answer(
    context: Arc<DeliveryContext>,
    head: [Bytes; 2],
    message: GetReply,
) -> DeliveryEnd {
    let _sending = Sending::new(&context);
    let [for_request, topic] = head;
    context.replay.ready().await;
    match message {
        GetReply::Small(message) => {
            context.replay.spend_answer(message.size());
            let Ok(mut tx) = context.connection.open_uni().await else {
                return DeliveryEnd::ConnectionLost;
            };
            let (first, rest) = message.pieces();
            tx.set_priority(priority(message.size()));
            let mut pieces = [for_request, topic, first.clone(), rest.clone()];
            if tx.write_for(&mut pieces).await.is_ok() {
                tx.finish();
            }
        }
        GetReply::Large { topic: id, sequence } => {
            let Ok(transfer) = LargeTransfer::begin(&context, (id, sequence), false) else {
                let reason = "the message has just left the cache";
                return DeliveryEnd::Refused(Refusal::new(Code::EVICTED, reason));
            };
            let Ok(mut tx) = context.connection.open_uni().await else {
                return DeliveryEnd::ConnectionLost;
            };
            context.windows.raise_send(&context.connection);
            tx.set_priority(priority(LARGE + 1));
            if transfer.send(&mut tx, &for_request, topic, false).await.is_ok() {
                tx.finish();
            }
        }
    }
    DeliveryEnd::Finished
}
