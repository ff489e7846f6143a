//! A subscription as server-sent events (HTML, section 9.2): the cursor is the only queue.
//!
//! A stream reads from its subscription when its client has taken the previous items. In between it
//! holds one read, and one piece of it as text, which are charged. A large message is read a batch
//! at a time while it is sent.

mod held;
mod item;
mod resume;
mod text;

use super::connection::ConnectionHandle;
use super::event_id::{self, EventId};
use super::large::Evicted;
use super::problem::Problem;
use super::sent::Sent;
use super::state::AppState;
use super::{answer_budget, api, caller, headers, path};
use crate::broker::counters::Mode;
use crate::broker::failure;
use crate::broker::replaying::Replaying;
use crate::broker::stop::{STOPPING, Stage, Work, draining, stopped};
use crate::broker::subscription::Subscription;
use crate::engine::{Charge, Engine};
use crate::wire::{Code, Filter, LARGE, Lag, NameError, Position, Refusal, Start};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use held::{Held, Open, admit, ending};
use item::{ReadItems, TEXT, UnwrittenItem};
use resume::Resumed;
use serde::Deserialize;
use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Poll, ready};
use text::{EventWriter, ended};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes read from the engine at once.
const BATCH: usize = 16 << 10;
/// Maximum memory that a stream holds at once, bytes. It is one read, whose last message may be as
/// long as a small one, a batch of a large message, and the text.
const ROUND: usize = BATCH + LARGE + super::large::MAX_READ + TEXT;
/// Minimum delay before a client connects again, ms. A random delay of up to as much is added, so
/// that clients do not connect all at once when a daemon has restarted.
const RETRY: u64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    from: Option<String>,
    lag: Option<String>,
    last_event_id: Option<String>,
    ticket: Option<String>,
}

/// `GET /v1/events/{filter}`.
pub(super) async fn subscribe(
    State(state): State<Arc<AppState>>,
    Extension(connection): Extension<Arc<ConnectionHandle>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter::new(&path::filter(&uri)?).map_err(NameError::of_filter)?;
    let parameters: Parameters = api::parameters(&uri)?;
    let from = event_id::from(parameters.from.as_deref().unwrap_or("new"))?;
    let lag = lag(parameters.lag.as_deref().unwrap_or("oldest"))?;
    // A browser that connects again sends the header to its first address, whose parameter may be an
    // older id. So the header takes precedence.
    let mut last = match headers::only(&headers, &LAST_EVENT_ID)?.filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse::<EventId>()?),
        None => parameters.last_event_id.as_deref().map(str::parse).transpose()?,
    };
    let identity = match &parameters.ticket {
        Some(ticket) => caller::of_ticket(&state, ticket)?,
        None => caller::identify(&state, &connection, &headers).await?,
    };
    caller::allowed(state.admission.access().subscribe(&identity, &filter))?;
    let permit = admit(&state, &connection)?;
    let replay = connection.budgets().replay.clone();
    let resumed = last.as_mut().map(|last| resume::resume(&state.broker, &filter, last));
    let Resumed { named, lost } = resumed.unwrap_or_default();
    let start = last.as_ref().map_or(from, |last| last.start(&filter, &named));
    let room = answer_budget::wait(&state.budget, ROUND, answer_budget::SOON)
        .await
        .ok_or_else(answer_budget::full)?;
    let held = Held {
        replay,
        identity,
        filter: filter.clone(),
        rules_changed: state.admission.rules_changed(),
        _permit: permit,
        _open: Open::new(&state.broker),
    };
    let mut events = Events::begin(state.clone(), held, room, &filter, &start, lag, last.as_ref());
    if lost > 0 {
        // In one event with the new id. A client that had the id alone would never be told.
        text::write_lost(lost, &mut events.prelude);
    }
    events.prelude.push(b'\n');
    let stream = stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let state = events.state.clone();
        let next = failure::seam(&state.broker, "events", events.next());
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
        // Otherwise a proxy that buffers would delay events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    // It ends with the daemon. Until then only what it still has to send is in flight.
    Ok((head, Extension(Endless), Body::from_stream(stream)).into_response())
}

/// Marks an answer that does not end by itself.
#[derive(Clone, Copy)]
pub(super) struct Endless;

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

// Waits until the daemon stops, or drains if the stream has not seen that yet.
async fn next_stage(stage: &mut watch::Receiver<Stage>, drains: bool) {
    if drains { stopped(stage).await } else { draining(stage).await }
}

