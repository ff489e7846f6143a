//! An engine is restored from a snapshot and the records after it, at any moment, and is what it
//! was. The snapshot is taken while everything goes on.
//!
//! Deterministic: a failure prints its seed, and `WEIR_SEED` runs that one alone.

use super::seeds::{Random, Seed};
use super::{engine, payload, publish, small};
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::{
    BeginOutcome, Capture, Engine, Keep, Limits, Part, PublicationId, Record, TopicRule,
    TopicRules, UploadId, UploadRequest,
};
use crate::wire::{Digest, ProducerId, Which};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const TOPICS: usize = 9;

struct Upload {
    id: UploadId,
    payload: Bytes,
    sent: usize,
}

struct World {
    random: Random,
    engine: Engine,
    limits: Limits,
    // Whether topics have rules. Each engine that is restored has other ones.
    ruled: bool,
    now: u64,
    numbers: HashMap<(u8, usize), u64>,
    uploads: Vec<Upload>,
    // All records that no complete snapshot has, by their numbers.
    records: BTreeMap<u64, Record>,
    // The last complete snapshot, and the one that is being taken.
    snapshot: Vec<Part>,
    capture: Option<(Capture, Vec<Part>)>,
}

// Rules for some of the topics.
fn rules(ruled: bool, random: &mut Random) -> TopicRules {
    let rule = |n: usize| {
        let rule = TopicRule::new(topic(n).parse().unwrap());
        let keep = [Keep::All, Keep::None, Keep::LATEST, Keep::Newest(7.try_into().unwrap())];
        let rule = rule.with_keep(keep[random.below(4)]);
        let ttl = [20, 3600][random.below(2)];
        if random.below(2) == 0 { rule.with_ttl(Duration::from_secs(ttl)) } else { rule }
    };
    TopicRules::new((0..if ruled { TOPICS - 3 } else { 0 }).map(rule)).unwrap()
}

