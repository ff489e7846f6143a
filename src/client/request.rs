//! Requests with one answer: get, top, ping.

use super::error::{RequestError, SessionClosed};
use super::handle::Client;
use super::message_stream::{Arrived, Fault, MessageStream, fault};
use super::reassembly::CompleteMessage;
use super::session_state::{PendingReply, Reply, SessionState, Tables};
use crate::message::Ranking;
use crate::message::{CachedDigest, Message};
use crate::wire::{ClientFrame, Code, DaemonFrame, Refusal, Which, check_readable_topic};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Reads the message of a stream that answers a get. Returns `None` if the session ends before it.
pub(super) async fn read_message(
    stream: &mut MessageStream,
) -> Result<Option<Result<Message, Refusal>>, Fault> {
    let mut announced = None;
    while let Some(arrived) = stream.next().await? {
        let message = match arrived {
            Arrived::Complete(message) => message,
            Arrived::Begun(..) => continue,
            Arrived::Aborted(_, _, code) => return Ok(Some(Err(evicted(code)))),
            Arrived::Frame(frame) => match DaemonFrame::decode(&frame).map_err(fault)? {
                DaemonFrame::Topic { epoch, name, .. } => {
                    announced = Some((name.into(), epoch));
                    continue;
                }
                DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                    let (payload, digest) = (frame.slice_ref(payload), CachedDigest::default());
                    CompleteMessage { topic, sequence, count, stamp, payload, digest }
                }
                other => return Err(fault(format!("unexpected: {other:?}"))),
            },
        };
        let (topic, epoch) = announced.ok_or_else(|| fault("a message without its topic"))?;
        return Ok(Some(Ok(message.of(topic, epoch))));
    }
    Ok(None)
}

fn evicted(code: Code) -> Refusal {
    Refusal::new(code, "the message is gone: it left the cache while it was being sent")
}

/// Queues a request in this session at once, even if the control stream has no room. Only for callers
/// that make a single request. `encode` writes the frame for a request number.
pub(super) fn begin_request(
    session: &SessionState,
    encode: impl FnOnce(u32, &mut Tables, &mut Vec<u8>),
) -> PendingReply {
    let (sender, reply) = oneshot::channel();
    let mut tables = session.lock();
    // Without an entry in the table the receiver fails, as it does when the session ends.
    if tables.closed.is_none() {
        tables.last_request += 1;
        let request = tables.last_request;
        tables.requests.insert(request, sender);
        let mut out = Vec::new();
        encode(request, &mut tables, &mut out);
        session.control.push([out.into()]);
    }
    reply
}

impl Client {
    // Sends a request, and waits for the answer. If the session ends before, the next one sends it
    // again.
    async fn request(
        &self,
        mut encode: impl FnMut(u32, &mut Vec<u8>),
    ) -> Result<Result<Reply, Refusal>, SessionClosed> {
        let mut ended = None;
        loop {
            let session = self.shared().next_session(ended.as_ref()).await?;
            session.control.room().await;
            let reply = begin_request(&session, |request, _, out| encode(request, out));
            if let Ok(reply) = reply.await {
                return Ok(reply);
            }
            ended = Some(session);
        }
    }

    /// Returns one message of a topic: the newest, or by sequence, or by its payload's digest.
    ///
    /// Waits while the client has no session. A request whose session ends before the answer is sent
    /// again in the next one.
    pub async fn get(&self, topic: &str, which: Which) -> Result<Message, RequestError> {
        check_readable_topic(topic)?;
        let reply = self.request(|request, out| {
            ClientFrame::Get { request, topic, which }.encode(out);
        });
        match reply.await?.map_err(RequestError::Refused)? {
            Reply::Message(message) => Ok(message),
            other => Err(RequestError::Protocol(format!("{other:?} to a get"))),
        }
    }

    /// Returns the `k` most counted payloads of a topic, highest first. The daemon keeps 100. Waits
    /// for a session as [`get`](Self::get) does.
    pub async fn top(&self, topic: &str, k: u32) -> Result<Vec<Ranking>, RequestError> {
        check_readable_topic(topic)?;
        let reply = self.request(|request, out| ClientFrame::Top { request, topic, k }.encode(out));
        match reply.await?.map_err(RequestError::Refused)? {
            Reply::Top(ranking) => Ok(ranking),
            other => Err(RequestError::Protocol(format!("{other:?} to a top"))),
        }
    }

    /// Measures the round-trip time through the daemon's session. Waits for a session as
    /// [`get`](Self::get) does. A ping that is sent again measures the second round trip only.
    pub async fn ping(&self) -> Result<Duration, RequestError> {
        Ok(self.ping_clock().await?.0)
    }

    /// Measures the round-trip time, and returns it with the daemon's clock, µs since 1970. The daemon
    /// has read it about half the time ago.
    pub async fn ping_clock(&self) -> Result<(Duration, u64), RequestError> {
        let mut start = Instant::now();
        let reply = self.request(|request, out| {
            start = Instant::now();
            ClientFrame::Ping { request }.encode(out);
        });
        match reply.await?.map_err(RequestError::Refused)? {
            Reply::Pong(clock) => Ok((start.elapsed(), clock)),
            other => Err(RequestError::Protocol(format!("{other:?} to a ping"))),
        }
    }
}
