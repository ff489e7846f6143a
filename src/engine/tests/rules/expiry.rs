//! Messages whose time has passed.

use super::*;

#[test]
fn nobody_gets_what_has_expired_whether_or_not_it_was_dropped() {
    for lag in [Lag::Oldest, Lag::Newest, Lag::Disconnect] {
        for drops in [false, true] {
            let mut engine = ruled(|rule| rule.with_ttl(seconds(10)));
            let live = begin(&mut engine, &Start::New, lag);
            fill(&mut engine, BEGIN, "a", 1..=3);
            let later = BEGIN + 5 * SECOND;
            fill(&mut engine, later, "a", 4..=5);
            let now = BEGIN + 10 * SECOND;
            engine.tell_time(now - 1);
            assert_eq!(get(&mut engine, Which::Sequence(1)), Ok(1));
            assert_eq!(replay(&mut engine, &Start::All).len(), 5);
            engine.tell_time(now);
            if drops {
                sweep(&mut engine, now);
            }
            assert_eq!(get(&mut engine, Which::Sequence(1)), Err(Code::EVICTED));
            assert_eq!(get(&mut engine, Which::Latest), Ok(5));
            assert!(get(&mut engine, Which::Digest(digest(3))).is_err());
            assert_eq!(replay(&mut engine, &Start::All), ["4", "5"]);
            assert_eq!(replay(&mut engine, &Start::Last(4)), ["4", "5"]);
            assert_eq!(replay(&mut engine, &Start::Sequence(2)), ["Expired 2-3", "4", "5"]);
            // A subscription that must not lag has not lagged: nobody would have got these.
            assert_eq!(read(&mut engine, live), ["Expired 1-3", "4", "5"], "{lag:?} {drops}");
            let skips = engine.subscription_stats(live).unwrap().skips;
            assert_eq!((skips.expired, skips.total()), (3, 3));
            engine.tell_time(now + 5 * SECOND);
            if drops {
                sweep(&mut engine, now + 5 * SECOND);
            }
            for which in [Which::Latest, Which::Sequence(5), Which::Digest(digest(5))] {
                assert_eq!(get(&mut engine, which), Err(Code::EVICTED));
            }
            for start in [Start::All, Start::Latest, Start::Last(2)] {
                assert_eq!(replay(&mut engine, &start), [""; 0]);
            }
            assert!(engine.top("a", 9).unwrap().iter().all(|ranked| ranked.payload.is_none()));
            assert!(!repair(&mut engine, live, 1, 5).concat().contains("Evicted"));
            let next = publish(&mut engine, now + 5 * SECOND, "a", &small_payload(1), None);
            assert_eq!(next.map(|receipt| (receipt.sequence, receipt.count)), Ok((6, 2)));
            assert_eq!(read(&mut engine, live), ["6"]);
        }
    }
}

#[test]
fn a_late_message_that_has_expired_is_told_as_expired() {
    let mut engine = ruled(|rule| rule.with_ttl(seconds(10)));
    let id = begin(&mut engine, &Start::New, Lag::Oldest);
    fill(&mut engine, BEGIN, "a", 1..=2);
    fill(&mut engine, BEGIN + 5 * SECOND, "a", 3..=4);
    fill(&mut engine, BEGIN + 9 * SECOND, "a", 5..=5);
    engine.tell_time(BEGIN + 10 * SECOND);
    let accepted_since = BEGIN + 8 * SECOND;
    let options = ReadOptions { accepted_since, ..(1 << 20).into() };
    let mut seen = Vec::new();
    let sink = &mut |item: Item<'_>| match item {
        Item::Gap { first, last, cause, .. } => seen.push(format!("{cause:?} {first}-{last}")),
        Item::Message(message) => seen.push(message.sequence().to_string()),
        _ => {}
    };
    while engine.read(id, options, sink).unwrap() {}
    assert_eq!(seen, ["Expired 1-2", "Late 3-4", "5"]);
}

