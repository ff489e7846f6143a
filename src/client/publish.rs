//! Publishing: numbered, in flight up to a bound, each answered with a receipt.

use super::driver::State;
use super::upload::Large;
use super::{Client, PublishError, SessionState};
use crate::wire::realtime::Unacked;
use crate::wire::{ClientFrame, Digest, LARGE, MAX_ALIASES, check_topic, encode_publish};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Publications without a receipt in one session, beyond which publishing waits.
const IN_FLIGHT: usize = 1024;

/// Payloads above [`LARGE`], which go on streams of their own and do not delay the others, on their way at once; publishing a further one waits. The daemon allows 100.
pub(super) const OWN_STREAMS: usize = 16;

/// A publication was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its sequence in the topic.
    pub sequence: u64,
    /// Times the payload was published to the topic, that time included.
    pub count: u64,
    /// Since when the payload has been counted, µs since 1970, if publications before then may
    /// have been forgotten.
    pub since: Option<u64>,
    /// Digest of the payload, as the daemon computed it.
    pub digest: Digest,
    /// Whether it had been accepted before, and so was not counted again.
    pub duplicate: bool,
}

/// What whoever waits is told: a receipt, or, of what went in a datagram, only that it was accepted.
pub(super) type PublishOutcome = Result<Option<Receipt>, PublishError>;

pub(super) type Waiting = oneshot::Sender<PublishOutcome>;

struct Topic {
    name: Arc<str>,
    alias: u32,
    last: u64,
    // Without a receipt, by number.
    waiting: BTreeMap<u64, Waiting>,
    // Declared on the long-lived stream.
    declared: bool,
    // The daemon has acknowledged a datagram, and so knows the alias.
    acknowledged: bool,
}

/// Publications without a receipt.
#[derive(Default)]
pub(super) struct Outstanding {
    topics: HashMap<Arc<str>, u32>,
    by_alias: Vec<Topic>,
    count: usize,
    // Of these, what went in datagrams.
    pub(super) unacked: Unacked,
}

impl Outstanding {
    pub(super) fn settle(&mut self, alias: u32, number: u64, result: PublishOutcome) {
        self.unacked.settled(alias, number);
        let topic = self.by_alias.get_mut(alias as usize);
        if let Some(waiting) = topic.and_then(|topic| topic.waiting.remove(&number)) {
            self.count -= 1;
            // Nobody may care for the receipt.
            let _ = waiting.send(result);
        }
    }

    /// The daemon has accepted publications that came in datagrams.
    pub(super) fn acknowledge(&mut self, alias: u32, floor: u64, seen: u64) {
        if let Some(topic) = self.by_alias.get_mut(alias as usize) {
            topic.acknowledged = true;
        }
        let mut settled = Vec::new();
        self.unacked.acknowledged(alias, floor, seen, &mut |_, number| settled.push(number));
        settled.into_iter().for_each(|number| self.settle(alias, number, Ok(None)));
    }

    /// Whether a publication has no answer yet.
    pub(super) fn waits(&self, alias: u32, number: u64) -> bool {
        let topic = self.by_alias.get(alias as usize);
        topic.is_some_and(|topic| topic.waiting.contains_key(&number))
    }

    /// The name of an alias that the daemon may not know yet.
    pub(super) fn undeclared(&self, alias: u32) -> Option<&str> {
        let topic = self.by_alias.get(alias as usize).filter(|topic| !topic.acknowledged);
        topic.map(|topic| &*topic.name)
    }

    pub(super) fn clear(&mut self) {
        self.unacked = Unacked::new();
        self.by_alias.iter_mut().for_each(|topic| topic.waiting.clear());
        self.count = 0;
    }

    // None when the session has as many as it may.
    fn topic(&mut self, name: &str) -> Option<&mut Topic> {
        let alias = match self.topics.get(name) {
            Some(alias) => *alias,
            None if self.by_alias.len() >= MAX_ALIASES => return None,
            None => {
                let alias = self.by_alias.len() as u32;
                let name: Arc<str> = name.into();
                self.topics.insert(name.clone(), alias);
                let waiting = BTreeMap::new();
                let (declared, acknowledged) = (false, false);
                let topic = Topic { name, alias, last: 0, waiting, declared, acknowledged };
                self.by_alias.push(topic);
                alias
            }
        };
        self.by_alias.get_mut(alias as usize)
    }
}

/// A publication on its way: resolves to its receipt. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "a publication may be refused: the receipt tells"]
pub struct PendingReceipt {
    receipt: oneshot::Receiver<PublishOutcome>,
    client: Client,
}

