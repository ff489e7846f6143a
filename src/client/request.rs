//! Questions with one answer: get, top, ping.

use super::driver::{Incoming, State, broken};
use super::{Client, Closed, RequestError};
use crate::message::Message;
use crate::wire::{ClientFrame, DaemonFrame, Digest, Refusal, TopEntry, Which, check_topic};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What the daemon says.
#[derive(Debug)]
pub(super) enum Answer {
    Subscribed(u64),
    Message(Message),
    Top(Vec<Ranking>),
    Pong,
}

/// An answer on its way; lost when the session is.
pub(super) type Answering = oneshot::Receiver<Result<Answer, Refusal>>;

/// A payload among the most counted of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt::since`](super::Receipt::since).
    pub since: Option<u64>,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Length, bytes.
    pub size: u64,
    /// The payload, if it is cached and no longer than 1 KiB.
    pub payload: Option<Bytes>,
}

impl Ranking {
    pub(super) fn from_wire(entry: &TopEntry<'_>) -> Self {
        Self {
            digest: entry.digest,
            count: entry.count,
            since: Some(entry.since).filter(|since| *since > 0),
            sequence: entry.sequence,
            size: entry.size,
            payload: entry.payload.map(Bytes::copy_from_slice),
        }
    }
}

/// Reads the one message of a stream; none if the stream ends before it.
pub(super) async fn read_message(incoming: &mut Incoming) -> Result<Option<Message>, Closed> {
    let mut topic = None;
    while let Some(frame) = incoming.next().await? {
        match DaemonFrame::decode(&frame).map_err(broken)? {
            DaemonFrame::Topic { epoch, name, .. } => topic = Some((name.into(), epoch)),
            DaemonFrame::Message { sequence, count, stamp, payload, .. } => {
                let (topic, epoch) = topic.ok_or_else(|| broken("a message without its topic"))?;
                let stamp = Some(stamp).filter(|stamp| *stamp > 0);
                let payload = frame.slice_ref(payload);
                return Ok(Some(Message { topic, epoch, sequence, count, stamp, payload }));
            }
            other => return Err(broken(format!("unexpected: {other:?}"))),
        }
    }
    Ok(None)
}

impl Client {
    /// Asks, in a frame made for the request's number, and waits for the answer.
    pub(super) async fn ask_with(
        &self,
        encode: impl FnOnce(u32, &mut State, &mut Vec<u8>),
    ) -> Result<Result<Answer, Refusal>, Closed> {
        self.shared().control.room().await;
        self.begin_asking(encode)?.await.map_err(|_| self.shared().why())
    }

    /// Asks without waiting, not even for room: for what is asked once.
    pub(super) fn begin_asking(
        &self,
        encode: impl FnOnce(u32, &mut State, &mut Vec<u8>),
    ) -> Result<Answering, Closed> {
        let shared = self.shared();
        let (question, answer) = oneshot::channel();
        let mut state = shared.lock();
        if let Some(closed) = &state.closed {
            return Err(closed.clone());
        }
        state.last_request += 1;
        let request = state.last_request;
        state.questions.insert(request, question);
        let mut out = Vec::new();
        encode(request, &mut state, &mut out);
        shared.control.push([out.into()]);
        Ok(answer)
    }

    /// One message of a topic: the newest, or by sequence, or by its payload's digest.
    pub async fn get(&self, topic: &str, which: Which) -> Result<Message, RequestError> {
        check_topic(topic)?;
        let asked = self.ask_with(|request, _, out| {
            ClientFrame::Get { request, topic, which }.encode(out);
        });
        match asked.await?.map_err(RequestError::Refused)? {
            Answer::Message(message) => Ok(message),
            other => Err(RequestError::Protocol(format!("{other:?} to a get"))),
        }
    }

    /// The `k` most counted payloads of a topic, highest first; the daemon keeps 100.
    pub async fn top(&self, topic: &str, k: u32) -> Result<Vec<Ranking>, RequestError> {
        check_topic(topic)?;
        let asked =
            self.ask_with(|request, _, out| ClientFrame::Top { request, topic, k }.encode(out));
        match asked.await?.map_err(RequestError::Refused)? {
            Answer::Top(ranking) => Ok(ranking),
            other => Err(RequestError::Protocol(format!("{other:?} to a top"))),
        }
    }

    /// There and back through the daemon's session: the time it took.
    pub async fn ping(&self) -> Result<Duration, RequestError> {
        let start = Instant::now();
        let asked = self.ask_with(|request, _, out| ClientFrame::Ping { request }.encode(out));
        match asked.await?.map_err(RequestError::Refused)? {
            Answer::Pong => Ok(start.elapsed()),
            other => Err(RequestError::Protocol(format!("{other:?} to a ping"))),
        }
    }
}
