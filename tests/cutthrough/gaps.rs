//! Messages that are aborted or evicted while they are sent, and those that `Get` returns.

use crate::common::{TRANSPORTS, daemon, daemon_with};
use crate::hand::{Hand, StreamEvent, decode};
use crate::{
    Arriving, CHUNK, MODES, begin, chunks, greet, is_gap, payload, publish_all, receipt, topic,
};
use weir::Transport;
use weir::engine::Limits;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Start, Which};

#[tokio::test]
async fn half_a_payload_is_a_gap_and_leaves_nothing_behind() {
    let daemon = daemon().await;
    let payload = payload(2, 5 * CHUNK);
    let mut n = 0;
    for publishes in TRANSPORTS {
        for (mode, dies) in MODES.into_iter().zip([true, false, true]) {
            for receives in TRANSPORTS {
                n += 1;
                let name = format!("demo/{n}");
                let mut subscriber = greet(&daemon, receives, 2).await;
                subscriber.subscribe(1, &name, Start::New, mode).await;
                let mut publisher = greet(&daemon, publishes, 3).await;
                let mut out = publisher.open().await;
                publisher.publish(&mut out, &[topic(&name), begin(1, payload.len())]).await;
                publisher.publish(&mut out, &chunks(&payload[..2 * CHUNK])).await;
                let mut message = Arriving::begin(&mut subscriber, 1).await;
                message.read_to(&mut subscriber, 1, 2 * CHUNK).await;
                let again = if dies { publisher.die() } else { publisher.give_up(out) };
                if mode != Delivery::Ordered && receives != Transport::WebSocket {
                    // The stream is reset, and the gap arrives on another.
                    let (mut reset, mut reported) = (false, false);
                    while !(reset && reported) {
                        match subscriber.next(1).await {
                            StreamEvent::Reset(_) => reset = true,
                            StreamEvent::Frame(frame) => {
                                reported |= is_gap(&frame, 1, GapCause::Aborted);
                            }
                            StreamEvent::End => {}
                        }
                    }
                } else {
                    let frame = subscriber.frame(1).await;
                    let code = Code::PUBLISHER_GONE;
                    assert_eq!(decode(&frame), DaemonFrame::Abort { code });
                    let frame = subscriber.frame(1).await;
                    assert!(is_gap(&frame, 1, GapCause::Aborted), "{:?}", decode(&frame));
                }
                // It is not counted, `Get` does not find it, and its number is free.
                let mut publisher = match again {
                    Some(publisher) => publisher,
                    None => greet(&daemon, publishes, 3).await,
                };
                for which in
                    [Which::Latest, Which::Sequence(1), Which::Digest(Digest::of(&payload))]
                {
                    publisher.send(&[ClientFrame::Get { request: 9, topic: &name, which }]).await;
                    let frame = publisher.frame(0).await;
                    assert!(matches!(
                        decode(&frame),
                        DaemonFrame::Failed { code: Code::NOT_FOUND, .. }
                    ));
                }
                publish_all(&mut publisher, &name, 1, &payload).await;
                assert_eq!(receipt(&mut publisher).await, (2, 1, false));
                let message = Arriving::begin(&mut subscriber, 1).await;
                assert_eq!(message.sequence, 2);
                assert_eq!(message.end(&mut subscriber, 1, &payload).await, 1);
            }
        }
    }
}

#[tokio::test]
async fn a_get_returns_a_large_message_in_chunks() {
    let daemon = daemon().await;
    let payload = payload(8, 20 * CHUNK + 1);
    daemon.publish("demo/a", payload.clone()).unwrap();
    for transport in TRANSPORTS {
        let mut hand = greet(&daemon, transport, 1).await;
        for (request, which) in
            (1..).zip([Which::Latest, Which::Sequence(1), Which::Digest(Digest::of(&payload))])
        {
            hand.send(&[ClientFrame::Get { request, topic: "demo/a", which }]).await;
            let frame = hand.frame(request).await;
            let DaemonFrame::Begin { sequence: 1, size, .. } = decode(&frame) else { panic!() };
            let (size, bytes) = (size as usize, Vec::new());
            let message = Arriving { sequence: 1, stamp: 0, size, bytes };
            message.end(&mut hand, request, &payload).await;
        }
    }
}

#[tokio::test]
async fn a_message_evicted_while_it_is_sent_is_aborted_and_a_gap() {
    let limits = Limits::default().with_cache(32 << 20).with_payload(8 << 20);
    let large = payload(9, 8 << 20);
    for transport in TRANSPORTS {
        for mode in MODES {
            let daemon = daemon_with(limits).await;
            let mut subscriber = greet(&daemon, transport, 2).await;
            let mut getter = greet(&daemon, transport, 3).await;
            subscriber.subscribe(1, "demo/a", Start::New, mode).await;
            daemon.publish("demo/a", large.clone()).unwrap();
            // The message has begun, so that the part that has arrived is in the windows of the
            // transport.
            Arriving::begin(&mut subscriber, 1).await;
            subscriber.set_reading(false);
            getter
                .send(&[ClientFrame::Get { request: 1, topic: "demo/a", which: Which::Latest }])
                .await;
            assert!(matches!(decode(&getter.frame(1).await), DaemonFrame::Begin { .. }));
            getter.set_reading(false);
            for n in 0..6 {
                daemon.publish("demo/a", payload(100 + n, 8 << 20)).unwrap();
            }
            subscriber.set_reading(true);
            getter.set_reading(true);
            // The buffers of TCP in the kernel may hold all of it.
            let evicted = is_aborted(&mut getter, 1).await;
            assert!(evicted || transport == Transport::WebSocket);
            if mode != Delivery::Ordered && transport != Transport::WebSocket {
                let (mut reset, mut reported) = (false, false);
                while !(reset && reported) {
                    match subscriber.next(1).await {
                        StreamEvent::Reset(_) => reset = true,
                        StreamEvent::Frame(frame) => {
                            reported |= is_gap(&frame, 1, GapCause::Evicted);
                        }
                        StreamEvent::End => {}
                    }
                }
            } else if is_aborted(&mut subscriber, 1).await {
                let frame = subscriber.frame(1).await;
                let DaemonFrame::Gap { first: 1, last, cause: GapCause::Evicted, .. } =
                    decode(&frame)
                else {
                    panic!("{:?}", decode(&frame));
                };
                let next = Arriving::begin(&mut subscriber, 1).await;
                assert_eq!(next.sequence, last + 1);
            }
        }
    }
}

// Reads to the end of a message. Returns true if it was aborted, false if it is complete.
async fn is_aborted(hand: &mut Hand, request: u32) -> bool {
    loop {
        let frame = hand.frame(request).await;
        match decode(&frame) {
            DaemonFrame::Chunk { .. } => {}
            DaemonFrame::Abort { code: Code::EVICTED } => return true,
            DaemonFrame::End { .. } => return false,
            other => panic!("{other:?}"),
        }
    }
}
