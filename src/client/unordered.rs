//! `Unordered` and `Realtime` subscriptions: messages come in datagrams and on several streams, in
//! any order, perhaps twice or not at all. The [`Receiver`] decides what is new and what is to be
//! asked for; this feeds it, and sends what it asks. Nothing happens here unless it is polled.

use super::datagram_queue::Inbox;
use super::driver::Delivery;
use super::message_stream::{Arrived, Fault, Incoming};
use super::progress::Place;
use super::reassembly::CompleteMessage;
use super::{SessionState, SubscribeError};
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

/// What has come, and how, in a subscription that is not `Ordered`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryStats {
    /// Messages that came in datagrams, copies included.
    pub datagrams: u64,
    /// Copies of what had come before: early repeats, and repairs that were not needed.
    pub repeated: u64,
    /// Times that something was asked for again.
    pub asked: u64,
    /// Messages that came after they had been asked for.
    pub repaired: u64,
    /// Sequences given up for the deadline, and told as gaps.
    pub late: u64,
}

// Ranges without what lies from `first` to `last`.
fn without(ranges: &[(u64, u64)], first: u64, last: u64) -> Vec<(u64, u64)> {
    let parts = ranges.iter().flat_map(|&(from, to)| {
        let before = (from, to.min(first.saturating_sub(1)));
        let after = (from.max(last.saturating_add(1)), to);
        [before, after].into_iter().filter(|(from, to)| from <= to)
    });
    parts.collect()
}

// A topic that was announced.
struct Named {
    name: Arc<str>,
    epoch: u64,
    // Marks that stood before what was last handed out of it.
    marks: u64,
}

type Reading = Pin<Box<dyn Future<Output = (Incoming, Result<Option<Arrived>, Fault>)> + Send>>;

/// The receiving end.
pub(super) struct UnorderedReceiver {
    shared: Arc<SessionState>,
    request: u32,
    receiver: Receiver,
    // By id.
    names: HashMap<u64, Named>,
    ids: HashMap<Arc<str>, u64>,
    marks: u64,
    // By topic, the newest sequence that came in another way than on the subscription's stream, which
    // has not told of it yet.
    ahead: HashMap<u64, u64>,
    inbox: Arc<Inbox>,
    streams: FuturesUnordered<Reading>,
    // Topic and sequence of what has begun on one of them: nothing to ask for.
    arriving: Vec<(u64, u64)>,
    ready: VecDeque<Event>,
    begun: Instant,
    timer: Pin<Box<Sleep>>,
    ended: Option<Refusal>,
    datagrams: u64,
}

fn read(mut incoming: Incoming) -> Reading {
    Box::pin(async move {
        let arrived = incoming.next().await;
        (incoming, arrived)
    })
}

