//! `Realtime` delivery of one subscription, and `Unordered` over WebTransport.
//!
//! Each message goes in a datagram, and once more a few milliseconds later. Messages that do not
//! fit a datagram go on a stream. Messages that the receiver misses are sent again on request, from
//! the cache: it is the retransmission buffer.

mod datagrams;
pub(crate) mod head_notices;
pub(crate) mod path;
mod repair;
pub(crate) mod repair_queue;
pub(crate) mod sent_on_stream;

use super::marks::Marks;
use super::read::{read_ended, read_options, send_at_once};
use super::stream::{Stream, append_encoded};
use super::stream_pool::StreamPool;
use super::{DeliveryContext, DeliveryEnd};
use crate::broker::counters::Mode;
use crate::broker::owned_item::{LargeRef, OwnedItem, OwnedMessage, OwnedTopic};
use crate::broker::replaying::Replaying;
use crate::broker::throttle::ReplayBudget;
use crate::engine::{Item, LargePayloads, SubscriptionId};
use crate::net::error::WriteError;
use crate::wire::realtime::Repeats;
use crate::wire::{DaemonFrame, GapCause, Refusal};
use bytes::Bytes;
use head_notices::HeadNotices;
use path::PathMonitor;
use repair_queue::{Hole, RepairQueue};
use sent_on_stream::SentOnStream;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::{Duration, Sleep};

/// Bytes read under one lock, 32 KiB. A subscriber with that much to catch up on is not live, and
/// gets the batch on its stream, which has flow control.
const BATCH: usize = 32 << 10;

/// Bytes a second that may be repeated to one subscription, 64 KiB. That is three times the rate of
/// a publisher that sends 60 messages of 200 bytes a second.
const REPEATED: u64 = 64 << 10;

/// How a subscription is delivered.
#[derive(Debug)]
pub(crate) struct DatagramOptions {
    /// Older messages are skipped, µs. 0 skips none.
    pub(crate) max_age: u64,
    /// Datagrams omit the frame `For`. Without it they belong to the session's first subscription
    /// that is delivered in datagrams.
    pub(crate) implicit_subscription: bool,
    pub(crate) marks: Marks,
    /// The engine's position when the subscription began.
    pub(crate) position: u64,
}

/// A topic whose announcement may not have arrived yet. Datagrams repeat it until `until`, µs.
struct RecentTopic {
    id: u64,
    announcement: Bytes,
    until: u64,
}

struct Delivery {
    context: Arc<DeliveryContext>,
    implicit_subscription: bool,
    // The frame `For`, which precedes all others.
    for_request: Bytes,
    stream: Stream,
    // Gathered for the stream. Begins with `for_request`.
    pieces: Vec<Bytes>,
    pool: StreamPool,
    repeats: Repeats,
    monitor: PathMonitor,
    recent_topics: Vec<RecentTopic>,
    // Until when everything goes on the stream.
    in_order_until: u64,
    head_notices: HeadNotices,
    marks: Marks,
    // By topic, the newest large message since the last mark. Large messages have no other heads.
    newest_large: BTreeMap<u64, u64>,
    sent_on_stream: SentOnStream,
    replaying: Replaying,
    // Repairs wait for the session's budget until then.
    repair_gate: Option<Pin<Box<Sleep>>>,
    // Fires when a repeat or a head is due, and the time that it is set to.
    timer: Pin<Box<Sleep>>,
    timer_at: Option<u64>,
    // Read and not sent. Empty between two steps, and kept for its memory.
    batch: Vec<OwnedItem>,
    turn: Turn,
}

/// The work that the next step tries first. A subscription that always has something to read also
/// gets its repairs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Read,
    Others,
    // Nothing was left to read, and the broker wakes this task when there is more.
    Wait,
}

/// The work of one step.
enum Next {
    Read(Result<bool, Refusal>),
    Due,
    Repair(Hole),
    StreamDone,
}

/// Delivers until the subscription or the session ends.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
    options: DatagramOptions,
    repairs: Arc<RepairQueue>,
) -> DeliveryEnd {
    let for_request = DaemonFrame::For { request }.to_bytes();
    let mut delivery = Delivery {
        pool: StreamPool::new(context.clone()),
        context: context.clone(),
        implicit_subscription: options.implicit_subscription,
        pieces: vec![for_request.clone()],
        for_request,
        stream: Stream::default(),
        repeats: Repeats::new(REPEATED, true),
        monitor: PathMonitor::begin(),
        recent_topics: Vec::new(),
        in_order_until: 0,
        head_notices: HeadNotices::default(),
        marks: options.marks,
        newest_large: BTreeMap::new(),
        sent_on_stream: SentOnStream::default(),
        replaying: Replaying::new(options.position, Mode::Realtime),
        repair_gate: None,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        timer_at: None,
        batch: Vec::new(),
        turn: Turn::Read,
    };
    let end = delivery.run(&context, id, options.max_age, &repairs).await;
    if matches!(end, DeliveryEnd::Refused(_) | DeliveryEnd::Finished) {
        // Items read before the end are still written.
        let _ = delivery.flush().await;
    }
    end
}

