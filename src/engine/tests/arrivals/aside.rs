//! More arrives than a subscription may wait for at once: nobody is held up by that.

use super::*;
use crate::engine::tests::bounds::{fairness::arrive, named};

const SIZE: usize = 66_000;

// The items that a subscription has received.
#[derive(Default)]
struct Seen {
    open: String,
    complete: Vec<String>,
    skipped: Vec<String>,
}

// Reads until that was all.
fn read(
    engine: &mut Engine,
    id: SubscriptionId,
    large: LargePayloads,
    seen: &mut Seen,
) -> Result<(), crate::wire::Refusal> {
    let wanted = ReadOptions { large, ..ReadOptions::from(1 << 20) };
    let mut see = |item: Item<'_>| match item {
        Item::Begin(message) => seen.open = message.topic().to_string(),
        Item::End { .. } => seen.complete.push(std::mem::take(&mut seen.open)),
        Item::Message(message) => {
            seen.complete.push(format!("{} {}", message.topic(), message.sequence()));
        }
        Item::Gap { name, first, last, cause: GapCause::Skipped, .. } if first == last => {
            seen.skipped.push(name.to_string());
        }
        Item::Topic { .. } | Item::Chunk(_) | Item::Abort { code: Code::OVERTAKEN } => {}
        other => panic!("{other:?}"),
    };
    drop(named(engine));
    while engine.read(id, wanted, &mut see)? {
        engine.audit_subscriptions();
    }
    Ok(())
}

fn aside(engine: &Engine, id: SubscriptionId) -> usize {
    engine.subscriptions.get(id).unwrap().aside.len()
}

fn name(n: usize) -> String {
    format!("large/{n:04}")
}

fn payload() -> Bytes {
    vec![1; SIZE].into()
}

// Uploads that have come to all but their end, and what is small after and behind them.
fn arrive_and_publish(engine: &mut Engine, many: usize) -> Vec<UploadId> {
    let small = Bytes::from_static(b"x");
    let uploads = (0..many)
        .map(|n| arrive(engine, &name(n), SIZE as u64, &payload().slice(..65_536)))
        .collect();
    (0..50).for_each(|n| _ = publish(engine, 1, &format!("small/{n}"), &small, None).unwrap());
    (0..many).for_each(|n| _ = publish(engine, 1, &name(n), &small, None).unwrap());
    uploads
}

// Found by a reviewer: 17 slow uploads blocked everything after them, for as long as they liked. With
// large messages in chunks it took 1,025.
#[test]
fn slow_uploads_hold_nobody_up_however_many_they_are() {
    for (large, room) in [
        (LargePayloads::InChunks, true),
        (LargePayloads::WhenComplete, true),
        (LargePayloads::InChunks, false),
        (LargePayloads::WhenComplete, false),
    ] {
        let engine = &mut engine(Limits::default());
        let id = engine.subscribe("**".parse::<Filter>().unwrap(), &Start::New, Lag::Oldest);
        let most = if room { 1024 } else { 64 };
        let many = most + 200;
        let uploads = arrive_and_publish(engine, many);
        // As much as there is goes to others, or nothing does.
        let budget = engine.budget().clone();
        let taken = budget.take(budget.most() - budget.held()).filter(|_| !room);
        let mut seen = Seen::default();
        read(engine, id, large, &mut seen).unwrap();
        assert_eq!(aside(engine, id), most, "as many as it may, {large:?}");
        // The one that is open is followed; the others have waited longest.
        let open = usize::from(large == LargePayloads::InChunks);
        let given_up: Vec<_> = (open..200 + open).map(name).collect();
        assert!(seen.skipped == given_up, "{large:?}: {}..", seen.skipped[0]);
        let mut due: Vec<_> = (0..50).map(|n| format!("small/{n} 1")).collect();
        due.extend(given_up.iter().map(|name| format!("{name} 2")));
        due.sort_unstable();
        seen.complete.sort_unstable();
        assert_eq!(seen.complete, due, "what is small waits for nobody, {large:?}");
        seen.complete.clear();
        drop(taken);
        // From both ends.
        let order = (0..many).map(|n| if n % 2 == 0 { n / 2 } else { many - 1 - n / 2 });
        for (done, n) in order.enumerate() {
            engine.append(uploads[n], payload().slice(65_536..)).unwrap();
            engine.end(1, uploads[n], Digest::of(&payload())).unwrap();
            while engine.run_deferred() {}
            if !named(engine).is_empty() {
                read(engine, id, large, &mut seen).unwrap();
            }
            if done % 64 == 0 {
                engine.audit();
            }
        }
        let kept = (0..many).map(name).filter(|name| !given_up.contains(name));
        let mut due: Vec<_> = kept.clone().map(|name| format!("{name} 2")).collect();
        due.extend(kept.map(|name| if open == 1 { name } else { format!("{name} 1") }));
        due.sort_unstable();
        seen.complete.sort_unstable();
        assert_eq!(seen.complete, due, "each once, {large:?}");
        assert_eq!(seen.skipped.len(), 200, "and nothing more is given up");
        assert_eq!((aside(engine, id), engine.delivered_through(id)), (0, engine.position()));
    }
}

