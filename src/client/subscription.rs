//! A subscription: a stream of events that are read directly from its QUIC stream, without a queue.
//! If the application does not read, flow control stops the stream, and the daemon's cursor falls
//! behind.
//!
//! Over WebSocket, all subscriptions share one channel, which has no flow control for each. There a
//! subscription that is not read [overflows][overflow], and the client ends it. It subscribes again
//! once the application has read everything that arrived. The application notices no difference.
//!
//! [overflow]: crate::net::transport::connection::Connection::next_overflowed_request

use super::datagram_queue::DatagramQueue;
use super::error::SubscribeError;
use super::handle::Client;
use super::message_stream::{Arrived, MessageStream};
use super::progress::Progress;
use super::reassembly::CompleteMessage;
use super::session_state::{Delivery, PendingReply, Reply, Route};
use super::unordered::{DeliveryStats, UnorderedReceiver};
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
    // Ranges from `next` on that an earlier subscription has received.
    received: Vec<(u64, u64)>,
    // The number of marks that preceded its newest event.
    marks: u64,
}

impl Topic {
    fn resumed(&self) -> Resumed {
        let Self { name, epoch, next, received, .. } = self;
        Resumed { topic: name.clone(), epoch: *epoch, next: *next, received: received.clone() }
    }

    // Returns whether a subscription that resumes has to name the topic.
    fn is_named(&self, marks: u64) -> bool {
        self.marks == marks || self.received.iter().any(|(_, last)| *last >= self.next)
    }
}

/// Ends a subscription when it is dropped.
struct SubscriptionGuard {
    client: Client,
    request: u32,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let state = self.client.state();
        if state.lock().subscriptions.remove(&self.request).is_some() {
            let mut out = Vec::new();
            ClientFrame::Unsubscribe { subscription: self.request }.encode(&mut out);
            state.control.push([out.into()]);
        }
    }
}

/// A subscription that was requested, but is not answered yet.
struct Requested {
    guard: SubscriptionGuard,
    deliveries: mpsc::Receiver<Delivery>,
    queue: Option<Arc<DatagramQueue>>,
    reply: PendingReply,
}

/// A subscription: a [`Stream`] of events that ends after an error. Dropping it ends the
/// subscription.
pub struct Subscription {
    guard: SubscriptionGuard,
    filter: Filter,
    options: SubscribeOptions,
    progress: Progress,
    deliveries: mpsc::Receiver<Delivery>,
    stream: Option<MessageStream>,
    // Whether the stream has overflowed because it was not read fast enough, and the subscription has
    // to be made again.
    overflowed: bool,
    // The answer to the repeated subscription.
    reply: Option<PendingReply>,
    topics: HashMap<u64, Topic>,
    ids: HashMap<Arc<str>, u64>,
    // The receiver of a subscription that is not ordered.
    unordered: Option<UnorderedReceiver>,
    ended: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SubscriptionGuard { client, request } = &self.guard;
        write!(f, "subscription {request} of {client:?}")
    }
}

