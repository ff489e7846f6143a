//! Bodies that arrive slowly, or never.

use super::h2::H2;
use super::{Face, PATIENCE, within};
use crate::engine::Limits;
use crate::http::REQUEST;
use crate::http::tests::client::{Connection, ask};
use std::time::Instant;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

// Sends a part of a body.
async fn begin(face: &Face, length: usize, sent: usize) -> Connection {
    let post = ask(face.address, "POST", "/v1/topics/a").header("content-length", length);
    post.body(vec![b'x'; sent]).open().await
}

#[tokio::test]
async fn bodies_that_never_come_do_not_keep_their_room() {
    let face = Face::new(Limits::default());
    let stuck = begin(&face, 1 << 20, 500 << 10).await;
    within(face.until(|face| face.state.uploads.held() == 500 << 10)).await;
    drop(stuck);
    within(face.until(|face| face.state.uploads.held() == 0)).await;
    let mut stuck = begin(&face, 1 << 20, 500 << 10).await;
    assert_eq!(within(stuck.head()).await.0, 408);
    let mut slow = begin(&face, 100, 0).await;
    // Sends a byte now and then, until the answer arrives.
    while timeout(PATIENCE / 6, slow.stream.readable()).await.is_err() {
        slow.stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(slow.head().await.0, 408);
    within(face.until(|face| face.state.uploads.held() + face.state.small.held() == 0)).await;
}

// A body with 15 of 16 MiB at once could then go on for half an hour with a byte a second.
#[tokio::test]
async fn a_fast_start_buys_no_slowness_later() {
    let face = Face::new(Limits::default());
    let mut slow = begin(&face, 16 << 20, 15 << 20).await;
    let dribble = async {
        while timeout(PATIENCE / 6, slow.stream.readable()).await.is_err() {
            slow.stream.write_all(b"x").await.unwrap();
        }
    };
    within(dribble).await;
    assert_eq!(within(slow.head()).await.0, 408);
}

// Four bodies of 16 MiB took all the room, so that no other client could publish.
#[tokio::test]
async fn slow_uploads_do_not_stop_small_publications() {
    let face = Face::patient(Limits::default().with_cache(4 << 20));
    let most = face.state.budget.most();
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(begin(&face, most / 4 + 1, most / 4).await);
    }
    within(face.until(|face| face.state.uploads.held() == most)).await;
    let post = ask(face.address, "POST", "/v1/topics/b");
    assert_eq!(within(post.clone().body("small").send()).await.status, 200);
    assert_eq!(within(post.clone().body(vec![7; 64 << 10]).send()).await.status, 200);
    let large = within(post.body(vec![7; 100 << 10]).send()).await;
    assert_eq!((large.status, large.header("retry-after")), (503, Some("1")));
}

// Small bodies are not charged to the budget for large ones, but are bounded together.
#[tokio::test]
async fn slow_small_bodies_are_bounded_and_give_way_to_others() {
    let face = Face::patient(Limits::default());
    let most = super::super::small::LIMIT;
    let mut slow = Vec::new();
    for n in 1..=most / (64 << 10) {
        slow.push(begin(&face, 64 << 10, 60 << 10).await);
        within(face.until(|face| face.state.small.held() == n * (64 << 10))).await;
    }
    let post = ask(face.address, "POST", "/v1/topics/b").body(vec![7; 64 << 10]);
    assert_eq!(within(post.send()).await.status, 200);
    let (status, headers) = within(slow[0].head()).await;
    assert_eq!(status, 503);
    assert!(headers.contains(&("retry-after".to_owned(), "1".to_owned())));
    assert!(face.state.small.held() <= most);
    assert_eq!(face.held() % REQUEST, 0, "beside the requests");
}

// A body without a length may turn out to be large.
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
        let held = |face: &Face| (face.state.small.held(), face.held());
        within(face.until(|face| held(face) == (small, REQUEST + large))).await;
    }
    drop(stream);
    within(face.until(|face| face.held() == 0)).await;
}

