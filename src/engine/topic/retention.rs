//! The messages that a topic keeps by its rule, and those that leave its log for that.
//!
//! A log is in two parts. The newest messages are *kept*: a new subscription and a look-up get them.
//! Those before them are *held* for a moment, for the subscriptions that are there and for repairs.
//! Without a rule everything is kept.

use super::Topic;
use super::evict::Evicted;
use super::log::Entry;
use super::retained::{HELD, Retention};
use crate::engine::positions::ReaderPositions;
use crate::engine::topic_rules::AppliedRule;
use crate::engine::topic_rules::rate::TokenBucket;
use crate::wire::{Code, GapCause, Refusal};

/// The time for which a message is held after it was accepted, µs: 5 s. A receiver that has lost it
/// learns so after 2 s at the latest, and asks for it. It is held 1 µs longer for each byte, because a
/// large one is read for longer.
const HOLD: u64 = 5_000_000;

/// Number of messages that one call looks at to find the oldest one to keep: 10 ns each.
const LOOKED: usize = 64;

/// Number of messages among which a new subscription looks for the first that has not expired. If
/// all of these have, which happens when many expire at once, it searches by halves.
const EXPIRED: u64 = 64;

impl Topic {
    /// Sets the rule of a new topic, and how many bytes it may hold.
    pub(crate) fn set_rule(&mut self, rule: AppliedRule, most_held: usize) {
        (self.retention.rule, self.retention.most_held) = (rule, most_held);
    }

    /// Returns its rule.
    pub(crate) fn rule(&self) -> AppliedRule {
        self.retention.rule
    }

    pub(crate) fn tokens_mut(&mut self) -> &mut TokenBucket {
        &mut self.retention.tokens
    }

    /// Returns whether look-ups make a payload stay: not where a rule says what stays.
    pub(super) fn keeps_looked_up(&self) -> bool {
        self.retention.is_unlimited()
    }

    /// Returns the sequence from which on messages are kept, however many of them have expired.
    pub(crate) fn kept_from(&self) -> u64 {
        match self.retention.rule.most {
            0 => self.log.next(),
            u64::MAX => self.log.first(),
            _ => self.retention.from.max(self.log.first()),
        }
    }

