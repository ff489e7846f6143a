//! The golden frames, built in Rust. `frames.json` has the same for other languages. To add one,
//! append it here and run `WEIR_BLESS=1 cargo test --no-default-features --test wire_vectors`.
#![allow(clippy::too_many_lines)]

use weir::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Had, Lag, Limits, Position,
    ProducerId, Resume, Start, TopEntry, VERSION, Which,
};

const PRODUCER: ProducerId = ProducerId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const STAMP: u64 = 1_700_000_000_000_000;
const RUN: u64 = 0x0123_4567_89ab_cdef;
const EPOCH: u64 = 81_985_529;
const NAME_127: &str = "31-bytes-aaaaaaaaaaaaaaaaaaaaaa/31-bytes-bbbbbbbbbbbbbbbbbbbbbb/\
    31-bytes-cccccccccccccccccccccc/31-bytes-dddddddddddddddddddddd";
const NAME_128: &str = "31-bytes-aaaaaaaaaaaaaaaaaaaaaa/31-bytes-bbbbbbbbbbbbbbbbbbbbbb/\
    31-bytes-cccccccccccccccccccccc/32-bytes-ddddddddddddddddddddddd";
const BYTES_127: &[u8] = &[0x7f; 127];
const BYTES_128: &[u8] = &[0x80; 128];
const ONES: Digest = Digest([0xff; 32]);

// Some lines are long on purpose, as in a table. rustfmt does not change the inside of this macro.
macro_rules! frames {
    ($kind:ident; $($name:literal: $variant:ident $fields:tt)*) => {
        vec![$(($name, frames!(@ $kind $variant $fields))),*]
    };
    (@ $kind:ident $variant:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $kind::$variant { $($field: $value),* }
    };
}

