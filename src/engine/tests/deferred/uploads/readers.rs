//! Those who read, what must be true of what they get, and what they are to be named for.

use super::begins::{Begin, Begins};
use super::steps::Asks;
use super::{FILTERS, History, SIZE, Said, State, TOPICS, payloads};
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::{Engine, Item, LargePayloads, MessageRef, ReadOptions, SubscriptionId};
use crate::wire::{Code, Filter, GapCause, Lag};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// A large message of which a part has come.
pub(super) struct Part {
    of: (u64, u64),
    bytes: usize,
}

pub(super) struct Reader {
    pub(super) id: SubscriptionId,
    pub(super) asks: Asks,
    filter: Filter,
    large: LargePayloads,
    pub(super) part: Option<Part>,
    // To be followed.
    pub(super) large_ones: Vec<(u64, u64)>,
    // Its beginnings in the topics that existed. The others begin later, with their first message.
    begins: Begins,
    // By topic id: what is next, once it was told of the topic.
    next: BTreeMap<u64, u64>,
    // An abort came: the gap must be next.
    aborted: Option<(u64, u64)>,
    // Messages that were overtaken after a part was read: they are read again when complete.
    patient: HashSet<(u64, u64)>,
    pub(super) highest: u64,
    // The position at which it began.
    born: u64,
    // Whether there is room for everything; and for windows of all topics.
    roomy: bool,
    wide: bool,
    // It may be told of a message that still arrives that it will not get it.
    impatient: bool,
    // Messages accepted before this are late; and the end of the last read's window.
    since: u64,
    upto: u64,
}

// A chunk must be what the payload has there.
pub(super) fn grow(bytes: &mut usize, payload: Option<usize>, chunk: &Bytes) {
    let (payload, _) = &payloads()[payload.unwrap()];
    let end = *bytes + chunk.len();
    assert!(payload[*bytes..end] == chunk[..], "other bytes than were published");
    *bytes = end;
}

// Whether something has left the log.
pub(super) fn is_gone(engine: &Engine, of: (u64, u64)) -> bool {
    let topic = engine.by_id.get(&of.0).and_then(|slot| engine.topic(*slot));
    topic
        .and_then(|topic| topic.entry(of.1))
        .is_none_or(|entry| matches!(entry.body, Body::Evicted { .. }))
}

impl Reader {
    pub(super) fn new(
        id: SubscriptionId,
        asks: Asks,
        begins: Begins,
        roomy: bool,
        engine: &Engine,
    ) -> Self {
        Self {
            id,
            filter: FILTERS[asks.filter].parse().unwrap(),
            large: asks.large,
            asks,
            part: None,
            large_ones: Vec::new(),
            begins,
            next: BTreeMap::new(),
            aborted: None,
            patient: HashSet::new(),
            highest: 0,
            born: engine.position(),
            roomy,
            wide: engine.portions.window >= TOPICS.len(),
            impatient: engine.portions.aside < TOPICS.len(),
            since: 0,
            upto: 0,
        }
    }

    pub(super) fn is_its(&self, topic: &Topic) -> bool {
        self.filter.matches(topic.name())
    }

    /// Returns the sequence that it needs next in a topic. If its beginning is not known yet, the
    /// latest possible one.
    pub(super) fn next(&self, topic: &Topic, engine: &Engine, history: &History) -> u64 {
        self.next_of(topic.id(), history, |of| is_gone(engine, of))
    }

    fn next_of(&self, id: u64, history: &History, gone: impl Fn((u64, u64)) -> bool) -> u64 {
        match (self.next.get(&id), self.begins.get(&id)) {
            (Some(next), _) => *next,
            (None, Some(begin)) => begin.latest(history, id, |sequence| gone((id, sequence))),
            (None, None) => 1,
        }
    }

    // Whether this is a message of a topic that was forgotten, which it had not had.
    fn has_lost(&self, of: (u64, u64), said: &Said, engine: &Engine) -> bool {
        let next = match (self.next.get(&of.0), self.begins.get(&of.0)) {
            (Some(next), _) => *next,
            (None, Some(begin)) if begin.is_exact() => {
                begin.latest(&History::new(), of.0, |_| false)
            }
            (None, None) if said.position > self.born => 1,
            (None, _) => u64::MAX,
        };
        !engine.by_id.contains_key(&of.0) && self.filter.matches(TOPICS[said.topic]) && next <= of.1
    }

