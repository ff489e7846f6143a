//! The kept and the held part of a topic's log, as numbers.

use crate::engine::topic_rules::AppliedRule;
use crate::engine::topic_rules::rate::TokenBucket;

/// Bytes of a held message beside its payload, about.
pub(super) const HELD: usize = 512;

/// The kept part of a topic's log.
#[derive(Debug)]
pub(super) struct Retention {
    pub(super) rule: AppliedRule,
    // Messages from this sequence on are kept, so many of which are complete.
    pub(super) from: u64,
    pub(super) kept: u64,
    // Bytes of the complete messages before, and their maximum.
    pub(super) held: usize,
    pub(super) most_held: usize,
    // The last message that left the log because it had expired. All before it would have, too.
    pub(super) expired_through: u64,
    // When the topic is to be looked at next; `u64::MAX` is never.
    pub(super) scheduled: u64,
    pub(super) tokens: TokenBucket,
}

impl Retention {
    pub(super) const fn new() -> Self {
        Self {
            rule: AppliedRule::ALL,
            from: 1,
            kept: 0,
            held: 0,
            most_held: usize::MAX,
            expired_through: 0,
            scheduled: u64::MAX,
            tokens: TokenBucket::FULL,
        }
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.rule.most == u64::MAX && self.rule.ttl == 0
    }

    pub(super) fn hides(&self, sequence: u64) -> bool {
        self.rule.most == 0 || (self.rule.most < u64::MAX && sequence < self.from)
    }

    /// A message has become complete.
    pub(super) fn completed(&mut self, sequence: u64, size: usize) {
        if sequence >= self.from {
            self.kept += 1;
        } else {
            self.held += HELD + size;
        }
    }

    /// A complete message has left the log, or its body has.
    pub(super) fn left(&mut self, sequence: u64, size: usize) {
        if sequence >= self.from {
            self.kept -= 1;
        } else {
            self.held -= HELD + size;
        }
    }

    /// The log is empty, and its next message has this sequence.
    pub(super) fn starts_at(&mut self, next: u64) {
        self.from = next;
        self.expired_through = self.expired_through.min(next.saturating_sub(1));
    }

    /// The log begins after a sequence.
    pub(super) fn begins_after(&mut self, sequence: u64) {
        self.from = self.from.max(sequence + 1);
    }
}