/// Frames that clients send.
pub(crate) fn client() -> Vec<(&'static str, ClientFrame<'static>)> {
    let hello = Digest::of(b"hello");
    let resume = Start::Resume {
        since: Position { run: RUN, position: 300 },
        topics: vec![
            Resume { topic: "demo/a", epoch: EPOCH, next: 9 },
            Resume { topic: "demo/größe", epoch: u64::MAX, next: 1 },
        ],
    };
    let resume_none =
        Start::Resume { since: Position { run: 0, position: u64::MAX }, topics: vec![] };
    let resume_with = Start::ResumeWith {
        since: Position { run: RUN, position: 300 },
        topics: vec![
            Resume { topic: "demo/größe", epoch: u64::MAX, next: 1 },
            Resume { topic: "demo/a", epoch: EPOCH, next: 9 },
        ],
        had: vec![Had::new(1, 9, &[(11, 11), (14, 20)])],
    };
    let resume_with_max = Start::ResumeWith {
        since: Position { run: 0, position: 0 },
        topics: vec![Resume { topic: "a", epoch: 1, next: 1 }],
        had: vec![
            Had { topic: 0, ranges: vec![] },
            Had { topic: u32::MAX, ranges: vec![(u64::MAX, 0), (0, u64::MAX)] },
        ],
    };
    frames! { ClientFrame;
        "client.hello": Hello { version: VERSION, producer: PRODUCER, token: None, agent: "example/1" }
        "client.hello.token": Hello {
            version: VERSION, producer: ProducerId([0xff; 16]), token: Some("t0k€n"), agent: "",
        }
        "client.hello.extremes": Hello {
            version: u32::MAX, producer: ProducerId([0; 16]), token: Some(""), agent: "größe/日本 🌊",
        }
        "client.topic": Topic { alias: 1, name: "demo/a" }
        "client.topic.zero": Topic { alias: 0, name: "größe/日本" }
        "client.topic.max": Topic { alias: u32::MAX, name: "x" }
        "client.topic.empty": Topic { alias: 1, name: "" }
        "client.topic.name-127": Topic { alias: 127, name: NAME_127 }
        "client.topic.name-128": Topic { alias: 128, name: NAME_128 }
        "client.publish": Publish { alias: 1, number: 1, stamp: 0, payload: b"hello" }
        "client.publish.stamp": Publish {
            alias: 1, number: 2, stamp: STAMP, payload: "grüß dich".as_bytes(),
        }
        "client.publish.empty": Publish { alias: 0, number: 1, stamp: 0, payload: b"" }
        "client.publish.127": Publish { alias: 127, number: 127, stamp: 127, payload: BYTES_127 }
        "client.publish.128": Publish { alias: 128, number: 128, stamp: 128, payload: BYTES_128 }
        "client.publish.16383": Publish { alias: 16383, number: 16383, stamp: 16384, payload: &[0] }
        "client.publish.max": Publish {
            alias: u32::MAX, number: u64::MAX, stamp: u64::MAX, payload: &[0xff, 0x00, 0x80],
        }
        "client.begin": Begin { alias: 1, number: 3, stamp: STAMP, size: 1_048_576 }
        "client.begin.max": Begin {
            alias: u32::MAX, number: u64::MAX, stamp: u64::MAX, size: u64::MAX,
        }
        "client.chunk": Chunk { bytes: b"part" }
        "client.chunk.empty": Chunk { bytes: b"" }
        "client.end": End { digest: hello }
        "client.subscribe": Subscribe {
            request: 1, filter: "demo/**", start: Start::New,
            delivery: Delivery::Ordered, lag: Lag::Oldest, deadline: 0,
        }
        "client.subscribe.latest": Subscribe {
            request: 2, filter: "*", start: Start::Latest,
            delivery: Delivery::Unordered, lag: Lag::Newest, deadline: 0,
        }
        "client.subscribe.all": Subscribe {
            request: 127, filter: "größe/*", start: Start::All,
            delivery: Delivery::Realtime, lag: Lag::Disconnect, deadline: 250,
        }
        "client.subscribe.last": Subscribe {
            request: 128, filter: "demo/a", start: Start::Last(128),
            delivery: Delivery::Ordered, lag: Lag::Oldest, deadline: 0,
        }
        "client.subscribe.last-max": Subscribe {
            request: u32::MAX, filter: "**", start: Start::Last(u64::MAX),
            delivery: Delivery::Realtime, lag: Lag::Oldest, deadline: u32::MAX,
        }
        "client.subscribe.sequence": Subscribe {
            request: 1, filter: "demo/a", start: Start::Sequence(127),
            delivery: Delivery::Ordered, lag: Lag::Newest, deadline: 0,
        }
        "client.subscribe.sequence-max": Subscribe {
            request: 1, filter: "demo/a", start: Start::Sequence(u64::MAX),
            delivery: Delivery::Ordered, lag: Lag::Disconnect, deadline: 0,
        }
        "client.subscribe.resume": Subscribe {
            request: 1, filter: "demo/**", start: resume,
            delivery: Delivery::Ordered, lag: Lag::Oldest, deadline: 0,
        }
        "client.subscribe.resume-none": Subscribe {
            request: 1, filter: "demo/**", start: resume_none,
            delivery: Delivery::Ordered, lag: Lag::Oldest, deadline: 0,
        }
        "client.subscribe.resume-with": Subscribe {
            request: 1, filter: "demo/**", start: resume_with,
            delivery: Delivery::Realtime, lag: Lag::Oldest, deadline: 0,
        }
        "client.subscribe.resume-with-max": Subscribe {
            request: 1, filter: "a", start: resume_with_max,
            delivery: Delivery::Unordered, lag: Lag::Oldest, deadline: 0,
        }
        "client.unsubscribe": Unsubscribe { subscription: 1 }
        "client.unsubscribe.max": Unsubscribe { subscription: u32::MAX }
        "client.get.latest": Get { request: 2, topic: "demo/a", which: Which::Latest }
        "client.get.sequence": Get { request: 3, topic: "demo/a", which: Which::Sequence(7) }
        "client.get.sequence-max": Get {
            request: u32::MAX, topic: "日本", which: Which::Sequence(u64::MAX),
        }
        "client.get.digest": Get { request: 4, topic: "demo/a", which: Which::Digest(hello) }
        "client.top": Top { request: 5, topic: "demo/a", k: 10 }
        "client.top.max": Top { request: u32::MAX, topic: "日本", k: u32::MAX }
        "client.ping": Ping { request: 6 }
        "client.ping.zero": Ping { request: 0 }
        "client.ping.127": Ping { request: 127 }
        "client.ping.128": Ping { request: 128 }
        "client.repair": Repair { subscription: 1, topic: 4, holes: vec![(5, 5), (9, 200)] }
        "client.repair.none": Repair { subscription: 0, topic: 0, holes: vec![] }
        "client.repair.max": Repair {
            subscription: u32::MAX, topic: u64::MAX, holes: vec![(0, u64::MAX)],
        }
        "client.goodbye": Goodbye { code: Code::DONE, reason: "" }
        "client.goodbye.max": Goodbye { code: Code(u32::MAX), reason: "tschüß" }
        "client.knows": Knows { frames: 23 }
        "client.knows.max": Knows { frames: u32::MAX }
        "client.token": Token { request: 7, token: "a.b.c" }
        "client.token.max": Token { request: u32::MAX, token: "größe/日本" }
    }
}