impl Client {
    /// Subscribes to every topic that `filter` matches. Returns when the subscription has begun.
    /// Dropping the future before that ends the subscription.
    pub async fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let filter = Filter::new(filter)?;
        self.state().control.room().await;
        let Requested { guard, deliveries, queue, reply } =
            self.begin_subscribing(&filter, options)?;
        let reply = reply.await.map_err(|_| self.state().close_reason());
        let position = match reply? {
            Ok(Reply::Subscribed(position)) => position,
            Ok(other) => {
                return Err(SubscribeError::Protocol(format!("{other:?} to a subscribe")));
            }
            Err(refusal) => return Err(SubscribeError::Refused(refusal)),
        };
        // `progress` keeps the start.
        let kept = SubscribeOptions { start: Start::New, ..*options };
        let at = Position { position, ..self.state().run_start };
        // `Unordered` over QUIC needs no repair, because it uses only streams, which lose nothing.
        let repair = options.delivery == wire::Delivery::Realtime
            || self.transport() == Transport::WebTransport;
        let unordered = queue.map(|queue| {
            let request = guard.request;
            UnorderedReceiver::new(self.state().clone(), request, queue, repair, options.deadline)
        });
        Ok(Subscription {
            guard,
            unordered,
            filter,
            options: kept,
            progress: Progress::new(&options.start, at),
            deliveries,
            stream: None,
            overflowed: false,
            reply: None,
            topics: HashMap::new(),
            ids: HashMap::new(),
            ended: false,
        })
    }

    fn begin_subscribing(
        &self,
        filter: &Filter,
        options: &SubscribeOptions,
    ) -> Result<Requested, SubscribeError> {
        // Over WebSocket, all modes are ordered.
        let unordered =
            options.delivery != wire::Delivery::Ordered && self.transport() != Transport::WebSocket;
        let queue = unordered.then(Arc::<DatagramQueue>::default);
        // An ordered subscription gets one stream and one end. Another gets as many streams as the
        // daemon opens at a time.
        let (sender, deliveries) = mpsc::channel(if unordered { 80 } else { 2 });
        let route = Route { sender, queue: queue.clone() };
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
        let reply = self.begin_request(|number, tables, out| {
            request = number;
            // Entered before the request is sent, because the stream may arrive before the answer.
            tables.subscriptions.insert(number, route);
            if unordered {
                tables.implicit_subscription.get_or_insert(number);
            }
            frame(number).encode(out);
        });
        let reply = reply?;
        let guard = SubscriptionGuard { client: self.clone(), request };
        Ok(Requested { guard, deliveries, queue, reply })
    }
}

fn protocol(what: &str) -> SubscribeError {
    SubscribeError::Protocol(what.to_owned())
}

impl Subscription {
    /// Returns the next event, or `None` after an error.
    pub async fn next(&mut self) -> Option<Result<Event, SubscribeError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns the start with which a new subscription, in this session or another, continues
    /// without missing or repeating a message.
    pub fn resume(&self) -> Start {
        let (any_topic, topics) = self.topics();
        self.progress.resume(any_topic, topics)
    }

    // Returns whether any topic was announced, and the topics that have to be named.
    fn topics(&self) -> (bool, Vec<Resumed>) {
        let marks = self.progress.marks();
        let named = self.topics.values().filter(|topic| topic.is_named(marks));
        let mut topics: Vec<_> = named.map(Topic::resumed).collect();
        topics.extend(self.unordered.iter().flat_map(UnorderedReceiver::resumed_topics));
        let any_topic = !self.topics.is_empty()
            || self.unordered.as_ref().is_some_and(UnorderedReceiver::has_topics);
        (any_topic, topics)
    }

    /// Returns counters. They are zero for an ordered subscription, and over WebSocket.
    pub fn stats(&self) -> DeliveryStats {
        self.unordered.as_ref().map(UnorderedReceiver::stats).unwrap_or_default()
    }

    // Subscribes again from where the application has read, as a client does after a reconnect.
    fn resubscribe(&mut self) -> Result<(), SubscribeError> {
        let (any_topic, topics) = self.topics();
        let start = self.progress.restart(any_topic, topics);
        self.topics.clear();
        self.ids.clear();
        let options = SubscribeOptions { start, ..self.options };
        let Requested { guard, deliveries, reply, .. } =
            self.guard.client.begin_subscribing(&self.filter, &options)?;
        let (before, request) = (self.guard.request, guard.request);
        tracing::debug!(before, request, "not read fast enough: subscribed again for the rest");
        (self.guard, self.deliveries, self.reply) = (guard, deliveries, Some(reply));
        (self.overflowed, self.stream) = (false, None);
        Ok(())
    }

    // Records and returns a complete message. One that has only begun to arrive does not advance
    // `next`.
    fn message(&mut self, message: CompleteMessage) -> Result<Option<Event>, SubscribeError> {
        let topic = self.topics.get_mut(&message.topic);
        let topic = topic.ok_or_else(|| protocol("a message of an unknown topic"))?;
        let sequence = message.sequence;
        if sequence != topic.next {
            return Err(protocol("a sequence that was neither sent nor reported as a gap"));
        }
        (topic.next, topic.marks) = (sequence + 1, self.progress.marks());
        if topic.received.iter().any(|(first, last)| (first..=last).contains(&&sequence)) {
            return Ok(None);
        }
        Ok(Some(Event::Message(message.of(topic.name.clone(), topic.epoch))))
    }

