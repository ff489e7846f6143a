//! The memory that a publication allocates: the frame, and nothing else for long.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use allocation_counter::measure;
use bytes::Bytes;
use weir::engine::{
    BeginOutcome, Engine, Item, LargePayloads, Limits, Payload, Publication, ReadOptions,
    UploadRequest,
};
use weir::wire::{CHUNK, Code, Digest, Filter, Lag, Start, Which};

const MESSAGES: u32 = 10_000;

fn payload(n: u32) -> Payload {
    let mut bytes = [7; 100];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Bytes::copy_from_slice(&bytes).into()
}

fn publish(engine: &mut Engine, payload: &Payload) {
    let publication =
        Publication { topic: "a/b", payload, digest: payload.digest(), stamp: 0, origin: None };
    engine.publish(1, &publication).unwrap();
}

/// Returns the mean number of allocations of a publication.
fn allocations(payloads: &[Payload], mut publish: impl FnMut(&Payload)) -> f64 {
    let counted = measure(|| payloads.iter().for_each(&mut publish));
    counted.count_total as f64 / payloads.len() as f64
}

#[test]
fn a_publication_allocates_its_frame_only() {
    let mut engine = Engine::new(Limits::default().with_cache(4 << 20), 1, [7; 32]);
    let distinct: Vec<_> = (0..MESSAGES).map(payload).collect();
    let growing = allocations(&distinct, |payload| publish(&mut engine, payload));
    // The cache is full by now, and its tables have their final size.
    (MESSAGES..6 * MESSAGES).for_each(|n| publish(&mut engine, &payload(n)));
    let distinct: Vec<_> = (6 * MESSAGES..7 * MESSAGES).map(payload).collect();
    let full = allocations(&distinct, |payload| publish(&mut engine, payload));
    let same = vec![payload(0); MESSAGES as usize];
    let repeated = allocations(&same, |payload| publish(&mut engine, payload));
    println!("allocations a publication: growing {growing}, full {full}, repeated {repeated}");
    // A piece of the log for every 32 messages, and the tables of payloads. There are many tables,
    // so that none takes long to grow or to shrink.
    let bound = 1.0 + 1.0 / 32.0;
    assert!(growing <= bound + 0.06 && full <= bound + 0.001 && repeated <= bound + 0.01);
}

#[test]
fn a_delivery_allocates_nothing() {
    let mut engine = Engine::new(Limits::default().with_cache(4 << 20), 1, [7; 32]);
    for filter in ["a/b", "a/*", "**"] {
        engine.subscribe(Filter::new(filter).unwrap(), &Start::New, Lag::Oldest);
    }
    let mut named = Vec::new();
    let mut delivered = 0;
    let mut step = |payload: &Payload| {
        publish(&mut engine, payload);
        engine.take_wakes(&mut named);
        for id in named.drain(..) {
            while engine.read(id, 4096, &mut |_| delivered += 1).unwrap() {}
        }
    };
    (0..6 * MESSAGES).for_each(|n| step(&payload(n)));
    let distinct: Vec<_> = (6 * MESSAGES..7 * MESSAGES).map(payload).collect();
    let counted = allocations(&distinct, &mut step);
    println!("allocations a publication and three deliveries: {counted}");
    assert!(counted <= 1.0 + 1.0 / 32.0 + 0.001);
    assert!(delivered >= 3 * 7 * MESSAGES);
}

#[test]
fn keys_take_at_most_the_memory_charged_for_them() {
    let mut engine = Engine::new(Limits::default().with_cache(4 << 20), 1, [7; 32]);
    let (payload, keys) = (payload(0), engine.keys());
    publish(&mut engine, &payload);
    let cached = engine.bytes();
    let same = payload.digest();
    // The same payload each time: the first message pays for it, and the log has room for this
    // many.
    let used = measure(|| {
        for n in 0..Limits::default().producers {
            let origin = Some(keys.origin(&n.to_le_bytes()));
            let publication =
                Publication { topic: "a/b", payload: &payload, digest: same, stamp: 0, origin };
            engine.publish(1, &publication).unwrap();
        }
    });
    let charged = engine.bytes() - cached;
    println!("1024 keyed publications: {} bytes, {charged} charged", used.bytes_current);
    assert!(usize::try_from(used.bytes_current).unwrap() <= charged);
    let charged = engine.bytes();
    let again = Publication {
        topic: "a/b",
        payload: &payload,
        digest: same,
        stamp: 0,
        origin: Some(keys.origin(&5_usize.to_le_bytes())),
    };
    assert!(engine.publish(1, &again).unwrap().duplicate);
    assert_eq!(engine.bytes(), charged);
}

