//! A subscription as server-sent events (HTML, section 9.2): the cursor is the only queue.
//!
//! A stream reads its subscription when its client has taken what was read before; between the
//! two stand one read and one piece of it as text, which are charged. A large message is read a
//! batch at a time while it is sent.

use super::event_id::{self, EventId};
use super::large::{Evicted, LargeText};
use super::problem::Problem;
use super::sent::{Sent, Unsent};
use super::{AppState, answer_budget, api, path};
use crate::broker::failure;
use crate::broker::subscription::Subscription;
use crate::engine::{Charge, Engine, Item, MessageRef};
use crate::json::{self, Head, Payload};
use crate::wire::{Code, Digest, Filter, GapCause, LARGE, Lag, NameError, Position, Refusal};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes read from the engine at once.
const BATCH: usize = 16 << 10;
/// Bytes of text handed to the connection at once; one piece of a payload may come on top.
const CHUNK: usize = 16 << 10;
/// The most text that comes of this: a piece of a payload in escapes, and what stands around it.
const TEXT: usize = 64 << 10;
/// What is held for a message that was read, beside its payload, bytes.
const MESSAGE: usize = 256;
/// The most that a stream holds at once, bytes: one read, of which the last message may be as long
/// as a small one, and a batch of a large one; and the text.
const ROUND: usize = BATCH + LARGE + super::large::MOST + TEXT;
/// A stream on which nothing was sent for so long says that it is alive: proxies wait for 30 s.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits before it connects again, ms: so much, and up to twice that, by chance,
/// so that not all come at once when a daemon has restarted.
const RETRY: u64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    from: Option<String>,
    lag: Option<String>,
    last_event_id: Option<String>,
}

/// `GET /v1/events/{filter}`.
pub(super) async fn subscribe(
    State(shared): State<Arc<AppState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.stopping()?;
    let filter = Filter::new(&path::filter(&uri)?).map_err(NameError::of_filter)?;
    let parameters: Parameters = api::parameters(&uri)?;
    let from = event_id::from(parameters.from.as_deref().unwrap_or("new"))?;
    let lag = lag(parameters.lag.as_deref().unwrap_or("oldest"))?;
    // A browser that connects again sends the header, to the address that it was given.
    let mut last = match api::only(&headers, &LAST_EVENT_ID)?.filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse::<EventId>()?),
        None => parameters.last_event_id.as_deref().map(str::parse).transpose()?,
    };
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        return Err(Problem::of(
            Code::OVERLOADED,
            format!(
                "the daemon has {} streams of events already: connect again later, or subscribe \
                 over WebTransport or WebSocket",
                super::EVENT_STREAMS
            ),
        ));
    };
    if let Some(last) = &mut last {
        let (run, position) = shared.broker.with(|engine| (engine.run(), engine.position()));
        if last.since.run == run {
            // Nobody has had what is still to come.
            last.since.position = last.since.position.min(position);
        } else {
            // Topics have other ids here.
            last.overtaken.clear();
        }
    }
    let named = last.iter().flat_map(|last| &last.overtaken).filter_map(|(id, next)| {
        let (topic, epoch) = shared.broker.with(|engine| engine.topic_of(*id))?;
        Some((topic, epoch, *next))
    });
    let named: Vec<_> = named.collect();
    let start = last.as_ref().map_or(from, |last| last.start(&filter, &named));
    let room = answer_budget::wait(&shared.budget, ROUND, answer_budget::SOON)
        .await
        .ok_or_else(answer_budget::full)?;
    let events = Events::begin(shared.clone(), permit, room, &filter, &start, lag, last.as_ref());
    let stream = stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let shared = events.shared.clone();
        let next = failure::seam(&shared.broker, "events", events.next());
        match AssertUnwindSafe(next).catch_unwind().await {
            Ok(None) => None,
            Ok(Some(Ok(text))) => Some((Ok(text), Some(events))),
            Ok(Some(Err(evicted))) => Some((Err(io::Error::other(evicted)), None)),
            Err(_) => Some((Ok(ended(&failure::defect("a stream of events"))), None)),
        }
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that collects before it passes on would hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((head, Body::from_stream(stream)).into_response())
}

fn lag(text: &str) -> Result<Lag, Problem> {
    match text {
        "oldest" => Ok(Lag::Oldest),
        "newest" => Ok(Lag::Newest),
        "disconnect" => Ok(Lag::Disconnect),
        _ => Err(Problem::bad_request(format!(
            "lag is one of oldest, newest, disconnect, not {text:?}"
        ))),
    }
}

