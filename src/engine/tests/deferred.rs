//! Waking in portions, between which others publish, read, come and go: nobody is forgotten.

mod found;
mod uploads;

use super::bounds::fairness::arrive;
use super::{engine, publish, small};
use crate::engine::subscribe::portions::{PORTIONS, Portions};
use crate::engine::{Engine, Item, LargePayloads, ReadOptions, SubscriptionId};
use crate::wire::{Digest, Filter, Lag, Start};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::HashSet;

const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "d"];
const FILTERS: [&str; 6] = ["**", "a/**", "a/*", "a/b", "*", "d"];

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Subscribe(usize),
    End(usize),
    // A portion of what is left to be done.
    Tend,
    // One that was named reads once.
    Read(usize),
    // Somebody reads without having been named.
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let any = 0..1000_usize;
    prop_oneof![
        3 => (0..TOPICS.len()).prop_map(Step::Publish),
        2 => (0..FILTERS.len()).prop_map(Step::Subscribe),
        1 => any.clone().prop_map(Step::End),
        3 => Just(Step::Tend),
        6 => any.clone().prop_map(Step::Read),
        1 => any.prop_map(Step::Look),
    ]
}

struct Reader {
    id: SubscriptionId,
    filter: Filter,
    // Positions that it is to have, and has had.
    due: Vec<u64>,
    had: Vec<u64>,
}

struct World {
    engine: Engine,
    readers: Vec<Reader>,
    named: Vec<SubscriptionId>,
}

impl World {
    fn publish(&mut self, topic: &str) {
        publish(&mut self.engine, 1, topic, &Bytes::from_static(b"x"), None).unwrap();
        let position = self.engine.position();
        for reader in self.readers.iter_mut().filter(|reader| reader.filter.matches(topic)) {
            reader.due.push(position);
        }
    }

    fn read(&mut self, id: SubscriptionId) {
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else {
            return;
        };
        let had = &mut reader.had;
        let again = self.engine.read(id, 1 << 20, &mut |item| {
            if let Item::Message(message) = item {
                had.push(message.position());
            }
        });
        if again.unwrap() {
            self.named.push(id);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(topic) => self.publish(TOPICS[topic]),
            Step::Subscribe(filter) => {
                let filter: Filter = FILTERS[filter].parse().unwrap();
                let id = self.engine.subscribe(filter.clone(), &Start::New, Lag::Oldest);
                self.readers.push(Reader { id, filter, due: Vec::new(), had: Vec::new() });
            }
            Step::End(n) if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(n % self.readers.len());
                self.engine.unsubscribe(reader.id);
            }
            Step::Tend => _ = self.engine.run_deferred(),
            Step::Read(n) if !self.named.is_empty() => {
                let id = self.named.swap_remove(n % self.named.len());
                self.read(id);
            }
            Step::Look(n) if !self.readers.is_empty() => {
                let id = self.readers[n % self.readers.len()].id;
                if !self.named.contains(&id) {
                    self.read(id);
                }
            }
            Step::End(_) | Step::Read(_) | Step::Look(_) => {}
        }
        let before = self.named.len();
        self.engine.take_wakes(&mut self.named);
        let mut all = HashSet::new();
        assert!(
            self.named.iter().all(|id| all.insert(*id)),
            "named twice: {:?}",
            &self.named[before..]
        );
    }
}

proptest! {
    #[test]
    fn whoever_has_something_to_read_is_named(steps in proptest::collection::vec(step(), 1..300)) {
        let mut engine = engine(small());
        engine.portions = Portions { wakes: 3, ..PORTIONS };
        let mut world = World { engine, readers: Vec::new(), named: Vec::new() };
        steps.iter().for_each(|step| world.step(step));
        while world.engine.has_deferred() || !world.named.is_empty() {
            world.step(&Step::Tend);
            world.step(&Step::Read(0));
        }
        for Reader { filter, due, had, .. } in &world.readers {
            prop_assert_eq!(due, had, "{}", filter.as_str());
        }
        world.engine.audit();
    }
}

// Found by a reviewer: one that was idle and waited for what arrives was read, because that came,
// before a wake of those that were left to be done. Then it had what it was woken for again.
#[test]
fn one_that_was_read_before_its_wake_has_nothing_twice() {
    let engine = &mut engine(small());
    engine.portions = Portions { wakes: 3, ..PORTIONS };
    let begin =
        |engine: &mut Engine| engine.subscribe("a".parse().unwrap(), &Start::New, Lag::Oldest);
    let read = |engine: &mut Engine, id, large| {
        let mut seen = Vec::new();
        let wanted = ReadOptions { large, ..ReadOptions::from(1 << 20) };
        engine.take_wakes(&mut Vec::new());
        let mut take = |item: Item<'_>| {
            if let Item::Message(message) = item {
                seen.push(message.sequence());
            }
        };
        while engine.read(id, wanted, &mut take).unwrap() {}
        seen
    };
    let waits = begin(engine);
    let others: Vec<_> = (0..10).map(|_| begin(engine)).collect();
    let payload = Bytes::from(vec![1; 100_000]);
    let upload = arrive(engine, "a", 100_000, &payload.slice(..1000));
    while engine.run_deferred() {}
    assert!(read(engine, waits, LargePayloads::WhenComplete).is_empty());
    others.iter().for_each(|id| _ = read(engine, *id, LargePayloads::AnnounceOnly));
    publish(engine, 1, "a", &Bytes::from_static(b"x"), None).unwrap();
    assert!(engine.has_deferred(), "it is to be woken later");
    engine.append(upload, payload.slice(1000..)).unwrap();
    engine.end(1, upload, Digest::of(&payload)).unwrap();
    assert_eq!(read(engine, waits, LargePayloads::WhenComplete), [1, 2]);
    while engine.run_deferred() {}
    assert!(read(engine, waits, LargePayloads::WhenComplete).is_empty(), "again");
    engine.audit();
}
