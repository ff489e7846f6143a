//! `Ordered` subscriptions, and all subscriptions over WebSocket: checks that each message follows
//! the one before, and records how far each topic has come. No I/O.

use super::error::SubscribeError;
use super::message_stream::Arrived;
use super::progress::{KnownTopic, Progress};
use super::reassembly::CompleteMessage;
use crate::message::{CachedDigest, Event, Gap, Resumed};
use crate::wire::DaemonFrame;
use crate::wire::GapCause;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

struct Topic {
    name: Arc<str>,
    epoch: u64,
    next: u64,
    // Ranges from `next` on that an earlier session has received.
    received: Vec<(u64, u64)>,
    // The number of marks that preceded its newest event.
    marks: u64,
}

impl Topic {
    // Returns the progress in the topic after this number of marks.
    fn known(&self, marks: u64) -> KnownTopic {
        let Self { name, epoch, next, received, .. } = self;
        let received: Vec<_> = received.iter().copied().filter(|(_, last)| last >= next).collect();
        let named = self.marks == marks || !received.is_empty();
        let resumed = Resumed { topic: name.clone(), epoch: *epoch, next: *next, received };
        KnownTopic { resumed, named }
    }
}

fn protocol(what: &str) -> SubscribeError {
    SubscribeError::Protocol(what.to_owned())
}

/// The announced topics of an ordered subscription, in one session.
#[derive(Default)]
pub(super) struct OrderedTopics {
    topics: HashMap<u64, Topic>,
    ids: HashMap<Arc<str>, u64>,
}

impl OrderedTopics {
    /// Returns whether any topic was announced.
    pub(super) fn has_topics(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Returns the progress in the topics after this number of marks.
    pub(super) fn known_topics(&self, marks: u64) -> Vec<KnownTopic> {
        self.topics.values().map(|topic| topic.known(marks)).collect()
    }

    /// Takes what has arrived on the subscription's stream. Returns the event for the application.
    pub(super) fn take(
        &mut self,
        arrived: Arrived,
        progress: &mut Progress,
    ) -> Result<Option<Event>, SubscribeError> {
        match arrived {
            Arrived::Frame(frame) => self.frame(&frame, progress),
            Arrived::Complete(message) => self.message(message, progress),
            // A gap follows an abort.
            Arrived::Begun(..) | Arrived::Aborted(..) => Ok(None),
        }
    }

    // Records and returns a complete message. One that has only begun to arrive does not advance
    // `next`.
    fn message(
        &mut self,
        message: CompleteMessage,
        progress: &Progress,
    ) -> Result<Option<Event>, SubscribeError> {
        let topic = self.topics.get_mut(&message.topic);
        let topic = topic.ok_or_else(|| protocol("a message of an unknown topic"))?;
        let sequence = message.sequence;
        if sequence != topic.next {
            return Err(protocol("a sequence that was neither sent nor reported as a gap"));
        }
        (topic.next, topic.marks) = (sequence + 1, progress.marks());
        if topic.received.iter().any(|(first, last)| (first..=last).contains(&&sequence)) {
            return Ok(None);
        }
        Ok(Some(Event::Message(message.of(topic.name.clone(), topic.epoch))))
    }

    fn frame(
        &mut self,
        frame: &Bytes,
        progress: &mut Progress,
    ) -> Result<Option<Event>, SubscribeError> {
        let decoded = DaemonFrame::decode(frame);
        match decoded.map_err(|error| SubscribeError::Protocol(error.to_string()))? {
            // A repeated announcement has no effect.
            DaemonFrame::Topic { id, .. } if self.topics.contains_key(&id) => Ok(None),
            DaemonFrame::Topic { id, epoch, next, name } => {
                // A topic that was forgotten and published again has a new id and epoch.
                let (received, marks) = (progress.announced(name, epoch, next), progress.marks());
                let name: Arc<str> = name.into();
                if let Some(earlier) = self.ids.insert(name.clone(), id) {
                    self.topics.remove(&earlier);
                }
                self.topics.insert(id, Topic { name, epoch, next, received, marks });
                Ok(None)
            }
            DaemonFrame::Message { topic, sequence, count, stamp, payload } => {
                let (payload, digest) = (frame.slice_ref(payload), CachedDigest::default());
                let message = CompleteMessage { topic, sequence, count, stamp, payload, digest };
                self.message(message, progress)
            }
            DaemonFrame::Gap { topic, first, last, cause } => {
                let topic = self.topics.get_mut(&topic);
                let topic = topic.ok_or_else(|| protocol("a gap of an unknown topic"))?;
                // The sequences of an earlier epoch are used again.
                if cause != GapCause::Lost {
                    topic.next = last + 1;
                }
                topic.marks = progress.marks();
                // An earlier session has received these.
                if cause == GapCause::Had {
                    return Ok(None);
                }
                let (name, epoch) = (topic.name.clone(), topic.epoch);
                Ok(Some(Event::Gap(Gap { topic: name, epoch, first, last, cause })))
            }
            // Everything before the mark on this stream was delivered.
            DaemonFrame::Mark { position } => progress.mark(position).map(|()| None),
            _ => Err(protocol("a frame that does not belong on a subscription's stream")),
        }
    }
}

#[cfg(test)]
mod tests;