// What was read and is not sent yet.
enum Read {
    Message(Message),
    // With the topic's id.
    Gap {
        id: u64,
        topic: Arc<str>,
        epoch: u64,
        first: u64,
        last: u64,
        cause: GapCause,
        exact: bool,
    },
}

impl Read {
    fn unsent(&self) -> Unsent {
        match self {
            Self::Message(message) => (message.id, message.sequence, Some(message.position)),
            Self::Gap { id, first, .. } => (*id, *first, None),
        }
    }
}

struct Message {
    // The topic's.
    id: u64,
    topic: Arc<str>,
    epoch: u64,
    sequence: u64,
    position: u64,
    count: u64,
    digest: Digest,
    stamp: u64,
    payload: Content,
}

enum Content {
    // Shared with the cache.
    Small(Bytes),
    // It stays there, under the topic's id.
    Large { topic: u64, size: usize },
}

impl Message {
    fn of(message: &MessageRef<'_>) -> Self {
        let large = || Content::Large { topic: message.topic_id(), size: message.size() };
        Self {
            id: message.topic_id(),
            topic: message.topic().clone(),
            epoch: message.epoch(),
            sequence: message.sequence(),
            position: message.position(),
            count: message.count(),
            digest: message.digest(),
            stamp: message.stamp(),
            payload: message.rope().map_or_else(|| Content::Small(message.payload()), |_| large()),
        }
    }

    fn head(&self) -> Head<'_> {
        let Self { topic, sequence, count, digest, stamp, .. } = self;
        Head { topic, sequence: *sequence, count: *count, digest: *digest, stamp: *stamp }
    }

    // Bytes that are held for it: what it pins, or takes while it is sent.
    fn holds(&self) -> usize {
        MESSAGE
            + match &self.payload {
                Content::Small(payload) => payload.len(),
                Content::Large { .. } => super::large::MOST,
            }
    }

    // It has left the cache before any of it was sent.
    fn gap(self, cause: GapCause) -> Read {
        let Self { id, topic, epoch, sequence, .. } = self;
        Read::Gap { id, topic, epoch, first: sequence, last: sequence, cause, exact: true }
    }
}

// A message whose payload is under way.
enum Open {
    Small(Payload),
    Large(LargeText),
}

struct Events {
    shared: Arc<AppState>,
    subscription: Subscription,
    stop: watch::Receiver<bool>,
    inbox: Inbox,
    open: Option<Open>,
    // For the inbox, what is open, and the text of them that the client has not taken.
    charge: Option<Arc<Charge>>,
    sent: Sent,
    exact: bool,
    // What stands before the first event.
    prelude: Vec<u8>,
    // Why it ends, once it does.
    ending: Option<Refusal>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

// Takes what the engine hands out.
#[derive(Default)]
struct Inbox {
    read: VecDeque<Read>,
    // What is held for all that was read at once, bytes.
    holds: usize,
    // The highest position that was read.
    highest: u64,
    // Whether the stream goes on from a position alone.
    by_position: bool,
    announced: bool,
}

impl Inbox {
    // A charge for one read, for what was read.
    fn settle(&mut self, mut charge: Charge) -> Arc<Charge> {
        // As text nothing is more than six times as long.
        let holds = std::mem::take(&mut self.holds);
        charge.resize((holds + holds.saturating_mul(6).min(TEXT)).min(charge.bytes()));
        Arc::new(charge)
    }

