//! Rare events of a network, from a daemon that produces them on purpose.

use crate::common::{gap, message, within};
use crate::staged::{Stage, staged};
use bytes::Bytes;
use weir::client::Subscription;
use weir::wire::{ClientFrame, DaemonFrame, Delivery, GapCause, Start};
use weir::{Client, Event, SubscribeOptions, Trust};

fn small(topic: u64, sequence: u64) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic, sequence, count: 1, stamp: 0, payload: b"x" }
}

fn named(id: u64, next: u64) -> DaemonFrame<'static> {
    DaemonFrame::Topic { id, epoch: id * 10, next, name: "demo/a" }
}

async fn connect(endpoint: &quinn::Endpoint, hash: weir::CertificateHash) -> (Client, Stage) {
    let server = endpoint.local_addr().unwrap().to_string();
    let connecting = Client::builder(server)
        .trust(Trust::Pinned(hash.into()))
        .reconnect(weir::client::Reconnect::never())
        .connect();
    let (client, stage) =
        within(Box::pin(async { tokio::join!(connecting, Stage::accept(endpoint)) })).await;
    (client.unwrap(), stage)
}

// Subscribes. Returns the request, and the position from which the client resumes in its one topic.
async fn subscribe(
    client: &Client,
    stage: &mut Stage,
    start: weir::Start,
) -> (Subscription, u32, Option<u64>) {
    let options = SubscribeOptions::from(start).with_delivery(Delivery::Realtime);
    let answering = async {
        let frame = loop {
            let frame = stage.frame().await;
            if matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Subscribe { .. })) {
                break frame;
            }
        };
        let Ok(ClientFrame::Subscribe { request, start, .. }) = ClientFrame::decode(&frame) else {
            unreachable!()
        };
        stage.send(&DaemonFrame::Subscribed { request, position: 1 }).await;
        match start {
            Start::Resume { topics, .. } | Start::ResumeWith { topics, .. } => {
                (request, topics.first().map(|topic| topic.next))
            }
            _ => (request, None),
        }
    };
    let asking = client.subscribe("demo/a", &options);
    let (subscription, (request, next)) = within(async { tokio::join!(asking, answering) }).await;
    (subscription.unwrap(), request, next)
}

async fn sequences(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        sequences.push(message(subscription).await.sequence);
    }
    sequences
}

// Waits for the client's next datagram with a repair request. Returns the holes.
async fn asked(stage: &Stage) -> Vec<(u64, u64)> {
    loop {
        let datagram = within(stage.connection.read_datagram()).await.unwrap();
        // The length precedes the frame.
        if let Ok(ClientFrame::Repair { holes, .. }) = ClientFrame::decode(&datagram[1..]) {
            return holes;
        }
    }
}