#[test]
fn a_large_message_that_is_read_while_it_expires_is_read_to_its_end_or_told() {
    for drops in [false, true] {
        let mut engine = ruled(|rule| rule.with_ttl(seconds(10)));
        let id = begin(&mut engine, &Start::New, Lag::Oldest);
        let begun = upload(&mut engine, BEGIN, 1, 100_000);
        engine.append(begun, large(1).slice(..60_000)).unwrap();
        // It takes longer than a message may live. Its time begins when it is complete.
        let now = BEGIN + 60 * SECOND;
        sweep(&mut engine, now);
        assert_eq!(read_as(&mut engine, id, LargePayloads::InChunks), ["begin 1"]);
        engine.append(begun, large(1).slice(60_000..)).unwrap();
        engine.end(now, begun, Digest::of(&large(1))).unwrap();
        engine.tell_time(now + 9 * SECOND);
        assert_eq!(get(&mut engine, Which::Latest), Ok(1));
        let now = now + 10 * SECOND;
        engine.tell_time(now);
        if drops {
            sweep(&mut engine, now);
        }
        let expected = if drops { vec!["evicted", "Expired 1-1"] } else { vec!["end"] };
        assert_eq!(read_as(&mut engine, id, LargePayloads::InChunks), expected);
        assert_eq!(engine.follow(1, 1), Err(crate::wire::GapCause::Expired));
    }
}

// While the oldest message still arrives, those after it stay in memory. They expire in time all the
// same.
#[test]
fn behind_an_upload_messages_expire_too() {
    let mut engine = ruled(|rule| rule.with_ttl(seconds(10)));
    let live = begin(&mut engine, &Start::New, Lag::Oldest);
    let id = upload(&mut engine, BEGIN, 1, 100_000);
    fill(&mut engine, BEGIN, "a", 1..=3);
    fill(&mut engine, BEGIN + 5 * SECOND, "a", 4..=4);
    let now = BEGIN + 10 * SECOND;
    sweep(&mut engine, now);
    assert_eq!(engine.topic(0).unwrap().messages(), 5);
    assert_eq!(get(&mut engine, Which::Sequence(2)), Err(Code::EVICTED));
    send(&mut engine, id, &large(1));
    engine.end(now, id, Digest::of(&large(1))).unwrap();
    assert_eq!(read(&mut engine, live), ["1", "Expired 2-4", "5"]);
    // The order in which they leave is that of their sequences.
    sweep(&mut engine, now + 9 * SECOND);
    assert_eq!(engine.topic(0).unwrap().messages(), 5);
    assert_eq!(replay(&mut engine, &Start::All)[0], "1");
    sweep(&mut engine, now + 10 * SECOND);
    assert_eq!(engine.topic(0).unwrap().messages(), 0);
}

#[test]
fn both_rules_together() {
    let mut engine = ruled(|rule| rule.with_keep(newest(3)).with_ttl(seconds(10)));
    let live = begin(&mut engine, &Start::New, Lag::Oldest);
    fill(&mut engine, BEGIN, "a", 1..=5);
    fill(&mut engine, BEGIN + 9 * SECOND, "a", 6..=7);
    sweep(&mut engine, BEGIN + 9 * SECOND);
    assert_eq!(replay(&mut engine, &Start::All), ["5", "6", "7"]);
    // Of the first four it is known that they have been replaced, and then that they have expired.
    assert_eq!(replay(&mut engine, &Start::Sequence(3)), ["Evicted 3-4", "5", "6", "7"]);
    sweep(&mut engine, BEGIN + 10 * SECOND);
    assert_eq!(replay(&mut engine, &Start::All), ["6", "7"]);
    assert_eq!(read(&mut engine, live), ["Expired 1-5", "6", "7"]);
}

#[test]
fn a_clock_that_is_set_changes_what_expires_and_breaks_nothing() {
    let mut engine = ruled(|rule| rule.with_keep(newest(5)).with_ttl(seconds(10)));
    let live = begin(&mut engine, &Start::New, Lag::Oldest);
    // An hour ahead, then back.
    fill(&mut engine, BEGIN + 3600 * SECOND, "a", 1..=2);
    fill(&mut engine, BEGIN, "a", 3..=4);
    sweep(&mut engine, BEGIN + 20 * SECOND);
    assert_eq!(read(&mut engine, live), ["1", "2", "Expired 3-4"]);
    fill(&mut engine, BEGIN + 20 * SECOND, "a", 5..=9);
    assert_eq!(read(&mut engine, live), ["5", "6", "7", "8", "9"]);
    assert_eq!(replay(&mut engine, &Start::All), ["5", "6", "7", "8", "9"]);
    engine.tell_time(0);
    assert_eq!(replay(&mut engine, &Start::All), ["5", "6", "7", "8", "9"]);
    sweep(&mut engine, u64::MAX);
    assert_eq!(replay(&mut engine, &Start::All), [""; 0]);
    assert!(engine.topic(0).unwrap().is_empty());
}
