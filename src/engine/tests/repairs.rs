//! What unordered and realtime delivery need of the engine: messages once more, late ones passed
//! over, and what a peer may say in datagrams.

use super::peer::{Peer, code, decode, said, subscribe, topic};
use super::{engine, publish, small};
use crate::engine::{
    Action, Channel, Engine, Item, LargePayloads, ReadOptions, Repaired, SubscriptionId,
};
use crate::wire::realtime::HOLES;
use crate::wire::{ClientFrame, Code, DaemonFrame, Delivery, GapCause, Lag, Refusal, Start};
use bytes::Bytes;

fn payload(n: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size.max(8)];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

// Publishes a message of its own to each sequence.
fn fill(
    engine: &mut Engine,
    now: u64,
    topic: &str,
    sequences: std::ops::RangeInclusive<u64>,
    size: usize,
) {
    for n in sequences {
        let receipt = publish(engine, now, topic, &payload(n, size), None).unwrap();
        assert_eq!(receipt.sequence, n);
    }
}

fn begin(engine: &mut Engine, filter: &str, start: &Start<'_>, lag: Lag) -> SubscriptionId {
    engine.subscribe(filter.parse().unwrap(), start, lag)
}

// What a read hands out, in short: `m`essages and gaps (`e`victed, `s`kipped, `l`ate) with topic
// id and sequences.
fn read(
    engine: &mut Engine,
    id: SubscriptionId,
    wanted: impl Into<ReadOptions>,
) -> Vec<(char, u64, u64, u64)> {
    let mut seen = Vec::new();
    let wanted = ReadOptions { large: LargePayloads::AnnounceOnly, ..wanted.into() };
    let any = engine.read(id, wanted, &mut |item| match item {
        Item::Topic { .. } => {}
        Item::Message(message) => {
            assert_eq!(message.payload()[..8], message.sequence().to_le_bytes());
            seen.push(('m', message.topic_id(), message.sequence(), message.sequence()));
        }
        Item::Gap { id, first, last, cause, .. } => {
            let cause = match cause {
                GapCause::Evicted => 'e',
                GapCause::Late => 'l',
                _ => 's',
            };
            seen.push((cause, id, first, last));
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(any, Ok(!seen.is_empty()));
    seen
}

fn read_all(engine: &mut Engine, id: SubscriptionId) {
    while !read(engine, id, 1 << 20).is_empty() {}
}

// What a repair hands out, and where to go on.
fn repair(
    engine: &mut Engine,
    id: SubscriptionId,
    topic: u64,
    hole: (u64, u64),
    budget: usize,
) -> (Vec<(char, u64, u64)>, Option<u64>) {
    let mut seen = Vec::new();
    let next = engine.repair(id, topic, hole, budget, &mut |item| {
        seen.push(match item {
            Repaired::Message(message) => {
                assert_eq!(message.topic_id(), topic);
                assert_eq!(message.payload()[..8], message.sequence().to_le_bytes());
                ('m', message.sequence(), message.sequence())
            }
            Repaired::NotCached { first, last, .. } => ('g', first, last),
            Repaired::Large(message) => panic!("{message:?}"),
        });
    });
    (seen, next)
}

fn messages(sequences: std::ops::RangeInclusive<u64>) -> Vec<(char, u64, u64)> {
    sequences.map(|n| ('m', n, n)).collect()
}

#[test]
fn what_was_handed_out_is_handed_out_again_and_nothing_beyond() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 1, "a", 1..=10, 100);
    assert_eq!(repair(engine, id, 1, (1, 10), 1000), (vec![], None), "not handed out yet");
    read_all(engine, id);
    fill(engine, 1, "a", 11..=12, 100);
    let all = usize::MAX;
    assert_eq!(repair(engine, id, 1, (3, 3), all), (messages(3..=3), None));
    assert_eq!(repair(engine, id, 1, (9, 12), all), (messages(9..=10), None));
    assert_eq!(repair(engine, id, 1, (0, 2), all), (messages(1..=2), None));
    for hole in [(11, 12), (11, u64::MAX), (u64::MAX, u64::MAX), (7, 6)] {
        assert_eq!(repair(engine, id, 1, hole, all), (vec![], None), "{hole:?}");
    }
    // To be repaired takes nothing away.
    assert_eq!(read(engine, id, 1000), [('m', 1, 11, 11), ('m', 1, 12, 12)]);
    assert_eq!(repair(engine, id, 1, (11, 12), all), (messages(11..=12), None));
    engine.unsubscribe(id);
    assert_eq!(repair(engine, id, 1, (1, 2), all), (vec![], None), "it has ended");
}

#[test]
fn a_repair_comes_in_portions() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 1, "a", 1..=40, 100);
    read_all(engine, id);
    for budget in [0, 1, 150, 1000] {
        let (mut from, mut seen, mut portions) = (5, Vec::new(), 0);
        loop {
            let (some, next) = repair(engine, id, 1, (from, 30), budget);
            assert!(!some.is_empty() && some.len() <= 1 + budget / 100, "{some:?}");
            seen.extend(some);
            portions += 1;
            let Some(next) = next else { break };
            from = next;
        }
        assert_eq!(seen, messages(5..=30));
        assert!(portions >= 2);
    }
}

