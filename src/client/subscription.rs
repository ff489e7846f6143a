//! A subscription: a stream of events, read straight from its QUIC stream. Nothing is queued
//! here: who does not read makes the daemon's cursor fall behind, which costs nobody anything.
//!
//! Over WebSocket there are no streams that could hold back by themselves. There a subscription
//! that is not read is [cut](crate::net::transport::connection::Connection::cut), and asks again from where
//! it stands when what it had has been read: to whoever reads it there is no difference.

use super::datagram_queue::Inbox;
use super::driver::{Delivery, Route};
use super::message_stream::{Arrived, Incoming};
use super::progress::Place;
use super::reassembly::CompleteMessage;
use super::request::{Answer, Answering};
use super::unordered::{DeliveryStats, UnorderedReceiver};
use super::{Client, SubscribeError};
use crate::message::{CachedDigest, Event, Gap, Resumed, Start, SubscribeOptions};
use crate::net::transport::Transport;
use crate::wire::{
    self, ClientFrame, Code, DaemonFrame, Filter, FrameError, MAX_CONTROL_FRAME, Position, Refusal,
};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

struct Topic {
    name: Arc<str>,
    epoch: u64,
    next: u64,
    // Of what is next, what an earlier subscription has had.
    had: Vec<(u64, u64)>,
    // Marks that stood before what was last heard of it.
    marks: u64,
}

impl Topic {
    fn place(&self) -> Resumed {
        let Self { name, epoch, next, had, .. } = self;
        Resumed { topic: name.clone(), epoch: *epoch, next: *next, had: had.clone() }
    }

    // Whether it is to be named when the subscription goes on.
    fn is_named(&self, marks: u64) -> bool {
        self.marks == marks || self.had.iter().any(|(_, last)| *last >= self.next)
    }
}

/// A subscription as the daemon knows it, or has been asked for it. Dropping it ends it.
struct Standing {
    client: Client,
    request: u32,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let shared = self.client.shared();
        if shared.lock().subscriptions.remove(&self.request).is_some() {
            let mut out = Vec::new();
            ClientFrame::Unsubscribe { subscription: self.request }.encode(&mut out);
            shared.control.push([out.into()]);
        }
    }
}

/// A running subscription: a [`Stream`] of events; ends after an error. Dropping it ends it.
pub struct Subscription {
    standing: Standing,
    filter: Filter,
    options: SubscribeOptions,
    place: Place,
    deliveries: mpsc::Receiver<Delivery>,
    stream: Option<Incoming>,
    // What came was not read fast enough, and the rest has to be asked for.
    cut: bool,
    // It has been asked for.
    asked: Option<Answering>,
    topics: HashMap<u64, Topic>,
    ids: HashMap<Arc<str>, u64>,
    // What does not come in order.
    scattered: Option<UnorderedReceiver>,
    ended: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Standing { client, request } = &self.standing;
        write!(f, "subscription {request} of {client:?}")
    }
}

