//! The streams of one subscription that carry one message each, several at the same time.

use super::large::LargeTransfer;
use super::stream::priority;
use super::{DeliveryContext, Sending, WindowGrant};
use crate::broker::owned_item::LargeRef;
use crate::wire::{DaemonFrame, GapCause};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Maximum number of streams that the peer has not received completely. It bounds the messages per
/// round trip: 2,560 a second at 100 ms. A client may allow fewer streams, which its other
/// subscriptions and answers share; messages then wait for a free one.
const STREAMS: usize = 256;

/// Maximum number of these with a payload above [`LARGE`](crate::wire::LARGE). Each pins a batch of
/// it, and what is sent and not acknowledged.
const LARGE_STREAMS: usize = 4;

/// Maximum number of large messages that wait for a stream while small ones pass them. They are
/// read from the cache when their turn comes, so that they pin nothing until then.
const DEFERRED: usize = 64;

/// Bytes of a large payload that may be sent and not acknowledged beyond the session's window,
/// 2 MiB. Our own clients receive half of that on one stream before they read any.
const EXTRA_WINDOW: usize = 2 << 20;

// Resolves to the message, and to its loss if it was not completed.
type Transfer = Pin<Box<dyn Future<Output = (InFlight, Option<LostMessage>)> + Send>>;

/// A message whose stream is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    topic: u64,
    sequence: u64,
    large: bool,
}

/// A large message that will not be completed.
pub(crate) struct LostMessage {
    pub(super) topic: u64,
    pub(super) sequence: u64,
    cause: GapCause,
    // The announcement of its topic, for a gap that is sent on a stream of its own.
    pub(super) head: Bytes,
}

impl LostMessage {
    /// The frame `Gap`.
    pub(crate) fn frame(&self) -> Bytes {
        let Self { topic, sequence, cause, .. } = *self;
        DaemonFrame::Gap { topic, first: sequence, last: sequence, cause }.to_bytes()
    }
}

/// The open streams.
pub(crate) struct StreamPool {
    context: Arc<DeliveryContext>,
    sending: FuturesUnordered<Transfer>,
    in_flight: Vec<InFlight>,
    // In order, each with whether it is live, and the frames `For` and `Topic` that precede it.
    deferred: VecDeque<(LargeRef, bool, [Bytes; 2])>,
    // The owner of the subscription's stream sends their gaps.
    lost: Vec<LostMessage>,
}

impl StreamPool {
    pub(crate) fn new(context: Arc<DeliveryContext>) -> Self {
        Self {
            context,
            sending: FuturesUnordered::new(),
            in_flight: Vec::new(),
            deferred: VecDeque::new(),
            lost: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= STREAMS || self.deferred.len() >= DEFERRED
    }

    fn is_full_of_large(&self) -> bool {
        self.in_flight.iter().filter(|sent| sent.large).count() >= LARGE_STREAMS
    }

    /// Whether the message is in flight or waits for a stream.
    pub(crate) fn contains(&self, large: LargeRef) -> bool {
        let in_flight = self.in_flight.iter().map(|sent| (sent.topic, sent.sequence));
        let deferred = self.deferred.iter().map(|(large, ..)| (large.topic, large.sequence));
        in_flight.chain(deferred).any(|other| other == (large.topic, large.sequence))
    }

    /// Drains the messages that will not be completed.
    pub(crate) fn lost(&mut self) -> impl Iterator<Item = LostMessage> {
        self.lost.drain(..)
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Waits until one of the streams is done, completed or not. Waits forever if none is open.
    pub(crate) async fn done(&mut self) {
        poll_fn(|context| self.poll_done(context)).await;
    }

    /// The same as [`done`](Self::done), as a poll.
    pub(crate) fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sending.is_empty() {
            return Poll::Pending;
        }
        let Some((sent, lost)) = ready!(self.sending.poll_next_unpin(context)) else {
            return Poll::Pending;
        };
        self.in_flight.retain(|other| *other != sent);
        self.lost.extend(lost);
        while !self.is_full_of_large()
            && let Some((large, live, head)) = self.deferred.pop_front()
        {
            self.open_large(large, live, head);
        }
        Poll::Ready(())
    }

    /// Waits until there is room for one more message.
    pub(crate) async fn wait_for_room(&mut self) {
        if self.in_flight.len() > STREAMS / 8 {
            // They may wait for a window.
            self.context.windows.raise_send(&self.context.connection);
        }
        while self.is_full() {
            self.done().await;
        }
    }

    /// Whether a small message or a gap is being sent, and was not received.
    pub(crate) fn is_sending(&self, (topic, sequence): (u64, u64)) -> bool {
        self.in_flight.contains(&InFlight { topic, sequence, large: false })
    }

    /// Waits until the gaps of a topic were received, or will not be, and removes them.
    pub(crate) async fn received(&mut self, gaps: &mut Vec<(u64, u64)>, topic: u64) {
        // Mostly there are none.
        while let Some(at) = gaps.iter().position(|gap| gap.0 == topic) {
            while self.is_sending(gaps[at]) {
                self.done().await;
            }
            gaps.swap_remove(at);
        }
    }

    /// Sends a large message on a stream of its own, as soon as one is free. The frames `For` and
    /// `Topic` precede it. One that is not `live` waits for the session's budget.
    pub(crate) fn send_large(&mut self, large: LargeRef, live: bool, head: [Bytes; 2]) {
        if self.is_full_of_large() {
            self.deferred.push_back((large, live, head));
        } else {
            self.open_large(large, live, head);
        }
    }

    fn open_large(&mut self, large: LargeRef, live: bool, [for_request, head]: [Bytes; 2]) {
        let LargeRef { topic, sequence, size, .. } = large;
        let transfer = match LargeTransfer::begin(&self.context, (topic, sequence), live) {
            Ok(transfer) => transfer,
            Err(cause) => return self.lost.push(LostMessage { topic, sequence, cause, head }),
        };
        let context = self.context.clone();
        let grant = WindowGrant::new(context.clone(), size.min(EXTRA_WINDOW) as u64);
        let sending = Sending::new(&context);
        let sent = InFlight { topic, sequence, large: true };
        self.in_flight.push(sent);
        self.sending.push(Box::pin(async move {
            let (_grant, _sending) = (grant, sending);
            let mut lost = None;
            if let Ok(mut tx) = context.connection.open_uni().await {
                tx.set_priority(priority(size));
                match transfer.send(&mut tx, &for_request, head.clone(), true).await {
                    Ok(None) => {
                        tx.finish();
                        tx.stopped().await;
                    }
                    Ok(Some(cause)) => lost = Some(LostMessage { topic, sequence, cause, head }),
                    // The peer stopped the stream, or the connection was lost.
                    Err(_) => {}
                }
            }
            (sent, lost)
        }));
    }

    /// Sends a small message or a gap on a stream of its own. Errors are not reported here, because
    /// the session sees them too.
    pub(super) fn send(
        &mut self,
        (topic, sequence): (u64, u64),
        mut pieces: [Bytes; 3],
        priority: i32,
    ) {
        let sending = Sending::new(&self.context);
        let sent = InFlight { topic, sequence, large: false };
        self.in_flight.push(sent);
        self.sending.push(Box::pin(async move {
            if let Ok(mut tx) = sending.0.connection.open_uni().await {
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