// Publications are accepted even if unread answers take all the room. Other requests wait for room,
// but not for long.
#[tokio::test]
async fn there_is_a_reserve_for_publications() {
    let face = Face::patient(Limits::default().with_cache(4 << 20));
    let all = face.state.budget.take(face.state.budget.most()).unwrap();
    let post = ask(face.address, "POST", "/v1/topics/a").body("x");
    assert_eq!(within(post.send()).await.status, 200);
    let get = ask(face.address, "GET", "/v1/topics/a");
    let refused = within(get.send()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(all);
    assert_eq!(within(get.send()).await.status, 200);
}

// A peer takes the whole reserve with publications that never end. The reserve is a bound: it has
// 1,024 places, which is 4 MiB of requests, and the next publication is refused.
#[tokio::test]
async fn the_reserve_is_for_1024_publications() {
    let face = Face::patient(Limits::default().with_cache(4 << 20));
    let reserved = |face: &Face| face.state.reserve.available_permits();
    assert_eq!((reserved(&face), reserved(&face) * REQUEST), (1024, 4 << 20));
    let _all = face.state.budget.take(face.state.budget.most()).unwrap();
    let mut connections = JoinSet::new();
    for connection in 0..11 {
        let mut h2 = H2::connect(face.address, 65_535).await;
        for _ in 0..(1024 - 100 * connection).min(100) {
            h2.ask("POST", "/v1/topics/a", &[]).await;
        }
        // Answers pings, without which the daemon would close the connection.
        connections.spawn(async move { h2.polite().await });
    }
    within(face.until(|face| reserved(face) == 0)).await;
    let post = ask(face.address, "POST", "/v1/topics/a").body("x");
    let refused = within(post.send()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(connections.try_join_next().is_none(), "one of the others was answered");
    drop(connections);
    within(face.until(|face| reserved(face) == 1024)).await;
    assert_eq!(within(post.send()).await.status, 200);
}

// Begins a publication to a name that is refused at once, with a body that goes on for long.
async fn begin_refused(face: &Face) -> Connection {
    let post = ask(face.address, "POST", "/v1/topics/%2A").header("content-length", 1_u64 << 40);
    post.open().await
}

// The body of a refused publication is read for five seconds, so that its sender can read the answer.
// A sender that is slow does not keep the daemon for longer.
#[tokio::test]
async fn a_body_that_is_not_needed_is_read_for_five_seconds() {
    let face = Face::patient(Limits::default());
    let began = Instant::now();
    let mut slow = begin_refused(&face).await;
    let dribble = async {
        while timeout(Duration::from_millis(100), slow.stream.readable()).await.is_err() {
            slow.stream.write_all(b"x").await.unwrap();
        }
    };
    within(dribble).await;
    let took = began.elapsed();
    assert!((4..30).contains(&took.as_secs()), "{took:?}");
    assert_eq!(within(slow.head()).await.0, 400);
}

// A fast sender gets its answer after twice the largest payload.
#[tokio::test]
async fn a_body_that_is_not_needed_is_read_up_to_twice_the_largest_payload() {
    let limit = 4 << 20;
    let face = Face::patient(Limits::default().with_payload(limit));
    let mut fast = begin_refused(&face).await;
    let (mut sent, piece) = (0, vec![7; 64 << 10]);
    while timeout(Duration::ZERO, fast.stream.readable()).await.is_err() {
        let Ok(Ok(written)) = timeout(Duration::from_secs(1), fast.stream.write(&piece)).await
        else {
            break;
        };
        sent += written;
    }
    // The system's buffers take some more.
    assert!((2 * limit..2 * limit + (16 << 20)).contains(&sent), "{sent}");
    assert_eq!(within(fast.head()).await.0, 400);
}

// A body above half of the room was always refused, because it was charged twice.
#[tokio::test]
async fn a_body_of_unknown_length_needs_no_more_room_than_it_takes() {
    let face = Face::patient(Limits::default().with_cache(4 << 20).with_payload(1 << 20));
    let body = [&b"84d00\r\n"[..], &vec![7; 0x84d00], b"\r\n0\r\n\r\n"].concat();
    assert!(body.len() > face.state.budget.most() / 2);
    let post = ask(face.address, "POST", "/v1/topics/a").header("transfer-encoding", "chunked");
    let answer = within(post.body(body).send()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    within(face.until(|face| face.held() + face.state.small.held() == 0)).await;
}