#[test]
fn a_chunk_that_waits_keeps_no_more_than_itself() {
    let mut kept = None;
    let used = measure(|| {
        let mut engine = Engine::new(Limits::default().with_cache(64 << 20), 1, [7; 32]);
        let id = engine.subscribe(Filter::new("a/b").unwrap(), &Start::New, Lag::Oldest);
        let large = |n: u8| Payload::from(Bytes::from(vec![n; 16 << 20]));
        publish(&mut engine, &large(0));
        let pieces = ReadOptions { budget: 1, accepted_since: 0, large: LargePayloads::InChunks };
        while kept.is_none() {
            engine
                .read(id, pieces, &mut |item| {
                    if let Item::Chunk(chunk) = item {
                        kept = Some(chunk);
                    }
                })
                .unwrap();
        }
        // The message leaves the cache while the chunk waits in a transport.
        (1..5).for_each(|n| publish(&mut engine, &large(n)));
        let first = engine.get("a/b", Which::Sequence(1)).map(|found| found.size());
        assert_eq!(first.unwrap_err().code, Code::EVICTED);
    });
    println!("one chunk of {} bytes keeps {}", CHUNK, used.bytes_current);
    assert!(kept.unwrap() == vec![0; CHUNK]);
    assert!(
        used.bytes_current.max(0).cast_unsigned() <= CHUNK as u64 + 1024,
        "{}",
        used.bytes_current
    );
}

/// The address and the length of a piece of a payload in memory.
fn place(piece: &Bytes) -> (*const u8, usize) {
    (piece.as_ptr(), piece.len())
}

fn places<'a>(pieces: impl IntoIterator<Item = &'a Bytes>) -> Vec<(*const u8, usize)> {
    pieces.into_iter().map(place).collect()
}

#[test]
fn a_large_payload_is_never_copied_on_its_way() {
    let mut engine = Engine::new(Limits::default(), 1, [7; 32]);
    let mut begin =
        |filter: &str| engine.subscribe(Filter::new(filter).unwrap(), &Start::New, Lag::Oldest);
    let ids = [
        ("a", LargePayloads::InChunks),
        ("*", LargePayloads::WhenComplete),
        ("**", LargePayloads::AnnounceOnly),
    ]
    .map(|(filter, large)| (begin(filter), large));
    // Each chunk has its own memory, as it has when frames arrive.
    let chunks: Vec<_> = (0..64_u8).map(|n| Bytes::from(vec![n; CHUNK])).collect();
    let all = Bytes::from(chunks.concat());
    let (digest, sent) = (Digest::of(&all), places(&chunks));
    let opening = UploadRequest { topic: "a", size: all.len() as u64, stamp: 0, origin: None };
    let mut found = [const { Vec::new() }; 4];
    found.iter_mut().for_each(|found| found.reserve(chunks.len()));
    let mut read = |engine: &mut Engine, of: usize, id, large| {
        let wanted = ReadOptions { budget: 100_000, accepted_since: 0, large };
        let mut take = |item: Item<'_>| match item {
            Item::Chunk(chunk) => found[of].push(place(&chunk)),
            Item::Message(message) => {
                found[of].extend(message.rope().unwrap().pieces().map(place));
            }
            _ => {}
        };
        // Items after a message are refused until the message is complete.
        while engine.read(id, wanted, &mut take) == Ok(true) {}
    };
    let used = measure(|| {
        let Ok(BeginOutcome::Arriving(upload)) = engine.begin(1, &opening) else {
            panic!("it is new")
        };
        for chunk in &chunks {
            engine.append(upload, chunk.clone()).unwrap();
            for (of, (id, large)) in ids.into_iter().enumerate() {
                read(&mut engine, of, id, large);
            }
        }
        engine.end(1, upload, digest).unwrap();
        let follower = engine.follow(1, 1).unwrap();
        for (of, (id, large)) in
            ids.into_iter().chain([(follower, LargePayloads::InChunks)]).enumerate()
        {
            read(&mut engine, of, id, large);
        }
    });
    println!("{} bytes, handed to three: {} bytes allocated", all.len(), used.bytes_total);
    assert!(used.bytes_total < CHUNK as u64, "{}", used.bytes_total);
    let [pieces, whole, apart, followed] = &found;
    assert!(apart.is_empty(), "it is only named there");
    assert_eq!((pieces, whole, followed), (&sent, &sent, &sent));
    // A second publication of the payload uses the memory of the first.
    let payload = Payload::from(all);
    engine
        .publish(2, &Publication { topic: "a", payload: &payload, digest, stamp: 0, origin: None })
        .unwrap();
    let again = engine.get("a", Which::Sequence(2)).unwrap();
    assert_eq!(places(again.rope().unwrap().pieces()), sent);
    let used = measure(|| _ = engine.get("a", Which::Digest(digest)).unwrap().whole().cloned());
    assert!(used.bytes_total < 4096, "{}", used.bytes_total);
}
