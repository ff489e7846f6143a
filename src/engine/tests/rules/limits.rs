//! Rates and sizes.

use super::*;
use crate::engine::tests::peer::{Peer, decode, topic};
use crate::wire::{ClientFrame, DaemonFrame};
use std::num::NonZeroU32;

fn rate(rate: u32) -> NonZeroU32 {
    NonZeroU32::new(rate).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, crate::wire::Refusal>) -> Code {
    result.unwrap_err().code
}

#[test]
fn beyond_its_rate_a_topic_refuses_all_publishers_together() {
    let mut engine = with_rules(small(), [rule("a/*").with_rate(rate(10))]);
    let mut publish_at = |now, topic: &str, producer, number| {
        publish(&mut engine, now, topic, &small_payload(number), Some((producer, number)))
    };
    for number in 1..=5 {
        publish_at(BEGIN, "a/x", 1, number).unwrap();
        publish_at(BEGIN, "a/x", 2, number).unwrap();
    }
    let refused = publish_at(BEGIN, "a/x", 3, 1).unwrap_err();
    assert_eq!((refused.code, refused.code.retry()), (Code::RATE_LIMITED, true));
    assert!(refused.reason.contains("a/x takes 10 messages a second"), "{}", refused.reason);
    // Each topic has a rate of its own, and one that no rule matches has none.
    publish_at(BEGIN, "a/y", 3, 1).unwrap();
    (1..=100).for_each(|number| assert!(publish_at(BEGIN, "b", 3, number).is_ok()));
    // A copy of an accepted publication is answered again, and takes nothing.
    for _ in 0..50 {
        let receipt = publish_at(BEGIN, "a/x", 2, 5).unwrap();
        assert!(receipt.duplicate && receipt.sequence == 10);
    }
    assert_eq!(code(publish_at(BEGIN + 99_999, "a/x", 3, 1)), Code::RATE_LIMITED);
    let receipt = publish_at(BEGIN + 100_000, "a/x", 3, 1).unwrap();
    assert_eq!((receipt.sequence, receipt.duplicate), (11, false));
    assert_eq!(code(publish_at(BEGIN + 100_000, "a/x", 3, 2)), Code::RATE_LIMITED);
}

#[test]
fn what_is_refused_costs_no_sequence_and_what_begins_a_token() {
    let mut engine = ruled(|rule| rule.with_rate(rate(2)));
    let id = upload(&mut engine, BEGIN, 1, 100_000);
    engine.abort(id);
    fill(&mut engine, BEGIN, "a", [1]);
    let request = UploadRequest { topic: "a", size: 100_000, stamp: 0, origin: None };
    assert_eq!(code(engine.begin(BEGIN, &request)), Code::RATE_LIMITED);
    assert_eq!(code(publish(&mut engine, BEGIN, "a", &small_payload(2), None)), Code::RATE_LIMITED);
    let before = engine.position();
    let receipt = publish(&mut engine, BEGIN + SECOND, "a", &small_payload(1), None).unwrap();
    assert_eq!((receipt.sequence, receipt.count, engine.position()), (3, 2, before + 1));
    // Under a key: repeated, it is answered.
    let mut keyed = |now| publish(&mut engine, now, "a", &small_payload(9), Some((7, 0)));
    keyed(BEGIN + SECOND).unwrap();
    assert!(keyed(BEGIN + SECOND).unwrap().duplicate);
}

#[test]
fn payloads_above_the_topic_s_limit_are_refused() {
    let mut engine = ruled(|rule| rule.with_payload(70_000));
    let bytes = |size: usize| Bytes::from(vec![1; size]);
    publish(&mut engine, BEGIN, "a", &bytes(70_000), None).unwrap();
    let refused = publish(&mut engine, BEGIN, "a", &bytes(70_001), None).unwrap_err();
    assert_eq!(refused.code, Code::PAYLOAD_TOO_LARGE);
    assert!(refused.reason.contains("limit of a of 70000 bytes"), "{}", refused.reason);
    publish(&mut engine, BEGIN, "b", &bytes(70_001), None).unwrap();
    let request = UploadRequest { topic: "a", size: 70_001, stamp: 0, origin: None };
    assert_eq!(code(engine.begin(BEGIN, &request)), Code::PAYLOAD_TOO_LARGE);
    let request = UploadRequest { size: 70_000, ..request };
    engine.begin(BEGIN, &request).unwrap();
    // The daemon's own limit holds as well.
    let limits = Limits::default().with_payload(1000);
    let mut engine = with_rules(limits, [rule("a").with_payload(70_000)]);
    assert_eq!(code(publish(&mut engine, BEGIN, "a", &bytes(1001), None)), Code::PAYLOAD_TOO_LARGE);
}

// A small payload may come in chunks as well. It is refused when it begins, before its bytes are held.
#[test]
fn a_peer_is_refused_when_a_payload_begins() {
    let mut engine = ruled(|rule| rule.with_payload(1000));
    let peer = &mut Peer::open(&mut engine, 1);
    peer.say(&mut engine, &topic(1, "a")).unwrap();
    for (size, refused) in [(1001, true), (100_000, true), (1000, false)] {
        let begin = ClientFrame::Begin { alias: 1, number: size, stamp: 0, size };
        peer.say(&mut engine, &begin).unwrap();
        if refused {
            let reply = peer.reply();
            let DaemonFrame::Rejected { code, .. } = decode(&reply) else { panic!("{reply:?}") };
            assert_eq!(code, Code::PAYLOAD_TOO_LARGE);
        } else {
            assert_eq!(peer.replies.next_frame(), Ok(None));
        }
        peer.break_off(&mut engine);
    }
}