fn topic(n: usize) -> String {
    format!("t/{n}")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut limits = small();
        limits.topics = 4 + random.below(8);
        let ruled = random.below(2) == 0;
        let mut engine = engine(limits).with_topic_rules(rules(ruled, &mut random));
        engine.make_records();
        Self {
            ruled,
            random,
            engine,
            limits,
            now: 1,
            numbers: HashMap::new(),
            uploads: Vec::new(),
            records: BTreeMap::new(),
            snapshot: Vec::new(),
            capture: None,
        }
    }

    fn step(&mut self) {
        self.now += 1;
        if self.ruled {
            self.now += self.random.below(500_000) as u64;
            if self.random.below(4) == 0 {
                self.engine.expire(self.now);
            }
        }
        let now = self.now;
        let n = self.random.below(TOPICS);
        let name = topic(n);
        match self.random.below(100) {
            0..50 => {
                let bytes = payload(self.random.below(30) as u32);
                let producer = self.random.below(4) as u8;
                let origin = match self.random.below(8) {
                    0 => None,
                    1 => Some((200 + producer, 0)),
                    _ => {
                        let number = self.numbers.entry((producer, n)).or_default();
                        *number += [1, 1, 1, 2, 3][self.random.below(5)];
                        let back = self.random.below(6) as u64;
                        Some((producer, number.saturating_sub(back).max(1)))
                    }
                };
                let _ = publish(&mut self.engine, now, &name, &bytes, origin);
            }
            50..58 => self.begin(n),
            58..72 => self.append(),
            72..78 if !self.uploads.is_empty() => {
                let at = self.random.below(self.uploads.len());
                let upload = self.uploads.swap_remove(at);
                if self.random.below(3) == 0 {
                    self.engine.abort(upload.id);
                } else {
                    let rest = upload.payload.slice(upload.sent..);
                    let sent = rest.chunks(16_000).all(|chunk| {
                        self.engine.append(upload.id, Bytes::copy_from_slice(chunk)).is_ok()
                    });
                    if sent {
                        let _ = self.engine.end(now, upload.id, Digest::of(&upload.payload));
                    }
                }
            }
            78..84 => {
                let digest = Digest::of(&payload(self.random.below(30) as u32));
                let _ = self.engine.get(&name, Which::Digest(digest));
            }
            84..86 => self.capture = Some((Capture::new(), Vec::new())),
            _ => self.capture(),
        }
        self.take();
    }

    fn take(&mut self) {
        let mut records = Vec::new();
        self.engine.take_records(&mut records);
        let first = self.engine.recorded() + 1 - records.len() as u64;
        self.records.extend((first..).zip(records));
    }

    fn begin(&mut self, n: usize) {
        let bytes: Bytes = vec![self.random.below(5) as u8; 70_000].into();
        let number = self.numbers.entry((9, n)).or_default();
        *number += 1;
        let origin = Some(PublicationId { producer: ProducerId([9; 16]), number: *number });
        let (topic, size) = (&*topic(n), bytes.len() as u64);
        let request = UploadRequest { topic, size, stamp: 5, origin };
        if let Ok(BeginOutcome::Arriving(id)) = self.engine.begin(self.now, &request) {
            self.uploads.push(Upload { id, payload: bytes, sent: 0 });
        }
    }

    fn append(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let at = self.random.below(self.uploads.len());
        let upload = &mut self.uploads[at];
        let to = upload.payload.len().min(upload.sent + 10_000);
        if upload.sent < to {
            let chunk = Bytes::copy_from_slice(&upload.payload[upload.sent..to]);
            upload.sent = to;
            let _ = self.engine.append(upload.id, chunk);
        }
    }

    // Takes the next parts of a snapshot. When it is complete, the records before it go.
    fn capture(&mut self) {
        for _ in 0..=self.random.below(6) {
            let Some((capture, parts)) = &mut self.capture else { return };
            let Some(part) = self.engine.capture(capture) else {
                let Some((_, parts)) = self.capture.take() else { return };
                let Some(Part::End { records_from, .. }) = parts.last() else { panic!("no end") };
                self.take();
                self.records = self.records.split_off(records_from);
                self.snapshot = parts;
                return;
            };
            parts.push(part);
        }
    }

    fn restored(&mut self) -> Engine {
        let engine = Engine::new(self.limits, 1_000_000, [7; 32]);
        let mut engine = engine.with_topic_rules(rules(self.ruled, &mut self.random));
        engine.begin_restoring();
        for part in &self.snapshot {
            assert!(engine.restore_part(part.clone()), "{part:?} does not fit");
        }
        for (number, record) in &self.records {
            assert!(engine.restore(*number, record), "{number}: {record:?} does not fit");
        }
        engine.make_records();
        engine.end_restoring();
        engine
    }

    // The restored engine equals the one that goes on. Then it takes that one's place.
    fn restart(&mut self) {
        let mut restored = self.restored();
        restored.audit();
        let live = &self.engine;
        assert!(restored.recorded() >= live.recorded());
        assert_eq!(restored.position(), live.position());
        assert_eq!(restored.next_topic, live.next_topic);
        let names = |engine: &Engine| engine.by_name.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&restored), names(live));
        for name in names(live) {
            let both = [&restored, live].map(|engine| engine.topic(engine.slot(&name).unwrap()));
            same(both[0].unwrap(), both[1].unwrap());
        }
        self.uploads.clear();
        self.capture = None;
        // Counts that outlived their payloads are the same. Making room for these may forget other
        // topics in each of the two.
        for n in 0..TOPICS {
            let (name, number) = (topic(n), self.now + n as u64);
            let bytes = payload(self.random.below(30) as u32);
            let id = |engine: &Engine| Some(engine.topic(engine.slot(&name)?)?.id());
            let is_same = id(&restored) == id(&self.engine);
            let once = |engine: &mut Engine| {
                let receipt = publish(engine, self.now, &name, &bytes, Some((77, number)));
                let receipt = receipt.unwrap();
                (if is_same { receipt.sequence } else { 0 }, receipt.count, receipt.since)
            };
            assert_eq!(once(&mut restored), once(&mut self.engine), "{name}");
        }
        // Only what the engine that goes on has recorded counts. It begins with a snapshot.
        self.engine = restored;
        self.take();
    }
}

