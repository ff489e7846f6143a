//! Topic rules: how much of a topic is kept and for how long, and what may be published to it.
//!
//! A topic follows the first rule whose filter matches its name, and is compared with the rules once:
//! when it is made. Rules change what is cached, and which publications are refused. They never change
//! a sequence or a count, so that engines with other rules agree on the same records.

mod check;
pub(crate) mod rate;
#[cfg(test)]
mod tests;

pub use check::{TopicRuleError, TopicRuleProblem};

use crate::wire::{Filter, is_reserved};
use core::time::Duration;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

/// Maximum number of topic rules: each topic that is made is compared with them, some 20 ns each.
pub const MAX_TOPIC_RULES: usize = 64;

/// How much of a topic is kept for those who come later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// As much as the cache has room for.
    #[default]
    All,
    /// At most so many of the newest messages. Messages that are still arriving are not among them.
    Newest(NonZeroU64),
    /// Nothing: messages are relayed to the subscriptions that are there.
    None,
}

impl Keep {
    /// The newest message.
    pub const LATEST: Self = Self::Newest(NonZeroU64::MIN);

    fn most(self) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Newest(most) => most.get(),
            Self::None => 0,
        }
    }
}

/// The rights of everybody in the topics of a rule, without a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Public {
    /// Nothing, unless another rule of the daemon allows it.
    #[default]
    Nothing,
    /// Publish.
    Publish,
    /// Subscribe and read.
    Subscribe,
    /// Both.
    Both,
}

impl Public {
    /// Returns whether everybody may publish.
    pub fn may_publish(self) -> bool {
        matches!(self, Self::Publish | Self::Both)
    }

    /// Returns whether everybody may subscribe and read.
    pub fn may_subscribe(self) -> bool {
        matches!(self, Self::Subscribe | Self::Both)
    }
}

/// A rule for the topics that a filter matches. Without its `with_` methods it changes nothing.
///
/// ```
/// use core::time::Duration;
/// use weir::engine::{Keep, TopicRule};
///
/// # fn main() -> Result<(), weir::wire::NameError> {
/// let cursors = TopicRule::new("cursors/**".parse()?).with_keep(Keep::LATEST);
/// let prices = TopicRule::new("prices/*".parse()?).with_ttl(Duration::from_secs(30));
/// # let _ = (cursors, prices);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct TopicRule {
    filter: Filter,
    keep: Keep,
    ttl: Option<Duration>,
    rate: Option<NonZeroU32>,
    payload: Option<usize>,
    public: Public,
}

impl TopicRule {
    /// Returns a rule for the topics that `filter` matches.
    pub fn new(filter: Filter) -> Self {
        let (keep, public) = (Keep::All, Public::Nothing);
        Self { filter, keep, ttl: None, rate: None, payload: None, public }
    }

    /// Sets how much is kept. The default is all that the cache has room for.
    ///
    /// A new subscription and a look-up get what is kept. Older messages stay for a moment, for the
    /// subscriptions that are there: for 5 s, and one more for each megabyte of the message. Those of one
    /// topic take an eighth of the cache at most. A subscription that is later has a gap of cause
    /// [`Evicted`](crate::wire::GapCause::Evicted).
    pub fn with_keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Sets for how long a message is kept after it was accepted, from 1 ms to 100 years. Then nobody
    /// gets it any more: subscriptions have a gap of cause
    /// [`Expired`](crate::wire::GapCause::Expired). By default there is none.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets how many messages a second each topic takes, from all publishers together. As many may
    /// come at once. Others are refused with [`RATE_LIMITED`](crate::wire::Code::RATE_LIMITED). The
    /// default is unlimited.
    pub fn with_rate(mut self, rate: NonZeroU32) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Sets the largest payload, bytes. The default is [`Limits::payload`](super::Limits::payload),
    /// which applies as well.
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = Some(bytes);
        self
    }

    /// Sets what everybody may do, beside what the daemon's access rules allow. The engine itself asks
    /// nobody for rights. The default is nothing more.
    pub fn with_public(mut self, public: Public) -> Self {
        self.public = public;
        self
    }

    /// Returns the filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns what everybody may do.
    pub fn public(&self) -> Public {
        self.public
    }
}

/// Topic rules, the first of which that matches a topic applies to it.
///
/// ```
/// use weir::engine::{Keep, TopicRule, TopicRules};
///
/// let all = TopicRule::new("**".parse()?);
/// let never = TopicRule::new("cursors/**".parse()?).with_keep(Keep::LATEST);
/// let rules = TopicRules::new([all, never])?;
/// assert_eq!(rules.unreachable().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TopicRules {
    rules: Arc<[TopicRule]>,
    needs_time: bool,
}

/// The part of its rule that a topic knows. It is a copy, so that the rules can be replaced while topics of
/// the earlier ones are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppliedRule {
    /// Maximum number of messages a second.
    pub(crate) rate: Option<NonZeroU32>,
    /// Maximum size of a payload, bytes; `u32::MAX` is unlimited, as no payload is as large.
    payload: u32,
    /// Maximum number of messages that are kept; `u64::MAX` is unlimited.
    pub(crate) most: u64,
    /// µs; 0 is unlimited.
    pub(crate) ttl: u64,
}

impl AppliedRule {
    /// The rule of a topic that no filter matches.
    pub(crate) const ALL: Self = Self { rate: None, payload: u32::MAX, most: u64::MAX, ttl: 0 };

    /// The rule of the daemon's own topics: one minute of figures, of which there is one a second.
    pub(crate) const OWN: Self = Self { most: 60, ..Self::ALL };

    /// Maximum size of a payload, bytes, if the rule has one.
    pub(crate) fn payload(&self) -> Option<usize> {
        (self.payload < u32::MAX).then_some(self.payload as usize)
    }
}

impl TopicRules {
    /// Returns the rules.
    pub fn all(&self) -> &[TopicRule] {
        &self.rules
    }

    /// Returns whether some of what is kept is dropped with time.
    pub(super) fn needs_time(&self) -> bool {
        self.needs_time
    }

    /// Returns the rule of a topic with this name.
    pub(super) fn of(&self, topic: &str) -> AppliedRule {
        if is_reserved(topic) {
            return AppliedRule::OWN;
        }
        let found = self.rules.iter().find(|rule| rule.filter.matches(topic));
        found.map_or(AppliedRule::ALL, |rule| AppliedRule {
            rate: rule.rate,
            payload: rule.payload.map_or(u32::MAX, |most| most.try_into().unwrap_or(u32::MAX)),
            most: rule.keep.most(),
            // Both limits were checked.
            ttl: rule.ttl.map_or(0, |ttl| ttl.as_micros() as u64),
        })
    }

    /// Returns the rules that never apply, each with an earlier one that matches all of its topics.
    pub fn unreachable(&self) -> impl Iterator<Item = (&TopicRule, &TopicRule)> {
        self.rules.iter().enumerate().filter_map(|(at, rule)| {
            let mut before = self.rules[..at].iter();
            let covers = before.find(|earlier| earlier.filter.covers(&rule.filter))?;
            Some((rule, covers))
        })
    }
}