#[test]
fn what_has_left_the_cache_is_told_as_gone() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    for n in 1..=400 {
        fill(engine, 1, "a", n..=n, 4000);
        read_all(engine, id);
    }
    let oldest = engine.topic(0).unwrap().first_sequence();
    assert!((100..400).contains(&oldest));
    let (seen, next) = repair(engine, id, 1, (oldest - 5, oldest + 1), usize::MAX);
    let expected = [&[('g', oldest - 5, oldest - 1)][..], &messages(oldest..=oldest + 1)].concat();
    assert_eq!((seen, next), (expected, None));
    let gone = repair(engine, id, 1, (3, 9), usize::MAX);
    assert_eq!(gone, (vec![('g', 3, 9)], None));
    // A gap counts as an item: a portion may be one.
    let (seen, next) = repair(engine, id, 1, (1, 400), 0);
    assert_eq!((seen[0], next), (('g', 1, oldest - 1), Some(oldest + 1)));
}

#[test]
fn another_topic_is_gone_whatever_there_is_of_it() {
    let mut limits = small();
    limits.topics = 2;
    let engine = &mut engine(limits);
    let id = begin(engine, "a/*", &Start::New, Lag::Oldest);
    fill(engine, 1, "a/x", 1..=3, 10);
    fill(engine, 1, "b", 1..=3, 10);
    read_all(engine, id);
    let other = begin(engine, "**", &Start::All, Lag::Oldest);
    read_all(engine, other);
    assert_eq!(repair(engine, other, 2, (1, 3), 1000), (messages(1..=3), None));
    for unknown in [0, 2, 3, u64::MAX] {
        assert_eq!(repair(engine, id, unknown, (1, 3), 1000), (vec![('g', 1, 3)], None));
    }
    assert_eq!(repair(engine, id, 1, (1, 3), 1000), (messages(1..=3), None));
    // Forgotten, and begun anew under another id: the old one stays gone.
    fill(engine, 1, "c", 1..=1, 10);
    fill(engine, 1, "a/x", 1..=1, 10);
    read_all(engine, id);
    assert_eq!(repair(engine, id, 1, (1, 3), 1000), (vec![('g', 1, 3)], None));
    assert_eq!(repair(engine, id, 4, (1, 3), 1000), (messages(1..=1), None));
}

fn since(accepted_since: u64) -> ReadOptions {
    ReadOptions { accepted_since, ..ReadOptions::from(1 << 20) }
}

