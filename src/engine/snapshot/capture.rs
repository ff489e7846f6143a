//! Taking a snapshot, a part at a time.

use super::topic::saved;
use super::{EngineState, Part, SavedBody, SavedMessage};
use crate::engine::Engine;
use crate::engine::ids::Slot;
use crate::engine::memory::evicted_counts::CountsPlace;
use crate::engine::topic::body::Body;
use std::ops::Bound;
use std::sync::Arc;

/// Number of messages or counts in a part: 100 ns each, at most.
const PORTION: usize = 512;

/// Bytes of payloads from which a part is complete, 256 KiB.
const BYTES: usize = 256 << 10;

/// How far a snapshot has come.
#[derive(Debug)]
pub struct Capture {
    stage: Stage,
    records_from: u64,
}

#[derive(Debug)]
enum Stage {
    Begin,
    /// The topics after this name.
    Topics(Option<Arc<str>>),
    /// The messages of a topic from a sequence on.
    Messages {
        topic: Within,
        next: u64,
        end: u64,
        // The place of the last of them, for when that has left the log before it is captured.
        last: Option<Box<SavedMessage>>,
    },
    /// Counts of payloads of a topic, after a look-up.
    Kept {
        topic: Within,
        after: u64,
    },
    /// Topics that were forgotten have counts still.
    Forgotten,
    Counts(Option<CountsPlace>),
    End,
    Done,
}

#[derive(Debug)]
struct Within {
    slot: Slot,
    id: u64,
    name: Arc<str>,
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

impl Capture {
    /// Begins a snapshot.
    pub fn new() -> Self {
        Self { stage: Stage::Begin, records_from: 0 }
    }
}

impl Engine {
    /// Returns the next part of a snapshot. None after its last part.
    pub fn capture(&mut self, capture: &mut Capture) -> Option<Part> {
        loop {
            let (part, stage) = match std::mem::replace(&mut capture.stage, Stage::Done) {
                Stage::Begin => {
                    capture.records_from = self.records.made() + 1;
                    (Some(Part::Engine(self.save())), Stage::Topics(None))
                }
                Stage::Topics(after) => self.capture_topic(after),
                Stage::Messages { topic, next, end, last } => {
                    self.capture_messages(topic, (next, end), last)
                }
                Stage::Kept { topic, after } => self.capture_kept(topic, after),
                Stage::Forgotten if self.forgotten_topics.is_empty() => (None, Stage::Counts(None)),
                Stage::Forgotten => {
                    // Their counts go to the table that is captured next.
                    self.empty_forgotten(&mut PORTION.clone());
                    (Some(Part::Counts(Vec::new())), Stage::Forgotten)
                }
                Stage::Counts(place) => {
                    let mut counts = Vec::new();
                    let next = self.evicted_counts.copy(place, 2 * PORTION, &mut counts);
                    let counts = counts.into_iter().map(|(key, count)| saved(key.words(), count));
                    let stage = next.map_or(Stage::End, |next| Stage::Counts(Some(next)));
                    (Some(Part::Counts(counts.collect())), stage)
                }
                Stage::End => {
                    let dropped_at = self.evicted_counts.dropped_at();
                    let records_from = capture.records_from;
                    (Some(Part::End { records_from, dropped_at }), Stage::Done)
                }
                Stage::Done => return None,
            };
            capture.stage = stage;
            if part.is_some() {
                return part;
            }
        }
    }

    fn save(&self) -> EngineState {
        EngineState {
            run: self.runs.current(),
            past: self.runs.past().to_vec(),
            secret: self.secret,
            position: self.position,
            next_topic: self.next_topic,
            recorded: self.records.made(),
        }
    }

    fn capture_topic(&self, after: Option<Arc<str>>) -> (Option<Part>, Stage) {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((name, slot)) = self.by_name.range((after, Bound::Unbounded)).next() else {
            return (None, Stage::Forgotten);
        };
        let Some(topic) = self.topic(*slot) else {
            return (None, Stage::Topics(Some(name.clone())));
        };
        let within = Within { slot: *slot, id: topic.id(), name: name.clone() };
        let (next, end) = (topic.first_sequence(), topic.next_sequence());
        let last = topic.save_message(end - 1);
        let last = last.map(|last| Box::new(SavedMessage { body: SavedBody::Evicted, ..last }));
        let state = Box::new(topic.save(self.records.made()));
        (Some(Part::Topic(state)), Stage::Messages { topic: within, next, end, last })
    }

    fn capture_messages(
        &self,
        within: Within,
        (next, end): (u64, u64),
        last: Option<Box<SavedMessage>>,
    ) -> (Option<Part>, Stage) {
        let topic = self.topic(within.slot).filter(|topic| topic.id() == within.id);
        let Some(topic) = topic else {
            // It was forgotten meanwhile: a record says so.
            return (None, Stage::Topics(Some(within.name)));
        };
        let from = next.max(topic.first_sequence());
        let to = end.min(from + PORTION as u64);
        if from >= to {
            // A client that resumes has a gap for those that have left the log meanwhile.
            let last = last
                .filter(|_| next < end)
                .map(|last| Part::Messages { topic: within.id, messages: vec![*last] });
            return (last, Stage::Kept { topic: within, after: 0 });
        }
        let (mut messages, mut bytes, mut at) = (Vec::new(), 0, from);
        while at < to && bytes < BYTES {
            if let Some(entry) = topic.entry(at) {
                bytes += match &entry.body {
                    body if body.is_complete() => body.size(),
                    Body::Arriving(arriving) => arriving.rope.len(),
                    _ => 0,
                };
            }
            messages.extend(topic.save_message(at));
            at += 1;
        }
        let to = at;
        let part = Part::Messages { topic: within.id, messages };
        (Some(part), Stage::Messages { topic: within, next: to, end, last })
    }

    fn capture_kept(&self, within: Within, after: u64) -> (Option<Part>, Stage) {
        let topic = self.topic(within.slot).filter(|topic| topic.id() == within.id);
        let mut counts = Vec::new();
        match topic.and_then(|topic| topic.save_kept(after, PORTION, &mut counts)) {
            Some(after) => (Some(Part::Counts(counts)), Stage::Kept { topic: within, after }),
            None => (None, Stage::Topics(Some(within.name))),
        }
    }
}