impl Client {
    /// Subscribes to every topic that `filter` matches; returns when the subscription stands. To
    /// drop the future before that ends the subscription.
    pub async fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let filter = Filter::new(filter)?;
        self.shared().control.room().await;
        let (standing, deliveries, inbox, asked) = self.begin_subscribing(&filter, options)?;
        let asked = asked.await.map_err(|_| self.shared().why());
        let position = match asked? {
            Ok(Answer::Subscribed(position)) => position,
            Ok(other) => {
                return Err(SubscribeError::Protocol(format!("{other:?} to a subscribe")));
            }
            Err(refusal) => return Err(SubscribeError::Refused(refusal)),
        };
        // What it begins with is kept apart.
        let kept = SubscribeOptions { start: Start::New, ..*options };
        let at = Position { position, ..self.shared().begin };
        // Streams lose nothing.
        let repair = options.delivery == wire::Delivery::Realtime
            || self.transport() == Transport::WebTransport;
        let scattered = inbox.map(|inbox| {
            let request = standing.request;
            UnorderedReceiver::new(self.shared().clone(), request, inbox, repair, options.deadline)
        });
        Ok(Subscription {
            standing,
            scattered,
            filter,
            options: kept,
            place: Place::new(&options.start, at),
            deliveries,
            stream: None,
            cut: false,
            asked: None,
            topics: HashMap::new(),
            ids: HashMap::new(),
            ended: false,
        })
    }

    fn begin_subscribing(
        &self,
        filter: &Filter,
        options: &SubscribeOptions,
    ) -> Result<Begun, SubscribeError> {
        // Over WebSocket all modes come in order.
        let scattered =
            options.delivery != wire::Delivery::Ordered && self.transport() != Transport::WebSocket;
        let inbox = scattered.then(Arc::<Inbox>::default);
        // One stream and one end at most; or as many streams as the daemon has at a time.
        let (sender, deliveries) = mpsc::channel(if scattered { 80 } else { 2 });
        let sender = Route { sender, inbox: inbox.clone() };
        let deadline = options.deadline_ms();
        let frame = |request| ClientFrame::Subscribe {
            request,
            filter: filter.as_str(),
            start: options.start.to_wire(),
            delivery: options.delivery,
            lag: options.lag,
            deadline,
        };
        let mut bytes = Vec::new();
        frame(u32::MAX).encode(&mut bytes);
        if bytes.len() > MAX_CONTROL_FRAME {
            let error = FrameError::TooLarge { size: bytes.len(), limit: MAX_CONTROL_FRAME };
            let reason = format!("too many topics to resume at once: {error}");
            return Err(SubscribeError::Refused(Refusal::new(Code::FRAME_TOO_LARGE, reason)));
        }
        let mut request = 0;
        let asked = self.begin_asking(|number, state, out| {
            request = number;
            // Known before it is asked for: the stream may overtake the answer.
            state.subscriptions.insert(number, sender);
            if scattered {
                state.bare.get_or_insert(number);
            }
            frame(number).encode(out);
        });
        let asked = asked?;
        let standing = Standing { client: self.clone(), request };
        Ok((standing, deliveries, inbox, asked))
    }
}

fn protocol(what: &str) -> SubscribeError {
    SubscribeError::Protocol(what.to_owned())
}

type Begun = (Standing, mpsc::Receiver<Delivery>, Option<Arc<Inbox>>, Answering);

impl Subscription {
    /// The next event; none after an error.
    pub async fn next(&mut self) -> Option<Result<Event, SubscribeError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// How far it has come: subscribe with this start, in this session or another, to go on
    /// without missing or repeating anything.
    pub fn resume(&self) -> Start {
        let (heard_of, topics) = self.heard_of();
        self.place.resume(heard_of, topics)
    }

    // Whether it has heard of any topic, and those that are to be named.
    fn heard_of(&self) -> (bool, Vec<Resumed>) {
        let marks = self.place.marks();
        let named = self.topics.values().filter(|topic| topic.is_named(marks));
        let mut topics: Vec<_> = named.map(Topic::place).collect();
        topics.extend(self.scattered.iter().flat_map(UnorderedReceiver::places));
        let heard_of = !self.topics.is_empty()
            || self.scattered.as_ref().is_some_and(UnorderedReceiver::has_heard_of_topics);
        (heard_of, topics)
    }

    /// What has come, and how; nothing where it comes in order, as it does over WebSocket.
    pub fn stats(&self) -> DeliveryStats {
        self.scattered.as_ref().map(UnorderedReceiver::stats).unwrap_or_default()
    }

    // Asks for what comes after what was read, as somebody would who comes back.
    fn ask_again(&mut self) -> Result<(), SubscribeError> {
        let (heard_of, topics) = self.heard_of();
        let start = self.place.begin_again(heard_of, topics);
        self.topics.clear();
        self.ids.clear();
        let options = SubscribeOptions { start, ..self.options };
        let (standing, deliveries, _, asked) =
            self.standing.client.begin_subscribing(&self.filter, &options)?;
        let (before, request) = (self.standing.request, standing.request);
        tracing::debug!(before, request, "not read fast enough: asked for the rest again");
        (self.standing, self.deliveries, self.asked) = (standing, deliveries, Some(asked));
        (self.cut, self.stream) = (false, None);
        Ok(())
    }