fn same(restored: &Topic, live: &Topic) {
    let name = live.name();
    assert_eq!(restored.id(), live.id(), "{name}");
    assert_eq!(restored.epoch(), live.epoch(), "{name}");
    assert_eq!(restored.created_at(), live.created_at(), "{name}");
    assert_eq!(restored.next_sequence(), live.next_sequence(), "{name}");
    assert_eq!(restored.last_position(), live.last_position(), "{name}");
    for sequence in restored.first_sequence()..restored.next_sequence() {
        let (Some(new), Some(old)) = (restored.entry(sequence), live.entry(sequence)) else {
            continue;
        };
        assert_eq!((new.position, new.accepted), (old.position, old.accepted));
        match &old.body {
            Body::Arriving(_) => assert!(matches!(new.body, Body::Aborted { .. })),
            Body::Small(_) | Body::Large { .. } if new.body.is_complete() => {
                assert_eq!((new.origin, new.stamp, new.count), (old.origin, old.stamp, old.count));
                assert_eq!(new.digest, old.digest, "{name} {sequence}");
                assert!(new.body.kept() == old.body.kept());
            }
            // The two may evict other messages while an older one arrives.
            Body::Evicted { .. } => {}
            Body::Aborted { .. } => assert!(matches!(new.body, Body::Aborted { .. })),
            _ => assert!(matches!(new.body, Body::Evicted { .. }), "{name} {sequence}"),
        }
    }
    let windows = |topic: &Topic| {
        let windows = topic.windows().into_iter();
        let of = |w: &crate::engine::SavedWindow| topic.accepted(w.producer);
        let mut all: Vec<_> = windows.map(|w| (w.producer, of(&w), w.passed, w.highest)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(windows(restored), windows(live), "{name}");
    let keys = |topic: &Topic| {
        let mut keys: Vec<_> = topic.keys().map(|(key, r)| (*key, r.sequence, r.count)).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys(restored), keys(live), "{name}");
    let top = |topic: &Topic| {
        let mut top: Vec<_> = topic.top().map(|r| (r.count.count, r.digest)).collect();
        top.sort_unstable();
        top
    };
    assert_eq!(top(restored), top(live), "{name}");
}

#[test]
fn what_was_restored_is_what_was_there() {
    let seeds = match std::env::var("WEIR_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..400).collect(),
    };
    for seed in seeds {
        let _seed = Seed(seed, "what_was_restored");
        let mut world = World::new(seed);
        for _ in 0..=world.random.below(3) {
            for _ in 0..world.random.below(400) {
                world.step();
            }
            world.restart();
        }
    }
}

// A publisher may take half an hour for an upload. The log is shortened meanwhile, and what is left of
// it completes the upload.
#[test]
fn a_snapshot_needs_no_record_before_it_while_an_upload_goes_on() {
    let mut world = World::new(1);
    world.begin(0);
    world.append();
    for _ in 0..3 {
        world.take();
        let before = world.engine.recorded();
        let (mut capture, mut parts) = (Capture::new(), Vec::new());
        while let Some(part) = world.engine.capture(&mut capture) {
            parts.push(part);
        }
        let Some(Part::End { records_from, .. }) = parts.last() else { panic!("no end") };
        assert_eq!(*records_from, before + 1);
        (world.records, world.snapshot) = (BTreeMap::new(), parts);
        world.append();
    }
    while world.uploads[0].sent < world.uploads[0].payload.len() {
        world.append();
    }
    let Upload { id, payload, .. } = world.uploads.remove(0);
    world.engine.end(9, id, Digest::of(&payload)).unwrap();
    world.take();
    let restored = world.restored();
    let topic = restored.topic(restored.slot("t/0").unwrap()).unwrap();
    assert!(topic.entry(1).unwrap().body.rope().unwrap().join() == payload);
}
