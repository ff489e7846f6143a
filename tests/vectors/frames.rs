//! The golden frames, built in Rust; `frames.json` holds the same for everyone else. To add one,
//! append it here and run `WEIR_BLESS=1 cargo test --no-default-features --test wire_vectors`.

use weir::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Lag, Limits, Position, ProducerId,
    Resume, Start, TopEntry, VERSION, Which,
};

const PRODUCER: ProducerId = ProducerId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const STAMP: u64 = 1_700_000_000_000_000;
const RUN: u64 = 0x0123_4567_89ab_cdef;
const EPOCH: u64 = 81_985_529;
const NAME_127: &str = "segment-of-31-bytes-aaaaaaaaaaa/segment-of-31-bytes-bbbbbbbbbbb/segment-of-31-bytes-ccccccccccc/segment-of-31-bytes-ddddddddddd";
const NAME_128: &str = "segment-of-31-bytes-aaaaaaaaaaa/segment-of-31-bytes-bbbbbbbbbbb/segment-of-31-bytes-ccccccccccc/segment-of-32-bytes-dddddddddddd";
const BYTES_127: &[u8] = &[0x7f; 127];
const BYTES_128: &[u8] = &[0x80; 128];

pub(crate) type Named<F> = (&'static str, F);

/// What clients send.
pub(crate) fn client() -> Vec<Named<ClientFrame<'static>>> {
    use ClientFrame as F;
    let digest = Digest::of(b"hello");
    let position = Position {
        run: RUN,
        position: 300,
    };
    let subscribe = |filter, start, delivery, lag, deadline| F::Subscribe {
        request: 1,
        filter,
        start,
        delivery,
        lag,
        deadline,
    };
    let ordered = |filter, start| subscribe(filter, start, Delivery::Ordered, Lag::Oldest, 0);
    vec![
        (
            "client.hello",
            F::Hello {
                version: VERSION,
                producer: PRODUCER,
                token: None,
                agent: "example/1",
            },
        ),
        (
            "client.hello.token",
            F::Hello {
                version: VERSION,
                producer: ProducerId([0xff; 16]),
                token: Some("t0k€n"),
                agent: "",
            },
        ),
        (
            "client.hello.extremes",
            F::Hello {
                version: u32::MAX,
                producer: ProducerId([0; 16]),
                token: Some(""),
                agent: "größe/日本 🌊",
            },
        ),
        (
            "client.topic",
            F::Topic {
                alias: 1,
                name: "demo/a",
            },
        ),
        (
            "client.topic.zero",
            F::Topic {
                alias: 0,
                name: "größe/日本",
            },
        ),
        (
            "client.topic.max",
            F::Topic {
                alias: u32::MAX,
                name: "x",
            },
        ),
        (
            "client.topic.name-127",
            F::Topic {
                alias: 127,
                name: NAME_127,
            },
        ),
        (
            "client.topic.name-128",
            F::Topic {
                alias: 128,
                name: NAME_128,
            },
        ),
        (
            "client.publish",
            F::Publish {
                alias: 1,
                number: 1,
                stamp: 0,
                payload: b"hello",
            },
        ),
        (
            "client.publish.stamp",
            F::Publish {
                alias: 1,
                number: 2,
                stamp: STAMP,
                payload: "grüß dich".as_bytes(),
            },
        ),
        (
            "client.publish.empty",
            F::Publish {
                alias: 0,
                number: 1,
                stamp: 0,
                payload: b"",
            },
        ),
        (
            "client.publish.payload-127",
            F::Publish {
                alias: 127,
                number: 127,
                stamp: 127,
                payload: BYTES_127,
            },
        ),
        (
            "client.publish.payload-128",
            F::Publish {
                alias: 128,
                number: 128,
                stamp: 128,
                payload: BYTES_128,
            },
        ),
        (
            "client.publish.16383",
            F::Publish {
                alias: 16_383,
                number: 16_383,
                stamp: 16_384,
                payload: &[0],
            },
        ),
        (
            "client.publish.max",
            F::Publish {
                alias: u32::MAX,
                number: u64::MAX,
                stamp: u64::MAX,
                payload: &[0xff, 0x00, 0x80],
            },
        ),
        (
            "client.begin",
            F::Begin {
                alias: 1,
                number: 3,
                stamp: STAMP,
                size: 1_048_576,
            },
        ),
        (
            "client.begin.max",
            F::Begin {
                alias: u32::MAX,
                number: u64::MAX,
                stamp: u64::MAX,
                size: u64::MAX,
            },
        ),
        ("client.chunk", F::Chunk { bytes: b"part" }),
        ("client.chunk.empty", F::Chunk { bytes: b"" }),
        ("client.end", F::End { digest }),
        ("client.subscribe", ordered("demo/**", Start::New)),
        (
            "client.subscribe.latest",
            subscribe("*", Start::Latest, Delivery::Unordered, Lag::Newest, 0),
        ),
        (
            "client.subscribe.all",
            subscribe(
                "größe/*",
                Start::All,
                Delivery::Realtime,
                Lag::Disconnect,
                250,
            ),
        ),
        ("client.subscribe.last", ordered("demo/a", Start::Last(128))),
        (
            "client.subscribe.last-max",
            F::Subscribe {
                request: u32::MAX,
                filter: "**",
                start: Start::Last(u64::MAX),
                delivery: Delivery::Realtime,
                lag: Lag::Oldest,
                deadline: u32::MAX,
            },
        ),
        (
            "client.subscribe.sequence",
            ordered("demo/a", Start::Sequence(127)),
        ),
        (
            "client.subscribe.sequence-max",
            ordered("demo/a", Start::Sequence(u64::MAX)),
        ),
        (
            "client.subscribe.resume",
            ordered(
                "demo/**",
                Start::Resume {
                    since: position,
                    topics: vec![
                        Resume {
                            topic: "demo/a",
                            epoch: EPOCH,
                            next: 8,
                        },
                        Resume {
                            topic: "demo/größe",
                            epoch: u64::MAX,
                            next: 1,
                        },
                    ],
                },
            ),
        ),
        (
            "client.subscribe.resume-none",
            ordered(
                "demo/**",
                Start::Resume {
                    since: Position {
                        run: 0,
                        position: u64::MAX,
                    },
                    topics: vec![],
                },
            ),
        ),
        ("client.unsubscribe", F::Unsubscribe { subscription: 1 }),
        (
            "client.unsubscribe.max",
            F::Unsubscribe {
                subscription: u32::MAX,
            },
        ),
        (
            "client.get.latest",
            F::Get {
                request: 2,
                topic: "demo/a",
                which: Which::Latest,
            },
        ),
        (
            "client.get.sequence",
            F::Get {
                request: 3,
                topic: "demo/a",
                which: Which::Sequence(7),
            },
        ),
        (
            "client.get.sequence-max",
            F::Get {
                request: u32::MAX,
                topic: "日本",
                which: Which::Sequence(u64::MAX),
            },
        ),
        (
            "client.get.digest",
            F::Get {
                request: 4,
                topic: "demo/a",
                which: Which::Digest(digest),
            },
        ),
        (
            "client.top",
            F::Top {
                request: 5,
                topic: "demo/a",
                k: 10,
            },
        ),
        (
            "client.top.max",
            F::Top {
                request: u32::MAX,
                topic: "日本",
                k: u32::MAX,
            },
        ),
        ("client.ping", F::Ping { request: 6 }),
        ("client.ping.128", F::Ping { request: 128 }),
        (
            "client.repair",
            F::Repair {
                subscription: 1,
                topic: 4,
                holes: vec![(5, 5), (9, 200)],
            },
        ),
        (
            "client.repair.none",
            F::Repair {
                subscription: 0,
                topic: 0,
                holes: vec![],
            },
        ),
        (
            "client.repair.max",
            F::Repair {
                subscription: u32::MAX,
                topic: u64::MAX,
                holes: vec![(0, u64::MAX)],
            },
        ),
        (
            "client.goodbye",
            F::Goodbye {
                code: Code::DONE,
                reason: "",
            },
        ),
        (
            "client.goodbye.max",
            F::Goodbye {
                code: Code(u32::MAX),
                reason: "tschüß",
            },
        ),
    ]
}

