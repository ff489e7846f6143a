//! Those who read, what must be true of what they get, and what they are to be named for.

use super::{History, SIZE, Said, State, TOPICS, payloads, wanted};
use crate::engine::body::Body;
use crate::engine::topic::Topic;
use crate::engine::{Engine, Item, Large, MessageRef, SubscriptionId};
use crate::wire::{Code, Filter, GapCause};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// A large message of which a part has come.
pub(super) struct Part {
    of: (u64, u64),
    bytes: usize,
}

pub(super) struct Reader {
    pub(super) id: SubscriptionId,
    pub(super) filter: Filter,
    pub(super) large: Large,
    pub(super) part: Option<Part>,
    // To be followed.
    pub(super) large_ones: Vec<(u64, u64)>,
    // By topic id: what is next. Of a topic that began later it is the first.
    next: BTreeMap<u64, u64>,
    told: HashSet<u64>,
    // An abort came: the gap must be next.
    aborted: Option<(u64, u64)>,
    // What was overtaken when a part of it had come: it comes again when it is complete.
    patient: HashSet<(u64, u64)>,
    pub(super) highest: u64,
    // The position at which it began.
    born: u64,
    // Whether there is room for everything; and whether it begins with what there is once it looks.
    roomy: bool,
    looks_late: bool,
    // It may be told of a message that still arrives that it will not get it.
    impatient: bool,
}

// A chunk must be what the payload has there.
fn grow(bytes: &mut usize, payload: Option<usize>, chunk: &Bytes) {
    let (payload, _) = &payloads()[payload.unwrap()];
    let end = *bytes + chunk.len();
    assert!(payload[*bytes..end] == chunk[..], "other bytes than were published");
    *bytes = end;
}

// Whether something has left the log.
fn is_gone(engine: &Engine, of: (u64, u64)) -> bool {
    let topic = engine.by_id.get(&of.0).and_then(|slot| engine.topic(*slot));
    topic
        .and_then(|topic| topic.log.get(of.1))
        .is_none_or(|entry| matches!(entry.body, Body::Evicted { .. }))
}

impl Reader {
    pub(super) fn new(
        id: SubscriptionId,
        filter: Filter,
        large: Large,
        next: BTreeMap<u64, u64>,
        (roomy, all): (bool, bool),
        engine: &Engine,
    ) -> Self {
        Self {
            id,
            filter,
            large,
            part: None,
            large_ones: Vec::new(),
            next,
            told: HashSet::new(),
            aborted: None,
            patient: HashSet::new(),
            highest: 0,
            roomy,
            born: engine.position(),
            looks_late: all && !roomy,
            impatient: engine.portions.aside < TOPICS.len(),
        }
    }

    /// What is next in a topic.
    pub(super) fn next(&self, topic: &Topic) -> u64 {
        match self.next.get(&topic.id) {
            Some(next) if self.looks_late && !self.told.contains(&topic.id) => {
                topic.log.first().max(*next)
            }
            Some(next) => *next,
            None => 1,
        }
    }

    /// What there is to read, by the rules alone.
    pub(super) fn has_something(&self, engine: &Engine, history: &History) -> Option<(u64, u64)> {
        let open = self.part.as_ref().map(|part| part.of);
        // Of a topic that was forgotten before it had all of it, it is to be told.
        let lost = |(of, said): &(&(u64, u64), &Said)| {
            let known = self.next.get(&of.0).copied();
            let next = known.unwrap_or(if said.position > self.born { 1 } else { u64::MAX });
            let begun = !self.looks_late || self.told.contains(&of.0);
            let is_its = self.filter.matches(TOPICS[said.topic]) && next <= of.1;
            !engine.by_id.contains_key(&of.0) && is_its && begun
        };
        if let Some((of, _)) = history.iter().find(lost).filter(|_| !self.roomy) {
            return Some(*of);
        }
        let topics = || engine.topics.iter().flatten();
        let stalled = self.part.as_ref().is_some_and(|part| {
            topics().find(|topic| topic.id == part.of.0).is_some_and(|topic| {
                topic.log.get(part.of.1).is_some_and(|entry| match &entry.body {
                    Body::Arriving(arriving) => arriving.rope.len() == part.bytes,
                    _ => false,
                })
            })
        });
        if open.is_some() && !stalled {
            return open;
        }
        topics().filter(|topic| self.filter.matches(&topic.name)).find_map(|topic| {
            let of = (topic.id, self.next(topic));
            if of.1 < topic.log.first() {
                return Some(of);
            }
            let entry = topic.log.get(of.1).filter(|_| open != Some(of))?;
            let something = match (&entry.body, self.large) {
                (Body::Arriving(_), Large::Whole) => false,
                (Body::Arriving(_), Large::Pieces) => open.is_none() && !self.patient.contains(&of),
                _ => true,
            };
            something.then_some(of)
        })
    }

