//! How subscribers of the model begin, resume and end.

use super::*;
use crate::wire::Had;

// The ranges of sequences above `next` that the bits name.
fn claimed(next: u64, bits: u64) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for sequence in (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| next + 1 + bit) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

impl World {
    /// Begins a subscription.
    pub(in crate::engine::tests) fn subscribe(&mut self, filter: &str, from: From, lag: Lag) {
        let start = match from {
            From::New => Start::New,
            From::Latest => Start::Latest,
            From::All => Start::All,
            From::Last(n) => Start::Last(n),
            From::Sequence(sequence) => Start::Sequence(sequence),
        };
        self.begin(filter, &start, lag, |_, (first, next)| match from {
            From::New => (next, next),
            From::Latest => (first.max(next - 1), first.max(next - 1)),
            From::All => (first, first),
            From::Last(n) => [first.max(next.saturating_sub(n)); 2].into(),
            From::Sequence(sequence) => [sequence.clamp(1, next); 2].into(),
        });
    }

    /// Ends a subscription, and begins it again where it stopped, as of another run if `foreign`. Bit
    /// n of `had` says that the client claims to have the n-th sequence after the one that it needs.
    pub(in crate::engine::tests) fn resume(&mut self, index: usize, foreign: bool, had: u64) {
        let Some(old) = self.end(index) else { return };
        let heard: BTreeMap<_, _> =
            old.places.iter().filter(|(_, place)| place.announced).collect();
        let lie = u64::from(foreign);
        let topics = heard.values().map(|place| Resume {
            topic: place.name,
            epoch: place.epoch + lie * 1_000_000,
            next: place.next,
        });
        // A name whose topic was forgotten and began again was heard of twice: the last counts.
        let topics: Vec<_> = topics.rev().collect();
        let ranges: Vec<_> = heard.values().map(|place| claimed(place.next, had)).collect();
        let shown = topics.iter().zip(ranges.iter().rev()).enumerate();
        let shown = shown.map(|(at, (topic, had))| Had::new(at as u32, topic.next, had)).collect();
        let since = Position { run: old.since.run + lie, ..old.since };
        let history = self.history.clone();
        let names: HashSet<_> = heard.values().map(|place| place.name).collect();
        let start = match had {
            0 => Start::Resume { since, topics },
            _ => Start::ResumeWith { since, topics, had: shown },
        };
        // Claims of messages that were not accepted yet count for nothing.
        let bounds = self.bounds();
        self.begin(old.filter.as_str(), &start, old.lag, |(id, name), (first, next)| {
            match heard.get(&id) {
                Some(place) if !foreign => (place.next, place.next),
                Some(_) => (1, 1),
                None if foreign || names.contains(name) => (1, 1),
                None => unheard(&history, id, (first, next), since.position),
            }
        });
        let places = self.subscribers.last_mut().into_iter().flat_map(|one| &mut one.places);
        for (id, place) in places.filter(|_| !foreign) {
            let had = heard.get(id).map(|before| claimed(before.next, had)).unwrap_or_default();
            let known = |sequence: &u64| *sequence < bounds[id].1;
            let had = had.into_iter().flat_map(|(first, last)| first..=last);
            place.had = had.filter(known).collect();
        }
    }

    /// Ends a subscription, and begins it again after the last message that it was given, or
    /// after everything there is if it has had all.
    pub(in crate::engine::tests) fn resume_by_position(&mut self, index: usize) {
        let Some(old) = self.end(index) else { return };
        let lost = old.is_lost(&self.engine, &self.history);
        let had_all = !lost && !old.is_behind(&self.engine);
        let position = if had_all { self.engine.position() } else { old.position };
        if position == 0 {
            return;
        }
        let bounds = self.bounds();
        for (id, place) in old.places.iter().filter(|(id, _)| bounds.contains_key(id)) {
            if old.looks_late && !place.announced {
                continue;
            }
            let (_, needed) = unheard(&self.history, *id, bounds[id], position);
            assert!(place.next >= needed, "passed over {}..{needed} silently", place.next);
        }
        let since = Position { run: self.engine.run(), position };
        let start = Start::Resume { since, topics: Vec::new() };
        let history = self.history.clone();
        self.begin(old.filter.as_str(), &start, old.lag, |(id, _), bounds| {
            unheard(&history, id, bounds, position)
        });
    }

    fn begin(
        &mut self,
        filter: &str,
        start: &Start<'_>,
        lag: Lag,
        place: impl Fn((u64, &'static str), (u64, u64)) -> (u64, u64),
    ) {
        let filter = Filter::new(filter).unwrap();
        let id = self.engine.subscribe(filter.clone(), start, lag);
        let since = Position { run: self.engine.run(), position: self.engine.position() };
        let mut places = BTreeMap::new();
        for name in TOPICS.into_iter().filter(|name| filter.matches(name)) {
            let Some(id) = self.id(name) else { continue };
            let (earliest, next) = place((id, name), self.bounds()[&id]);
            let epoch = self.engine.run() + id - 1;
            let place = Place {
                name,
                epoch,
                earliest,
                next,
                announced: false,
                begin: 0,
                had: BTreeSet::new(),
            };
            places.insert(id, place);
        }
        let apart = self.now.is_multiple_of(2);
        let looks_late = self.engine.portions.window < 8
            && matches!(start, Start::All | Start::Latest | Start::Last(_));
        let looks_back = self.engine.portions.window < 8 && matches!(start, Start::Resume { .. });
        self.subscribers.push(Subscriber {
            id,
            filter,
            lag,
            since,
            places,
            position: 0,
            apart,
            looks_late,
            looks_back,
        });
        self.check();
    }

    /// Ends a subscription.
    pub(in crate::engine::tests) fn end(&mut self, index: usize) -> Option<Subscriber> {
        if self.subscribers.is_empty() {
            return None;
        }
        let old = self.subscribers.swap_remove(index % self.subscribers.len());
        self.engine.unsubscribe(old.id);
        self.named.remove(&old.id);
        let ended = self.engine.read(old.id, 1, &mut |_| panic!("it has ended"));
        assert_eq!(ended.unwrap_err().code, Code::DONE);
        self.check();
        Some(old)
    }
}
