//! `Mark`: a client that resumes names the topics that moved after the mark, and no others.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "daemon")]

mod common;
#[path = "common/staged.rs"]
mod staged;

use common::within;
use staged::{Stage, staged};
use weir::client::Subscription;
use weir::wire::{ClientFrame, DaemonFrame, Delivery, GapCause, Position, Start};
use weir::{Client, Event, SubscribeOptions, Trust};

/// Starts a scripted daemon, run 1, and a client of it.
async fn begin() -> (quinn::Endpoint, Client, Stage) {
    let (endpoint, hash) = staged();
    let builder = Client::builder(endpoint.local_addr().unwrap().to_string());
    let connect = builder
        .trust(Trust::Pinned(hash.into()))
        .reconnect(weir::client::Reconnect::never())
        .connect();
    let (client, stage) = tokio::join!(connect, Stage::accept(&endpoint));
    (endpoint, client.unwrap(), stage)
}

/// A resume as the daemon receives it: position, and topics with their next sequence.
type Shown = (Position, Vec<(String, u64)>);

/// Subscribes. The daemon answers with this position. Returns the request, and what the client
/// resumed from.
async fn subscribe(
    client: &Client,
    stage: &mut Stage,
    options: &SubscribeOptions,
    position: u64,
) -> (Subscription, u32, Option<Shown>) {
    let answered = async {
        let mut frame = stage.frame().await;
        // Skips the subscriptions that `shown` started and dropped.
        while let Ok(ClientFrame::Unsubscribe { .. }) = ClientFrame::decode(&frame) {
            frame = stage.frame().await;
        }
        let Ok(ClientFrame::Subscribe { request, start, .. }) = ClientFrame::decode(&frame) else {
            panic!("{frame:?} instead of a subscribe");
        };
        let shown = match start {
            Start::Resume { since, topics } => {
                let topics = topics.iter().map(|topic| (topic.topic.to_owned(), topic.next));
                let mut topics: Vec<_> = topics.collect();
                topics.sort();
                Some((since, topics))
            }
            _ => None,
        };
        stage.send(&DaemonFrame::Subscribed { request, position }).await;
        (request, shown)
    };
    let (subscription, (request, shown)) =
        tokio::join!(within(client.subscribe("m/**", options)), answered);
    (subscription.unwrap(), request, shown)
}

fn topic(id: u64, name: &str) -> DaemonFrame<'_> {
    DaemonFrame::Topic { id, epoch: 7, next: 1, name }
}

fn message(topic: u64, sequence: u64) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic, sequence, count: 1, stamp: 0, payload: b"x" }
}

const fn mark(position: u64) -> DaemonFrame<'static> {
    DaemonFrame::Mark { position }
}

async fn write(stream: &mut quinn::SendStream, frames: &[DaemonFrame<'_>]) {
    for frame in frames {
        stream.write_chunk(frame.to_bytes()).await.unwrap();
    }
}

async fn take(subscription: &mut Subscription, sequences: &[u64]) {
    for wanted in sequences {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => assert_eq!(message.sequence, *wanted),
            other => panic!("{other:?} instead of {wanted}"),
        }
    }
}

/// Returns what a client sends when it resumes this subscription.
async fn shown(client: &Client, stage: &mut Stage, subscription: &Subscription) -> Shown {
    let options = SubscribeOptions::from(subscription.resume());
    subscribe(client, stage, &options, 99).await.2.unwrap()
}

fn since(position: u64) -> Position {
    Position { run: 1, position }
}

fn named(topics: &[(&str, u64)]) -> Vec<(String, u64)> {
    topics.iter().map(|(name, next)| ((*name).to_owned(), *next)).collect()
}

