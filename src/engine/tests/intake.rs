//! Publications in chunks, as a peer sends them.

use super::peer::{Peer, code, decode, said, topic};
use super::{engine, small};
use crate::engine::{
    Action, Channel, Engine, Hashing, IncomingUpload, Item, LargePayloads, Prepared, ReadOptions,
    SubscriptionId,
};
use crate::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, FrameReader, GapCause, LARGE, Lag,
    MAX_RESUMED, Position, Resume, Start, Which,
};
use bytes::Bytes;

const SIZE: usize = LARGE + 1000;

fn begin(number: u64, size: usize) -> ClientFrame<'static> {
    ClientFrame::Begin { alias: 1, number, stamp: 5, size: size as u64 }
}

fn chunk(bytes: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Chunk { bytes }
}

fn end(payload: &[u8]) -> ClientFrame<'static> {
    ClientFrame::End { digest: Digest::of(payload) }
}

fn watch(engine: &mut Engine) -> SubscriptionId {
    engine.subscribe("a".parse().unwrap(), &Start::All, Lag::Oldest)
}

/// Returns the items that a subscription receives, in short.
fn read(engine: &mut Engine, id: SubscriptionId) -> Vec<String> {
    let mut seen = Vec::new();
    let wanted = ReadOptions { large: LargePayloads::InChunks, ..ReadOptions::from(1 << 20) };
    let sink = &mut |item: Item<'_>| match item {
        Item::Topic { .. } => {}
        Item::Begin(message) => seen.push(format!("begin {}", message.sequence())),
        Item::Chunk(chunk) => seen.push(format!("chunk {}", chunk.len())),
        Item::End { count, .. } => seen.push(format!("end {count}")),
        Item::Abort { code } => seen.push(format!("abort {}", code.name())),
        Item::Gap { first, last, cause, .. } => seen.push(format!("gap {first}-{last} {cause:?}")),
        Item::Message(message) => seen.push(format!("message {}", message.sequence())),
        Item::Large(_) => panic!("not asked for"),
    };
    engine.take_wakes(&mut Vec::new());
    while engine.read(id, wanted, sink).unwrap() {}
    seen
}

fn open(engine: &mut Engine) -> Peer {
    let mut peer = Peer::open(engine, 1);
    peer.say(engine, &topic(1, "a")).unwrap();
    peer
}

fn receipt(peer: &mut Peer) -> (u64, u64, bool) {
    match decode(&peer.reply()) {
        DaemonFrame::Receipt { sequence, count, duplicate, .. } => (sequence, count, duplicate),
        other => panic!("{other:?}"),
    }
}

