//! Messages that arrive at a subscriber in chunks.

use crate::common::{gap, message, within};
use crate::{FOR, begin, chunks, closed, end, payload, send, small, subscribed, topic, wrong};

use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, FrameReader, GapCause};

#[tokio::test]
async fn other_topics_overtake_a_message_that_is_arriving() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Ordered).await;
    let large = payload(200_000);
    let head = [FOR, topic(1), topic(2), begin(1, 1, large.len())];
    let mut stream = stage.stream(&head).await;
    for (sequence, chunk) in (1..).zip(chunks(&large)) {
        send(&mut stream, &[chunk, small(2, sequence)]).await;
        let between = message(&mut subscription).await;
        assert_eq!((&*between.topic, between.sequence), ("demo/b", sequence));
    }
    send(&mut stream, &[end(&large), small(1, 2)]).await;
    let whole = message(&mut subscription).await;
    assert_eq!((&*whole.topic, whole.sequence, whole.count), ("demo/a", 1, 3));
    assert_eq!((whole.stamp, whole.digest()), (Some(9), Digest::of(&large)));
    assert!(whole.payload == large);
    assert_eq!(message(&mut subscription).await.sequence, 2);
}

#[tokio::test]
async fn an_aborted_message_is_a_gap_and_nothing_else() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Ordered).await;
    let large = payload(200_000);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    let parts: Vec<_> = chunks(&large).collect();
    send(&mut stream, &parts[..2]).await;
    let cause = GapCause::Aborted;
    let rest = [
        DaemonFrame::Abort { code: Code::PUBLISHER_GONE },
        DaemonFrame::Gap { topic: 1, first: 1, last: 1, cause },
        small(1, 2),
    ];
    send(&mut stream, &rest).await;
    let missing = gap(&mut subscription).await;
    assert_eq!((missing.first, missing.last, missing.cause), (1, 1, cause));
    assert_eq!(message(&mut subscription).await.sequence, 2);
}

#[tokio::test]
async fn a_stream_that_is_reset_half_way_is_a_gap_and_nothing_else() {
    for delivery in [Delivery::Unordered, Delivery::Realtime] {
        let (_client, mut stage, mut subscription) = subscribed(delivery).await;
        let large = payload(200_000);
        let mut own = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
        let mut stream = stage.stream(&[FOR, topic(1), topic(2), small(2, 1)]).await;
        assert_eq!(&*message(&mut subscription).await.topic, "demo/b");
        send(&mut own, &chunks(&large).take(2).collect::<Vec<_>>()).await;
        own.reset(Code::PUBLISHER_GONE.0.into()).unwrap();
        let cause = GapCause::Aborted;
        send(&mut stream, &[DaemonFrame::Gap { topic: 1, first: 1, last: 1, cause }]).await;
        let missing = gap(&mut subscription).await;
        assert_eq!((missing.first, missing.last, missing.cause), (1, 1, cause));
        send(&mut stream, &[small(1, 2)]).await;
        assert_eq!(message(&mut subscription).await.sequence, 2);
    }
}

// The client does not request a message that is already arriving, but requests the others that are
// missing.
#[tokio::test]
async fn a_message_that_is_arriving_is_not_requested() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Realtime).await;
    let large = payload(200_000);
    // All of it is in one packet: a client that has read the small message has also received the
    // beginning of the large one.
    let mut own = stage.stream(&[]).await;
    let mut head = Vec::new();
    let frames = [FOR, topic(1), topic(2), small(2, 1), begin(1, 1, large.len())];
    frames.iter().for_each(|frame| frame.encode(&mut head));
    own.write_chunk(head.into()).await.unwrap();
    assert_eq!(&*message(&mut subscription).await.topic, "demo/b");
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 3 {
            got.push(message(&mut subscription).await.sequence);
        }
        got
    });
    let _stream = stage.stream(&[FOR, topic(1), small(1, 2), small(1, 4)]).await;
    let asked = within(stage.connection.read_datagram()).await.unwrap();
    let mut reader = FrameReader::new(asked.len());
    reader.push(asked);
    let frame = reader.next_frame().unwrap().unwrap();
    let holes = vec![(3, 3)];
    let repair = ClientFrame::Repair { subscription: 1, topic: 1, holes };
    assert_eq!(ClientFrame::decode(&frame), Ok(repair));
    send(&mut own, &chunks(&large).collect::<Vec<_>>()).await;
    send(&mut own, &[end(&large)]).await;
    assert_eq!(within(reading).await.unwrap(), [2, 4, 1]);
}

#[tokio::test]
async fn a_daemon_that_breaks_the_protocol_is_left() {
    let large = payload(200_000);
    for delivery in [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime] {
        for (what, frames) in wrong(&large) {
            let (client, mut stage, mut subscription) = subscribed(delivery).await;
            let mut own = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
            send(&mut own, &frames).await;
            let error = within(subscription.next()).await.unwrap().expect_err(what);
            assert!(error.to_string().contains("broke the protocol"), "{what}: {error}");
            assert_eq!(closed(&stage).await, u64::from(Code::MALFORMED.0), "{what}");
            assert_eq!(within(client.closed()).await.code, None, "{what}");
        }
    }
}
