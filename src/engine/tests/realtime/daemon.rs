//! The daemon's shell around the engine, as `docs/protocol.md` describes it.

use super::ends::{TOPICS, append, frames, soonest};
use super::link::{MS, Out, ROOM};
use crate::engine::PublicationId;
use crate::engine::tests::peer::{Peer, decode};
use crate::engine::tests::{engine, seeds::Random, small};
use crate::engine::topic::window::Verdict;
use crate::engine::{
    Channel, Engine, Item, LargePayloads, ReadOptions, SubscriptionId, encode_item,
};
use crate::wire::realtime::{HEAD_AFTER, Repeats};
use crate::wire::{
    ClientFrame, Code, DaemonFrame, Encoded, Filter, GapCause, Lag, ProducerId, Start, Which,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const PUBLISHER: u8 = 1;

/// A topic, as one subscription knows it.
struct Heard {
    name: String,
    announcement: Vec<u8>,
    announced_at: u64,
    by_stream: BTreeSet<u64>,
    newest: u64,
    head_at: Option<u64>,
}

/// One subscription's delivery.
pub(super) struct Feed {
    id: SubscriptionId,
    named: bool,
    // Messages accepted before it began are sent on a stream.
    behind: u64,
    deadline: u64,
    heard: BTreeMap<u64, Heard>,
    pub(super) repeats: Repeats,
    pub(super) congested: bool,
    pub(super) paused_until: u64,
    pub(super) out: Vec<Out>,
}

pub(super) struct Daemon {
    pub(super) engine: Engine,
    peer: Peer,
    declared: BTreeSet<u32>,
    // By alias: when the acknowledgement goes out.
    acknowledge_at: BTreeMap<u32, u64>,
    floors: [u64; TOPICS.len()],
    // By position: when it was accepted.
    accepted_at: Vec<u64>,
    /// Every so many numbers one is refused; 0 is none.
    pub(super) refuses: u64,
    pub(super) feeds: BTreeMap<usize, Feed>,
    /// To the publisher.
    pub(super) out: Vec<Out>,
}

fn merge(gap: &mut Option<(u64, u64, u64)>, topic: u64, sequence: u64) -> bool {
    let joins = gap.is_some_and(|(of, _, last)| of == topic && last + 1 == sequence);
    if let (true, Some(gap)) = (joins, gap.as_mut()) {
        gap.2 = sequence;
    }
    joins
}

impl Daemon {
    pub(super) fn new() -> Self {
        let mut engine = engine(small());
        let peer = Peer::open(&mut engine, PUBLISHER);
        Self {
            engine,
            peer,
            declared: BTreeSet::new(),
            acknowledge_at: BTreeMap::new(),
            floors: [0; TOPICS.len()],
            accepted_at: vec![0],
            refuses: 0,
            feeds: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        who: usize,
        filter: &str,
        start: &Start<'_>,
        feed: Repeats,
        deadline: u64,
    ) {
        let id = self.engine.subscribe(filter.parse::<Filter>().unwrap(), start, Lag::Oldest);
        let mut first = Vec::new();
        DaemonFrame::For { request: 1 }.encode(&mut first);
        let feed = Feed {
            id,
            named: false,
            behind: self.engine.position(),
            deadline,
            heard: BTreeMap::new(),
            repeats: feed,
            congested: false,
            paused_until: 0,
            out: vec![Out::Stream(first)],
        };
        self.feeds.insert(who, feed);
    }

    pub(super) fn unsubscribe(&mut self, who: usize) {
        if let Some(feed) = self.feeds.remove(&who) {
            self.engine.unsubscribe(feed.id);
        }
    }

    /// The publisher says something.
    pub(super) fn take(&mut self, random: &mut Random, now: u64, datagram: bool, bytes: &Bytes) {
        for frame in frames(bytes) {
            match ClientFrame::decode(&frame).unwrap() {
                ClientFrame::Topic { alias, .. } => {
                    self.declared.insert(alias);
                    self.peer.take(&mut self.engine, Channel::Publish, &frame).unwrap();
                }
                ClientFrame::Publish { alias, .. }
                    if datagram && !self.declared.contains(&alias) => {}
                ClientFrame::Publish { alias, number, .. } => {
                    let mut answer = Vec::new();
                    if self.refuses > 0 && number % self.refuses == 0 {
                        let (code, reason) = (Code::FORBIDDEN, "not this one");
                        DaemonFrame::Rejected { alias, number, code, reason }.encode(&mut answer);
                    } else {
                        self.peer.take(&mut self.engine, Channel::Publish, &frame).unwrap();
                        let reply = self.peer.reply();
                        let DaemonFrame::Receipt { .. } = decode(&reply) else {
                            panic!("{reply:?}")
                        };
                        if datagram {
                            let at = now + random.below(5 * MS as usize) as u64;
                            self.acknowledge_at.entry(alias).or_insert(at);
                        } else {
                            decode(&reply).encode(&mut answer);
                        }
                        self.accepted_at.resize(self.engine.position() as usize + 1, now);
                    }
                    if !answer.is_empty() {
                        self.out.push(Out::Stream(answer));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    // The number up to which all were accepted or passed; a bit for each of the 64 after it.
    fn accepted(&mut self, alias: u32) -> (u64, u64) {
        let name = TOPICS[alias as usize];
        let slot = *self.engine.by_use.peek(name).unwrap();
        let topic = self.engine.topics[slot].as_deref_mut().unwrap();
        let producer = ProducerId([PUBLISHER; 16]);
        let mut judge = |number| topic.judge(PublicationId { producer, number });
        let floor = &mut self.floors[alias as usize];
        while judge(*floor + 1) != Verdict::Fresh {
            *floor += 1;
        }
        let seen = (0..64).filter(|bit| judge(*floor + 1 + bit) == Verdict::Duplicate);
        (*floor, seen.fold(0, |seen, bit| seen | 1 << bit))
    }

    /// A subscriber asks for what it has not had.
    pub(super) fn repair(&mut self, who: usize, datagram: bool, bytes: &Bytes) {
        let Some(feed) = self.feeds.get_mut(&who) else {
            return;
        };
        for frame in frames(bytes) {
            let ClientFrame::Repair { topic, holes, .. } = ClientFrame::decode(&frame).unwrap()
            else {
                panic!("{frame:?}");
            };
            assert!(holes.len() <= 64 && holes.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let asked: u64 = holes.iter().map(|(first, last)| last - first + 1).sum();
            assert!(!datagram || asked <= 64);
            let mut gap: Option<(u64, u64, u64)> = None;
            let name = feed.heard[&topic].name.clone();
            for sequence in holes.iter().flat_map(|(first, last)| *first..=*last) {
                let known = &feed.heard[&topic];
                match self.engine.get(&name, Which::Sequence(sequence)) {
                    Ok(_) if datagram && known.by_stream.contains(&sequence) => {}
                    Ok(found) if datagram && found.encoded().unwrap().wire_len() <= ROOM => {
                        let mut bytes = Vec::new();
                        append(found.encoded().unwrap(), &mut bytes);
                        feed.out.push(Out::Datagram(bytes));
                    }
                    Ok(found) => {
                        let mut bytes = Vec::new();
                        append(found.encoded().unwrap(), &mut bytes);
                        feed.out.push(Out::Stream(bytes));
                    }
                    Err(refusal) if refusal.code == Code::EVICTED => {
                        if !merge(&mut gap, topic, sequence) {
                            feed.gap(&mut gap, GapCause::Evicted);
                            gap = Some((topic, sequence, sequence));
                        }
                    }
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            feed.gap(&mut gap, GapCause::Evicted);
        }
    }

    pub(super) fn due(&self) -> Option<u64> {
        let acknowledge = self.acknowledge_at.values().copied().min();
        soonest(self.feeds.values().map(Feed::due).chain([acknowledge]))
    }

    pub(super) fn poll(&mut self, now: u64, rtt: u64) {
        let due: Vec<u32> = self
            .acknowledge_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(alias, _)| *alias)
            .collect();
        for alias in due {
            self.acknowledge_at.remove(&alias);
            let (floor, seen) = self.accepted(alias);
            let mut bytes = Vec::new();
            DaemonFrame::Acknowledge { alias, floor, seen }.encode(&mut bytes);
            self.out.push(Out::Datagram(bytes));
        }
        let mut wakes = Vec::new();
        self.engine.take_wakes(&mut wakes);
        for feed in self.feeds.values_mut() {
            feed.named |= wakes.contains(&feed.id);
            if feed.named && feed.paused_until <= now {
                feed.named = false;
                feed.deliver(&mut self.engine, &self.accepted_at, now, rtt);
            }
            feed.poll(now);
        }
    }
}

impl Feed {
    fn due(&self) -> Option<u64> {
        let heads = self.heard.values().map(|heard| heard.head_at);
        let paused = self.named.then_some(self.paused_until);
        soonest(heads.chain([self.repeats.due(), paused]))
    }

    fn gap(&mut self, gap: &mut Option<(u64, u64, u64)>, cause: GapCause) {
        if let Some((topic, first, last)) = gap.take() {
            let mut bytes = Vec::new();
            DaemonFrame::Gap { topic, first, last, cause }.encode(&mut bytes);
            self.out.push(Out::Stream(bytes));
        }
    }

    fn deliver(&mut self, engine: &mut Engine, accepted_at: &[u64], now: u64, rtt: u64) {
        let (id, mut late) = (self.id, None);
        let sink = &mut |item: Item<'_>| match &item {
            Item::Topic { id, name, .. } => {
                let mut announcement = Vec::new();
                encode_item(&item, &mut announcement);
                self.out.push(Out::Stream(announcement.clone()));
                let heard = Heard {
                    name: name.to_string(),
                    announcement,
                    announced_at: now,
                    by_stream: BTreeSet::new(),
                    newest: 0,
                    head_at: None,
                };
                self.heard.insert(*id, heard);
            }
            Item::Gap { .. } => {
                let mut bytes = Vec::new();
                encode_item(&item, &mut bytes);
                self.out.push(Out::Stream(bytes));
            }
            Item::Message(message) => {
                let (id, sequence) = (message.topic_id(), message.sequence());
                let age = now - accepted_at[message.position() as usize];
                if self.deadline > 0 && age > self.deadline {
                    if !merge(&mut late, id, sequence) {
                        self.gap(&mut late, GapCause::Late);
                        late = Some((id, sequence, sequence));
                    }
                    return;
                }
                self.gap(&mut late, GapCause::Late);
                let behind = message.position() <= self.behind;
                self.send(id, sequence, message.encoded().unwrap(), behind, now, rtt);
            }
            other => panic!("{other:?}"),
        };
        let wanted = ReadOptions { large: LargePayloads::AnnounceOnly, ..8192.into() };
        while engine.read(id, wanted, sink).unwrap() {}
        self.gap(&mut late, GapCause::Late);
    }

    fn send(
        &mut self,
        id: u64,
        sequence: u64,
        encoded: &Encoded,
        behind: bool,
        now: u64,
        rtt: u64,
    ) {
        let heard = self.heard.get_mut(&id).unwrap();
        heard.newest = sequence;
        let mut bytes = Vec::new();
        if now < heard.announced_at + 3 * rtt {
            bytes.extend_from_slice(&heard.announcement);
        }
        append(encoded, &mut bytes);
        if behind || bytes.len() > ROOM {
            heard.by_stream.insert(sequence);
            let mut bytes = Vec::new();
            append(encoded, &mut bytes);
            self.out.push(Out::Stream(bytes));
        } else {
            heard.head_at = Some(now + HEAD_AFTER);
            self.repeats.push(now, rtt, id, bytes.clone().into());
            self.out.push(Out::Datagram(bytes));
        }
    }

    fn poll(&mut self, now: u64) {
        for (id, heard) in &mut self.heard {
            if heard.head_at.is_some_and(|at| at <= now) {
                heard.head_at = None;
                let mut bytes = Vec::new();
                DaemonFrame::Head { topic: *id, sequence: heard.newest }.encode(&mut bytes);
                self.out.push(Out::Stream(bytes));
            }
        }
        if self.congested {
            self.repeats.skip_due(now);
        }
        let mut some = Vec::new();
        while self.repeats.pop(now, ROOM, &mut some) {
            self.out.push(Out::Datagram(some.drain(..).flatten().collect()));
        }
    }
}
