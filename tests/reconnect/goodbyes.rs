//! What a daemon says at the end of a session, by a scripted daemon.

use crate::common::within;
use crate::soon;
use crate::staged::{Stage, staged};
use bytes::Bytes;
use weir::client::{State, SubscribeError};
use weir::wire::{ClientFrame, Code, DaemonFrame, Digest, FrameReader, Start};
use weir::{Client, SubscribeOptions, Trust};

async fn session() -> (quinn::Endpoint, Client, Stage) {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let builder = Client::builder(server).trust(Trust::Pinned(hash.into())).reconnect(soon());
    let (client, stage) = tokio::join!(builder.connect(), Stage::accept(&endpoint));
    (endpoint, client.unwrap(), stage)
}

fn goodbye(code: Code, retry: bool) -> DaemonFrame<'static> {
    DaemonFrame::Goodbye { code, reason: "by the test", retry }
}

fn receipt(number: u64) -> DaemonFrame<'static> {
    let digest = Digest([0; 32]);
    DaemonFrame::Receipt {
        alias: 0,
        number,
        sequence: 5,
        count: 1,
        since: 0,
        digest,
        duplicate: true,
    }
}

/// Reads the publishing stream: the declaration of alias 0, then numbers of publications.
async fn published(stage: &Stage, numbers: &[u64]) -> quinn::RecvStream {
    let mut stream = within(stage.connection.accept_uni()).await.unwrap();
    let mut reader = FrameReader::new(1 << 20);
    let mut frames: Vec<Bytes> = Vec::new();
    while frames.len() <= numbers.len() {
        match reader.next_frame().unwrap() {
            Some(frame) => frames.push(frame),
            None => {
                let chunk = within(stream.read_chunk(1 << 16, true)).await.unwrap();
                reader.push(chunk.unwrap().bytes);
            }
        }
    }
    let declared = ClientFrame::decode(&frames[0]);
    assert!(matches!(declared, Ok(ClientFrame::Topic { alias: 0, name: "t/a" })), "{declared:?}");
    for (frame, expected) in frames[1..].iter().zip(numbers) {
        match ClientFrame::decode(frame) {
            Ok(ClientFrame::Publish { alias: 0, number, .. }) => assert_eq!(number, *expected),
            other => panic!("{other:?}"),
        }
    }
    stream
}

#[tokio::test]
async fn after_a_goodbye_that_says_retry_the_same_producer_publishes_the_same_numbers() {
    let (endpoint, client, mut stage) = session().await;
    let first = client.send("t/a", "1").await.unwrap();
    let second = client.send("t/a", "2").await.unwrap();
    let third = client.send("t/a", "3").await.unwrap();
    let _stream = published(&stage, &[1, 2, 3]).await;
    stage.send(&receipt(2)).await;
    within(second).await.unwrap();
    // The daemon says retry with a code that this client does not know.
    stage.send(&goodbye(Code(0x7000), true)).await;
    let mut next = Stage::accept(&endpoint).await;
    assert_eq!(next.producer, stage.producer);
    let fourth = client.send("t/a", "4").await.unwrap();
    let _stream = published(&next, &[1, 3, 4]).await;
    for number in [1, 3, 4] {
        next.send(&receipt(number)).await;
    }
    assert!(within(first).await.unwrap().duplicate);
    within(third).await.unwrap();
    within(fourth).await.unwrap();
}

async fn answer_ping(stage: &mut Stage) {
    let frame = stage.frame().await;
    let Ok(ClientFrame::Ping { request }) = ClientFrame::decode(&frame) else { panic!("no ping") };
    stage.send(&DaemonFrame::Pong { request, clock: 1 }).await;
}

