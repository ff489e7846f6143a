//! A daemon that continues a topic under another epoch, as one does that was killed: what a client in
//! any order has above a message that it misses is sent once more. By a scripted daemon.

use crate::common::within;
use crate::soon;
use crate::staged::{Stage, staged};
use weir::client::Subscription;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, GapCause, Start};
use weir::{Client, Event, SubscribeOptions, Trust};

fn topic(epoch: u64, next: u64) -> DaemonFrame<'static> {
    DaemonFrame::Topic { id: 1, epoch, next, name: "t/a" }
}

fn message(sequence: u64, payload: &'static [u8]) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic: 1, sequence, count: 1, stamp: 0, payload }
}

/// Answers the next `Subscribe`, and sends these frames. Returns the epoch and the sequence with which
/// the client resumes, if it does.
async fn serve(
    stage: &mut Stage,
    frames: &[DaemonFrame<'_>],
) -> (Option<(u64, u64)>, quinn::SendStream) {
    let frame = stage.frame().await;
    let (request, resumed) = match ClientFrame::decode(&frame).unwrap() {
        ClientFrame::Subscribe { request, start: Start::Resume { topics, .. }, .. } => {
            (request, topics.first().map(|topic| (topic.epoch, topic.next)))
        }
        ClientFrame::Subscribe { request, .. } => (request, None),
        other => panic!("{other:?}"),
    };
    stage.send(&DaemonFrame::Subscribed { request, position: 0 }).await;
    let all: Vec<_> =
        [DaemonFrame::For { request }].into_iter().chain(frames.iter().cloned()).collect();
    (resumed, stage.stream(&all).await)
}

/// Returns what is shown next: the sequences, and the payloads of messages.
async fn shown(subscription: &mut Subscription) -> (u64, String) {
    loop {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                return (message.sequence, payload);
            }
            Event::Gap(gap) => {
                assert_eq!((gap.cause, gap.first), (GapCause::Lost, gap.last));
                return (gap.first, "lost".into());
            }
            Event::Interrupted(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Shows 1, 3, 4 and 5, and then what a daemon sends that begins with this sequence of epoch 8.
async fn continued(next: u64) -> Vec<(u64, String)> {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let builder = Client::builder(server).trust(Trust::Pinned(hash.into())).reconnect(soon());
    let (client, mut stage) = tokio::join!(builder.connect(), Stage::accept(&endpoint));
    let client = client.unwrap();
    let delivery = Delivery::Unordered;
    let options = SubscribeOptions { delivery, ..SubscribeOptions::from(weir::Start::All) };
    let first =
        [topic(7, 1), message(1, b"1"), message(3, b"3"), message(4, b"4"), message(5, b"5")];
    let (subscription, _) =
        tokio::join!(client.subscribe("t/*", &options), serve(&mut stage, &first));
    let mut subscription = subscription.unwrap();
    for n in [1, 3, 4, 5] {
        assert_eq!(shown(&mut subscription).await, (n, n.to_string()));
    }
    stage.connection.close(Code::SHUTTING_DOWN.0.into(), b"");
    let next_daemon = async {
        let mut stage = Stage::accept(&endpoint).await;
        let sequences = [(1, b"1"), (2, b"2"), (3, b"3"), (4, b"x"), (5, b"5"), (6, b"6")];
        let mut frames = vec![topic(8, next)];
        let sequences = sequences.into_iter().filter(|(sequence, _)| *sequence >= next);
        frames.extend(sequences.map(|(sequence, payload)| message(sequence, payload)));
        let (resumed, stream) = serve(&mut stage, &frames).await;
        assert_eq!(resumed, Some((7, 2)));
        (stage, stream)
    };
    let reading = async {
        let mut all = Vec::new();
        while all.last().is_none_or(|(sequence, _)| *sequence < 6) {
            all.push(shown(&mut subscription).await);
        }
        all
    };
    tokio::join!(reading, next_daemon).0
}

fn all(shown: &[(u64, &str)]) -> Vec<(u64, String)> {
    shown.iter().map(|(sequence, payload)| (*sequence, (*payload).to_owned())).collect()
}

#[tokio::test]
async fn what_was_shown_is_not_shown_again_and_what_was_not_kept_is_told() {
    assert_eq!(continued(2).await, all(&[(2, "2"), (4, "lost"), (4, "x"), (6, "6")]));
}

// It has other messages, even if one of them is the same.
#[tokio::test]
async fn a_topic_that_began_anew_is_shown_from_its_beginning() {
    let expected = [(1, "1"), (2, "2"), (3, "3"), (4, "x"), (5, "5"), (6, "6")];
    assert_eq!(continued(1).await, all(&expected));
}
