//! The list of topics.

use super::{engine, publish};
use crate::engine::{Engine, Limits, TopicStats};
use crate::wire::{Filter, Lag, Start};

const NOW: u64 = 1_700_000_000_000_000;

fn subscribe(engine: &mut Engine, filter: &str) {
    engine.subscribe(Filter::new(filter).unwrap(), &Start::New, Lag::Oldest);
}

// Returns all topics, and the number of portions in which they came.
fn list(engine: &Engine) -> (Vec<TopicStats>, usize) {
    let (mut all, mut portions) = (Vec::new(), 0);
    loop {
        let before = all.len();
        let after: Option<std::sync::Arc<str>> =
            all.last().map(|topic: &TopicStats| topic.name.clone());
        engine.list_topics(NOW, after.as_deref(), &mut all);
        if all.len() == before {
            return (all, portions);
        }
        portions += 1;
    }
}

#[test]
fn every_topic_is_listed_once_in_the_order_of_names() {
    let mut engine = engine(Limits::default());
    for n in 0..200 {
        for payload in ["x", "y", "x"] {
            publish(&mut engine, NOW, &format!("t/{n:03}"), &payload.into(), None).unwrap();
        }
    }
    subscribe(&mut engine, "t/*");
    subscribe(&mut engine, "**");
    subscribe(&mut engine, "t/007");
    let (all, portions) = list(&engine);
    assert_eq!((all.len(), portions), (200, 4));
    for (n, topic) in all.iter().enumerate() {
        assert_eq!(*topic.name, format!("t/{n:03}"));
        assert_eq!((topic.newest, topic.cached_messages, topic.payloads), (3, 3, 2));
        assert_eq!((topic.subscriptions, topic.exact), (if n == 7 { 3 } else { 2 }, true));
        assert!(topic.bytes > 1000);
        assert_eq!((topic.messages_per_second, topic.bytes_per_second), (0.6, 0.6));
    }
}

// A topic of 16 segments may match 65,536 filters. A portion that looked at all of them would hold the
// lock for milliseconds.
#[test]
fn a_topic_that_many_filters_match_takes_a_portion_of_its_own_and_is_not_exact() {
    let mut engine = engine(Limits::default());
    for turns in 0..4096 {
        let segment = |depth| if turns >> depth & 1 == 1 { "*" } else { "a" };
        let filter: Vec<_> = (0..12).map(segment).collect();
        subscribe(&mut engine, &filter.join("/"));
    }
    let many = ["a"; 12].join("/");
    for topic in ["a", many.as_str(), "b"] {
        publish(&mut engine, NOW, topic, &"x".into(), None).unwrap();
    }
    let (all, portions) = list(&engine);
    let found: Vec<_> = all.iter().map(|topic| (&*topic.name, topic.exact)).collect();
    assert_eq!(found, [("a", true), (&many, false), ("b", true)]);
    assert!(all[1].subscriptions > 500 && all[1].subscriptions < 2048, "{}", all[1].subscriptions);
    assert_eq!((all[0].subscriptions, all[2].subscriptions, portions), (0, 0, 3));
}
