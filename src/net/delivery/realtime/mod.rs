//! `Realtime` delivery of one subscription, and `Unordered` over WebTransport: in datagrams, once
//! more a few milliseconds later, and again when asked for; what does not fit goes by stream.
//! Nothing is kept for a repair: the cache is the retransmission buffer.

pub(crate) mod batch;
pub(crate) mod head_notices;
pub(crate) mod path;
pub(crate) mod repair_queue;
pub(crate) mod sent_on_stream;

use super::marks::Marks;
use super::read::{at_once, read_ended, wanted};
use super::stream::{Stream, append_encoded, frame_of};
use super::stream_pool::{LargeRef, StreamPool};
use super::{DeliveryContext, DeliveryEnd};
use crate::engine::{Item, LargePayloads, Repaired, SubscriptionId};
use crate::net::error::{ConnectionLost, WriteError};
use crate::wire::realtime::Repeats;
use crate::wire::{DaemonFrame, Encoded, Refusal};
use batch::{Piece, SmallMessage, take};
use bytes::Bytes;
use head_notices::HeadNotices;
use path::PathMonitor;
use repair_queue::{Hole, RepairQueue};
use sent_on_stream::SentOnStream;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::time::{Duration, Sleep};

/// Bytes read under one lock, 32 KiB. Whoever has that much to catch up with is not live, and is
/// served by stream, which holds back by itself.
const BATCH: usize = 32 << 10;

/// Bytes a second that may be repeated to one subscription, 64 KiB: three times what a sender of
/// 60 messages of 200 bytes a second needs.
const REPEATED: u64 = 64 << 10;

/// Repeats that come so much later than they are due are left out, 5 ms, in µs: the daemon has more
/// to do than it can, and who misses something asks.
const LATE: u64 = 5_000;

/// How a subscription is to be carried.
#[derive(Debug)]
pub(crate) struct DatagramOptions {
    /// Pass over what is older, µs; 0 is none.
    pub(crate) deadline: u64,
    /// Datagrams need not say whose they are.
    pub(crate) bare: bool,
    pub(crate) marks: Marks,
}

struct Delivery {
    context: Arc<DeliveryContext>,
    bare: bool,
    // Says whose the rest is.
    whose: Bytes,
    stream: Stream,
    pieces: Vec<Bytes>,
    pool: StreamPool,
    repeats: Repeats,
    watch: PathMonitor,
    // Announcements that may not have arrived yet, and until when they go along.
    recent: Vec<(u64, Bytes, u64)>,
    heads: HeadNotices,
    marks: Marks,
    // Of large ones, which have no heads otherwise, the newest since the last mark.
    large: BTreeMap<u64, u64>,
    streamed: SentOnStream,
    // For when something is due, and what it is set to.
    timer: Pin<Box<Sleep>>,
    set: Option<u64>,
    // Read, and not sent yet: empty between two steps, kept for its memory.
    batch: Vec<Piece>,
    turn: Turn,
}

/// What comes first in the next step: who always has something to read is to be repaired too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Read,
    Others,
    // There was nothing more to read, and whoever adds to it wakes this task.
    Wait,
}

/// What there is to do.
enum Next {
    Read(Result<bool, Refusal>),
    Due,
    RepairQueue(Hole),
    Sent,
}

/// Delivers until the subscription or the session ends.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
    carriage: DatagramOptions,
    asked: Arc<RepairQueue>,
) -> DeliveryEnd {
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut delivery = Delivery {
        pool: StreamPool::new(context.clone()),
        context,
        bare: carriage.bare,
        pieces: vec![whose.clone()],
        whose,
        stream: Stream::default(),
        repeats: Repeats::new(REPEATED, true),
        watch: PathMonitor::begin(),
        recent: Vec::new(),
        heads: HeadNotices::default(),
        marks: carriage.marks,
        large: BTreeMap::new(),
        streamed: SentOnStream::default(),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        set: None,
        batch: Vec::new(),
        turn: Turn::Read,
    };
    let end = delivery.run(id, carriage.deadline, &asked).await;
    if matches!(end, DeliveryEnd::Refused(_) | DeliveryEnd::Finished) {
        // What was read before is still written.
        let _ = delivery.flush().await;
    }
    end
}

impl Delivery {
    async fn run(&mut self, id: SubscriptionId, deadline: u64, asked: &RepairQueue) -> DeliveryEnd {
        loop {
            if let Err(end) = self.step(id, deadline, asked).await {
                return end;
            }
        }
    }