#[test]
fn who_is_to_be_ended_rather_than_to_miss_something_is() {
    let engine = &mut engine(Limits::default());
    let id = engine.subscribe("**".parse::<Filter>().unwrap(), &Start::New, Lag::Disconnect);
    arrive_and_publish(engine, 1025);
    let mut seen = Seen::default();
    let why = read(engine, id, LargePayloads::WhenComplete, &mut seen).unwrap_err();
    assert_eq!((why.code, seen.skipped.len()), (Code::LAGGED, 0), "{why:?}");
    assert!(why.reason.contains("large/0000"), "{why:?}");
}

// A cursor that skips its message is in no list of waiters, because nothing is charged for that.
#[test]
fn a_skipped_message_has_no_waiter() {
    let engine = &mut engine(Limits::default());
    let id = engine.subscribe("**".parse::<Filter>().unwrap(), &Start::New, Lag::Oldest);
    for n in 0..3000 {
        arrive(engine, &name(n), SIZE as u64, &payload().slice(..1));
        read(engine, id, LargePayloads::WhenComplete, &mut Seen::default()).unwrap();
    }
    let topics = engine.topics.iter_mut().flatten();
    let lists = topics.filter_map(|topic| topic.arriving_mut(1));
    let waiting: usize = lists
        .map(|arriving| arriving.chunk_waiters.len() + arriving.completion_waiters.len())
        .sum();
    assert_eq!(waiting, 1024);
}

// Many complete messages wait for an open one, until one more does not fit. That one overtakes the
// open message, which is sent again when it is complete.
#[test]
fn what_is_complete_is_not_given_up() {
    let engine = &mut engine(Limits::default());
    let id = engine.subscribe("**".parse::<Filter>().unwrap(), &Start::New, Lag::Oldest);
    let mut uploads = Vec::new();
    for n in 0..200 {
        uploads.push(arrive(engine, &name(n), SIZE as u64, &payload().slice(..1000)));
    }
    // It is handed out a little at a time, and never stands still.
    let open = arrive(engine, "open", 4 << 20, &payload().slice(..65_536));
    let budget = engine.budget().clone();
    let taken = budget.take(budget.most() - budget.held());
    let mut seen = Seen::default();
    read(engine, id, LargePayloads::InChunks, &mut seen).unwrap();
    for n in (0..200).rev() {
        engine.append(uploads[n], payload().slice(1000..60_000)).unwrap();
        engine.append(uploads[n], payload().slice(60_000..)).unwrap();
        engine.end(1, uploads[n], Digest::of(&payload())).unwrap();
        engine.append(open, payload().slice(..1000)).unwrap();
        read(engine, id, LargePayloads::InChunks, &mut seen).unwrap();
        engine.audit();
    }
    drop(taken);
    assert_eq!(seen.complete.len() + seen.skipped.len(), 200, "{:?}", seen.skipped);
    assert_eq!(seen.skipped.len(), 200 - 63, "beside the one that is open, and one that waits");
}
