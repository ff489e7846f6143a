//! `Unordered` delivery over raw QUIC: a stream for each message, so that none waits for another.

use super::read::read_ended;
use super::stream::priority;
use super::stream_pool::{LargeRef, StreamPool};
use super::{DeliveryContext, DeliveryEnd};
use crate::engine::{Item, LargePayloads, ReadOptions, SubscriptionId, encode_item};
use crate::wire::{DaemonFrame, Encoded};
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;

/// Bytes taken from the cache under one lock, 16 KiB.
const BATCH: usize = 16 << 10;

enum Piece {
    Gap((u64, u64), Bytes),
    Message((u64, u64), Bytes, Encoded),
    // With the announcement of its topic.
    Large(LargeRef, Bytes),
}

/// Delivers until the subscription or the session ends.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
) -> DeliveryEnd {
    let mut pool = StreamPool::new(context.clone());
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut batch = Vec::new();
    let wanted = ReadOptions { large: LargePayloads::AnnounceOnly, ..BATCH.into() };
    loop {
        let mut take = |item: Item<'_>| {
            let mut head = whose.to_vec();
            item.topic().iter().for_each(|topic| encode_item(topic, &mut head));
            match &item {
                Item::Gap { id, first, .. } => {
                    encode_item(&item, &mut head);
                    batch.push(Piece::Gap((*id, *first), head.into()));
                }
                Item::Message(message) => {
                    let of = (message.topic_id(), message.sequence());
                    let encoded = message.encoded().cloned();
                    batch.extend(encoded.map(|encoded| Piece::Message(of, head.into(), encoded)));
                }
                Item::Large(message) => {
                    let topic = head.split_off(whose.len());
                    batch.push(Piece::Large(LargeRef::new(message), topic.into()));
                }
                // Said with each of what follows.
                _ => {}
            }
        };
        let mut next = poll_fn(|cx| context.broker.poll_read(id, cx, wanted, &mut take));
        let read = loop {
            tokio::select! {
                read = &mut next => break Some(read),
                () = pool.sent() => if pool.has_lost() { break None },
            }
        };
        for piece in batch.drain(..) {
            pool.room().await;
            match piece {
                Piece::Gap(of, head) => {
                    pool.send(of, [head, Bytes::new(), Bytes::new()], priority(0));
                }
                Piece::Message(of, head, message) => {
                    let (first, rest) = message.pieces();
                    let pieces = [head, first.clone(), rest.clone()];
                    pool.send(of, pieces, priority(message.size()));
                }
                Piece::Large(far, topic) => pool.relay(far, whose.clone(), topic),
            }
        }
        let ended = matches!(read, Some(Err(_)));
        while ended && !pool.is_empty() {
            pool.sent().await;
        }
        for lost in pool.lost().collect::<Vec<_>>() {
            let pieces = [whose.clone(), lost.head.clone(), lost.frame()];
            pool.send((lost.topic, lost.sequence), pieces, priority(0));
        }
        if let Some(Err(refusal)) = read {
            while !pool.is_empty() {
                pool.sent().await;
            }
            return read_ended(refusal);
        }
    }
}
