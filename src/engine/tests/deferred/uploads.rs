//! The same while large payloads arrive: whoever has something to read is named, whatever others
//! have left to be done; nobody is handed anything twice, and nobody misses anything.

mod begins;
mod followers;
mod gets;
mod readers;
mod sending;
mod steps;

use super::{FILTERS, TOPICS};
use crate::engine::subscribe::portions::{PORTIONS, Portions};
use crate::engine::tests::{SMALLEST, engine, small};
use crate::engine::{Engine, Limits, SubscriptionId};
use crate::wire::{Digest, Position, Resume, Start};
use begins::Begin;
use bytes::Bytes;
use followers::Follower;
use proptest::prelude::*;
use readers::Reader;
use sending::Sending;
use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;
use steps::{Asks, IMPATIENT, Step, step};

/// Large, and no larger than need be.
const SIZE: usize = 66_000;

fn payloads() -> &'static [(Bytes, Digest)] {
    static ALL: OnceLock<Vec<(Bytes, Digest)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let one = |n: usize| {
            let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 7 + n * 31) as u8).collect();
            let digest = Digest::of(&bytes);
            (bytes.into(), digest)
        };
        (0..3).map(one).collect()
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Arriving,
    Complete,
    Aborted,
}

/// A message as the model keeps it.
#[derive(Debug)]
struct Said {
    topic: usize,
    position: u64,
    accepted: u64,
    // None of a small one.
    payload: Option<usize>,
    // It came in parts.
    upload: bool,
    state: State,
}

/// By topic id and sequence.
type History = BTreeMap<(u64, u64), Said>;

struct World {
    engine: Engine,
    // Whether there is room for everything.
    roomy: bool,
    now: u64,
    history: History,
    sending: Vec<Sending>,
    readers: Vec<Reader>,
    followers: Vec<Follower>,
    named: Vec<SubscriptionId>,
}

impl World {
    // With room for everything, or for so many topics only, and little of each.
    fn new(room: Option<usize>, portions: Portions) -> Self {
        let limits = match room {
            None => Limits { topics: 16, ..small().with_cache(64 << 20) },
            Some(topics) => Limits { topics, ..small() },
        };
        let mut engine = engine(limits);
        engine.portions = portions;
        Self {
            engine,
            roomy: room.is_none(),
            now: 1000,
            history: History::new(),
            sending: Vec::new(),
            readers: Vec::new(),
            followers: Vec::new(),
            named: Vec::new(),
        }
    }

    fn say(
        &mut self,
        topic: usize,
        payload: Option<usize>,
        upload: bool,
        state: State,
    ) -> (u64, u64) {
        let slot = self.engine.slot(TOPICS[topic]).unwrap();
        let found = self.engine.topic(slot).unwrap();
        let of = (found.id(), found.next_sequence() - 1);
        let position = self.engine.position();
        assert_eq!(found.last_position(), position);
        let accepted = self.now;
        let said = Said { topic, position, accepted, payload, upload, state };
        assert!(self.history.insert(of, said).is_none(), "a sequence twice");
        of
    }

    fn subscribe(&mut self, asks: &Asks) {
        let topics = self.engine.topics.iter().flatten();
        let begins = topics
            .map(|topic| (topic.id(), Begin::new(&asks.start, topic, &self.history)))
            .collect();
        let filter = FILTERS[asks.filter].parse().unwrap();
        let id = self.engine.subscribe(filter, &asks.start, asks.lag);
        self.readers.push(Reader::new(id, asks.clone(), begins, self.roomy, &self.engine));
    }

    fn resume(&mut self, index: usize, list: bool) {
        let (engine, old) = (&self.engine, &self.readers[index]);
        let (position, overtaken) = if list {
            (engine.reached(old.id), engine.overtaken(old.id, old.highest))
        } else {
            (engine.delivered_through(old.id), Vec::new())
        };
        let names: Vec<_> =
            overtaken.iter().map(|one| engine.topic_of(one.topic).unwrap()).collect();
        let shown = names.iter().zip(&overtaken).map(|((topic, epoch), one)| Resume {
            topic,
            epoch: *epoch,
            next: one.next,
        });
        let since = Position { run: engine.run(), position };
        let start = Start::Resume { since, topics: shown.collect() };
        let next = engine.topics.iter().flatten().map(|topic| {
            let after = |of: &u64| self.history[&(topic.id(), *of)].position > position;
            let next = (1..topic.next_sequence()).find(after).unwrap_or(topic.next_sequence());
            let named = overtaken.iter().find(|one| one.topic == topic.id());
            (topic.id(), Begin::exactly(named.map_or(next, |one| one.next)))
        });
        let (begins, asks, id) = (next.collect(), old.asks.clone(), old.id);
        let filter = FILTERS[asks.filter].parse().unwrap();
        let begun = self.engine.subscribe(filter, &start, asks.lag);
        self.unsubscribe(id);
        self.readers.push(Reader::new(begun, asks, begins, true, &self.engine));
    }

    fn unsubscribe(&mut self, id: SubscriptionId) {
        self.engine.unsubscribe(id);
        self.named.retain(|named| *named != id);
        self.readers.retain(|reader| reader.id != id);
        self.followers.retain(|follower| follower.id != id);
    }

    fn follow(&mut self, index: usize) {
        let mut apart = self.readers.iter_mut().filter(|reader| !reader.large_ones.is_empty());
        let Some(reader) = apart.next() else { return };
        let of = reader.large_ones.swap_remove(index % reader.large_ones.len());
        match self.engine.follow(of.0, of.1) {
            Ok(id) => self.followers.push(Follower { id, of, bytes: None, over: false }),
            Err(_) => assert!(!self.roomy || self.history[&of].state == State::Aborted),
        }
    }