/// What the daemon sends.
pub(crate) fn daemon() -> Vec<Named<DaemonFrame<'static>>> {
    use DaemonFrame as F;
    let digest = Digest::of(b"hello");
    let gap = |cause| F::Gap {
        topic: 4,
        first: 5,
        last: 7,
        cause,
    };
    vec![
        (
            "daemon.welcome",
            F::Welcome {
                version: VERSION,
                session: 9,
                run: RUN,
                clock: STAMP,
                limits: Limits {
                    payload: 16_777_216,
                    subscriptions: 256,
                    window: 1024,
                },
                agent: "weir/0.1.0",
            },
        ),
        (
            "daemon.welcome.max",
            F::Welcome {
                version: u32::MAX,
                session: u64::MAX,
                run: u64::MAX,
                clock: u64::MAX,
                limits: Limits {
                    payload: u64::MAX,
                    subscriptions: u32::MAX,
                    window: u32::MAX,
                },
                agent: "",
            },
        ),
        (
            "daemon.welcome.zero",
            F::Welcome {
                version: 0,
                session: 0,
                run: 0,
                clock: 0,
                limits: Limits {
                    payload: 0,
                    subscriptions: 0,
                    window: 0,
                },
                agent: "日本",
            },
        ),
        ("daemon.for", F::For { request: 1 }),
        ("daemon.for.get", F::For { request: 2 }),
        ("daemon.for.max", F::For { request: u32::MAX }),
        (
            "daemon.topic",
            F::Topic {
                id: 4,
                epoch: EPOCH,
                next: 7,
                name: "demo/a",
            },
        ),
        (
            "daemon.topic.max",
            F::Topic {
                id: u64::MAX,
                epoch: u64::MAX,
                next: u64::MAX,
                name: NAME_128,
            },
        ),
        (
            "daemon.message",
            F::Message {
                topic: 4,
                sequence: 7,
                count: 1,
                stamp: 0,
                payload: b"hello",
            },
        ),
        (
            "daemon.message.stamp",
            F::Message {
                topic: 4,
                sequence: 8,
                count: 128,
                stamp: STAMP,
                payload: "grüß dich".as_bytes(),
            },
        ),
        (
            "daemon.message.empty",
            F::Message {
                topic: 0,
                sequence: 1,
                count: 1,
                stamp: 0,
                payload: b"",
            },
        ),
        (
            "daemon.message.payload-127",
            F::Message {
                topic: 127,
                sequence: 127,
                count: 127,
                stamp: 127,
                payload: BYTES_127,
            },
        ),
        (
            "daemon.message.payload-128",
            F::Message {
                topic: 128,
                sequence: 128,
                count: 128,
                stamp: 128,
                payload: BYTES_128,
            },
        ),
        (
            "daemon.message.max",
            F::Message {
                topic: u64::MAX,
                sequence: u64::MAX,
                count: u64::MAX,
                stamp: u64::MAX,
                payload: &[0xff, 0x00, 0x80],
            },
        ),
        (
            "daemon.begin",
            F::Begin {
                topic: 4,
                sequence: 9,
                stamp: STAMP,
                size: 1_048_576,
            },
        ),
        (
            "daemon.begin.max",
            F::Begin {
                topic: u64::MAX,
                sequence: u64::MAX,
                stamp: u64::MAX,
                size: u64::MAX,
            },
        ),
        ("daemon.chunk", F::Chunk { bytes: b"part" }),
        ("daemon.chunk.empty", F::Chunk { bytes: b"" }),
        ("daemon.end", F::End { count: 2, digest }),
        (
            "daemon.end.max",
            F::End {
                count: u64::MAX,
                digest: Digest([0xff; 32]),
            },
        ),
        (
            "daemon.abort",
            F::Abort {
                code: Code::PUBLISHER_GONE,
            },
        ),
        ("daemon.gap.evicted", gap(GapCause::Evicted)),
        ("daemon.gap.skipped", gap(GapCause::Skipped)),
        ("daemon.gap.aborted", gap(GapCause::Aborted)),
        ("daemon.gap.late", gap(GapCause::Late)),
        (
            "daemon.gap.max",
            F::Gap {
                topic: u64::MAX,
                first: 0,
                last: u64::MAX,
                cause: GapCause::Evicted,
            },
        ),
        (
            "daemon.head",
            F::Head {
                topic: 4,
                sequence: 300,
            },
        ),
        (
            "daemon.head.max",
            F::Head {
                topic: u64::MAX,
                sequence: u64::MAX,
            },
        ),
        (
            "daemon.receipt",
            F::Receipt {
                alias: 1,
                number: 1,
                sequence: 7,
                count: 1,
                since: 0,
                digest,
                duplicate: false,
            },
        ),
        (
            "daemon.receipt.duplicate",
            F::Receipt {
                alias: 1,
                number: 1,
                sequence: 0,
                count: 0,
                since: STAMP,
                digest,
                duplicate: true,
            },
        ),
        (
            "daemon.receipt.max",
            F::Receipt {
                alias: u32::MAX,
                number: u64::MAX,
                sequence: u64::MAX,
                count: u64::MAX,
                since: u64::MAX,
                digest: Digest([0xff; 32]),
                duplicate: true,
            },
        ),
        (
            "daemon.acknowledge",
            F::Acknowledge {
                alias: 1,
                floor: 127,
                seen: 0b101,
            },
        ),
        (
            "daemon.acknowledge.max",
            F::Acknowledge {
                alias: u32::MAX,
                floor: u64::MAX,
                seen: u64::MAX,
            },
        ),
        (
            "daemon.rejected",
            F::Rejected {
                alias: 1,
                number: 2,
                code: Code::STALE,
                reason: "number 2 fell out of the window",
            },
        ),
        (
            "daemon.rejected.max",
            F::Rejected {
                alias: u32::MAX,
                number: u64::MAX,
                code: Code(u32::MAX),
                reason: "",
            },
        ),
        (
            "daemon.subscribed",
            F::Subscribed {
                request: 1,
                position: 300,
            },
        ),
        (
            "daemon.subscribed.max",
            F::Subscribed {
                request: u32::MAX,
                position: u64::MAX,
            },
        ),
        (
            "daemon.ended",
            F::Ended {
                request: 1,
                code: Code::DONE,
                reason: "",
            },
        ),
        (
            "daemon.ended.lagged",
            F::Ended {
                request: u32::MAX,
                code: Code::LAGGED,
                reason: "fell out of the cache",
            },
        ),
        (
            "daemon.top",
            F::Top {
                request: 5,
                entries: vec![
                    TopEntry {
                        digest,
                        count: 128,
                        since: 0,
                        sequence: 7,
                        size: 5,
                        payload: Some(b"hello"),
                    },
                    TopEntry {
                        digest: Digest([0xff; 32]),
                        count: u64::MAX,
                        since: STAMP,
                        sequence: u64::MAX,
                        size: u64::MAX,
                        payload: None,
                    },
                    TopEntry {
                        digest: Digest::of(b""),
                        count: 1,
                        since: 0,
                        sequence: 1,
                        size: 0,
                        payload: Some(b""),
                    },
                ],
            },
        ),
        (
            "daemon.top.none",
            F::Top {
                request: u32::MAX,
                entries: vec![],
            },
        ),
        (
            "daemon.pong",
            F::Pong {
                request: 6,
                clock: STAMP,
            },
        ),
        (
            "daemon.pong.max",
            F::Pong {
                request: u32::MAX,
                clock: u64::MAX,
            },
        ),
        (
            "daemon.failed",
            F::Failed {
                request: 3,
                code: Code::EVICTED,
                reason: "sequence 7 has left the cache",
            },
        ),
        (
            "daemon.failed.max",
            F::Failed {
                request: u32::MAX,
                code: Code(u32::MAX),
                reason: "größe/日本",
            },
        ),
        (
            "daemon.drain",
            F::Drain {
                within: 10_000,
                reason: "upgrade",
            },
        ),
        (
            "daemon.drain.max",
            F::Drain {
                within: u32::MAX,
                reason: "",
            },
        ),
        (
            "daemon.goodbye",
            F::Goodbye {
                code: Code::SHUTTING_DOWN,
                reason: "the daemon stops",
                retry: true,
            },
        ),
        (
            "daemon.goodbye.max",
            F::Goodbye {
                code: Code(u32::MAX),
                reason: "größe/日本",
                retry: false,
            },
        ),
    ]
}
