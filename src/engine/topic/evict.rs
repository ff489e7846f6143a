//! What goes when room is needed.

use super::{Count, Digest, SubscriptionId, Topic, hash_map};

/// What eviction has taken.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The payload that is not in the cache any more, and its count.
    pub(crate) payload: Option<(Digest, Count)>,
    /// Position of a message that was still arriving, and who waited for more of it.
    pub(crate) arriving: Option<(u64, Vec<SubscriptionId>)>,
}

impl Topic {
    /// Gives up whatever was used longest ago, the newest message last.
    pub(crate) fn evict(&mut self) -> Left {
        let left = match self.evict_kept() {
            Some(payload) => Left { payload: Some(payload), arriving: None },
            None => self.evict_oldest(),
        };
        if self.payloads.len() < self.payloads.capacity() / 8 {
            self.payloads.shrink_to(2 * self.payloads.len());
        }
        left
    }

    // A payload that outlived its publication goes when its last use is the longest ago, or when
    // the newest message is all that is left in the log.
    fn evict_kept(&mut self) -> Option<(Digest, Count)> {
        if self.asked.is_empty() {
            return None;
        }
        let oldest = self.log.oldest().map(|entry| entry.position);
        let last = self.newest() <= self.log.first();
        let mut asked = self.asked.iter().take(if last { 2 } else { 1 });
        let (lookup, _) = asked.find(|(_, asked)| {
            asked.kept.is_some() && (last || oldest.is_none_or(|position| asked.before <= position))
        })?;
        let kept = self.asked.remove(&{ *lookup })?;
        self.lookups.remove(&kept.sequence);
        let (sequence, kept) = (kept.sequence, kept.kept?);
        self.payloads.remove(&self.key(&kept.digest));
        self.bytes -= kept.cost;
        Some((kept.digest, self.take_count_of(sequence, kept.count)))
    }

    fn evict_oldest(&mut self) -> Left {
        let sequence = self.log.first();
        let Some(mut entry) = self.log.pop_oldest() else {
            return Left::default();
        };
        self.bytes -= entry.cost;
        if !entry.body.is_complete() {
            let arriving = entry.body.arriving().map(|arriving| {
                self.arriving.retain(|other| *other != sequence);
                (entry.position, arriving.take_all())
            });
            return Left { payload: None, arriving };
        }
        let key = self.key(&entry.digest);
        let hash_map::Entry::Occupied(newest) = self.payloads.entry(key) else {
            return Left::default();
        };
        if *newest.get() != sequence {
            return Left::default();
        }
        if !self.lookups.is_empty()
            && let Some(lookup) = self.lookups.get(&sequence)
            && let Some(asked) = self.asked.get_mut(lookup)
        {
            self.bytes += entry.cost;
            asked.kept = Some(Box::new(entry));
            return Left::default();
        }
        newest.remove();
        let count = self.take_count_of(sequence, entry.count);
        Left { payload: Some((entry.digest, count)), arriving: None }
    }
}
