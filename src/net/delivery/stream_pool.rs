//! Streams of one subscription that carry a message each, under way at the same time.

use super::large::Follow;
use super::stream::priority;
use super::{DeliveryContext, WindowGrant};
use crate::engine::MessageRef;
use crate::wire::{DaemonFrame, GapCause};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
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

// Which it was, and what is to be told if it was not completed.
type Sending = Pin<Box<dyn Future<Output = (InFlight, Option<LostMessage>)> + Send>>;

/// A message that the peer has, or does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    topic: u64,
    sequence: u64,
    large: bool,
}

/// A large message, to be read from the cache when its turn has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargeRef {
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    size: usize,
}

impl LargeRef {
    pub(crate) fn new(message: &MessageRef<'_>) -> Self {
        let (topic, sequence) = (message.topic_id(), message.sequence());
        Self { topic, sequence, size: message.size() }
    }
}

/// A large message that will not come.
pub(crate) struct LostMessage {
    pub(super) topic: u64,
    pub(super) sequence: u64,
    cause: GapCause,
    // The announcement of its topic, for a gap that stands alone.
    pub(super) head: Bytes,
}

impl LostMessage {
    /// The gap.
    pub(crate) fn frame(&self) -> Bytes {
        let Self { topic, sequence, cause, .. } = *self;
        DaemonFrame::Gap { topic, first: sequence, last: sequence, cause }.to_bytes()
    }
}

/// The streams under way.
pub(crate) struct StreamPool {
    context: Arc<DeliveryContext>,
    sending: FuturesUnordered<Sending>,
    under_way: Vec<InFlight>,
    // In order, with what goes before each.
    deferred: VecDeque<(LargeRef, [Bytes; 2])>,
    // To be told by whoever has the subscription's stream.
    lost: Vec<LostMessage>,
}

impl StreamPool {
    pub(crate) fn new(context: Arc<DeliveryContext>) -> Self {
        Self {
            context,
            sending: FuturesUnordered::new(),
            under_way: Vec::new(),
            deferred: VecDeque::new(),
            lost: Vec::new(),
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
    pub(crate) fn has(&self, far: LargeRef) -> bool {
        let under_way = self.under_way.iter().map(|sent| (sent.topic, sent.sequence));
        let deferred = self.deferred.iter().map(|(far, _)| (far.topic, far.sequence));
        under_way.chain(deferred).any(|other| other == (far.topic, far.sequence))
    }

    /// Those that will not come, since this was asked last.
    pub(crate) fn lost(&mut self) -> impl Iterator<Item = LostMessage> {
        self.lost.drain(..)
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
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
        self.lost.extend(gone);
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
    pub(crate) fn relay(&mut self, far: LargeRef, whose: Bytes, topic: Bytes) {
        if self.is_full_of_large() {
            self.deferred.push_back((far, [whose, topic]));
        } else {
            self.follow(far, [whose, topic]);
        }
    }

    fn follow(&mut self, far: LargeRef, [whose, head]: [Bytes; 2]) {
        let LargeRef { topic, sequence, size } = far;
        let follow = match Follow::begin(&self.context, topic, sequence) {
            Ok(follow) => follow,
            Err(cause) => return self.lost.push(LostMessage { topic, sequence, cause, head }),
        };
        let context = self.context.clone();
        let widened = WindowGrant::new(context.clone(), size.min(WIDENED) as u64);
        let sent = InFlight { topic, sequence, large: true };
        self.under_way.push(sent);
        self.sending.push(Box::pin(async move {
            let _widened = widened;
            let mut gone = None;
            if let Ok(mut tx) = context.connection.open_uni().await {
                tx.set_priority(priority(size));
                match follow.send(&mut tx, &whose, head.clone(), true).await {
                    Ok(None) => {
                        tx.finish();
                        tx.stopped().await;
                    }
                    Ok(Some(cause)) => gone = Some(LostMessage { topic, sequence, cause, head }),
                    // It wants no more, or is gone.
                    Err(_) => {}
                }
            }
            (sent, gone)
        }));
    }

    /// Sends what is not large on a stream of its own. The session notices what goes wrong.
    pub(super) fn send(
        &mut self,
        (topic, sequence): (u64, u64),
        mut pieces: [Bytes; 3],
        priority: i32,
    ) {
        let context = self.context.clone();
        let sent = InFlight { topic, sequence, large: false };
        self.under_way.push(sent);
        self.sending.push(Box::pin(async move {
            if let Ok(mut tx) = context.connection.open_uni().await {
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