    // What was begun and not completed has not been had: `next` stays where it is until the end.
    fn message(&mut self, whole: CompleteMessage) -> Result<Option<Event>, SubscribeError> {
        let topic = self.topics.get_mut(&whole.topic);
        let topic = topic.ok_or_else(|| protocol("a message of an unknown topic"))?;
        let sequence = whole.sequence;
        if sequence != topic.next {
            return Err(protocol("a sequence neither sent nor told as a gap"));
        }
        (topic.next, topic.marks) = (sequence + 1, self.place.marks());
        if topic.had.iter().any(|(first, last)| (first..=last).contains(&&sequence)) {
            return Ok(None);
        }
        Ok(Some(Event::Message(whole.of(topic.name.clone(), topic.epoch))))
    }

    fn take(&mut self, frame: &Bytes) -> Result<Option<Event>, SubscribeError> {
        let decoded = DaemonFrame::decode(frame);
        match decoded.map_err(|error| SubscribeError::Protocol(error.to_string()))? {
            // Said again: nothing new.
            DaemonFrame::Topic { id, .. } if self.topics.contains_key(&id) => Ok(None),
            DaemonFrame::Topic { id, epoch, next, name } => {
                // A name that comes back has a new id and epoch.
                let (had, marks) = (self.place.heard_of(name, epoch), self.place.marks());
                let name: Arc<str> = name.into();
                if let Some(earlier) = self.ids.insert(name.clone(), id) {
                    self.topics.remove(&earlier);
                }
                self.topics.insert(id, Topic { name, epoch, next, had, marks });
                Ok(None)
            }
            DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                let (payload, known) = (frame.slice_ref(payload), CachedDigest::default());
                self.message(CompleteMessage { topic, sequence, count, stamp, payload, known })
            }
            DaemonFrame::Gap { topic, first, last, cause } => {
                let topic = self.topics.get_mut(&topic);
                let topic = topic.ok_or_else(|| protocol("a gap of an unknown topic"))?;
                (topic.next, topic.marks) = (last + 1, self.place.marks());
                let (name, epoch) = (topic.name.clone(), topic.epoch);
                Ok(Some(Event::Gap(Gap { topic: name, epoch, first, last, cause })))
            }
            // What stands before it has been handed out, or this would not be read.
            DaemonFrame::Mark { position } => self.place.mark(position).map(|()| None),
            _ => Err(protocol("a frame that does not belong on a subscription's stream")),
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, SubscribeError>> {
        if let Some(scattered) = &mut self.scattered {
            return scattered.poll(context, &mut self.deliveries, &mut self.place);
        }
        loop {
            if let Some(asked) = &mut self.asked {
                match ready!(pin!(asked).poll(context)) {
                    Ok(Ok(_)) => self.asked = None,
                    Ok(Err(refusal)) => return Poll::Ready(Err(SubscribeError::Refused(refusal))),
                    Err(_) => return Poll::Ready(Err(self.standing.client.shared().why().into())),
                }
            }
            // A stream that was cut is kept until the daemon has ended it: what still comes for it
            // would be taken for another one.
            let Some(stream) = self.stream.as_mut().filter(|_| !self.cut) else {
                match ready!(self.deliveries.poll_recv(context)) {
                    Some(Delivery::Stream(stream)) => self.stream = Some(stream),
                    // As the daemon was told to.
                    Some(Delivery::Ended(refusal)) if self.cut && refusal.code == Code::DONE => {
                        self.ask_again()?;
                    }
                    Some(Delivery::Ended(refusal)) => {
                        return Poll::Ready(Err(SubscribeError::Refused(refusal)));
                    }
                    None => return Poll::Ready(Err(self.standing.client.shared().why().into())),
                }
                continue;
            };
            let read = { ready!(pin!(stream.next()).poll(context)) };
            match read {
                Ok(Some(arrived)) => {
                    let event = match arrived {
                        Arrived::Frame(frame) => self.take(&frame)?,
                        Arrived::CompleteMessage(whole) => self.message(whole)?,
                        // The gap follows.
                        Arrived::Begun(..) | Arrived::Aborted(..) => None,
                    };
                    if let Some(event) = event {
                        return Poll::Ready(Ok(event));
                    }
                }
                Ok(None) => {
                    self.cut = stream.is_cut_short();
                    // If not, it says elsewhere why.
                    if !self.cut {
                        self.stream = None;
                    }
                }
                Err(fault) => {
                    return Poll::Ready(Err(self.standing.client.shared().fault(fault).into()));
                }
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Event, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let event = ready!(this.poll_event(context));
        this.ended = event.is_err();
        Poll::Ready(Some(event))
    }
}
