//! What the log keeps of a message: its payload, or what has come of it.

use super::log::{PLACE, allocated};
use crate::engine::SubscriptionId;
use crate::engine::rope::Rope;
use crate::wire::Encoded;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a message costs beside its bytes: its place in the log. Bytes.
pub(crate) const ENTRY_COST: usize = PLACE;
/// What a payload costs beside its bytes: its share of the tables. Bytes.
const PAYLOAD_COST: usize = 128;
/// What a payload costs beside its bytes while it arrives, bytes.
const ARRIVING_COST: usize = 256;

/// The payload of a message in the log, and how far it has come.
#[derive(Debug)]
pub(crate) enum Body {
    /// Complete, and encoded for everybody.
    Small(Encoded),
    /// Complete, and above [`LARGE`](crate::wire::LARGE).
    Large {
        rope: Arc<Rope>,
        /// Which upload it was in the order in which they became complete; 0 is none.
        upload: u64,
    },
    /// Above that too, and not complete yet.
    Arriving(Box<Arriving>),
    /// It will never be complete: its sequence is a gap.
    Aborted {
        /// For the reason that its publisher has begun it again.
        superseded: bool,
    },
    /// It was complete, and gave up what it had while an older one still arrived: its sequence is
    /// a gap.
    Evicted {
        /// As above.
        upload: u64,
    },
}

/// Subscriptions that wait for a message. Some may have ended, or wait no more; of each index there
/// is one at most. A tree: no list of ten thousand is to be put in order under way.
pub(crate) type Waiting = BTreeSet<SubscriptionId>;

/// What has come of a payload.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// How long it will be, bytes.
    pub(crate) size: usize,
    pub(crate) rope: Rope,
    /// Those that have had all that has come.
    pub(crate) waiting: Waiting,
    /// Those that wait for the whole.
    pub(crate) whole: Waiting,
}

impl Arriving {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, rope: Rope::default(), waiting: Waiting::new(), whole: Waiting::new() }
    }

    /// Everybody who waits for it, in whatever way.
    pub(crate) fn take_all(&mut self) -> [Waiting; 2] {
        [&mut self.waiting, &mut self.whole].map(std::mem::take)
    }
}

impl Body {
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Small(_) | Self::Large { .. })
    }

    /// Whether it was complete, if it had begun, when so many uploads were.
    pub(crate) fn was_complete(&self, uploads: u64) -> bool {
        match self {
            Self::Small(_) => true,
            Self::Large { upload, .. } | Self::Evicted { upload } => *upload <= uploads,
            Self::Arriving(_) | Self::Aborted { .. } => false,
        }
    }

    /// Length of the payload, bytes, also of what has not come yet.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Small(encoded) => encoded.size(),
            Self::Large { rope, .. } => rope.len(),
            Self::Arriving(arriving) => arriving.size,
            Self::Aborted { .. } | Self::Evicted { .. } => 0,
        }
    }

    /// What has come of a large payload.
    pub(crate) fn rope(&self) -> Option<&Rope> {
        match self {
            Self::Large { rope, .. } => Some(rope),
            Self::Arriving(arriving) => Some(&arriving.rope),
            Self::Small(_) | Self::Aborted { .. } | Self::Evicted { .. } => None,
        }
    }

    pub(crate) fn arriving(&mut self) -> Option<&mut Arriving> {
        match self {
            Self::Arriving(arriving) => Some(arriving),
            _ => None,
        }
    }

    /// Bytes charged for the message alone.
    pub(crate) fn own_cost(&self) -> usize {
        ENTRY_COST
            + match self {
                Self::Small(encoded) => allocated(encoded.pieces().0.len()),
                Self::Arriving(arriving) => ARRIVING_COST + arriving.rope.cost(),
                Self::Large { .. } | Self::Aborted { .. } | Self::Evicted { .. } => 0,
            }
    }

    /// Bytes charged for a payload that others may share.
    pub(crate) fn shared_cost(&self) -> usize {
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
