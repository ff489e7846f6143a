//! `Unordered` delivery over raw QUIC: each message has a stream of its own, so that no message
//! waits for another.

use super::read::read_ended;
use super::stream::priority;
use super::stream_pool::StreamPool;
use super::{DeliveryContext, DeliveryEnd};
use crate::broker::counters::Mode;
use crate::broker::owned_item::{OwnedItem, OwnedMessage, OwnedTopic};
use crate::broker::replaying::Replaying;
use crate::engine::{Item, LargePayloads, ReadOptions, SubscriptionId};
use crate::wire::{DaemonFrame, GapCause};
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::sleep;

/// Bytes read under one lock, 16 KiB.
const BATCH: usize = 16 << 10;

/// Delivers until the subscription or the session ends. The subscription began at `position`.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
    position: u64,
) -> DeliveryEnd {
    let mut replaying = Replaying::new(position, Mode::Unordered);
    let mut pool = StreamPool::new(context.clone());
    let for_request = DaemonFrame::For { request }.to_bytes();
    // With the announcement of its topic, which each stream repeats.
    let mut batch: Vec<(OwnedTopic, OwnedItem)> = Vec::new();
    // Gaps that the peer may not have received, and that no message of their topics may overtake.
    let mut told: Vec<(u64, u64)> = Vec::new();
    let options = ReadOptions { large: LargePayloads::AnnounceOnly, ..BATCH.into() };
    loop {
        while let Some(wait) = replaying.wait(&context.replay, &context.broker, id) {
            // Streams that are open go on.
            let mut wait = Box::pin(sleep(wait));
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    () = pool.done() => {}
                }
            }
        }
        let mut keep = |item: Item<'_>| {
            replaying.count(&item);
            batch.extend(OwnedTopic::of(&item).zip(OwnedItem::new(&item)));
        };
        let mut next = poll_fn(|cx| context.broker.poll_read(id, cx, options, &mut keep));
        let read = loop {
            tokio::select! {
                read = &mut next => break Some(read),
                () = pool.done() => if pool.has_lost() { break None },
            }
        };
        context.spend(&mut replaying);
        for (topic, item) in batch.drain(..) {
            // One allocation for all that precedes the message.
            let head = || {
                let mut head = Vec::with_capacity(for_request.len() + 64);
                head.extend_from_slice(&for_request);
                topic.encode(&mut head);
                head
            };
            match item {
                OwnedItem::Gap(gap) => {
                    pool.wait_for_room().await;
                    let pieces = [head().into(), gap.frame(), Bytes::new()];
                    pool.send((topic.id, gap.first), pieces, priority(0));
                    if gap.cause == GapCause::Lost {
                        // It is told once, to a client that shows what it has. If a message of the
                        // new epoch overtook it and the session ended then, it would never be told.
                        told.retain(|gap| pool.is_sending(*gap));
                        told.push((topic.id, gap.first));
                    }
                }
                OwnedItem::Message(OwnedMessage { topic: id, sequence, encoded }) => {
                    pool.received(&mut told, id).await;
                    pool.wait_for_room().await;
                    let (first, rest) = encoded.pieces();
                    let pieces = [head().into(), first.clone(), rest.clone()];
                    pool.send((id, sequence), pieces, priority(encoded.size()));
                }
                OwnedItem::Large(large, topic) => {
                    pool.received(&mut told, large.topic).await;
                    pool.wait_for_room().await;
                    let live = !replaying.is_old(large.position);
                    pool.send_large(large, live, [for_request.clone(), topic.frame()]);
                }
                // Each stream repeats it.
                OwnedItem::Topic(_) => {}
            }
        }
        replaying.sent(context.broker.counters());
        let ended = matches!(read, Some(Err(_)));
        while ended && !pool.is_empty() {
            pool.done().await;
        }
        for lost in pool.lost().collect::<Vec<_>>() {
            let pieces = [for_request.clone(), lost.head.clone(), lost.frame()];
            pool.send((lost.topic, lost.sequence), pieces, priority(0));
        }
        if let Some(Err(refusal)) = read {
            while !pool.is_empty() {
                pool.done().await;
            }
            return read_ended(refusal);
        }
    }
}
