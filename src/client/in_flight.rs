//! Publications in flight: sent, but without a receipt.

use super::error::PublishError;
use crate::wire::realtime::Unacked;
use crate::wire::{Digest, MAX_ALIASES};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Maximum number of publications without a receipt in one session. Further ones wait.
const MAX_IN_FLIGHT: usize = 1024;

/// A publication was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its sequence in the topic.
    pub sequence: u64,
    /// How often the payload has been published to the topic, this publication included.
    pub count: u64,
    /// The time at which counting restarted, µs since 1970, if earlier publications may be missing
    /// from the count.
    pub since: Option<u64>,
    /// Digest of the payload, as the daemon computed it.
    pub digest: Digest,
    /// Whether the publication had been accepted before, and so was not counted again.
    pub duplicate: bool,
}

/// How a publication ended. One that was sent in a datagram is accepted without a receipt.
pub(super) type PublishOutcome = Result<Option<Receipt>, PublishError>;

pub(super) type OutcomeSender = oneshot::Sender<PublishOutcome>;

/// A large publication, which has a stream of its own.
pub(super) struct LargePublication {
    pub(super) alias: u32,
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
}

// The publications of one topic.
struct Topic {
    name: Arc<str>,
    // Number of the newest publication.
    last: u64,
    // Publications without a receipt, by number.
    waiting: BTreeMap<u64, OutcomeSender>,
    // Whether the alias was declared on the publishing stream.
    declared: bool,
    // Whether the daemon has acknowledged a datagram, and so knows the alias.
    acknowledged: bool,
}

/// Publications without a receipt.
#[derive(Default)]
pub(super) struct Outstanding {
    aliases: HashMap<Arc<str>, u32>,
    by_alias: Vec<Topic>,
    count: usize,
    /// Those of them that were sent in datagrams.
    pub(super) unacked: Unacked,
}

impl Outstanding {
    /// Returns whether every publication is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Numbers a publication, and keeps its `sender` until it is settled. Returns the topic's alias
    /// and the number. Returns `None` if the publication has to wait until others are settled.
    pub(super) fn number(
        &mut self,
        name: &str,
        window: u32,
        sender: &mut Option<OutcomeSender>,
    ) -> Result<Option<(u32, u64)>, PublishError> {
        if self.count >= MAX_IN_FLIGHT {
            return Ok(None);
        }
        let (alias, topic) = self.topic(name).ok_or(PublishError::TooManyTopics)?;
        let number = topic.last + 1;
        let oldest = topic.waiting.first_key_value().map_or(number, |(oldest, _)| *oldest);
        if number >= oldest + u64::from(window) {
            return Ok(None);
        }
        topic.last = number;
        if let Some(sender) = sender.take() {
            topic.waiting.insert(number, sender);
            self.count += 1;
        }
        Ok(Some((alias, number)))
    }

    /// Returns whether the alias still has to be declared on the publishing stream: true once.
    pub(super) fn declare(&mut self, alias: u32) -> bool {
        let topic = self.by_alias.get_mut(alias as usize);
        topic.is_some_and(|topic| !std::mem::replace(&mut topic.declared, true))
    }

    pub(super) fn settle(&mut self, alias: u32, number: u64, outcome: PublishOutcome) {
        self.unacked.settled(alias, number);
        let topic = self.by_alias.get_mut(alias as usize);
        if let Some(sender) = topic.and_then(|topic| topic.waiting.remove(&number)) {
            self.count -= 1;
            // Fails if the application has dropped its future, and so ignores the receipt.
            let _ = sender.send(outcome);
        }
    }

    /// Applies the daemon's acknowledgement of publications in datagrams.
    pub(super) fn acknowledge(&mut self, alias: u32, floor: u64, seen: u64) {
        if let Some(topic) = self.by_alias.get_mut(alias as usize) {
            topic.acknowledged = true;
        }
        let mut settled = Vec::new();
        self.unacked.acknowledged(alias, floor, seen, &mut |_, number| settled.push(number));
        settled.into_iter().for_each(|number| self.settle(alias, number, Ok(None)));
    }

    /// Returns whether a publication is not settled yet.
    pub(super) fn waits(&self, alias: u32, number: u64) -> bool {
        let topic = self.by_alias.get(alias as usize);
        topic.is_some_and(|topic| topic.waiting.contains_key(&number))
    }

    /// Returns the topic's name if the daemon may not know the alias yet.
    pub(super) fn undeclared(&self, alias: u32) -> Option<&str> {
        let topic = self.by_alias.get(alias as usize).filter(|topic| !topic.acknowledged);
        topic.map(|topic| &*topic.name)
    }

    pub(super) fn clear(&mut self) {
        self.unacked = Unacked::new();
        self.by_alias.iter_mut().for_each(|topic| topic.waiting.clear());
        self.count = 0;
    }

    // Returns the topic and its alias, a new one if it has none. Returns `None` if the session has as
    // many topics as it may have.
    fn topic(&mut self, name: &str) -> Option<(u32, &mut Topic)> {
        let alias = match self.aliases.get(name) {
            Some(alias) => *alias,
            None if self.by_alias.len() >= MAX_ALIASES => return None,
            None => {
                let alias = self.by_alias.len() as u32;
                let name: Arc<str> = name.into();
                self.aliases.insert(name.clone(), alias);
                let waiting = BTreeMap::new();
                let (declared, acknowledged) = (false, false);
                self.by_alias.push(Topic { name, last: 0, waiting, declared, acknowledged });
                alias
            }
        };
        Some((alias, self.by_alias.get_mut(alias as usize)?))
    }
}
