//! The control stream of a peer, and the tasks that send the deliveries and answers that it
//! requests.

use super::dispatch::too_slow;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::notice;
use super::peer::Peer;
use super::upload::{StreamRead, StreamUpload};
use crate::broker::failure::{self, seam};
use crate::broker::throttle::count_refusal;
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

/// Maximum number of answers to `Get` in flight in one session. Further ones wait. Each pins its
/// payload, even after that has left the cache.
const ANSWERS: usize = 8;

/// Reads the control stream until the session ends.
pub(super) async fn run(peer: &Arc<Peer>, frames: &mut Frames) -> SessionEnd {
    let mut stream = StreamUpload::new(peer.clone());
    let mut tasks = Tasks::default();
    let mut actions = Vec::new();
    loop {
        let read = {
            let mut next = pin!(stream.next(frames));
            let read = poll_fn(|context| {
                if let Poll::Ready(defect) = tasks.poll_ended(peer, context) {
                    return Poll::Ready(Err(defect.into()));
                }
                for end in peer.take_ends() {
                    if let Err(end) = tasks.act(peer, end) {
                        return Poll::Ready(Err(end));
                    }
                }
                next.as_mut().poll(context)
            });
            read.await
        };
        let end = match read {
            Ok(StreamRead::Frames(frames)) => {
                peer.handle(Channel::Control, frames, &mut stream, &mut actions).await.err()
            }
            // The rest of it is skipped, and the control stream goes on.
            Ok(StreamRead::TimedOut) => {
                peer.reject_incomplete(&mut stream, frames, &too_slow()).await.err()
            }
            Ok(StreamRead::NoRoom) => {
                peer.reject_incomplete(&mut stream, frames, &no_room()).await.err()
            }
            Ok(StreamRead::Finished) => Some(SessionEnd::Left("closed its control stream".into())),
            Err(end) => Some(end),
        };
        for action in actions.drain(..) {
            if matches!(action, Action::Answer { .. }) && tasks.are_full() {
                // Boxed, because most sessions never wait here.
                if let Err(end) = Box::pin(tasks.wait_for_room(peer)).await {
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

/// The result of a task.
struct Ended {
    request: u32,
    // None for the answer to a `Get`.
    subscription: Option<SubscriptionId>,
    end: DeliveryEnd,
}

/// Deliveries, and answers to `Get`. Dropping it, with the session, aborts them.
#[derive(Default)]
struct Tasks {
    all: JoinSet<Ended>,
    // By request. The peer may reuse the number after it has ended the subscription.
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
            Action::StopReading { .. } | Action::Refused { .. } => {}
            Action::Answer { request, head, message } => {
                self.answer(peer, request, head, message);
            }
            Action::Knows => {
                peer.tell_identity();
                notice::tell(peer);
            }
            Action::PeerLeft { code } => {
                return Err(SessionEnd::Left(format!("said goodbye: {code}")));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, peer: &Arc<Peer>, action: &Action) {
        let Action::Deliver { request, subscription, delivery, deadline, bare, position, marks } =
            *action
        else {
            return;
        };
        let marks = Marks::new(marks);
        let context = peer.context.clone();
        let ended = move |end| Ended { request, subscription: Some(subscription), end };
        let task = match (delivery, context.connection.transport()) {
            // A WebSocket has one channel, and therefore one order.
            (Delivery::Ordered, _) | (_, Transport::WebSocket) => {
                let broker = context.broker.clone();
                let delivery =
                    ordered::deliver(context, request, subscription, deadline, (position, marks));
                self.all.spawn(seam(&broker, "delivery", delivery.map(ended)))
            }
            (Delivery::Unordered, Transport::Quic) => {
                let delivery = unordered::deliver(context, request, subscription, position);
                self.all.spawn(delivery.map(ended))
            }
            (Delivery::Realtime, _) | (Delivery::Unordered, Transport::WebTransport) => {
                let repairs = peer.datagrams.register_repairs(request);
                let (max_age, implicit_subscription) = (deadline, bare);
                let options = DatagramOptions { max_age, implicit_subscription, marks, position };
                let delivery = realtime::deliver(context, request, subscription, options, repairs);
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

    // Waits until one more answer may be in flight.
    async fn wait_for_room(&mut self, peer: &Peer) -> Result<(), SessionEnd> {
        while self.are_full()
            && let Some(ended) = self.all.join_next().await
        {
            self.ended(peer, ended)?;
        }
        Ok(())
    }

    // Handles all tasks that have ended. Ready with the reason if the session has to end.
    fn poll_ended(&mut self, peer: &Peer, context: &mut Context<'_>) -> Poll<Refusal> {
        while let Poll::Ready(Some(ended)) = self.all.poll_join_next(context) {
            if let Err(defect) = self.ended(peer, ended) {
                return Poll::Ready(defect);
            }
        }
        Poll::Pending
    }

    // Ends the subscription of a delivery that has ended, and tells the peer. No other place does.
    fn ended(&mut self, peer: &Peer, ended: Result<Ended, JoinError>) -> Result<(), Refusal> {
        let Ended { request, subscription, end } = match ended {
            Ok(ended) => ended,
            Err(error) => return failure::of_task(Err::<(), _>(error)).map_or(Ok(()), Err),
        };
        // By now the request may belong to another subscription.
        let is_it = |(id, _): &(SubscriptionId, AbortHandle)| Some(*id) == subscription;
        if self.deliveries.get(&request).is_some_and(is_it) {
            self.deliveries.remove(&request);
        }
        let why = match end {
            DeliveryEnd::Refused(refusal) => refusal,
            DeliveryEnd::StoppedByPeer => Refusal::new(Code::DONE, "the client stopped the stream"),
            DeliveryEnd::ConnectionLost | DeliveryEnd::Finished => return Ok(()),
        };
        count_refusal(peer.throttle.counts(), why.code);
        let Some(subscription) = subscription else {
            let Refusal { code, reason } = &why;
            let failed = DaemonFrame::Failed { request, code: *code, reason };
            peer.outbox.push([failed.to_bytes()]);
            return Ok(());
        };
        let mut out = Vec::new();
        let did_end = peer.context.broker.with(|engine| {
            peer.session().delivery_ended(engine, (request, subscription), &why, &mut out)
        });
        if did_end {
            peer.datagrams.forget_repairs(request);
            peer.outbox.push([out.into()]);
        }
        Ok(())
    }
}

// Writes the control stream. A write that the end of the session interrupts is completed before the
// goodbye.
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
                Err(WriteError::ConnectionLost(lost)) => return lost.into(),
                Err(WriteError::Stopped) => {
                    return SessionEnd::Left("stopped the control stream".into());
                }
            }
        }
    }

    // Writes the goodbye as the last frame, after everything in the outbox.
    pub(super) async fn say_goodbye(mut self, peer: &Peer, refusal: &Refusal) {
        let Refusal { code, reason } = refusal;
        // The session's end has a deadline; a receipt that misses it is asked for again.
        if let Some(journal) = peer.context.broker.journal() {
            let last = journal.pushed();
            journal.kept_through(last).await;
            peer.outbox.release(last);
        }
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
