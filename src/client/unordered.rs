//! `Unordered` and `Realtime` subscriptions. Messages arrive in datagrams and on several streams, in
//! any order, and may be repeated or lost. The [`Receiver`] decides which are new and which to
//! request; this code feeds it and sends its repairs, while the subscription is polled.

use super::datagram_queue::DatagramQueue;
use super::delivery_stats::DeliveryStats;
use super::error::SubscribeError;
use super::message_stream::{Arrived, Fault, MessageStream};
use super::progress::{KnownTopic, Progress};
use super::reassembly::CompleteMessage;
use super::session_state::{Delivery, SessionState};
use crate::message::{CachedDigest, Event, Gap, Resumed};
use crate::wire::realtime::{Arrival, Due, HOLES, Receiver};
use crate::wire::{ClientFrame, DaemonFrame, GapCause, Refusal};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, Sleep};

// Returns the ranges without the sequences from `first` to `last`.
fn without(ranges: &[(u64, u64)], first: u64, last: u64) -> Vec<(u64, u64)> {
    let parts = ranges.iter().flat_map(|&(from, to)| {
        let before = (from, to.min(first.saturating_sub(1)));
        let after = (from.max(last.saturating_add(1)), to);
        [before, after].into_iter().filter(|(from, to)| from <= to)
    });
    parts.collect()
}

// An announced topic.
struct Topic {
    name: Arc<str>,
    epoch: u64,
    // The number of marks that preceded its newest event.
    marks: u64,
}

type Reading =
    Pin<Box<dyn Future<Output = (MessageStream, Result<Option<Arrived>, Fault>)> + Send + Sync>>;

/// The receiving end.
pub(super) struct UnorderedReceiver {
    state: Arc<SessionState>,
    request: u32,
    receiver: Receiver,
    // By id.
    topics: HashMap<u64, Topic>,
    ids: HashMap<Arc<str>, u64>,
    marks: u64,
    // By topic, the newest sequence that did not arrive on the subscription's stream, and that the
    // stream has not reported yet.
    ahead: HashMap<u64, u64>,
    queue: Arc<DatagramQueue>,
    streams: FuturesUnordered<Reading>,
    // Topic and sequence of the messages that are arriving on a stream, and need no repair.
    arriving: Vec<(u64, u64)>,
    ready: VecDeque<Event>,
    begun: Instant,
    timer: Pin<Box<Sleep>>,
    ended: Option<Refusal>,
    datagrams: u64,
}

fn read_next(mut stream: MessageStream) -> Reading {
    Box::pin(async move {
        let arrived = stream.next().await;
        (stream, arrived)
    })
}

impl UnorderedReceiver {
    pub(super) fn new(
        state: Arc<SessionState>,
        request: u32,
        queue: Arc<DatagramQueue>,
        (repair, deadline): (bool, Option<Duration>),
        marks: u64,
    ) -> Self {
        let begun = Instant::now();
        let deadline = deadline.map_or(0, |deadline| deadline.as_micros() as u64);
        Self {
            state,
            request,
            receiver: Receiver::new(repair, deadline),
            topics: HashMap::new(),
            ids: HashMap::new(),
            marks,
            ahead: HashMap::new(),
            queue,
            streams: FuturesUnordered::new(),
            arriving: Vec::new(),
            ready: VecDeque::new(),
            begun,
            timer: Box::pin(tokio::time::sleep_until(begun)),
            ended: None,
            datagrams: 0,
        }
    }

    pub(super) fn stats(&self) -> DeliveryStats {
        let stats = self.receiver.stats();
        DeliveryStats {
            datagrams: self.datagrams,
            repeated: stats.duplicates,
            asked: stats.asked,
            repaired: stats.repaired,
            late: stats.late,
        }
    }

