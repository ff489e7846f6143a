//! The topics, for those who watch the daemon: in portions, in the order of their names.

use super::Engine;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Maximum number of topics in one portion.
const TOPICS: usize = 64;

/// Maximum number of filters, and of segments of filters, that are looked at for one portion. It takes
/// less than 0.2 ms.
const WALKED: usize = 2048;

/// A topic.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The name.
    pub name: Arc<str>,
    /// The epoch.
    pub epoch: u64,
    /// The sequence of its newest message, which is the number of messages in this epoch.
    pub newest: u64,
    /// Messages in the cache.
    pub cached_messages: u64,
    /// Distinct payloads in the cache.
    pub payloads: u64,
    /// Bytes of the cache that it takes.
    pub bytes: u64,
    /// Subscriptions whose filters match it.
    pub subscriptions: u64,
    /// Whether `subscriptions` is exact. If not, so many filters match that only some of them were looked
    /// at.
    pub exact: bool,
    /// Messages published per second, over the last five seconds.
    pub messages_per_second: f64,
    /// Bytes of their payloads per second.
    pub bytes_per_second: f64,
}

impl Engine {
    /// Appends the next topics after a name, in the order of names; none when there are no more. `now` is the
    /// time, µs since 1970. The work is bounded, whatever the engine holds.
    pub fn list_topics(&self, now: u64, after: Option<&str>, out: &mut Vec<TopicStats>) {
        let mut left = WALKED;
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        for (n, (name, slot)) in self.by_name.range::<str, _>(from).take(TOPICS).enumerate() {
            let Some(topic) = self.topic(*slot) else { continue };
            let mut subscriptions = 0;
            let rest = self.filters.tree.matching(name, None, |group| {
                subscriptions += group.map_or(0, |group| self.filters.members(group));
                left -= 1;
                left > 0
            });
            if rest.is_some() && n > 0 {
                // The next portion begins with this topic, and has more to spend on it.
                return;
            }
            let (messages_per_second, bytes_per_second) = topic.per_second(now);
            out.push(TopicStats {
                name: name.clone(),
                epoch: topic.epoch(),
                newest: topic.next_sequence() - 1,
                cached_messages: topic.messages(),
                payloads: topic.distinct_payloads() as u64,
                bytes: topic.cost() as u64,
                subscriptions,
                exact: rest.is_none(),
                messages_per_second,
                bytes_per_second,
            });
            if left == 0 {
                return;
            }
        }
    }
}
