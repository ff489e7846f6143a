//! Repairs: what a subscription has been handed out is read once more.

use super::body::Body;
use super::out::NOTICE;
use super::{Engine, MessageRef, SubscriptionId};
use crate::wire::GapCause;

/// What [`Engine::repair`] hands out.
#[derive(Debug)]
pub enum Repaired<'a> {
    /// A message.
    Message(MessageRef<'a>),
    /// A large message, complete or not: [`Engine::follow`] it.
    Large(MessageRef<'a>),
    /// Sequences that will not come.
    Gone {
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Why.
        cause: GapCause,
    },
}

impl Engine {
    /// Hands out once more what a subscription has been handed out of a topic, `first` to `last`:
    /// not much more than `budget` bytes, and at least one item; what has left the cache as a gap.
    /// Gives the sequence to go on with, if there is more.
    pub fn repair(
        &self,
        id: SubscriptionId,
        topic_id: u64,
        (first, last): (u64, u64),
        budget: usize,
        sink: &mut impl FnMut(Repaired<'_>),
    ) -> Option<u64> {
        let subscription = self.subscriptions.get(id)?;
        let slot = self.by_id.get(&topic_id);
        let found =
            slot.and_then(|slot| Some((self.topic(*slot)?, subscription.cursors.get(slot)?)));
        let Some((topic, cursor)) = found else {
            // Forgotten; or another's, of which no more is said than that it will not come.
            sink(Repaired::Gone { first, last, cause: GapCause::Evicted });
            return None;
        };
        // What lies beyond comes anyway.
        let last = last.min(cursor.next.saturating_sub(1));
        let mut next = first.max(cursor.begin);
        let oldest = topic.log.first();
        if next < oldest && next <= last {
            let cause = GapCause::Evicted;
            sink(Repaired::Gone { first: next, last: last.min(oldest - 1), cause });
            next = oldest;
        }
        let mut left = budget;
        while next <= last
            && let Some(entry) = topic.log.get(next)
        {
            let message = MessageRef::new(topic, next, entry).since(cursor.begin);
            left = left.saturating_sub(match &entry.body {
                Body::Small(encoded) => {
                    sink(Repaired::Message(message));
                    encoded.wire_len()
                }
                Body::Aborted { .. } => {
                    let cause = GapCause::Aborted;
                    sink(Repaired::Gone { first: next, last: next, cause });
                    NOTICE
                }
                Body::Large(_) | Body::Arriving(_) => {
                    sink(Repaired::Large(message));
                    NOTICE
                }
            });
            next += 1;
            if left == 0 {
                break;
            }
        }
        (next <= last).then_some(next)
    }
}
