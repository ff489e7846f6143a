//! Frames in, frames out.

use super::{engine, small};
use crate::engine::{Action, Channel, Engine, Prepared, Session, encode_item};
use crate::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, FrameReader, Lag, ProducerId, Refusal, Start,
    VERSION, Which,
};
use bytes::Bytes;
use proptest::prelude::*;

/// A peer that says whatever the test wants.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) replies: FrameReader,
}

impl Peer {
    pub(super) fn new(engine: &mut Engine) -> Self {
        Self {
            session: engine.open_session(),
            replies: FrameReader::new(1 << 24),
        }
    }

    /// One that has said hello.
    pub(super) fn open(engine: &mut Engine, producer: u8) -> Self {
        let mut peer = Self::new(engine);
        peer.say(engine, &hello(producer)).unwrap();
        assert!(matches!(decode(&peer.reply()), DaemonFrame::Welcome { .. }));
        peer
    }

    pub(super) fn say(
        &mut self,
        engine: &mut Engine,
        frame: &ClientFrame<'_>,
    ) -> Result<Option<Action>, Refusal> {
        self.say_on(engine, Channel::Control, frame)
    }

    fn say_on(
        &mut self,
        engine: &mut Engine,
        channel: Channel,
        frame: &ClientFrame<'_>,
    ) -> Result<Option<Action>, Refusal> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut reader = FrameReader::new(1 << 24);
        reader.push(bytes.into());
        self.take(engine, channel, &reader.next_frame().unwrap().unwrap())
    }

    fn take(
        &mut self,
        engine: &mut Engine,
        channel: Channel,
        frame: &Bytes,
    ) -> Result<Option<Action>, Refusal> {
        let mut out = Vec::new();
        let result = Prepared::new(frame)
            .and_then(|frame| self.session.handle(engine, 77, channel, frame, &mut out));
        self.replies.push(out.into());
        result
    }

    /// The one frame that was answered.
    pub(super) fn reply(&mut self) -> Bytes {
        let reply = self.replies.next_frame().unwrap().expect("an answer");
        assert_eq!(self.replies.next_frame(), Ok(None), "more than one answer");
        reply
    }
}

pub(super) fn decode(frame: &Bytes) -> DaemonFrame<'_> {
    DaemonFrame::decode(frame).unwrap()
}

pub(super) fn hello(producer: u8) -> ClientFrame<'static> {
    ClientFrame::Hello {
        version: VERSION,
        producer: ProducerId([producer; 16]),
        token: None,
        agent: "test",
    }
}

pub(super) fn subscribe<'a>(request: u32, filter: &'a str, start: Start<'a>) -> ClientFrame<'a> {
    ClientFrame::Subscribe {
        request,
        filter,
        start,
        delivery: Delivery::Ordered,
        lag: Lag::Oldest,
        deadline: 0,
    }
}

fn said(number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish {
        alias: 1,
        number,
        stamp: 5,
        payload,
    }
}

fn topic(alias: u32, name: &str) -> ClientFrame<'_> {
    ClientFrame::Topic { alias, name }
}

fn code(result: Result<Option<Action>, Refusal>) -> Code {
    result.unwrap_err().code
}

#[test]
fn the_hello_comes_first_and_once() {
    let engine = &mut engine(small());
    let mut peer = Peer::new(engine);
    assert!(!peer.session.is_open());
    assert_eq!(
        code(peer.say(engine, &ClientFrame::Ping { request: 1 })),
        Code::UNEXPECTED
    );
    assert_eq!(code(peer.say(engine, &said(1, b"x"))), Code::UNEXPECTED);
    assert_eq!(
        code(peer.say_on(engine, Channel::Publish, &hello(1))),
        Code::UNEXPECTED
    );
    let newer = ClientFrame::Hello {
        version: VERSION + 1,
        producer: ProducerId([1; 16]),
        token: Some("t"),
        agent: "",
    };
    assert_eq!(code(peer.say(engine, &newer)), Code::VERSION);
    assert!(!peer.session.is_open() && peer.replies.next_frame() == Ok(None));

    peer.say(engine, &hello(1)).unwrap();
    let DaemonFrame::Welcome {
        version,
        session,
        run,
        clock,
        limits,
        ..
    } = decode(&peer.reply())
    else {
        panic!("no welcome");
    };
    assert_eq!(
        (version, session, run, clock),
        (VERSION, peer.session.id(), 1_000_000, 77)
    );
    assert_eq!(limits.payload, 256 << 10, "a quarter of the cache");
    assert!(peer.session.is_open());
    assert_eq!(code(peer.say(engine, &hello(1))), Code::UNEXPECTED);
}

