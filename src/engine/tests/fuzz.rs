//! Fuzz targets: operations on an engine, compared with the model; and sessions with frames of any
//! kind.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::model::{FILTERS, From, TOPICS, World};
use super::peer::{Peer, hello};
use super::{SMALLEST, engine, payload, small};
use crate::engine::memory::evicted_counts::EvictedCounts;
use crate::engine::subscribe::portions::Portions;
use crate::engine::{
    Action, Channel, Engine, GetReply, Item, LargePayloads, ReadOptions, Repaired, SubscriptionId,
    encode_item,
};
use crate::fuzz::Script;
use crate::wire::{
    ClientFrame, DaemonFrame, Delivery, Digest, FrameReader, Had, Lag, Position, Refusal, Resume,
    Start, Which,
};
use bytes::Bytes;

// So many steps are enough to forget everything several times.
const STEPS: usize = 300;

/// The steps of `properties.rs`, in an order that the input chooses.
pub(crate) fn operations(data: &[u8]) {
    let mut script = Script::new(data);
    let script = &mut script;
    let mut limits = small();
    limits.topics = 16;
    let mut world = match script.below(3) {
        0 => World::new(limits),
        1 => {
            limits.topics = 2 + script.below(10);
            let mut world = World::new(limits);
            world.engine.portions = Portions { wakes: 4, ..SMALLEST };
            world
        }
        _ => {
            (limits.topics, limits.producers) = (1 + script.below(7), 3 + script.below(6));
            let mut world = World::new(limits);
            world.engine.evicted_counts = EvictedCounts::new(1 + script.below(40));
            world
        }
    };
    let names = &TOPICS[..=script.below(TOPICS.len())];
    for _ in 0..STEPS {
        if script.is_empty() {
            break;
        }
        step(&mut world, names, script);
    }
    while !world.subscribers.is_empty() {
        world.end(0);
    }
}

