//! Clients that do not read their answers, and connections that send nothing.

use super::client::{Events, ask};
use super::h2::{DATA, GOAWAY, H2, HEADERS, RST_STREAM};
use super::{Face, PATIENCE, within};
use crate::engine::Limits;
use crate::http::REQUEST;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;

fn face() -> Face {
    Face::new(Limits::default().with_cache(4 << 20))
}

// Once, 300 such answers held 315 MiB.
#[tokio::test]
async fn large_answers_that_are_not_read_hold_what_there_is_room_for_and_are_reset() {
    let face = face();
    face.publish("a", &vec![7; 1 << 20]);
    let mut h2 = H2::connect(face.address, 0).await;
    let asked = Instant::now();
    for _ in 0..100 {
        h2.ask("GET", "/v1/topics/a", &[]).await;
    }
    let (mut statuses, mut resets) = (Vec::new(), 0);
    while resets < 100 {
        let frame = within(h2.polite()).await.unwrap();
        assert!(face.held() <= face.state.budget.most());
        match frame.kind {
            HEADERS => statuses.push(frame.status()),
            RST_STREAM => resets += 1,
            other => panic!("a frame of kind {other}"),
        }
    }
    assert!(asked.elapsed() >= PATIENCE);
    assert_eq!((statuses.len(), statuses[0]), (100, 200));
    within(face.until(|face| face.held() == 0)).await;
    face.state.broker.with(|engine| assert_eq!(engine.subscriptions(), 0));
}

// A batch is charged until its client has taken it.
#[tokio::test]
async fn an_answer_that_is_read_half_way_holds_a_batch_and_is_closed() {
    let face = face();
    face.publish("a", &vec![7; 1 << 20]);
    let mut h2 = H2::connect(face.address, 10_000).await;
    h2.ask("GET", "/v1/topics/a", &[]).await;
    assert_eq!(within(h2.next(DATA)).await.unwrap().payload.len(), 10_000);
    let held = face.held() - REQUEST;
    assert!((1..=super::super::large::MAX_READ).contains(&held), "{held}");
    assert!(within(h2.next(RST_STREAM)).await.is_some());
    within(face.until(|face| face.held() == 0)).await;
}

#[tokio::test]
async fn an_answer_over_http_1_that_is_not_read_is_closed() {
    let face = Face::new(Limits::default());
    // The payload is larger than the system's buffers.
    face.publish("a", &vec![7; 16 << 20]);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(face.address).await.unwrap();
    let mut connection = ask(face.address, "GET", "/v1/topics/a").on(stream).await;
    assert_eq!(within(connection.head()).await.0, 200);
    within(face.until(|face| face.held() == REQUEST + (64 << 10))).await;
    within(face.until(|face| face.held() == 0)).await;
    let mut rest = Vec::new();
    let _ = within(connection.stream.read_to_end(&mut rest)).await;
    assert!(rest.len() < 16 << 20, "a body that breaks off");
}

#[tokio::test]
async fn small_answers_are_charged_until_they_are_read_and_refused_when_there_is_no_room() {
    let face = face();
    face.publish("a", &vec![7; 60_000]);
    let mut h2 = H2::connect(face.address, 0).await;
    let each = REQUEST + 60_000;
    let room = face.state.budget.most() / each;
    for n in 0..=room {
        h2.ask("GET", "/v1/topics/a", &[]).await;
        let status = within(h2.next(HEADERS)).await.unwrap().status();
        assert_eq!(status, if n < room { 200 } else { 503 });
    }
    assert_eq!(face.held(), room * each + REQUEST);
    // Room is released when the client takes a batch.
    h2.widen(1, 60_000).await;
    h2.widen(0, 60_000).await;
    within(face.until(|face| face.held() < room * each)).await;
    within(face.until(|face| face.held() == 0)).await;
}

// The transport still has the last bytes, although the stream has ended for the server. Then the
// connection is closed.
#[tokio::test]
async fn the_end_of_an_answer_that_is_not_taken_closes_the_connection() {
    let face = face();
    face.publish("a", &vec![7; 60_000]);
    let mut h2 = H2::connect(face.address, 10_000).await;
    h2.ask("GET", "/v1/topics/a", &[]).await;
    assert_eq!(within(h2.next(DATA)).await.unwrap().payload.len(), 10_000);
    assert_eq!(face.held(), REQUEST + 60_000);
    while within(h2.frame()).await.is_some() {}
    within(face.until(|face| face.held() == 0)).await;
}

// Once, 100 such streams held 128 MiB.
#[tokio::test]
async fn an_unread_stream_of_events_holds_a_batch_of_a_large_message_and_is_closed() {
    let face = face();
    let mut h2 = H2::connect(face.address, 1000).await;
    h2.ask("GET", "/v1/events/a", &[]).await;
    assert!(within(h2.next(DATA)).await.is_some());
    face.publish("a", &vec![0xff; 1 << 20]);
    within(face.until(|face| face.held() > REQUEST)).await;
    while face.held() > 0 {
        assert!(face.held() < 256 << 10, "{}", face.held());
        tokio::time::sleep(PATIENCE / 50).await;
    }
    assert!(within(h2.next(RST_STREAM)).await.is_some());
    assert_eq!(face.state.streams.available_permits(), super::super::state::EVENT_STREAMS);
}

