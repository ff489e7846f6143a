//! Calls take as long beside many uploads as beside a few.

use super::fairness::arrive;
use super::{READ, begin, bounded, fill, named};
use crate::engine::tests::peer::{Peer, subscribe};
use crate::engine::tests::{engine, publish};
use crate::engine::topic::body::Body;
use crate::engine::{
    BeginOutcome, Change, Channel, Engine, Hashing, IncomingUpload, Item, Limits, Prepared,
    PublicationId, UploadError, UploadId, UploadRequest,
};
use crate::wire::{ClientFrame, Code, Digest, FrameReader, ProducerId, Refusal, Start};
use allocation_counter::measure;
use bytes::Bytes;

const MANY: usize = 10_000;
const SIZE: usize = 66_000;

/// The most that one call may allocate, bytes: a piece of a log, and what stands in its tables.
/// A table that grows at once would take more.
const ALLOCATES: u64 = 32 << 10;

fn whole() -> Bytes {
    vec![1; SIZE].into()
}

fn start(engine: &mut Engine, topic: &str, number: usize) -> UploadId {
    let producer = ProducerId([1; 16]);
    let origin = Some(PublicationId { producer, number: number as u64 + 1 });
    let opening = UploadRequest { topic, size: SIZE as u64, stamp: 0, origin };
    match engine.begin(1, &opening).unwrap() {
        BeginOutcome::Arriving(upload) => upload,
        BeginOutcome::Duplicate(_) => panic!("it is new"),
    }
}

// Notes what a call takes: units of work.
fn takes<T>(engine: &mut Engine, units: &mut Vec<usize>, call: impl FnOnce(&mut Engine) -> T) -> T {
    engine.begin_work();
    let mut result = None;
    let info = measure(|| result = Some(call(engine)));
    units.push(engine.work);
    assert!(info.bytes_max <= ALLOCATES, "{} bytes in one call", info.bytes_max);
    while engine.run_deferred() {}
    result.unwrap()
}

// Returns the work of some calls beside so many uploads, in one topic or in as many.
fn beside(many: usize, spread: bool) -> Vec<usize> {
    let engine = &mut engine(Limits::default());
    fill(engine, MANY);
    let topic = |n: usize| if spread { format!("t/{n}") } else { "t/0".to_owned() };
    let mut begun = Vec::new();
    let all: Vec<_> = (0..many)
        .map(|n| takes(engine, &mut begun, |engine| start(engine, &topic(n), n)))
        .collect();
    begun.dedup();
    assert_eq!(begun.len(), 1, "the same for each");
    let (mut units, chunk) = (begun, whole().slice(..65_536));
    let one = Bytes::from_static(b"y");
    for n in 0..2 {
        takes(engine, &mut units, |engine| publish(engine, 1, &topic(n), &one, None)).unwrap();
    }
    for (nth, at) in [0, 1, many / 2, many / 2 + 1, many - 2, many - 1].into_iter().enumerate() {
        let upload = all[at];
        takes(engine, &mut units, |engine| engine.append(upload, chunk.clone())).unwrap();
        let rest = whole().slice(65_536..);
        takes(engine, &mut units, |engine| engine.append(upload, rest)).unwrap();
        match nth % 3 {
            0 => {
                let digest = Digest::of(&whole());
                takes(engine, &mut units, |engine| engine.end(1, upload, digest)).unwrap();
            }
            1 => takes(engine, &mut units, |engine| engine.abort(upload)),
            _ => _ = takes(engine, &mut units, |engine| start(engine, &topic(at), at)),
        }
    }
    for filter in ["t/0", "**"] {
        takes(engine, &mut units, |engine| begin(engine, filter, &Start::New));
    }
    for n in 0..2 {
        takes(engine, &mut units, |engine| publish(engine, 1, &topic(n), &one, None)).unwrap();
    }
    let ids = named(engine);
    assert_eq!(ids.len(), 2);
    for id in ids {
        takes(engine, &mut units, |engine| engine.read(id, READ, &mut |_| ())).unwrap();
    }
    units
}

