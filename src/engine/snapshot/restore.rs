//! Putting the parts of a snapshot back.

use super::topic::arriving;
use super::{SavedBody, SavedCount, SavedMessage, TopicState};
use crate::engine::Engine;
use crate::engine::payload::Parts;
use crate::engine::restoring::HIGHEST;
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::topic::counts::Count;
use crate::engine::topic::payload_key::PayloadKey;
use crate::wire::encode_message;

impl Engine {
    /// Puts a topic back; its messages follow.
    pub(in crate::engine) fn restore_topic(&mut self, state: Box<TopicState>) -> bool {
        let TopicState { id, next, created_at, evicted_through, .. } = *state;
        let numbers = [id, next, created_at, evicted_through, state.recorded];
        let fits = id > 0 && numbers.iter().all(|n| *n < HIGHEST);
        if !fits || next == 0 || self.by_id.contains_key(&id) {
            return false;
        }
        let Some(slot) = self.slot_as(id, &state.name, created_at) else {
            return false;
        };
        let limits = self.limits;
        self.change(slot, |topic| topic.put_state(&limits, &state));
        self.records.continue_after(self.records.made().max(state.recorded));
        self.position = self.position.max(evicted_through);
        if let Some(restoring) = &mut self.restoring {
            restoring.known.insert(id, (state.recorded, next));
            restoring.topic = Some(state);
        }
        true
    }

    /// Puts the next messages of a topic back.
    pub(in crate::engine) fn restore_messages(
        &mut self,
        id: u64,
        messages: Vec<SavedMessage>,
    ) -> bool {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return false;
        };
        let limits = self.limits;
        let state = self.restoring.as_ref().and_then(|restoring| restoring.topic.as_deref());
        let Some(end) = state.filter(|state| state.id == id).map(|state| state.next) else {
            return false;
        };
        for message in messages {
            let (at, position) = (message.sequence, message.place.position);
            let Some(topic) = self.topic(slot) else {
                return false;
            };
            let (next, empty) = (topic.next_sequence(), topic.messages() == 0);
            let is_after = topic.last_position() < position && (next <= at || empty);
            if at == 0 || at >= end || position >= HIGHEST || !is_after {
                return false;
            }
            if at != next {
                // The messages before this one were evicted while the snapshot was taken.
                self.skip_to(slot, at, position);
            }
            self.position = self.position.max(position);
            let Some(topic) = self.topics[slot].as_deref_mut() else {
                return false;
            };
            let body = match &message.body {
                SavedBody::Complete(total, payload) => match payload.parts() {
                    Parts::Large(rope) => {
                        let cached = topic.cached_payload(&total.digest);
                        let cached = cached.and_then(|cached| cached.rope(rope.len()));
                        Body::Large { rope: cached.unwrap_or_else(|| rope.clone()), upload: 0 }
                    }
                    Parts::Small(payload) => {
                        let cached = topic.cached_payload(&total.digest);
                        let shared = cached.as_ref().map_or(payload, |c| c.body(payload));
                        let stamp = message.place.stamp;
                        Body::Small(encode_message(id, at, total.count, stamp, shared))
                    }
                },
                SavedBody::Arriving(size, bytes) => {
                    let body = Some(*size).filter(|size| *size < HIGHEST);
                    let Some(body) = body.and_then(|size| arriving(size, bytes)) else {
                        return false;
                    };
                    if let Some(restoring) = &mut self.restoring {
                        restoring.begun.insert((id, at));
                    }
                    body
                }
                SavedBody::Aborted => Body::Aborted { superseded: false },
                SavedBody::Evicted => Body::Evicted { upload: 0 },
            };
            let before = topic.cost();
            topic.put_message(&limits, &message, body);
            self.settle(slot, before);
            self.make_room(slot);
        }
        true
    }

    pub(in crate::engine) fn restore_counts(&mut self, counts: &[SavedCount]) {
        for SavedCount { key, count, since } in counts {
            let count = Count { count: *count, since: *since };
            self.evicted_counts.put(PayloadKey::of_words(*key), count, self.position);
        }
    }

    /// Puts back what the messages of the topic before would have changed.
    pub(in crate::engine) fn finish_topic(&mut self) {
        let Some(state) = self.restoring.as_mut().and_then(|restoring| restoring.topic.take())
        else {
            return;
        };
        let Some(slot) = self.by_id.get(&state.id).copied() else {
            return;
        };
        let is_short = |topic: &Topic| topic.messages() > 0 && topic.next_sequence() < state.next;
        if self.topic(slot).is_some_and(is_short) {
            // The last messages are missing.
            if let Some(next) = self.topic(slot).map(Topic::next_sequence) {
                self.miss(slot, next);
            }
            self.skip_to(slot, state.next, self.position + 1);
        }
        self.change(slot, |topic| topic.finish(&state));
    }
}