    /// Returns a message that can be read, by the rules alone.
    pub(super) fn has_something(&self, engine: &Engine, history: &History) -> Option<(u64, u64)> {
        let open = self.part.as_ref().map(|part| part.of);
        // Of a topic that was forgotten before it had all of it, it is to be told.
        let lost = |(of, said): &(&(u64, u64), &Said)| self.has_lost(**of, said, engine);
        if let Some((of, _)) = history.iter().find(lost).filter(|_| !self.roomy) {
            return Some(*of);
        }
        let topics = || engine.topics.iter().flatten();
        let stalled = self.part.as_ref().is_some_and(|part| {
            topics().find(|topic| topic.id() == part.of.0).is_some_and(|topic| {
                topic.entry(part.of.1).is_some_and(|entry| match &entry.body {
                    Body::Arriving(arriving) => arriving.rope.len() == part.bytes,
                    _ => false,
                })
            })
        });
        if open.is_some() && !stalled {
            return open;
        }
        topics().filter(|topic| self.is_its(topic)).find_map(|topic| {
            let of = (topic.id(), self.next(topic, engine, history));
            if of.1 < topic.first_sequence() {
                return Some(of);
            }
            let entry = topic.entry(of.1).filter(|_| open != Some(of))?;
            let something = match (&entry.body, self.large) {
                (Body::Arriving(_), LargePayloads::WhenComplete) => false,
                (Body::Arriving(_), LargePayloads::InChunks) => {
                    open.is_none() && !self.patient.contains(&of)
                }
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
        now: u64,
    ) -> Option<(bool, bool)> {
        self.since = match self.asks.deadline {
            0 => 0,
            deadline => now - deadline,
        };
        self.upto = engine.subscriptions.get(self.id).map_or(0, |s| s.window_end);
        let wanted = ReadOptions { budget, accepted_since: self.since, large: self.large };
        let mut gone = HashSet::new();
        if !self.roomy {
            gone.extend(history.keys().copied().filter(|of| is_gone(engine, *of)));
        }
        let mut any = false;
        let read = engine.read(self.id, wanted, &mut |item| {
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
                assert!(why.code == Code::LAGGED, "{why}");
                let may = if self.roomy {
                    // In small windows more may be left for the next one than may wait.
                    self.impatient && (!self.wide || self.asks.lag == Lag::Disconnect)
                } else {
                    !self.wide || self.misses(engine, history)
                };
                assert!(may, "{why}");
                None
            }
        }
    }

    // Whether it misses so much that it is to be ended.
    fn misses(&self, engine: &Engine, history: &History) -> bool {
        let ends = self.asks.lag == Lag::Disconnect;
        history.iter().any(|(of, said)| {
            let is_begun =
                self.next.contains_key(&of.0) || self.begins.get(&of.0).is_none_or(Begin::is_exact);
            let next = if is_begun { self.next_of(of.0, history, |_| false) } else { 1 };
            let is_known = self.begins.contains_key(&of.0) || self.next.contains_key(&of.0);
            let is_its = self.filter.matches(TOPICS[said.topic])
                && next <= of.1
                && (is_known || said.position > self.born);
            is_its && if ends { is_gone(engine, *of) } else { !engine.by_id.contains_key(&of.0) }
        })
    }

    // Checks the positions that it reports.
    fn check_position(&self, engine: &Engine, history: &History) {
        let (had, reached) = (engine.delivered_through(self.id), engine.reached(self.id));
        let overtaken = engine.overtaken(self.id, self.highest);
        let overtaken: BTreeMap<_, _> = overtaken.iter().map(|one| (one.topic, one)).collect();
        for ((id, sequence), said) in history {
            let slot = engine.by_id.get(id);
            let Some(topic) = slot.and_then(|slot| engine.topic(*slot)) else { continue };
            if !self.is_its(topic) || self.next(topic, engine, history) > *sequence {
                continue;
            }
            let of = (topic.name().as_ref(), sequence);
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
                let may = match (self.next.get(id), self.begins.get(id)) {
                    (Some(known), _) => next == known,
                    (None, Some(begin)) => begin
                        .allows(*next, history, *id, |sequence| gone.contains(&(*id, sequence))),
                    (None, None) => *next == 1,
                };
                assert!(may, "it begins with {next}, and not with {:?}", self.next.get(id));
                self.next.insert(*id, *next);
            }
            Item::Gap { id, first, last, cause, .. } => {
                assert_eq!(self.next.insert(*id, last + 1), Some(*first), "missed or repeated");
                if *cause == GapCause::Skipped {
                    self.check_skipped(*id, (*first, *last), history, gone);
                }
                for sequence in *first..=*last {
                    let of = (*id, sequence);
                    match cause {
                        GapCause::Aborted => assert_eq!(history[&of].state, State::Aborted),
                        GapCause::Evicted => {
                            assert!(gone.contains(&of), "it is there");
                            assert_eq!(self.asks.lag, Lag::Oldest);
                        }
                        GapCause::Skipped => {}
                        GapCause::Lost | GapCause::Had | GapCause::Unknown(_) => {
                            panic!("no run has ended, and nothing was shown")
                        }
                        GapCause::Expired => panic!("there is no rule"),
                        GapCause::Late => {
                            assert!(history[&of].accepted < self.since, "it is not late");
                            let aborted = history[&of].state == State::Aborted;
                            assert!(!aborted || gone.contains(&of));
                        }
                    }
                }
                assert!(self.part.as_ref().is_none_or(|part| part.of.0 != *id));
            }
            Item::Message(message) => {
                let of = self.advance(message, history, gone);
                let payload = history[&of].payload;
                assert!(payload.is_none() || self.large == LargePayloads::WhenComplete);
                assert_eq!(history[&of].state, State::Complete);
                assert!(message.payload() == payload.map_or(&b"x"[..], |n| &payloads()[n].0));
            }
            Item::Large(message) => {
                let of = self.advance(message, history, gone);
                assert!(
                    self.large == LargePayloads::AnnounceOnly && history[&of].payload.is_some()
                );
                self.large_ones.push(of);
            }
            Item::Begin(message) => {
                assert!(self.large == LargePayloads::InChunks && self.part.is_none());
                let of = (message.topic_id(), message.sequence());
                assert_eq!(self.next[&of.0], of.1, "missed or repeated");
                assert!(history[&of].accepted >= self.since, "it is late");
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

    // One that still arrives; or all that there was, as it misses some, up to the newest.
    fn check_skipped(
        &self,
        id: u64,
        (first, last): (u64, u64),
        history: &History,
        gone: &HashSet<(u64, u64)>,
    ) {
        let arrives = first == last && history[&(id, first)].state == State::Arriving;
        if arrives && self.impatient && self.large != LargePayloads::AnnounceOnly {
            return;
        }
        assert_eq!(self.asks.lag, Lag::Newest);
        assert!(gone.contains(&(id, first)), "it is there, and was skipped");
        let is_there = |sequence: u64| {
            let of = (id, sequence);
            history.get(&of).is_some_and(|said| said.state == State::Complete)
                && !gone.contains(&of)
        };
        let skips = (first..=last).any(is_there);
        assert!(!skips || is_there(last + 1), "skipped, and nothing comes in its place");
        // Messages that arrived since its search come with the next window.
        let mut newer = history.range((id, last + 2)..=(id, u64::MAX));
        let newer = newer.find(|(of, said)| said.position <= self.upto && is_there(of.1));
        assert!(newer.is_none(), "it is not the newest: {newer:?}");
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
        assert!(history[&of].accepted >= self.since, "it is late");
        assert!(self.part.as_ref().is_none_or(|part| part.of.0 != of.0), "overtaken in its topic");
        self.in_order(of, history, gone);
        self.highest = self.highest.max(message.position());
        of
    }

    // Older messages of other topics are still to come only if they may be overtaken.
    fn in_order(&self, of: (u64, u64), history: &History, gone: &HashSet<(u64, u64)>) {
        let position = history[&of].position;
        for (at, said) in
            history.range(..).filter(|(at, said)| at.0 != of.0 && said.position < position)
        {
            let waits = || self.begins.get(&at.0).is_some_and(Begin::waits);
            if !self.next.contains_key(&at.0) && waits() {
                continue;
            }
            let is_its = self.filter.matches(TOPICS[said.topic])
                && self.next_of(at.0, history, |of| gone.contains(&of)) == at.1;
            let may_wait = match self.large {
                LargePayloads::AnnounceOnly => false,
                LargePayloads::WhenComplete => said.upload,
                LargePayloads::InChunks => said.payload.is_some(),
            };
            let is_there = !gone.contains(at) && (self.roomy || self.next.contains_key(&at.0));
            assert!(!is_its || may_wait || !is_there, "{of:?} before {at:?}");
        }
    }
}