    async fn step(
        &mut self,
        id: SubscriptionId,
        deadline: u64,
        asked: &RepairQueue,
    ) -> Result<(), DeliveryEnd> {
        let mut taken = 0;
        let turn = std::mem::replace(&mut self.turn, Turn::Read);
        let next = self.next(id, deadline, asked, turn, &mut taken).await;
        match next {
            Next::Read(read) => {
                let (sent, at_once) = at_once(pin!(self.send(id, taken >= BATCH))).await;
                sent?;
                let more = read.map_err(read_ended)?;
                // Sent without waiting: nobody can have woken this task for anything else.
                self.turn = if more || !at_once { Turn::Others } else { Turn::Wait };
                Ok(())
            }
            Next::Due => self.tick().await,
            // In boxes, here and below, is what is rare: all else is moved about with each step.
            Next::RepairQueue(hole) => Box::pin(self.repair(id, hole, asked)).await,
            Next::Sent => Ok(self.flush().await?),
        }
    }

    async fn next(
        &mut self,
        id: SubscriptionId,
        deadline: u64,
        asked: &RepairQueue,
        mut turn: Turn,
        taken: &mut usize,
    ) -> Next {
        let due = self.due();
        let Self { context, batch, timer, set, pool, watch, .. } = self;
        if let Some(due) = due
            && *set != Some(due)
        {
            timer.as_mut().reset(watch.at(due));
            *set = Some(due);
        }
        let mut take = |item: Item<'_>| *taken += take(&item, batch);
        poll_fn(|cx| {
            let wanted = wanted(BATCH, deadline, LargePayloads::AnnounceOnly);
            let turn = std::mem::replace(&mut turn, Turn::Read);
            if turn == Turn::Read
                && let Poll::Ready(read) = context.broker.poll_read(id, cx, wanted, &mut take)
            {
                return Poll::Ready(Next::Read(read));
            }
            if due.is_some() && timer.as_mut().poll(cx).is_ready() {
                *set = None;
                return Poll::Ready(Next::Due);
            }
            if let Poll::Ready(hole) = asked.poll(cx) {
                return Poll::Ready(Next::RepairQueue(hole));
            }
            if pool.poll_sent(cx).is_ready() {
                return Poll::Ready(Next::Sent);
            }
            if turn == Turn::Others
                && let Poll::Ready(read) = context.broker.poll_read(id, cx, wanted, &mut take)
            {
                return Poll::Ready(Next::Read(read));
            }
            Poll::Pending
        })
        .await
    }

    fn due(&self) -> Option<u64> {
        match (self.repeats.due(), self.heads.due()) {
            (Some(repeat), Some(head)) => Some(repeat.min(head)),
            (repeat, head) => repeat.or(head),
        }
    }

    // Sends what was read.
    async fn send(&mut self, id: SubscriptionId, behind: bool) -> Result<(), DeliveryEnd> {
        let now = self.watch.now();
        self.watch.sample(&self.context.connection, now);
        self.recent.retain(|(_, _, until)| *until > now);
        let size = if behind { 0 } else { self.watch.size };
        let mut batch = std::mem::take(&mut self.batch);
        self.marks.count(batch.len());
        for piece in batch.drain(..) {
            match piece {
                Piece::Topic(topic, frame) => {
                    self.pieces.push(frame.clone());
                    // The stream has been lost three times over before this is not enough.
                    let until = now + (3 * self.watch.path.rtt).max(100_000);
                    self.recent.push((topic, frame, until));
                }
                Piece::Gap(frame) => self.pieces.push(frame),
                Piece::Message(told) => self.message(now, size, told).await?,
                Piece::Large(far, name) => {
                    if self.marks.are_told() {
                        self.large.insert(far.topic, far.sequence);
                    }
                    Box::pin(self.send_apart(far, &name)).await;
                }
            }
        }
        self.batch = batch;
        if self.marks.are_due() {
            self.mark(id);
        }
        Ok(self.flush().await?)
    }

    // Says how far it has come, after the newest sequence of each topic that it has come to: so
    // what is lost of them is a hole.
    fn mark(&mut self, id: SubscriptionId) {
        let Some(mark) = self.marks.take(&self.context.broker, id) else {
            return;
        };
        let Self { heads, pieces, large, .. } = self;
        let mut tell = |topic, sequence| {
            pieces.push(DaemonFrame::Head { topic, sequence }.to_bytes());
        };
        heads.pop_all(&mut tell);
        std::mem::take(large).into_iter().for_each(|(topic, sequence)| tell(topic, sequence));
        pieces.push(mark);
    }

