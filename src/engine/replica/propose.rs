//! Proposing publications to the log, in place of accepting them.

use super::apply::{MAX_NUMBER, POSITIONS};
use super::entry::LogChange;
use crate::engine::Engine;
use crate::engine::publication::{Publication, Receipt};
use crate::wire::{Code, Refusal, check_topic, is_reserved};
use std::sync::Arc;

/// The first id of the daemon's own topics, which are in no log. It is above the number of every
/// entry, and so above the id of every topic in the log.
const OWN_TOPICS: u64 = 2 * MAX_NUMBER;

/// Who is to be told what became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyTo {
    /// A session, for a publication of its peer.
    Session {
        /// Its [id](crate::engine::Session::id).
        session: u64,
        /// The alias of the topic.
        alias: u32,
        /// The number of the publication.
        number: u64,
        /// Whether it came in a datagram, and is acknowledged in one.
        datagram: bool,
    },
    /// A caller within the process, by a number of its own.
    Caller(u64),
}

/// A change that is proposed to the log.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its number among those of this engine, from 1 on.
    pub id: u64,
    /// Who waits for it.
    pub reply_to: ReplyTo,
    /// The change.
    pub change: LogChange,
}

/// The proposals that were not taken yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Proposals {
    list: Vec<Proposal>,
    made: u64,
}

impl Engine {
    /// Lets a log decide from now on: publications are [proposed](Self::propose), and
    /// [entries](super::LogEntry) of the log are [applied](Self::apply). The engine has to be new.
    /// `own` is a random number, by which the epochs of the daemon's own topics differ from those of
    /// other daemons.
    pub fn follow_log(&mut self, own: u32) {
        self.proposals = Some(Box::default());
        self.next_topic = OWN_TOPICS + (u64::from(own) << 8);
    }

    /// Returns whether half of the positions are used that the daemon's own topics have until the next
    /// entry. Then an entry is needed, even if it means nothing.
    pub fn needs_entry(&self) -> bool {
        self.follows_log() && self.position % POSITIONS >= POSITIONS / 2
    }

    // Whether a message of the daemon's own topics may have the next position.
    pub(in crate::engine) fn has_own_position(&self) -> bool {
        !self.follows_log() || self.position % POSITIONS < POSITIONS - 1
    }

    /// Returns whether a log decides.
    pub fn follows_log(&self) -> bool {
        self.proposals.is_some()
    }

    /// Proposes a publication: [take](Self::take_proposals) it after the call, and hand it to the log.
    /// Returns the receipt at once if this engine knows that it was accepted before.
    ///
    /// # Errors
    ///
    /// As of [`publish`](Self::publish).
    pub fn propose(
        &mut self,
        now: u64,
        publication: &Publication<'_>,
        reply_to: ReplyTo,
    ) -> Result<Option<Receipt>, Refusal> {
        self.now = now;
        let Publication { topic, payload, digest, stamp, origin } = *publication;
        if payload.len() > self.limits.payload {
            return Err(self.too_large(payload.len()));
        }
        if let Some(origin) = origin
            && let Some(slot) = self.slot(topic).filter(|_| !is_reserved(topic))
            && let Some(receipt) = self.find_receipt(slot, origin, digest)?
        {
            self.figures.duplicates += 1;
            return Ok(Some(receipt));
        }
        self.may_propose(now, topic, payload.len())?;
        let (topic, payload): (Arc<str>, _) = (topic.into(), payload.clone());
        self.add_proposal(reply_to, LogChange::Publish { topic, origin, stamp, digest, payload });
        Ok(None)
    }

    // Checks what this engine can judge without the log.
    fn may_propose(&mut self, now: u64, topic: &str, size: usize) -> Result<(), Refusal> {
        self.may_publish()?;
        if let Some(slot) = self.slot(topic).filter(|_| !is_reserved(topic)) {
            return self.may_publish_by_rule(now, slot, size);
        }
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        let most = self.largest_payload(topic);
        if size > most {
            let reason = format!(
                "a payload of {size} bytes is above the limit of {topic} of {most} bytes \
                 (topics.payload)"
            );
            return Err(Refusal::new(Code::PAYLOAD_TOO_LARGE, reason));
        }
        Ok(())
    }

    fn add_proposal(&mut self, reply_to: ReplyTo, change: LogChange) {
        self.work += 1;
        if let Some(proposals) = &mut self.proposals {
            proposals.made += 1;
            proposals.list.push(Proposal { id: proposals.made, reply_to, change });
        }
    }

    /// Returns whether there are proposals to take.
    pub fn has_proposals(&self) -> bool {
        self.proposals.as_ref().is_some_and(|proposals| !proposals.list.is_empty())
    }

    /// Moves the proposals that were made since the last call to `out`.
    pub fn take_proposals(&mut self, out: &mut Vec<Proposal>) {
        if let Some(proposals) = &mut self.proposals {
            out.append(&mut proposals.list);
        }
    }
}