    fn take(&mut self, item: &Item<'_>) {
        let just_announced = std::mem::take(&mut self.announced);
        match item {
            Item::Topic { .. } => self.announced = true,
            Item::Message(message) => {
                let message = Message::of(message);
                self.holds += message.holds();
                self.highest = self.highest.max(message.position);
                self.read.push_back(Read::Message(message));
            }
            Item::Gap { id, epoch, name, first, last, cause, .. } => {
                self.read.push_back(Read::Gap {
                    id: *id,
                    topic: (*name).clone(),
                    epoch: *epoch,
                    first: *first,
                    last: *last,
                    cause: *cause,
                    // Where a topic was not named when the stream was resumed, the gap may begin
                    // before what the client has had.
                    exact: !(self.by_position && just_announced),
                });
            }
            // Only whole messages are asked for.
            Item::Large(_)
            | Item::Begin(_)
            | Item::Chunk(_)
            | Item::End { .. }
            | Item::Abort { .. } => {}
        }
    }
}

impl Events {
    fn begin(
        shared: Arc<AppState>,
        permit: OwnedSemaphorePermit,
        room: Charge,
        filter: &Filter,
        start: &crate::wire::Start<'_>,
        lag: Lag,
        last: Option<&EventId>,
    ) -> Self {
        let exact = filter.is_exact();
        let by_position = last.is_some_and(|last| !exact || last.topic.is_none());
        let mut inbox = Inbox { by_position, ..Inbox::default() };
        let begin = |engine: &mut Engine| {
            let head = engine.head(filter.as_str()).filter(|_| exact);
            let id = engine.subscribe(filter.clone(), start, lag);
            let read = engine.read(id, BATCH, &mut |item| inbox.take(&item));
            // Of one topic, a message that is still arriving is one that the stream waits for.
            let had = if exact { engine.delivered_through(id) } else { engine.reached(id) };
            let had_all = read == Ok(false) && had == engine.position();
            let since = Position { run: engine.run(), position: engine.position() };
            let topic = head.map(|(epoch, next)| {
                let waits = engine.overtaken(id, since.position);
                let next = waits.iter().map(|waits| waits.next).fold(next, u64::min);
                (epoch, next - 1)
            });
            (id, topic, read, had_all, since)
        };
        let (id, topic, read, had_all, since) = shared.broker.with(begin);
        let mut here = EventId { since, topic, overtaken: Vec::new() };
        if !had_all {
            // It has come no further than the last time, until it has sent something.
            let last = last.filter(|last| last.since.run == since.run);
            here.since.position = last.map_or(0, |last| last.since.position);
            here.overtaken = last.map_or_else(Vec::new, |last| last.overtaken.clone());
        }
        let charge = inbox.settle(room);
        let mut events = Self {
            stop: shared.stop.clone(),
            subscription: Subscription::new(shared.broker.clone(), id),
            shared,
            inbox,
            open: None,
            charge: Some(charge),
            sent: Sent::new(here),
            exact,
            prelude: Vec::new(),
            ending: read.err(),
            ended: false,
            _permit: permit,
        };
        events.look_behind();
        let retry = RETRY + rand::random::<u64>() % RETRY;
        events.prelude = format!("retry: {retry}\n").into_bytes();
        if had_all {
            // Nothing stands between what there was and this moment. Otherwise the first event
            // says where the stream stands; and before that, it is as if it had not begun.
            let _ = writeln!(events.prelude, "id: {}", events.sent);
        }
        events.prelude.push(b'\n');
        events
    }

    // The next chunk of the body; none at its end.
    async fn next(&mut self) -> Option<Result<Bytes, Evicted>> {
        // Since when there was no room to read.
        let mut full = None;
        loop {
            let mut out = std::mem::take(&mut self.prelude);
            if let Err(evicted) = self.write(&mut out).await {
                return Some(Err(evicted));
            }
            if self.open.is_some() || !self.inbox.read.is_empty() {
                out.shrink_to_fit();
                return Some(Ok(answer_budget::charged(out, self.charge.clone())));
            }
            let charge = self.charge.take();
            if !out.is_empty() {
                out.shrink_to_fit();
                return Some(Ok(answer_budget::charged(out, charge)));
            }
            drop(charge);
            if self.ended {
                return None;
            }
            if let Some(why) = self.ending.take() {
                self.ended = true;
                return Some(Ok(ended(&why)));
            }
            match self.read().await {
                Came::Read(read) => {
                    self.ending = read.err();
                    self.look_behind();
                }
                Came::Full if full.is_some_and(|since: Instant| since.elapsed() > self.room()) => {
                    self.ending = Some(Refusal::new(
                        Code::OVERLOADED,
                        "the daemon holds as much for its peers as it may: connect again later",
                    ));
                }
                Came::Full => {
                    full.get_or_insert_with(Instant::now);
                    sleep(answer_budget::AGAIN).await;
                }
                Came::Stopped => {
                    self.ending = Some(Refusal::new(
                        Code::SHUTTING_DOWN,
                        "the daemon stops: connect again, to it or to another",
                    ));
                }
                Came::Silence => return Some(Ok(self.keep_alive())),
            }
        }
    }

    fn room(&self) -> Duration {
        self.shared.room
    }