#[tokio::test]
async fn streams_of_events_wait_for_room_and_miss_nothing() {
    let face = face();
    let mut events: Events = ask(face.address, "GET", "/v1/events/a").events().await;
    within(events.block()).await.unwrap();
    within(face.until(|face| face.held() == REQUEST)).await;
    let all = face.state.budget.take(face.state.budget.most() - REQUEST).unwrap();
    let get = ask(face.address, "GET", "/v1/events/a");
    assert_eq!(within(get.send()).await.status, 503);
    face.publish("a", b"x");
    let early = tokio::time::timeout(PATIENCE, events.event()).await;
    assert!(early.is_err(), "{early:?}");
    drop(all);
    assert_eq!(within(events.event()).await.unwrap().json()["sequence"], 1);
}

#[tokio::test]
async fn streams_of_events_that_get_no_room_are_told_and_end() {
    let face = face();
    let mut events: Events = ask(face.address, "GET", "/v1/events/a").events().await;
    within(events.block()).await.unwrap();
    within(face.until(|face| face.held() == REQUEST)).await;
    let _all = face.state.budget.take(face.state.budget.most() - REQUEST).unwrap();
    // A stream without new messages needs no room, and sends keep-alives.
    let since = Instant::now();
    while since.elapsed() < 2 * face.state.room {
        let block = within(events.block()).await.unwrap();
        assert!(block.comments == 1 && block.data.is_none(), "{block:?}");
    }
    face.publish("a", b"x");
    let since = Instant::now();
    let ended = within(events.event()).await.unwrap();
    assert!(since.elapsed() >= face.state.room, "{:?}", since.elapsed());
    assert_eq!(ended.event.as_deref(), Some("ended"));
    assert_eq!(
        (&ended.json()["name"], &ended.json()["retry"]),
        (&"overloaded".into(), &true.into())
    );
    assert!(within(events.block()).await.is_none());
}

#[tokio::test]
async fn an_answer_whose_message_leaves_the_cache_breaks_off() {
    let face = face();
    face.publish("a", &vec![7; 1 << 20]);
    face.publish("a", b"newer");
    let mut h2 = H2::connect(face.address, 10_000).await;
    let stream = h2.ask("GET", "/v1/topics/a?sequence=1", &[]).await;
    assert!(within(h2.next(DATA)).await.is_some());
    for n in 0..8_u8 {
        face.publish("b", &vec![n; 1 << 20]);
    }
    h2.widen(stream, 2 << 20).await;
    h2.widen(0, 2 << 20).await;
    loop {
        let frame = within(h2.frame()).await.unwrap();
        assert!(!frame.ends(), "a truncated success");
        if frame.kind == RST_STREAM {
            assert_eq!(frame.stream, stream);
            break;
        }
    }
    let gone = within(ask(face.address, "GET", "/v1/topics/a?sequence=1").send()).await;
    assert_eq!(gone.status, 410);
}

// Once, all of 50 such connections were open after 120 s.
#[tokio::test]
async fn connections_without_a_request_are_closed() {
    let face = face();
    face.publish("a", b"x");
    for served in [false, true] {
        let mut h2 = H2::connect(face.address, 1000).await;
        if served {
            h2.ask("GET", "/v1/topics/a", &[]).await;
            assert_eq!(within(h2.polite()).await.unwrap().status(), 200);
        }
        let mut goaway = false;
        while let Some(frame) = within(h2.polite()).await {
            goaway |= frame.kind == GOAWAY;
        }
        assert!(goaway, "closed without a word, served {served}");
        let get = ask(face.address, "GET", "/v1/topics/a").header("connection", "keep-alive");
        let mut connection = get.open().await;
        if served {
            assert_eq!(within(connection.head()).await.0, 200);
        }
        let mut rest = Vec::new();
        within(connection.stream.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_whose_peer_has_vanished_is_closed_though_a_stream_of_events_is_open() {
    let face = face();
    let mut h2 = H2::connect(face.address, 1 << 20).await;
    h2.ask("GET", "/v1/events/a", &[]).await;
    // It continues to read, so that the test sees the end, but answers no ping.
    while within(h2.frame()).await.is_some() {}
    within(face.until(|face| face.state.broker.with(|engine| engine.subscriptions() == 0))).await;
}

// Over HTTP/1.1 nothing asks the client. The comments are sent, and never acknowledged.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_of_events_whose_client_has_vanished_is_closed() {
    let face = face();
    let places = face.state.streams.available_permits();
    let events = ask(face.address, "GET", "/v1/events/a").open().await;
    within(face.until(|face| face.state.streams.available_permits() < places)).await;
    // The client's system drops every packet: it acknowledges nothing, and resets nothing.
    let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(&events.stream).attach_filter(&drop_all).unwrap();
    within(face.until(|face| face.state.streams.available_permits() == places)).await;
    face.state.broker.with(|engine| assert_eq!(engine.subscriptions(), 0));
}

#[tokio::test]
async fn a_stream_of_events_that_is_read_stays() {
    let face = face();
    let mut h2 = H2::connect(face.address, 1 << 20).await;
    h2.ask("GET", "/v1/events/a", &[]).await;
    let began = Instant::now();
    while began.elapsed() < PATIENCE * 6 {
        let frame = within(h2.polite()).await.expect("closed");
        assert!(frame.kind == HEADERS || frame.kind == DATA, "{frame:?}");
    }
    let mut events = ask(face.address, "GET", "/v1/events/a").events().await;
    let began = Instant::now();
    while began.elapsed() < PATIENCE * 6 {
        within(events.block()).await.expect("closed");
    }
}
