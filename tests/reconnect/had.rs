//! Messages above a hole, which a client has received when its session ends.

use crate::common::{daemon, gap, message, within};
use crate::hand::{Hand, StreamEvent, Upload, decode};
use crate::link::Mode;
use crate::staged::{Stage, staged};
use crate::{interruption, linked, soon};
use std::collections::BTreeSet;
use weir::client::Subscription;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, Delivery, GapCause, Had, Resume};
use weir::{Client, Daemon, Start, SubscribeOptions, Transport, Trust};

const OUT_OF_ORDER: [Delivery; 2] = [Delivery::Unordered, Delivery::Realtime];
const QUIC: [Transport; 2] = [Transport::Quic, Transport::WebTransport];

// Begins a message that never ends, with sequence 1. It stays a hole while the hand lives.
async fn hole(daemon: &Daemon) -> (Hand, Upload) {
    let mut watcher = Hand::greet(daemon.local_addr(), Transport::Quic, 8).await;
    watcher.subscribe(1, "t/a", wire::Start::New, Delivery::Ordered).await;
    let mut hand = Hand::greet(daemon.local_addr(), Transport::Quic, 9).await;
    let mut out = hand.open().await;
    let declaration = ClientFrame::Topic { alias: 1, name: "t/a" };
    let begin = ClientFrame::Begin { alias: 1, number: 1, stamp: 0, size: 200_000 };
    let chunk = ClientFrame::Chunk { bytes: &[7; 1000] };
    assert!(hand.publish(&mut out, &[declaration, begin, chunk]).await);
    let begun = watcher.frame(1).await;
    assert!(matches!(decode(&begun), DaemonFrame::Begin { sequence: 1, .. }));
    (hand, out)
}

async fn sequences(subscription: &mut Subscription, count: usize) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    for _ in 0..count {
        let sequence = message(subscription).await.sequence;
        assert!(all.insert(sequence), "{sequence} arrived twice");
    }
    all
}

#[tokio::test]
async fn messages_above_a_hole_are_not_sent_again_when_the_link_breaks() {
    for transport in QUIC {
        for delivery in OUT_OF_ORDER {
            let daemon = daemon().await;
            let (link, client) = linked(&daemon, transport).await;
            let options = SubscribeOptions::default().with_delivery(delivery);
            let mut subscription = client.subscribe("t/*", &options).await.unwrap();
            let _publisher = hole(&daemon).await;
            for n in 2..=40 {
                daemon.publish("t/a", n.to_string()).unwrap();
            }
            let received = sequences(&mut subscription, 39).await;
            assert!(received.into_iter().eq(2..=40), "{transport} {delivery:?}");
            // The clock skips half a minute, within which the daemon aborts the large message.
            link.cut(&client).await;
            link.set(Mode::Pass);
            interruption(&mut subscription).await;
            let before = subscription.stats().repeated;
            let missing = gap(&mut subscription).await;
            assert_eq!((missing.first, missing.last, missing.cause), (1, 1, GapCause::Aborted));
            daemon.publish("t/a", "41").unwrap();
            assert_eq!(message(&mut subscription).await.sequence, 41, "{transport} {delivery:?}");
            let repeated = subscription.stats().repeated - before;
            assert_eq!(repeated, 0, "{transport} {delivery:?}");
        }
    }
}

