//! The faults of topic rules.

use super::{Keep, MAX_TOPIC_RULES, TopicRule, TopicRules};
use crate::wire::Filter;
use core::time::Duration;
use std::sync::Arc;

/// Shortest time for which messages are kept.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longest time for which messages are kept, 100 years. It and a time of day fit into 64 bits of
/// microseconds.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A list of topic rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic rule {}: {problem}", index + 1)]
#[non_exhaustive]
pub struct TopicRuleError {
    /// The index of the rule, from 0.
    pub index: usize,
    /// The fault.
    #[source]
    pub problem: TopicRuleProblem,
}

/// The fault of a topic rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicRuleProblem {
    /// There are more than [`MAX_TOPIC_RULES`].
    #[error("there are more than {MAX_TOPIC_RULES} rules")]
    TooMany,
    /// Its filter matches topics below `$weir`.
    #[error("topics below `$weir` are the daemon's own, and have no rules: {0:?}")]
    Reserved(String),
    /// Its time to live is below 1 ms or above 100 years.
    #[error("a ttl is from 1ms to 100 years")]
    Ttl,
    /// Its largest payload has no byte.
    #[error("a payload of 0 bytes leaves nothing to publish")]
    Payload,
    /// It would make topics public for which an earlier rule applies.
    #[error(
        "it makes topics public for which the earlier rule {0:?} applies, which does not: let that \
         one make them public too, or choose filters that have no topic in common"
    )]
    Public(String),
}

impl TopicRuleProblem {
    /// Returns the name of the rule's part that is wrong.
    #[cfg(feature = "cli")]
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::TooMany | Self::Reserved(_) => "filter",
            Self::Ttl => "ttl",
            Self::Payload => "payload",
            Self::Public(_) => "public",
        }
    }
}

impl TopicRules {
    /// Checks rules.
    ///
    /// # Errors
    ///
    /// A rule has a value out of range, or the rules contradict each other: see [`TopicRuleProblem`].
    pub fn new(rules: impl IntoIterator<Item = TopicRule>) -> Result<Self, TopicRuleError> {
        let rules: Arc<[_]> = rules.into_iter().take(MAX_TOPIC_RULES + 1).collect();
        check(&rules)?;
        let needs_time = rules.iter().any(|rule| rule.keep != Keep::All || rule.ttl.is_some());
        Ok(Self { rules, needs_time })
    }
}

fn check(rules: &[TopicRule]) -> Result<(), TopicRuleError> {
    for (index, rule) in rules.iter().enumerate() {
        let wrong = |problem| Err(TopicRuleError { index, problem });
        if index == MAX_TOPIC_RULES {
            return wrong(TopicRuleProblem::TooMany);
        }
        if rule.filter.segments().next() == Some("$weir") {
            return wrong(TopicRuleProblem::Reserved(rule.filter.to_string()));
        }
        if rule.ttl.is_some_and(|ttl| !(SHORTEST..=LONGEST).contains(&ttl)) {
            return wrong(TopicRuleProblem::Ttl);
        }
        if rule.payload == Some(0) {
            return wrong(TopicRuleProblem::Payload);
        }
        // Rights are filters, and none of them can leave out what an earlier rule does not grant.
        let allows_less = |earlier: &&TopicRule| {
            rule.public.may_publish() && !earlier.public.may_publish()
                || rule.public.may_subscribe() && !earlier.public.may_subscribe()
        };
        let mut earlier = rules[..index].iter().filter(allows_less);
        if let Some(earlier) = earlier.find(|earlier| meet(&earlier.filter, &rule.filter)) {
            return wrong(TopicRuleProblem::Public(earlier.filter.to_string()));
        }
    }
    Ok(())
}

/// Returns whether two filters may match one topic.
fn meet(one: &Filter, other: &Filter) -> bool {
    let (mut one, mut other) = (one.segments(), other.segments());
    loop {
        match (one.next(), other.next()) {
            (Some("**"), _) | (_, Some("**")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}
