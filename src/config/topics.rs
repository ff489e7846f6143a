//! `[[topics]]`: rules for topics.

use super::{Config, Span};
use crate::engine::{Keep, Public, TopicRule, TopicRules};
use crate::wire::Filter;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::{NonZeroU32, NonZeroU64};

/// `[[topics]]`: a rule for the topics that a filter matches. A topic follows the first rule that matches
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TopicConfig {
    /// The filter.
    pub filter: FilterText,
    /// How much is kept. Default all that the cache has room for.
    #[serde(default)]
    pub keep: KeepConfig,
    /// For how long messages are kept, from 1 ms to 100 years. Default no limit.
    #[serde(default)]
    pub ttl: Option<Span>,
    /// Maximum number of messages a second in each topic. Default no limit.
    #[serde(default)]
    pub rate: Option<NonZeroU32>,
    /// Maximum size of a payload. Default `limits.payload`.
    #[serde(default)]
    #[schemars(with = "Option<super::schema_types::Size>")]
    pub payload: Option<ByteSize>,
    /// The rights of everybody, without a token. Default nothing more than `[access]` allows.
    #[serde(default)]
    pub public: PublicConfig,
}

/// A filter, such as `cursors/**`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FilterText(pub Filter);

impl TryFrom<String> for FilterText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |error| format!("{text:?} is not a filter: {error}");
        Filter::new(&text).map(Self).map_err(wrong)
    }
}

/// `all`, `latest`, `none`, or a number of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "KeepText")]
pub struct KeepConfig(pub Keep);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of messages, \"all\", \"latest\" or \"none\"")]
enum KeepText {
    Number(i64),
    Text(String),
}

impl TryFrom<KeepText> for KeepConfig {
    type Error = String;

    fn try_from(text: KeepText) -> Result<Self, String> {
        let keep = match &text {
            KeepText::Text(text) if text == "all" => Some(Keep::All),
            KeepText::Text(text) if text == "latest" => Some(Keep::LATEST),
            KeepText::Text(text) if text == "none" => Some(Keep::None),
            KeepText::Text(_) => None,
            KeepText::Number(number) => {
                let number = u64::try_from(*number).ok().and_then(NonZeroU64::new);
                number.map(Keep::Newest)
            }
        };
        keep.map(Self).ok_or_else(|| {
            let given = match text {
                KeepText::Text(text) => format!("{text:?}"),
                KeepText::Number(number) => number.to_string(),
            };
            format!(
                "{given} is neither a number of messages from 1 on, nor \"all\", \"latest\" or \"none\""
            )
        })
    }
}

/// As [`Public`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublicConfig {
    /// Nothing.
    #[default]
    Nothing,
    /// Publish.
    Publish,
    /// Subscribe and read.
    Subscribe,
    /// Both.
    Both,
}

// A rule that cannot be used: its index, the key that is wrong, and why.
pub(super) struct WrongTopic {
    pub(super) index: usize,
    pub(super) key: &'static str,
    pub(super) reason: String,
}

impl TopicConfig {
    fn rule(&self) -> TopicRule {
        let public = match self.public {
            PublicConfig::Nothing => Public::Nothing,
            PublicConfig::Publish => Public::Publish,
            PublicConfig::Subscribe => Public::Subscribe,
            PublicConfig::Both => Public::Both,
        };
        let mut rule =
            TopicRule::new(self.filter.0.clone()).with_keep(self.keep.0).with_public(public);
        if let Some(ttl) = self.ttl {
            rule = rule.with_ttl(ttl.0);
        }
        if let Some(rate) = self.rate {
            rule = rule.with_rate(rate);
        }
        if let Some(payload) = self.payload {
            rule = rule.with_payload(payload.0 as usize);
        }
        rule
    }
}

impl Config {
    /// Returns the rules for topics.
    #[must_use]
    pub fn topic_rules(&self) -> Vec<TopicRule> {
        self.topics.iter().map(TopicConfig::rule).collect()
    }

    pub(super) fn check_topics(&self) -> Result<(), WrongTopic> {
        let wrong = |index, key, reason| Err(WrongTopic { index, key, reason });
        if let Err(error) = TopicRules::new(self.topic_rules()) {
            return wrong(error.index, error.problem.key(), error.problem.to_string());
        }
        for (index, topic) in self.topics.iter().enumerate() {
            if let Some(payload) = topic.payload.filter(|payload| *payload > self.limits.payload) {
                let most = self.limits.payload;
                let reason = format!("{payload} is above limits.payload, which is {most}");
                return wrong(index, "payload", reason);
            }
        }
        Ok(())
    }
}