#[tokio::test]
async fn topics_before_a_mark_are_not_named_once_handed_out() {
    let (_endpoint, client, mut stage) = begin().await;
    let options = SubscribeOptions::default();
    let (mut news, request, _) = subscribe(&client, &mut stage, &options, 10).await;
    let frames = [DaemonFrame::For { request }, topic(1, "m/a"), message(1, 1)];
    let mut stream = stage.stream(&frames).await;
    write(&mut stream, &[topic(2, "m/b"), message(2, 1), mark(20), topic(3, "m/c")]).await;
    write(&mut stream, &[message(3, 1), message(1, 2), mark(30), message(2, 2)]).await;
    take(&mut news, &[1]).await;
    assert_eq!(shown(&client, &mut stage, &news).await, (since(10), named(&[("m/a", 2)])));
    // The messages before the first mark were handed out, and the mark is not read yet.
    take(&mut news, &[1]).await;
    let topics = named(&[("m/a", 2), ("m/b", 2)]);
    assert_eq!(shown(&client, &mut stage, &news).await, (since(10), topics));
    take(&mut news, &[1]).await;
    assert_eq!(shown(&client, &mut stage, &news).await, (since(20), named(&[("m/c", 2)])));
    // A topic that was left out is named again when a message of it arrives.
    take(&mut news, &[2]).await;
    let topics = named(&[("m/a", 3), ("m/c", 2)]);
    assert_eq!(shown(&client, &mut stage, &news).await, (since(20), topics));
    take(&mut news, &[2]).await;
    assert_eq!(shown(&client, &mut stage, &news).await, (since(30), named(&[("m/b", 3)])));
    // After a mark without messages behind it, only later topics are named. Topics from the resume
    // itself are forgotten.
    let options = SubscribeOptions::from(news.resume());
    let (mut again, request, _) = subscribe(&client, &mut stage, &options, 31).await;
    assert_eq!(shown(&client, &mut stage, &again).await, (since(30), named(&[("m/b", 3)])));
    let frames = [DaemonFrame::For { request }, topic(4, "m/d"), message(4, 1), mark(40)];
    let mut stream = stage.stream(&frames).await;
    take(&mut again, &[1]).await;
    let topics = named(&[("m/b", 3), ("m/d", 2)]);
    assert_eq!(shown(&client, &mut stage, &again).await, (since(30), topics));
    write(&mut stream, &[message(4, 2)]).await;
    take(&mut again, &[2]).await;
    assert_eq!(shown(&client, &mut stage, &again).await, (since(40), named(&[("m/d", 3)])));
}

#[tokio::test]
async fn without_order_topics_with_missing_messages_stay_named() {
    let (_endpoint, client, mut stage) = begin().await;
    let options = SubscribeOptions::from(weir::Start::All).with_delivery(Delivery::Unordered);
    let (mut news, request, _) = subscribe(&client, &mut stage, &options, 10).await;
    let head = |topic, sequence| DaemonFrame::Head { topic, sequence };
    let frames = [DaemonFrame::For { request }, topic(1, "m/a"), topic(2, "m/b"), message(1, 1)];
    let mut stream = stage.stream(&frames).await;
    take(&mut news, &[1]).await;
    let run0 = Position { run: 0, position: 0 };
    let topics = named(&[("m/a", 2), ("m/b", 1)]);
    assert_eq!(shown(&client, &mut stage, &news).await, (run0, topics));
    // Two messages of the second topic are in flight when the mark arrives.
    write(&mut stream, &[head(2, 2), mark(20), topic(3, "m/c"), message(3, 1)]).await;
    take(&mut news, &[1]).await;
    let topics = named(&[("m/b", 1), ("m/c", 2)]);
    assert_eq!(shown(&client, &mut stage, &news).await, (since(20), topics));
    // One arrives on its own stream, the other never does.
    let own = [DaemonFrame::For { request }, topic(2, "m/b"), message(2, 2)];
    let mut own = stage.stream(&own).await;
    own.finish().unwrap();
    take(&mut news, &[2]).await;
    let gap = DaemonFrame::Gap { topic: 2, first: 1, last: 1, cause: GapCause::Evicted };
    write(&mut stream, &[mark(30), gap, message(3, 2)]).await;
    assert!(matches!(within(news.next()).await, Some(Ok(Event::Gap(_)))));
    let topics = named(&[("m/b", 3)]);
    assert_eq!(shown(&client, &mut stage, &news).await, (since(30), topics));
    write(&mut stream, &[mark(40), message(1, 2)]).await;
    take(&mut news, &[2, 2]).await;
    assert_eq!(shown(&client, &mut stage, &news).await, (since(40), named(&[("m/a", 3)])));
}

