//! Streams of QUIC are not ordered among each other: frames that belong together may arrive in any
//! order.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/staged.rs"]
mod staged;

use common::{message, within};
use staged::{Stage, staged};
use weir::wire::{ClientFrame, DaemonFrame};
use weir::{Client, SubscribeOptions, Trust};

// `weir sub --from all` failed one time in five with "the session is over: closed by this client".
// The first stream of a subscription had arrived before the answer to the subscribe, and was taken
// for the answer.
#[tokio::test]
async fn a_subscriptions_first_message_may_overtake_the_answer_to_its_question() {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let daemon = tokio::spawn(async move {
        let mut stage = Stage::accept(&endpoint).await;
        let subscribe = stage.frame().await;
        let Ok(ClientFrame::Subscribe { request, .. }) = ClientFrame::decode(&subscribe) else {
            panic!("not a subscribe");
        };

        let early = [
            DaemonFrame::For { request },
            DaemonFrame::Topic { id: 1, epoch: 1, next: 1, name: "demo/a" },
            DaemonFrame::Message { topic: 1, sequence: 1, count: 1, stamp: 0, payload: b"early" },
        ];
        let mut stream = stage.stream(&early).await;
        stream.finish().unwrap();
        // The client has received all of the stream before the answer is sent.
        stream.stopped().await.unwrap();
        stage.send(&DaemonFrame::Subscribed { request, position: 1 }).await;
        stage.connection.closed().await
    });
    let client = Client::builder(server)
        .trust(Trust::Pinned(hash.into()))
        .reconnect(weir::client::Reconnect::never())
        .connect()
        .await
        .unwrap();
    let options = SubscribeOptions::default();
    let mut subscription = within(client.subscribe("demo/a", &options)).await.unwrap();
    assert_eq!(message(&mut subscription).await.payload, "early");
    drop((subscription, client));
    within(daemon).await.unwrap();
}
