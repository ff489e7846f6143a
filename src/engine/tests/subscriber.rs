//! The messages that one subscription must receive, by the rules alone.

use crate::engine::{Engine, Item, LargePayloads, ReadOptions, SubscriptionId, encode_item};
use crate::wire::{DaemonFrame, Digest, Filter, GapCause, Lag, Position};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A message as the model keeps it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) name: &'static str,
    pub(super) id: u64,
    pub(super) sequence: u64,
    pub(super) position: u64,
    pub(super) now: u64,
    pub(super) origin: Option<(u8, u64)>,
    pub(super) payload: Bytes,
    pub(super) digest: Digest,
    pub(super) count: u64,
    pub(super) since: u64,
}

/// Everything that was accepted, by topic id and sequence.
pub(super) type History = BTreeMap<(u64, u64), Said>;

/// Sequence of the last message ever accepted in a topic; 0 is none.
pub(super) fn head(history: &History, id: u64) -> u64 {
    let mut all = history.range((id, 0)..=(id, u64::MAX));
    all.next_back().map_or(0, |((_, sequence), _)| *sequence)
}

/// The place of a subscription in one topic.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) epoch: u64,
    // The earliest beginning; and the sequence that it needs next, or at the latest.
    pub(super) earliest: u64,
    pub(super) next: u64,
    pub(super) announced: bool,
    // Its beginning, as announced.
    pub(super) begin: u64,
    // The sequences above that which it had when it began.
    pub(super) had: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: SubscriptionId,
    pub(super) filter: Filter,
    pub(super) lag: Lag,
    pub(super) since: Position,
    pub(super) places: BTreeMap<u64, Place>,
    pub(super) position: u64,
    // Large ones are read apart, and repairs are asked for.
    pub(super) apart: bool,
    // It begins with what there is once it looks.
    pub(super) looks_late: bool,
    // It resumes after a position, and searches later. The less of that the log still has, the
    // earlier it begins, with a longer gap.
    pub(super) looks_back: bool,
}

fn log(engine: &Engine, id: u64) -> Option<&crate::engine::topic::log::Log> {
    let mut topics = engine.topics.iter().flatten();
    topics.find(|topic| topic.id() == id).map(|topic| topic.log())
}

impl Subscriber {
    /// Whether there is something to read.
    pub(super) fn is_behind(&self, engine: &Engine) -> bool {
        let behind = |(id, place): (&u64, &Place)| {
            log(engine, *id).is_some_and(|log| place.next < log.next())
        };
        self.places.iter().any(behind)
    }

    /// Whether a topic was forgotten before all of it was read.
    pub(super) fn is_lost(&self, engine: &Engine, history: &History) -> bool {
        self.places
            .iter()
            .any(|(id, place)| log(engine, *id).is_none() && place.next <= head(history, *id))
    }

    /// Whether something it needs has left the log.
    pub(super) fn has_lagged(&self, engine: &Engine) -> bool {
        self.places.iter().any(|(id, place)| {
            log(engine, *id).is_some_and(|log| place.earliest.min(place.next) < log.first())
        })
    }

    /// Reads, and checks each item. Says whether there was anything; none when it was ended.
    pub(super) fn read(
        &mut self,
        engine: &mut Engine,
        history: &History,
        wanted: ReadOptions,
    ) -> Option<bool> {
        let bounds: BTreeMap<_, _> = engine
            .topics
            .iter()
            .flatten()
            .map(|topic| (topic.id(), (topic.first_sequence(), topic.next_sequence())))
            .collect();
        let lost = self.is_lost(engine, history);
        let lagged = self.has_lagged(engine);
        let (mut items, mut bytes, mut last) = (0, 0, 0);
        let ReadOptions { budget, accepted_since, .. } = wanted;
        let large =
            if self.apart { LargePayloads::AnnounceOnly } else { LargePayloads::WhenComplete };
        let wanted = ReadOptions { large, ..wanted };
        let result = engine.read(self.id, wanted, &mut |item| {
            items += 1;
            bytes += last;
            last = self.see(&item, history, &bounds, accepted_since);
        });
        assert!(bytes <= budget, "{bytes} bytes before the last item, budget {budget}");
        // The messages before that are read first.
        let goes_on =
            items > 0 || self.looks_late || (engine.portions.window < 8 && result == Ok(true));
        assert!(result.is_err() || !lost || goes_on, "a topic was forgotten, silently");
        // With windows of two topics it may fall behind in too many at once, and so may one that
        // looks only now what there was when it began.
        let late = engine.portions.window < 8;
        let lagged = lagged || late && (self.looks_late || self.looks_back);
        let ends = (lagged || late) && (self.lag == Lag::Disconnect || late && lagged);
        assert!(result.is_ok() || lost || ends, "{result:?}");
        match result {
            Ok(any) => {
                // Or there is something to find.
                assert!(any == (items > 0) || (any && engine.portions.window < 8));
                let behind = self.is_behind(engine) && !(lost && self.looks_late);
                assert!(any || !behind, "there was more to read");
                Some(any)
            }
            Err(_) => None,
        }
    }

