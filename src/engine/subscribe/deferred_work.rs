//! The queue of deferred work: wakes, and maps that are freed in portions.

use super::cursor::NewMessage;
use super::filter_tree::WalkPosition;
use crate::engine::ids::{Slot, SubscriptionId};
use crate::engine::positions::Registered;
use crate::engine::topic::body::Waiters;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Entries that one portion removes from a map, before it is freed: 25 ns each.
const FREED: usize = 1024;

/// Subscriptions that are still to be woken.
#[derive(Debug)]
pub(crate) enum DeferredWake {
    /// Those whose filters match a topic, from a place in the tree of filters on.
    Filters {
        topic: Arc<str>,
        from: Option<WalkPosition>,
        message: NewMessage,
        // The subscriptions had received everything before the message. Some may still be at that
        // position, so that topics have to remember what they evict from there on.
        registered: Registered,
    },
    /// The rest of a group's list. They had received everything up to `floor`.
    AtHead { ids: Vec<SubscriptionId>, message: NewMessage, floor: u64, registered: Registered },
    /// Those that wait for a message that arrives in a topic.
    Waiters { ids: Waiters, slot: Slot },
}

impl DeferredWake {
    /// Returns the position up to which its subscriptions have received everything.
    pub(super) fn floor(&self) -> Option<u64> {
        match self {
            Self::Filters { message, .. } => Some(message.floor()),
            Self::AtHead { floor, .. } => Some(*floor),
            Self::Waiters { .. } => None,
        }
    }
}

/// The deferred work of subscriptions.
#[derive(Debug, Default)]
pub(crate) struct DeferredWork {
    // Oldest first, and so in the order of their floors.
    pub(super) wakes: VecDeque<DeferredWake>,
    // Announced topics of subscriptions that have ended.
    maps: Vec<BTreeMap<u64, u64>>,
}

impl DeferredWork {
    pub(crate) fn no_wakes(&self) -> bool {
        self.wakes.is_empty()
    }

    pub(super) fn has_maps(&self) -> bool {
        !self.maps.is_empty()
    }

    /// Frees a map, in portions if it is large.
    pub(super) fn free(&mut self, map: BTreeMap<u64, u64>) {
        // One or two nodes are freed at once.
        if map.len() > 16 {
            self.maps.push(map);
        }
    }

    /// Frees a portion of the maps.
    pub(super) fn free_portion(&mut self) {
        for _ in 0..FREED {
            let Some(map) = self.maps.last_mut() else {
                break;
            };
            if map.pop_first().is_none() {
                self.maps.pop();
            }
        }
    }
}
