//! The work of requests in one message, and of the end of a session.

use super::{READ, begin, bounded, fill, named};
use crate::engine::subscribe::cursor::Cursor;
use crate::engine::tests::peer::{Peer, decode, subscribe};
use crate::engine::tests::{engine, publish};
use crate::engine::{Engine, LargePayloads, Limits, ReadOptions, SubscriptionId, WORK};
use crate::wire::{ClientFrame, DaemonFrame, Start};
use allocation_counter::measure;
use bytes::Bytes;

// Returns the number of allocations that a call frees. None of them takes long.
fn frees(call: impl FnOnce()) -> i64 {
    -measure(call).count_current
}

#[test]
fn of_the_highest_counts_a_hundred_are_looked_at_and_few_are_answered_at_once() {
    let engine = &mut engine(Limits::default());
    let payload = |n: u32| Bytes::from([n.to_le_bytes(); 10].concat());
    for n in 0..20_000 {
        publish(engine, 1, "a", &payload(n % 5000), None).unwrap();
    }
    let mut peer = Peer::open(engine, 1);
    let (mut locks, mut request, mut of_one) = (0, 0, 0);
    while request < 256 {
        engine.begin_work();
        while request < 256 && !engine.is_work_spent() {
            let before = engine.work;
            peer.say(engine, &ClientFrame::Top { request, topic: "a", k: u32::MAX }).unwrap();
            let reply = peer.reply();
            let DaemonFrame::Top { entries, .. } = decode(&reply) else { panic!("{reply:?}") };
            assert_eq!(entries.len(), 100);
            assert!(entries.iter().all(|entry| entry.count == 4 && entry.payload.is_some()));
            of_one = engine.work - before;
            request += 1;
        }
        assert!(engine.work < WORK + of_one, "{}", engine.work);
        locks += 1;
    }
    assert!(of_one >= 16 * 100, "{of_one} units for 100 payloads");
    assert_eq!(locks, 256_usize.div_ceil(WORK.div_ceil(of_one)));
    // However many payloads there are, it takes what it takes for 100.
    for n in 0..100 {
        publish(engine, 1, "b", &payload(n), None).unwrap();
    }
    for (k, most) in [(100, of_one), (1, of_one / 50)] {
        engine.begin_work();
        peer.say(engine, &ClientFrame::Top { request, topic: "b", k }).unwrap();
        peer.reply();
        assert!(engine.work <= most, "{} for {k}", engine.work);
        request += 1;
    }
}

#[test]
fn a_session_whose_subscriptions_have_full_windows_ends_at_once() {
    let engine = &mut engine(Limits::default());
    fill(engine, engine.portions.window + 1000);
    let many = 64;
    let mut peer = Peer::open(engine, 1);
    for request in 0..many {
        peer.say(engine, &subscribe(request, "**", Start::All)).unwrap();
        peer.reply();
    }
    let little = ReadOptions { budget: 1, ..READ };
    for id in named(engine) {
        while engine.is_sweeping(id) || window(engine, id) == 0 {
            bounded(engine, |engine| engine.read(id, little, &mut |_| ()).unwrap());
        }
        assert!(window(engine, id) > engine.portions.window - 64, "{}", window(engine, id));
    }
    let held = engine.budget().held();
    assert!(held > many as usize * (engine.portions.window - 64) * size_of::<Cursor>());
    let freed = frees(|| {
        bounded(engine, |engine| assert_eq!(peer.session.close(engine), many as usize));
    });
    assert!(freed <= 8 * i64::from(many), "{freed} pieces for {many} windows");
    drop(peer);
    assert_eq!((engine.subscriptions(), engine.budget().held()), (0, 0));
    engine.audit();
}

fn window(engine: &Engine, id: SubscriptionId) -> usize {
    engine.subscriptions.get(id).unwrap().window.len()
}

// They are remembered in a tree, in small pieces.
#[test]
fn one_that_was_told_of_many_topics_ends_in_portions() {
    let engine = &mut engine(Limits::default());
    fill(engine, super::TOPICS);
    let id = begin(engine, "**", &Start::All);
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    while engine.read(id, apart, &mut |_| ()).unwrap() {}
    let freed = frees(|| engine.unsubscribe(id));
    assert!(freed <= 64, "{freed} pieces in one call");
    let mut portions = 0;
    while engine.has_deferred() {
        engine.begin_work();
        let freed = frees(|| _ = engine.run_deferred());
        assert!(engine.work <= WORK && freed <= 1024, "{freed} pieces");
        portions += 1;
    }
    assert!(portions > 0);
    engine.audit();
}