    fn read(&mut self, id: SubscriptionId, budget: usize) {
        let is_named = self.named.contains(&id);
        let at_rest = !self.engine.has_deferred();
        let read = if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.read(&mut self.engine, &self.history, budget, self.now)
        } else if let Some(follower) = self.followers.iter_mut().find(|one| one.id == id) {
            follower.read(&mut self.engine, &self.history, budget)
        } else {
            return;
        };
        let Some((again, any)) = read else {
            return self.unsubscribe(id);
        };
        assert!(again || !any, "there was something, and that is to be all");
        assert!(is_named || !at_rest || !any, "there was something, and it was not named");
        self.named.retain(|named| *named != id);
        if again {
            // An honest one that was not named has nothing to come back for.
            self.named.push(id);
        }
    }

    fn step(&mut self, step: &Step) {
        let (sending, readers, named) = (self.sending.len(), self.readers.len(), self.named.len());
        match *step {
            Step::Publish(topic) => self.publish(topic, None),
            Step::PublishLarge(topic, payload) => self.publish(topic, Some(payload)),
            Step::Begin(topic, payload, number) => self.begin(topic, payload, number),
            Step::Append(n, size) if sending > 0 => self.append(n % sending, size),
            Step::End(n) if sending > 0 => self.end(n % sending),
            Step::Abort(n) if sending > 0 => self.abort(n % sending),
            Step::Subscribe(ref asks) => self.subscribe(asks),
            Step::Unsubscribe(n) if readers > 0 => self.unsubscribe(self.readers[n % readers].id),
            Step::Resume(n, list) if readers > 0 && self.roomy => self.resume(n % readers, list),
            Step::Follow(n) => self.follow(n),
            Step::Wait(time) => self.now += time,
            Step::Get(topic, asked) => self.get(topic, asked),
            Step::Tend => _ = self.engine.run_deferred(),
            Step::Read(n, budget) if named > 0 => self.read(self.named[n % named], budget),
            Step::Look(n) if readers > 0 => self.read(self.readers[n % readers].id, 1 << 20),
            Step::Rest(n) if named > 0 && self.engine.park_if_idle(self.named[n % named]) => {
                self.named.swap_remove(n % named);
            }
            _ => {}
        }
        self.check();
    }

    fn check(&mut self) {
        self.engine.take_wakes(&mut self.named);
        let mut all = HashSet::new();
        assert!(self.named.iter().all(|id| all.insert(*id)), "named twice: {:?}", self.named);
        if self.engine.has_deferred() {
            return;
        }
        for reader in self.readers.iter().filter(|reader| !all.contains(&reader.id)) {
            let something = reader.has_something(&self.engine, &self.history);
            assert_eq!(something, None, "to read for {:?}, and it was not named", reader.id);
        }
        for follower in self.followers.iter().filter(|follower| !all.contains(&follower.id)) {
            assert!(!follower.has_something(&self.engine), "more to follow, and it was not named");
        }
        self.engine.audit();
    }

    // Completes all uploads, and reads all woken subscriptions.
    fn settle(&mut self) {
        while !self.sending.is_empty() {
            if self.sending.len().is_multiple_of(3) {
                self.abort(0);
            } else {
                self.end(0);
            }
            self.check();
        }
        let mut reads = 0;
        while self.engine.has_deferred() || !self.named.is_empty() {
            self.step(&Step::Tend);
            self.step(&Step::Read(reads, 1 << 20));
            reads += 1;
            assert!(reads < 100_000, "it never ends: {:?}", self.named);
        }
        assert!(self.followers.is_empty(), "one that follows has not come to the end");
        for reader in &self.readers {
            assert!(reader.part.is_none(), "half of a message");
            assert_eq!(reader.has_something(&self.engine, &self.history), None);
            for topic in self.engine.topics.iter().flatten() {
                if reader.is_its(topic) {
                    let next = reader.next(topic, &self.engine, &self.history);
                    assert_eq!(next, topic.next_sequence(), "{:?}", reader.asks);
                }
            }
        }
    }
}

// Fewer than usual, since a case is hundreds of steps; PROPTEST_CASES asks for more.
fn cases() -> u32 {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => ProptestConfig::default().cases,
        Err(_) => 96,
    }
}

fn run(mut world: World, steps: &[Step]) {
    steps.iter().for_each(|step| world.step(step));
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whoever_has_something_to_read_of_what_arrives_is_named(
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        run(World::new(None, Portions { wakes: 3, ..PORTIONS }), &steps);
    }

    /// Windows of two topics, sweeps of a few names.
    #[test]
    fn so_they_are_in_the_smallest_of_portions(
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        run(World::new(None, SMALLEST), &steps);
    }

    /// A message that would block others becomes a gap.
    #[test]
    fn so_they_are_where_few_may_wait_for_what_arrives(
        steps in proptest::collection::vec(step(), 1..300),
        smallest in any::<bool>(),
    ) {
        let Portions { aside, aside_free, .. } = IMPATIENT;
        let smallest = smallest.then_some(Portions { aside, aside_free, ..SMALLEST });
        run(World::new(None, smallest.unwrap_or(IMPATIENT)), &steps);
    }

    /// A message that does not fit becomes a gap, and one that still arrives may be evicted.
    #[test]
    fn so_they_are_when_there_is_little_room(
        steps in proptest::collection::vec(step(), 1..300),
        smallest in any::<bool>(),
        topics in 2..=TOPICS.len(),
    ) {
        let few = Portions { wakes: 3, evictions: 3, ..PORTIONS };
        run(World::new(Some(topics), if smallest { SMALLEST } else { few }), &steps);
    }
}
