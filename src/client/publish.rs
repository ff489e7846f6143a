//! Publishing. Each publication has a number, and a receipt answers it. The number of publications
//! without a receipt is limited.

use super::error::PublishError;
use super::handle::Client;
use super::in_flight::{LargePublication, OutcomeSender, PublishOutcome, Receipt};
use super::session_state::SessionState;
use crate::net;
use crate::wire::{ClientFrame, LARGE, check_topic, encode_publish};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A publication that was sent. Resolves to its receipt. Dropping it does not withdraw the
/// publication.
#[derive(Debug)]
#[must_use = "the daemon may reject a publication: its receipt tells"]
pub struct PendingReceipt {
    outcome: oneshot::Receiver<PublishOutcome>,
    client: Client,
}

impl Future for PendingReceipt {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        let closed = || self.client.state().closed_error();
        // A publication that was sent on a stream is answered with a receipt.
        Poll::Ready(match outcome {
            Ok(outcome) => outcome.and_then(|receipt| receipt.ok_or_else(closed)),
            Err(_) => Err(closed()),
        })
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

    /// Publishes, and returns as soon as the publication is queued for sending. It waits only while
    /// 1,024 publications have no receipt.
    ///
    /// Publications to a topic keep their order, with one exception: small ones may overtake those
    /// above 64 KiB. At most 16 of the latter are sent at once.
    pub async fn send(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PendingReceipt, PublishError> {
        let outcome = self.submit(topic, &payload.into(), false).await?;
        Ok(PendingReceipt { outcome, client: self.clone() })
    }

    /// Numbers a publication and queues it for sending: in a datagram if `datagram` is set and it
    /// fits, else on a stream.
    pub(super) async fn submit(
        &self,
        topic: &str,
        payload: &Bytes,
        datagram: bool,
    ) -> Result<oneshot::Receiver<PublishOutcome>, PublishError> {
        check_topic(topic)?;
        let state = self.state();
        let limit = state.limits.payload;
        if payload.len() as u64 > limit {
            return Err(PublishError::TooLarge { size: payload.len(), limit });
        }
        let (sender, outcome) = oneshot::channel();
        let mut sender = Some(sender);
        let mut permit = None;
        if payload.len() > LARGE {
            let large = state.large_permits.clone().acquire_owned();
            permit = Some(large.await.map_err(|_| state.close_reason())?);
        }
        loop {
            let settled = state.settled.notified();
            state.publications.room().await;
            state.datagrams.room().await;
            if state.try_submit(topic, payload, datagram, &mut sender, &mut permit)? {
                return Ok(outcome);
            }
            settled.await;
        }
    }
}

impl SessionState {
    // Numbers the publication and queues it. Returns false if it has to wait for receipts.
    fn try_submit(
        self: &Arc<Self>,
        name: &str,
        payload: &Bytes,
        datagram: bool,
        sender: &mut Option<OutcomeSender>,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<bool, PublishError> {
        let mut tables = self.lock();
        if let Some(closed) = &tables.closed {
            return Err(closed.clone().into());
        }
        let numbered = tables.outstanding.number(name, self.limits.window, sender)?;
        let Some((alias, number)) = numbered else {
            return Ok(false);
        };
        if let Some(permit) = permit.take() {
            let (name, stamp, payload) = (name.into(), net::now(), payload.clone());
            let large = LargePublication { alias, name, number, stamp, payload, permit };
            tables.large.push(large);
            self.large_added.notify_one();
            return Ok(true);
        }
        let mut pieces = Vec::with_capacity(3);
        if tables.outstanding.declare(alias) {
            let mut declaration = Vec::new();
            ClientFrame::Topic { alias, name }.encode(&mut declaration);
            pieces.push(declaration.into());
        }
        let publish = encode_publish(alias, number, net::now(), payload);
        if datagram
            && let Some(datagram) = self.datagram(&tables.outstanding, (alias, &publish), None)
        {
            let (now, rtt) = (self.now(), self.rtt());
            tables.outstanding.unacked.push(now, rtt, alias, number, publish);
            // The alias is declared on the stream too, which loses nothing.
            self.publications.push(pieces);
            // If no datagram waits, this one is sent here, which saves waking a task.
            if !self.connection.try_send_datagram(std::slice::from_ref(&datagram)) {
                self.datagrams.push([datagram]);
            }
            self.resends.notify_one();
            return Ok(true);
        }
        let (head, body) = publish.pieces();
        pieces.extend([head.clone(), body.clone()].into_iter().filter(|piece| !piece.is_empty()));
        // Pushed under the lock, so that the stream has the order of the numbers.
        self.publications.push(pieces);
        Ok(true)
    }
}