    /// Reads once. Says whether to read again, and whether there was anything; none if it has
    /// lost a topic.
    pub(super) fn read(
        &mut self,
        engine: &mut Engine,
        history: &History,
        budget: usize,
    ) -> Option<(bool, bool)> {
        let mut gone = HashSet::new();
        if !self.roomy {
            gone.extend(history.keys().copied().filter(|of| is_gone(engine, *of)));
        }
        let mut any = false;
        let read = engine.read(self.id, wanted(self.large, budget), &mut |item| {
            any = true;
            self.see(&item, history, &gone);
        });
        match read {
            Ok(again) => {
                assert_eq!(self.aborted, None, "an abort, and no gap");
                self.check_position(engine, history);
                Some((again, any))
            }
            Err(why) => {
                // In small windows more may be left for the next one than may wait.
                let small = self.impatient && engine.portions.window < TOPICS.len();
                let may = !self.roomy || small;
                assert!(may && why.code == Code::LAGGED, "{why}");
                None
            }
        }
    }

    // Where it says that it is, it is.
    fn check_position(&self, engine: &Engine, history: &History) {
        let (had, reached) = (engine.had(self.id), engine.reached(self.id));
        let overtaken = engine.overtaken(self.id, self.highest);
        let overtaken: BTreeMap<_, _> = overtaken.iter().map(|one| (one.topic, one)).collect();
        for ((id, sequence), said) in history {
            let slot = engine.by_id.get(id);
            let Some(topic) = slot.and_then(|slot| engine.topic(*slot)) else { continue };
            if !self.filter.matches(&topic.name) || self.next(topic) > *sequence {
                continue;
            }
            let of = (topic.name.as_ref(), sequence);
            assert!(said.position > had, "{of:?} is to come, and it had all up to {had}");
            let named = overtaken.get(id).is_some_and(|one| one.next <= *sequence);
            let before = overtaken.get(id).is_none_or(|one| one.position <= said.position);
            assert!(before, "{of:?} stands before its topic's position");
            assert!(named || said.position > reached, "{of:?} was passed, and is not named");
            assert!(
                named || said.position > self.highest,
                "{of:?} was overtaken, and is not named"
            );
        }
    }

    fn see(&mut self, item: &Item<'_>, history: &History, gone: &HashSet<(u64, u64)>) {
        if let Some((topic, sequence)) = self.aborted.take() {
            let Item::Gap { id, first, .. } = item else { panic!("{item:?} after an abort") };
            assert_eq!((*id, *first), (topic, sequence));
        }
        match item {
            Item::Topic { id, next, .. } => {
                let known = *self.next.entry(*id).or_insert(1);
                // What it was to begin with may have left the log before it looked.
                let late = self.told.insert(*id) && self.looks_late;
                assert!(*next == known || late, "it begins with {next}, and not with {known}");
                self.next.insert(*id, *next);
            }
            Item::Gap { id, first, last, cause, .. } => {
                assert_eq!(self.next.insert(*id, last + 1), Some(*first), "missed or repeated");
                for sequence in *first..=*last {
                    let of = (*id, sequence);
                    match cause {
                        GapCause::Aborted => assert_eq!(history[&of].state, State::Aborted),
                        GapCause::Evicted => assert!(gone.contains(&of), "it is there"),
                        GapCause::Skipped => {
                            assert!(self.impatient && self.large != Large::Apart);
                            assert_eq!(history[&of].state, State::Arriving);
                        }
                        GapCause::Late => panic!("nothing has a deadline"),
                    }
                }
                assert!(self.part.as_ref().is_none_or(|part| part.of.0 != *id));
            }
            Item::Message(message) => {
                let of = self.advance(message, history, gone);
                let payload = history[&of].payload;
                assert!(payload.is_none() || self.large == Large::Whole);
                assert_eq!(history[&of].state, State::Complete);
                assert!(message.payload() == payload.map_or(&b"x"[..], |n| &payloads()[n].0));
            }
            Item::Large(message) => {
                let of = self.advance(message, history, gone);
                assert!(self.large == Large::Apart && history[&of].payload.is_some());
                self.large_ones.push(of);
            }
            Item::Begin(message) => {
                assert!(self.large == Large::Pieces && self.part.is_none());
                let of = (message.topic_id(), message.sequence());
                assert_eq!(self.next[&of.0], of.1, "missed or repeated");
                self.in_order(of, history, gone);
                self.part = Some(Part { of, bytes: 0 });
            }
            Item::Chunk(chunk) => {
                let part = self.part.as_mut().unwrap();
                grow(&mut part.bytes, history[&part.of].payload, chunk);
            }
            Item::End { digest, .. } => {
                let Part { of, bytes } = self.part.take().unwrap();
                let said = &history[&of];
                assert_eq!((bytes, said.state), (SIZE, State::Complete));
                assert_eq!(*digest, payloads()[said.payload.unwrap()].1);
                assert_eq!(self.next.insert(of.0, of.1 + 1), Some(of.1));
                self.highest = self.highest.max(said.position);
            }
            Item::Abort { code: Code::OVERTAKEN } => {
                let Part { of, .. } = self.part.take().unwrap();
                assert!(self.patient.insert(of), "overtaken twice");
            }
            Item::Abort { code } => {
                let of = self.part.take().unwrap().of;
                let evicted = gone.contains(&of);
                assert_eq!(*code, if evicted { Code::EVICTED } else { Code::PUBLISHER_GONE });
                assert!(evicted || history[&of].state == State::Aborted);
                self.aborted = Some(of);
            }
        }
    }