#[test]
fn late_messages_are_told_as_one_gap() {
    let engine = &mut engine(small());
    let id = begin(engine, "**", &Start::New, Lag::Oldest);
    fill(engine, 100, "a", 1..=5, 10);
    fill(engine, 200, "a", 6..=7, 10);
    assert_eq!(read(engine, id, since(200)), [('l', 1, 1, 5), ('m', 1, 6, 6), ('m', 1, 7, 7)]);
    assert_eq!(read(engine, id, since(1000)), [], "what was sent stays sent");
    fill(engine, 300, "a", 8..=9, 10);
    assert_eq!(read(engine, id, since(1000)), [('l', 1, 8, 9)]);
    assert_eq!(read(engine, id, since(1000)), []);
    fill(engine, 1000, "a", 10..=10, 10);
    assert_eq!(read(engine, id, since(1000)), [('m', 1, 10, 10)], "just in time");
    // What was passed over can be had all the same by who asks for it.
    assert_eq!(repair(engine, id, 1, (1, 5), 1000), (messages(1..=5), None));
    // Of two topics, in the order of what was accepted.
    for (now, topic, n) in [(1100, "a", 11), (1100, "b", 1), (1100, "a", 12), (1200, "b", 2)] {
        fill(engine, now, topic, n..=n, 10);
    }
    let expected = [('l', 1, 11, 11), ('l', 2, 1, 1), ('l', 1, 12, 12), ('m', 2, 2, 2)];
    assert_eq!(read(engine, id, since(1150)), expected);
}

#[test]
fn late_and_evicted_are_told_apart_and_nothing_is_told_twice() {
    for lag in [Lag::Oldest, Lag::Newest] {
        let engine = &mut engine(small());
        let id = begin(engine, "a", &Start::New, lag);
        fill(engine, 100, "a", 1..=400, 4000);
        fill(engine, 200, "a", 401..=403, 10);
        let oldest = engine.topic(0).unwrap().first_sequence();
        assert!((100..400).contains(&oldest));
        let seen = read(engine, id, since(200));
        let rest = [('m', 1, 401, 401), ('m', 1, 402, 402), ('m', 1, 403, 403)];
        if lag == Lag::Oldest {
            let gaps = [('e', 1, 1, oldest - 1), ('l', 1, oldest, 400)];
            assert_eq!(seen, [&gaps[..], &rest].concat());
        } else {
            assert_eq!(seen, [('s', 1, 1, 402), rest[2]]);
        }
    }
    // One at a time.
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 100, "a", 1..=400, 4000);
    fill(engine, 200, "a", 401..=402, 10);
    let (mut seen, mut next) = (Vec::new(), 1);
    loop {
        let some = read(engine, id, ReadOptions { accepted_since: 200, ..ReadOptions::from(0) });
        if some.is_empty() {
            break;
        }
        seen.extend(some);
    }
    for (_, _, first, last) in &seen {
        assert_eq!(*first, next);
        next = last + 1;
    }
    assert_eq!((next, seen.len()), (403, 4), "{seen:?}");
    // Who is late has not lagged.
    let id = begin(engine, "a", &Start::Last(2), Lag::Disconnect);
    assert_eq!(read(engine, id, since(300)), [('l', 1, 401, 402)]);
}

fn say_in_datagram(
    peer: &mut Peer,
    engine: &mut Engine,
    frame: &ClientFrame<'_>,
) -> Result<Option<Action>, Refusal> {
    peer.say_on(engine, Channel::Datagram, frame)
}

fn scattered(request: u32, delivery: Delivery, deadline: u32) -> ClientFrame<'static> {
    let ClientFrame::Subscribe { filter, start, lag, .. } = subscribe(request, "a", Start::New)
    else {
        unreachable!()
    };
    ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline }
}