fn step(world: &mut World, names: &[&'static str], script: &mut Script<'_>) {
    let kind = script.below(17);
    let index = usize::from(script.byte());
    let name = names[index % names.len()];
    // Few enough payloads that many come again.
    let n = u32::from(script.byte() % 120);
    match kind {
        0..4 => world.publish(name, n, None),
        4 | 5 => {
            let origin = (script.below(3) as u8, 1 + script.below(40) as u64);
            world.publish(name, n, Some(origin));
        }
        6 => world.publish(name, n, Some((script.below(9) as u8, 0))),
        7 => match n % 3 {
            0 => world.get(name, Which::Latest),
            1 => world.get(name, Which::Sequence(script.number())),
            _ => world.get(name, Which::Digest(Digest::of(&payload(n / 3)))),
        },
        8 => world.top(name, n as usize),
        9 => {
            let from = match script.below(5) {
                0 => From::New,
                1 => From::Latest,
                2 => From::All,
                3 => From::Last(script.number()),
                _ => From::Sequence(script.number()),
            };
            let lag = script.choose(&[Lag::Oldest, Lag::Newest, Lag::Disconnect]);
            world.subscribe(FILTERS[n as usize % FILTERS.len()], from, lag);
        }
        10 => world.resume(index, n % 2 == 1, if n % 4 < 2 { 0 } else { script.number() }),
        11 => world.resume_by_position(index),
        12 => drop(world.end(index)),
        13 | 14 => {
            let budget = [0, 1, 60, 3000, 30_000, 1 << 20][n as usize % 6];
            world.read(index, budget, script.number() % 40);
        }
        15 => {
            let hole = (script.number() % (1 << 40), u64::from(script.byte()));
            world.repair(index, n as usize, hole, [1, 100, 1 << 20][n as usize % 3]);
        }
        _ => (0..40).for_each(|_| world.read(index, 1 << 20, 0)),
    }
}

// A subscription that a session has been granted, or a message that it requested.
struct Delivered {
    of: usize,
    request: u32,
    id: SubscriptionId,
    large: LargePayloads,
}

struct Sessions {
    engine: Engine,
    peers: Vec<Peer>,
    delivered: Vec<Delivered>,
}

/// Sessions that send any frames, or bytes, in any order. The accounts stay right, what is sent can be
/// decoded, and nothing is left when they have gone.
pub(crate) fn sessions(data: &[u8]) {
    let mut script = Script::new(data);
    let script = &mut script;
    let mut limits = small();
    limits.topics = 1 + script.below(12);
    limits.payload = 200_000;
    let mut engine = engine(limits);
    if script.chance(2) {
        engine.portions = SMALLEST;
    }
    let peers = (0..3).map(|n| Peer::open(&mut engine, n)).collect();
    let mut all = Sessions { engine, peers, delivered: Vec::new() };
    for _ in 0..STEPS {
        if script.is_empty() {
            break;
        }
        all.step(script);
        all.check();
    }
    for of in 0..all.peers.len() {
        all.leave(of);
    }
    all.check();
    assert_eq!((all.engine.subscriptions(), all.engine.budget().held()), (0, 0), "left behind");
}

impl Sessions {
    fn step(&mut self, script: &mut Script<'_>) {
        let of = script.below(self.peers.len());
        let channel = script.choose(&[
            Channel::Control,
            Channel::Control,
            Channel::Publish,
            Channel::Datagram,
        ]);
        match script.below(16) {
            0 => {
                let bytes = Bytes::copy_from_slice(script.bytes());
                self.take(of, channel, &bytes);
            }
            1 => self.peers[of].break_off(&mut self.engine),
            2 => {
                if let Some(action) = self.peers[of].stall(&mut self.engine) {
                    self.act(of, action);
                }
            }
            3 => self.leave(of),
            4..7 => self.read(script),
            _ => self.frame(of, channel, script),
        }
        self.replies(of);
    }

    fn frame(&mut self, of: usize, channel: Channel, script: &mut Script<'_>) {
        let mut out = Vec::new();
        let alias = script.below(4) as u32;
        let request = script.below(12) as u32;
        let body = vec![script.byte() % 8; script.choose(&[0, 1, 30, 3000, 65_536, 70_000])];
        let topic = TOPICS[script.below(TOPICS.len())];
        let filter = FILTERS[script.below(FILTERS.len())];
        let frame = match script.below(14) {
            0 => ClientFrame::Topic { alias, name: topic },
            1..4 => {
                let (number, stamp) = (script.number(), script.number());
                ClientFrame::Publish { alias, number, stamp, payload: &body }
            }
            4 => {
                let size = script.choose(&[0, 1, 30, 70_000, 131_072, 200_000, 200_001, u64::MAX]);
                ClientFrame::Begin { alias, number: script.number(), stamp: 1, size }
            }
            5 | 6 => ClientFrame::Chunk { bytes: &body },
            7 => ClientFrame::End { digest: Digest::of(&body) },
            8 | 9 => ClientFrame::Subscribe {
                request,
                filter,
                start: start(script, self.engine.run()),
                delivery: script.choose(&[
                    Delivery::Ordered,
                    Delivery::Unordered,
                    Delivery::Realtime,
                ]),
                lag: script.choose(&[Lag::Oldest, Lag::Newest, Lag::Disconnect]),
                deadline: script.number() as u32,
            },
            10 => ClientFrame::Unsubscribe { subscription: request },
            11 => {
                let which = match script.below(3) {
                    0 => Which::Latest,
                    1 => Which::Sequence(script.number()),
                    _ => Which::Digest(Digest::of(&body)),
                };
                ClientFrame::Get { request, topic, which }
            }
            12 => ClientFrame::Top { request, topic, k: script.number() as u32 },
            _ => {
                let holes = (0..script.below(4)).map(|_| (script.number(), script.number()));
                let holes = holes.collect();
                ClientFrame::Repair { subscription: request, topic: script.number(), holes }
            }
        };
        frame.encode(&mut out);
        let mut reader = FrameReader::new(1 << 24);
        reader.push(out.into());
        let frame = reader.next_frame().unwrap().unwrap();
        self.take(of, channel, &frame);
    }

    fn take(&mut self, of: usize, channel: Channel, frame: &Bytes) {
        match self.peers[of].take(&mut self.engine, channel, frame) {
            Ok(Some(action)) => self.act(of, action),
            Ok(None) => {}
            Err(_) => {
                self.replies(of);
                self.leave(of);
            }
        }
    }

    fn act(&mut self, of: usize, action: Action) {
        match action {
            Action::Deliver { request, subscription: id, delivery, .. } => {
                let large = match delivery {
                    Delivery::Ordered => LargePayloads::InChunks,
                    _ => LargePayloads::AnnounceOnly,
                };
                self.delivered.push(Delivered { of, request, id, large });
            }
            Action::Stop { request, .. } => {
                self.delivered.retain(|one| (one.of, one.request) != (of, request));
            }
            Action::Answer { message: GetReply::Large { topic, sequence }, .. } => {
                self.follow(of, topic, sequence);
            }
            Action::Repair { request, topic, holes, .. } => {
                let Some(one) =
                    self.delivered.iter().find(|one| (one.of, one.request) == (of, request))
                else {
                    return;
                };
                let id = one.id;
                for hole in holes {
                    let mut from = Some(hole.0);
                    while let Some(first) = from {
                        from = self.engine.repair(id, topic, (first, hole.1), 100, &mut |item| {
                            if let Repaired::Message(message) | Repaired::Large(message) = item {
                                assert_eq!(message.topic_id(), topic);
                            }
                        });
                    }
                }
            }
            Action::PeerLeft { .. } => self.leave(of),
            _ => {}
        }
    }

    fn follow(&mut self, of: usize, topic: u64, sequence: u64) {
        if self.delivered.len() < 100
            && let Ok(id) = self.engine.follow(topic, sequence)
        {
            let large = LargePayloads::InChunks;
            self.delivered.push(Delivered { of, request: u32::MAX, id, large });
        }
    }

    fn read(&mut self, script: &mut Script<'_>) {
        if self.delivered.is_empty() {
            return;
        }
        let at = script.below(self.delivered.len().min(256));
        let budget = script.choose(&[0, 1, 60, 3000, 30_000, 1 << 20]);
        let Delivered { of, request, id, large } = self.delivered[at];
        let options = ReadOptions { budget, accepted_since: 0, large };
        let (mut frames, mut announced) = (Vec::new(), Vec::new());
        let read = self.engine.read(id, options, &mut |item| {
            if let Item::Large(message) = &item {
                announced.push((message.topic_id(), message.sequence()));
            }
            encode_item(&item, &mut frames);
        });
        let mut reader = FrameReader::new(1 << 24);
        reader.push(frames.into());
        while let Some(frame) = reader.next_frame().unwrap() {
            DaemonFrame::decode(&frame).unwrap();
        }
        assert!(!reader.is_partial());
        if let Some((topic, sequence)) = announced.first() {
            self.follow(of, *topic, *sequence);
        }
        if let Err(refusal) = read {
            self.ended(of, request, id, &refusal);
        } else if script.chance(2) {
            self.engine.park_if_idle(id);
        }
    }

    fn ended(&mut self, of: usize, request: u32, id: SubscriptionId, why: &Refusal) {
        let mut out = Vec::new();
        if request == u32::MAX {
            self.engine.unsubscribe(id);
        } else {
            let peer = &mut self.peers[of];
            peer.session.delivery_ended(&mut self.engine, (request, id), why, &mut out);
            peer.replies.push(out.into());
            self.replies(of);
        }
        self.delivered.retain(|one| one.id != id);
    }

    // The session ends, and its client comes back.
    fn leave(&mut self, of: usize) {
        for one in self.delivered.extract_if(.., |one| one.of == of) {
            if one.request == u32::MAX {
                self.engine.unsubscribe(one.id);
            }
        }
        let peer = &mut self.peers[of];
        peer.break_off(&mut self.engine);
        peer.session.close(&mut self.engine);
        assert!(peer.session.is_closed());
        self.peers[of] = Peer::new(&mut self.engine);
        let _ = self.peers[of].say(&mut self.engine, &hello(of as u8));
        self.replies(of);
    }

    // Everything that is answered can be decoded.
    fn replies(&mut self, of: usize) {
        let replies = &mut self.peers[of].replies;
        while let Some(frame) = replies.next_frame().unwrap() {
            DaemonFrame::decode(&frame).unwrap();
        }
        assert!(!replies.is_partial());
    }

    fn check(&mut self) {
        let engine = &mut self.engine;
        while engine.has_deferred() {
            engine.run_deferred();
        }
        engine.take_wakes(&mut Vec::new());
        engine.take_ended(&mut Vec::new());
        engine.audit();
        assert!(engine.budget().held() <= engine.budget().most());
        assert!(engine.bytes() <= engine.limits().cache + engine.budget().held());
    }
}

fn start(script: &mut Script<'_>, run: u64) -> Start<'static> {
    let kind = script.below(7);
    let topics = |script: &mut Script<'_>| {
        let resume = |script: &mut Script<'_>| Resume {
            topic: TOPICS[script.below(TOPICS.len())],
            epoch: run.wrapping_add(script.number()),
            next: script.number(),
        };
        (0..script.below(4)).map(|_| resume(script)).collect::<Vec<_>>()
    };
    match kind {
        0 => Start::New,
        1 => Start::Latest,
        2 => Start::All,
        3 => Start::Last(script.number()),
        4 => Start::Sequence(script.number()),
        _ => {
            let since = Position { run: run + script.below(2) as u64, position: script.number() };
            let topics = topics(script);
            if kind == 5 || topics.is_empty() {
                return Start::Resume { since, topics };
            }
            let mut had = Vec::new();
            for (at, topic) in topics.iter().enumerate() {
                let first = topic.next.saturating_add(1 + u64::from(script.byte()));
                let last = first.saturating_add(script.byte().into());
                if first < u64::MAX && last < u64::MAX {
                    had.push(Had::new(at as u32, topic.next, &[(first, last)]));
                }
            }
            Start::ResumeWith { since, topics, had }
        }
    }
}
