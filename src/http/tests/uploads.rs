//! Bodies that come slowly, or never.

use super::{Face, PATIENCE, within};
use crate::engine::Limits;
use crate::http::REQUEST;
use crate::http::tests::client::ask;
use tokio::io::AsyncWriteExt as _;

// Sends some of a body, and no more.
async fn begin(face: &Face, length: usize, sent: usize) -> super::client::Connection {
    let post = ask(face.address, "POST", "/v1/topics/a").header("content-length", length);
    post.body(vec![b'x'; sent]).open().await
}

#[tokio::test]
async fn bodies_that_never_come_do_not_keep_their_room() {
    let face = Face::new(Limits::default());
    let stuck = begin(&face, 1 << 20, 500 << 10).await;
    within(face.until(|face| face.shared.uploads.held() == 500 << 10)).await;
    drop(stuck);
    within(face.until(|face| face.shared.uploads.held() == 0)).await;
    let mut stuck = begin(&face, 1 << 20, 500 << 10).await;
    assert_eq!(within(stuck.head()).await.0, 408);
    let mut slow = begin(&face, 100, 0).await;
    // A byte now and then, until there is an answer.
    while tokio::time::timeout(PATIENCE / 6, slow.stream.readable()).await.is_err() {
        slow.stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(slow.head().await.0, 408);
    within(face.until(|face| face.shared.uploads.held() + face.shared.small.held() == 0)).await;
}

// 15 of 16 MiB at once bought half an hour of a byte a second.
#[tokio::test]
async fn a_fast_start_buys_no_slowness_later() {
    let face = Face::new(Limits::default());
    let mut slow = begin(&face, 16 << 20, 15 << 20).await;
    let dribble = async {
        while tokio::time::timeout(PATIENCE / 6, slow.stream.readable()).await.is_err() {
            slow.stream.write_all(b"x").await.unwrap();
        }
    };
    within(dribble).await;
    assert_eq!(within(slow.head()).await.0, 408);
}

// Four of 16 MiB were all that there was room for, and nobody else could publish.
#[tokio::test]
async fn slow_uploads_do_not_stop_small_publications() {
    let face = Face::patient(Limits::default().with_cache(4 << 20));
    let most = face.shared.budget.most();
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(begin(&face, most / 4 + 1, most / 4).await);
    }
    within(face.until(|face| face.shared.uploads.held() == most)).await;
    let post = ask(face.address, "POST", "/v1/topics/b");
    assert_eq!(within(post.clone().body("small").send()).await.status, 200);
    assert_eq!(within(post.clone().body(vec![7; 64 << 10]).send()).await.status, 200);
    let large = within(post.body(vec![7; 100 << 10]).send()).await;
    assert_eq!((large.status, large.header("retry-after")), (503, Some("1")));
}

// Small ones need no share of what large ones take; together they are bounded all the same.
#[tokio::test]
async fn slow_small_bodies_are_bounded_and_give_way_to_others() {
    let face = Face::patient(Limits::default());
    let most = super::super::small::MOST;
    let mut slow = Vec::new();
    for n in 1..=most / (64 << 10) {
        slow.push(begin(&face, 64 << 10, 60 << 10).await);
        within(face.until(|face| face.shared.small.held() == n * (64 << 10))).await;
    }
    let post = ask(face.address, "POST", "/v1/topics/b").body(vec![7; 64 << 10]);
    assert_eq!(within(post.send()).await.status, 200);
    let (status, headers) = within(slow[0].head()).await;
    assert_eq!(status, 503);
    assert!(headers.contains(&("retry-after".to_owned(), "1".to_owned())));
    assert!(face.shared.small.held() <= most);
    assert_eq!(face.held() % REQUEST, 0, "beside the requests");
}

// One that does not say how long it is may turn out to be a large one.
#[tokio::test]
async fn a_body_without_a_length_is_charged_once_it_is_large() {
    let face = Face::patient(Limits::default());
    let head =
        "POST /v1/topics/a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = tokio::net::TcpStream::connect(face.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for (sent, small, large) in [(40 << 10, 64 << 10, 0), (40 << 10, 0, 128 << 10)] {
        stream.write_all(format!("{sent:x}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        let held = |face: &Face| (face.shared.small.held(), face.held());
        within(face.until(|face| held(face) == (small, REQUEST + large))).await;
    }
    drop(stream);
    within(face.until(|face| face.held() == 0)).await;
}

// Not even when all the room is taken by answers that are not read; others wait for it, and not long.
#[tokio::test]
async fn there_is_a_reserve_for_publications() {
    let face = Face::patient(Limits::default().with_cache(4 << 20));
    let all = face.shared.budget.take(face.shared.budget.most()).unwrap();
    let post = ask(face.address, "POST", "/v1/topics/a").body("x");
    assert_eq!(within(post.send()).await.status, 200);
    let get = ask(face.address, "GET", "/v1/topics/a");
    let refused = within(get.send()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(all);
    assert_eq!(within(get.send()).await.status, 200);
    within(face.until(|face| face.shared.reserve.available_permits() == crate::http::RESERVE))
        .await;
}

// More than half of what there is room for was refused for ever, as room was taken for twice as much.
#[tokio::test]
async fn a_body_of_unknown_length_needs_no_more_room_than_it_takes() {
    let face = Face::patient(Limits::default().with_cache(4 << 20).with_payload(1 << 20));
    let body = [&b"84d00\r\n"[..], &vec![7; 0x84d00], b"\r\n0\r\n\r\n"].concat();
    assert!(body.len() > face.shared.budget.most() / 2);
    let post = ask(face.address, "POST", "/v1/topics/a").header("transfer-encoding", "chunked");
    let answer = within(post.body(body).send()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    within(face.until(|face| face.held() + face.shared.small.held() == 0)).await;
}
