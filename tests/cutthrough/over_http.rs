//! Publications and streams of events over HTTP.

use crate::common::within;
use crate::hand::decode;
use crate::{Arriving, CHUNK, begin, chunks, greet, is_gap, payload, topic};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Start};
use weir::{Daemon, Transport};

#[tokio::test]
async fn over_http_it_is_relayed_while_it_arrives_and_sent_in_pieces() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let daemon = Daemon::builder().listen(any.into()).http(SocketAddr::from(any));
    let daemon = daemon.spawn().await.unwrap();
    let payload = payload(12, 5 * CHUNK + 3);
    let (first, second) = payload.split_at(2 * CHUNK);
    let mut subscriber = greet(&daemon, Transport::Quic, 2).await;
    subscriber.subscribe(1, "demo/a", Start::New, Delivery::Ordered).await;
    let head = format!(
        "POST /v1/topics/demo/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: one\r\nWeir-Stamp: 5\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        payload.len()
    );
    for (sequence, breaks_off) in [(1, true), (2, false)] {
        let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
        http.write_all(head.as_bytes()).await.unwrap();
        http.write_all(first).await.unwrap();
        let mut message = Arriving::begin(&mut subscriber, 1).await;
        assert_eq!((message.sequence, message.stamp), (sequence, 5));
        message.read_to(&mut subscriber, 1, first.len()).await;
        if breaks_off {
            drop(http);
            let frame = subscriber.frame(1).await;
            assert_eq!(decode(&frame), DaemonFrame::Abort { code: Code::PUBLISHER_GONE });
            assert!(is_gap(&subscriber.frame(1).await, 1, GapCause::Aborted));
            continue;
        }
        http.write_all(second).await.unwrap();
        assert_eq!(message.end(&mut subscriber, 1, &payload).await, 1);
        let mut answer = String::new();
        within(http.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"duplicate\":false"));
    }
    // A request with the same key is the same publication.
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    http.write_all(head.as_bytes()).await.unwrap();
    http.write_all(&payload).await.unwrap();
    let mut answer = String::new();
    within(http.read_to_string(&mut answer)).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"duplicate\":true"),
        "{answer}"
    );
    let get = "GET /v1/topics/demo/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    http.write_all(get.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(http.read_to_end(&mut answer)).await.unwrap();
    let length = format!("content-length: {}\r\n", payload.len());
    assert!(answer.windows(length.len()).any(|part| part == length.as_bytes()));
    assert!(answer.ends_with(&payload));
}

/// Reads a stream of events until it contains this text, and returns what was read.
async fn read_until(http: &mut TcpStream, text: &mut String, what: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(what) {
        let read = within(http.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

async fn follow(daemon: &Daemon, query: &str) -> TcpStream {
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    let get = format!("GET /v1/events/**?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http.write_all(get.as_bytes()).await.unwrap();
    http
}

/// A publisher that is slow delays no other: messages of other topics overtake its own, and the ids
/// of the events name what was overtaken. A stream that is resumed in between misses and repeats
/// nothing.
#[tokio::test]
async fn a_stream_of_events_is_not_delayed_by_arriving_messages() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let daemon = Daemon::builder().listen(any.into()).http(SocketAddr::from(any));
    let daemon = daemon.spawn().await.unwrap();
    let payload = payload(13, 2 * CHUNK);
    let mut publisher = greet(&daemon, Transport::Quic, 1).await;
    let mut out = publisher.open().await;
    publisher.publish(&mut out, &[topic("slow"), begin(1, payload.len())]).await;
    let mut watcher = greet(&daemon, Transport::Quic, 2).await;
    watcher.subscribe(1, "slow", Start::All, Delivery::Ordered).await;
    Arriving::begin(&mut watcher, 1).await;
    let (mut first, mut text) = (follow(&daemon, "from=all").await, String::new());
    read_until(&mut first, &mut text, "retry:").await;
    daemon.publish("quick", "after").unwrap();
    read_until(&mut first, &mut text, "quick").await;
    read_until(&mut first, &mut text, "\n\n").await;
    assert!(!text.contains("\"slow\""));
    let id = text.rsplit("id: ").next().unwrap().split('\n').next().unwrap().to_owned();
    assert!(id.ends_with("~1.1"), "all but the first message of the first topic: {id}");
    let mut second = follow(&daemon, &format!("last_event_id={id}")).await;
    let mut resumed = String::new();
    read_until(&mut second, &mut resumed, "retry:").await;
    publisher.publish(&mut out, &chunks(&payload)).await;
    publisher.publish(&mut out, &[ClientFrame::End { digest: Digest::of(&payload) }]).await;
    daemon.publish("quick", "last").unwrap();
    for (http, text) in [(&mut first, &mut text), (&mut second, &mut resumed)] {
        read_until(http, text, "\"slow\"").await;
        read_until(http, text, "last").await;
    }
    assert_eq!(text.matches("after").count(), 1);
    assert!(!resumed.contains("after"), "it had that");
}
