//! The share of the cache that a small topic keeps beside large payloads and thousands of tiny
//! topics.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use weir::engine::{Engine, Item, Limits, Publication};
use weir::wire::{Digest, Filter, Lag, Start};

fn publish(engine: &mut Engine, topic: &str, number: u64, size: usize) {
    let mut payload = vec![0; size];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let payload = Bytes::from(payload);
    let digest = Digest::of(&payload);
    let publication =
        Publication { topic, payload: &payload.into(), digest, stamp: 0, origin: None };
    engine.publish(1, &publication).unwrap();
}

/// Returns the number of the topic's messages in the cache.
fn cached(engine: &mut Engine, topic: &str) -> u64 {
    let id = engine.subscribe(Filter::new(topic).unwrap(), &Start::All, Lag::Oldest);
    let mut messages = 0;
    let sink = &mut |item: Item<'_>| messages += u64::from(matches!(item, Item::Message(_)));
    while engine.read(id, 1 << 20, sink).unwrap() {}
    engine.unsubscribe(id);
    messages
}

// A reader that was 50 ms behind a topic of 100 small messages a second got gaps in the siege.
// Eight topics, each with one message of 2 MiB, and the memory of peers had taken the whole cache.
#[test]
fn a_small_topic_stays_beside_large_payloads_and_many_topics() {
    let mut limits = Limits::default().with_cache(32 << 20).with_payload(4 << 20);
    limits.topics = 4096;
    let mut engine = Engine::new(limits, 1, [7; 32]);
    let held = engine.budget().take(8 << 20).unwrap();
    let mut least = u64::MAX;
    for n in 1..=10_000_u64 {
        publish(&mut engine, "honest", n, 200);
        publish(&mut engine, &format!("tiny/{n}"), n, 8);
        if n % 50 == 0 {
            publish(&mut engine, &format!("large/{}", n / 50 % 8), n, 2 << 20);
        }
        while engine.run_deferred() {}
        // From here on the cache is full, and its content is steady.
        if n > 5000 && n % 50 == 0 {
            least = least.min(cached(&mut engine, "honest"));
        }
    }
    println!("at least {least} messages of 200 bytes were cached of {} topics", engine.topics());
    drop(held);
    // Messages of 2 s, which take a hundredth of the cache.
    assert!(least >= 200, "{least}");
}
