//! The invariants after a start.

use super::facts::{Facts, Promise, Said};
use super::world::{TOPICS, World, name};
use crate::engine::{Engine, Item};
use crate::journal::recovery::End;
use crate::wire::{Digest, Filter, Lag, Start};
use std::collections::HashMap;

/// A start.
#[derive(Debug)]
pub(super) struct Look {
    /// Publications with this promise have to be there.
    pub(super) needed: Promise,
    /// Whether the machine has stopped.
    pub(super) power: bool,
    pub(super) end: End,
    pub(super) lines: Vec<String>,
}

struct Found {
    epoch: u64,
    count: u64,
    digest: Digest,
}

fn topic_of(name: &str) -> usize {
    name[2..].parse().unwrap()
}

// All messages, as a subscriber gets them: by topic, its id and sequence.
fn read_all(engine: &mut Engine) -> HashMap<(usize, u64, u64), Found> {
    let filter = Filter::new("**").unwrap();
    let id = engine.subscribe(filter, &Start::All, Lag::Oldest);
    let mut found = HashMap::new();
    while engine
        .read(id, 1 << 20, &mut |item| {
            if let Item::Message(message) = item {
                let payload = message.payload();
                assert_eq!(Digest::of(&payload), message.digest(), "another payload");
                let key = (topic_of(message.topic()), message.topic_id(), message.sequence());
                let (epoch, count) = (message.epoch(), message.count());
                found.insert(key, Found { epoch, count, digest: message.digest() });
            }
        })
        .unwrap()
    {}
    engine.unsubscribe(id);
    found
}

impl World {
    pub(super) fn check(&mut self, look: &Look) {
        let Some(life) = &mut self.life else { return };
        let engine = &mut life.engine;
        let found = read_all(engine);
        for ((topic, id, sequence), message) in &found {
            let Found { epoch, count, digest } = message;
            let is_real = self.facts.ever.contains(&(*topic, *id, *sequence, *digest, *count));
            assert!(is_real, "topic {topic}: {sequence} was never published so");
            self.facts.show(*epoch, *sequence, *topic, *digest);
        }
        let evicts = self.evicts;
        let said = std::mem::take(&mut self.facts.said);
        let (kept, lost): (Vec<Said>, Vec<Said>) = said.into_iter().partition(|said| {
            let here = found.get(&(said.topic, said.id, said.sequence));
            let same =
                here.is_some_and(|here| (here.digest, here.count) == (said.digest, said.count));
            let head = engine.head(&name(said.topic));
            // Another topic with this name, if it was forgotten.
            let head = head.filter(|head| head.epoch == engine.run() + said.id - 1);
            let next = head.map(|head| head.next);
            let gone = evicts && next.is_none_or(|next| next > said.sequence);
            let is_needed = said.promise >= look.needed;
            assert!(same || gone || !is_needed, "{look:?}: lost {said:?}, next {next:?}");
            same || (gone && is_needed)
        });
        let mut facts = std::mem::take(&mut self.facts);
        if let Some(client) = self.client.take()
            && !evicts
        {
            client.check(engine, (&kept, &lost), !look.power && !self.fails && !self.goes_on);
        }
        check_producers(engine, &kept, &lost, evicts);
        check_counts(engine, &kept, &found, &facts);
        if !look.power && !self.fails {
            assert_eq!(look.lines, Vec::<String>::new());
            assert_ne!(look.end, End::Lossy);
        }
        let has_origin = |said: &&Said| said.origin.is_some();
        facts.again.extend(lost.iter().filter(has_origin).filter(|_| !evicts).cloned());
        // Reading a journal has synced it, unless the system took lost bytes for written before.
        facts.said = kept;
        if !self.memory.is_unknown() {
            facts.said.iter_mut().for_each(|said| said.promise = Promise::Power);
        }
        self.facts = facts;
    }
}

fn check_producers(engine: &Engine, kept: &[Said], lost: &[Said], evicts: bool) {
    if evicts {
        return;
    }
    let is_accepted = |said: &Said| {
        let origin = said.origin.filter(|origin| !origin.is_key())?;
        let (floor, ahead) = engine.accepted(&name(said.topic), origin.producer).unwrap_or((0, 0));
        let above = origin.number.checked_sub(floor + 1);
        Some(above.is_none_or(|above| above < 64 && ahead & (1 << above) != 0))
    };
    for said in kept {
        assert_ne!(is_accepted(said), Some(false), "it would be accepted twice: {said:?}");
    }
    for said in lost {
        let again = kept.iter().any(|kept| (kept.topic, kept.origin) == (said.topic, said.origin));
        assert!(again || is_accepted(said) != Some(true), "it would not be accepted: {said:?}");
    }
}

fn check_counts(
    engine: &Engine,
    kept: &[Said],
    found: &HashMap<(usize, u64, u64), Found>,
    facts: &Facts,
) {
    let mut most: HashMap<(usize, Digest), u64> = HashMap::new();
    for said in kept.iter().filter(|s| found.contains_key(&(s.topic, s.id, s.sequence))) {
        let most = most.entry((said.topic, said.digest)).or_default();
        *most = said.count.max(*most);
    }
    for topic in 0..TOPICS {
        for ranked in engine.top(&name(topic), 100).into_iter().flatten() {
            let times = facts.times.get(&(topic, ranked.digest)).copied().unwrap_or(0);
            let least = most.remove(&(topic, ranked.digest)).unwrap_or(0);
            let fits = least <= ranked.count && ranked.count <= times;
            assert!(fits, "{topic}: {} of {least} to {times}", ranked.count);
        }
    }
    assert!(most.is_empty(), "no counts of {most:?}");
}
