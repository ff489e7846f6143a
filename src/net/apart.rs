//! A stream for each message, so that none waits for another: `Unordered` delivery over raw QUIC,
//! and large payloads wherever the others go by datagram.

use super::deliver::fell_behind;
use super::session::Peer;
use crate::engine::{Item, SubscriptionId, encode_item};
use crate::wire::{DaemonFrame, Encoded};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

/// Streams of one subscription that the peer does not have all of yet, and so messages a round
/// trip: 2,560 a second at 100 ms. A client may allow fewer, which its other subscriptions and
/// answers share: then they wait for it.
const STREAMS: usize = 256;

/// Of these, streams with a payload above [`LARGE`]: each pins it.
const LARGE_STREAMS: usize = 4;

/// Payloads above this are large: they would hold up others on a stream that they shared. 64 KiB.
pub(super) const LARGE: usize = 64 << 10;

/// Bytes taken from the cache under one lock, 16 KiB.
const BATCH: usize = 16 << 10;

/// Of several streams with something to send, those with less to send go first.
pub(super) fn priority(size: usize) -> i32 {
    match size {
        0..=4096 => 0,
        4097..=LARGE => -1,
        _ => -2,
    }
}

type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

/// A message that the peer has, or does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    topic: u64,
    sequence: u64,
    large: bool,
}

/// The streams under way.
pub(super) struct Apart {
    peer: Arc<Peer>,
    sending: FuturesUnordered<Sending>,
    under_way: Vec<Sent>,
}

impl Apart {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self { peer, sending: FuturesUnordered::new(), under_way: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= STREAMS
            || self.under_way.iter().filter(|sent| sent.large).count() >= LARGE_STREAMS
    }

    /// Whether this message is on its way already, and will not be lost.
    pub(super) fn has(&self, topic: u64, sequence: u64) -> bool {
        self.under_way.iter().any(|sent| (sent.topic, sent.sequence) == (topic, sequence))
    }

    /// Waits until one of them has been sent; forever when there is none.
    pub(super) async fn sent(&mut self) {
        match self.sending.next().await {
            Some(sent) => self.under_way.retain(|other| *other != sent),
            None => std::future::pending().await,
        }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&mut self) {
        while self.is_full() {
            self.sent().await;
        }
    }

    /// Sends a message on a stream of its own, after `head`. The session notices what goes wrong.
    pub(super) fn send(&mut self, topic: u64, sequence: u64, head: Bytes, message: Encoded) {
        let sent = Sent { topic, sequence, large: message.size() > LARGE };
        let (first, rest) = message.pieces();
        self.begin(sent, [head, first.clone(), rest.clone()], priority(message.size()));
    }

    fn begin(&mut self, sent: Sent, mut pieces: [Bytes; 3], priority: i32) {
        let peer = self.peer.clone();
        self.under_way.push(sent);
        self.sending.push(Box::pin(async move {
            if let Ok(mut tx) = peer.link.open_uni().await {
                tx.set_priority(priority);
                if tx.write(&mut pieces).await.is_ok() {
                    tx.finish();
                    drop(pieces);
                    tx.stopped().await;
                }
            }
            sent
        }));
    }
}

/// Delivers until the subscription or the session ends.
pub(super) async fn deliver(peer: Arc<Peer>, request: u32, id: SubscriptionId) {
    let mut apart = Apart::new(peer.clone());
    let mut whose = Vec::new();
    DaemonFrame::For { request }.encode(&mut whose);
    let mut batch: Vec<(Sent, [Bytes; 3], i32)> = Vec::new();
    loop {
        let mut take = |item: Item<'_>| {
            let mut head = whose.clone();
            encode_item(&item.topic(), &mut head);
            let (sent, pieces, size) = match &item {
                // Said with each of what follows.
                Item::Topic { .. } => return,
                Item::Gap { id, first, .. } => {
                    encode_item(&item, &mut head);
                    let sent = Sent { topic: *id, sequence: *first, large: false };
                    (sent, [head.into(), Bytes::new(), Bytes::new()], 0)
                }
                Item::Message(message) => {
                    let size = message.encoded().size();
                    let (first, rest) = message.encoded().pieces();
                    let (topic, sequence) = (message.topic_id(), message.sequence());
                    let pieces = [head.into(), first.clone(), rest.clone()];
                    (Sent { topic, sequence, large: size > LARGE }, pieces, size)
                }
            };
            batch.push((sent, pieces, priority(size)));
        };
        let mut next = poll_fn(|context| peer.core.poll_read(id, context, BATCH, &mut take));
        let read = loop {
            tokio::select! {
                read = &mut next => break read,
                () = apart.sent() => {}
            }
        };
        for (sent, pieces, priority) in batch.drain(..) {
            apart.room().await;
            apart.begin(sent, pieces, priority);
        }
        if let Err(refusal) = read {
            while !apart.is_empty() {
                apart.sent().await;
            }
            return fell_behind(&peer, request, &refusal);
        }
    }
}
