//! The control stream of a peer, and the tasks that send what it asked for there.

use super::dispatch::stalled;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use super::upload::{Incoming, StreamRead};
use crate::broker::failure::{self, seam};
use crate::engine::{Action, Channel, GetReply, SubscriptionId, no_room};
use crate::net::delivery::marks::Marks;
use crate::net::delivery::realtime::{self, DatagramOptions};
use crate::net::delivery::{DeliveryEnd, get, ordered, unordered};
use crate::net::error::WriteError;
use crate::net::transport::Transport;
use crate::net::transport::stream::SendStream;
use crate::wire::{Code, DaemonFrame, Delivery, Refusal};
use bytes::Bytes;
use futures_util::FutureExt as _;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::{AbortHandle, JoinError, JoinSet};

/// Answers to gets under way in one session; a further one waits. Each holds its payload, also
/// when that has left the cache.
const ANSWERS: usize = 8;

/// Reads the control stream until the session ends.
pub(super) async fn run(peer: &Arc<Peer>, frames: &mut Frames) -> SessionEnd {
    let mut incoming = Incoming::new(peer.clone());
    let mut tasks = Tasks::default();
    let mut actions = Vec::new();
    loop {
        let came = {
            let mut next = pin!(incoming.next(frames));
            let came = poll_fn(|context| {
                if let Poll::Ready(defect) = tasks.poll_ended(peer, context) {
                    return Poll::Ready(Err(defect.into()));
                }
                next.as_mut().poll(context)
            });
            came.await
        };
        let end = match came {
            Ok(StreamRead::Frames(frames)) => {
                peer.handle(Channel::Control, frames, &mut incoming, &mut actions).await.err()
            }
            // What still comes of it is dropped.
            Ok(StreamRead::TimedOut) => peer.give_up(&mut incoming, frames, &stalled()).await.err(),
            Ok(StreamRead::NoRoom) => peer.give_up(&mut incoming, frames, &no_room()).await.err(),
            Ok(StreamRead::Finished) => Some(SessionEnd::Left("closed its control stream".into())),
            Err(end) => Some(end),
        };
        for action in actions.drain(..) {
            if matches!(action, Action::Answer { .. }) && tasks.are_full() {
                // In a box: most sessions never wait for that.
                if let Err(end) = Box::pin(tasks.room(peer)).await {
                    return end;
                }
            }
            if let Err(end) = tasks.act(peer, action) {
                return end;
            }
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// What a task was for, and how it ended.
struct Ended {
    request: u32,
    // None of an answer to a get.
    subscription: Option<SubscriptionId>,
    end: DeliveryEnd,
}

/// Deliveries, and answers to gets. Dropped with the session, which stops them.
#[derive(Default)]
struct Tasks {
    all: JoinSet<Ended>,
    // By request: a peer may use the number again when it has ended the subscription.
    deliveries: HashMap<u32, (SubscriptionId, AbortHandle)>,
}

impl Tasks {
    fn act(&mut self, peer: &Arc<Peer>, action: Action) -> Result<(), SessionEnd> {
        match action {
            Action::Deliver { .. } => self.deliver(peer, &action),
            Action::Repair { .. } => peer.datagrams.route_repair(action),
            Action::Acknowledge { alias } => peer.datagrams.queue_ack(alias),
            Action::Stop { request, .. } => {
                peer.datagrams.forget_repairs(request);
                if let Some((_, delivery)) = self.deliveries.remove(&request) {
                    delivery.abort();
                }
            }
            Action::StopReading { .. } => {}
            Action::Answer { request, head, message } => {
                self.answer(peer, request, head, message);
            }
            Action::PeerLeft { code } => {
                return Err(SessionEnd::Left(format!("said goodbye: {code}")));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, peer: &Arc<Peer>, action: &Action) {
        let Action::Deliver { request, subscription, delivery, deadline, bare, marks } = *action
        else {
            return;
        };
        let marks = Marks::new(marks);
        let context = peer.context.clone();
        let ended = move |end| Ended { request, subscription: Some(subscription), end };
        let task = match (delivery, context.connection.transport()) {
            // One channel has one order.
            (Delivery::Ordered, _) | (_, Transport::WebSocket) => {
                let broker = context.broker.clone();
                let delivery = ordered::deliver(context, request, subscription, deadline, marks);
                self.all.spawn(seam(&broker, "delivery", delivery.map(ended)))
            }
            (Delivery::Unordered, Transport::Quic) => {
                let delivery = unordered::deliver(context, request, subscription);
                self.all.spawn(delivery.map(ended))
            }
            (Delivery::Realtime, _) | (Delivery::Unordered, Transport::WebTransport) => {
                let asked = peer.datagrams.register_repairs(request);
                let carriage = DatagramOptions { deadline, bare, marks };
                let delivery = realtime::deliver(context, request, subscription, carriage, asked);
                self.all.spawn(delivery.map(ended))
            }
        };
        self.deliveries.insert(request, (subscription, task));
    }

    fn answer(&mut self, peer: &Arc<Peer>, request: u32, head: [Bytes; 2], message: GetReply) {
        let answer = get::answer(peer.context.clone(), head, message);
        self.all.spawn(answer.map(move |end| Ended { request, subscription: None, end }));
    }

    fn are_full(&self) -> bool {
        self.all.len() > self.deliveries.len() + ANSWERS
    }

    // Waits until one more answer may be under way.
    async fn room(&mut self, peer: &Peer) -> Result<(), SessionEnd> {
        while self.are_full()
            && let Some(ended) = self.all.join_next().await
        {
            self.ended(peer, ended)?;
        }
        Ok(())
    }

    // Handles all that have ended. Ready with the reason when the session has to end with one.
    fn poll_ended(&mut self, peer: &Peer, context: &mut Context<'_>) -> Poll<Refusal> {
        while let Poll::Ready(Some(ended)) = self.all.poll_join_next(context) {
            if let Err(defect) = self.ended(peer, ended) {
                return Poll::Ready(defect);
            }
        }
        Poll::Pending
    }

    // Only here does a subscription end because its delivery did, and the peer is told.
    fn ended(&mut self, peer: &Peer, ended: Result<Ended, JoinError>) -> Result<(), Refusal> {
        let Ended { request, subscription, end } = match ended {
            Ok(ended) => ended,
            Err(error) => return failure::of_task(Err::<(), _>(error)).map_or(Ok(()), Err),
        };
        // The request may be another subscription's by now.
        let is_it = |(id, _): &(SubscriptionId, AbortHandle)| Some(*id) == subscription;
        if self.deliveries.get(&request).is_some_and(is_it) {
            self.deliveries.remove(&request);
        }
        let why = match end {
            DeliveryEnd::Refused(refusal) => refusal,
            DeliveryEnd::StoppedByPeer => Refusal::new(Code::DONE, "the client stopped the stream"),
            DeliveryEnd::ConnectionLost | DeliveryEnd::Finished => return Ok(()),
        };
        let Some(subscription) = subscription else {
            let Refusal { code, reason } = &why;
            let failed = DaemonFrame::Failed { request, code: *code, reason };
            peer.outbox.push([failed.to_bytes()]);
            return Ok(());
        };
        let mut out = Vec::new();
        let did_end = peer.context.broker.with(|engine| {
            peer.state().delivery_ended(engine, (request, subscription), &why, &mut out)
        });
        if did_end {
            peer.datagrams.forget_repairs(request);
            peer.outbox.push([out.into()]);
        }
        Ok(())
    }
}

// Whatever is being written when the session ends is written out before the goodbye.
pub(super) struct ControlWriter {
    tx: SendStream,
    pieces: Vec<Bytes>,
}

impl ControlWriter {
    pub(super) fn new(tx: SendStream) -> Self {
        Self { tx, pieces: Vec::new() }
    }

    pub(super) async fn run(&mut self, peer: &Peer) -> SessionEnd {
        loop {
            peer.outbox.take(&mut self.pieces).await;
            match self.tx.write(&mut self.pieces).await {
                Ok(()) => self.pieces.clear(),
                Err(WriteError::ConnectionLost(gone)) => return gone.into(),
                Err(WriteError::Stopped) => {
                    return SessionEnd::Left("it stopped the control stream".into());
                }
            }
        }
    }

    // The goodbye is the last frame, after everything that was still to be said.
    pub(super) async fn say_goodbye(mut self, peer: &Peer, refusal: &Refusal) {
        let Refusal { code, reason } = refusal;
        peer.outbox.try_take(&mut self.pieces);
        let goodbye = DaemonFrame::Goodbye { code: *code, reason, retry: code.retry() };
        self.pieces.push(goodbye.to_bytes());
        if self.tx.write(&mut self.pieces).await.is_ok() {
            self.tx.finish();
            self.tx.stopped().await;
            if peer.context.connection.is_closed_by_client() {
                peer.context.connection.closed().await;
            }
        }
    }
}
