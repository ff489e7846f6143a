//! Engines that are fed one log, each with a cache, clients and portions of its own, agree on
//! sequences, epochs, counts and receipts.
//!
//! Deterministic: a failure prints its seed, and `WEIR_SEED` runs that one alone. `WEIR_SEEDS` is how
//! many are run.

use super::payload;
use super::seeds::{Random, Seed};
use crate::engine::replica::{
    Applied, Decision, LogChange, LogEntry, LogLimits, LogUpload, Sequencer,
};
use crate::engine::topic::Topic;
use crate::engine::{Engine, Item, Limits, Payload, Publication, PublicationId, SubscriptionId};
use crate::wire::{Code, Digest, Filter, Lag, ProducerId, Start, Which};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

const TOPICS: usize = 9;

/// Few of everything, so that each table forgets.
fn limits(random: &mut Random) -> LogLimits {
    LogLimits {
        topics: [3, 6, 1000][random.below(3)],
        producers: [5, 20, 1000][random.below(3)],
        keys: [3, 1000][random.below(2)],
        uploads: [1, 3, 100][random.below(3)],
        window: 64,
    }
}

struct Replica {
    random: Random,
    sequencer: Sequencer,
    engine: Engine,
    // Each with the next sequence of each topic, by the topic's id.
    subscriptions: Vec<(SubscriptionId, HashMap<u64, u64>)>,
    // Entries that it has not been given yet.
    behind: Vec<LogEntry>,
    outcomes: Vec<Outcome>,
}

/// The part of an outcome that is the same at all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Accepted { id: u64, epoch: u64, sequence: u64, duplicate: bool, digest: Option<Digest> },
    Refused(Code),
    Begun { id: u64, sequence: u64 },
    Nothing,
}

/// The counts of receipts, by entry: the count, and since when.
type Counts = HashMap<u64, (u64, u64)>;