// Counts the frames of messages that the daemon sends, whoever would drop them.
#[tokio::test]
async fn the_daemon_sends_only_the_holes_and_what_is_new() {
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        for delivery in [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime] {
            // The hand does not read datagrams.
            if delivery != Delivery::Ordered && transport == Transport::WebTransport
                || delivery == Delivery::Realtime && transport == Transport::Quic
            {
                continue;
            }
            let daemon = daemon().await;
            for n in 1..=40 {
                daemon.publish("t/a", n.to_string()).unwrap();
            }
            let mut hand = Hand::greet(daemon.local_addr(), transport, 9).await;
            hand.subscribe(1, "t/a", wire::Start::All, delivery).await;
            let epoch = loop {
                if let StreamEvent::Frame(frame) = hand.next(1).await
                    && let DaemonFrame::Topic { epoch, .. } = decode(&frame)
                {
                    break epoch;
                }
            };
            let since = wire::Position { run: 0, position: 0 };
            let topics = vec![Resume { topic: "t/a", epoch, next: 10 }];
            let had = vec![Had::new(0, 10, &[(12, 20), (22, 39)])];
            let start = wire::Start::ResumeWith { since, topics, had };
            hand.subscribe(2, "t/a", start, delivery).await;
            let (mut sent, mut skipped) = (BTreeSet::new(), BTreeSet::new());
            while sent.len() + skipped.len() < 31 {
                match hand.next(2).await {
                    StreamEvent::Frame(frame) => match decode(&frame) {
                        DaemonFrame::Message { sequence, .. } => assert!(sent.insert(sequence)),
                        DaemonFrame::Gap { first, last, cause: GapCause::Had, .. } => {
                            skipped.extend(first..=last);
                        }
                        DaemonFrame::For { .. }
                        | DaemonFrame::Topic { .. }
                        | DaemonFrame::Head { .. } => {}
                        other => panic!("{other:?}"),
                    },
                    StreamEvent::End => {}
                    StreamEvent::Reset(code) => panic!("reset: {code}"),
                }
            }
            assert!(sent.into_iter().eq([10, 11, 21, 40]), "{transport} {delivery:?}");
            assert!(skipped.into_iter().eq((12..=20).chain(22..=39)), "{transport} {delivery:?}");
        }
    }
}

fn small(topic: u64, sequence: u64) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic, sequence, count: 1, stamp: 0, payload: b"x" }
}

fn announced(id: u64, epoch: u64, next: u64) -> DaemonFrame<'static> {
    DaemonFrame::Topic { id, epoch, next, name: "t/a" }
}

fn missing(topic: u64, first: u64, last: u64, cause: GapCause) -> DaemonFrame<'static> {
    DaemonFrame::Gap { topic, first, last, cause }
}

// What a client shows of its topic, in the next subscription that it makes.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    epoch: u64,
    next: u64,
    had: Vec<(u64, u64)>,
}

async fn subscribed(stage: &mut Stage) -> (u32, Option<Shown>) {
    let frame = loop {
        let frame = stage.frame().await;
        if matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Subscribe { .. })) {
            break frame;
        }
    };
    let Ok(ClientFrame::Subscribe { request, start, .. }) = ClientFrame::decode(&frame) else {
        unreachable!()
    };
    stage.send(&DaemonFrame::Subscribed { request, position: 7 }).await;
    let shown = |topics: &[Resume<'_>], had: &[Had]| {
        let [Resume { topic: "t/a", epoch, next }] = *topics else { panic!("{topics:?}") };
        let had = had.iter().flat_map(|had| {
            assert_eq!(had.topic, 0);
            had.sequences(next)
        });
        Shown { epoch, next, had: had.collect() }
    };
    let shown = match &start {
        wire::Start::New => None,
        wire::Start::Resume { topics, .. } => Some(shown(topics, &[])),
        wire::Start::ResumeWith { topics, had, .. } => Some(shown(topics, had)),
        other => panic!("{other:?}"),
    };
    (request, shown)
}

async fn end(stage: &mut Stage) {
    let (code, reason) = (Code::SHUTTING_DOWN, "by the test");
    stage.send(&DaemonFrame::Goodbye { code, reason, retry: true }).await;
}

