//! How far a subscription is behind, for those who watch the daemon.

use super::had::Had;
use super::skips::Skips;
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::ids::SubscriptionId;
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;
use crate::wire::Filter;
use std::cmp::Reverse;

/// Maximum number of a subscription's topics that are looked at.
const TOPICS: usize = 64;

/// Maximum number of messages of a topic whose sizes are looked at.
const SIZES: u64 = 16;

/// How far a subscription is behind, and what it has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// The filter.
    pub filter: String,
    /// Messages that it has not been given, though they were accepted or have begun to arrive.
    pub messages: u64,
    /// The bytes of their payloads. It is computed from the sizes of the next 16 in each topic.
    pub bytes: u64,
    /// Whether `messages` is exact. If not, it is an upper limit, or has been computed from 64 of the
    /// topics in which the subscription is behind. A filter with wildcards that has fallen behind
    /// does not know yet which of the newest messages match it. One that begins with what is cached
    /// has all messages before it.
    pub exact: bool,
    /// Sequences that it was given as gaps.
    pub skips: Skips,
}

// Messages and bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Backlog {
    messages: u64,
    bytes: u64,
}

impl Backlog {
    // The messages of a topic from a sequence on, without those that the client has received.
    fn of(topic: &Topic, next: u64, had: Had<'_>) -> Self {
        let messages = topic.next_sequence().saturating_sub(next).saturating_sub(had.count(next));
        let from = next.max(topic.first_sequence());
        let sizes = (from..topic.next_sequence()).map_while(|sequence| topic.entry(sequence));
        let sizes = sizes.take(SIZES as usize).map(|entry| entry.body.size() as u64);
        let (looked_at, bytes) = sizes.fold((0, 0), |(n, sum), size| (n + 1, sum + size));
        let cached = (topic.next_sequence() - from).saturating_sub(had.count(from));
        Self { messages, bytes: scaled(bytes, cached, looked_at) }
    }

    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    // The same for another number of messages of this size.
    fn with_messages(self, messages: u64) -> Self {
        Self { messages, bytes: scaled(self.bytes, messages, self.messages) }
    }
}

// Returns `part` × `whole` / `of`.
fn scaled(part: u64, whole: u64, of: u64) -> u64 {
    (u128::from(part) * u128::from(whole) / u128::from(of.max(1))) as u64
}

impl Engine {
    /// Returns the filter of a subscription.
    pub fn filter(&self, id: SubscriptionId) -> Option<&Filter> {
        self.subscriptions.get(id)?.filter.as_ref()
    }

    /// Returns how far a subscription is behind, and what it has missed. It takes less than 2,048
    /// units of work. Returns none for a subscription that has ended, or that
    /// [follows](Self::follow) one message.
    pub fn subscription_stats(&self, id: SubscriptionId) -> Option<SubscriptionStats> {
        let s = self.subscriptions.get(id)?;
        let filter = s.filter.as_ref()?;
        let (Backlog { messages, bytes }, exact) = self.backlog(s, filter);
        let skips = self.subscriptions.skips.get(&id.index).copied().unwrap_or_default();
        Some(SubscriptionStats { filter: filter.as_str().into(), messages, bytes, exact, skips })
    }

    // Returns the backlog, and whether its number of messages is exact.
    fn backlog(&self, s: &Subscription, filter: &Filter) -> (Backlog, bool) {
        let window = s.window.iter().map(|Reverse(cursor)| cursor);
        let cursors = window.chain(s.aside.values().map(|waiting| &waiting.cursor));
        let known = s.window.len() + s.aside.len();
        let mut sum = Backlog::default();
        for cursor in cursors.take(TOPICS) {
            let topic = self.topic(cursor.slot as usize).filter(|topic| topic.id() == cursor.topic);
            let of = |topic| Backlog::of(topic, cursor.next, self.had_of(s, topic));
            topic.into_iter().for_each(|topic| sum.add(of(topic)));
        }
        if s.exact {
            if known == 0 && !s.is_at_head() {
                sum = self.unread(s, filter);
            }
            return (sum, s.start.is_none());
        }
        if known > TOPICS {
            let messages = scaled(sum.messages, known as u64, TOPICS as u64);
            sum = sum.with_messages(messages);
        }
        if s.start.is_some() {
            // It has not been searched yet what there is.
            return (Backlog { messages: self.position, bytes: self.bytes as u64 }, false);
        }
        let sweeps = s.is_sweeping();
        let searched = if sweeps { s.delivered_through } else { s.window_end };
        let searched = searched.max(s.delivered_through);
        let beyond = if s.is_at_head() { 0 } else { self.position.saturating_sub(searched) };
        if beyond > 0 {
            // These may be of any topic.
            let most = self.position - s.delivered_through.min(self.position);
            let messages = (sum.messages + beyond).min(most);
            if sum.messages == 0
                && let Some(topic) = s.woken_by.and_then(|new| self.topic(new.slot as usize))
            {
                let next = topic.next_sequence().saturating_sub(SIZES);
                sum = Backlog::of(topic, next.max(topic.first_sequence()), Had::default());
            }
            sum = sum.with_messages(messages);
        }
        (sum, beyond == 0 && known <= TOPICS)
    }

    // The backlog of a subscription to one topic that has no cursor yet.
    fn unread(&self, s: &Subscription, filter: &Filter) -> Backlog {
        let Some(topic) = self.slot(filter.as_str()).and_then(|slot| self.topic(slot)) else {
            return Backlog::default();
        };
        let next = match topic.after(s.delivered_through) {
            _ if s.start.is_some() => topic.first_sequence(),
            After::Exactly(next, _) | After::AtLeast(next) => next,
        };
        Backlog::of(topic, next, self.had_of(s, topic))
    }

    fn had_of<'a>(&'a self, s: &'a Subscription, topic: &Topic) -> Had<'a> {
        let had = s.had.as_ref().map(|had| had.of(topic, &self.runs, s.began_at));
        had.unwrap_or_default()
    }
}
