//! Datagrams from a peer: publications, which are acknowledged, and repair requests.

use super::end::SessionEnd;
use super::frame_reader::datagram_frames;
use super::peer::Peer;
use super::upload::StreamUpload;
use crate::engine::{Action, Channel};
use crate::net::delivery::realtime::repair_queue::{Hole, RepairQueue};
use crate::net::error::ConnectionLost;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an acknowledgement waits for others, 5 ms.
const ACKNOWLEDGE: Duration = Duration::from_millis(5);

/// Work that the datagrams of one session have caused.
#[derive(Default)]
pub(crate) struct Datagrams {
    // By request of the subscription.
    repair_queues: Mutex<HashMap<u32, Arc<RepairQueue>>>,
    // Aliases of publications in datagrams that have to be acknowledged.
    acks: Mutex<BTreeSet<u32>>,
    ack_ready: Notify,
}

impl Datagrams {
    fn repair_queues(&self) -> MutexGuard<'_, HashMap<u32, Arc<RepairQueue>>> {
        self.repair_queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the queue that gets the repair requests of a subscription from now on.
    pub(crate) fn register_repairs(&self, request: u32) -> Arc<RepairQueue> {
        self.repair_queues().entry(request).or_default().clone()
    }

    /// The subscription has ended.
    pub(crate) fn forget_repairs(&self, request: u32) {
        self.repair_queues().remove(&request);
    }

    /// Queues the holes of a repair request for its delivery, if that delivery does repairs.
    pub(crate) fn route_repair(&self, action: Action) {
        if let Action::Repair { request, topic, holes, reliably } = action
            && let Some(repair_queues) = self.repair_queues().get(&request)
        {
            for (first, last) in holes {
                repair_queues.push(Hole { topic, first, last, reliably });
            }
        }
    }

    /// Queues an acknowledgement of `alias`, which came in a datagram.
    pub(crate) fn queue_ack(&self, alias: u32) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).insert(alias);
        self.ack_ready.notify_one();
    }

    fn take_acks(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads datagrams until the session ends.
pub(crate) async fn read(peer: &Arc<Peer>) -> SessionEnd {
    let mut actions = Vec::new();
    // A datagram holds whole frames only, so nothing is ever incomplete here.
    let mut stream = StreamUpload::new(peer.clone());
    loop {
        let handled = match peer.context.connection.read_datagram().await {
            // A datagram of a peer that does not read its answers is dropped, as if lost. If it
            // waited for room, others would queue up behind it, each pinning the buffer it came in.
            Ok(_) if !peer.outbox.has_room() => continue,
            Ok(datagram) => match datagram_frames(datagram, peer.payload) {
                Ok(frames) => {
                    peer.handle(Channel::Datagram, &frames, &mut stream, &mut actions).await
                }
                Err(end) => Err(end),
            },
            Err(lost) => Err(lost.into()),
        };
        for action in actions.drain(..) {
            match action {
                Action::Acknowledge { alias } => peer.datagrams.queue_ack(alias),
                Action::Repair { .. } => peer.datagrams.route_repair(action),
                // A datagram causes no other action.
                _ => {}
            }
        }
        if let Err(end) = handled {
            return end;
        }
    }
}

/// Acknowledges publications in datagrams until the session ends.
pub(crate) async fn acknowledge(peer: &Peer) -> SessionEnd {
    loop {
        peer.datagrams.ack_ready.notified().await;
        // Boxed, because most sessions never get here.
        if let Err(lost) = Box::pin(send_acks(peer)).await {
            return lost.into();
        }
    }
}

async fn send_acks(peer: &Peer) -> Result<(), ConnectionLost> {
    tokio::time::sleep(ACKNOWLEDGE).await;
    let acks = peer.datagrams.take_acks();
    let size = peer.context.connection.datagram_size().unwrap_or(0);
    let mut out = Vec::new();
    for alias in acks {
        let before = out.len();
        peer.context.broker.with(|engine| peer.session().acknowledge(engine, alias, &mut out));
        if out.len() > size {
            let next = out.split_off(before);
            let datagram = std::mem::replace(&mut out, next);
            peer.context.connection.send_datagram(&[datagram.into()]).await?;
        }
    }
    if !out.is_empty() {
        peer.context.connection.send_datagram(&[out.into()]).await?;
    }
    Ok(())
}