#[tokio::test]
async fn a_mark_that_is_lower_or_misplaced_ends_the_session() {
    let (_endpoint, client, mut stage) = begin().await;
    let options = SubscribeOptions::default();
    let (mut news, request, _) = subscribe(&client, &mut stage, &options, 10).await;
    let _stream = stage.stream(&[DaemonFrame::For { request }, mark(20), mark(19)]).await;
    let error = within(news.next()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("a mark below an earlier position"), "{error}");
    let datagram = mark(30).to_bytes();
    stage.connection.send_datagram(datagram).unwrap();
    let closed = within(client.closed()).await;
    assert!(closed.reason.contains("a mark in a datagram"), "{closed}");
}

#[tokio::test]
async fn more_topics_than_a_list_can_hold_are_resumed() {
    const TOPICS: u64 = 65_536;
    // Names of 65 bytes, as in a session that once could not resume: 20,000 of them are 1.5 MB.
    let name = |id: u64| format!("m/{id:063}");
    let (_endpoint, client, mut stage) = begin().await;
    let options = SubscribeOptions::default();
    let (mut news, request, _) = subscribe(&client, &mut stage, &options, 10).await;
    let mut stream = stage.stream(&[DaemonFrame::For { request }]).await;
    let sent = async {
        let mut out = Vec::new();
        for id in 1..=TOPICS {
            topic(id, &name(id)).encode(&mut out);
            message(id, 1).encode(&mut out);
            if id % 1000 == 0 {
                mark(10 + id).encode(&mut out);
                stream.write_chunk(std::mem::take(&mut out).into()).await.unwrap();
            }
        }
        stream.write_chunk(out.into()).await.unwrap();
    };
    let read = async {
        for _ in 0..TOPICS {
            take(&mut news, &[1]).await;
        }
    };
    tokio::join!(sent, read);
    let (since, topics) = shown(&client, &mut stage, &news).await;
    assert_eq!(since.position, 10 + TOPICS / 1000 * 1000);
    let rest: Vec<_> = (TOPICS / 1000 * 1000 + 1..=TOPICS).map(|id| (name(id), 2)).collect();
    assert_eq!(topics, rest);
}

/// The daemon's half. 30,000 topics have names of 65 characters, which would be 2.5 MB in a resume.
/// A client that resumes names only those of the last thousand or two, and misses and repeats
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_real_daemon_comes_back_to_any_number_of_topics() {
    const TOPICS: usize = 30_000;
    for transport in common::TRANSPORTS {
        for delivery in [Delivery::Ordered, Delivery::Realtime] {
            let daemon = common::daemon().await;
            let name = |n: usize| format!("m/{n:0>63}");
            let mut options = SubscribeOptions::default().with_delivery(delivery);
            let subscriber = common::client(&daemon, transport).await;
            let mut subscription = within(subscriber.subscribe("m/**", &options)).await.unwrap();
            let mut had = vec![false; TOPICS + 10];
            let mut first = true;
            for n in 0..TOPICS {
                daemon.publish(&name(n), n.to_string()).unwrap();
                // In portions, so that the subscriber keeps up.
                if n % 500 == 499 || first {
                    let come =
                        if first { 1 } else { n + 1 - had.iter().filter(|had| **had).count() };
                    for _ in 0..come {
                        let event = within(subscription.next()).await.unwrap().unwrap();
                        let Event::Message(message) = event else { panic!("{event:?}") };
                        let n: usize =
                            std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                        assert!(!std::mem::replace(&mut had[n], true), "twice");
                    }
                    first = false;
                }
            }
            options.start = subscription.resume();
            drop((subscription, subscriber));
            for n in TOPICS..TOPICS + 10 {
                daemon.publish(&name(n), n.to_string()).unwrap();
            }
            let again = common::client(&daemon, transport).await;
            let mut subscription = within(again.subscribe("m/**", &options)).await.unwrap();
            for _ in 0..10 {
                let event = within(subscription.next()).await.unwrap().unwrap();
                let Event::Message(message) = event else { panic!("{event:?}") };
                let n: usize = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                assert!(n >= TOPICS && !std::mem::replace(&mut had[n], true), "{n} again");
            }
            assert!(had.iter().all(|had| *had));
            daemon.shutdown().await;
        }
    }
}