impl Future for PendingReceipt {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receipt).poll(context));
        let why = || self.client.shared().why().into();
        // What goes by stream is answered with a receipt.
        Poll::Ready(
            answer.unwrap_or_else(|_| Err(why())).and_then(|receipt| receipt.ok_or_else(why)),
        )
    }
}

impl Client {
    /// Publishes and waits for the receipt.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, PublishError> {
        self.send(topic, payload).await?.await
    }

    /// Publishes and returns as soon as the publication is on its way; waits only while 1,024
    /// have no receipt yet. Publications to a topic keep their order, except that small ones may
    /// overtake those above 64 KiB, of which 16 are on their way at once.
    pub async fn send(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PendingReceipt, PublishError> {
        let receipt = self.number(topic, &payload.into(), false).await?;
        Ok(PendingReceipt { receipt, client: self.clone() })
    }

    /// Numbers a publication and puts it on its way, in a datagram if it is to be and fits.
    pub(super) async fn number(
        &self,
        topic: &str,
        payload: &Bytes,
        datagram: bool,
    ) -> Result<oneshot::Receiver<PublishOutcome>, PublishError> {
        check_topic(topic)?;
        let limit = self.shared().limits.payload;
        if payload.len() as u64 > limit {
            return Err(PublishError::TooLarge { size: payload.len(), limit });
        }
        let (waiting, answer) = oneshot::channel();
        let mut waiting = Some(waiting);
        let mut permit = None;
        if payload.len() > LARGE {
            let large = self.shared().large.clone().acquire_owned();
            permit = Some(large.await.map_err(|_| self.shared().why())?);
        }
        loop {
            let settled = self.shared().receipt.notified();
            self.shared().publications.room().await;
            self.shared().datagrams.room().await;
            if self.shared().begin(topic, payload, datagram, &mut waiting, &mut permit)? {
                return Ok(answer);
            }
            settled.await;
        }
    }
}

impl SessionState {
    // Numbers the publication and puts it on its way; false if that has to wait for receipts.
    fn begin(
        self: &Arc<Self>,
        name: &str,
        payload: &Bytes,
        datagram: bool,
        waiting: &mut Option<Waiting>,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<bool, PublishError> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(closed) = &state.closed {
            return Err(closed.clone().into());
        }
        if state.outstanding.count >= IN_FLIGHT {
            return Ok(false);
        }
        let topic = state.outstanding.topic(name).ok_or(PublishError::TooManyTopics)?;
        let oldest = topic.waiting.first_key_value().map_or(topic.last + 1, |(number, _)| *number);
        if topic.last + 1 >= oldest + u64::from(self.limits.window) {
            return Ok(false);
        }
        let Some(waiting) = waiting.take() else {
            return Ok(true);
        };
        topic.last += 1;
        topic.waiting.insert(topic.last, waiting);
        let (alias, number) = (topic.alias, topic.last);
        if let Some(permit) = permit.take() {
            let (name, stamp, payload) = (topic.name.clone(), crate::net::now(), payload.clone());
            state.sending.push(Large { alias, name, number, stamp, payload, permit });
            state.outstanding.count += 1;
            self.sending.notify_one();
            return Ok(true);
        }
        let mut pieces = Vec::with_capacity(3);
        if !std::mem::replace(&mut topic.declared, true) {
            let mut declare = Vec::new();
            ClientFrame::Topic { alias, name }.encode(&mut declare);
            pieces.push(declare.into());
        }
        let publish = encode_publish(alias, number, crate::net::now(), payload);
        if datagram
            && let Some(datagram) = self.datagram(&state.outstanding, (alias, &publish), None)
        {
            let (now, rtt) = (self.now(), self.rtt());
            state.outstanding.unacked.push(now, rtt, alias, number, publish);
            state.outstanding.count += 1;
            // The declaration, on the stream, where it does not get lost.
            self.publications.push(pieces);
            // At once, where nothing waits: a task less to wake.
            if !self.connection.try_send_datagram(std::slice::from_ref(&datagram)) {
                self.datagrams.push([datagram]);
            }
            self.resends.notify_one();
            return Ok(true);
        }
        let (head, body) = publish.pieces();
        pieces.extend([head.clone(), body.clone()].into_iter().filter(|piece| !piece.is_empty()));
        state.outstanding.count += 1;
        // Under the lock, so that numbers and stream have one order.
        self.publications.push(pieces);
        Ok(true)
    }

    /// Waits until every publication has its receipt, or the session is over.
    pub(super) async fn settled(&self) {
        self.until(|state| state.outstanding.count == 0).await;
    }

    /// Waits until the session is over.
    pub(super) async fn ended(&self) {
        self.until(|_| false).await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let settled = self.receipt.notified();
            {
                let state = self.lock();
                if done(&state) || state.closed.is_some() {
                    return;
                }
            }
            settled.await;
        }
    }
}
