//! A subscription to exactly one large message, which its reader sends on a stream of its own.

use super::follow::{Follow, FollowState};
use super::item::{Item, MessageRef};
use super::read_budget::{BudgetedSink, ChunkProgress};
use super::refusals::ended;
use super::state::State;
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::ids::SubscriptionId;
use crate::engine::topic::body::{Body, add_waiter};
use crate::engine::topic::log::Entry;
use crate::wire::{Code, GapCause, Lag, Refusal};

impl Engine {
    /// Begins a subscription to one message that is arriving or in the cache.
    ///
    /// [`take_wakes`](Self::take_wakes) lists it at once. It is [read](Self::read) like any other:
    /// [`Item::Begin`], [`Item::Chunk`]s, and [`Item::End`] or [`Item::Abort`]. After that, reads
    /// are refused with [`Code::DONE`]. A message that is not large is one [`Item::Message`].
    ///
    /// # Errors
    ///
    /// Returns why the message will not come.
    pub fn follow(&mut self, topic: u64, sequence: u64) -> Result<SubscriptionId, GapCause> {
        let found = self.by_id.get(&topic).and_then(|slot| self.topic(*slot));
        match found.and_then(|found| found.cached(sequence)) {
            None => return Err(self.why_missing(topic, sequence)),
            Some(Entry { body: Body::Aborted { .. }, .. }) => return Err(GapCause::Aborted),
            Some(entry) if found.is_some_and(|found| found.has_expired(entry, self.now)) => {
                return Err(GapCause::Expired);
            }
            Some(_) => {}
        }
        let follow = Follow::new(topic, sequence);
        let state = State::Following(Box::new(follow));
        let id = self.subscriptions.insert(Lag::Oldest, state, self.position);
        self.subscriptions.wake(id);
        Ok(id)
    }

    /// Returns why a message is not in the cache.
    pub fn why_missing(&self, topic: u64, sequence: u64) -> GapCause {
        let found = self.by_id.get(&topic).and_then(|slot| self.topic(*slot));
        found.map_or(GapCause::Evicted, |topic| topic.why_missing(sequence))
    }

    pub(super) fn read_followed(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        budget: usize,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let State::Following(follow) = &mut s.state else {
            return Err(ended());
        };
        if follow.state == FollowState::Done {
            return Err(ended());
        }
        let slot = self.by_id.get(&follow.topic);
        let topic = slot.and_then(|slot| self.topics.get_mut(*slot)?.as_deref_mut());
        let Some(topic) = topic else {
            follow.set_state(FollowState::Done);
            s.wake_queued = true;
            sink(Item::Abort { code: Code::EVICTED });
            return Ok(true);
        };
        let mut out = BudgetedSink {
            topic,
            begin: follow.sequence,
            announced: true,
            left: budget,
            given: false,
            // One message has no gap.
            skips: &mut None,
            sink,
        };
        let mut stalls = false;
        match topic.cached(follow.sequence) {
            None => {
                follow.set_state(FollowState::Done);
                out.notice(Item::Abort { code: Code::EVICTED });
            }
            Some(entry) => {
                let message = MessageRef::new(topic, follow.sequence, entry);
                match entry.body {
                    Body::Small(_) => {
                        follow.set_state(FollowState::Done);
                        out.notice(Item::Message(message));
                    }
                    Body::Aborted { .. } | Body::Evicted { .. } => {
                        follow.set_state(FollowState::Done);
                        out.notice(Item::Abort { code: Code::PUBLISHER_GONE });
                    }
                    Body::Large { .. } | Body::Arriving(_) => {
                        if follow.state == FollowState::Unread {
                            follow.set_state(FollowState::Reading);
                            out.notice(Item::Begin(message));
                        }
                        match out.chunks(message, &mut follow.offset) {
                            ChunkProgress::Complete => follow.set_state(FollowState::Done),
                            ChunkProgress::CaughtUp => {
                                stalls = follow.state == FollowState::Reading;
                            }
                            ChunkProgress::BudgetSpent => {}
                        }
                    }
                }
            }
        }
        let given = out.given;
        if stalls && let Some(arriving) = topic.arriving_mut(follow.sequence) {
            add_waiter(&mut arriving.chunk_waiters, id);
            follow.set_state(FollowState::Stalled);
        }
        s.wake_queued = given;
        Ok(given)
    }
}
