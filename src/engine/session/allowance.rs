//! Topic aliases and subscriptions: a session keeps them for as long as it lasts, and is charged for
//! them.

use super::{Alias, Session};
use crate::engine::Engine;
use crate::engine::budget::Charge;
use crate::engine::cost::{ALIAS_COST, SEGMENT_COST, SUBSCRIPTION_COST};
use crate::wire::{Code, Filter, MAX_ALIASES, MAX_NAME, Refusal};
use std::sync::Arc;

/// One part in so many of the budget is left over by aliases and subscriptions.
const LEFT_OVER: usize = 8;

/// Bytes of aliases that a session is not charged for, 16 KiB: about a hundred of them.
const FREE_ALIASES: usize = 16 << 10;

/// Bytes of subscriptions that a session is not charged for, 16 KiB: a dozen of them.
const FREE_SUBSCRIPTIONS: usize = 16 << 10;

/// Returns the price of a subscription.
pub(super) fn cost_of(filter: &Filter) -> usize {
    SUBSCRIPTION_COST + filter.segments().count() * SEGMENT_COST + 2 * filter.as_str().len()
}

impl Session {
    pub(super) fn declare(
        &mut self,
        engine: &Engine,
        alias: u32,
        name: &str,
        refusal: Option<Arc<Refusal>>,
    ) -> Result<(), Refusal> {
        match self.aliases.get(&alias).map(|known| &*known.topic) {
            Some(known) if known == name => Ok(()),
            Some(known) => Err(Refusal::new(
                Code::BAD_ALIAS,
                format!("topic alias {alias} already stands for {known}: choose another number"),
            )),
            None if self.aliases.len() >= MAX_ALIASES || name.len() > MAX_NAME => {
                Err(Refusal::new(
                    Code::BAD_ALIAS,
                    format!(
                        "a session has at most {MAX_ALIASES} topic aliases, of {MAX_NAME} bytes each"
                    ),
                ))
            }
            None => {
                let alias_bytes = self.alias_bytes + ALIAS_COST + name.len();
                if !self.charge_all(engine, alias_bytes, self.subscription_bytes) {
                    return Err(Refusal::new(
                        Code::OVERLOADED,
                        "there is no room for more topic aliases: connect again later, or publish \
                         to fewer topics in one session",
                    ));
                }
                self.alias_bytes = alias_bytes;
                self.aliases.insert(alias, Alias { topic: name.into(), refusal });
                Ok(())
            }
        }
    }

    /// Returns the aliases, each with its topic.
    pub fn aliases(&self) -> Vec<(u32, Arc<str>)> {
        self.aliases.iter().map(|(alias, of)| (*alias, of.topic.clone())).collect()
    }

    /// Sets why the publications of aliases are refused.
    pub fn set_refusals(&mut self, refusals: Vec<(u32, Option<Arc<Refusal>>)>) {
        for (alias, refusal) in refusals {
            if let Some(alias) = self.aliases.get_mut(&alias) {
                alias.refusal = refusal;
            }
        }
    }

    /// Sets the maximum number of subscriptions, if it is below that of the daemon.
    pub fn set_most_subscriptions(&mut self, most: Option<u32>) {
        self.most_subscriptions = most.unwrap_or(u32::MAX);
    }

    // Returns the topic that an alias stands for.
    pub(super) fn alias(&self, alias: u32) -> Result<&Alias, Refusal> {
        self.aliases.get(&alias).ok_or_else(|| {
            Refusal::new(
                Code::BAD_ALIAS,
                format!("topic alias {alias} was not declared before its use on this stream"),
            )
        })
    }

    // Charges one more subscription.
    pub(super) fn admit(&mut self, engine: &Engine, filter: &Filter) -> Result<(), Refusal> {
        let most = engine.limits().subscriptions.min(self.most_subscriptions);
        if self.subscriptions.len() >= most as usize {
            return Err(Refusal::new(
                Code::TOO_MANY_SUBSCRIPTIONS,
                format!("a session has at most {most} subscriptions: end one, or use a wildcard"),
            ));
        }
        let bytes = self.subscription_bytes + cost_of(filter);
        if !self.charge_all(engine, self.alias_bytes, bytes) {
            return Err(Refusal::new(
                Code::OVERLOADED,
                "there is no room for more subscriptions: try again later, or use a wildcard",
            ));
        }
        self.subscription_bytes = bytes;
        Ok(())
    }

    // Returns the price of a subscription that has ended.
    pub(super) fn discharge(&mut self, engine: &Engine, cost: usize) {
        self.subscription_bytes -= cost;
        // A smaller charge always fits.
        self.charge_all(engine, self.alias_bytes, self.subscription_bytes);
    }

    // Charges what the session has above its free bytes. Returns whether there was room.
    fn charge_all(&mut self, engine: &Engine, aliases: usize, subscriptions: usize) -> bool {
        let beyond = |bytes: usize, free| if bytes > free { bytes } else { 0 };
        let bytes = beyond(aliases, FREE_ALIASES) + beyond(subscriptions, FREE_SUBSCRIPTIONS);
        // Aliases and subscriptions stay for as long as the session. They leave room for requests,
        // which come and go: else the first sessions would keep the later ones from any.
        let (budget, before) = (engine.budget(), self.charge.as_ref().map_or(0, Charge::bytes));
        let room = budget.most() - budget.most() / LEFT_OVER;
        if bytes > before && budget.held() + (bytes - before) > room {
            return false;
        }
        if bytes == 0 && self.charge.is_none() {
            return true;
        }
        budget.charge(&mut self.charge, bytes)
    }
}