    // Gives the bytes that the item counts for.
    fn see(
        &mut self,
        item: &Item<'_>,
        history: &History,
        bounds: &BTreeMap<u64, (u64, u64)>,
        accepted_since: u64,
    ) -> usize {
        match item {
            Item::Topic { id, epoch, next, name } => {
                let place = self.places.get_mut(id).expect("a topic it did not ask for");
                assert_eq!((place.name, place.epoch), (&***name, *epoch));
                // To be told again of what is known changes nothing.
                if place.announced {
                    assert!(!self.apart && place.next == *next, "announced twice");
                    return 0;
                }
                // Its first message may have left the log before its search.
                let late = self.looks_late && *next <= bounds[id].0;
                let earlier = self.looks_back && *next <= place.next;
                let fits = (place.earliest..=place.next).contains(next);
                assert!(fits || late || earlier, "{next} {place:?}");
                (place.announced, place.earliest, place.next) = (true, *next, *next);
                place.begin = *next;
                0
            }
            Item::Gap { id, epoch, name, first, last, cause: GapCause::Had, .. } => {
                let place = self.places.get_mut(id).expect("a topic it did not ask for");
                assert!(place.announced);
                assert_eq!((place.name, place.epoch), (&***name, *epoch));
                assert!(place.next == *first && first <= last);
                for sequence in *first..=*last {
                    assert!(place.had.contains(&sequence), "it has not shown {sequence}");
                }
                (place.earliest, place.next) = (last + 1, last + 1);
                0
            }
            Item::Gap { id, epoch, name, first, last, cause: GapCause::Late, .. } => {
                let place = self.places.get_mut(id).expect("a topic it did not ask for");
                assert!(place.announced);
                assert_eq!((place.name, place.epoch), (&***name, *epoch));
                assert!(place.next == *first && *first >= bounds[id].0 && first <= last);
                for sequence in *first..=*last {
                    assert!(history[&(*id, sequence)].now < accepted_since, "given up too early");
                    assert!(!place.had.contains(&sequence), "it had that");
                }
                (place.earliest, place.next) = (last + 1, last + 1);
                self.position = history[&(*id, *last)].position;
                0
            }
            Item::Gap { id, epoch, name, first, last, cause, .. } => {
                let place = self.places.get_mut(id).expect("a topic it did not ask for");
                let (oldest, next) = bounds[id];
                assert!(place.announced);
                assert_eq!((place.name, place.epoch), (&***name, *epoch));
                assert_eq!(place.next, *first);
                // Or it is what is left of one that was cut around what it had.
                let cut = self.lag == Lag::Newest && place.had.contains(&(*first - 1));
                assert!(*first < oldest || cut, "a gap, and nothing is missing");
                // Only as far as it has looked.
                let (most, why) = match self.lag {
                    Lag::Oldest => (oldest, GapCause::Evicted),
                    Lag::Newest => (oldest.max(next - 1), GapCause::Skipped),
                    Lag::Disconnect => panic!("a gap instead of the end"),
                };
                assert_eq!(*cause, why);
                assert_eq!(place.had.range(first..=last).next(), None, "it had that");
                assert!(first <= last && *last < most);
                let to = last + 1;
                (place.earliest, place.next) = (to, to);
                0
            }
            Item::Message(message) | Item::Large(message) => {
                let place = self.places.get_mut(&message.topic_id());
                let place = place.expect("a topic it did not ask for");
                assert!(place.announced);
                assert_eq!(message.sequence(), place.next);
                assert!(!place.had.contains(&place.next), "it had that");
                place.next += 1;
                place.earliest = place.next;
                let said = &history[&(message.topic_id(), message.sequence())];
                assert_eq!(message.digest(), said.digest);
                assert!(said.position > self.position, "out of order");
                assert!(said.now >= accepted_since, "late");
                self.position = said.position;
                if let Item::Large(message) = item {
                    assert!(self.apart && message.payload() == said.payload);
                    return 32;
                }
                let mut frame = Vec::new();
                encode_item(item, &mut frame);
                let mut expected = Vec::new();
                DaemonFrame::Message {
                    topic: said.id,
                    sequence: said.sequence,
                    count: said.count,
                    stamp: said.now,
                    payload: &said.payload,
                }
                .encode(&mut expected);
                assert!(frame == expected, "other bytes than were published");
                frame.len()
            }
            other => panic!("{other:?}"),
        }
    }
}