#[test]
fn publications_are_received_rejected_or_end_the_session() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    assert_eq!(code(peer.say(engine, &said(1, b"x"))), Code::BAD_ALIAS);
    peer.say(engine, &topic(1, "a/b")).unwrap();
    peer.say_on(engine, Channel::Publish, &topic(1, "a/b"))
        .unwrap();
    for (number, duplicate) in [(1, false), (1, true), (2, false)] {
        peer.say_on(engine, Channel::Publish, &said(number, b"x"))
            .unwrap();
        let expected = DaemonFrame::Receipt {
            alias: 1,
            number,
            sequence: number,
            count: number,
            since: 0,
            digest: Digest::of(b"x"),
            duplicate,
        };
        assert_eq!(decode(&peer.reply()), expected);
    }
    let mut rejected = |frame: &ClientFrame<'_>| {
        peer.say(engine, frame).unwrap();
        match decode(&peer.reply()) {
            DaemonFrame::Rejected { code, reason, .. } => {
                assert!(!reason.is_empty());
                code
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rejected(&said(0, b"x")), Code::STALE);
    assert_eq!(
        rejected(&said(3, &vec![0; (256 << 10) + 1])),
        Code::PAYLOAD_TOO_LARGE
    );
    assert_eq!(engine.topics(), 1);
    for (alias, name, expected) in [(2, "a/*", Code::BAD_TOPIC), (3, "$weir/x", Code::RESERVED)] {
        peer.say(engine, &topic(alias, name)).unwrap();
        let frame = ClientFrame::Publish {
            alias,
            number: 1,
            stamp: 0,
            payload: b"",
        };
        peer.say(engine, &frame).unwrap();
        let reply = peer.reply();
        let DaemonFrame::Rejected { code, .. } = decode(&reply) else {
            panic!("accepted")
        };
        assert_eq!(code, expected);
    }
    assert_eq!(code(peer.say(engine, &topic(1, "other"))), Code::BAD_ALIAS);
    assert_eq!(
        code(peer.say(engine, &topic(9, &"x".repeat(256)))),
        Code::BAD_ALIAS
    );
}

#[test]
fn a_session_has_so_many_aliases_and_no_more() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    for alias in 0..4096 {
        peer.say(engine, &topic(alias, "a")).unwrap();
    }
    peer.say(engine, &topic(0, "a")).unwrap();
    assert_eq!(code(peer.say(engine, &topic(4096, "a"))), Code::BAD_ALIAS);
}

#[test]
fn a_publishing_stream_carries_publications_only() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    let ping = ClientFrame::Ping { request: 1 };
    assert_eq!(
        code(peer.say_on(engine, Channel::Publish, &ping)),
        Code::UNEXPECTED
    );
    let frame = subscribe(1, "a", Start::New);
    assert_eq!(
        code(peer.say_on(engine, Channel::Publish, &frame)),
        Code::UNEXPECTED
    );
}

