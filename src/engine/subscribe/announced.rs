//! The topics that were announced to a subscription, and where it began in them.
//!
//! Only subscriptions that are read [unordered](super::read_options::LargePayloads::AnnounceOnly) need
//! this: their messages come in any order, and each is announced anew.

use super::cursor::Cursor;
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::budget::Charge;
use crate::engine::cost::ANNOUNCED_COST;
use crate::wire::{Code, Refusal};

/// Maximum number of topics that are remembered for one subscription.
const ANNOUNCED: usize = 131_072;

/// Number of these that are not charged to the budget.
const ANNOUNCED_FREE: usize = 256;

/// Number of remembered topics that are checked with each new one, and dropped if they were
/// forgotten. So an eighth of all that are remembered was forgotten, at most.
const CHECKED: usize = 8;

/// Work of remembering one topic, in portions of a read.
pub(crate) const REMEMBERED: usize = CHECKED;

impl Engine {
    /// Remembers where a subscription that is read unordered began in a topic that was just
    /// announced to it.
    pub(super) fn remember_announced(
        &self,
        s: &mut Subscription,
        cursor: &Cursor,
    ) -> Result<(), Refusal> {
        for _ in 0..CHECKED {
            let next = s.announced.range(s.announced_checked..).next().map(|(id, _)| *id);
            s.announced_checked = next.map_or(0, |id| id + 1);
            if let Some(id) = next.filter(|id| !self.by_id.contains_key(id)) {
                s.announced.remove(&id);
            }
        }
        let charged = s.announced_charge.as_ref().map_or(0, Charge::bytes);
        let most = ANNOUNCED_FREE.max(charged / ANNOUNCED_COST);
        if s.announced.len() >= most {
            let bytes = 2 * most * ANNOUNCED_COST;
            let fits = 2 * most <= ANNOUNCED && self.budget.charge(&mut s.announced_charge, bytes);
            if !fits {
                return Err(Refusal::new(
                    Code::OVERLOADED,
                    format!(
                        "unordered and realtime subscriptions see at most {ANNOUNCED} topics, or \
                         as many as the daemon has room for: use ordered, or narrower filters"
                    ),
                ));
            }
        }
        s.announced.insert(cursor.topic, cursor.begin);
        Ok(())
    }
}
