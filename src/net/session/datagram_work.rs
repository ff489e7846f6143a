//! The work that a session's datagrams leave for its other tasks: repairs, which the deliveries do,
//! and acknowledgements.

use crate::engine::Action;
use crate::net::delivery::realtime::repair_queue::{Hole, RepairQueue};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Work that the datagrams of one session have caused.
#[derive(Default)]
pub(super) struct DatagramWork {
    // By request of the subscription.
    repair_queues: Mutex<HashMap<u32, Arc<RepairQueue>>>,
    // Aliases of publications in datagrams that have to be acknowledged.
    acks: Mutex<BTreeSet<u32>>,
    ack_ready: Notify,
}

impl DatagramWork {
    fn repair_queues(&self) -> MutexGuard<'_, HashMap<u32, Arc<RepairQueue>>> {
        self.repair_queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the queue that gets the repair requests of a subscription from now on.
    pub(super) fn register_repairs(&self, request: u32) -> Arc<RepairQueue> {
        self.repair_queues().entry(request).or_default().clone()
    }

    /// The subscription has ended.
    pub(super) fn forget_repairs(&self, request: u32) {
        self.repair_queues().remove(&request);
    }

    /// Queues the holes of a repair request for its delivery, if that delivery does repairs.
    pub(super) fn route_repair(&self, action: Action) {
        if let Action::Repair { request, topic, holes, reliably } = action
            && let Some(repair_queues) = self.repair_queues().get(&request)
        {
            for (first, last) in holes {
                repair_queues.push(Hole { topic, first, last, reliably });
            }
        }
    }

    /// Queues an acknowledgement of `alias`, which came in a datagram.
    pub(super) fn queue_ack(&self, alias: u32) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).insert(alias);
        self.ack_ready.notify_one();
    }

    /// Whether an acknowledgement is queued.
    pub(super) fn has_acks(&self) -> bool {
        !self.acks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits until an acknowledgement is queued.
    pub(super) fn ack_ready(&self) -> Notified<'_> {
        self.ack_ready.notified()
    }

    /// Takes the aliases to acknowledge.
    pub(super) fn take_acks(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
