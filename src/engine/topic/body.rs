//! The body of a message in the log: its payload, or the part that has arrived.

use crate::engine::cost::{ARRIVING_COST, PAYLOAD_COST, allocated};
use crate::engine::ids::SubscriptionId;
use crate::engine::payload::Payload;
use crate::engine::rope::Rope;
use crate::wire::Encoded;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The payload of a message in the log, and how far it has arrived.
#[derive(Debug)]
pub(crate) enum Body {
    /// Complete, and encoded once for all subscribers.
    Small(Encoded),
    /// Complete, and above [`LARGE`](crate::wire::LARGE).
    Large {
        rope: Arc<Rope>,
        /// Its number in the order in which uploads became complete. 0 if it did not arrive in
        /// parts.
        upload: u64,
    },
    /// Also above that size, and not complete yet.
    Arriving(Box<Arriving>),
    /// It will never be complete: its sequence is a gap.
    Aborted {
        /// Its publisher has begun it again.
        superseded: bool,
    },
    /// It was complete, and was evicted while an older message was still arriving: its sequence is a
    /// gap.
    Evicted {
        /// As above.
        upload: u64,
    },
}

/// Subscriptions that wait for a message. Some may have ended, or no longer wait. Each index is
/// there once at most. It is a tree, because sorting a list of ten thousand would take too long.
pub(crate) type Waiters = BTreeSet<SubscriptionId>;

/// Adds a subscription to the waiters of a message. It replaces an ended one that had its index.
pub(crate) fn add_waiter(waiters: &mut Waiters, id: SubscriptionId) {
    let with = |birth| SubscriptionId { birth, ..id };
    let same = waiters.range(with(0)..=with(u32::MAX)).next().copied();
    if same != Some(id) {
        same.map(|ended| waiters.remove(&ended));
        waiters.insert(id);
    }
}

/// A payload that arrives.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// Length of the whole payload, bytes.
    pub(crate) size: usize,
    pub(crate) rope: Rope,
    /// Subscriptions that have received all bytes so far, and wait for the next ones.
    pub(crate) chunk_waiters: Waiters,
    /// Subscriptions that wait for the whole payload.
    pub(crate) completion_waiters: Waiters,
}

impl Arriving {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            rope: Rope::default(),
            chunk_waiters: Waiters::new(),
            completion_waiters: Waiters::new(),
        }
    }

    /// Removes all waiters.
    pub(crate) fn take_waiters(&mut self) -> [Waiters; 2] {
        [&mut self.chunk_waiters, &mut self.completion_waiters].map(std::mem::take)
    }
}

impl Body {
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Small(_) | Self::Large { .. })
    }

    pub(crate) fn is_arriving(&self) -> bool {
        matches!(self, Self::Arriving(_))
    }

    /// Returns whether it has, or had, a payload whose time may pass.
    pub(crate) fn may_expire(&self) -> bool {
        self.is_complete() || matches!(self, Self::Evicted { .. })
    }

    /// Returns whether a message that had begun was complete when so many uploads were.
    pub(crate) fn was_complete(&self, uploads: u64) -> bool {
        match self {
            Self::Small(_) => true,
            Self::Large { upload, .. } | Self::Evicted { upload } => *upload <= uploads,
            Self::Arriving(_) | Self::Aborted { .. } => false,
        }
    }

    /// Returns the length of the whole payload, bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Small(encoded) => encoded.size(),
            Self::Large { rope, .. } => rope.len(),
            Self::Arriving(arriving) => arriving.size,
            Self::Aborted { .. } | Self::Evicted { .. } => 0,
        }
    }

    /// Returns the payload of a complete message, shared.
    pub(crate) fn kept(&self) -> Payload {
        match self {
            Self::Large { rope, .. } => rope.clone().into(),
            Self::Small(encoded) => encoded.payload().into(),
            _ => Bytes::new().into(),
        }
    }

    /// Returns what has arrived of a large payload.
    pub(crate) fn rope(&self) -> Option<&Rope> {
        match self {
            Self::Large { rope, .. } => Some(rope),
            Self::Arriving(arriving) => Some(&arriving.rope),
            Self::Small(_) | Self::Aborted { .. } | Self::Evicted { .. } => None,
        }
    }

    pub(crate) fn arriving_mut(&mut self) -> Option<&mut Arriving> {
        match self {
            Self::Arriving(arriving) => Some(arriving),
            _ => None,
        }
    }

    /// Returns the bytes charged for what other messages cannot share.
    pub(super) fn own_cost(&self) -> usize {
        match self {
            Self::Small(encoded) => allocated(encoded.pieces().0.len()),
            Self::Arriving(arriving) => ARRIVING_COST + arriving.rope.cost(),
            Self::Large { .. } | Self::Aborted { .. } | Self::Evicted { .. } => 0,
        }
    }

    /// Returns the bytes charged for a payload that other messages may share.
    pub(super) fn shared_cost(&self) -> usize {
        match self {
            Self::Small(encoded) => match encoded.pieces().1.len() {
                0 => PAYLOAD_COST,
                body => PAYLOAD_COST + allocated(body),
            },
            Self::Large { rope, .. } => PAYLOAD_COST + rope.cost(),
            Self::Arriving(_) | Self::Aborted { .. } | Self::Evicted { .. } => 0,
        }
    }
}
