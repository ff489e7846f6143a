//! Defects that a hostile reviewer found. Each was silent, or lasted for ever.

use super::fairness::arrive;
use super::{READ, begin, fill, named};
use crate::engine::tests::peer::{Peer, subscribe};
use crate::engine::tests::{engine, publish};
use crate::engine::{Item, LargePayloads, Limits, ReadOptions};
use crate::wire::{Code, Digest, Filter, Lag, Start};
use allocation_counter::measure;
use bytes::Bytes;

const SIZE: usize = 100_000;

fn whole() -> Bytes {
    vec![1; SIZE].into()
}

fn one(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

fn see(seen: &mut Vec<String>) -> impl FnMut(Item<'_>) + '_ {
    |item| match item {
        Item::Message(m) => seen.push(format!("{} {}", m.topic(), m.sequence())),
        Item::Begin(m) => seen.push(format!("begin {} {}", m.topic(), m.sequence())),
        Item::Gap { name, first, last, .. } => seen.push(format!("gap {name} {first}..{last}")),
        _ => {}
    }
}

#[test]
fn what_comes_with_the_next_window_holds_nobody_up() {
    let engine = &mut engine(Limits::default());
    let id = begin(engine, "t/*", &Start::New);
    for n in 0..600 {
        begin(engine, &format!("x/{n}"), &Start::New);
    }
    let mut count = 0;
    let topics: u32 = 20;
    publish(engine, 1, "t/first", &one(0), None).unwrap();
    for k in 0..topics {
        publish(engine, 1, &format!("t/{k}"), &one(0), None).unwrap();
    }
    let upload = arrive(engine, "t/z", SIZE as u64, &whole().slice(..1000));
    drop(named(engine));
    let mut seen = Vec::new();
    assert!(engine.read(id, ReadOptions::from(1), &mut see(&mut seen)).unwrap());
    assert_eq!(seen, ["t/first 1"]);
    // Behind, while 600 others stand at as many positions, each of which is to be remembered.
    for n in 0..600 {
        publish(engine, 1, &format!("x/{n}"), &one(n), None).unwrap();
        for k in 0..topics {
            count += 1;
            publish(engine, 1, &format!("t/{k}"), &one(count), None).unwrap();
        }
    }
    for k in 0..topics {
        let slot = engine.slot(&format!("t/{k}")).unwrap();
        while engine.topic(slot).unwrap().messages() > 3 {
            engine.evict(slot);
        }
    }
    while engine.run_deferred() {}
    seen.clear();
    let mut reads = 0;
    loop {
        match engine.read(id, ReadOptions::from(1 << 20), &mut see(&mut seen)) {
            Ok(true) => reads += 1,
            Ok(false) => break,
            Err(why) => panic!("{why}"),
        }
        assert!(reads < 1000);
    }
    engine.audit();
    drop(named(engine));
    engine.append(upload, whole().slice(1000..60_000)).unwrap();
    engine.append(upload, whole().slice(60_000..)).unwrap();
    engine.end(1, upload, Digest::of(&whole())).unwrap();
    for k in 0..topics {
        publish(engine, 1, &format!("t/{k}"), &one(1_000_000), None).unwrap();
    }
    publish(engine, 1, "t/other", &one(1_000_001), None).unwrap();
    while engine.run_deferred() {}
    assert!(named(engine).contains(&id), "it is never named again");
}

#[test]
fn a_session_of_256_that_know_a_thousand_topics_each_ends_in_bounds() {
    let engine = &mut engine(Limits::default());
    fill(engine, 1000);
    let mut peer = Peer::open(engine, 1);
    for request in 0..256 {
        peer.say(engine, &subscribe(request, "**", Start::All)).unwrap();
        peer.reply();
    }
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    let ids = named(engine);
    assert_eq!(ids.len(), 256);
    for id in ids {
        while engine.read(id, apart, &mut |_| ()).unwrap() {}
        assert_eq!(engine.subscriptions.get(id).unwrap().announced.len(), 1000);
    }
    let info = measure(|| _ = peer.session.close(engine));
    assert!(-info.count_current <= 4096, "{} frees in one call", -info.count_current);
    while engine.run_deferred() {}
    engine.audit();
}

// 257 topics that were forgotten while it looked through the names ended a subscription that none
// of them concerned: whoever made new topics fast enough kept all wildcards from beginning.
#[test]
fn topics_that_are_forgotten_end_nobody_whom_they_do_not_concern() {
    let engine = &mut engine(Limits { topics: 5000, ..Limits::default() });
    fill(engine, 4999);
    publish(engine, 1, "a/x", &one(1), None).unwrap();
    let id = begin(engine, "*/x", &Start::All);
    let (mut seen, mut made) = (Vec::new(), 0);
    while engine.read(id, READ, &mut see(&mut seen)).unwrap() {
        // Somebody who never stops would have it look for ever.
        for _ in 0..if made < 2000 { 100 } else { 0 } {
            made += 1;
            publish(engine, 1, &format!("new/{made}"), &one(made), None).unwrap();
        }
    }
    assert!(made > 1000, "{made}");
    assert_eq!(seen, ["a/x 1"]);
}

#[test]
fn one_that_asked_to_be_ended_is_not_told_a_gap() {
    let engine = &mut engine(Limits::default().with_cache(4 << 20));
    let _upload = arrive(engine, "a", SIZE as u64, &whole().slice(..1000));
    let id = engine.subscribe("a".parse::<Filter>().unwrap(), &Start::New, Lag::Disconnect);
    for n in 0..4000 {
        publish(engine, 1, "a", &one(n), None).unwrap();
    }
    let slot = engine.slot("a").unwrap();
    for _ in 0..200 {
        engine.evict(slot);
    }
    let mut seen = Vec::new();
    let mut read = Ok(true);
    while read == Ok(true) {
        read = engine.read(id, READ, &mut see(&mut seen));
    }
    let why = read.unwrap_err();
    assert_eq!(why.code, Code::LAGGED, "{seen:?}");
    assert!(
        why.reason.ends_with("which was evicted while one before it was still arriving"),
        "{why:?}"
    );
}

#[test]
fn the_newest_is_not_hidden_by_those_that_were_aborted() {
    for later in [false, true] {
        let engine = &mut engine(Limits::default());
        fill(engine, 600);
        publish(engine, 1, "z", &Bytes::from_static(b"kept"), None).unwrap();
        for _ in 0..64 {
            let upload = arrive(engine, "z", SIZE as u64, &whole().slice(..1));
            engine.abort(upload);
        }
        let id = begin(engine, "**", &Start::Latest);
        assert!(engine.is_sweeping(id));
        if later {
            publish(engine, 1, "z", &Bytes::from_static(b"new"), None).unwrap();
        }
        let mut seen = Vec::new();
        while engine.read(id, READ, &mut see(&mut seen)).unwrap() {}
        seen.retain(|what| what.contains('z'));
        assert_eq!(seen[0], "z 1", "published meanwhile: {later}: {seen:?}");
    }
}

// The daemon stood still for ever.
#[test]
fn a_dying_topic_whose_asked_payloads_come_back_is_buried() {
    let engine = &mut engine(Limits { topics: 2, ..Limits::default() });
    for n in 0..5000 {
        publish(engine, 1, "a", &one(n), None).unwrap();
    }
    publish(engine, 1, "b", &one(0), None).unwrap();
    for n in 4997..5000 {
        let which = crate::wire::Which::Digest(Digest::of(&one(n)));
        assert!(engine.get("a", which).is_ok());
    }
    publish(engine, 1, "b", &one(1), None).unwrap();
    publish(engine, 1, "c", &one(0), None).unwrap();
    assert!(engine.slot("a").is_none() && !engine.forgotten_topics.is_empty());
    for n in 4997..4999 {
        assert_eq!(publish(engine, 1, "a", &one(n), None).unwrap().count, 2);
    }
    let mut portions = 0;
    while engine.run_deferred() {
        portions += 1;
        assert!(
            portions < 10_000,
            "HANG: it is never buried; pressed: {}",
            engine.must_run_deferred(0)
        );
    }
    engine.audit();
}

// 32 MB, charged as nothing.
#[test]
fn what_waits_aside_is_charged_and_without_room_nothing_is_missed() {
    let engine = &mut engine(Limits::default());
    let uploads: Vec<_> = (0..1024)
        .map(|n| arrive(engine, &format!("l/{n}"), SIZE as u64, &whole().slice(..100)))
        .collect();
    drop(named(engine));
    let (many, mut seen) = (256, Vec::new());
    let mut ids = Vec::with_capacity(many);
    let info = measure(|| {
        for _ in 0..many {
            ids.push(begin(engine, "**", &Start::All));
        }
        for id in &ids {
            while engine.read(*id, READ, &mut |_| ()).unwrap() {}
        }
    });
    let (took, held) = (usize::try_from(info.bytes_current).unwrap(), engine.budget().held());
    assert!(took <= held + held / 4 + many * (16 << 10), "{took} bytes for {held} charged");
    assert!(held <= engine.budget().most());
    for upload in uploads {
        engine.append(upload, whole().slice(100..)).unwrap();
        engine.end(1, upload, Digest::of(&whole())).unwrap();
    }
    while engine.run_deferred() {}
    // The last of them found no room.
    drop(named(engine));
    let last = *ids.last().unwrap();
    while engine.read(last, READ, &mut see(&mut seen)).unwrap() {}
    ids.iter().filter(|id| **id != last).for_each(|id| engine.unsubscribe(*id));
    while engine.run_deferred() {}
    drop(named(engine));
    while engine.read(last, READ, &mut see(&mut seen)).unwrap() {}
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen.iter().filter(|what| what.starts_with("begin")).count(),
        1024 - 1,
        "the first was begun"
    );
    engine.unsubscribe(last);
    assert_eq!(engine.budget().held(), 0);
    engine.audit();
}

// As before, but between two of its reads more topics were forgotten than are recorded. So a publisher
// that created topics fast enough ended all subscriptions that were behind.
#[test]
fn topics_that_are_forgotten_between_two_reads_end_nobody_who_knows_what_is_next() {
    for (filter, start) in [
        ("room/a", Start::All),
        ("room/*", Start::All),
        ("room/a", Start::New),
        ("room/*", Start::New),
    ] {
        let engine = &mut engine(Limits { topics: 2000, ..Limits::default() });
        fill(engine, 1999);
        let early = (start == Start::New).then(|| begin(engine, filter, &start));
        let count = 200;
        (0..count).for_each(|n| _ = publish(engine, 1, "room/a", &one(n), None).unwrap());
        let id = early.unwrap_or_else(|| begin(engine, filter, &start));
        while engine.is_sweeping(id) {
            engine.read(id, ReadOptions::from(0), &mut |_| panic!("before its time")).unwrap();
        }
        let (mut seen, mut made) = (Vec::new(), 0);
        while engine.read(id, ReadOptions::from(500), &mut see(&mut seen)).unwrap() {
            for _ in 0..if made < 1500 { 300 } else { 0 } {
                made += 1;
                publish(engine, 1, &format!("new/{made}"), &one(made), None).unwrap();
            }
        }
        assert_eq!(made, 1500);
        let all: Vec<_> = (1..=count).map(|n| format!("room/a {n}")).collect();
        assert_eq!(seen, all, "{filter}, {start:?}");
    }
}

// One that has had everything, but for what still arrives, stands where it was when it had.
#[test]
fn topics_that_are_forgotten_end_nobody_who_waits_for_an_upload() {
    let engine = &mut engine(Limits { topics: 300, ..Limits::default() });
    let id = begin(engine, "room/*", &Start::New);
    let upload = arrive(engine, "room/a", SIZE as u64, &whole().slice(..1000));
    let mut seen = Vec::new();
    drop(named(engine));
    while engine.read(id, 1 << 20, &mut see(&mut seen)).unwrap() {}
    // Of somebody who does not read, what is forgotten is remembered.
    begin(engine, "new/*", &Start::New);
    for n in 0..2000 {
        publish(engine, 1, &format!("new/{n}"), &one(n), None).unwrap();
        if n == 1000 {
            engine.append(upload, whole().slice(1000..65_536)).unwrap();
        }
        if n % 100 == 0 {
            engine.by_use.promote("room/a");
        }
    }
    engine.append(upload, whole().slice(65_536..)).unwrap();
    engine.end(1, upload, Digest::of(&whole())).unwrap();
    drop(named(engine));
    while engine.read(id, 1 << 20, &mut see(&mut seen)).unwrap() {}
    assert_eq!(seen, ["room/a 1"]);
    engine.audit();
}

// The topics that it has read are the least recently used, and are forgotten first.
#[test]
fn topics_that_are_forgotten_end_nobody_who_has_read_all_of_them() {
    let engine = &mut engine(Limits { topics: 1000, ..Limits::default() });
    let all: Vec<_> = (0..1000).map(|n| format!("t/{n:04} 1")).collect();
    for (n, what) in (0..).zip(&all) {
        publish(engine, 1, what.split(' ').next().unwrap(), &one(n), None).unwrap();
    }
    let id = begin(engine, "t/*", &Start::All);
    let (mut seen, mut made) = (Vec::new(), 0);
    while engine.read(id, ReadOptions::from(500), &mut see(&mut seen)).unwrap() {
        while made + 64 < seen.len() {
            made += 1;
            publish(engine, 1, &format!("new/{made}"), &one(0), None).unwrap();
        }
    }
    assert!(made > 900, "{made}");
    assert_eq!(seen, all);
}