fn rejected(peer: &mut Peer) -> Code {
    match decode(&peer.reply()) {
        DaemonFrame::Rejected { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn is_enough(action: Option<&Action>, expected: Code) -> bool {
    matches!(action, Some(Action::StopReading { code }) if *code == expected)
}

#[test]
fn it_is_relayed_while_it_arrives_and_counts_at_its_end() {
    let engine = &mut engine(small());
    let payload = vec![7; SIZE];
    let id = watch(engine);
    for (channel, number) in [(Channel::Publish, 1), (Channel::Control, 2)] {
        let mut peer = open(engine);
        assert!(peer.say_on(engine, channel, &begin(number, SIZE)).unwrap().is_none());
        peer.say_on(engine, channel, &chunk(&payload[..LARGE])).unwrap();
        let seen = read(engine, id);
        assert_eq!(seen, [format!("begin {number}"), format!("chunk {LARGE}")]);
        let found = engine.get("a", Which::Latest).map(|found| found.sequence());
        assert_eq!(found.ok(), Some(number - 1).filter(|before| *before > 0));
        peer.say_on(engine, channel, &chunk(&payload[LARGE..])).unwrap();
        assert_eq!(peer.replies.next_frame(), Ok(None), "answered before its end");
        peer.say_on(engine, channel, &end(&payload)).unwrap();
        assert_eq!(receipt(&mut peer), (number, number, false));
        assert_eq!(read(engine, id), ["chunk 1000".to_owned(), format!("end {number}")]);
        assert_eq!(engine.get("a", Which::Latest).unwrap().payload(), payload);
        engine.audit();
    }
}

#[test]
fn what_breaks_off_is_a_gap_and_its_number_is_free() {
    let engine = &mut engine(small());
    let payload = vec![7; SIZE];
    let id = watch(engine);
    // The stream ends; the session ends; nothing comes; another digest comes.
    for sequence in 1..=4 {
        let mut peer = open(engine);
        peer.say_on(engine, Channel::Publish, &begin(1, SIZE)).unwrap();
        peer.say_on(engine, Channel::Publish, &chunk(&payload[..LARGE])).unwrap();
        assert_eq!(read(engine, id), [format!("begin {sequence}"), format!("chunk {LARGE}")]);
        match sequence {
            1 => peer.break_off(engine),
            2 => assert_eq!(peer.session.close(engine), 0),
            3 => {
                assert!(is_enough(peer.stall(engine).as_ref(), Code::TIMED_OUT));
                assert_eq!(rejected(&mut peer), Code::TIMED_OUT);
                assert!(peer.stall(engine).is_none());
            }
            _ => {
                peer.say_on(engine, Channel::Publish, &chunk(&payload[LARGE..])).unwrap();
                assert_eq!(read(engine, id), ["chunk 1000"]);
                peer.say_on(engine, Channel::Publish, &end(b"another")).unwrap();
                assert_eq!(rejected(&mut peer), Code::MALFORMED);
            }
        }
        let gap = format!("gap {sequence}-{sequence} {:?}", GapCause::Aborted);
        assert_eq!(read(engine, id), ["abort publisher_gone".to_owned(), gap]);
        for which in [Which::Latest, Which::Sequence(sequence)] {
            assert_eq!(engine.get("a", which).unwrap_err().code, Code::NOT_FOUND);
        }
        assert!(engine.top("a", 9).unwrap().is_empty());
        engine.audit();
    }
    let mut peer = open(engine);
    for frame in [begin(1, SIZE), chunk(&payload[..LARGE]), chunk(&payload[LARGE..]), end(&payload)]
    {
        peer.say(engine, &frame).unwrap();
    }
    assert_eq!(receipt(&mut peer), (5, 1, false));
}

#[test]
fn what_need_not_come_is_answered_at_once_and_the_rest_is_dropped() {
    let engine = &mut engine(small());
    let payload = vec![7; SIZE];
    let mut peer = open(engine);
    let whole = [begin(1, SIZE), chunk(&payload[..LARGE]), chunk(&payload[LARGE..]), end(&payload)];
    for frame in &whole {
        peer.say(engine, frame).unwrap();
    }
    assert_eq!(receipt(&mut peer), (1, 1, false));
    let action = peer.say(engine, &begin(1, SIZE)).unwrap();
    assert!(is_enough(action.as_ref(), Code::DONE));
    assert_eq!(receipt(&mut peer), (1, 1, true));
    for frame in &whole[1..] {
        assert!(peer.say(engine, frame).unwrap().is_none());
    }
    assert_eq!(peer.replies.next_frame(), Ok(None));
    // A dropped publication need not be sent to its end.
    let large = engine.limits().payload + 1;
    for (number, size, why) in [(2, large, Code::PAYLOAD_TOO_LARGE), (0, SIZE, Code::STALE)] {
        let action = peer.say(engine, &begin(number, size)).unwrap();
        assert!(is_enough(action.as_ref(), why));
        assert_eq!(rejected(&mut peer), why);
    }
    // Accepted by another way while it arrived.
    peer.say(engine, &begin(3, SIZE)).unwrap();
    peer.say(engine, &chunk(&payload[..LARGE])).unwrap();
    peer.say(engine, &said(3, b"small")).unwrap();
    assert_eq!(receipt(&mut peer), (3, 1, false));
    peer.say(engine, &chunk(&payload[LARGE..])).unwrap();
    peer.say(engine, &end(&payload)).unwrap();
    assert_eq!(receipt(&mut peer), (3, 1, true));
    engine.audit();
}

#[test]
fn small_ones_are_published_at_their_end() {
    let engine = &mut engine(small());
    let id = watch(engine);
    let mut peer = open(engine);
    for (number, payload) in [(1, &b""[..]), (2, b"abc"), (3, &vec![7; LARGE])] {
        peer.say(engine, &begin(number, payload.len())).unwrap();
        for bytes in payload.chunks(50_000) {
            peer.say(engine, &chunk(bytes)).unwrap();
        }
        assert!(read(engine, id).is_empty());
        peer.say(engine, &end(payload)).unwrap();
        assert_eq!(receipt(&mut peer), (number, 1, false));
        assert_eq!(read(engine, id), [format!("message {number}")]);
        assert_eq!(engine.get("a", Which::Latest).unwrap().payload(), payload);
    }
}

#[test]
fn frames_out_of_place_end_the_session_and_what_it_had_begun() {
    let zeros = vec![0; LARGE + 1];
    let cases: [(Channel, Vec<ClientFrame<'_>>, Code); 9] = [
        (Channel::Control, vec![chunk(b"x")], Code::UNEXPECTED),
        (Channel::Publish, vec![end(b"")], Code::UNEXPECTED),
        (Channel::Control, vec![begin(1, SIZE), begin(2, SIZE)], Code::UNEXPECTED),
        (Channel::Publish, vec![begin(1, SIZE), said(2, b"x")], Code::UNEXPECTED),
        (Channel::Publish, vec![begin(1, SIZE), chunk(b"")], Code::MALFORMED),
        (Channel::Publish, vec![begin(1, 2 * SIZE), chunk(&zeros)], Code::MALFORMED),
        (Channel::Publish, vec![begin(1, SIZE), chunk(b"x"), end(b"x")], Code::MALFORMED),
        (Channel::Publish, vec![begin(1, 3), chunk(b"four")], Code::MALFORMED),
        (Channel::Datagram, vec![begin(1, SIZE)], Code::UNEXPECTED),
    ];
    for (channel, frames, expected) in cases {
        let engine = &mut engine(small());
        let mut peer = open(engine);
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            peer.say_on(engine, channel, frame).unwrap();
        }
        assert_eq!(code(peer.say_on(engine, channel, last)), expected, "{last:?}");
        assert_eq!(peer.session.close(engine), 0);
        assert!(engine.topics.iter().flatten().all(|topic| !topic.has_arriving()));
        engine.audit();
    }
    // On the one channel others may stand between.
    let engine = &mut engine(small());
    let mut peer = open(engine);
    peer.say(engine, &begin(1, SIZE)).unwrap();
    peer.say(engine, &said(2, b"x")).unwrap();
    assert_eq!(receipt(&mut peer), (2, 1, false));
}

// Of a hundred that begin, what has come is held, and no more; and that is charged.
#[test]
fn small_publications_in_chunks_cost_what_has_come_of_them() {
    let engine = &mut engine(small());
    let mut peer = open(engine);
    let mut streams: Vec<(Hashing, IncomingUpload)> =
        (0..100).map(|_| Default::default()).collect();
    let mut say = |engine: &mut Engine, streams: &mut Vec<(Hashing, IncomingUpload)>, n, frame| {
        let (frame, mut out) = (Bytes::from(encoded(&frame)), Vec::new());
        let (hashing, intake): &mut (Hashing, IncomingUpload) = &mut streams[n];
        let prepared = Prepared::new(&frame, hashing).unwrap();
        let of = (Channel::Publish, intake);
        peer.session.handle(engine, 77, of, prepared, &mut out).unwrap();
        out
    };
    for n in 0..100 {
        say(engine, &mut streams, n, begin(n as u64 + 1, LARGE));
    }
    for n in 0..100 {
        say(engine, &mut streams, n, chunk(&[7; 1000]));
    }
    assert_eq!(engine.budget().held(), 0);
    let mut came = 0;
    let refused = (0..100).find_map(|n| {
        let out = say(engine, &mut streams, n, chunk(&[7; 10_000]));
        came += 11_000;
        (!out.is_empty()).then_some(out)
    });
    assert!(engine.budget().held() <= engine.budget().most() && came > 250_000);
    let mut reader = FrameReader::new(1000);
    reader.push(refused.unwrap().into());
    let frame = reader.next_frame().unwrap().unwrap();
    let DaemonFrame::Rejected { code, .. } = decode(&frame) else { panic!() };
    assert_eq!(code, Code::OVERLOADED);
    streams.clear();
    assert_eq!(engine.budget().held(), 0);
}

// A read buffer of 64 KiB that a chunk of a few bytes came in is not what is kept.
#[test]
fn a_short_chunk_keeps_nothing_but_itself() {
    for length in [1, 1000, 4000] {
        let read = Bytes::from([encoded(&chunk(&vec![7; length])), vec![0; 1 << 16]].concat());
        let frame = read.slice(..read.len() - (1 << 16));
        let Ok(Prepared::Chunk(kept)) = Prepared::new(&frame, &mut Hashing::default()) else {
            panic!();
        };
        assert!(kept.len() == length && !read.as_ptr_range().contains(&kept.as_ptr()));
    }
}

#[test]
fn a_list_of_topics_to_resume_is_of_a_stated_length() {
    let list = |count| Start::Resume {
        since: Position { run: 1, position: 1 },
        topics: vec![Resume { topic: "a", epoch: 1, next: 1 }; count],
    };
    for (count, fits) in [(MAX_RESUMED, true), (MAX_RESUMED + 1, false), (250_000, false)] {
        let subscribe = ClientFrame::Subscribe {
            request: 1,
            filter: "*",
            start: list(count),
            delivery: Delivery::Ordered,
            lag: Lag::Oldest,
            deadline: 0,
        };
        let frame = Bytes::from(encoded(&subscribe));
        match Prepared::new(&frame, &mut Hashing::default()) {
            Ok(_) => assert!(fits, "{count}"),
            Err(refusal) => {
                assert!(!fits && refusal.code == Code::MALFORMED, "{count}");
                assert!(refusal.reason.contains("65536"), "{refusal}");
            }
        }
    }
}

// Without its length.
fn encoded(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    let length = out.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    out.split_off(length)
}
