//! The costs of rules: memory, and work under the lock.

use super::*;
use crate::engine::topic_rules::MAX_TOPIC_RULES;

fn topic_bytes(engine: &Engine) -> usize {
    engine.topic(0).unwrap().cost()
}

#[test]
fn what_is_dropped_at_once_is_dropped_in_portions() {
    let mut engine = ruled(|rule| rule.with_ttl(seconds(10)));
    fill(&mut engine, BEGIN, "a", 1..=20_000);
    let mut calls = 0;
    loop {
        let before = engine.topic(0).unwrap().messages();
        engine.begin_work();
        let more = engine.expire(BEGIN + 10 * SECOND);
        let dropped = before - engine.topic(0).unwrap().messages();
        assert!(dropped <= engine.portions.evictions as u64, "{dropped}");
        assert!(engine.work <= engine.portions.evictions + 1, "{}", engine.work);
        calls += 1;
        if !more {
            break;
        }
    }
    assert!((39..60).contains(&calls), "{calls}");
    assert_eq!(engine.topic(0).unwrap().messages(), 0);
    engine.audit();
}

#[test]
fn a_busy_topic_drops_as_it_goes() {
    let mut engine = ruled(|rule| rule.with_keep(Keep::None));
    // A thousand a second, and nobody calls `expire`.
    for n in 0..60_000 {
        engine.begin_work();
        fill(&mut engine, BEGIN + n * 1000, "a", [n]);
        assert!(engine.work <= 16, "{}", engine.work);
        assert!(engine.topic(0).unwrap().messages() <= 5002);
    }
    engine.audit();
}

#[test]
fn of_what_is_not_kept_an_eighth_of_the_cache_is_held() {
    for keep in [Keep::None, Keep::LATEST] {
        let limits = Limits::default().with_cache(64 << 20).with_payload(8 << 20);
        let mut engine = with_rules(limits, [rule("a").with_keep(keep)]);
        let most = limits.cache / 8;
        // Small ones: 2 KiB each for the charge of what is around them.
        for n in 0..40_000 {
            fill(&mut engine, BEGIN, "a", [n]);
            assert!(topic_bytes(&engine) <= 2 * most);
        }
        for n in 0..20 {
            let payload = Bytes::from(vec![n; 3 << 20]);
            publish(&mut engine, BEGIN, "a", &payload, None).unwrap();
            // It drops a few of the small ones by itself.
            sweep(&mut engine, BEGIN);
            assert!(topic_bytes(&engine) <= 2 * most, "{}", topic_bytes(&engine));
        }
        // The newest is there in any case, so that those who are there can read it.
        let live = begin(&mut engine, &Start::New, Lag::Oldest);
        publish(&mut engine, BEGIN, "a", &Bytes::from(vec![99; 8 << 20]), None).unwrap();
        assert_eq!(read(&mut engine, live).len(), 1);
        sweep(&mut engine, BEGIN + 20 * SECOND);
        let left = engine.topic(0).unwrap().messages();
        assert_eq!(left, u64::from(keep != Keep::None));
    }
}

#[test]
fn forgotten_topics_are_not_looked_at_again() {
    let limits = Limits { topics: 10, ..small() };
    let mut engine = with_rules(limits, [rule("**").with_ttl(seconds(1_000_000))]);
    for n in 0..1000 {
        fill(&mut engine, BEGIN, &format!("t/{n}"), [1]);
        assert!(engine.schedule.len() <= 10);
    }
    sweep(&mut engine, BEGIN + 1_000_000 * SECOND);
    assert!(engine.schedule.is_empty());
}

#[test]
fn a_topic_is_compared_with_all_rules_once() {
    let rules = (0..MAX_TOPIC_RULES).map(|n| rule(&format!("no/{n}/*/**")));
    let mut engine = with_rules(Limits::default(), rules);
    engine.begin_work();
    fill(&mut engine, BEGIN, "a", [1]);
    let first = engine.work;
    engine.begin_work();
    fill(&mut engine, BEGIN, "a", [2]);
    assert_eq!((first - engine.work, engine.work), (MAX_TOPIC_RULES / 4, 1));
}
