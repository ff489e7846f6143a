//! The answer to a `Get`.

use super::large::Follow;
use super::stream::priority;
use super::{DeliveryContext, DeliveryEnd};
use crate::engine::GetReply;
use crate::wire::{Code, LARGE, Refusal};
use bytes::Bytes;
use std::sync::Arc;

/// Sends the answer to a get, on a stream of its own where there are streams. `head` says whom it
/// is for, and then the topic.
pub(crate) async fn answer(
    context: Arc<DeliveryContext>,
    head: [Bytes; 2],
    message: GetReply,
) -> DeliveryEnd {
    let [whose, topic] = head;
    match message {
        GetReply::Small(message) => {
            let Ok(mut tx) = context.connection.open_uni().await else {
                return DeliveryEnd::ConnectionLost;
            };
            let (first, rest) = message.pieces();
            tx.set_priority(priority(message.size()));
            let mut pieces = [whose, topic, first.clone(), rest.clone()];
            if tx.write_for(&mut pieces).await.is_ok() {
                tx.finish();
            }
        }
        GetReply::Large { topic: id, sequence } => {
            let Ok(follow) = Follow::begin(&context, id, sequence) else {
                let reason = "the message has just left the cache";
                return DeliveryEnd::Refused(Refusal::new(Code::EVICTED, reason));
            };
            let Ok(mut tx) = context.connection.open_uni().await else {
                return DeliveryEnd::ConnectionLost;
            };
            tx.set_priority(priority(LARGE + 1));
            if follow.send(&mut tx, &whose, topic, false).await.is_ok() {
                tx.finish();
            }
        }
    }
    DeliveryEnd::Finished
}