impl UnorderedReceiver {
    pub(super) fn new(
        shared: Arc<SessionState>,
        request: u32,
        inbox: Arc<Inbox>,
        repair: bool,
        deadline: Option<Duration>,
    ) -> Self {
        let begun = Instant::now();
        let deadline = deadline.map_or(0, |deadline| deadline.as_micros() as u64);
        Self {
            shared,
            request,
            receiver: Receiver::new(repair, deadline),
            names: HashMap::new(),
            ids: HashMap::new(),
            marks: 0,
            ahead: HashMap::new(),
            inbox,
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

    /// Whether any topic was announced.
    pub(super) fn has_heard_of_topics(&self) -> bool {
        !self.names.is_empty()
    }

    /// How far it has come in the topics that it has heard of since the last mark, and in those
    /// of which something is missing.
    pub(super) fn places(&self) -> impl Iterator<Item = Resumed> {
        let named = self
            .names
            .iter()
            .filter(|(id, named)| named.marks == self.marks || !self.receiver.is_complete(**id));
        named.filter_map(|(id, Named { name, epoch, .. })| {
            let next = self.receiver.next(*id)?;
            // What was not handed out yet was not had.
            let below = [(0, next.saturating_sub(1))];
            let mut had = below.into_iter().chain(self.receiver.had(*id)).collect::<Vec<_>>();
            for event in &self.ready {
                let (of, first, last) = match event {
                    Event::Message(message) => {
                        ((&message.topic, message.epoch), message.sequence, message.sequence)
                    }
                    Event::Gap(gap) => ((&gap.topic, gap.epoch), gap.first, gap.last),
                };
                if of == (name, *epoch) {
                    had = without(&had, first, last);
                }
            }
            let next = had.remove(0).1 + 1;
            Some(Resumed { topic: name.clone(), epoch: *epoch, next, had })
        })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// The next event. `place` is how far it has come in topics that it has not heard of.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        deliveries: &mut mpsc::Receiver<Delivery>,
        place: &mut Place,
    ) -> Poll<Result<Event, SubscribeError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if let Poll::Ready(frame) = self.inbox.poll(context) {
                self.datagrams += 1;
                self.take(&frame, true, place)?;
                continue;
            }
            match self.streams.poll_next_unpin(context) {
                Poll::Ready(Some((incoming, Ok(Some(arrived))))) => {
                    self.streams.push(read(incoming));
                    self.take_arrived(arrived, place)?;
                    continue;
                }
                // Its end is not the subscription's. What it had of a message is of no use: the
                // daemon tells the gap, or sends it once more.
                Poll::Ready(Some((incoming, Ok(None)))) => {
                    incoming.arriving().into_iter().for_each(|of| self.arrives_no_more(of));
                    continue;
                }
                Poll::Ready(Some((_, Err(fault)))) => {
                    return Poll::Ready(Err(self.shared.fault(fault).into()));
                }
                Poll::Ready(None) if let Some(refusal) = self.ended.take() => {
                    return Poll::Ready(Err(SubscribeError::Refused(refusal)));
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            match deliveries.poll_recv(context) {
                Poll::Ready(Some(Delivery::Stream(incoming))) => {
                    self.streams.push(read(incoming));
                    continue;
                }
                // Only streams come this way. What was sent before the end may still come.
                Poll::Ready(Some(Delivery::Ended(_))) => continue,
                Poll::Ready(None) if self.ended.is_none() => match self.inbox.take_end() {
                    Some(refusal) => {
                        self.ended = Some(refusal);
                        continue;
                    }
                    None => return Poll::Ready(Err(self.shared.why().into())),
                },
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(due) = self.receiver.due() else {
                return Poll::Pending;
            };
            if due <= self.now() && !self.inbox.is_half_full() {
                self.ask();
                continue;
            }
            self.timer.as_mut().reset(self.begun + Duration::from_micros(due));
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    // Sends the repairs that are due, and gives up what is.
    fn ask(&mut self) {
        let mut due = Vec::new();
        self.receiver.poll(self.now(), self.shared.rtt(), &mut due);
        for due in due {
            match due {
                Due::Ask { topic, mut holes, reliably } => {
                    for (_, sequence) in self.arriving.iter().filter(|(of, _)| *of == topic) {
                        holes = without(&holes, *sequence, *sequence);
                    }
                    // What is left out is due again.
                    holes.truncate(HOLES);
                    if holes.is_empty() {
                        continue;
                    }
                    let mut out = Vec::new();
                    let subscription = self.request;
                    ClientFrame::Repair { subscription, topic, holes }.encode(&mut out);
                    let way = if reliably { &self.shared.control } else { &self.shared.datagrams };
                    way.push([out.into()]);
                }
                Due::Late { topic, first, last } => {
                    self.gap(topic, first, last, GapCause::Late);
                }
            }
        }
    }

    fn gap(&mut self, topic: u64, first: u64, last: u64, cause: GapCause) {
        if let Some(named) = self.names.get_mut(&topic) {
            named.marks = self.marks;
            let (topic, epoch) = (named.name.clone(), named.epoch);
            self.ready.push_back(Event::Gap(Gap { topic, epoch, first, last, cause }));
        }
    }

    fn message(&mut self, whole: CompleteMessage) {
        let (now, rtt) = (self.now(), self.shared.rtt());
        if self.receiver.message(now, rtt, whole.topic, whole.sequence) == Arrival::New
            && let Some(named) = self.names.get_mut(&whole.topic)
        {
            named.marks = self.marks;
            self.ready.push_back(Event::Message(whole.of(named.name.clone(), named.epoch)));
        }
    }

    fn arrives_no_more(&mut self, of: (u64, u64)) {
        if let Some(at) = self.arriving.iter().position(|arriving| *arriving == of) {
            self.arriving.swap_remove(at);
        }
    }

    fn take_arrived(&mut self, arrived: Arrived, place: &mut Place) -> Result<(), SubscribeError> {
        match arrived {
            Arrived::Frame(frame) => return self.take(&frame, false, place),
            Arrived::Begun(topic, sequence) => self.arriving.push((topic, sequence)),
            Arrived::Aborted(topic, sequence, _) => self.arrives_no_more((topic, sequence)),
            Arrived::CompleteMessage(whole) => {
                self.arrives_no_more((whole.topic, whole.sequence));
                self.runs_ahead(whole.topic, whole.sequence);
                self.message(whole);
            }
        }
        Ok(())
    }

    // It has come in another way than on the subscription's stream, and so perhaps before a mark
    // that it stands after.
    fn runs_ahead(&mut self, topic: u64, sequence: u64) {
        let ahead = self.ahead.entry(topic).or_default();
        *ahead = sequence.max(*ahead);
    }

    // The subscription's stream has told of the topic up to there: a mark after it covers that.
    fn told(&mut self, topic: u64, sequence: u64) {
        if self.ahead.get(&topic).is_some_and(|ahead| *ahead <= sequence) {
            self.ahead.remove(&topic);
        }
    }

    fn take(
        &mut self,
        frame: &Bytes,
        datagram: bool,
        place: &mut Place,
    ) -> Result<(), SubscribeError> {
        let decoded = DaemonFrame::decode(frame);
        let (now, rtt) = (self.now(), self.shared.rtt());
        match decoded.map_err(|error| SubscribeError::Protocol(error.to_string()))? {
            DaemonFrame::Topic { id, .. } if self.names.contains_key(&id) => {}
            DaemonFrame::Topic { id, epoch, next, name } => {
                // A name that comes back has a new id and epoch. Ids only grow: an older one has
                // been overtaken.
                if let Some(known) = self.ids.get(name).copied() {
                    if id < known {
                        return Ok(());
                    }
                    // What is missing of it will not come any more.
                    for (first, last) in self.receiver.gap(now, rtt, known, 1, u64::MAX) {
                        if last < u64::MAX - 1 {
                            self.gap(known, first, last, GapCause::Evicted);
                        }
                    }
                    self.names.remove(&known);
                    self.ahead.remove(&known);
                    self.receiver.forget(known);
                }
                let had = place.heard_of(name, epoch);
                let (name, marks): (Arc<str>, _) = (name.into(), self.marks);
                self.ids.insert(name.clone(), id);
                self.names.insert(id, Named { name, epoch, marks });
                self.receiver.topic(now, rtt, id, next, had);
            }
            DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                if datagram {
                    self.runs_ahead(topic, sequence);
                } else {
                    self.told(topic, sequence);
                }
                let (payload, known) = (frame.slice_ref(payload), CachedDigest::default());
                self.message(CompleteMessage { topic, sequence, count, stamp, payload, known });
            }
            DaemonFrame::Gap { topic, first, last, cause } => {
                self.told(topic, last);
                for (first, last) in self.receiver.gap(now, rtt, topic, first, last) {
                    self.gap(topic, first, last, cause);
                }
            }
            DaemonFrame::Head { topic, sequence } => {
                self.told(topic, sequence);
                self.receiver.head(now, rtt, topic, sequence);
            }
            // What stands before it has been handed out, or is known to be missing.
            DaemonFrame::Mark { position } => {
                place.mark(position)?;
                self.marks = place.marks();
                for topic in self.ahead.keys() {
                    if let Some(named) = self.names.get_mut(topic) {
                        named.marks = self.marks;
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
