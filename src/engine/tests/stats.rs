//! How far a subscription is behind, and what it has missed.

use super::{engine, publish, small};
use crate::engine::{
    Engine, Limits, ReadOptions, Skips, SubscriptionId, SubscriptionStats, UploadRequest,
};
use crate::wire::{Filter, Lag, Start};
use bytes::Bytes;

fn stats(engine: &Engine, id: SubscriptionId) -> SubscriptionStats {
    engine.subscription_stats(id).unwrap()
}

fn backlog(engine: &Engine, id: SubscriptionId) -> (u64, u64, bool) {
    let SubscriptionStats { messages, bytes, exact, .. } = stats(engine, id);
    (messages, bytes, exact)
}

fn subscribe(engine: &mut Engine, filter: &str, lag: Lag) -> SubscriptionId {
    engine.subscribe(Filter::new(filter).unwrap(), &Start::New, lag)
}

fn publish_many(engine: &mut Engine, topic: &str, messages: u32, size: usize) {
    for n in 0..messages {
        let mut payload = vec![1; size];
        payload[..4].copy_from_slice(&n.to_le_bytes());
        publish(engine, 1, topic, &payload.into(), None).unwrap();
    }
}

fn read_all(engine: &mut Engine, id: SubscriptionId, options: ReadOptions) {
    while engine.read(id, options, &mut |_| ()).unwrap() {}
}

#[test]
fn of_one_topic_the_number_is_exact() {
    let mut engine = engine(Limits::default());
    let id = subscribe(&mut engine, "a", Lag::Oldest);
    assert_eq!(backlog(&engine, id), (0, 0, true));
    publish_many(&mut engine, "a", 100, 500);
    publish_many(&mut engine, "b", 100, 500);
    assert_eq!(backlog(&engine, id), (100, 50_000, true));
    // A read of one message, and the announcement of its topic.
    assert_eq!(engine.read(id, 1, &mut |_| ()), Ok(true));
    assert_eq!(backlog(&engine, id), (99, 49_500, true));
    publish_many(&mut engine, "a", 1, 500);
    assert_eq!(backlog(&engine, id), (100, 50_000, true));
    read_all(&mut engine, id, 1000.into());
    assert_eq!((backlog(&engine, id), stats(&engine, id).skips.total()), ((0, 0, true), 0));
    assert_eq!(stats(&engine, id).filter, "a");
    engine.unsubscribe(id);
    assert_eq!(engine.subscription_stats(id), None);
}

#[test]
fn of_a_wildcard_it_is_an_upper_limit_until_the_topics_are_known() {
    let mut engine = engine(Limits::default());
    let id = subscribe(&mut engine, "a/*", Lag::Oldest);
    publish_many(&mut engine, "a/1", 10, 100);
    publish_many(&mut engine, "b", 5, 100);
    assert_eq!(backlog(&engine, id), (15, 1500, false));
    // The first read finds out.
    assert_eq!(engine.read(id, 1, &mut |_| ()), Ok(true));
    assert_eq!(engine.read(id, 1, &mut |_| ()), Ok(true));
    let (messages, bytes, exact) = backlog(&engine, id);
    assert!(messages == 8 && bytes == 800 && exact, "{messages} {bytes} {exact}");
    publish_many(&mut engine, "a/2", 1000, 100);
    let (messages, _, exact) = backlog(&engine, id);
    assert!((1008..=1015).contains(&messages) && !exact, "{messages}");
    read_all(&mut engine, id, 1000.into());
    assert_eq!(backlog(&engine, id), (0, 0, true));
}

#[test]
fn of_many_topics_some_are_looked_at() {
    let mut engine = engine(Limits::default());
    let live = subscribe(&mut engine, "a/*", Lag::Oldest);
    for n in 0..100 {
        publish_many(&mut engine, &format!("a/{n}"), 10, 100);
    }
    let late = engine.subscribe(Filter::new("a/*").unwrap(), &Start::All, Lag::Oldest);
    let (messages, bytes, exact) = backlog(&engine, late);
    assert!(messages == 1000 && bytes > 100_000 && !exact, "{messages} {bytes}");
    assert_eq!(engine.read(live, 1, &mut |_| ()), Ok(true));
    let (messages, bytes, exact) = backlog(&engine, live);
    assert!((980..=1000).contains(&messages) && !exact, "{messages}");
    assert!((98_000..=100_000).contains(&bytes), "{bytes}");
    for id in [live, late] {
        read_all(&mut engine, id, 1000.into());
        assert_eq!(backlog(&engine, id), (0, 0, true));
    }
}

#[test]
fn skips_are_counted_by_their_causes() {
    let mut engine = engine(small());
    let ids = [Lag::Oldest, Lag::Newest].map(|lag| subscribe(&mut engine, "a", lag));
    let late = subscribe(&mut engine, "a", Lag::Oldest);
    publish_many(&mut engine, "a", 1000, 5000);
    let evicted = 1000 - engine.topic(engine.slot("a").unwrap()).unwrap().messages();
    assert!(evicted > 500);
    ids.into_iter().for_each(|id| read_all(&mut engine, id, 10_000.into()));
    let none = Skips::default();
    assert_eq!(stats(&engine, ids[0]).skips, Skips { evicted, ..none });
    assert_eq!(stats(&engine, ids[1]).skips, Skips { skipped: 999, ..none });
    // All messages were accepted at 1.
    read_all(&mut engine, late, ReadOptions { accepted_since: 2, ..10_000.into() });
    assert_eq!(stats(&engine, late).skips, Skips { evicted, late: 1000 - evicted, ..none });
    let request = UploadRequest { topic: "a", size: 100_000, stamp: 0, origin: None };
    let crate::engine::BeginOutcome::Arriving(upload) = engine.begin(2, &request).unwrap() else {
        panic!("a duplicate");
    };
    engine.append(upload, Bytes::from(vec![1; 1000])).unwrap();
    engine.abort(upload);
    read_all(&mut engine, ids[0], 10_000.into());
    assert_eq!(stats(&engine, ids[0]).skips, Skips { evicted, aborted: 1, ..none });
    assert_eq!(stats(&engine, ids[0]).skips.total(), evicted + 1);
}