struct Events {
    state: Arc<AppState>,
    subscription: Subscription,
    stage: watch::Receiver<Stage>,
    // A draining daemon waits for this, until the stream has seen that it drains, and has sent what
    // there was.
    work: Option<Work>,
    drains: bool,
    read: ReadItems,
    writer: EventWriter,
    // For the items that were read, and their text that the client has not taken.
    charge: Option<Arc<Charge>>,
    // Whether the filter is one topic.
    exact: bool,
    // The text before the first event.
    prelude: Vec<u8>,
    // Why the stream ends, once it does.
    ending: Option<Refusal>,
    ended: bool,
    replaying: Replaying,
    held: Held,
}

// The end of a stream's wait.
enum Wait {
    Read(Result<bool, Refusal>),
    NoRoom,
    Drains,
    Stopped,
    Silence,
    Ending,
}

impl Events {
    fn begin(
        state: Arc<AppState>,
        held: Held,
        room: Charge,
        filter: &Filter,
        start: &Start<'_>,
        lag: Lag,
        last: Option<&EventId>,
    ) -> Self {
        let exact = filter.is_exact();
        let by_position = last.is_some_and(|last| !exact || last.topic.is_none());
        let mut read = ReadItems::new(by_position);
        let mut replaying = Replaying::new(0, Mode::Events);
        let begin = |engine: &mut Engine| {
            replaying = Replaying::new(engine.position(), Mode::Events);
            let head = engine.head(filter.as_str()).filter(|_| exact);
            let id = engine.subscribe(filter.clone(), start, lag);
            let outcome = engine.read(id, BATCH, &mut |item| {
                replaying.count_bare(&item);
                read.push(&item);
            });
            // The stream of one topic waits for a message that is still arriving.
            let through = if exact { engine.delivered_through(id) } else { engine.reached(id) };
            let complete = outcome == Ok(false) && through == engine.position();
            let since = Position { run: engine.run(), position: engine.position() };
            let topic = head.map(|head| {
                let waits = engine.overtaken(id, since.position);
                let next = waits.iter().map(|waits| waits.next).fold(head.next, u64::min);
                (head.epoch, next - 1)
            });
            // A topic that was not kept may be told as lost, as soon as it exists again.
            let topic = topic.or_else(|| last.filter(|_| exact)?.topic);
            (id, topic, outcome, complete, since)
        };
        let (id, topic, outcome, complete, since) = state.broker.with(begin);
        replaying.spend(&held.replay, state.broker.counters());
        let mut here = EventId { since, furthest: 0, topic, overtaken: Vec::new() };
        if !complete {
            // Until it has sent an event, it has come as far as the stream that it resumes.
            let last = last.filter(|last| last.since.run == since.run);
            here.since.position = last.map_or(0, |last| last.since.position);
            here.furthest = last.map_or(0, |last| last.furthest);
            here.overtaken = last.map_or_else(Vec::new, |last| last.overtaken.clone());
        }
        let charge = read.settle(room);
        let mut events = Self {
            stage: state.stage.clone(),
            work: Some(state.in_flight.begin()),
            drains: false,
            subscription: Subscription::new(state.broker.clone(), id),
            writer: EventWriter::new(state.broker.clone(), Sent::new(here), exact),
            state,
            read,
            charge: Some(charge),
            exact,
            prelude: Vec::new(),
            ending: outcome.err(),
            ended: false,
            replaying,
            held,
        };
        events.note_overtaken();
        let retry = RETRY + rand::random::<u64>() % RETRY;
        events.prelude = format!("retry: {retry}\n").into_bytes();
        if complete {
            // The cache has nothing between the start and this moment. Otherwise the first event
            // has the id, and a client that resumes before it begins again.
            events.writer.write_id(&mut events.prelude);
        }
        events
    }