impl Replica {
    fn new(seed: u64, shared: LogLimits, cache: usize, topics: usize) -> Self {
        let mut limits = Limits::default().with_cache(cache);
        (limits.topics, limits.producers, limits.window) = (topics, 4, 64);
        let mut engine = Engine::new(limits, 1_000_000, [topics as u8; 32]);
        engine.follow_log(0, seed as u32);
        Self {
            random: Random(seed),
            sequencer: Sequencer::new(shared),
            engine,
            subscriptions: Vec::new(),
            behind: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    // Applies some of the entries that there are.
    fn go_on(&mut self, all: bool, counts: &mut Counts) {
        let portion =
            if all { self.behind.len() } else { self.random.below(self.behind.len() + 1) };
        for entry in self.behind.drain(..portion).collect::<Vec<_>>() {
            let ordered = self.sequencer.order(&entry);
            let applied = self.engine.apply(&entry, &ordered);
            self.engine.audit();
            let id = match &ordered.decision {
                Decision::Accept(at) | Decision::Begin(at) | Decision::End { at, .. } => at.topic,
                Decision::Duplicate { topic, .. } => *topic,
                _ => 0,
            };
            let topic = self.engine.by_id.get(&id).and_then(|slot| self.engine.topic(*slot));
            self.outcomes.push(match applied {
                Applied::Accepted(receipt) => {
                    let epoch = topic.map_or(0, Topic::epoch);
                    if !receipt.duplicate {
                        let _ = counts.insert(entry.number, (receipt.count, receipt.since));
                        assert_ne!(epoch, 0, "a topic that has just been published to is there");
                    }
                    // A receipt that is given again is as far as the cache goes.
                    let (duplicate, is_key) = (receipt.duplicate, is_keyed(&entry));
                    let known = !duplicate || is_key;
                    let (epoch, sequence) = if known { (epoch, receipt.sequence) } else { (0, 0) };
                    let epoch = if duplicate { 0 } else { epoch };
                    let digest = known.then_some(receipt.digest);
                    Outcome::Accepted { id, epoch, sequence, duplicate, digest }
                }
                Applied::Refused(why) => Outcome::Refused(why.code),
                Applied::Begun(upload) => Outcome::Begun { id, sequence: upload.sequence },
                Applied::Nothing => Outcome::Nothing,
            });
            if self.random.below(40) == 0 {
                self.restart_sequencer();
            }
            self.use_it();
        }
    }

    fn restart_sequencer(&mut self) {
        let saved = self.sequencer.save();
        self.sequencer = Sequencer::restore(&saved);
        assert_eq!(self.sequencer.save(), saved);
    }

    // Reads, look-ups and subscriptions, which are in no log.
    fn use_it(&mut self) {
        let n = self.random.below(TOPICS);
        match self.random.below(12) {
            0 => {
                let filters = ["t/*", "t/1", "$weir/**", "**"];
                let filter = Filter::new(filters[self.random.below(4)]).unwrap();
                let start = [Start::New, Start::All][self.random.below(2)].clone();
                let id = self.engine.subscribe(filter, &start, Lag::Oldest);
                self.subscriptions.push((id, HashMap::new()));
            }
            1 if !self.subscriptions.is_empty() => {
                let at = self.random.below(self.subscriptions.len());
                self.engine.unsubscribe(self.subscriptions.swap_remove(at).0);
            }
            2..5 if !self.subscriptions.is_empty() => {
                let at = self.random.below(self.subscriptions.len());
                let (id, places) = &mut self.subscriptions[at];
                if self.engine.read(*id, 20_000, &mut |item| see(places, &item)).is_err() {
                    self.subscriptions.swap_remove(at);
                }
            }
            5 => {
                let digest = Digest::of(&payload(self.random.below(30) as u32));
                let _ = self.engine.get(&topic(n), Which::Digest(digest));
            }
            6 => {
                let _ = self.engine.run_deferred();
            }
            // Its own topics are in no log.
            7 if self.engine.has_own_position() => {
                let (payload, digest) = (Payload::from(Bytes::new()), Digest::of(&[]));
                let (topic, stamp, origin) = ("$weir/stats", 0, None);
                let own = Publication { topic, payload: &payload, digest, stamp, origin };
                self.engine.publish_own(self.engine.now, &own).unwrap();
            }
            _ => {}
        }
        let mut ids = Vec::new();
        self.engine.take_wakes(&mut ids);
        self.engine.take_ended(&mut ids);
    }
}

// Each sequence of a topic comes once, or is named in a gap, although the cache may have forgotten
// the topic meanwhile.
fn see(places: &mut HashMap<u64, u64>, item: &Item<'_>) {
    match *item {
        Item::Topic { id, next, .. } => {
            places.entry(id).or_insert(next);
        }
        Item::Message(message) => {
            let next = places.get_mut(&message.topic_id()).expect("the topic was announced");
            assert_eq!(*next, message.sequence(), "a message of topic {}", message.topic_id());
            *next += 1;
        }
        Item::Gap { id, first, last, .. } => {
            let next = places.get_mut(&id).expect("the topic was announced");
            assert_eq!(*next, first, "a gap of topic {id} up to {last}");
            *next = last + 1;
        }
        _ => panic!("{item:?}"),
    }
}

fn is_keyed(entry: &LogEntry) -> bool {
    match &entry.change {
        LogChange::Publish { origin, .. }
        | LogChange::Begin { origin, .. }
        | LogChange::End { origin, .. } => origin.is_some_and(|origin| origin.is_key()),
        _ => false,
    }
}

fn topic(n: usize) -> String {
    format!("t/{n}")
}

struct Upload {
    name: LogUpload,
    payload: Bytes,
    sent: usize,
    topic: Arc<str>,
    origin: Option<PublicationId>,
}

/// Makes the log: everything that several daemons may propose, copies and nonsense included.
struct Log {
    random: Random,
    number: u64,
    time: u64,
    numbers: HashMap<(u8, usize), u64>,
    uploads: Vec<Upload>,
    before: Vec<LogChange>,
}

impl Log {
    fn origin(&mut self, n: usize) -> Option<PublicationId> {
        let producer = self.random.below(8) as u8;
        let id =
            |producer, number| Some(PublicationId { producer: ProducerId([producer; 16]), number });
        match self.random.below(8) {
            0 => None,
            1 => id(200 + producer, 0),
            _ => {
                let number = self.numbers.entry((producer, n)).or_default();
                *number += [1, 1, 1, 2, 70][self.random.below(5)];
                let back = [0, 0, 1, 5, 100][self.random.below(5)];
                id(producer, number.saturating_sub(back).max(1))
            }
        }
    }

    fn next(&mut self) -> LogEntry {
        self.number += 1 + self.random.below(3) as u64;
        self.time += self.random.below(1000) as u64;
        let n = self.random.below(TOPICS);
        let topic: Arc<str> = match self.random.below(60) {
            0 => "$weir/mine".into(),
            1 => "a//b".into(),
            _ => topic(n).into(),
        };
        let change = match self.random.below(100) {
            0..60 => {
                let bytes = payload(self.random.below(30) as u32);
                let (origin, stamp) = (self.origin(n), self.random.below(9) as u64);
                let digest = Digest::of(&bytes);
                LogChange::Publish { topic, origin, stamp, digest, payload: Payload::from(bytes) }
            }
            60..66 => {
                let name = LogUpload([self.random.below(256) as u8; 16]);
                let payload = Bytes::from(vec![self.random.below(5) as u8; 70_000]);
                let (origin, size) = (self.origin(n), payload.len() as u64);
                self.uploads.push(Upload { name, payload, sent: 0, topic: topic.clone(), origin });
                LogChange::Begin { upload: name, topic, origin, stamp: 1, size }
            }
            66..88 if !self.uploads.is_empty() => {
                let at = self.random.below(self.uploads.len());
                let Upload { name, payload, sent, topic, .. } = &mut self.uploads[at];
                let to = payload.len().min(*sent + 30_000);
                let (offset, bytes) = (*sent as u64, payload.slice(*sent..to));
                *sent = to;
                LogChange::Chunk { upload: *name, topic: topic.clone(), offset, bytes }
            }
            88..94 if !self.uploads.is_empty() => {
                let at = self.random.below(self.uploads.len());
                let Upload { name, payload, topic, origin, .. } = self.uploads.swap_remove(at);
                if self.random.below(4) == 0 {
                    LogChange::Abort { upload: name, topic }
                } else {
                    let digest = Digest::of(&payload);
                    LogChange::End { upload: name, topic, origin, digest }
                }
            }
            // An entry that was proposed twice.
            _ if !self.before.is_empty() => {
                let back = self.random.below(self.before.len().min(30));
                self.before[self.before.len() - 1 - back].clone()
            }
            _ => LogChange::Nothing,
        };
        self.before.push(change.clone());
        LogEntry { number: self.number, time: self.time, change }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let shared = limits(&mut random);
    let mut replicas = [
        Replica::new(seed ^ 1, shared, 1 << 20, 4),
        Replica::new(seed ^ 2, shared, 4 << 20, 65_536),
        Replica::new(seed ^ 3, shared, 1 << 30, 65_536),
    ];
    let mut counts = [const { None::<Counts> }; 3].map(Option::unwrap_or_default);
    let (number, time, numbers) = (0, 1_000, HashMap::new());
    let random_log = Random(seed ^ 4);
    let mut log =
        Log { random: random_log, number, time, numbers, uploads: Vec::new(), before: Vec::new() };
    let mut next = HashMap::new();
    for _ in 0..400 {
        let entry = log.next();
        for (replica, counts) in replicas.iter_mut().zip(&mut counts) {
            replica.behind.push(entry.clone());
            // Entries that were delivered twice.
            if random.below(30) == 0 {
                replica.behind.push(entry.clone());
                replica.go_on(true, counts);
                assert_eq!(replica.outcomes.pop(), Some(Outcome::Nothing));
            }
            if random.below(4) == 0 {
                replica.go_on(false, counts);
            }
        }
    }
    for (replica, counts) in replicas.iter_mut().zip(&mut counts) {
        replica.go_on(true, counts);
    }
    let [one, two, three] = &replicas;
    for (at, (a, (b, c))) in
        one.outcomes.iter().zip(two.outcomes.iter().zip(&three.outcomes)).enumerate()
    {
        assert!(a == b && b == c, "entry {at}: {a:?}, {b:?}, {c:?}");
        // Sequences are given one after the other. An upload that ends has an earlier one.
        if let Outcome::Accepted { id, sequence, duplicate: false, .. }
        | Outcome::Begun { id, sequence } = *c
        {
            let last = next.entry(id).or_insert(0);
            assert!(sequence <= *last + 1, "entry {at}: sequence {sequence} after {last}");
            *last = sequence.max(*last);
        }
    }
    assert_eq!(one.outcomes.len(), three.outcomes.len());
    assert_eq!(one.sequencer.save(), three.sequencer.save());
    assert_eq!(one.engine.position() >> 10, three.engine.position() >> 10);
    // The largest cache has forgotten nothing. The others agree with it, or say since when they count.
    let [one, two, three] = &counts;
    for (number, exact) in three {
        assert_eq!(exact.1, 0);
        for (count, since) in [one[number], two[number]] {
            assert!(
                if since == 0 { count == exact.0 } else { count <= exact.0 },
                "entry {number}: {count} since {since}, and {} in all",
                exact.0
            );
        }
    }
}

#[test]
fn replicas_of_one_log_agree() {
    let many = std::env::var("WEIR_SEEDS").ok().and_then(|many| many.parse().ok()).unwrap_or(60);
    let seeds = match std::env::var("WEIR_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..many).collect(),
    };
    for seed in seeds {
        let _seed = Seed(seed, "replicas_of_one_log");
        run(seed);
    }
}
