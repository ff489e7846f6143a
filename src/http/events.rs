//! A subscription as server-sent events (HTML, section 9.2): the cursor is the only queue.
//!
//! A stream reads its subscription when its client has taken what was read before; between the
//! two stand one read and one piece of it as text.

use super::problem::Problem;
use super::resume::{self, EventId};
use super::{Shared, api, name};
use crate::engine::{Engine, Item, SubscriptionId};
use crate::json::{self, Head, Payload};
use crate::net::core::Taken;
use crate::net::failure;
use crate::wire::{Code, Digest, Filter, GapCause, Lag, NameError, Position, Refusal};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes read from the engine at once.
const BATCH: usize = 16 << 10;
/// Bytes of text handed to the connection at once; one piece of a payload may come on top.
const CHUNK: usize = 32 << 10;
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
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.stopping()?;
    let filter = Filter::new(&name::filter(&uri)?).map_err(NameError::of_filter)?;
    let parameters: Parameters = api::parameters(&uri)?;
    let from = resume::from(parameters.from.as_deref().unwrap_or("new"))?;
    let lag = lag(parameters.lag.as_deref().unwrap_or("oldest"))?;
    // A browser that connects again sends the header, to the address that it was given.
    let last = match api::only(&headers, &LAST_EVENT_ID)?.filter(|id| !id.is_empty()) {
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
    let start = last.map_or(from, |last| last.start(&filter));
    let events = Events::begin(shared.clone(), permit, &filter, &start, lag, last);
    let stream = stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let shared = events.subscription.shared.clone();
        let next = failure::seam(&shared.core, "events", events.next());
        let (chunk, events) = match AssertUnwindSafe(next).catch_unwind().await {
            Ok(chunk) => (chunk?, Some(events)),
            Err(_) => (ended(&failure::defect("a stream of events")), None),
        };
        Some((Ok::<_, Infallible>(chunk), events))
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

// What was read and is not sent yet. Payloads are shared with the cache.
enum Read {
    Message {
        topic: Arc<str>,
        epoch: u64,
        sequence: u64,
        position: u64,
        count: u64,
        digest: Digest,
        stamp: u64,
        payload: Taken,
    },
    Gap {
        topic: Arc<str>,
        epoch: u64,
        first: u64,
        last: u64,
        cause: GapCause,
        exact: bool,
    },
}

// A subscription in the engine, until it is dropped.
struct Subscription {
    shared: Arc<Shared>,
    id: SubscriptionId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.core.tidy(|engine| engine.unsubscribe(self.id));
    }
}

struct Events {
    subscription: Subscription,
    stop: watch::Receiver<bool>,
    inbox: Inbox,
    // A message whose payload is under way.
    open: Option<Payload>,
    // Up to where everything was sent.
    sent: EventId,
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
    // Whether the stream goes on from a position alone.
    by_position: bool,
    announced: bool,
}

