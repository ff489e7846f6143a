//! A stream for each message, so that none waits for another: `Unordered` delivery over raw QUIC,
//! and large payloads wherever the others go by datagram.

use super::large::Follow;
use super::ordered::fell_behind;
use crate::engine::{Item, Large, MessageRef, SubscriptionId, Wanted, encode_item};
use crate::net::session::Peer;
use crate::wire::{DaemonFrame, Encoded, GapCause, LARGE};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

/// Streams of one subscription that the peer does not have all of yet, and so messages a round
/// trip: 2,560 a second at 100 ms. A client may allow fewer, which its other subscriptions and
/// answers share: then they wait for it.
const STREAMS: usize = 256;

/// Of these, streams with a payload above [`LARGE`]: each pins a batch of it, and what is sent and
/// not acknowledged.
const LARGE_STREAMS: usize = 4;

/// Large ones that wait for their turn, and let small ones pass. They are read from the cache
/// again then, so that they pin nothing meanwhile.
const DEFERRED: usize = 64;

/// Bytes that may be sent of a large payload and not be acknowledged beyond what a session may have
/// anyway, 2 MiB: a client of ours takes half of that on one stream before it has read any.
const WIDENED: usize = 2 << 20;

/// Bytes taken from the cache under one lock, 16 KiB.
const BATCH: usize = 16 << 10;

/// Of several streams with something to send, those with less to send go first.
pub(crate) fn priority(size: usize) -> i32 {
    match size {
        0..=4096 => 0,
        4097..=LARGE => -1,
        _ => -2,
    }
}

// Which it was, and what is to be told if it was not completed.
type Sending = Pin<Box<dyn Future<Output = (Sent, Option<Gone>)> + Send>>;

/// A message that the peer has, or does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    topic: u64,
    sequence: u64,
    large: bool,
}

/// A large message, to be read from the cache when its turn has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Far {
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    size: usize,
}

impl Far {
    pub(crate) fn new(message: &MessageRef<'_>) -> Self {
        let (topic, sequence) = (message.topic_id(), message.sequence());
        Self { topic, sequence, size: message.size() }
    }
}

/// A large message that will not come.
pub(crate) struct Gone {
    topic: u64,
    sequence: u64,
    cause: GapCause,
    // The announcement of its topic, for a gap that stands alone.
    head: Bytes,
}

impl Gone {
    /// The gap.
    pub(crate) fn frame(&self) -> Bytes {
        let Self { topic, sequence, cause, .. } = *self;
        DaemonFrame::Gap { topic, first: sequence, last: sequence, cause }.to_bytes()
    }
}

/// The streams under way.
pub(crate) struct Apart {
    peer: Arc<Peer>,
    sending: FuturesUnordered<Sending>,
    under_way: Vec<Sent>,
    // In order, with what goes before each.
    deferred: VecDeque<(Far, [Bytes; 2])>,
    // To be told by whoever has the subscription's stream.
    gone: Vec<Gone>,
}