    /// Returns whether nothing is kept.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.retention.rule.most == 0
    }

    /// Returns whether a message that is complete, or whose body was evicted, has expired.
    #[inline]
    pub(crate) fn has_expired(&self, entry: &Entry, now: u64) -> bool {
        let ttl = self.retention.rule.ttl;
        ttl > 0 && entry.accepted.saturating_add(ttl) <= now && entry.body.may_expire()
    }

    /// Returns the sequence at which a new subscription to everything begins.
    pub(crate) fn first_live(&self, now: u64) -> u64 {
        let from = self.kept_from();
        if self.retention.rule.ttl == 0 {
            return from;
        }
        let expired = |at: u64| self.log.get(at).is_some_and(|entry| self.has_expired(entry, now));
        let next = self.log.next();
        let end = next.min(from.saturating_add(EXPIRED));
        if let Some(found) = (from..end).find(|at| !expired(*at)) {
            return found;
        }
        let (mut low, mut high) = (end, next);
        while low < high {
            let middle = low + (high - low) / 2;
            if expired(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns why a message is kept from look-ups, if it is.
    pub(crate) fn why_gone(&self, sequence: u64, now: u64) -> Option<Gone> {
        let entry = self.cached(sequence)?;
        if self.has_expired(entry, now) {
            return Some(Gone::Expired);
        }
        self.retention.hides(sequence).then_some(Gone::NotKept)
    }

    /// Returns why a message has left the log.
    pub(crate) fn why_missing(&self, sequence: u64) -> GapCause {
        let expired = sequence <= self.retention.expired_through;
        if expired { GapCause::Expired } else { GapCause::Evicted }
    }

    /// Returns the last message that left the log because it had expired; 0 is none.
    pub(crate) fn expired_through(&self) -> u64 {
        self.retention.expired_through
    }

    /// Moves on what is kept, if there is more than the rule says. Returns whether it is enough.
    pub(super) fn keep_newest(&mut self) -> bool {
        let Self { retention, log, .. } = self;
        let most = retention.rule.most;
        if most == u64::MAX {
            return true;
        }
        for _ in 0..LOOKED {
            // An incomplete message is kept if there are fewer than the most messages after it.
            let Some(entry) = log.get(retention.from) else { break };
            if entry.body.is_complete() {
                if retention.kept <= most {
                    break;
                }
                retention.kept -= 1;
                retention.held += HELD + entry.body.size();
            } else if retention.kept < most {
                break;
            }
            retention.from += 1;
        }
        retention.kept <= most
    }

    /// Returns the time at which the oldest message is to leave the log, if it has one.
    pub(crate) fn due(&self) -> Option<u64> {
        let Retention { rule, held, most_held, .. } = &self.retention;
        if self.retention.is_unlimited() {
            return None;
        }
        if self.retention.kept > rule.most {
            // To find those that are not kept.
            return Some(0);
        }
        // One that arrives stays, and those after it with it.
        let entry = self.log.oldest().filter(|entry| !entry.body.is_arriving())?;
        let first = self.log.first();
        let expires = match rule.ttl {
            0 => u64::MAX,
            ttl => entry.accepted.saturating_add(ttl),
        };
        let released = if !self.retention.hides(first) {
            u64::MAX
        } else if *held > *most_held && first < self.latest {
            0
        } else {
            entry.accepted.saturating_add(HOLD).saturating_add(entry.body.size() as u64)
        };
        Some(expires.min(released)).filter(|due| *due < u64::MAX)
    }

    /// Returns when the topic is to be looked at next.
    pub(crate) fn scheduled(&self) -> u64 {
        self.retention.scheduled
    }

    pub(crate) fn set_scheduled(&mut self, at: u64) {
        self.retention.scheduled = at;
    }

    /// Drops the oldest message, if its time has come.
    pub(in crate::engine) fn drop_due(
        &mut self,
        now: u64,
        positions: &ReaderPositions,
    ) -> Option<Evicted> {
        if self.retention.is_unlimited() || !self.keep_newest() {
            return None;
        }
        self.due().filter(|due| *due <= now)?;
        let first = self.log.first();
        let expired = self.log.oldest().is_some_and(|entry| {
            let ttl = self.retention.rule.ttl;
            ttl > 0 && entry.accepted.saturating_add(ttl) <= now
        });
        if expired {
            self.retention.expired_through = first;
        }
        Some(self.evict_oldest(Some(positions)))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn audit_retention(&self) {
        let Retention { rule, from, kept, held, expired_through, .. } = &self.retention;
        let all =
            (self.log.first()..self.log.next()).filter_map(|at| Some((at, self.log.get(at)?)));
        let complete: Vec<_> = all.filter(|(_, entry)| entry.body.is_complete()).collect();
        let is_kept = |at: &u64| at >= from;
        assert_eq!(complete.iter().filter(|(at, _)| is_kept(at)).count() as u64, *kept);
        let before = complete.iter().filter(|(at, _)| !is_kept(at));
        assert_eq!(before.map(|(_, entry)| HELD + entry.body.size()).sum::<usize>(), *held);
        assert!(*expired_through < self.log.first());
        if self.retention.kept > rule.most {
            let few = complete.len() as u64 == self.log.len();
            assert!(!few, "more is kept than the rule says");
        }
        assert!(self.due().is_none_or(|due| self.retention.scheduled <= due), "nobody will look");
        assert!(self.looked_up.is_empty() || self.keeps_looked_up());
    }
}

/// Why a message in the log is kept from look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Its time has passed.
    Expired,
    /// The topic keeps newer ones only, or none.
    NotKept,
}

impl Gone {
    /// Returns the refusal for a look-up.
    pub(crate) fn refusal(self, topic: &str, sequence: u64) -> Refusal {
        let why = match self {
            Self::Expired => "has expired",
            Self::NotKept => "is not kept: the topic's rule keeps newer ones only, or none",
        };
        Refusal::new(Code::EVICTED, format!("message {sequence} of {topic} {why}"))
    }
}