#[test]
fn repairs_name_few_holes_in_order() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    peer.say(engine, &scattered(4, Delivery::Realtime, 0)).unwrap();
    peer.reply();
    let hole = |holes: &[(u64, u64)]| ClientFrame::Repair {
        subscription: 4,
        topic: 9,
        holes: holes.to_vec(),
    };
    let many: Vec<_> = (0..=HOLES as u64).map(|n| (2 * n, 2 * n)).collect();
    for (channel, reliably) in [(Channel::Control, true), (Channel::Datagram, false)] {
        for good in [&[][..], &[(5, 5)], &[(0, 3), (4, 4), (9, u64::MAX)], &many[1..]] {
            let action = peer.say_on(engine, channel, &hole(good)).unwrap();
            let Some(Action::Repair { request: 4, topic: 9, holes, reliably: told }) = action
            else {
                panic!("{action:?}");
            };
            assert_eq!((&holes[..], told), (good, reliably));
        }
        for bad in [&[(6, 5)][..], &[(1, 2), (2, 3)], &[(5, 6), (1, 2)], &[(1, 1), (1, 1)], &many] {
            assert_eq!(code(peer.say_on(engine, channel, &hole(bad))), Code::MALFORMED, "{bad:?}");
        }
        // Of a subscription that has ended, or never was.
        let frame = ClientFrame::Repair { subscription: 5, topic: 9, holes: vec![(1, 1)] };
        assert!(peer.say_on(engine, channel, &frame).unwrap().is_none());
    }
    assert_eq!(code(peer.say_on(engine, Channel::Publish, &hole(&[(1, 1)]))), Code::UNEXPECTED);
    assert_eq!(peer.replies.next_frame(), Ok(None), "nothing of it is answered");
}

#[test]
fn datagrams_publish_and_ask_and_that_is_all() {
    let engine = &mut engine(small());
    let mut early = Peer::new(engine);
    for frame in
        [topic(1, "a"), said(1, b"x"), ClientFrame::Ping { request: 1 }, super::peer::hello(3)]
    {
        assert!(say_in_datagram(&mut early, engine, &frame).unwrap().is_none(), "before the hello");
    }
    assert!(!early.session.is_open() && early.replies.next_frame() == Ok(None));

    let mut peer = Peer::open(engine, 1);
    assert!(say_in_datagram(&mut peer, engine, &said(1, b"x")).unwrap().is_none(), "no such alias");
    assert_eq!(engine.position(), 0);
    say_in_datagram(&mut peer, engine, &topic(1, "a")).unwrap();
    for frame in [said(1, b"x"), said(1, b"x"), said(3, b"y")] {
        let action = say_in_datagram(&mut peer, engine, &frame).unwrap();
        assert!(matches!(action, Some(Action::Acknowledge { alias: 1 })), "{action:?}");
    }
    assert_eq!((engine.position(), peer.replies.next_frame()), (2, Ok(None)));
    // On a stream the same number is a duplicate, with a receipt.
    peer.say_on(engine, Channel::Publish, &said(3, b"y")).unwrap();
    let reply = peer.reply();
    assert!(matches!(decode(&reply), DaemonFrame::Receipt { number: 3, duplicate: true, .. }));
    // What is refused is said, and not acknowledged.
    say_in_datagram(&mut peer, engine, &topic(2, "$weir/x")).unwrap();
    let reserved = ClientFrame::Publish { alias: 2, number: 1, stamp: 0, payload: b"x" };
    let refused = say_in_datagram(&mut peer, engine, &reserved).unwrap();
    assert!(matches!(refused, Some(Action::Refused { code: Code::BAD_TOPIC })), "{refused:?}");
    let reply = peer.reply();
    assert!(matches!(decode(&reply), DaemonFrame::Rejected { alias: 2, number: 1, .. }));

    assert_eq!(code(say_in_datagram(&mut peer, engine, &topic(1, "b"))), Code::BAD_ALIAS);
    for frame in [
        ClientFrame::Ping { request: 1 },
        subscribe(1, "a", Start::New),
        ClientFrame::Unsubscribe { subscription: 1 },
        ClientFrame::Goodbye { code: Code::DONE, reason: "" },
        super::peer::hello(1),
    ] {
        assert_eq!(code(say_in_datagram(&mut peer, engine, &frame)), Code::UNEXPECTED, "{frame:?}");
    }
}

