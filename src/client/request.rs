//! Questions with one answer: get, top, ping.

use super::driver::State;
use super::message_stream::{Arrived, Fault, Incoming, fault};
use super::reassembly::CompleteMessage;
use super::{Client, RequestError, SessionClosed};
use crate::message::{CachedDigest, Message};
use crate::wire::{ClientFrame, Code, DaemonFrame, Digest, Refusal, TopEntry, Which, check_topic};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What the daemon says.
#[derive(Debug)]
pub(super) enum Reply {
    Subscribed(u64),
    Message(Message),
    Top(Vec<Ranking>),
    Pong,
}

/// An answer on its way; lost when the session is.
pub(super) type Answering = oneshot::Receiver<Result<Reply, Refusal>>;

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

/// Reads the one message of a stream; none if the session ends before it.
pub(super) async fn read_message(
    incoming: &mut Incoming,
) -> Result<Option<Result<Message, Refusal>>, Fault> {
    let mut told = None;
    while let Some(arrived) = incoming.next().await? {
        let whole = match arrived {
            Arrived::CompleteMessage(whole) => whole,
            Arrived::Begun(..) => continue,
            Arrived::Aborted(_, _, code) => return Ok(Some(Err(withdrawn(code)))),
            Arrived::Frame(frame) => match DaemonFrame::decode(&frame).map_err(fault)? {
                DaemonFrame::Topic { epoch, name, .. } => {
                    told = Some((name.into(), epoch));
                    continue;
                }
                DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                    let (payload, known) = (frame.slice_ref(payload), CachedDigest::default());
                    CompleteMessage { topic, sequence, count, stamp, payload, known }
                }
                other => return Err(fault(format!("unexpected: {other:?}"))),
            },
        };
        let (topic, epoch) = told.ok_or_else(|| fault("a message without its topic"))?;
        return Ok(Some(Ok(whole.of(topic, epoch))));
    }
    Ok(None)
}

fn withdrawn(code: Code) -> Refusal {
    Refusal::new(code, "the message is gone: it left the cache while it was being sent")
}

impl Client {
    /// Asks, in a frame made for the request's number, and waits for the answer.
    pub(super) async fn ask_with(
        &self,
        encode: impl FnOnce(u32, &mut State, &mut Vec<u8>),
    ) -> Result<Result<Reply, Refusal>, SessionClosed> {
        self.shared().control.room().await;
        self.begin_asking(encode)?.await.map_err(|_| self.shared().why())
    }

    /// Asks without waiting, not even for room: for what is asked once.
    pub(super) fn begin_asking(
        &self,
        encode: impl FnOnce(u32, &mut State, &mut Vec<u8>),
    ) -> Result<Answering, SessionClosed> {
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
            Reply::Message(message) => Ok(message),
            other => Err(RequestError::Protocol(format!("{other:?} to a get"))),
        }
    }

    /// The `k` most counted payloads of a topic, highest first; the daemon keeps 100.
    pub async fn top(&self, topic: &str, k: u32) -> Result<Vec<Ranking>, RequestError> {
        check_topic(topic)?;
        let asked =
            self.ask_with(|request, _, out| ClientFrame::Top { request, topic, k }.encode(out));
        match asked.await?.map_err(RequestError::Refused)? {
            Reply::Top(ranking) => Ok(ranking),
            other => Err(RequestError::Protocol(format!("{other:?} to a top"))),
        }
    }

    /// There and back through the daemon's session: the time it took.
    pub async fn ping(&self) -> Result<Duration, RequestError> {
        let start = Instant::now();
        let asked = self.ask_with(|request, _, out| ClientFrame::Ping { request }.encode(out));
        match asked.await?.map_err(RequestError::Refused)? {
            Reply::Pong => Ok(start.elapsed()),
            other => Err(RequestError::Protocol(format!("{other:?} to a ping"))),
        }
    }
}