#[test]
fn beside_ten_thousand_uploads_calls_take_what_they_take_beside_a_few() {
    for spread in [false, true] {
        assert_eq!(beside(MANY, spread), beside(8, spread), "spread: {spread}");
    }
}

#[test]
fn a_topic_in_which_much_arrives_is_forgotten_in_portions() {
    let engine = &mut engine(Limits { topics: 2, ..Limits::default() });
    let (uploads, followers) = (1000, 40);
    for n in 1..=uploads {
        arrive(engine, "a", SIZE as u64, &whole().slice(..100));
        for _ in 0..followers {
            let id = engine.follow(1, n).unwrap();
            while engine.read(id, READ, &mut |_| ()).unwrap() {}
        }
    }
    drop(named(engine));
    let one = Bytes::from_static(b"x");
    publish(engine, 1, "b", &one, None).unwrap();
    let (_, portions) = bounded(engine, |engine| publish(engine, 1, "c", &one, None).unwrap());
    assert!(portions > 10, "{portions}");
    assert_eq!(engine.slot("a"), None);
    let ids = named(engine);
    assert_eq!(ids.len(), usize::try_from(uploads).unwrap() * followers);
    for id in ids {
        let mut ends = 0;
        engine.read(id, READ, &mut |item| ends += usize::from(is_abort(&item))).unwrap();
        assert_eq!(ends, 1);
        engine.unsubscribe(id);
    }
    engine.audit();
}

fn is_abort(item: &Item<'_>) -> bool {
    matches!(item, Item::Abort { .. })
}

// While an older message arrives, the bodies of complete ones are evicted. The search for them begins
// above all arriving messages, and again whenever one of those is complete.
#[test]
fn what_may_go_above_all_that_arrives_is_looked_for_in_portions() {
    let engine = &mut engine(Limits::default().with_cache(64 << 20));
    for n in 0..40_000 {
        start(engine, "a", n);
    }
    for n in 0..1000_u32 {
        let mut bytes = vec![0; 10_000];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        publish(engine, 1, "a", &bytes.into(), None).unwrap();
    }
    publish(engine, 1, "b", &vec![1; 12 << 20].into(), None).unwrap();
    assert!(!engine.has_deferred());
    let large = Bytes::from(vec![2; 16 << 20]);
    let (_, portions) = bounded(engine, |engine| publish(engine, 1, "c", &large, None).unwrap());
    assert!(portions >= 4, "{portions}");
    let next = engine.head("a").unwrap().next;
    let (mut arrives, mut gone) = (0, 0);
    let topic = engine.topic(engine.slot("a").unwrap()).unwrap();
    for sequence in topic.first_sequence()..next {
        match topic.entry(sequence).unwrap().body {
            Body::Arriving(_) => arrives += 1,
            Body::Evicted { .. } => gone += 1,
            _ => {}
        }
    }
    assert_eq!(arrives, 40_000, "nothing that arrives had to go");
    assert!(gone > 100, "{gone}");
    engine.audit();
}

// It was a list that was sorted as it grew: milliseconds, with ten thousand of them.
#[test]
fn whoever_waits_for_a_message_stands_there_once_and_those_who_have_ended_do_not() {
    let engine = &mut engine(Limits::default());
    let upload = start(engine, "a", 0);
    engine.append(upload, whole().slice(..1000)).unwrap();
    let wait = |engine: &mut Engine| {
        let id = begin(engine, "a", &Start::All);
        while engine.read(id, READ, &mut |_| ()).unwrap() {}
        id
    };
    let stay: Vec<_> = (0..5000).map(|_| wait(engine)).collect();
    for _ in 0..5000 {
        let id = wait(engine);
        engine.unsubscribe(id);
    }
    let topic = engine.topic(engine.slot("a").unwrap()).unwrap();
    let Body::Arriving(arriving) = &topic.entry(1).unwrap().body else {
        panic!("it arrives");
    };
    assert_eq!(arriving.chunk_waiters.len() + arriving.completion_waiters.len(), stay.len() + 1);
    named(engine);
    engine.append(upload, whole().slice(1000..)).unwrap();
    while engine.run_deferred() {}
    assert_eq!(named(engine).len(), stay.len());
    engine.audit();
}

