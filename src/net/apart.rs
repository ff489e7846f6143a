//! A stream for each message, so that none waits for another: `Unordered` delivery over raw QUIC,
//! and large payloads wherever the others go by datagram.

use super::deliver::fell_behind;
use super::session::Peer;
use crate::engine::{Item, Repaired, SubscriptionId, encode_item};
use crate::wire::{DaemonFrame, Encoded, GapCause};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

/// Streams of one subscription that the peer does not have all of yet, and so messages a round
/// trip: 2,560 a second at 100 ms. A client may allow fewer, which its other subscriptions and
/// answers share: then they wait for it.
const STREAMS: usize = 256;

/// Of these, streams with a payload above [`LARGE`]: each pins it.
const LARGE_STREAMS: usize = 4;

/// Large ones that wait for their turn, and let small ones pass. They are read from the cache
/// again then, so that they pin nothing meanwhile.
const DEFERRED: usize = 64;

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
    id: SubscriptionId,
    sending: FuturesUnordered<Sending>,
    under_way: Vec<Sent>,
    // In order, with what goes before each.
    deferred: VecDeque<(Sent, Bytes)>,
}

impl Apart {
    pub(super) fn new(peer: Arc<Peer>, id: SubscriptionId) -> Self {
        Self {
            peer,
            id,
            sending: FuturesUnordered::new(),
            under_way: Vec::new(),
            deferred: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= STREAMS || self.deferred.len() >= DEFERRED
    }

    fn is_full_of_large(&self) -> bool {
        self.under_way.iter().filter(|sent| sent.large).count() >= LARGE_STREAMS
    }

    /// Whether this message is on its way already, and will not be lost.
    pub(super) fn has(&self, topic: u64, sequence: u64) -> bool {
        let mut all = self.under_way.iter().chain(self.deferred.iter().map(|(sent, _)| sent));
        all.any(|sent| (sent.topic, sent.sequence) == (topic, sequence))
    }

    /// Waits until one of them has been sent; forever when there is none.
    pub(super) async fn sent(&mut self) {
        match self.sending.next().await {
            Some(sent) => {
                self.under_way.retain(|other| *other != sent);
                self.resume();
            }
            None => std::future::pending().await,
        }
    }

    // Sends what waits for its turn, if that has come.
    fn resume(&mut self) {
        while !self.is_full_of_large()
            && let Some((sent, head)) = self.deferred.pop_front()
        {
            let Sent { topic, sequence, .. } = sent;
            let mut found = None;
            let peer = self.peer.clone();
            peer.core.with(|engine| {
                engine.repair(self.id, topic, (sequence, sequence), 0, &mut |item| {
                    if let Repaired::Message(message) = item {
                        found = Some(message.encoded().clone());
                    }
                })
            });
            match found {
                Some(message) => self.begin(sent, pieces(head, &message), priority(message.size())),
                None => {
                    let (first, last, cause) = (sequence, sequence, GapCause::Evicted);
                    let gap = DaemonFrame::Gap { topic, first, last, cause };
                    let sent = Sent { large: false, ..sent };
                    self.begin(sent, [head, gap.to_bytes(), Bytes::new()], priority(0));
                }
            }
        }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&mut self) {
        while self.is_full() {
            self.sent().await;
        }
    }

    /// Sends a message on a stream of its own, after `head`. The session notices what goes wrong.
    pub(super) fn send(&mut self, topic: u64, sequence: u64, head: Bytes, message: &Encoded) {
        let sent = Sent { topic, sequence, large: message.size() > LARGE };
        if sent.large && self.is_full_of_large() {
            self.deferred.push_back((sent, head));
        } else {
            self.begin(sent, pieces(head, message), priority(message.size()));
        }
    }

    fn begin(&mut self, sent: Sent, mut pieces: [Bytes; 3], priority: i32) {
        let peer = self.peer.clone();
        let bytes = if sent.large { pieces.iter().map(Bytes::len).sum() } else { 0 };
        let widened = Widened::new(peer.clone(), bytes as u64);
        self.under_way.push(sent);
        self.sending.push(Box::pin(async move {
            let _widened = widened;
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

// What is sent and not acknowledged is bounded, over all streams: a large payload would take all of
// that, and small ones wait for it. So it has room of its own; its bytes are pinned here anyway.
struct Widened {
    peer: Arc<Peer>,
    bytes: u64,
}

impl Widened {
    fn new(peer: Arc<Peer>, bytes: u64) -> Self {
        let widened = Self { peer, bytes };
        widened.change(|all| all + bytes);
        widened
    }

    fn change(&self, change: impl FnOnce(u64) -> u64) {
        if self.bytes > 0 {
            let mut all = self.peer.large.lock().unwrap_or_else(PoisonError::into_inner);
            *all = change(*all);
            self.peer.link.widen(*all);
        }
    }
}

impl Drop for Widened {
    fn drop(&mut self) {
        self.change(|all| all - self.bytes);
    }
}

fn pieces(head: Bytes, message: &Encoded) -> [Bytes; 3] {
    let (first, rest) = message.pieces();
    [head, first.clone(), rest.clone()]
}

enum Piece {
    Gap(Sent, Bytes),
    Message(u64, u64, Bytes, Encoded),
}

/// Delivers until the subscription or the session ends.
pub(super) async fn deliver(peer: Arc<Peer>, request: u32, id: SubscriptionId) {
    let mut apart = Apart::new(peer.clone(), id);
    let mut whose = Vec::new();
    DaemonFrame::For { request }.encode(&mut whose);
    let mut batch = Vec::new();
    loop {
        let mut take = |item: Item<'_>| {
            let mut head = whose.clone();
            encode_item(&item.topic(), &mut head);
            batch.push(match &item {
                // Said with each of what follows.
                Item::Topic { .. } => return,
                Item::Gap { id, first, .. } => {
                    encode_item(&item, &mut head);
                    Piece::Gap(Sent { topic: *id, sequence: *first, large: false }, head.into())
                }
                Item::Message(message) => {
                    let (topic, sequence) = (message.topic_id(), message.sequence());
                    Piece::Message(topic, sequence, head.into(), message.encoded().clone())
                }
            });
        };
        let mut next = poll_fn(|context| peer.core.poll_read(id, context, BATCH, &mut take));
        let read = loop {
            tokio::select! {
                read = &mut next => break read,
                () = apart.sent() => {}
            }
        };
        for piece in batch.drain(..) {
            apart.room().await;
            match piece {
                Piece::Gap(sent, head) => {
                    apart.begin(sent, [head, Bytes::new(), Bytes::new()], priority(0));
                }
                Piece::Message(topic, sequence, head, message) => {
                    apart.send(topic, sequence, head, &message);
                }
            }
        }
        if let Err(refusal) = read {
            while !apart.is_empty() {
                apart.sent().await;
            }
            return fell_behind(&peer, request, &refusal);
        }
    }
}
