//! The daemon's own topics, below `$weir`: nobody else publishes to them, and only a filter that names
//! them reads them.

use super::{engine, publish, small};
use crate::engine::{Item, Payload, Publication, UploadRequest};
use crate::wire::{Code, Digest, Filter, Lag, Start, Which};
use bytes::Bytes;

const TOPIC: &str = "$weir/stats";

fn own(engine: &mut crate::engine::Engine, n: u32) {
    let payload = Bytes::copy_from_slice(&n.to_le_bytes());
    let (digest, payload) = (Digest::of(&payload), Payload::from(payload));
    let own = Publication { topic: TOPIC, payload: &payload, digest, stamp: 0, origin: None };
    engine.publish_own(7, &own).unwrap();
}

#[test]
fn nobody_else_publishes_to_them() {
    let mut engine = engine(small());
    let hello = Bytes::from_static(b"hello");
    // Before it is there, and then.
    for is_there in [false, true] {
        assert_eq!(engine.get(TOPIC, Which::Latest).is_ok(), is_there);
        let refused = publish(&mut engine, 7, TOPIC, &hello, None).unwrap_err();
        assert_eq!(refused.code, Code::RESERVED);
        let request = UploadRequest { topic: TOPIC, size: 100_000, stamp: 0, origin: None };
        assert!(engine.begin(7, &request).is_err());
        own(&mut engine, 1);
    }
}

#[test]
fn they_are_read_by_a_filter_that_names_them_and_the_last_minute_is_kept() {
    let mut engine = engine(small());
    assert!(!engine.is_subscribed(TOPIC));
    let all = engine.subscribe(Filter::new("**").unwrap(), &Start::All, Lag::Oldest);
    assert!(!engine.is_subscribed(TOPIC));
    (0..100).for_each(|n| own(&mut engine, n));
    let named = engine.subscribe(Filter::new("$weir/*").unwrap(), &Start::All, Lag::Oldest);
    assert!(engine.is_subscribed(TOPIC) && !engine.is_subscribed("$weir"));
    for (id, expected) in [(all, 0), (named, 60)] {
        let mut messages = 0;
        let mut count = |item: Item<'_>| messages += u32::from(matches!(item, Item::Message(_)));
        while engine.read(id, 1 << 20, &mut count).unwrap() {}
        assert_eq!(messages, expected);
        engine.unsubscribe(id);
    }
    assert!(!engine.is_subscribed(TOPIC));
}

#[test]
fn they_are_restored_like_others() {
    let mut before = engine(small());
    before.make_records();
    (0..3).for_each(|n| own(&mut before, n));
    let mut records = Vec::new();
    before.take_records(&mut records);
    let mut after = engine(small());
    after.begin_restoring();
    for (number, record) in (1..).zip(&records) {
        assert!(after.restore(number, record));
    }
    after.end_restoring();
    assert_eq!(after.get(TOPIC, Which::Latest).unwrap().sequence(), 3);
    assert_eq!(after.head(TOPIC), before.head(TOPIC));
}