fn datagram(frames: &[DaemonFrame<'_>]) -> Bytes {
    frames.iter().map(DaemonFrame::to_bytes).collect::<Vec<_>>().concat().into()
}

// In an earlier version one gap of three was reported, and the others were taken for reported.
#[tokio::test]
async fn a_message_that_was_not_handed_out_does_not_count_as_received() {
    let (endpoint, hash) = staged();
    let (client, mut stage) = Box::pin(connect(&endpoint, hash)).await;
    let (mut subscription, request, _) = subscribe(&client, &mut stage, weir::Start::New).await;
    let (whose, lost) = (DaemonFrame::For { request }, GapCause::Evicted);
    let gone = DaemonFrame::Gap { topic: 1, first: 1, last: 8, cause: lost };
    let first = [whose, named(1, 1), small(1, 3), small(1, 5), small(1, 9), gone, small(1, 10)];
    let _stream = stage.stream(&first).await;
    assert_eq!(sequences(&mut subscription, 3).await, [3, 5, 9]);
    let missing = gap(&mut subscription).await;
    assert_eq!((missing.first, missing.last), (1, 2));

    let start = subscription.resume();
    drop(subscription);
    let (mut subscription, request, next) = subscribe(&client, &mut stage, start).await;
    assert_eq!(next, Some(4));
    let mut again = vec![DaemonFrame::For { request }, named(1, 4)];
    again.extend((4..=11).map(|sequence| small(1, sequence)));
    let _stream = stage.stream(&again).await;
    assert_eq!(sequences(&mut subscription, 6).await, [4, 6, 7, 8, 10, 11]);
}

// In an earlier version a topic that was forgotten and began anew lost its holes silently.
#[tokio::test]
async fn messages_missing_when_a_topic_begins_anew_are_reported() {
    let (endpoint, hash) = staged();
    let (client, mut stage) = Box::pin(connect(&endpoint, hash)).await;
    let (mut subscription, request, _) = subscribe(&client, &mut stage, weir::Start::New).await;
    let whose = DaemonFrame::For { request };
    let old = [whose, named(1, 1), small(1, 2), small(1, 4)];
    let _stream =
        stage.stream(&[&old[..], &[named(2, 1), small(2, 1), small(1, 3)]].concat()).await;
    assert_eq!(sequences(&mut subscription, 2).await, [2, 4]);
    for sequence in [1, 3] {
        let missing = gap(&mut subscription).await;
        assert_eq!((missing.first, missing.last, missing.epoch), (sequence, sequence, 10));
        assert_eq!(missing.cause, GapCause::Evicted);
    }
    let first = message(&mut subscription).await;
    assert_eq!((first.sequence, first.epoch), (1, 20));
    // A message that overtook the announcement of its topic, and an older one that arrives late.
    let late = [DaemonFrame::For { request }, named(1, 1), small(1, 5), small(3, 1), small(2, 2)];
    stage.connection.send_datagram(datagram(&late)).unwrap();
    assert_eq!(message(&mut subscription).await.sequence, 2);
}

#[tokio::test]
async fn holes_are_requested_in_datagrams_and_then_on_the_control_stream() {
    let (endpoint, hash) = staged();
    let (client, mut stage) = Box::pin(connect(&endpoint, hash)).await;
    let (mut subscription, request, _) = subscribe(&client, &mut stage, weir::Start::New).await;
    let reading = tokio::spawn(async move {
        let seen = sequences(&mut subscription, 5).await;
        (seen, subscription.stats())
    });
    let whose = DaemonFrame::For { request };
    let mut stream = stage.stream(&[whose, named(1, 1)]).await;
    // The datagram does not name the subscription, because there is only one.
    stage.connection.send_datagram(datagram(&[named(1, 1), small(1, 2)])).unwrap();
    stage.connection.send_datagram(datagram(&[small(1, 4)])).unwrap();
    // In one request, or in two if the client sees the second hole later.
    let mut holes = Vec::new();
    while holes.len() < 4 {
        holes.extend(asked(&stage).await);
    }
    holes.sort_unstable();
    assert_eq!(holes, [(1, 1), (1, 1), (3, 3), (3, 3)]);
    let mut reliably = Vec::new();
    while reliably.len() < 2 {
        let frame = stage.frame().await;
        let Ok(ClientFrame::Repair { holes, topic: 1, .. }) = ClientFrame::decode(&frame) else {
            panic!("{frame:?}");
        };
        reliably.extend(holes);
    }
    assert_eq!(reliably, [(1, 1), (3, 3)]);
    for frame in
        [small(1, 1), small(1, 3), small(1, 3), DaemonFrame::Head { topic: 1, sequence: 5 }]
    {
        stream.write_chunk(frame.to_bytes()).await.unwrap();
    }
    assert_eq!(asked(&stage).await, [(5, 5)]);
    stage.connection.send_datagram(datagram(&[small(1, 5), small(1, 5)])).unwrap();
    let (seen, stats) = within(reading).await.unwrap();
    assert_eq!(seen, [2, 4, 1, 3, 5]);
    assert_eq!((stats.repaired, stats.late), (3, 0));
}

// A datagram that does not consist of frames ends the session, as any other violation of the
// protocol.
#[tokio::test]
async fn a_daemon_that_sends_damaged_datagrams_is_left() {
    for damaged in [&b"x"[..], &[0], &[1, 0x63], &[2, 1, 1, 5]] {
        let (endpoint, hash) = staged();
        let (client, mut stage) = Box::pin(connect(&endpoint, hash)).await;
        let (mut subscription, ..) = subscribe(&client, &mut stage, weir::Start::New).await;
        stage.connection.send_datagram(Bytes::copy_from_slice(damaged)).unwrap();
        let error = match within(subscription.next()).await.unwrap() {
            Ok(Event::Message(message)) => panic!("{message:?}"),
            other => other.unwrap_err(),
        };
        assert!(
            within(client.closed()).await.to_string().contains("broke the protocol"),
            "{error}"
        );
    }
}
