//! More arrives than a subscription may wait for at once.

use super::*;
use crate::engine::tests::bounds::fairness::arrive;

const SIZE: usize = 66_000;

// Reads until that was all, and notes the topic of each message that was complete.
fn read(
    engine: &mut Engine,
    id: SubscriptionId,
    large: Large,
    (open, seen): (&mut String, &mut Vec<String>),
) {
    let wanted = Wanted { large, ..Wanted::from(1 << 20) };
    let mut see = |item: Item<'_>| match item {
        Item::Begin(message) => *open = message.topic().to_string(),
        Item::End { .. } => seen.push(std::mem::take(open)),
        Item::Message(message) => seen.push(message.topic().to_string()),
        Item::Topic { .. } | Item::Chunk(_) | Item::Abort { code: Code::OVERTAKEN } => {}
        other => panic!("{other:?}"),
    };
    while engine.read(id, wanted, &mut see).unwrap() {}
}

#[test]
fn a_subscription_waits_in_so_many_topics_at_most_and_misses_nothing() {
    for (large, most) in [(Large::Pieces, 1024), (Large::Whole, 16)] {
        let engine = &mut engine(Limits::default());
        let id = engine.subscribe("**".parse::<Filter>().unwrap(), &Start::New, Lag::Oldest);
        let many = most + 200;
        let payload = Bytes::from(vec![1; SIZE]);
        let digest = Digest::of(&payload);
        let name = |n: usize| format!("large/{n}");
        let uploads: Vec<_> = (0..many)
            .map(|n| arrive(engine, &name(n), SIZE as u64, &payload.slice(..65_536)))
            .collect();
        for n in 0..50 {
            let small = Bytes::from_static(b"x");
            publish(engine, 1, &format!("small/{n}"), &small, None).unwrap();
        }
        let (mut open, mut seen, mut named) = (String::new(), Vec::new(), Vec::new());
        let aside = |engine: &Engine| engine.subscriptions.get(id).unwrap().aside.len();
        read(engine, id, large, (&mut open, &mut seen));
        assert_eq!(aside(engine), most, "as many as it may, {large:?}");
        assert!(seen.is_empty(), "what is small comes after them: {seen:?}");
        // From both ends: those it waits for, and those it has not come to.
        let order = (0..many).map(|n| if n % 2 == 0 { n / 2 } else { many - 1 - n / 2 });
        for (done, n) in order.enumerate() {
            engine.append(uploads[n], payload.slice(65_536..)).unwrap();
            engine.end(1, uploads[n], digest).unwrap();
            while engine.tend() {}
            named.clear();
            engine.take_wakes(&mut named);
            if !named.is_empty() {
                read(engine, id, large, (&mut open, &mut seen));
            }
            assert!(aside(engine) <= most, "{} after {done}", aside(engine));
            assert!(
                done % 64 > 0 || {
                    engine.audit();
                    true
                }
            );
        }
        let mut due: Vec<_> = (0..many).map(name).collect();
        due.extend((0..50).map(|n| format!("small/{n}")));
        due.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, due, "each once, {large:?}");
        assert_eq!((aside(engine), engine.had(id)), (0, engine.position()));
    }
}
