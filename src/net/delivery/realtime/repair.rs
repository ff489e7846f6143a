//! Repairs: messages that the receiver misses, sent again from the cache.

use super::repair_queue::{Hole, RepairQueue};
use super::{BATCH, Delivery, DeliveryEnd};
use crate::broker::owned_item::{LargeRef, OwnedMessage, OwnedTopic};
use crate::engine::{Repaired, SubscriptionId};
use crate::wire::DaemonFrame;

/// Bytes that a hole counts as, besides the messages that are sent for it.
const HOLE: usize = 64;

impl Delivery {
    // Sends the messages of a hole again, as many as one batch holds. The rest goes back into the
    // queue.
    pub(super) async fn repair(
        &mut self,
        id: SubscriptionId,
        hole: Hole,
        repairs: &RepairQueue,
    ) -> Result<(), DeliveryEnd> {
        let Hole { topic, first, last, reliably } = hole;
        let (mut small, mut large, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let next = self.context.broker.with(|engine| {
            engine.repair(id, topic, (first, last), BATCH, &mut |item| match item {
                Repaired::Message(message) => {
                    bytes += message.size();
                    small.extend(OwnedMessage::new(&message));
                }
                Repaired::Large(message) => {
                    let topic = OwnedTopic::of(&message.announcement());
                    large.extend(topic.map(|topic| (LargeRef::new(&message), topic)));
                }
                Repaired::NotCached { first, last, cause } => {
                    gaps.push(DaemonFrame::Gap { topic, first, last, cause }.to_bytes());
                }
            })
        });
        self.context.replay.spend((bytes + HOLE) as u64);
        let counters = self.context.broker.counters();
        counters.repair_requests.add(1);
        counters.repaired.add((small.len() + large.len()) as u64);
        self.pieces.append(&mut gaps);
        let now = self.monitor.now();
        self.monitor.sample(&self.context.connection, now);
        let size = self.monitor.datagram_size;
        for (large, topic) in large {
            // A request in a datagram gets no large messages.
            if reliably && !self.pool.contains(large) {
                self.send_large(large, false, &topic).await;
            }
        }
        for message in small {
            let OwnedMessage { topic, sequence, ref encoded } = message;
            if reliably {
                if !self.sent_on_stream.is_in_flight(now, topic, sequence) {
                    self.stream_message(now, &message);
                }
            } else if !self.sent_on_stream.contains(topic, sequence) && encoded.wire_len() <= size {
                self.send_message(now, size, message).await?;
            }
        }
        self.flush().await?;
        if let Some(next) = next {
            repairs.put_back(Hole { first: next, ..hole });
        }
        Ok(())
    }
}