    async fn message(
        &mut self,
        now: u64,
        size: usize,
        told: SmallMessage,
    ) -> Result<(), ConnectionLost> {
        let SmallMessage { topic, sequence, message } = told;
        let name = self.recent.iter().find(|(id, _, _)| *id == topic).map(|(_, frame, _)| frame);
        let head = if self.bare { 0 } else { self.whose.len() } + name.map_or(0, Bytes::len);
        if head + message.wire_len() > size {
            self.stream_message(now, topic, sequence, &message);
            return Ok(());
        }
        let known = name.is_none();
        let (frame, _) = message.pieces();
        let mut pieces = [Bytes::new(), Bytes::new(), Bytes::new()];
        let mut count = 0;
        let whose = (!self.bare).then_some(&self.whose);
        for piece in whose.into_iter().chain(name).chain([frame]) {
            pieces[count] = piece.clone();
            count += 1;
        }
        self.context.connection.send_datagram(&pieces[..count]).await?;
        if self.watch.path.is_long() {
            self.repeats.push(now, self.watch.path.rtt, topic, frame.clone());
        }
        self.heads.sent(now, topic, sequence, known, &self.watch.path);
        Ok(())
    }

    fn stream_message(&mut self, now: u64, topic: u64, sequence: u64, message: &Encoded) {
        append_encoded(message, &mut self.pieces);
        self.streamed.push(now, topic, sequence);
    }

    // A large payload gets a stream of its own.
    async fn send_apart(&mut self, far: LargeRef, name: &Bytes) {
        self.pool.room().await;
        self.pool.relay(far, self.whose.clone(), name.clone());
    }

    // Writes what has been gathered for the stream, and which large ones will not come.
    async fn flush(&mut self) -> Result<(), WriteError> {
        self.pieces.extend(self.pool.lost().map(|lost| lost.frame()));
        if self.pieces.len() > 1 {
            Box::pin(self.stream.write(&self.context, &mut self.pieces)).await?;
            self.pieces.clear();
            self.pieces.push(self.whose.clone());
        }
        Ok(())
    }

    // Repeats and heads that are due.
    async fn tick(&mut self) -> Result<(), DeliveryEnd> {
        let now = self.watch.now();
        if let Some(due) = self.repeats.due().filter(|due| *due <= now) {
            self.watch.sample(&self.context.connection, now);
            if self.watch.congested
                || now - due > LATE
                || self.context.connection.datagrams_blocked()
            {
                self.repeats.skip_due(now);
            } else {
                self.repeat(now).await?;
            }
        }
        let Self { context, watch, pieces, .. } = self;
        self.heads.pop(
            now,
            || watch.look(&context.connection, now),
            |topic, sequence| {
                pieces.push(DaemonFrame::Head { topic, sequence }.to_bytes());
            },
        );
        self.flush().await?;
        Ok(())
    }

    async fn repeat(&mut self, now: u64) -> Result<(), ConnectionLost> {
        let size = self.watch.size;
        let head = if self.bare { 0 } else { self.whose.len() };
        let names: usize = self.recent.iter().map(|(_, frame, _)| frame.len()).sum();
        let mut pieces = Vec::new();
        if !self.bare {
            pieces.push(self.whose.clone());
        }
        // Topics that are new are told again, if that leaves room.
        let head = if head + names < size / 2 {
            pieces.extend(self.recent.iter().map(|(_, frame, _)| frame.clone()));
            head + names
        } else {
            head
        };
        let room = size.saturating_sub(head);
        if self.repeats.pop(now, room, &mut pieces) {
            self.context.connection.send_datagram(&pieces).await?;
        }
        Ok(())
    }

    async fn repair(
        &mut self,
        id: SubscriptionId,
        hole: Hole,
        asked: &RepairQueue,
    ) -> Result<(), DeliveryEnd> {
        let Hole { topic, first, last, reliably } = hole;
        let (mut found, mut large, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let next = self.context.broker.with(|engine| {
            engine.repair(id, topic, (first, last), BATCH, &mut |item| match item {
                Repaired::Message(message) => found.extend(SmallMessage::new(&message)),
                Repaired::Large(message) => {
                    large.push((LargeRef::new(&message), frame_of(&message.announcement())));
                }
                Repaired::NotCached { first, last, cause } => {
                    gone.push(DaemonFrame::Gap { topic, first, last, cause }.to_bytes());
                }
            })
        });
        self.pieces.append(&mut gone);
        let now = self.watch.now();
        self.watch.sample(&self.context.connection, now);
        let size = self.watch.size;
        for (far, name) in large {
            // In datagrams there is no answer to that.
            if reliably && !self.pool.has(far) {
                self.send_apart(far, &name).await;
            }
        }
        for told in found {
            let SmallMessage { topic, sequence, ref message } = told;
            if reliably {
                if !self.streamed.is_under_way(now, topic, sequence) {
                    self.stream_message(now, topic, sequence, message);
                }
            } else if !self.streamed.has(topic, sequence) && message.wire_len() <= size {
                self.message(now, size, told).await?;
            }
        }
        self.flush().await?;
        if let Some(next) = next {
            asked.put_back(Hole { first: next, ..hole });
        }
        Ok(())
    }
}
