//! The frames that a peer sends in datagrams.

use super::peer::{Peer, code, decode, said, subscribe, topic};
use super::{engine, small};
use crate::engine::{Action, Channel, Engine};
use crate::wire::realtime::HOLES;
use crate::wire::{ClientFrame, Code, DaemonFrame, Delivery, Lag, Refusal, Start};

fn say_in_datagram(
    peer: &mut Peer,
    engine: &mut Engine,
    frame: &ClientFrame<'_>,
) -> Result<Option<Action>, Refusal> {
    peer.say_on(engine, Channel::Datagram, frame)
}

fn scattered(request: u32, delivery: Delivery, deadline: u32) -> ClientFrame<'static> {
    let ClientFrame::Subscribe { filter, start, lag, .. } = subscribe(request, "a", Start::New)
    else {
        unreachable!()
    };
    ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline }
}

#[test]
fn repairs_name_few_holes_in_order() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    peer.say(engine, &scattered(4, Delivery::Realtime, 0)).unwrap();
    peer.reply();
    let hole = |holes: &[(u64, u64)]| ClientFrame::Repair {
        subscription: 4,
        topic: 9,
        holes: holes.to_vec(),
    };
    let many: Vec<_> = (0..=HOLES as u64).map(|n| (2 * n, 2 * n)).collect();
    for (channel, reliably) in [(Channel::Control, true), (Channel::Datagram, false)] {
        for good in [&[][..], &[(5, 5)], &[(0, 3), (4, 4), (9, u64::MAX)], &many[1..]] {
            let action = peer.say_on(engine, channel, &hole(good)).unwrap();
            let Some(Action::Repair { request: 4, topic: 9, holes, reliably: told }) = action
            else {
                panic!("{action:?}");
            };
            assert_eq!((&holes[..], told), (good, reliably));
        }
        for bad in [&[(6, 5)][..], &[(1, 2), (2, 3)], &[(5, 6), (1, 2)], &[(1, 1), (1, 1)], &many] {
            assert_eq!(code(peer.say_on(engine, channel, &hole(bad))), Code::MALFORMED, "{bad:?}");
        }
        // Of a subscription that has ended, or never was.
        let frame = ClientFrame::Repair { subscription: 5, topic: 9, holes: vec![(1, 1)] };
        assert!(peer.say_on(engine, channel, &frame).unwrap().is_none());
    }
    assert_eq!(code(peer.say_on(engine, Channel::Publish, &hole(&[(1, 1)]))), Code::UNEXPECTED);
    assert_eq!(peer.replies.next_frame(), Ok(None), "nothing of it is answered");
}

#[test]
fn datagrams_publish_and_ask_and_that_is_all() {
    let engine = &mut engine(small());
    let mut early = Peer::new(engine);
    for frame in
        [topic(1, "a"), said(1, b"x"), ClientFrame::Ping { request: 1 }, super::peer::hello(3)]
    {
        assert!(say_in_datagram(&mut early, engine, &frame).unwrap().is_none(), "before the hello");
    }
    assert!(!early.session.is_open() && early.replies.next_frame() == Ok(None));

    let mut peer = Peer::open(engine, 1);
    assert!(say_in_datagram(&mut peer, engine, &said(1, b"x")).unwrap().is_none(), "no such alias");
    assert_eq!(engine.position(), 0);
    say_in_datagram(&mut peer, engine, &topic(1, "a")).unwrap();
    for frame in [said(1, b"x"), said(1, b"x"), said(3, b"y")] {
        let action = say_in_datagram(&mut peer, engine, &frame).unwrap();
        assert!(matches!(action, Some(Action::Acknowledge { alias: 1 })), "{action:?}");
    }
    assert_eq!((engine.position(), peer.replies.next_frame()), (2, Ok(None)));
    // On a stream the same number is a duplicate, with a receipt.
    peer.say_on(engine, Channel::Publish, &said(3, b"y")).unwrap();
    let reply = peer.reply();
    assert!(matches!(decode(&reply), DaemonFrame::Receipt { number: 3, duplicate: true, .. }));
    // A refused publication is rejected, and not acknowledged.
    say_in_datagram(&mut peer, engine, &topic(2, "$weir/x")).unwrap();
    let reserved = ClientFrame::Publish { alias: 2, number: 1, stamp: 0, payload: b"x" };
    let refused = say_in_datagram(&mut peer, engine, &reserved).unwrap();
    assert!(matches!(refused, Some(Action::Refused { code: Code::RESERVED })), "{refused:?}");
    let reply = peer.reply();
    assert!(matches!(decode(&reply), DaemonFrame::Rejected { alias: 2, number: 1, .. }));

    assert_eq!(code(say_in_datagram(&mut peer, engine, &topic(1, "b"))), Code::BAD_ALIAS);
    for frame in [
        ClientFrame::Ping { request: 1 },
        subscribe(1, "a", Start::New),
        ClientFrame::Unsubscribe { subscription: 1 },
        ClientFrame::Goodbye { code: Code::DONE, reason: "" },
        super::peer::hello(1),
    ] {
        assert_eq!(code(say_in_datagram(&mut peer, engine, &frame)), Code::UNEXPECTED, "{frame:?}");
    }
}