#[test]
fn subscriptions_begin_deliver_and_end() {
    let engine = &mut engine(small().with_payload(1000));
    let mut peer = Peer::open(engine, 1);
    peer.say(engine, &topic(1, "a/b")).unwrap();
    peer.say(engine, &said(1, b"x")).unwrap();
    peer.reply();
    let begun = peer.say(engine, &subscribe(9, "a/*", Start::All)).unwrap();
    let Some(Action::Deliver {
        request: 9,
        subscription,
    }) = begun
    else {
        panic!("{begun:?}")
    };
    assert_eq!(
        decode(&peer.reply()),
        DaemonFrame::Subscribed {
            request: 9,
            position: 1
        }
    );
    let mut named = Vec::new();
    engine.take_wakes(&mut named);
    assert_eq!(named, [subscription]);

    let mut out = Vec::new();
    let sink = &mut |item: super::super::Item<'_>| encode_item(&item, &mut out);
    assert_eq!(engine.read(subscription, 1, sink), Ok(true));
    assert_eq!(engine.read(subscription, 1, sink), Ok(false));
    peer.replies.push(out.into());
    let first = peer.replies.next_frame().unwrap().unwrap();
    let expected = DaemonFrame::Topic {
        id: 1,
        epoch: 1_000_000,
        next: 1,
        name: "a/b",
    };
    assert_eq!(decode(&first), expected);
    let expected = DaemonFrame::Message {
        topic: 1,
        sequence: 1,
        count: 1,
        stamp: 5,
        payload: b"x",
    };
    assert_eq!(decode(&peer.reply()), expected);

    assert_eq!(
        code(peer.say(engine, &subscribe(9, "c", Start::New))),
        Code::BAD_REQUEST
    );
    let frame = ClientFrame::Unsubscribe { subscription: 9 };
    let ended = peer.say(engine, &frame).unwrap();
    assert!(matches!(ended, Some(Action::Stop { request: 9, .. })));
    let expected = DaemonFrame::Ended {
        request: 9,
        code: Code::DONE,
        reason: "",
    };
    assert_eq!(decode(&peer.reply()), expected);
    assert!(
        peer.say(engine, &frame).unwrap().is_none(),
        "unknown by now"
    );
    let reply = peer.reply();
    assert!(matches!(
        decode(&reply),
        DaemonFrame::Failed {
            code: Code::BAD_REQUEST,
            ..
        }
    ));
    engine.audit();
}

#[test]
fn refused_subscriptions_leave_the_session_alone() {
    let mut limits = small();
    limits.subscriptions = 2;
    let engine = &mut engine(limits);
    let mut peer = Peer::open(engine, 1);
    let mut failed = |frame: &ClientFrame<'_>| {
        assert!(peer.say(engine, frame).unwrap().is_none());
        match decode(&peer.reply()) {
            DaemonFrame::Failed { code, .. } => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        failed(&subscribe(1, "a/**/b", Start::New)),
        Code::BAD_FILTER
    );
    for request in 1..=2 {
        peer.say(engine, &subscribe(request, "a", Start::New))
            .unwrap();
        peer.reply();
    }
    peer.say(engine, &subscribe(3, "a", Start::New)).unwrap();
    let reply = peer.reply();
    let DaemonFrame::Failed {
        request: 3, code, ..
    } = decode(&reply)
    else {
        panic!("{reply:?}")
    };
    assert_eq!(code, Code::TOO_MANY_SUBSCRIPTIONS);
    assert_eq!(peer.session.close(engine).count(), 2);
    assert_eq!(engine.subscriptions.all.iter().flatten().count(), 0);
    engine.audit();
}

