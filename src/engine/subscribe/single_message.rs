//! A subscription to exactly one large message: for whoever sends it on a stream of its own.

use super::read_budget::{BudgetedSink, ChunkProgress};
use super::table::{Subscription, Subscriptions};
use crate::engine::topic::body::Body;
use crate::engine::{Engine, Item, MessageRef, SubscriptionId};
use crate::wire::{Code, GapCause, Lag, Refusal};

/// How far it has come.
#[derive(Debug)]
pub(crate) struct Follow {
    // The topic's id.
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    begun: bool,
    offset: usize,
    // It stands in the message's list.
    pub(crate) stalled: bool,
    ended: bool,
}

impl Engine {
    /// Begins a subscription to one message that is arriving or in the cache; or says why it will
    /// not come.
    /// It is named at once, and [`read`](Self::read) like any other: [`Item::Begin`],
    /// [`Item::Chunk`]s, and [`Item::End`] or [`Item::Abort`]; after that it is refused with
    /// [`Code::DONE`]. A message that is not large comes as one [`Item::Message`].
    pub fn follow(&mut self, topic: u64, sequence: u64) -> Result<SubscriptionId, GapCause> {
        let slot = self.by_id.get(&topic);
        let entry = slot.and_then(|slot| self.topic(*slot)?.at(sequence));
        match entry.map(|entry| &entry.body) {
            None => return Err(GapCause::Evicted),
            Some(Body::Aborted { .. }) => return Err(GapCause::Aborted),
            Some(_) => {}
        }
        let (begun, stalled, ended) = (false, false, false);
        let follow = Follow { topic, sequence, begun, offset: 0, stalled, ended };
        let follow = Some(Box::new(follow));
        let id = self.subscriptions.insert(Lag::Oldest, follow, self.position);
        self.subscriptions.name(id);
        Ok(id)
    }

    pub(crate) fn read_followed(
        &mut self,
        id: SubscriptionId,
        subscription: &mut Subscription,
        budget: usize,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let Some(follow) = subscription.follow.as_deref_mut().filter(|follow| !follow.ended) else {
            return Err(done());
        };
        let slot = self.by_id.get(&follow.topic);
        let topic = slot.and_then(|slot| self.topics.get_mut(*slot)?.as_deref_mut());
        let Some(topic) = topic else {
            (follow.ended, subscription.woken) = (true, true);
            sink(Item::Abort { code: Code::EVICTED });
            return Ok(true);
        };
        let mut out = BudgetedSink {
            topic,
            begin: follow.sequence,
            announced: true,
            left: budget,
            given: false,
            sink,
        };
        let mut waits = false;
        match topic.at(follow.sequence) {
            None => {
                follow.ended = true;
                out.notice(Item::Abort { code: Code::EVICTED });
            }
            Some(entry) => {
                let message = MessageRef::new(topic, follow.sequence, entry);
                match entry.body {
                    Body::Small(_) => {
                        follow.ended = true;
                        out.notice(Item::Message(message));
                    }
                    Body::Aborted { .. } | Body::Evicted { .. } => {
                        follow.ended = true;
                        out.notice(Item::Abort { code: Code::PUBLISHER_GONE });
                    }
                    Body::Large { .. } | Body::Arriving(_) => {
                        if !std::mem::replace(&mut follow.begun, true) {
                            out.notice(Item::Begin(message));
                        }
                        match out.chunks(message, &mut follow.offset) {
                            ChunkProgress::Complete => follow.ended = true,
                            ChunkProgress::CaughtUp => waits = !follow.stalled,
                            ChunkProgress::BudgetSpent => {}
                        }
                    }
                }
            }
        }
        let given = out.given;
        if waits
            && let Some(entry) = topic.log.get_mut(follow.sequence)
            && let Some(arriving) = entry.body.arriving()
        {
            Subscriptions::line_up(&mut arriving.waiting, id);
            follow.stalled = true;
        }
        subscription.woken = given;
        Ok(given)
    }
}

fn done() -> Refusal {
    Refusal::new(Code::DONE, "the subscription has ended")
}