// Answers the next subscription, which is made when the old one is read, with these frames. Returns
// what the client has shown, and the events up to `count` messages.
async fn resumed(
    stage: &mut Stage,
    subscription: &mut Subscription,
    frames: &[DaemonFrame<'_>],
    count: usize,
) -> (Option<Shown>, BTreeSet<u64>) {
    let answering = async {
        let (request, shown) = subscribed(stage).await;
        let whose = [DaemonFrame::For { request }];
        let frames: Vec<_> = whose.iter().chain(frames).cloned().collect();
        (shown, stage.stream(&frames).await)
    };
    let reading = sequences(subscription, count);
    let ((shown, stream), received) = within(async { tokio::join!(answering, reading) }).await;
    // It stays open until the session ends.
    std::mem::forget(stream);
    (shown, received)
}

#[tokio::test]
async fn a_client_shows_what_it_had_in_this_run_and_in_the_next() {
    for delivery in OUT_OF_ORDER {
        let (endpoint, hash) = staged();
        let server = endpoint.local_addr().unwrap().to_string();
        let builder = Client::builder(server).trust(Trust::Pinned(hash.into())).reconnect(soon());
        let (client, stage) = tokio::join!(builder.connect(), Stage::accept(&endpoint));
        let (client, mut stage) = (client.unwrap(), stage);
        let options = SubscribeOptions::from(Start::New).with_delivery(delivery);
        let subscribe = client.subscribe("t/a", &options);
        let (subscription, (request, shown)) = tokio::join!(subscribe, subscribed(&mut stage));
        let mut subscription = subscription.unwrap();
        assert_eq!(shown, None);
        let first = [
            DaemonFrame::For { request },
            announced(1, 10, 4),
            small(1, 4),
            small(1, 6),
            small(1, 7),
            small(1, 9),
        ];
        let _stream = stage.stream(&first).await;
        sequences(&mut subscription, 4).await;

        // The next session, of the same run. The hole at 5 is closed, and the one at 8 is not.
        end(&mut stage).await;
        let mut stage = Stage::accept(&endpoint).await;
        interruption(&mut subscription).await;
        let same = [
            announced(1, 10, 5),
            small(1, 5),
            missing(1, 6, 7, GapCause::Had),
            missing(1, 9, 9, GapCause::Had),
            small(1, 10),
            small(1, 12),
        ];
        let (shown, received) = resumed(&mut stage, &mut subscription, &same, 3).await;
        assert_eq!(shown, Some(Shown { epoch: 10, next: 5, had: vec![(6, 7), (9, 9)] }));
        assert!(received.into_iter().eq([5, 10, 12]), "{delivery:?}");

        // A session of the next run, which has not kept what came after 10.
        end(&mut stage).await;
        let mut stage = Stage::accept(&endpoint).await;
        interruption(&mut subscription).await;
        let next = [
            announced(1, 20, 8),
            missing(1, 11, 12, GapCause::Lost),
            missing(1, 9, 10, GapCause::Had),
            small(1, 12),
        ];
        let answering = async {
            let (request, shown) = subscribed(&mut stage).await;
            let whose = [DaemonFrame::For { request }];
            let frames: Vec<_> = whose.iter().chain(&next).cloned().collect();
            (shown, stage.stream(&frames).await)
        };
        let reading = gap(&mut subscription);
        let ((shown, _stream), lost) = within(async { tokio::join!(answering, reading) }).await;
        assert_eq!(shown, Some(Shown { epoch: 10, next: 8, had: vec![(9, 10), (12, 12)] }));
        assert_eq!((lost.first, lost.last, lost.cause), (11, 12, GapCause::Lost));
        // Sequence 12 of the new epoch is another message.
        let again = message(&mut subscription).await;
        assert_eq!((again.epoch, again.sequence), (20, 12));

        // The daemon has confirmed 9 and 10 in the new epoch.
        end(&mut stage).await;
        let mut stage = Stage::accept(&endpoint).await;
        interruption(&mut subscription).await;
        let last = [announced(1, 20, 8), small(1, 8), small(1, 11), small(1, 13)];
        let (shown, received) = resumed(&mut stage, &mut subscription, &last, 3).await;
        assert_eq!(shown, Some(Shown { epoch: 20, next: 8, had: vec![(9, 10), (12, 12)] }));
        assert!(received.into_iter().eq([8, 11, 13]));

        // Without a hole there is nothing to show.
        end(&mut stage).await;
        let mut stage = Stage::accept(&endpoint).await;
        interruption(&mut subscription).await;
        let (request, shown) = tokio::select! {
            event = subscription.next() => panic!("{event:?}"),
            subscribed = subscribed(&mut stage) => subscribed,
        };
        assert_eq!(shown, Some(Shown { epoch: 20, next: 14, had: vec![] }));
        // A gap of a cause that only a newer daemon knows is a gap.
        let unknown = GapCause::Unknown(99);
        let gone =
            [DaemonFrame::For { request }, announced(1, 20, 14), missing(1, 14, 15, unknown)];
        let _stream = stage.stream(&gone).await;
        let gone = gap(&mut subscription).await;
        assert_eq!((gone.first, gone.last, gone.cause), (14, 15, unknown));
    }
}