    /// Returns whether any topic was announced.
    pub(super) fn has_topics(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Returns the progress in all topics. Those with an event since the last mark have to be named,
    /// and those with missing messages.
    pub(super) fn known_topics(&self) -> impl Iterator<Item = KnownTopic> {
        self.topics.iter().filter_map(|(id, Topic { name, epoch, marks })| {
            let named = *marks == self.marks || !self.receiver.is_complete(*id);
            let next = self.receiver.next(*id)?;
            // Events that the application has not taken count as missing.
            let below = [(0, next.saturating_sub(1))];
            let mut received = below.into_iter().chain(self.receiver.had(*id)).collect::<Vec<_>>();
            for event in &self.ready {
                let (of, first, last) = match event {
                    Event::Message(message) => {
                        ((&message.topic, message.epoch), message.sequence, message.sequence)
                    }
                    Event::Gap(gap) => ((&gap.topic, gap.epoch), gap.first, gap.last),
                    Event::Interrupted(_) => continue,
                };
                if of == (name, *epoch) {
                    received = without(&received, first, last);
                }
            }
            let next = received.remove(0).1 + 1;
            let resumed = Resumed { topic: name.clone(), epoch: *epoch, next, received };
            Some(KnownTopic { resumed, named })
        })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Returns the next event. `progress` is that of topics that are not announced.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        deliveries: &mut mpsc::Receiver<Delivery>,
        progress: &mut Progress,
    ) -> Poll<Result<Event, SubscribeError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if let Poll::Ready(frame) = self.queue.poll(context) {
                self.datagrams += 1;
                self.take(&frame, true, progress)?;
                continue;
            }
            match self.streams.poll_next_unpin(context) {
                Poll::Ready(Some((stream, Ok(Some(arrived))))) => {
                    self.streams.push(read_next(stream));
                    self.take_arrived(arrived, progress)?;
                    continue;
                }
                // The end of a stream does not end the subscription. An incomplete message is
                // dropped; the daemon reports its gap, or sends it again.
                Poll::Ready(Some((stream, Ok(None)))) => {
                    stream.arriving().into_iter().for_each(|of| self.stop_waiting(of));
                    continue;
                }
                Poll::Ready(Some((_, Err(fault)))) => {
                    return Poll::Ready(Err(self.state.fault(fault).into()));
                }
                Poll::Ready(None) if let Some(refusal) = self.ended.take() => {
                    return Poll::Ready(Err(SubscribeError::Refused(refusal)));
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            match deliveries.poll_recv(context) {
                Poll::Ready(Some(Delivery::Stream(stream))) => {
                    self.streams.push(read_next(stream));
                    continue;
                }
                // Only streams use this channel. Messages sent before the end may still arrive.
                Poll::Ready(Some(Delivery::Ended(_))) => continue,
                Poll::Ready(None) if self.ended.is_none() => match self.queue.take_end() {
                    Some(refusal) => {
                        self.ended = Some(refusal);
                        continue;
                    }
                    None => return Poll::Ready(Err(self.state.close_reason().into())),
                },
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(due) = self.receiver.due() else {
                return Poll::Pending;
            };
            if due <= self.now() && !self.queue.is_half_full() {
                self.request_repairs();
                continue;
            }
            self.timer.as_mut().reset(self.begun + Duration::from_micros(due));
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    // Sends the repairs that are due, and reports the gaps of sequences that passed the deadline.
    fn request_repairs(&mut self) {
        let mut due = Vec::new();
        self.receiver.poll(self.now(), self.state.rtt(), &mut due);
        for due in due {
            match due {
                Due::Ask { topic, mut holes, reliably } => {
                    for (_, sequence) in self.arriving.iter().filter(|(of, _)| *of == topic) {
                        holes = without(&holes, *sequence, *sequence);
                    }
                    // Holes beyond the limit become due again.
                    holes.truncate(HOLES);
                    if holes.is_empty() {
                        continue;
                    }
                    let mut out = Vec::new();
                    let subscription = self.request;
                    ClientFrame::Repair { subscription, topic, holes }.encode(&mut out);
                    let outbox = if reliably { &self.state.control } else { &self.state.datagrams };
                    outbox.push([out.into()]);
                }
                Due::Late { topic, first, last } => {
                    self.gap(topic, first, last, GapCause::Late);
                }
            }
        }
    }

    fn gap(&mut self, topic: u64, first: u64, last: u64, cause: GapCause) {
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.marks = self.marks;
            let (topic, epoch) = (topic.name.clone(), topic.epoch);
            self.ready.push_back(Event::Gap(Gap { topic, epoch, first, last, cause }));
        }
    }

    fn message(&mut self, message: CompleteMessage) {
        let (now, rtt) = (self.now(), self.state.rtt());
        if self.receiver.message(now, rtt, message.topic, message.sequence) == Arrival::New
            && let Some(topic) = self.topics.get_mut(&message.topic)
        {
            topic.marks = self.marks;
            self.ready.push_back(Event::Message(message.of(topic.name.clone(), topic.epoch)));
        }
    }

    fn stop_waiting(&mut self, of: (u64, u64)) {
        if let Some(at) = self.arriving.iter().position(|arriving| *arriving == of) {
            self.arriving.swap_remove(at);
        }
    }

    fn take_arrived(
        &mut self,
        arrived: Arrived,
        progress: &mut Progress,
    ) -> Result<(), SubscribeError> {
        match arrived {
            Arrived::Frame(frame) => return self.take(&frame, false, progress),
            Arrived::Begun(topic, sequence) => self.arriving.push((topic, sequence)),
            Arrived::Aborted(topic, sequence, _) => self.stop_waiting((topic, sequence)),
            Arrived::Complete(message) => {
                self.stop_waiting((message.topic, message.sequence));
                self.note_ahead(message.topic, message.sequence);
                self.message(message);
            }
        }
        Ok(())
    }

    // Records a message that did not arrive on the subscription's stream. It may have arrived before
    // a mark that precedes it on that stream.
    fn note_ahead(&mut self, topic: u64, sequence: u64) {
        let ahead = self.ahead.entry(topic).or_default();
        *ahead = sequence.max(*ahead);
    }

    // Records that the subscription's stream has reported the topic up to this sequence, so that a
    // later mark covers it.
    fn reported(&mut self, topic: u64, sequence: u64) {
        if self.ahead.get(&topic).is_some_and(|ahead| *ahead <= sequence) {
            self.ahead.remove(&topic);
        }
    }

    fn take(
        &mut self,
        frame: &Bytes,
        datagram: bool,
        progress: &mut Progress,
    ) -> Result<(), SubscribeError> {
        let decoded = DaemonFrame::decode(frame);
        let (now, rtt) = (self.now(), self.state.rtt());
        match decoded.map_err(|error| SubscribeError::Protocol(error.to_string()))? {
            DaemonFrame::Topic { id, .. } if self.topics.contains_key(&id) => {}
            DaemonFrame::Topic { id, epoch, next, name } => {
                // A topic that was forgotten and published again has a new id and epoch. Ids only
                // grow, so that an announcement with a lower id is out of date.
                if let Some(known) = self.ids.get(name).copied() {
                    if id < known {
                        return Ok(());
                    }
                    // The missing messages of the earlier topic will not arrive any more.
                    for (first, last) in self.receiver.gap(now, rtt, known, 1, u64::MAX) {
                        if last < u64::MAX - 1 {
                            self.gap(known, first, last, GapCause::Evicted);
                        }
                    }
                    self.topics.remove(&known);
                    self.ahead.remove(&known);
                    self.receiver.forget(known);
                }
                let received = progress.announced(name, epoch, next);
                let (name, marks): (Arc<str>, _) = (name.into(), self.marks);
                self.ids.insert(name.clone(), id);
                self.topics.insert(id, Topic { name, epoch, marks });
                self.receiver.topic(now, rtt, id, next, received);
            }
            DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                if datagram {
                    self.note_ahead(topic, sequence);
                } else {
                    self.reported(topic, sequence);
                }
                let (payload, digest) = (frame.slice_ref(payload), CachedDigest::default());
                self.message(CompleteMessage { topic, sequence, count, stamp, payload, digest });
            }
            // The sequences of an earlier epoch are used again.
            DaemonFrame::Gap { topic, first, last, cause: GapCause::Lost } => {
                self.gap(topic, first, last, GapCause::Lost);
            }
            DaemonFrame::Gap { topic, first, last, cause } => {
                self.reported(topic, last);
                let missing = self.receiver.gap(now, rtt, topic, first, last);
                if cause == GapCause::Had {
                    // An earlier session has received these, perhaps in an earlier epoch.
                    if let Some(topic) = self.topics.get_mut(&topic) {
                        topic.marks = self.marks;
                    }
                    return Ok(());
                }
                for (first, last) in missing {
                    self.gap(topic, first, last, cause);
                }
            }
            DaemonFrame::Head { topic, sequence } => {
                self.reported(topic, sequence);
                self.receiver.head(now, rtt, topic, sequence);
            }
            // Everything before the mark was delivered, or is known to be missing.
            DaemonFrame::Mark { position } => {
                progress.mark(position)?;
                self.marks = progress.marks();
                for topic in self.ahead.keys() {
                    if let Some(topic) = self.topics.get_mut(topic) {
                        topic.marks = self.marks;
                    }
                }
            }
            _ => {
                let what = "a frame that does not belong to a subscription";
                return Err(SubscribeError::Protocol(what.into()));
            }
        }
        Ok(())
    }
}
