//! The tasks between a daemon and its stream: one proposes, one follows, one watches.

use super::abandoned::Abandoned;
use super::identity::Identity;
use super::message::{LogMessage, read};
use super::stream::OpenLog;
use crate::engine::replica::{Applied, LogChange, LogEntry, Ordered, Proposal, Sequencer};
use crate::journal::proposals::ProposalQueue;
use crate::wire::{Code, Refusal};
use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep, sleep_until, timeout};

/// How often the stream is looked at, 1 s.
const LOOK: Duration = Duration::from_secs(1);

/// Time without an answer after which the daemon counts as cut off, 2 s.
const SILENCE: Duration = Duration::from_secs(2);

/// How often a daemon looks whether what it knows is to be saved, 10 s.
const SAVE: Duration = Duration::from_secs(10);

/// Pause before proposals are sent again, 250 ms.
const AGAIN: Duration = Duration::from_millis(250);

/// Entries that are applied together at most, 256.
const BATCH: usize = 256;

/// Applies entries of the log, and returns what became of each.
pub(crate) type Apply = Box<dyn FnMut(&[(LogEntry, Ordered)]) -> Vec<Applied> + Send>;

/// Returns whether the engine [needs an entry](crate::engine::Engine::needs_entry).
pub(crate) type NeedsEntry = Box<dyn Fn() -> bool + Send>;

/// A log that is followed, until its tasks are dropped.
pub(crate) struct Log {
    pub(crate) tasks: JoinSet<()>,
    caught_up: watch::Receiver<bool>,
}

impl Log {
    /// Waits until everything is applied that the stream had when the daemon came.
    pub(crate) async fn caught_up(&mut self) {
        // The sender ends with its task, which ends with this.
        let _ = self.caught_up.wait_for(|caught_up| *caught_up).await;
    }
}

impl OpenLog {
    /// Begins to follow the stream, and to propose to it.
    pub(crate) fn start(
        self,
        queue: Arc<ProposalQueue>,
        apply: Apply,
        needs_entry: NeedsEntry,
    ) -> Log {
        let log = Arc::new(self);
        let (sender, caught_up) = watch::channel(false);
        // So that this daemon recognises its own proposals.
        let daemon = format!("{:032x}", rand::random::<u128>());
        let mut tasks = JoinSet::new();
        tasks.spawn(propose(log.clone(), queue.clone(), daemon.clone()));
        let following = Following {
            sequencer: Sequencer::restore(&log.state),
            saved: log.state.last,
            log: log.clone(),
            queue: queue.clone(),
            apply,
            needs_entry,
            abandoned: Abandoned::default(),
            daemon,
            caught_up: sender,
        };
        tasks.spawn(following.run());
        tasks.spawn(watch_stream(log, queue));
        Log { tasks, caught_up }
    }
}

