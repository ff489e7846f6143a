//! A subscription: a stream of events that are read directly from its QUIC stream, without a queue.
//! If the application does not read, flow control stops the stream, and the daemon's cursor falls
//! behind.
//!
//! When the session ends, the subscription waits for the next one, and subscribes there from where
//! the application has read.
//!
//! Over WebSocket, all subscriptions share one channel, which has no flow control for each. There a
//! subscription that is not read [overflows][overflow], and the client ends it. It subscribes again
//! once the application has read everything that arrived. The application notices no difference.
//!
//! [overflow]: crate::net::transport::connection::Connection::next_overflowed_request

use super::datagram_queue::DatagramQueue;
use super::delivery_stats::DeliveryStats;
use super::error::{SessionClosed, SubscribeError};
use super::handle::Client;
use super::message_stream::MessageStream;
use super::ordered::OrderedTopics;
use super::progress::{KnownTopic, Progress};
use super::session_state::{Delivery, PendingReply, Reply, SessionState};
use super::subscribing::{Requested, SubscriptionGuard, begin_subscribing, check_size};
use super::unordered::UnorderedReceiver;
use crate::message::{Event, Interruption, Start, SubscribeOptions};
use crate::net::transport::Transport;
use crate::wire::{self, Code, Filter, Position};
use futures_core::Stream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

type NextSession =
    Pin<Box<dyn Future<Output = Result<Arc<SessionState>, SessionClosed>> + Send + Sync>>;

/// A subscription: a [`Stream`] of events that ends after an error. Dropping it ends the
/// subscription.
///
/// It outlives the sessions of its [`Client`]: see [`Event::Interrupted`]. It subscribes in the next
/// session when it is polled.
///
/// ```
/// # #[cfg(feature = "daemon")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// # let server = daemon.local_addr().to_string();
/// # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
/// use weir::{Event, SubscribeOptions};
///
/// let client = weir::Client::builder(server).trust(trust).connect().await?;
/// let mut news = client.subscribe("demo/*", &SubscribeOptions::default()).await?;
/// client.publish("demo/a", "hello").await?;
/// while let Some(event) = news.next().await {
///     match event? {
///         Event::Message(message) => {
///             assert_eq!((&*message.topic, message.sequence), ("demo/a", 1));
///             break;
///         }
///         Event::Gap(gap) => println!("{} to {} are missing: {:?}", gap.first, gap.last, gap.cause),
///         Event::Interrupted(why) => println!("connecting again: {}", why.reason),
///         _ => {}
///     }
/// }
/// // Another subscription goes on from here.
/// let later = client.subscribe("demo/*", &SubscribeOptions::from(news.resume())).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    client: Client,
    filter: Filter,
    options: SubscribeOptions,
    progress: Progress,
    guard: SubscriptionGuard,
    deliveries: mpsc::Receiver<Delivery>,
    stream: Option<MessageStream>,
    // Whether the stream has overflowed because it was not read fast enough, and the subscription has
    // to be made again.
    overflowed: bool,
    // The answer to the repeated subscription.
    reply: Option<PendingReply>,
    // Waits for the next session. None while there is one.
    next_session: Option<NextSession>,
    // Whether the interruption was reported, and no session has answered since.
    interrupted: bool,
    ordered: OrderedTopics,
    // The receiver of a subscription that is not ordered.
    unordered: Option<UnorderedReceiver>,
    // The counters of earlier sessions.
    stats: DeliveryStats,
    ended: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "subscription {} of {:?}", self.guard.request, self.client)
    }
}

fn at(session: &SessionState, position: u64) -> Position {
    Position { position, ..session.run_start }
}

// Returns the receiver of a subscription that is not ordered.
fn unordered_receiver(
    guard: &SubscriptionGuard,
    queue: Option<Arc<DatagramQueue>>,
    options: &SubscribeOptions,
    marks: u64,
) -> Option<UnorderedReceiver> {
    let SubscriptionGuard { session, request } = guard;
    // `Unordered` over QUIC needs no repair, because it uses only streams, which lose nothing.
    let repair = options.delivery == wire::Delivery::Realtime
        || session.connection.transport() == Transport::WebTransport;
    let how = (repair, options.deadline);
    queue.map(|queue| UnorderedReceiver::new(session.clone(), *request, queue, how, marks))
}