/// Takes a hole to repair, once the session's budget has room for it.
fn poll_repair(
    repairs: &RepairQueue,
    gate: &mut Option<Pin<Box<Sleep>>>,
    replay: &ReplayBudget,
    context: &mut Context<'_>,
) -> Poll<Hole> {
    loop {
        if let Some(sleep) = gate {
            ready!(sleep.as_mut().poll(context));
            *gate = None;
        }
        let hole = ready!(repairs.poll(context));
        let Some(wait) = replay.wait() else {
            return Poll::Ready(hole);
        };
        repairs.put_back(hole);
        *gate = Some(Box::pin(tokio::time::sleep(wait)));
    }
}

/// Keeps an item. Returns the bytes that it adds to the batch. Large messages add none, because
/// they do not show that the peer is behind.
fn keep(item: &Item<'_>, batch: &mut Vec<OwnedItem>) -> usize {
    let item = OwnedItem::new(item);
    let bytes = match &item {
        Some(OwnedItem::Message(message)) => message.encoded.wire_len(),
        _ => 0,
    };
    batch.extend(item);
    bytes
}

impl Delivery {
    async fn run(
        &mut self,
        context: &Arc<DeliveryContext>,
        id: SubscriptionId,
        max_age: u64,
        repairs: &RepairQueue,
    ) -> DeliveryEnd {
        loop {
            if let Err(end) = self.step(context, id, max_age, repairs).await {
                return end;
            }
        }
    }

    async fn step(
        &mut self,
        context: &Arc<DeliveryContext>,
        id: SubscriptionId,
        max_age: u64,
        repairs: &RepairQueue,
    ) -> Result<(), DeliveryEnd> {
        let mut bytes = 0;
        let turn = std::mem::replace(&mut self.turn, Turn::Read);
        let next = self.next(id, max_age, repairs, turn, &mut bytes).await;
        match next {
            Next::Read(read) => {
                context.spend(&mut self.replaying);
                let (sent, at_once) =
                    send_at_once(context, pin!(self.send(id, bytes >= BATCH))).await;
                sent?;
                self.replaying.sent(context.broker.counters());
                let more = read.map_err(read_ended)?;
                // Nothing waited, so the next wake can only mean that there is more to read.
                self.turn = if more || !at_once { Turn::Others } else { Turn::Wait };
                Ok(())
            }
            Next::Due => self.send_due().await,
            // Rare branches are boxed, here and below. Unboxed, they would enlarge the future that
            // every step moves.
            Next::Repair(hole) => Box::pin(self.repair(id, hole, repairs)).await,
            Next::StreamDone => Ok(self.flush().await?),
        }
    }