    // Returns the next chunk of the body, or `None` at its end.
    async fn next(&mut self) -> Option<Result<Bytes, Evicted>> {
        // The transport has taken the piece before.
        self.replaying.sent(self.state.broker.counters());
        // Since when there has been no room for a read.
        let mut full = None;
        loop {
            let mut out = std::mem::take(&mut self.prelude);
            if let Err(evicted) = self.writer.write(&mut self.read, &mut out).await {
                return Some(Err(evicted));
            }
            if self.replaying.catches_up() {
                // The text of a payload is up to six times as long.
                self.held.replay.spend(out.len() as u64);
            }
            if self.writer.is_inside_message() || !self.read.items.is_empty() {
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
            if let Some(reason) = self.ending.take() {
                self.ended = true;
                return Some(Ok(ended(&reason)));
            }
            if let Some(why) = self.held.ended(self.state.admission.access()) {
                self.ending = Some(why);
                continue;
            }
            match self.wait().await {
                Wait::Read(outcome) => {
                    self.ending = outcome.err();
                    self.note_overtaken();
                }
                Wait::NoRoom
                    if full.is_some_and(|since: Instant| since.elapsed() > self.state.room) =>
                {
                    self.ending = Some(Refusal::new(
                        Code::OVERLOADED,
                        "the daemon holds as much for its peers as it may: connect again later",
                    ));
                }
                Wait::NoRoom => {
                    full.get_or_insert_with(Instant::now);
                    sleep(answer_budget::AGAIN).await;
                }
                Wait::Drains => self.drains = true,
                Wait::Stopped => {
                    self.ending = Some(Refusal::new(Code::SHUTTING_DOWN, STOPPING));
                }
                Wait::Ending => {}
                Wait::Silence => return Some(Ok(self.keep_alive())),
            }
        }
    }

    // Waits for new items, and reads them if there is room.
    async fn wait(&mut self) -> Wait {
        let Self {
            state, subscription, stage, work, drains, read, charge, replaying, held, ..
        } = self;
        let drains = *drains;
        let Held { replay, identity, rules_changed, .. } = held;
        let gate = replaying.wait(replay, &state.broker, subscription.id());
        // Boxed, because most streams never wait here.
        let mut gate = gate.map(|wait| Box::pin(sleep(wait)));
        let mut in_flight = |state: &AppState, unread: bool| {
            if drains {
                *work = unread.then(|| state.in_flight.begin());
            }
        };
        let polled = poll_fn(|context| {
            if let Some(sleep) = &mut gate {
                ready!(sleep.as_mut().poll(context));
                gate = None;
            }
            // A stream that waits holds no room.
            let Some(room) = state.budget.take(ROUND.min(state.budget.most())) else {
                // It needs room only if there is something to read.
                let unread = subscription.poll_unread(context);
                in_flight(state, unread.is_ready());
                ready!(unread);
                return Poll::Ready(Wait::NoRoom);
            };
            let outcome = subscription.poll_read(context, BATCH, &mut |item| {
                replaying.count_bare(&item);
                read.push(&item);
            });
            in_flight(state, outcome.is_ready());
            let outcome = ready!(outcome);
            replaying.spend(replay, state.broker.counters());
            *charge = Some(read.settle(room));
            Poll::Ready(Wait::Read(outcome))
        });
        tokio::select! {
            biased;
            () = next_stage(stage, drains) => if drains { Wait::Stopped } else { Wait::Drains },
            wait = polled => wait,
            () = sleep(state.keep_alive) => Wait::Silence,
            () = ending(identity, rules_changed) => Wait::Ending,
        }
    }

    // Records what the last read has left behind, for the ids of streams with wildcards.
    fn note_overtaken(&mut self) {
        if !self.exact {
            let (id, highest) = (self.subscription.id(), self.read.highest);
            let broker = &self.state.broker;
            let (reached, behind) =
                broker.with(|engine| (engine.reached(id), engine.overtaken(id, highest)));
            let unsent = self.read.items.iter().map(UnwrittenItem::unsent);
            self.writer.sent().read(reached, behind, unsent);
        }
    }

    // Returns a comment, and the id of all that the stream has passed without an event.
    fn keep_alive(&mut self) -> Bytes {
        let exact = self.exact;
        let Self { state, subscription, read, work, replaying, held, .. } = self;
        *work = Some(state.in_flight.begin());
        let mut out = b": keep-alive\n".to_vec();
        if let Some(room) = state.budget.take(ROUND.min(state.budget.most())) {
            let (outcome, position) = state.broker.with(|engine| {
                let id = subscription.id();
                let outcome = engine.read(id, BATCH, &mut |item| {
                    replaying.count_bare(&item);
                    read.push(&item);
                });
                (outcome, if exact { engine.delivered_through(id) } else { engine.reached(id) })
            });
            replaying.spend(&held.replay, state.broker.counters());
            self.charge = Some(read.settle(room));
            self.note_overtaken();
            match outcome {
                Ok(false) => {
                    self.writer.sent().reached(position);
                    self.writer.write_id(&mut out);
                }
                Ok(true) => {}
                Err(refusal) => self.ending = Some(refusal),
            }
        }
        out.push(b'\n');
        out.into()
    }
}