#[test]
fn gets_tops_and_pings_are_answered() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    peer.say(engine, &topic(1, "a")).unwrap();
    for (number, payload) in [(1, b"x"), (2, b"y"), (3, b"x")] {
        peer.say(engine, &said(number, payload)).unwrap();
        peer.reply();
    }
    let digest = Digest::of(b"x");
    for (which, sequence) in [
        (Which::Latest, 3),
        (Which::Sequence(1), 1),
        (Which::Digest(digest), 3),
    ] {
        let get = ClientFrame::Get {
            request: 4,
            topic: "a",
            which,
        };
        let action = peer.say(engine, &get).unwrap();
        let Some(Action::Answer { head, message }) = action else {
            panic!("{action:?}")
        };
        let mut reader = FrameReader::new(1000);
        reader.push(head);
        let (first, second) = (reader.next_frame().unwrap(), reader.next_frame().unwrap());
        assert_eq!(decode(&first.unwrap()), DaemonFrame::For { request: 4 });
        let expected = DaemonFrame::Topic {
            id: 1,
            epoch: 1_000_000,
            next: sequence,
            name: "a",
        };
        assert_eq!(decode(&second.unwrap()), expected);
        assert_eq!(message.payload(), &b"x"[..]);
    }
    for (topic, which, expected) in [
        ("a", Which::Sequence(4), Code::NOT_FOUND),
        ("b", Which::Latest, Code::NOT_FOUND),
        ("a", Which::Digest(Digest::of(b"z")), Code::NOT_FOUND),
        ("a//b", Which::Latest, Code::BAD_TOPIC),
    ] {
        assert!(
            peer.say(
                engine,
                &ClientFrame::Get {
                    request: 5,
                    topic,
                    which
                }
            )
            .unwrap()
            .is_none()
        );
        let reply = peer.reply();
        let DaemonFrame::Failed {
            request: 5, code, ..
        } = decode(&reply)
        else {
            panic!()
        };
        assert_eq!(code, expected);
    }
    peer.say(
        engine,
        &ClientFrame::Top {
            request: 6,
            topic: "a",
            k: 1,
        },
    )
    .unwrap();
    let reply = peer.reply();
    let DaemonFrame::Top {
        request: 6,
        entries,
    } = decode(&reply)
    else {
        panic!()
    };
    assert_eq!(
        (entries.len(), entries[0].digest, entries[0].count),
        (1, digest, 2)
    );
    assert_eq!(
        (entries[0].sequence, entries[0].payload),
        (3, Some(&b"x"[..]))
    );
    peer.say(engine, &ClientFrame::Ping { request: 7 }).unwrap();
    assert_eq!(
        decode(&peer.reply()),
        DaemonFrame::Pong {
            request: 7,
            clock: 77
        }
    );
    let bye = ClientFrame::Goodbye {
        code: Code::DONE,
        reason: "",
    };
    assert!(matches!(
        peer.say(engine, &bye),
        Ok(Some(Action::Left(Code::DONE)))
    ));
}

proptest! {
    /// Whatever one peer sends, the others notice nothing.
    #[test]
    fn damaged_frames_end_their_own_session_at_most(
        damage in proptest::collection::vec(
            (0_usize..16, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60),
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..20),
    ) {
        let digest = Digest([1; 32]);
        let frames = [
            hello(2), topic(1, "a"), said(1, b"abc"), said(1 << 40, b"abc"),
            ClientFrame::Begin { alias: 1, number: 3, stamp: 0, size: 9 },
            ClientFrame::Chunk { bytes: b"abc" }, ClientFrame::End { digest },
            subscribe(1, "**", Start::All), subscribe(2, "a", Start::Sequence(u64::MAX)),
            subscribe(3, "a", Start::Last(u64::MAX)),
            ClientFrame::Unsubscribe { subscription: 1 },
            ClientFrame::Get { request: 1, topic: "a", which: Which::Sequence(u64::MAX) },
            ClientFrame::Top { request: 1, topic: "a", k: u32::MAX },
            ClientFrame::Ping { request: 1 },
            ClientFrame::Repair { subscription: 1, topic: 1, holes: vec![(5, 1)] },
            ClientFrame::Goodbye { code: Code::DONE, reason: "x" },
        ];
        let engine = &mut engine(small());
        let mut good = Peer::open(engine, 1);
        good.say(engine, &topic(1, "good")).unwrap();
        good.say(engine, &subscribe(1, "good", Start::New)).unwrap();
        good.reply();
        let mut bad = Peer::open(engine, 2);
        bad.say(engine, &topic(1, "a")).unwrap();
        let damaged = damage.into_iter().map(|(kind, at, bits, whole)| {
            let mut bytes = Vec::new();
            frames[kind].encode(&mut bytes);
            let prefix = 1 + usize::from(bytes[0] >= 0x80);
            let at = prefix + at.index(bytes.len() - prefix);
            if whole { bytes[at] ^= bits } else { bytes.truncate(at) }
            bytes.split_off(prefix)
        });
        for (number, bytes) in damaged.chain(noise).enumerate() {
            while bad.replies.next_frame().unwrap().is_some() {}
            if bad.take(engine, Channel::Control, &bytes.into()).is_err() {
                prop_assert!(bad.session.close(engine).count() < 60);
                bad = Peer::open(engine, 2);
            }
            good.say(engine, &said(number as u64 + 1, b"still here")).unwrap();
            let reply = good.reply();
            let received = matches!(
                decode(&reply),
                DaemonFrame::Receipt { sequence, count, duplicate: false, .. }
                    if sequence == number as u64 + 1 && count == sequence
            );
            prop_assert!(received, "{:?}", reply);
            engine.audit();
        }
    }
}