// Sends proposals, and all that are not decided once more if one may be lost. The stream recognises
// those that it has.
async fn propose(log: Arc<OpenLog>, queue: Arc<ProposalQueue>, daemon: String) {
    let mut acks = FuturesUnordered::new();
    // Set once for all that fail together.
    let mut again = None;
    loop {
        let failed = tokio::select! {
            proposals = queue.take(), if again.is_none() => {
                let mut failed = None;
                for proposal in proposals {
                    match send(&log, &daemon, proposal).await {
                        Ok(ack) => acks.push(ack.into_future()),
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                failed
            }
            Some(ack) = acks.next() => ack.err().map(|error| error.to_string()),
            () = wait_until(again), if again.is_some() => {
                again = None;
                // Their answers would be those of the first attempt.
                acks.clear();
                queue.send_again();
                None
            }
        };
        if let Some(error) = failed {
            tracing::debug!(error, "a proposal was not acknowledged");
            again.get_or_insert_with(|| tokio::time::Instant::now() + AGAIN);
        }
    }
}

async fn wait_until(time: Option<tokio::time::Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}

async fn send(
    log: &OpenLog,
    daemon: &str,
    proposal: Proposal,
) -> Result<async_nats::jetstream::context::PublishAckFuture, String> {
    let Proposal { id, change, .. } = proposal;
    let (subject, message) = message(log, &change);
    let message = message.message_id(format!("{daemon}-{id}"));
    let sent = log.context.send_publish(subject, message).await;
    sent.map_err(|error| error.to_string())
}

fn message(log: &OpenLog, change: &LogChange) -> (String, PublishMessage) {
    let LogMessage { subject, headers, payload } = LogMessage::of(&log.options.stream, change);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(name, value);
    }
    (subject, PublishMessage::build().headers(map).payload(payload))
}

struct Following {
    sequencer: Sequencer,
    // The number of the entry after which its state was saved last.
    saved: u64,
    log: Arc<OpenLog>,
    queue: Arc<ProposalQueue>,
    apply: Apply,
    needs_entry: NeedsEntry,
    abandoned: Abandoned,
    daemon: String,
    caught_up: watch::Sender<bool>,
}

impl Following {
    async fn run(mut self) {
        let last = self.log.stream.cached_info().state.last_sequence;
        self.queue.state.last.store(last, Ordering::Release);
        let first = self.log.stream.cached_info().state.first_sequence;
        self.queue.state.first.store(first, Ordering::Release);
        self.note(last);
        loop {
            if let Err(error) = self.follow(last).await {
                tracing::debug!(error, "the stream is followed anew");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn follow(&mut self, last: u64) -> Result<(), String> {
        let from = self.sequencer.last() + 1;
        let config = OrderedConfig {
            deliver_subject: self.log.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ..OrderedConfig::default()
        };
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let consumer =
            self.log.stream.create_consumer(config).await.map_err(|error| text(&error))?;
        let messages = consumer.messages().await.map_err(|error| text(&error))?;
        let mut batches = messages.ready_chunks(BATCH);
        let mut save = interval_at(tokio::time::Instant::now() + SAVE, SAVE);
        loop {
            let batch = tokio::select! {
                batch = batches.next() => batch,
                _ = save.tick() => {
                    self.save();
                    self.tidy().await;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            let mut entries = Vec::with_capacity(batch.len());
            let mut failed = None;
            for message in batch {
                match message {
                    Ok(message) => entries.extend(self.entry(&message)?),
                    Err(error) => failed = Some(error.to_string()),
                }
            }
            self.apply(entries);
            self.note(last);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Err("the stream of messages has ended".into())
    }

    // Saves what the sequencer knows, for those who come later.
    fn save(&mut self) {
        let last = self.sequencer.last();
        if last == self.saved {
            return;
        }
        self.saved = last;
        let (state, log, queue) = (self.sequencer.save(), self.log.clone(), self.queue.clone());
        tokio::spawn(async move {
            let first = queue.state.first.load(Ordering::Acquire);
            if let Err(error) = log.snapshots.save(log.begun, &state, first).await {
                tracing::warn!("the state of the order was not saved: {error}");
            }
        });
    }

    // Proposes what nobody else does. If it is lost, the next look proposes it again.
    async fn tidy(&mut self) {
        let abandoned = self.abandoned.look(self.sequencer.uploads());
        let changes =
            abandoned.into_iter().map(|(upload, topic)| LogChange::Abort { upload, topic });
        let nothing = (self.needs_entry)().then_some(LogChange::Nothing);
        for change in changes.chain(nothing) {
            let (subject, message) = message(&self.log, &change);
            // Its acknowledgement is not needed.
            let _ = self.log.context.send_publish(subject, message).await;
        }
    }

    // Reads a message. The second part is the number of this daemon's proposal, if it is one.
    fn entry(&self, message: &Message) -> Result<Option<(LogEntry, Option<u64>)>, String> {
        let info = message.info().map_err(|error| error.to_string())?;
        let number = info.stream_sequence;
        let time = u64::try_from(info.published.unix_timestamp_nanos() / 1000).unwrap_or(0);
        let headers = message.headers.as_ref();
        let header = |name: &str| headers?.get(name).map(HeaderValue::as_str);
        let own = header("Nats-Msg-Id").and_then(|id| {
            let (daemon, id) = id.rsplit_once('-')?;
            (daemon == self.daemon).then(|| id.parse().ok())?
        });
        let prefix = &self.log.options.stream;
        let change = read(prefix, &message.subject, &header, message.payload.clone());
        // One that cannot be read takes its number too.
        let change = change.unwrap_or(LogChange::Nothing);
        Ok(Some((LogEntry { number, time, change }, own)))
    }

    fn apply(&mut self, entries: Vec<(LogEntry, Option<u64>)>) {
        let (mut ordered, mut own) = (Vec::new(), Vec::new());
        for (entry, id) in entries {
            let decision = self.sequencer.order(&entry);
            ordered.push((entry, decision));
            own.push(id);
        }
        if ordered.is_empty() {
            return;
        }
        let applied = (self.apply)(&ordered);
        self.queue.state.applied.store(self.sequencer.last(), Ordering::Release);
        for ((id, applied), (entry, _)) in own.into_iter().zip(applied).zip(&ordered) {
            let Some(id) = id else { continue };
            let outcome = match (applied, &entry.change) {
                (Applied::Accepted(receipt), _) => Ok(receipt),
                (Applied::Refused(refusal), _) => Err(refusal),
                (_, LogChange::End { .. }) => Err(displaced()),
                // A part of a publication: nobody waits for it.
                _ => Err(Refusal::new(Code::MALFORMED, "the log has no use for it")),
            };
            self.queue.decided(id, outcome);
        }
    }

    fn note(&self, last: u64) {
        if self.sequencer.last() >= last {
            self.caught_up.send_if_modified(|before| !std::mem::replace(before, true));
        }
    }
}

fn displaced() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "too many large payloads arrive at the daemons at the same time: publish it again later",
    )
}

// Looks at the stream, and says when the daemon is cut off from it.
async fn watch_stream(log: Arc<OpenLog>, queue: Arc<ProposalQueue>) {
    let state = &queue.state;
    let mut answered = Instant::now();
    // The daemon has shown messages that are not in the stream. That does not end by itself.
    let mut lost = None;
    loop {
        // Read before the stream is asked, which goes on meanwhile.
        let applied = state.applied.load(Ordering::Acquire);
        let info = timeout(SILENCE, log.stream.get_info()).await;
        let why = lost.or(match info {
            Ok(Ok(info)) if Identity::of(&info) != log.identity => {
                lost =
                    Some("the stream was made anew, and this daemon has followed the one before");
                lost
            }
            Ok(Ok(info)) if info.state.last_sequence < applied => {
                lost = Some("the stream has lost its newest messages, which this daemon has shown");
                lost
            }
            Ok(Ok(info)) => {
                answered = Instant::now();
                state.last.store(info.state.last_sequence, Ordering::Release);
                state.first.store(info.state.first_sequence, Ordering::Release);
                None
            }
            _ if answered.elapsed() < SILENCE => None,
            _ => Some("this daemon is cut off from NATS JetStream, which keeps its log"),
        });
        let before = state.cut_off.swap(why.is_some(), Ordering::AcqRel);
        if before != why.is_some() {
            match why {
                Some(why) => {
                    tracing::error!("{why}: its cache is served, and publications are refused");
                }
                None => tracing::info!("JetStream answers again: publications are accepted"),
            }
            queue.refuse(why.map(|why| {
                Refusal::new(Code::UNAVAILABLE, format!("{why}: publish it again later"))
            }));
        }
        queue.expire(Instant::now());
        sleep(LOOK).await;
    }
}