impl Client {
    /// Subscribes to every topic that `filter` matches. Returns when the subscription has begun, for
    /// which it waits until the client has a session. Dropping the future before that ends the
    /// subscription.
    pub async fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let filter = Filter::new(filter)?;
        let mut ended = None;
        let (requested, position) = loop {
            let session = self.shared().next_session(ended.as_ref()).await?;
            session.control.room().await;
            let mut requested = begin_subscribing(&session, &filter, options, &options.start)?;
            match (&mut requested.reply).await {
                Ok(Ok(Reply::Subscribed(position))) => break (requested, at(&session, position)),
                Ok(Ok(other)) => {
                    return Err(SubscribeError::Protocol(format!("{other:?} to a subscribe")));
                }
                Ok(Err(refusal)) => return Err(SubscribeError::Refused(refusal)),
                // The next session subscribes as if this one had not been.
                Err(_) => ended = Some(session),
            }
        };
        let Requested { guard, deliveries, queue, .. } = requested;
        let progress = Progress::new(&options.start, position);
        // `progress` keeps the start.
        let options = SubscribeOptions { start: Start::New, ..*options };
        Ok(Subscription {
            client: self.clone(),
            unordered: unordered_receiver(&guard, queue, &options, progress.marks()),
            filter,
            options,
            progress,
            guard,
            deliveries,
            stream: None,
            overflowed: false,
            reply: None,
            next_session: None,
            interrupted: false,
            ordered: OrderedTopics::default(),
            stats: DeliveryStats::default(),
            ended: false,
        })
    }
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
        self.progress.resume(any_topic, &topics, false)
    }

    // Returns whether any topic was announced, and the topics.
    fn topics(&self) -> (bool, Vec<KnownTopic>) {
        let mut topics = self.ordered.known_topics(self.progress.marks());
        topics.extend(self.unordered.iter().flat_map(UnorderedReceiver::known_topics));
        let any_topic = self.ordered.has_topics()
            || self.unordered.as_ref().is_some_and(UnorderedReceiver::has_topics);
        (any_topic, topics)
    }

    /// Returns counters. They are zero for an ordered subscription, and over WebSocket.
    pub fn stats(&self) -> DeliveryStats {
        let now = self.unordered.as_ref().map(UnorderedReceiver::stats).unwrap_or_default();
        self.stats.plus(now)
    }

    // Subscribes again, in this session, from where the application has read.
    fn resubscribe(&mut self, session: &Arc<SessionState>) -> Result<(), SubscribeError> {
        let (any_topic, topics) = self.topics();
        // If that is too long, the daemon repeats messages of the other topics, which are dropped here.
        let fits = |start| check_size(&self.filter, &self.options, &start).is_ok();
        let all = self.progress.names_all(session.run_start.run)
            && fits(self.progress.resume(any_topic, &topics, true));
        let start = self.progress.restart(any_topic, topics, all);
        self.stats = self.stats();
        self.ordered = OrderedTopics::default();
        let Requested { guard, deliveries, queue, reply } =
            begin_subscribing(session, &self.filter, &self.options, &start)?;
        let (before, request) = (self.guard.request, guard.request);
        tracing::debug!(before, request, "subscribed again for the rest");
        self.unordered = unordered_receiver(&guard, queue, &self.options, self.progress.marks());
        (self.guard, self.deliveries, self.reply) = (guard, deliveries, Some(reply));
        (self.overflowed, self.stream) = (false, None);
        Ok(())
    }

    // The session has ended. Returns the interruption if it is not reported yet.
    fn lost(&mut self, closed: SessionClosed) -> Result<Option<Event>, SubscribeError> {
        let shared = self.client.shared();
        if !closed.retry || !shared.reconnects {
            return Err(closed.into());
        }
        let (shared, ended) = (shared.clone(), self.guard.session.clone());
        self.next_session = Some(Box::pin(async move { shared.next_session(Some(&ended)).await }));
        self.reply = None;
        let SessionClosed { code, reason, .. } = closed;
        let reported = std::mem::replace(&mut self.interrupted, true);
        Ok((!reported).then_some(Event::Interrupted(Interruption { code, reason })))
    }

    // Returns an event once there is one, or `None` to be polled again.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Event>, SubscribeError>> {
        if let Some(next) = &mut self.next_session {
            let session = ready!(next.as_mut().poll(context))?;
            self.next_session = None;
            return Poll::Ready(self.resubscribe(&session).map(|()| None));
        }
        if let Some(reply) = &mut self.reply {
            match ready!(pin!(reply).poll(context)) {
                Ok(Ok(Reply::Subscribed(position))) => {
                    self.progress.subscribed(at(&self.guard.session, position));
                    (self.reply, self.interrupted) = (None, false);
                }
                Ok(Ok(other)) => {
                    let reason = format!("{other:?} to a subscribe");
                    return Poll::Ready(Err(SubscribeError::Protocol(reason)));
                }
                Ok(Err(refusal)) => return Poll::Ready(Err(SubscribeError::Refused(refusal))),
                Err(_) => return Poll::Ready(self.lost(self.guard.session.close_reason())),
            }
        }
        if let Some(unordered) = &mut self.unordered {
            let event = unordered.poll(context, &mut self.deliveries, &mut self.progress);
            return Poll::Ready(match ready!(event) {
                Err(SubscribeError::Closed(closed)) => self.lost(closed),
                event => event.map(Some),
            });
        }
        // A stream that has overflowed is kept until the daemon has ended it. Otherwise its remaining
        // frames would look like a new stream.
        let Some(stream) = self.stream.as_mut().filter(|_| !self.overflowed) else {
            let web_socket = self.guard.session.connection.transport() == Transport::WebSocket;
            return Poll::Ready(match ready!(self.deliveries.poll_recv(context)) {
                Some(Delivery::Stream(stream)) => {
                    self.stream = Some(stream);
                    Ok(None)
                }
                // The end that the client has requested, because the stream has overflowed. If the stream
                // is not here, the end has overtaken it, and it is lost. Nothing of it was read.
                Some(Delivery::Ended(refusal)) if web_socket && refusal.code == Code::DONE => {
                    let session = self.guard.session.clone();
                    self.resubscribe(&session).map(|()| None)
                }
                Some(Delivery::Ended(refusal)) => Err(SubscribeError::Refused(refusal)),
                None => self.lost(self.guard.session.close_reason()),
            });
        };
        let read = { ready!(pin!(stream.next()).poll(context)) };
        Poll::Ready(match read {
            Ok(Some(arrived)) => self.ordered.take(arrived, &mut self.progress),
            Ok(None) => {
                self.overflowed = stream.has_overflowed();
                // If the daemon ended it, `Ended` or the session's end has the reason.
                if !self.overflowed {
                    self.stream = None;
                }
                Ok(None)
            }
            Err(fault) => {
                let closed = self.guard.session.fault(fault);
                self.lost(closed)
            }
        })
    }
}

impl Stream for Subscription {
    type Item = Result<Event, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let event = ready!(this.step(context)).transpose();
            if let Some(event) = event {
                this.ended = event.is_err();
                return Poll::Ready(Some(event));
            }
        }
    }
}