    fn take(&mut self, frame: &Bytes) -> Result<Option<Event>, SubscribeError> {
        let decoded = DaemonFrame::decode(frame);
        match decoded.map_err(|error| SubscribeError::Protocol(error.to_string()))? {
            // A repeated announcement has no effect.
            DaemonFrame::Topic { id, .. } if self.topics.contains_key(&id) => Ok(None),
            DaemonFrame::Topic { id, epoch, next, name } => {
                // A topic that was forgotten and published again has a new id and epoch.
                let (received, marks) =
                    (self.progress.announced(name, epoch), self.progress.marks());
                let name: Arc<str> = name.into();
                if let Some(earlier) = self.ids.insert(name.clone(), id) {
                    self.topics.remove(&earlier);
                }
                self.topics.insert(id, Topic { name, epoch, next, received, marks });
                Ok(None)
            }
            DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                let (payload, digest) = (frame.slice_ref(payload), CachedDigest::default());
                self.message(CompleteMessage { topic, sequence, count, stamp, payload, digest })
            }
            DaemonFrame::Gap { topic, first, last, cause } => {
                let topic = self.topics.get_mut(&topic);
                let topic = topic.ok_or_else(|| protocol("a gap of an unknown topic"))?;
                (topic.next, topic.marks) = (last + 1, self.progress.marks());
                let (name, epoch) = (topic.name.clone(), topic.epoch);
                Ok(Some(Event::Gap(Gap { topic: name, epoch, first, last, cause })))
            }
            // Everything before the mark on this stream was delivered.
            DaemonFrame::Mark { position } => self.progress.mark(position).map(|()| None),
            _ => Err(protocol("a frame that does not belong on a subscription's stream")),
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, SubscribeError>> {
        if let Some(unordered) = &mut self.unordered {
            return unordered.poll(context, &mut self.deliveries, &mut self.progress);
        }
        loop {
            if let Some(reply) = &mut self.reply {
                match ready!(pin!(reply).poll(context)) {
                    Ok(Ok(_)) => self.reply = None,
                    Ok(Err(refusal)) => return Poll::Ready(Err(SubscribeError::Refused(refusal))),
                    Err(_) => {
                        return Poll::Ready(Err(self.guard.client.state().close_reason().into()));
                    }
                }
            }
            // A stream that has overflowed is kept until the daemon has ended it. Otherwise its remaining
            // frames would look like a new stream.
            let Some(stream) = self.stream.as_mut().filter(|_| !self.overflowed) else {
                match ready!(self.deliveries.poll_recv(context)) {
                    Some(Delivery::Stream(stream)) => self.stream = Some(stream),
                    // The end that the client has requested.
                    Some(Delivery::Ended(refusal))
                        if self.overflowed && refusal.code == Code::DONE =>
                    {
                        self.resubscribe()?;
                    }
                    Some(Delivery::Ended(refusal)) => {
                        return Poll::Ready(Err(SubscribeError::Refused(refusal)));
                    }
                    None => {
                        return Poll::Ready(Err(self.guard.client.state().close_reason().into()));
                    }
                }
                continue;
            };
            let read = { ready!(pin!(stream.next()).poll(context)) };
            match read {
                Ok(Some(arrived)) => {
                    let event = match arrived {
                        Arrived::Frame(frame) => self.take(&frame)?,
                        Arrived::Complete(message) => self.message(message)?,
                        // A gap follows an abort.
                        Arrived::Begun(..) | Arrived::Aborted(..) => None,
                    };
                    if let Some(event) = event {
                        return Poll::Ready(Ok(event));
                    }
                }
                Ok(None) => {
                    self.overflowed = stream.has_overflowed();
                    // If the daemon ended it, `Ended` or the session's end has the reason.
                    if !self.overflowed {
                        self.stream = None;
                    }
                }
                Err(fault) => {
                    return Poll::Ready(Err(self.guard.client.state().fault(fault).into()));
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