// A session that ends gives up what still arrives on all its streams, for each of which many wait.
#[test]
fn a_session_that_ends_in_the_middle_of_uploads_ends_in_portions() {
    let engine = &mut engine(Limits::default());
    let mut peer = Peer::open(engine, 1);
    let mut streams: Vec<(Hashing, IncomingUpload)> =
        (0..101).map(|_| Default::default()).collect();
    for (n, (hashing, intake)) in streams.iter_mut().enumerate() {
        let name = format!("t/{n}");
        let alias = n as u32 + 1;
        peer.say(engine, &ClientFrame::Topic { alias, name: &name }).unwrap();
        let begin = ClientFrame::Begin { alias, number: 1, stamp: 0, size: SIZE as u64 };
        let mut bytes = Vec::new();
        begin.encode(&mut bytes);
        let mut reader = FrameReader::new(1 << 20);
        reader.push(bytes.into());
        let frame = reader.next_frame().unwrap().unwrap();
        let frame = Prepared::new(&frame, hashing).unwrap();
        let mut out = Vec::new();
        peer.session.handle(engine, 1, (Channel::Publish, intake), frame, &mut out).unwrap();
    }
    for _ in 0..64 {
        let id = begin(engine, "t/*", &Start::All);
        while engine.read(id, 1 << 20, &mut |_| ()).unwrap() {}
        assert_eq!(engine.subscriptions.get(id).unwrap().aside.len(), 101);
    }
    for n in 0..256 {
        peer.say(engine, &subscribe(n, "t/*", Start::New)).unwrap();
        peer.reply();
    }
    drop(named(engine));
    let (mut ended, mut calls) = (0, 0);
    while !peer.session.is_closed() {
        ended += bounded(engine, |engine| peer.session.close(engine)).0;
        calls += 1;
    }
    assert_eq!((ended, calls), (256, 4));
    let waiting = named(engine);
    assert_eq!(waiting.len(), 64);
    for id in waiting {
        assert!(engine.subscriptions.get(id).unwrap().aside.is_empty());
        let mut gaps = 0;
        let mut see = |item: Item<'_>| gaps += usize::from(matches!(item, Item::Gap { .. }));
        while engine.read(id, 1 << 20, &mut see).unwrap() {}
        assert_eq!(gaps, 101);
    }
    engine.audit();
}

// A journal that cannot be written holds what it was given. Any number of uploads may have begun.
#[test]
fn nothing_more_of_uploads_is_recorded_while_publications_are_refused() {
    let engine = &mut engine(Limits::default());
    engine.make_records();
    let all: Vec<_> = (0..10).map(|n| start(engine, &format!("t/{n}"), n)).collect();
    all.iter().for_each(|upload| engine.append(*upload, whole().slice(..100)).unwrap());
    engine.take_records(&mut Vec::new());
    let why = Refusal::new(Code::UNAVAILABLE, "the disk is full");
    engine.refuse_publications(Some(why.clone()));
    for upload in &all {
        for said in [Ok(why.clone()), Err(Code::OVERLOADED)] {
            let error = engine.append(*upload, whole().slice(100..65_000)).unwrap_err();
            let UploadError::Refused(refusal) = error else { panic!("{error:?}") };
            assert!(said.map_or_else(|code| refusal.code == code, |why| refusal == why));
        }
    }
    let mut records = Vec::new();
    engine.take_records(&mut records);
    assert!(records.iter().all(|record| record.change == Change::Aborted), "{records:?}");
    engine.refuse_publications(None);
    engine.audit();
}