impl Inbox {
    fn take(&mut self, item: &Item<'_>) {
        let just_announced = std::mem::take(&mut self.announced);
        match item {
            Item::Topic { .. } => self.announced = true,
            Item::Message(message) => self.read.push_back(Read::Message {
                topic: message.topic().clone(),
                epoch: message.epoch(),
                sequence: message.sequence(),
                position: message.position(),
                count: message.count(),
                digest: message.digest(),
                stamp: message.stamp(),
                payload: Taken::of(message),
            }),
            Item::Gap { epoch, name, first, last, cause, .. } => self.read.push_back(Read::Gap {
                topic: (*name).clone(),
                epoch: *epoch,
                first: *first,
                last: *last,
                cause: *cause,
                // Where a topic was not named when the stream was resumed, the gap may begin
                // before what the client has had.
                exact: !(self.by_position && just_announced),
            }),
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
        shared: Arc<Shared>,
        permit: OwnedSemaphorePermit,
        filter: &Filter,
        start: &crate::wire::Start<'_>,
        lag: Lag,
        last: Option<EventId>,
    ) -> Self {
        let exact = filter.is_exact();
        let by_position = last.is_some_and(|last| !exact || last.topic.is_none());
        let mut inbox = Inbox { by_position, ..Inbox::default() };
        let begin = |engine: &mut Engine| {
            let head = engine.head(filter.as_str()).filter(|_| exact);
            let id = engine.subscribe(filter.clone(), start, lag);
            let read = engine.read(id, BATCH, &mut |item| inbox.take(&item));
            // A message that is still arriving is one that the stream waits for.
            let had_all = read == Ok(false) && engine.had(id) == engine.position();
            let since = Position { run: engine.run(), position: engine.position() };
            (id, head, read, since, had_all)
        };
        let (id, head, read, since, had_all) = shared.core.with(begin);
        let here = EventId { since, topic: head.map(|(epoch, next)| (epoch, next - 1)) };
        let retry = RETRY + rand::random::<u64>() % RETRY;
        let mut prelude = format!("retry: {retry}\n").into_bytes();
        if had_all {
            // Nothing stands between what there was and this moment. Otherwise the first event
            // says where the stream stands; and before that, it is as if it had not begun.
            let _ = writeln!(prelude, "id: {here}");
        }
        prelude.push(b'\n');
        Self {
            stop: shared.stop.clone(),
            subscription: Subscription { shared, id },
            inbox,
            open: None,
            sent: here,
            exact,
            prelude,
            ending: read.err(),
            ended: false,
            _permit: permit,
        }
    }

    // The next chunk of the body; none at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let mut out = std::mem::take(&mut self.prelude);
            self.write(&mut out);
            if !out.is_empty() {
                return Some(out.into());
            }
            if self.ended {
                return None;
            }
            if let Some(why) = self.ending.take() {
                self.ended = true;
                return Some(ended(&why));
            }
            let Self { subscription: Subscription { shared, id }, stop, inbox, .. } = self;
            let read = poll_fn(|context| {
                shared.core.poll_read(*id, context, BATCH, &mut |item| inbox.take(&item))
            });
            let result = tokio::select! {
                biased;
                // Without a sender the daemon is gone too.
                _ = stop.wait_for(|stop| *stop) => Some(Err(Refusal::new(
                    Code::SHUTTING_DOWN,
                    "the daemon stops: connect again, to it or to another",
                ))),
                read = read => Some(read),
                () = tokio::time::sleep(shared.keep_alive) => None,
            };
            match result {
                Some(read) => self.ending = read.err(),
                None => return Some(self.keep_alive()),
            }
        }
    }

    // Whatever was published meanwhile, the stream has had all of it that it asked for.
    fn keep_alive(&mut self) -> Bytes {
        let Self { subscription: Subscription { shared, id }, inbox, .. } = self;
        let (read, position) = shared.core.with(|engine| {
            let read = engine.read(*id, BATCH, &mut |item| inbox.take(&item));
            (read, engine.had(*id))
        });
        let mut out = b": keep-alive\n".to_vec();
        match read {
            Ok(false) => {
                self.sent.since.position = position;
                let _ = writeln!(out, "id: {}", self.sent);
            }
            Ok(true) => {}
            Err(refusal) => self.ending = Some(refusal),
        }
        out.push(b'\n');
        out.into()
    }

    // Appends what was read, up to a chunk.
    fn write(&mut self, out: &mut Vec<u8>) {
        while out.len() < CHUNK {
            if let Some(open) = &mut self.open {
                if open.write(out) {
                    self.open = None;
                    let _ = write!(out, "\nid: {}\n\n", self.sent);
                }
                continue;
            }
            let Some(read) = self.inbox.read.pop_front() else {
                return;
            };
            self.open = self.write_event(read, out);
        }
    }

    fn write_event(&mut self, read: Read, out: &mut Vec<u8>) -> Option<Payload> {
        match read {
            Read::Message { topic, epoch, sequence, position, count, digest, stamp, payload } => {
                self.sent.since.position = position;
                self.sent.topic = self.exact.then_some((epoch, sequence));
                out.extend_from_slice(b"event: message\ndata: ");
                let payload = self.subscription.shared.core.join(payload);
                let head = Head { topic: &topic, sequence, count, digest, stamp };
                Some(head.write(out, payload))
            }
            Read::Gap { topic, epoch, first, last, cause, exact } => {
                let data = json!({
                    "event": "gap", "topic": &*topic, "first": first, "last": last,
                    "cause": json::cause(cause), "epoch": epoch.to_string(), "exact": exact,
                });
                let _ = write!(out, "event: gap\ndata: {data}\n");
                if self.exact {
                    self.sent.topic = Some((epoch, last));
                    let _ = writeln!(out, "id: {}", self.sent);
                }
                out.push(b'\n');
                None
            }
        }
    }
}

fn ended(why: &Refusal) -> Bytes {
    let data = json!({
        "event": "ended", "code": why.code.0, "name": why.code.name(), "reason": why.reason,
        "retry": why.code.retry(),
    });
    format!("event: ended\ndata: {data}\n\n").into()
}