    fn advance(
        &mut self,
        message: &MessageRef<'_>,
        history: &History,
        gone: &HashSet<(u64, u64)>,
    ) -> (u64, u64) {
        let of = (message.topic_id(), message.sequence());
        assert_eq!(self.next.insert(of.0, of.1 + 1), Some(of.1), "missed or repeated");
        assert_eq!(message.position(), history[&of].position);
        assert!(self.part.as_ref().is_none_or(|part| part.of.0 != of.0), "overtaken in its topic");
        self.in_order(of, history, gone);
        self.highest = self.highest.max(message.position());
        of
    }

    // What is to come of other topics, and is older, is what may be overtaken.
    fn in_order(&self, of: (u64, u64), history: &History, gone: &HashSet<(u64, u64)>) {
        let position = history[&of].position;
        for (at, said) in
            history.range(..).filter(|(at, said)| at.0 != of.0 && said.position < position)
        {
            let next = self.next.get(&at.0).copied().unwrap_or(1);
            let is_its = self.filter.matches(TOPICS[said.topic]) && next == at.1;
            let may_wait = match self.large {
                Large::Apart => false,
                Large::Whole => said.upload,
                Large::Pieces => said.payload.is_some(),
            };
            let is_there = !gone.contains(at) && (self.roomy || self.told.contains(&at.0));
            assert!(!is_its || may_wait || !is_there, "{of:?} before {at:?}");
        }
    }
}

/// One that has only one message to read, a large one.
pub(super) struct Follower {
    pub(super) id: SubscriptionId,
    pub(super) of: (u64, u64),
    // None before its beginning.
    pub(super) bytes: Option<usize>,
    pub(super) over: bool,
}

impl Follower {
    pub(super) fn has_something(&self, engine: &Engine) -> bool {
        let topic = engine.by_id.get(&self.of.0).and_then(|slot| engine.topic(*slot));
        match topic.and_then(|topic| topic.log.get(self.of.1)).map(|entry| &entry.body) {
            Some(Body::Arriving(arriving)) => self.bytes != Some(arriving.rope.len()),
            _ => true,
        }
    }

    /// As [`Reader::read`]; none after its end.
    pub(super) fn read(
        &mut self,
        engine: &mut Engine,
        history: &History,
        budget: usize,
    ) -> Option<(bool, bool)> {
        let (mut any, was_over) = (false, self.over);
        let read = engine.read(self.id, budget, &mut |item| {
            any = true;
            assert!(!self.over, "{item:?} after the end");
            match &item {
                Item::Begin(message) => {
                    assert_eq!((message.topic_id(), message.sequence()), self.of);
                    assert_eq!(self.bytes.replace(0), None);
                }
                Item::Chunk(chunk) => {
                    grow(self.bytes.as_mut().unwrap(), history[&self.of].payload, chunk);
                }
                Item::End { .. } => {
                    assert_eq!(self.bytes, Some(SIZE));
                    assert_eq!(history[&self.of].state, State::Complete);
                    self.over = true;
                }
                Item::Abort { .. } => self.over = true,
                other => panic!("{other:?}"),
            }
        });
        match read {
            Ok(again) => Some((again, any)),
            Err(why) => {
                assert!(was_over && why.code == Code::DONE, "{why}");
                None
            }
        }
    }
}
