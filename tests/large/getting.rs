//! Answers to `Get` in chunks.

use crate::common::within;
use crate::staged::Stage;
use crate::{FOR, LIMIT, begin, chunks, closed, end, payload, send, session, topic, wrong};
use tokio::task::JoinHandle;
use weir::client::RequestError;
use weir::wire::{ClientFrame, Code, DaemonFrame, Which};

async fn getting() -> (JoinHandle<Result<weir::Message, RequestError>>, Stage) {
    let (client, mut stage) = session().await;
    let get = tokio::spawn(async move { client.get("demo/a", Which::Latest).await });
    let frame = stage.frame().await;
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Get { request: 1, .. })));
    (get, stage)
}

#[tokio::test]
async fn a_get_is_answered_in_chunks_too() {
    let (get, mut stage) = getting().await;
    let large = payload(LIMIT as usize);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    send(&mut stream, &chunks(&large).collect::<Vec<_>>()).await;
    send(&mut stream, &[end(&large)]).await;
    let whole = within(get).await.unwrap().unwrap();
    assert_eq!((&*whole.topic, whole.epoch, whole.sequence, whole.count), ("demo/a", 7, 1, 3));
    assert!(whole.payload == large);
}

#[tokio::test]
async fn an_answer_that_is_aborted_half_way_is_a_refusal() {
    let (get, mut stage) = getting().await;
    let large = payload(200_000);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    send(&mut stream, &chunks(&large).take(2).collect::<Vec<_>>()).await;
    send(&mut stream, &[DaemonFrame::Abort { code: Code::EVICTED }]).await;
    match within(get).await.unwrap() {
        Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code, Code::EVICTED),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broken_answer_ends_the_session() {
    let large = payload(200_000);
    for (what, frames) in wrong(&large) {
        if frames.len() == 2 {
            // The abort is the answer.
            continue;
        }
        let (get, mut stage) = getting().await;
        let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
        send(&mut stream, &frames).await;
        assert!(matches!(within(get).await.unwrap(), Err(RequestError::Closed(_))), "{what}");
        assert_eq!(closed(&stage).await, u64::from(Code::MALFORMED.0), "{what}");
    }
}