#[test]
fn an_acknowledgement_says_what_was_accepted() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    let acknowledged = |peer: &Peer, engine: &Engine, alias| {
        let mut out = Vec::new();
        peer.session.acknowledge(engine, alias, &mut out);
        let (length, frame) = out.split_first()?;
        assert_eq!(usize::from(*length), frame.len());
        match DaemonFrame::decode(frame).unwrap() {
            DaemonFrame::Acknowledge { alias: told, floor, seen } if told == alias => {
                Some((floor, seen))
            }
            other => panic!("{other:?}"),
        }
    };
    say_in_datagram(&mut peer, engine, &topic(1, "a")).unwrap();
    assert_eq!(acknowledged(&peer, engine, 1), None, "nothing was published");
    assert_eq!(acknowledged(&peer, engine, 2), None, "nobody declared it");
    for (number, expected) in [
        (1, (1, 0)),
        (3, (1, 0b10)),
        (4, (1, 0b110)),
        // The last that there is a bit for, and one more.
        (65, (1, 1 << 63 | 0b110)),
        (66, (1, 1 << 63 | 0b110)),
        (2, (4, 1 << 60 | 1 << 61)),
        // So far ahead that the oldest ones missing are given up.
        (4 + 1024, (4, 1 << 60 | 1 << 61)),
        (5 + 1024, (5, 1 << 59 | 1 << 60)),
    ] {
        let action = say_in_datagram(&mut peer, engine, &said(number, b"x")).unwrap();
        assert_eq!(acknowledged(&peer, engine, 1), Some(expected), "after {number}");
        // A number beyond the bits gets a receipt.
        if number > expected.0 + 64 {
            assert!(action.is_none(), "{action:?}");
            let reply = peer.reply();
            assert!(matches!(decode(&reply), DaemonFrame::Receipt { duplicate: false, .. }));
        } else {
            assert!(matches!(action, Some(Action::Acknowledge { alias: 1 })), "{action:?}");
        }
    }
    // Another producer has another window.
    let mut other = Peer::open(engine, 2);
    say_in_datagram(&mut other, engine, &topic(1, "a")).unwrap();
    assert_eq!(acknowledged(&other, engine, 1), None);
}

#[test]
fn the_first_subscription_with_datagrams_is_bare() {
    let engine = &mut engine(small());
    let mut peer = Peer::open(engine, 1);
    let mut begin = |frame: &ClientFrame<'_>| {
        let action = peer.say(engine, frame).unwrap();
        peer.reply();
        match action {
            Some(Action::Deliver { bare, delivery, deadline, .. }) => {
                Some((bare, delivery, deadline))
            }
            Some(Action::Stop { .. } | Action::Refused { .. }) => None,
            other => panic!("{other:?}"),
        }
    };
    let (ordered, unordered, realtime) =
        (Delivery::Ordered, Delivery::Unordered, Delivery::Realtime);
    assert_eq!(begin(&scattered(1, ordered, 7)), Some((false, ordered, 0)));
    // One that is refused is none.
    let refused = ClientFrame::Subscribe {
        request: 2,
        filter: "a//b",
        start: Start::New,
        delivery: realtime,
        lag: Lag::Oldest,
        deadline: 0,
    };
    assert_eq!(begin(&refused), None);
    assert_eq!(begin(&scattered(3, unordered, 7)), Some((true, unordered, 0)));
    assert_eq!(begin(&scattered(4, realtime, 7)), Some((false, realtime, 7000)));
    assert_eq!(begin(&ClientFrame::Unsubscribe { subscription: 3 }), None);
    assert_eq!(
        begin(&scattered(5, realtime, u32::MAX)),
        Some((false, realtime, 4_294_967_295_000))
    );
}