    // Waits for what there is to read, and reads it if there is room.
    async fn read(&mut self) -> Came {
        let Self { shared, subscription, stop, inbox, charge, .. } = self;
        let read = poll_fn(|context| {
            // Held while it waits: nothing.
            let Some(room) = shared.budget.take(ROUND.min(shared.budget.most())) else {
                // One that has had everything needs none.
                ready!(subscription.poll_unread(context));
                return Poll::Ready(Came::Full);
            };
            let read = subscription.poll_read(context, BATCH, &mut |item| inbox.take(&item));
            let read = ready!(read);
            *charge = Some(inbox.settle(room));
            Poll::Ready(Came::Read(read))
        });
        tokio::select! {
            biased;
            // Without a sender the daemon is gone too.
            _ = stop.wait_for(|stop| *stop) => Came::Stopped,
            read = read => read,
            () = sleep(shared.keep_alive) => Came::Silence,
        }
    }

    fn look_behind(&mut self) {
        if !self.exact {
            let (id, highest) = (self.subscription.id(), self.inbox.highest);
            let broker = &self.shared.broker;
            let (reached, behind) =
                broker.with(|engine| (engine.reached(id), engine.overtaken(id, highest)));
            self.sent.read(reached, behind, self.inbox.read.iter().map(Read::unsent));
        }
    }

    // Whatever was published meanwhile, the stream has had all of it that it asked for.
    fn keep_alive(&mut self) -> Bytes {
        let exact = self.exact;
        let Self { shared, subscription, inbox, .. } = self;
        let mut out = b": keep-alive\n".to_vec();
        if let Some(room) = shared.budget.take(ROUND.min(shared.budget.most())) {
            let (read, position) = shared.broker.with(|engine| {
                let id = subscription.id();
                let read = engine.read(id, BATCH, &mut |item| inbox.take(&item));
                (read, if exact { engine.delivered_through(id) } else { engine.reached(id) })
            });
            self.charge = Some(inbox.settle(room));
            self.look_behind();
            match read {
                Ok(false) => {
                    self.sent.reached(position);
                    let _ = writeln!(out, "id: {}", self.sent);
                }
                Ok(true) => {}
                Err(refusal) => self.ending = Some(refusal),
            }
        }
        out.push(b'\n');
        out.into()
    }

    // Appends what was read, up to a chunk.
    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Evicted> {
        while out.len() < CHUNK {
            let ended = match &mut self.open {
                Some(Open::Small(payload)) => Some(payload.write(out)),
                Some(Open::Large(payload)) => Some(payload.write(out).await?),
                None => None,
            };
            if let Some(ended) = ended {
                if ended {
                    self.open = None;
                    let _ = write!(out, "\nid: {}\n\n", self.sent);
                }
                continue;
            }
            match self.inbox.read.pop_front() {
                Some(Read::Message(message)) => self.begin_message(message, out).await,
                Some(gap) => self.write_gap(gap, out),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn begin_message(&mut self, message: Message, out: &mut Vec<u8>) {
        let open = match &message.payload {
            Content::Small(payload) => {
                out.extend_from_slice(b"event: message\ndata: ");
                Open::Small(message.head().write(out, payload.clone()))
            }
            Content::Large { topic, size } => {
                let broker = &self.shared.broker;
                match LargeText::begin(broker, *topic, message.sequence, *size).await {
                    Ok(large) => {
                        out.extend_from_slice(b"event: message\ndata: ");
                        message.head().begin(out, *size, large.is_text());
                        Open::Large(large)
                    }
                    Err(cause) => return self.write_gap(message.gap(cause), out),
                }
            }
        };
        self.open = Some(open);
        let epoch = self.exact.then_some(message.epoch);
        self.sent.event(message.id, epoch, message.sequence, Some(message.position));
    }

    fn write_gap(&mut self, gap: Read, out: &mut Vec<u8>) {
        let Read::Gap { id, topic, epoch, first, last, cause, exact } = gap else {
            return;
        };
        self.sent.event(id, self.exact.then_some(epoch), last, None);
        let data = json!({
            "event": "gap", "topic": &*topic, "first": first, "last": last,
            "cause": json::cause(cause), "epoch": epoch.to_string(), "exact": exact,
        });
        let _ = write!(out, "event: gap\ndata: {data}\n");
        if self.exact {
            let _ = writeln!(out, "id: {}", self.sent);
        }
        out.push(b'\n');
    }
}

// What a stream has waited for.
enum Came {
    Read(Result<bool, Refusal>),
    Full,
    Stopped,
    Silence,
}

fn ended(why: &Refusal) -> Bytes {
    let data = json!({
        "event": "ended", "code": why.code.0, "name": why.code.name(), "reason": why.reason,
        "retry": why.code.retry(),
    });
    format!("event: ended\ndata: {data}\n\n").into()
}