// A daemon that ends a session stops its streams, and the stop may overtake the goodbye.
#[tokio::test]
async fn a_stop_of_the_publishing_stream_before_the_goodbye_is_no_violation() {
    let (endpoint, client, mut stage) = session().await;
    let first = client.send("t/a", "1").await.unwrap();
    drop(published(&stage, &[1]).await);
    // The stop arrives before the answer.
    within(async { tokio::join!(client.ping(), answer_ping(&mut stage)).0.unwrap() }).await;
    let second = client.send("t/a", "2").await.unwrap();
    // The client has tried to send the second one, and goes on.
    within(async { tokio::join!(client.ping(), answer_ping(&mut stage)).0.unwrap() }).await;
    stage.send(&goodbye(Code::SHUTTING_DOWN, true)).await;
    let mut next = Stage::accept(&endpoint).await;
    let _stream = published(&next, &[1, 2]).await;
    for (number, pending) in [(1, first), (2, second)] {
        next.send(&receipt(number)).await;
        within(pending).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_goodbye_without_retry_the_client_is_closed() {
    for (code, retry) in
        [(Code::UNAUTHORIZED, false), (Code::SHUTTING_DOWN, false), (Code::DONE, false)]
    {
        let (_endpoint, client, mut stage) = session().await;
        let pending = client.send("t/a", "1").await.unwrap();
        stage.send(&goodbye(code, retry)).await;
        let closed = within(client.closed()).await;
        assert_eq!((closed.code, closed.retry), (Some(code), false));
        assert!(within(pending).await.is_err());
    }
}

// The client ends the session, and another would be the same.
#[tokio::test]
async fn a_daemon_that_breaks_the_protocol_is_left_for_good() {
    let (_endpoint, client, mut stage) = session().await;
    stage.send(&DaemonFrame::Chunk { bytes: b"x" }).await;
    let closed = within(client.closed()).await;
    assert!(closed.code.is_none() && !closed.retry, "{closed}");
}

async fn subscribed(stage: &mut Stage) -> (u32, Start<'static>) {
    let frame = stage.frame().await;
    let Ok(ClientFrame::Subscribe { request, start, .. }) = ClientFrame::decode(&frame) else {
        panic!("no subscribe");
    };
    let start = match start {
        Start::Resume { since, .. } => Start::Resume { since, topics: Vec::new() },
        Start::New => Start::New,
        other => panic!("{other:?}"),
    };
    stage.send(&DaemonFrame::Subscribed { request, position: 7 }).await;
    (request, start)
}

#[tokio::test]
async fn a_daemon_that_is_about_to_stop_is_left_for_another_while_it_still_serves() {
    let (endpoint, client, mut stage) = session().await;
    let options = SubscribeOptions::default();
    let subscribe = client.subscribe("t/*", &options);
    let (subscription, _) = tokio::join!(subscribe, subscribed(&mut stage));
    let mut subscription = subscription.unwrap();
    let pending = client.send("t/a", "1").await.unwrap();
    let _stream = published(&stage, &[1]).await;
    stage.send(&DaemonFrame::Drain { within: 100, reason: "soon" }).await;
    let mut next = Stage::accept(&endpoint).await;
    assert_eq!(next.producer, stage.producer);
    // Only now does the old session end.
    within(stage.connection.closed()).await;
    let interruption = crate::interruption(&mut subscription).await;
    assert_eq!((interruption.code, &*interruption.reason), (Some(Code::SHUTTING_DOWN), "soon"));
    assert!(matches!(client.state(), State::Open { attempts: 0, .. }));
    let _stream = published(&next, &[1]).await;
    next.send(&receipt(1)).await;
    within(pending).await.unwrap();
    let resumed = async {
        let (request, start) = subscribed(&mut next).await;
        assert!(matches!(start, Start::Resume { since, .. } if since.position == 7));
        next.send(&DaemonFrame::Ended { request, code: Code::DONE, reason: "" }).await;
    };
    let (event, ()) = tokio::join!(subscription.next(), resumed);
    assert!(matches!(event, Some(Err(SubscribeError::Refused(_)))), "{event:?}");
}

// Without another daemon the session continues to its end, and then the client reconnects.
#[tokio::test]
async fn without_another_daemon_it_is_served_to_the_end() {
    let (endpoint, client, mut stage) = session().await;
    stage.send(&DaemonFrame::Drain { within: 0, reason: "soon" }).await;
    // A daemon that refuses each session before its welcome.
    let refusing = async {
        let connection = within(endpoint.accept()).await.unwrap().await.unwrap();
        connection.close(Code::OVERLOADED.0.into(), b"full");
    };
    within(refusing).await;
    let (pong, ()) = tokio::join!(client.ping(), answer_ping(&mut stage));
    pong.unwrap();
    stage.send(&goodbye(Code::SHUTTING_DOWN, true)).await;
    let _next = Stage::accept(&endpoint).await;
    within(client.open()).await.unwrap();
}