#[test]
fn an_acknowledgement_says_what_was_accepted() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    let acknowledged = |peer: &Peer, engine: &Engine, alias| {
        let mut out = Vec::new();
        peer.session.acknowledge(engine, alias, &mut out);
        let (length, frame) = out.split_first()?;
        assert_eq!(usize::from(*length), frame.len());
        match DaemonFrame::decode(frame).unwrap() {
            DaemonFrame::Acknowledge { alias: told, floor, seen } if told == alias => {
                Some((floor, seen))
            }
            other => panic!("{other:?}"),
        }
    };
    say_in_datagram(&mut peer, engine, &topic(1, "a")).unwrap();
    assert_eq!(acknowledged(&peer, engine, 1), None, "nothing was published");
    assert_eq!(acknowledged(&peer, engine, 2), None, "nobody declared it");
    for (number, expected) in [
        (1, (1, 0)),
        (3, (1, 0b10)),
        (4, (1, 0b110)),
        // The last that there is a bit for, and one more.
        (65, (1, 1 << 63 | 0b110)),
        (66, (1, 1 << 63 | 0b110)),
        (2, (4, 1 << 60 | 1 << 61)),
        // So far ahead that the oldest ones missing are given up.
        (4 + 1024, (4, 1 << 60 | 1 << 61)),
        (5 + 1024, (5, 1 << 59 | 1 << 60)),
    ] {
        let action = say_in_datagram(&mut peer, engine, &said(number, b"x")).unwrap();
        assert_eq!(acknowledged(&peer, engine, 1), Some(expected), "after {number}");
        // What the bits do not reach gets a receipt after all.
        if number > expected.0 + 64 {
            assert!(action.is_none(), "{action:?}");
            let reply = peer.reply();
            assert!(matches!(decode(&reply), DaemonFrame::Receipt { duplicate: false, .. }));
        } else {
            assert!(matches!(action, Some(Action::Acknowledge { alias: 1 })), "{action:?}");
        }
    }
    // Another producer has another window.
    let mut other = Peer::open(engine, 2);
    say_in_datagram(&mut other, engine, &topic(1, "a")).unwrap();
    assert_eq!(acknowledged(&other, engine, 1), None);
}

#[test]
fn the_first_subscription_with_datagrams_is_bare() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    let mut begin = |frame: &ClientFrame<'_>| {
        let action = peer.say(engine, frame).unwrap();
        peer.reply();
        match action {
            Some(Action::Deliver { bare, delivery, deadline, .. }) => {
                Some((bare, delivery, deadline))
            }
            Some(Action::Stop { .. } | Action::Refused { .. }) => None,
            other => panic!("{other:?}"),
        }
    };
    let (ordered, unordered, realtime) =
        (Delivery::Ordered, Delivery::Unordered, Delivery::Realtime);
    assert_eq!(begin(&scattered(1, ordered, 7)), Some((false, ordered, 0)));
    // One that is refused is none.
    let refused = ClientFrame::Subscribe {
        request: 2,
        filter: "a//b",
        start: Start::New,
        delivery: realtime,
        lag: Lag::Oldest,
        deadline: 0,
    };
    assert_eq!(begin(&refused), None);
    assert_eq!(begin(&scattered(3, unordered, 7)), Some((true, unordered, 0)));
    assert_eq!(begin(&scattered(4, realtime, 7)), Some((false, realtime, 7000)));
    assert_eq!(begin(&ClientFrame::Unsubscribe { subscription: 3 }), None);
    assert_eq!(
        begin(&scattered(5, realtime, u32::MAX)),
        Some((false, realtime, 4_294_967_295_000))
    );
}