    async fn next(
        &mut self,
        id: SubscriptionId,
        max_age: u64,
        repairs: &RepairQueue,
        mut turn: Turn,
        bytes: &mut usize,
    ) -> Next {
        let due = self.due();
        let gate = self.replaying.wait(&self.context.replay, &self.context.broker, id);
        // Boxed, because most subscriptions never wait here.
        let mut read_gate = gate.map(|wait| Box::pin(tokio::time::sleep(wait)));
        let Self { context, batch, timer, timer_at, pool, monitor, replaying, repair_gate, .. } =
            self;
        if let Some(due) = due
            && *timer_at != Some(due)
        {
            timer.as_mut().reset(monitor.at(due));
            *timer_at = Some(due);
        }
        let mut sink = |item: Item<'_>| {
            replaying.count(&item);
            *bytes += keep(&item, batch);
        };
        poll_fn(|cx| {
            let options = read_options(BATCH, max_age, LargePayloads::AnnounceOnly);
            let turn = std::mem::replace(&mut turn, Turn::Read);
            let waits = read_gate.as_mut().is_some_and(|gate| gate.as_mut().poll(cx).is_pending());
            if !waits
                && turn == Turn::Read
                && let Poll::Ready(read) = context.broker.poll_read(id, cx, options, &mut sink)
            {
                return Poll::Ready(Next::Read(read));
            }
            if due.is_some() && timer.as_mut().poll(cx).is_ready() {
                *timer_at = None;
                return Poll::Ready(Next::Due);
            }
            if let Poll::Ready(hole) = poll_repair(repairs, repair_gate, &context.replay, cx) {
                return Poll::Ready(Next::Repair(hole));
            }
            if pool.poll_done(cx).is_ready() {
                return Poll::Ready(Next::StreamDone);
            }
            if !waits
                && turn == Turn::Others
                && let Poll::Ready(read) = context.broker.poll_read(id, cx, options, &mut sink)
            {
                return Poll::Ready(Next::Read(read));
            }
            Poll::Pending
        })
        .await
    }

    fn due(&self) -> Option<u64> {
        match (self.repeats.due(), self.head_notices.due()) {
            (Some(repeat), Some(head)) => Some(repeat.min(head)),
            (repeat, head) => repeat.or(head),
        }
    }

    // Sends the batch. A peer that is behind gets all of it on the stream.
    async fn send(&mut self, id: SubscriptionId, behind: bool) -> Result<(), DeliveryEnd> {
        let now = self.monitor.now();
        self.monitor.sample(&self.context.connection, now);
        self.recent_topics.retain(|recent| recent.until > now);
        let mut batch = std::mem::take(&mut self.batch);
        let is_lost =
            |item: &OwnedItem| matches!(item, OwnedItem::Gap(gap) if gap.cause == GapCause::Lost);
        if batch.iter().any(is_lost) {
            // It is told once, to a client that shows what it has. No datagram may overtake it, as with
            // announcements.
            self.in_order_until = now + (3 * self.monitor.path.rtt).max(100_000);
        }
        let in_order = behind || now < self.in_order_until;
        let size = if in_order { 0 } else { self.monitor.datagram_size };
        self.marks.count(batch.len());
        for item in batch.drain(..) {
            match item {
                OwnedItem::Topic(topic) => {
                    let announcement = topic.frame();
                    self.pieces.push(announcement.clone());
                    // By then the stream has had time for three retransmissions.
                    let until = now + (3 * self.monitor.path.rtt).max(100_000);
                    self.recent_topics.push(RecentTopic { id: topic.id, announcement, until });
                }
                OwnedItem::Gap(gap) => self.pieces.push(gap.frame()),
                OwnedItem::Message(message) => self.send_message(now, size, message).await?,
                OwnedItem::Large(large, topic) => {
                    if self.marks.are_sent() {
                        self.newest_large.insert(large.topic, large.sequence);
                    }
                    let live = !self.replaying.is_old(large.position);
                    Box::pin(self.send_large(large, live, &topic)).await;
                }
            }
        }
        self.batch = batch;
        if self.marks.is_due() {
            self.mark(id);
        }
        Ok(self.flush().await?)
    }

    // Adds a mark. The newest sequence of each topic that was sent precedes it, so that the
    // receiver sees lost messages before the mark as holes.
    fn mark(&mut self, id: SubscriptionId) {
        let Some(mark) = self.marks.take(&self.context.broker, id) else {
            return;
        };
        let Self { head_notices, pieces, newest_large, .. } = self;
        let mut send = |topic, sequence| {
            pieces.push(DaemonFrame::Head { topic, sequence }.to_bytes());
        };
        head_notices.take_all(&mut send);
        let newest_large = std::mem::take(newest_large);
        newest_large.into_iter().for_each(|(topic, sequence)| send(topic, sequence));
        pieces.push(mark);
    }

    fn stream_message(&mut self, now: u64, message: &OwnedMessage) {
        append_encoded(&message.encoded, &mut self.pieces);
        self.sent_on_stream.push(now, message.topic, message.sequence);
    }

    // Sends a large message on a stream of its own.
    async fn send_large(&mut self, large: LargeRef, live: bool, topic: &OwnedTopic) {
        self.pool.wait_for_room().await;
        self.pool.send_large(large, live, [self.for_request.clone(), topic.frame()]);
    }

    // Writes what was gathered for the stream, and a gap for each large message that was lost.
    async fn flush(&mut self) -> Result<(), WriteError> {
        self.pieces.extend(self.pool.lost().map(|lost| lost.frame()));
        if self.pieces.len() > 1 {
            Box::pin(self.stream.write(&self.context, &mut self.pieces)).await?;
            self.pieces.clear();
            self.pieces.push(self.for_request.clone());
        }
        Ok(())
    }
}
