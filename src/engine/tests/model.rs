//! An engine together with a model that keeps everything, and compares after each step.

mod starts;

use super::subscriber::{History, Place, Said, Subscriber, head};
use super::{engine, payload, publish};
use crate::engine::{Engine, Limits, ReadOptions, Repaired, SubscriptionId};
use crate::wire::{Code, Digest, Filter, GapCause, Lag, Position, Resume, Start, Which};
use std::collections::{BTreeMap, BTreeSet, HashSet};

pub(super) const TOPICS: [&str; 8] = ["a", "b", "a/x", "a/y", "a/x/1", "b/x", "c", "d"];
pub(super) const FILTERS: [&str; 9] = ["a", "a/x", "d", "*", "**", "a/**", "a/*", "*/x", "b/**"];

/// The start of a subscription.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    New,
    Latest,
    All,
    Last(u64),
    Sequence(u64),
}

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) history: History,
    pub(super) subscribers: Vec<Subscriber>,
    now: u64,
    // Payloads in the cache by topic id, used last first.
    recent: BTreeMap<u64, Vec<Digest>>,
    // Keys remembered by topic id, used last first.
    keys: BTreeMap<u64, Vec<u8>>,
    named: HashSet<SubscriptionId>,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            engine: engine(limits),
            history: History::new(),
            subscribers: Vec::new(),
            now: 100,
            recent: BTreeMap::new(),
            keys: BTreeMap::new(),
            named: HashSet::new(),
        }
    }

    // Runs all deferred work.
    fn run_deferred(&mut self) {
        while self.engine.has_deferred() {
            self.engine.run_deferred();
        }
    }

    fn id(&self, name: &str) -> Option<u64> {
        let slot = self.engine.by_use.peek(name)?;
        Some(self.engine.topic(*slot)?.id())
    }

    fn bounds(&self) -> BTreeMap<u64, (u64, u64)> {
        let topics = self.engine.topics.iter().flatten();
        topics.map(|topic| (topic.id(), (topic.first_sequence(), topic.next_sequence()))).collect()
    }

    /// Publishes, the second time under the same number too; number 0 is a key.
    pub(super) fn publish(&mut self, name: &'static str, n: u32, origin: Option<(u8, u64)>) {
        self.now += 1;
        let payload = payload(n);
        let digest = Digest::of(&payload);
        let (before, known) = (self.bounds(), self.id(name));
        let key = origin.filter(|(_, number)| *number == 0).map(|(key, _)| key);
        let remembered = |id, key| self.keys.get(&id).is_some_and(|keys| keys.contains(&key));
        let earlier = |said: &&Said| origin.is_some() && said.origin == origin;
        let said = known.and_then(|id| {
            // A key that was forgotten was accepted again.
            let mut all = self.history.range((id, 0)..=(id, u64::MAX)).rev();
            let said = all.find(|(_, said)| earlier(said)).map(|(_, said)| said.clone());
            said.filter(|_| key.is_none_or(|key| remembered(id, key)))
        });
        let receipt = publish(&mut self.engine, self.now, name, &payload, origin).unwrap();
        self.run_deferred();
        let id = self.id(name).expect("published to and forgotten");
        assert_eq!(receipt.duplicate, said.is_some());
        if let Some(key) = key {
            let keys = self.keys.entry(id).or_default();
            touch(keys, key);
            keys.truncate(self.engine.limits().producers);
        }
        if let Some(said) = said {
            let original = (said.sequence, said.count, said.since, said.digest);
            let told = (receipt.sequence, receipt.count, receipt.since, receipt.digest);
            let cached = key.is_some() || said.sequence >= before[&id].0;
            assert_eq!(told, if cached { original } else { (0, 0, 0, digest) });
            return self.check();
        }
        let said = Said {
            name,
            id,
            sequence: head(&self.history, id) + 1,
            position: self.engine.position(),
            now: self.now,
            origin,
            payload,
            digest,
            count: receipt.count,
            since: receipt.since,
        };
        assert_eq!((receipt.sequence, receipt.digest), (said.sequence, digest));
        for subscriber in &mut self.subscribers {
            let matches = subscriber.filter.matches(name);
            // In small portions it may have some of this before it is found out that it is lost.
            let goes_on = self.engine.portions.window < 8;
            if matches && (goes_on || !subscriber.is_lost(&self.engine, &self.history)) {
                subscriber
                    .places
                    .entry(id)
                    .or_insert(Place {
                        name,
                        epoch: 0,
                        earliest: said.sequence,
                        next: said.sequence,
                        announced: false,
                        begin: 0,
                        had: BTreeSet::new(),
                    })
                    .epoch = self.engine.run() + id - 1;
            }
        }
        self.history.insert((id, said.sequence), said);
        self.check_count(name, digest, receipt.count, receipt.since);
        self.check_room(&before, id, known.is_none());
        touch(self.recent.entry(id).or_default(), digest);
        self.check();
    }

    // Exact since the publication at `since`, or since the topic began, now or earlier.
    fn check_count(&self, name: &str, digest: Digest, count: u64, since: u64) {
        let all = self.history.values().filter(|said| said.name == name);
        let all: Vec<_> = all.filter(|said| said.digest == digest).collect();
        let born = self.engine.topics.iter().flatten().find(|topic| **topic.name() == *name);
        let nothing_lost = self.engine.evicted_counts.covers(born.unwrap().created_at());
        if since > 0 {
            let known =
                if count == 1 { nothing_lost } else { self.engine.evicted_counts.covers(1) };
            assert!(!known, "every count is known, and yet {count} since {since}");
            let exact = all.iter().filter(|said| said.now >= since).count();
            return assert_eq!(count, exact as u64);
        }
        if self.engine.evicted_counts.covers(1) {
            return assert_eq!(count, all.len() as u64, "no count was ever lost");
        }
        let since_begin = |id: u64| all.iter().filter(|said| said.id >= id).count() as u64;
        assert!(all.iter().any(|said| since_begin(said.id) == count), "{count} of {all:?}");
    }

    // The budget holds, and nothing went before its turn.
    fn check_room(&self, before: &BTreeMap<u64, (u64, u64)>, published: u64, created: bool) {
        let limits = self.engine.limits();
        // The next publication makes room for bytes charged meanwhile.
        let bytes = self.engine.bytes() - self.engine.budget().held();
        assert!(bytes <= limits.cache, "{bytes} bytes");
        let after = self.bounds();
        let nothing_else = self.engine.shares.largest().is_none();
        let pushed_out = usize::from(created && before.len() == limits.topics);
        let gone = before.keys().filter(|id| !after.contains_key(id)).count();
        assert!(gone <= pushed_out || nothing_else, "forgotten, and there was other room");
        for (id, (first, next)) in before {
            let was_empty = first == next;
            let is_empty = after.get(id).is_some_and(|(first, next)| first == next);
            assert!(was_empty || !is_empty || nothing_else, "a newest message went early");
        }
        let (first, next) = after[&published];
        assert!(first < next, "the message published just now is gone");
    }

    /// Looks a message up.
    pub(super) fn get(&mut self, name: &'static str, which: Which) {
        let Some(id) = self.id(name) else {
            assert_eq!(self.engine.get(name, which).unwrap_err().code, Code::NOT_FOUND);
            return;
        };
        let (first, next) = self.bounds()[&id];
        let cached = self.recent.get(&id).cloned().unwrap_or_default();
        let sequence = match which {
            Which::Latest => next - 1,
            Which::Sequence(sequence) => sequence,
            Which::Digest(digest) if cached.contains(&digest) => {
                let all = self.history.values().filter(|said| said.id == id);
                all.filter(|said| said.digest == digest).map(|said| said.sequence).max().unwrap()
            }
            Which::Digest(_) => 0,
        };
        match self.engine.get(name, which) {
            Ok(found) => {
                let said = &self.history[&(id, sequence)];
                assert_eq!((found.sequence(), found.digest()), (sequence, said.digest));
                assert_eq!(found.payload(), said.payload);
                touch(self.recent.get_mut(&id).unwrap(), said.digest);
            }
            Err(refusal) if matches!(which, Which::Digest(_)) => {
                assert_eq!(sequence, 0, "{refusal}");
            }
            Err(refusal) => {
                let was = (1..first).contains(&sequence);
                assert!(was || sequence == 0 || sequence >= next, "{refusal}");
                assert_eq!(refusal.code, if was { Code::EVICTED } else { Code::NOT_FOUND });
            }
        }
        self.check();
    }

    /// Compares the most counted with a full sort.
    pub(super) fn top(&self, name: &'static str, k: usize) {
        let Some(id) = self.id(name) else { return };
        let mut newest: BTreeMap<Digest, &Said> = BTreeMap::new();
        for said in self.history.values().filter(|said| said.id == id) {
            newest.insert(said.digest, said);
        }
        let mut counts: Vec<u64> = newest.values().map(|said| said.count).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.truncate(k.min(100));
        let top = self.engine.top(name, k).unwrap();
        assert_eq!(top.iter().map(|ranked| ranked.count).collect::<Vec<_>>(), counts);
        for ranked in top {
            let said = newest.remove(&ranked.digest).expect("twice, or never published");
            assert_eq!((ranked.count, ranked.since), (said.count, said.since));
            assert_eq!((ranked.sequence, ranked.size), (said.sequence, said.payload.len() as u64));
            let cached = self.recent[&id].contains(&ranked.digest);
            let offered = cached && said.payload.len() <= 1024;
            assert_eq!(ranked.payload, offered.then(|| said.payload.clone()));
        }
    }

    /// Reads once. Messages accepted longer than `deadline` ago are skipped; 0 is none.
    pub(super) fn read(&mut self, index: usize, budget: usize, deadline: u64) {
        if self.subscribers.is_empty() {
            return;
        }
        let accepted_since = if deadline > 0 { self.now.saturating_sub(deadline) } else { 0 };
        let budget = ReadOptions { accepted_since, ..budget.into() };
        let index = index % self.subscribers.len();
        let subscriber = &mut self.subscribers[index];
        match subscriber.read(&mut self.engine, &self.history, budget) {
            // Either way of finding out that this was all.
            Some(true)
                if budget.budget.is_multiple_of(2) || !self.engine.park_if_idle(subscriber.id) => {}
            Some(_) => {
                self.named.remove(&subscriber.id);
            }
            None => {
                self.end(index);
            }
        }
        self.check();
    }

    /// Asks again for sequences of a topic, in portions.
    pub(super) fn repair(
        &mut self,
        index: usize,
        n: usize,
        (first, size): (u64, u64),
        budget: usize,
    ) {
        let bounds = self.bounds();
        if self.subscribers.is_empty() || bounds.is_empty() {
            return;
        }
        let subscriber = &self.subscribers[index % self.subscribers.len()];
        let id = *bounds.keys().nth(n % bounds.len()).unwrap();
        let (oldest, _) = bounds[&id];
        let (mut from, last) = (first, first + size);
        let (mut gone, mut again, mut had) = (Vec::new(), Vec::new(), false);
        loop {
            let mut items = 0;
            let next = self.engine.repair(subscriber.id, id, (from, last), budget, &mut |item| {
                items += 1;
                match item {
                    Repaired::NotCached { first, last, cause } => {
                        had |= cause == GapCause::Had;
                        gone.push((first, last));
                    }
                    Repaired::Message(message) | Repaired::Large(message) => {
                        let said = &self.history[&(id, message.sequence())];
                        assert_eq!(
                            (message.topic_id(), message.payload()),
                            (id, said.payload.clone())
                        );
                        again.push(said.sequence);
                    }
                }
            });
            let Some(next) = next else { break };
            assert!(items > 0 && next > from, "it does not get on");
            from = next;
        }
        if !subscriber.apart {
            // It loses nothing on its way.
            let nothing = gone.is_empty() || gone == [(first, last)];
            return assert!(nothing && again.is_empty(), "{gone:?} {again:?}");
        }
        // One that is to be ended has no cursors any more.
        let lost = subscriber.is_lost(&self.engine, &self.history);
        if lost {
            return;
        }
        let Some(place) = subscriber.places.get(&id) else {
            assert_eq!((gone, again), (vec![(first, last)], vec![]), "it is not its topic");
            return;
        };
        // Its exact place is known once the topic was announced.
        if place.announced {
            let (first, last) = (first.max(place.begin), last.min(place.next - 1));
            assert!(again.iter().all(|sequence| !place.had.contains(sequence)), "it had that");
            if had {
                // These are cut out of the rest.
                return;
            }
            let expected = (first < oldest && first <= last).then(|| (first, last.min(oldest - 1)));
            assert_eq!(gone, Vec::from_iter(expected));
            assert!(again.into_iter().eq(first.max(oldest)..=last));
        }
    }

    // After each step: wakes, the LRU, and the accounts.
    fn check(&mut self) {
        let mut wakes = Vec::new();
        self.run_deferred();
        self.engine.take_wakes(&mut wakes);
        for id in wakes {
            let subscriber = self.subscribers.iter().find(|subscriber| subscriber.id == id);
            let subscriber = subscriber.expect("a wake for nobody");
            assert!(self.named.insert(id), "named again before it had read to the end");
            let lost = subscriber.is_lost(&self.engine, &self.history);
            // Or it has to look first.
            let looks = self.engine.portions.window < 8;
            let something = lost || subscriber.is_behind(&self.engine);
            assert!(something || looks, "named for nothing");
        }
        for subscriber in &self.subscribers {
            let lost = subscriber.is_lost(&self.engine, &self.history);
            let something = lost || subscriber.is_behind(&self.engine);
            // One that begins with what there is may find nothing any more.
            let named = self.named.contains(&subscriber.id) || (lost && subscriber.looks_late);
            assert!(!something || named, "not named");
        }
        let ids: HashSet<u64> = self.bounds().into_keys().collect();
        self.recent.retain(|id, _| ids.contains(id));
        for topic in self.engine.topics.iter().flatten() {
            let recent = self.recent.entry(topic.id()).or_default();
            let cached = topic.payloads();
            let newest =
                topic.latest().and_then(|latest| topic.entry(latest)).map(|entry| entry.digest);
            // Those used longest ago are gone, but the payload of the newest message.
            let young = match cached.split_last() {
                Some((last, young)) if newest == Some(*last) => young,
                _ => &cached,
            };
            assert!(recent.starts_with(young), "{young:?} of {recent:?}");
            *recent = cached;
        }
        self.engine.audit();
    }
}

// The earliest and the latest beginning in a topic, for a subscription to the messages after a
// position.
fn unheard(history: &History, id: u64, (first, next): (u64, u64), position: u64) -> (u64, u64) {
    let mut all = history.range((id, 0)..=(id, u64::MAX));
    let needed = all.find(|(_, said)| said.position > position);
    let needed = needed.map_or(next, |((_, sequence), _)| *sequence);
    if needed >= first {
        return (needed, needed);
    }
    // Some have left the log. The first one of them is unknown, but there are at most as many of
    // them as positions.
    let gone = history[&(id, first - 1)].position;
    (first.saturating_sub(gone - position).max(1), needed)
}

fn touch<T: PartialEq>(recent: &mut Vec<T>, used: T) {
    recent.retain(|other| *other != used);
    recent.insert(0, used);
}