/// Frames that the daemon sends.
pub(crate) fn daemon() -> Vec<(&'static str, DaemonFrame<'static>)> {
    let hello = Digest::of(b"hello");
    let limits = |payload, subscriptions, window| Limits { payload, subscriptions, window };
    let entry = |digest, count, since, sequence, size, payload| TopEntry {
        digest,
        count,
        since,
        sequence,
        size,
        payload,
    };
    let entries = vec![
        entry(hello, 128, 0, 7, 5, Some(&b"hello"[..])),
        entry(ONES, u64::MAX, STAMP, u64::MAX, u64::MAX, None),
        entry(Digest::of(b""), 1, 0, 1, 0, Some(b"")),
    ];
    frames! { DaemonFrame;
        "daemon.welcome": Welcome {
            version: VERSION, session: 9, run: RUN, clock: STAMP,
            limits: limits(16_777_216, 256, 1024), agent: "weir/0.1.0",
        }
        "daemon.welcome.max": Welcome {
            version: u32::MAX, session: u64::MAX, run: u64::MAX, clock: u64::MAX,
            limits: limits(u64::MAX, u32::MAX, u32::MAX), agent: "",
        }
        "daemon.welcome.zero": Welcome {
            version: 0, session: 0, run: 0, clock: 0, limits: limits(0, 0, 0), agent: "日本",
        }
        "daemon.for": For { request: 1 }
        "daemon.for.max": For { request: u32::MAX }
        "daemon.topic": Topic { id: 4, epoch: EPOCH, next: 5, name: "demo/a" }
        "daemon.topic.zero": Topic { id: 0, epoch: 0, next: 0, name: "größe/日本" }
        "daemon.topic.max": Topic { id: u64::MAX, epoch: u64::MAX, next: u64::MAX, name: NAME_128 }
        "daemon.message": Message { topic: 4, sequence: 7, count: 1, stamp: 0, payload: b"hello" }
        "daemon.message.stamp": Message {
            topic: 4, sequence: 8, count: 128, stamp: STAMP, payload: "grüß dich".as_bytes(),
        }
        "daemon.message.empty": Message { topic: 0, sequence: 1, count: 1, stamp: 0, payload: b"" }
        "daemon.message.127": Message {
            topic: 127, sequence: 127, count: 127, stamp: 127, payload: BYTES_127,
        }
        "daemon.message.128": Message {
            topic: 128, sequence: 128, count: 128, stamp: 128, payload: BYTES_128,
        }
        "daemon.message.max": Message {
            topic: u64::MAX, sequence: u64::MAX, count: u64::MAX, stamp: u64::MAX,
            payload: &[0xff, 0x00, 0x80],
        }
        "daemon.begin": Begin { topic: 4, sequence: 9, stamp: STAMP, size: 1_048_576 }
        "daemon.begin.max": Begin {
            topic: u64::MAX, sequence: u64::MAX, stamp: u64::MAX, size: u64::MAX,
        }
        "daemon.chunk": Chunk { bytes: b"part" }
        "daemon.chunk.empty": Chunk { bytes: b"" }
        "daemon.end": End { count: 2, digest: hello }
        "daemon.end.max": End { count: u64::MAX, digest: ONES }
        "daemon.abort": Abort { code: Code::PUBLISHER_GONE }
        "daemon.gap.evicted": Gap { topic: 4, first: 5, last: 6, cause: GapCause::Evicted }
        "daemon.gap.skipped": Gap { topic: 4, first: 9, last: 9, cause: GapCause::Skipped }
        "daemon.gap.aborted": Gap { topic: 4, first: 127, last: 128, cause: GapCause::Aborted }
        "daemon.gap.aborted-one": Gap { topic: 4, first: 9, last: 9, cause: GapCause::Aborted }
        "daemon.gap.late": Gap { topic: 4, first: 1, last: 16384, cause: GapCause::Late }
        "daemon.gap.lost": Gap { topic: 4, first: 7, last: 8, cause: GapCause::Lost }
        "daemon.gap.had": Gap { topic: 4, first: 11, last: 20, cause: GapCause::Had }
        "daemon.gap.expired": Gap { topic: 4, first: 3, last: 5, cause: GapCause::Expired }
        "daemon.gap.max": Gap { topic: u64::MAX, first: 0, last: u64::MAX, cause: GapCause::Evicted }
        "daemon.head": Head { topic: 4, sequence: 300 }
        "daemon.head.max": Head { topic: u64::MAX, sequence: u64::MAX }
        "daemon.receipt": Receipt {
            alias: 1, number: 1, sequence: 7, count: 1, since: 0, digest: hello, duplicate: false,
        }
        "daemon.receipt.since": Receipt {
            alias: 1, number: 2, sequence: 8, count: 128, since: STAMP, digest: hello, duplicate: false,
        }
        "daemon.receipt.duplicate": Receipt {
            alias: 1, number: 1, sequence: 0, count: 0, since: 0, digest: hello, duplicate: true,
        }
        "daemon.receipt.max": Receipt {
            alias: u32::MAX, number: u64::MAX, sequence: u64::MAX, count: u64::MAX, since: u64::MAX,
            digest: ONES, duplicate: true,
        }
        "daemon.acknowledge": Acknowledge { alias: 1, floor: 127, seen: 0b101 }
        "daemon.acknowledge.max": Acknowledge { alias: u32::MAX, floor: u64::MAX, seen: u64::MAX }
        "daemon.rejected": Rejected {
            alias: 1, number: 2, code: Code::STALE, reason: "number 2 fell out of the window",
        }
        "daemon.rejected.max": Rejected {
            alias: u32::MAX, number: u64::MAX, code: Code(u32::MAX), reason: "",
        }
        "daemon.subscribed": Subscribed { request: 1, position: 300 }
        "daemon.subscribed.max": Subscribed { request: u32::MAX, position: u64::MAX }
        "daemon.ended": Ended { request: 1, code: Code::DONE, reason: "" }
        "daemon.ended.lagged": Ended {
            request: u32::MAX, code: Code::LAGGED, reason: "fell out of the cache",
        }
        "daemon.top": Top { request: 5, entries: entries }
        "daemon.top.none": Top { request: u32::MAX, entries: vec![] }
        "daemon.pong": Pong { request: 6, clock: STAMP }
        "daemon.pong.max": Pong { request: u32::MAX, clock: u64::MAX }
        "daemon.failed": Failed {
            request: 3, code: Code::EVICTED, reason: "sequence 7 has left the cache",
        }
        "daemon.failed.max": Failed {
            request: u32::MAX, code: Code(u32::MAX), reason: "größe/日本",
        }
        "daemon.drain": Drain { within: 10_000, reason: "upgrade" }
        "daemon.drain.max": Drain { within: u32::MAX, reason: "" }
        "daemon.goodbye": Goodbye {
            code: Code::SHUTTING_DOWN, reason: "the daemon stops", retry: true,
        }
        "daemon.goodbye.max": Goodbye {
            code: Code(u32::MAX), reason: "größe/日本", retry: false,
        }
        "daemon.mark": Mark { position: 300 }
        "daemon.mark.max": Mark { position: u64::MAX }
        "daemon.notice": Notice { code: Code::UNKEPT, reason: "the disk is full" }
        "daemon.notice.max": Notice { code: Code(u32::MAX), reason: "" }
        "daemon.authorized": Authorized { request: 0, lifetime: 3_600_000, name: "ann" }
        "daemon.authorized.max": Authorized { request: u32::MAX, lifetime: u64::MAX, name: "" }
    }
}
