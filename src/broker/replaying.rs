//! Which part of a subscription's messages was published before it began.
//!
//! A subscriber may ask for those again and again, so they are sent at a limited rate. Each later
//! message is sent to it once, and is never held back for that rate.
//!
//! As every delivery goes through here, what is delivered is counted here too, once for each read.

use super::Broker;
use super::clock::time_of_day;
use super::counters::{Counters, Mode};
use super::throttle::ReplayBudget;
use crate::engine::{Item, SubscriptionId};
use std::time::Duration;

/// Bytes that an item without a payload counts as.
const BARE: usize = 64;

/// Of so many reads with new messages, the delay of one is measured: asking for the time would take as
/// long as the rest of a small read.
const SAMPLED: u8 = 16;

/// The progress of one subscription through what was published before it.
#[derive(Debug)]
pub(crate) struct Replaying {
    // The position of the last message before the subscription.
    until: u64,
    // Whether the next read may yield such messages.
    catches_up: bool,
    // Whether the large message that is open is one of them.
    open: bool,
    // Of the current read.
    bytes: usize,
    live: bool,
    mode: Mode,
    // Of the current read: messages, and bytes of payloads.
    messages: u32,
    payloads: u64,
    // Reads with new messages until the next measurement, and the time at which its message was
    // accepted, µs since 1970. 0 is none.
    until_sample: u8,
    accepted: u64,
}

impl Replaying {
    /// Begins at a subscription that was made when the engine was at this position.
    pub(crate) fn new(until: u64, mode: Mode) -> Self {
        Self {
            until,
            catches_up: until > 0,
            open: false,
            bytes: 0,
            live: false,
            mode,
            messages: 0,
            payloads: 0,
            until_sample: 0,
            accepted: 0,
        }
    }

    /// Whether a message was published before the subscription.
    pub(crate) fn is_old(&self, position: u64) -> bool {
        position <= self.until
    }

    /// Counts an item of a read.
    pub(crate) fn count(&mut self, item: &Item<'_>) {
        self.tally(item);
        match item {
            Item::Message(message) if self.is_old(message.position()) => {
                self.bytes += message.size() + BARE;
            }
            Item::Begin(message) => {
                self.open = self.is_old(message.position());
                self.live |= !self.open;
                self.bytes += if self.open { BARE } else { 0 };
            }
            // It is read apart from the subscription, where its bytes are counted.
            Item::Large(message) if self.is_old(message.position()) => self.bytes += BARE,
            Item::Message(_) | Item::Large(_) => self.live = true,
            Item::Chunk(chunk) if self.open => self.bytes += chunk.len(),
            Item::Gap { .. } | Item::Topic { .. } if self.catches_up => self.bytes += BARE,
            _ => {}
        }
    }

    /// Counts an item of a read whose payload is counted elsewhere, where it is sent as text.
    pub(crate) fn count_bare(&mut self, item: &Item<'_>) {
        match item {
            Item::Message(message) | Item::Large(message) => {
                if self.is_old(message.position()) {
                    self.bytes += BARE;
                } else {
                    self.live = true;
                }
                self.tally(item);
            }
            _ => self.count(item),
        }
    }

    // Counts what is delivered. A large payload counts when it begins, or is announced.
    fn tally(&mut self, item: &Item<'_>) {
        if let Item::Message(message) | Item::Large(message) | Item::Begin(message) = item {
            self.messages += 1;
            self.payloads += message.size() as u64;
            if self.until_sample == 0 && self.accepted == 0 && !self.is_old(message.position()) {
                self.accepted = message.accepted();
            }
        }
    }

    /// The transport has taken what was read.
    pub(crate) fn sent(&mut self, counters: &Counters) {
        if self.accepted > 0 {
            let accepted = std::mem::take(&mut self.accepted);
            counters.publish_to_send.observe(time_of_day().saturating_sub(accepted));
            self.until_sample = SAMPLED - 1;
        }
    }

    /// Whether the last read was of messages that were published before the subscription.
    pub(crate) fn catches_up(&self) -> bool {
        self.catches_up
    }

    /// Spends what was counted since the last call, and adds it to what was delivered. Returns the messages
    /// and the bytes of their payloads.
    pub(crate) fn spend(&mut self, budget: &ReplayBudget, counters: &Counters) -> (u64, u64) {
        let messages = u64::from(std::mem::take(&mut self.messages));
        let payloads = std::mem::take(&mut self.payloads);
        if messages > 0 {
            counters.deliver(self.mode, messages, payloads);
            if self.accepted == 0 {
                self.until_sample = self.until_sample.saturating_sub(u8::from(self.live));
            }
        }
        let (bytes, live) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.live));
        if bytes > 0 {
            budget.spend(bytes as u64);
        }
        self.catches_up = bytes > 0 || (self.catches_up && !live);
        (messages, payloads)
    }

    /// Returns for how long the next read has to wait, if it has to.
    pub(crate) fn wait(
        &mut self,
        budget: &ReplayBudget,
        broker: &Broker,
        id: SubscriptionId,
    ) -> Option<Duration> {
        if !self.catches_up {
            return None;
        }
        let wait = budget.wait()?;
        // It may have been at the head since its last read, which then found nothing.
        self.catches_up = broker.with(|engine| engine.reached(id)) < self.until;
        self.catches_up.then_some(wait)
    }
}