impl Apart {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            sending: FuturesUnordered::new(),
            under_way: Vec::new(),
            deferred: VecDeque::new(),
            gone: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= STREAMS || self.deferred.len() >= DEFERRED
    }

    fn is_full_of_large(&self) -> bool {
        self.under_way.iter().filter(|sent| sent.large).count() >= LARGE_STREAMS
    }

    /// Whether this message is on its way already, and will not be lost.
    pub(crate) fn has(&self, far: Far) -> bool {
        let under_way = self.under_way.iter().map(|sent| (sent.topic, sent.sequence));
        let deferred = self.deferred.iter().map(|(far, _)| (far.topic, far.sequence));
        under_way.chain(deferred).any(|other| other == (far.topic, far.sequence))
    }

    /// Those that will not come, since this was asked last.
    pub(crate) fn gaps(&mut self) -> impl Iterator<Item = Gone> {
        self.gone.drain(..)
    }

    /// Waits until one of them has been sent, or given up; forever when there is none.
    pub(crate) async fn sent(&mut self) {
        poll_fn(|context| self.poll_sent(context)).await;
    }

    /// As [`sent`](Self::sent).
    pub(crate) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sending.is_empty() {
            return Poll::Pending;
        }
        let Some((sent, gone)) = ready!(self.sending.poll_next_unpin(context)) else {
            return Poll::Pending;
        };
        self.under_way.retain(|other| *other != sent);
        self.gone.extend(gone);
        while !self.is_full_of_large()
            && let Some((far, head)) = self.deferred.pop_front()
        {
            self.follow(far, head);
        }
        Poll::Ready(())
    }

    /// Waits until there is room for one more.
    pub(crate) async fn room(&mut self) {
        while self.is_full() {
            self.sent().await;
        }
    }

    /// Sends a large message on a stream of its own, when its turn has come: after what says whose
    /// it is, and the announcement of its topic.
    pub(crate) fn relay(&mut self, far: Far, whose: Bytes, topic: Bytes) {
        if self.is_full_of_large() {
            self.deferred.push_back((far, [whose, topic]));
        } else {
            self.follow(far, [whose, topic]);
        }
    }

    fn follow(&mut self, far: Far, [whose, head]: [Bytes; 2]) {
        let Far { topic, sequence, size } = far;
        let follow = match Follow::begin(&self.peer, topic, sequence) {
            Ok(follow) => follow,
            Err(cause) => return self.gone.push(Gone { topic, sequence, cause, head }),
        };
        let peer = self.peer.clone();
        let widened = Widened::new(peer.clone(), size.min(WIDENED) as u64);
        let sent = Sent { topic, sequence, large: true };
        self.under_way.push(sent);
        self.sending.push(Box::pin(async move {
            let _widened = widened;
            let mut gone = None;
            if let Ok(mut tx) = peer.link.open_uni().await {
                tx.set_priority(priority(size));
                match follow.send(&mut tx, &whose, head.clone(), true).await {
                    Ok(None) => {
                        tx.finish();
                        tx.stopped().await;
                    }
                    Ok(Some(cause)) => gone = Some(Gone { topic, sequence, cause, head }),
                    // It wants no more, or is gone.
                    Err(_) => {}
                }
            }
            (sent, gone)
        }));
    }

    /// Sends what is not large on a stream of its own. The session notices what goes wrong.
    fn send(&mut self, (topic, sequence): (u64, u64), mut pieces: [Bytes; 3], priority: i32) {
        let peer = self.peer.clone();
        let sent = Sent { topic, sequence, large: false };
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
            (sent, None)
        }));
    }
}

// What is sent and not acknowledged is bounded, over all streams: a large payload would take all of
// that, and small ones wait for it. So it has room of its own.
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
        let mut all = self.peer.large.lock().unwrap_or_else(PoisonError::into_inner);
        *all = change(*all);
        self.peer.link.widen(*all);
    }
}

impl Drop for Widened {
    fn drop(&mut self) {
        self.change(|all| all - self.bytes);
    }
}

enum Piece {
    Gap((u64, u64), Bytes),
    Message((u64, u64), Bytes, Encoded),
    // With the announcement of its topic.
    Large(Far, Bytes),
}

/// Delivers until the subscription or the session ends.
pub(crate) async fn deliver(peer: Arc<Peer>, request: u32, id: SubscriptionId) {
    let mut apart = Apart::new(peer.clone());
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut batch = Vec::new();
    let wanted = Wanted { large: Large::Apart, ..BATCH.into() };
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
                    batch.push(Piece::Large(Far::new(message), topic.into()));
                }
                // Said with each of what follows.
                _ => {}
            }
        };
        let mut next = poll_fn(|context| peer.core.poll_read(id, context, wanted, &mut take));
        let read = loop {
            tokio::select! {
                read = &mut next => break Some(read),
                () = apart.sent() => if !apart.gone.is_empty() { break None },
            }
        };
        for piece in batch.drain(..) {
            apart.room().await;
            match piece {
                Piece::Gap(of, head) => {
                    apart.send(of, [head, Bytes::new(), Bytes::new()], priority(0));
                }
                Piece::Message(of, head, message) => {
                    let (first, rest) = message.pieces();
                    let pieces = [head, first.clone(), rest.clone()];
                    apart.send(of, pieces, priority(message.size()));
                }
                Piece::Large(far, topic) => apart.relay(far, whose.clone(), topic),
            }
        }
        let ended = matches!(read, Some(Err(_)));
        while ended && !apart.is_empty() {
            apart.sent().await;
        }
        for gone in std::mem::take(&mut apart.gone) {
            let pieces = [whose.clone(), gone.head.clone(), gone.frame()];
            apart.send((gone.topic, gone.sequence), pieces, priority(0));
        }
        if let Some(Err(refusal)) = read {
            while !apart.is_empty() {
                apart.sent().await;
            }
            return fell_behind(&peer, request, &refusal);
        }
    }
}
