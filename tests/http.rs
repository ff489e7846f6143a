//! The HTTP face of a daemon, over TCP: arbitrary bytes, idempotent publications, and events
//! without gaps.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::too_many_lines, missing_docs)]

mod common;
#[path = "common/http.rs"]
mod http;

use base64::Engine as _;
use common::within;
use http::{Answer, Ask, Block, Events, ask};
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir::Daemon;
use weir::engine::Limits;

/// Starts a daemon with plain HTTP. Returns it and the address of HTTP.
async fn serve(limits: Limits) -> (Arc<Daemon>, SocketAddr) {
    let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let builder = Daemon::builder().listen(loopback).http(loopback).limits(limits);
    let daemon = builder.spawn().await.unwrap();
    let address = daemon.http_addr().unwrap();
    (Arc::new(daemon), address)
}

async fn publish(to: SocketAddr, topic: &str, payload: &[u8]) -> Answer {
    within(ask(to, "POST", &format!("/v1/topics/{topic}")).body(payload).send()).await
}

async fn get(to: SocketAddr, target: &str) -> Answer {
    within(ask(to, "GET", target).send()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_come_back_as_they_went() {
    let (daemon, to) = serve(Limits::default()).await;
    let most = daemon.limits().payload;
    let all: Vec<u8> = (0..=255).collect();
    let page = b"<!doctype html><script>alert(1)</script>".to_vec();
    let large: Vec<u8> = (0..most).map(|n| (n * 31 + n / 251) as u8).collect();
    for (n, payload) in [Vec::new(), b"text\r\n\0".to_vec(), all, page, large].iter().enumerate() {
        let topic = format!("bytes%2F{n}");
        let receipt = publish(to, &topic, payload).await;
        assert_eq!(receipt.status, 200, "{}", String::from_utf8_lossy(&receipt.body));
        assert_eq!(receipt.json()["size"], payload.len());
        let answer = get(to, &format!("/v1/topics/{topic}")).await;
        assert!(answer.body == *payload, "{n}: other bytes");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("sandbox; default-src 'none'"));
        let digest = receipt.json()["digest"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("etag"), Some(&*format!("\"{digest}\"")));
        let by_digest = get(to, &format!("/v1/topics/{topic}?digest={digest}")).await;
        assert!(by_digest.body == *payload);
    }
    let one_more = publish(to, "bytes", &vec![0; most + 1]).await;
    assert_eq!(
        (one_more.status, one_more.json()["name"].as_str()),
        (413, Some("payload_too_large"))
    );
    assert!(one_more.json()["detail"].as_str().unwrap().contains("limits.payload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_is_bounded_too() {
    let (daemon, to) = serve(Limits::default().with_payload(10_000)).await;
    for (size, status) in [(10_000, 200), (10_001, 413)] {
        let mut body = Vec::new();
        for piece in vec![b'x'; size].chunks(3000) {
            body.extend(format!("{:x}\r\n", piece.len()).bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let raw = Raw { to, head: "POST /v1/topics/chunked", body };
        assert_eq!(raw.status().await, status, "{size}");
    }
    assert_eq!(get(to, "/v1/topics/chunked").await.body.len(), 10_000);
    drop(daemon);
}

/// A request with a chunked body.
struct Raw {
    to: SocketAddr,
    head: &'static str,
    body: Vec<u8>,
}

impl Raw {
    async fn status(&self) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.to).await.unwrap();
        let head = format!(
            "{} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            self.head
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&self.body).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_publishes_once_also_when_many_try_at_once() {
    let (_daemon, to) = serve(Limits::default()).await;
    let request = ask(to, "POST", "/v1/topics/once").header("Idempotency-Key", "\"k-1\"");
    let tries = (0..16).map(|_| {
        let request = request.clone().body("hello");
        tokio::spawn(async move { request.send().await })
    });
    let mut fresh = 0;
    for answer in tries.collect::<Vec<_>>() {
        let answer = within(answer).await.unwrap();
        let receipt = answer.json();
        assert_eq!(
            (answer.status, &receipt["sequence"], &receipt["count"]),
            (200, &1.into(), &1.into())
        );
        fresh += u32::from(receipt["duplicate"] == false);
    }
    assert_eq!(fresh, 1);
    let without_quotes = ask(to, "POST", "/v1/topics/once").header("idempotency-key", "k-1");
    assert_eq!(within(without_quotes.body("hello").send()).await.json()["duplicate"], true);
    let other = within(request.clone().body("other").send()).await;
    assert_eq!((other.status, other.json()["retry"].as_bool()), (422, Some(false)));
    let elsewhere = ask(to, "POST", "/v1/topics/elsewhere").header("idempotency-key", "k-1");
    assert_eq!(within(elsewhere.body("other").send()).await.json()["duplicate"], false);
    assert_eq!(publish(to, "once", b"hello").await.json()["count"], 2);
    let latest = get(to, "/v1/topics/once").await;
    assert_eq!(
        (latest.header("weir-sequence"), latest.header("weir-count")),
        (Some("2"), Some("2"))
    );
}

fn sequence(block: &Block) -> u64 {
    block.json()["sequence"].as_u64().unwrap()
}

fn events(to: SocketAddr, target: &str, id: Option<&String>) -> Ask {
    let request = ask(to, "GET", &format!("/v1/events/{target}"));
    match id {
        Some(id) => request.header("last-event-id", id),
        None => request,
    }
}

async fn event(events: &mut Events) -> Block {
    within(events.event()).await.expect("the stream ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_the_objects_of_the_command_line() {
    let (daemon, to) = serve(Limits::default()).await;
    let mut stream = events(to, "e%2F**", None).events().await;
    let first = within(stream.block()).await.unwrap();
    assert!(
        (1000..2000).contains(&first.retry.unwrap()) && first.id.is_some() && first.data.is_none()
    );
    let stamped = ask(to, "POST", "/v1/topics/e/a").header("weir-stamp", 7).body("grüß\n\"dich\"");
    let receipt = within(stamped.send()).await.json();
    let message = event(&mut stream).await;
    assert!(message.is("message"));
    let expected = serde_json::json!({
        "topic": "e/a", "sequence": 1, "count": 1, "digest": receipt["digest"], "stamp": 7,
        "size": 13, "payload": "grüß\n\"dich\"",
    });
    assert_eq!(message.json(), expected);
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect();
    daemon.publish("e/b/c", large.clone()).unwrap();
    let message = event(&mut stream).await.json();
    let encoded = message["payload_base64"].as_str().unwrap();
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    assert!(decoded == large && message["size"] == 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reconnects_before_the_first_event_misses_nothing() {
    let (daemon, to) = serve(Limits::default()).await;
    daemon.publish("quiet/a", "before").unwrap();
    for filter in ["quiet%2Fa", "quiet/**", "quiet/b"] {
        let mut stream = events(to, filter, None).events().await;
        within(stream.block()).await.unwrap();
        let id = stream.id.clone();
        drop(stream);
        daemon.publish("quiet/a", filter).unwrap();
        daemon.publish("quiet/b", filter).unwrap();
        let mut stream = events(to, filter, id.as_ref()).events().await;
        let message = event(&mut stream).await;
        assert_eq!(
            (message.json()["payload"].as_str(), sequence(&message) > 0),
            (Some(filter), true)
        );
        // The way of a page that kept the id itself.
        let target = format!("{filter}?last_event_id={}", id.unwrap());
        let mut stream = events(to, &target, None).events().await;
        assert_eq!(event(&mut stream).await, message);
    }
}

/// Reads a few events at a time, and reconnects in between, while another task publishes.
async fn resumed(filter: &str, topics: &'static [&'static str], rounds: usize) {
    let (daemon, to) = serve(Limits::default()).await;
    let done = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (daemon, done) = (daemon.clone(), done.clone());
        tokio::spawn(async move {
            let mut n = 0_u64;
            while !done.load(Ordering::Relaxed) {
                for _ in 0..5 {
                    let topic = topics[(n * n / 3) as usize % topics.len()];
                    daemon.publish(topic, n.to_string()).unwrap();
                    n += 1;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        })
    };
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut id: Option<String> = None;
    let mut seen = 0;
    for round in 0..rounds {
        let target = format!("{filter}?from=all");
        let mut stream = events(to, &target, id.as_ref()).events().await;
        for _ in 0..=(round * 7) % 40 {
            let message = event(&mut stream).await;
            assert!(message.is("message"), "{message:?}");
            let data = message.json();
            let next = next.entry(data["topic"].as_str().unwrap().to_owned()).or_insert(1);
            assert_eq!(sequence(&message), *next, "missed or repeated: {data}");
            *next += 1;
            seen += 1;
        }
        id = stream.id.clone();
    }
    done.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
    // Then everything that is left.
    let mut stream = events(to, filter, id.as_ref()).events().await;
    let total = |topic: &&&str| {
        let head = daemon.subscribe(topic, &weir::SubscribeOptions::from(weir::Start::Latest));
        let mut head = head.unwrap();
        async move {
            match head.next().await {
                Some(Ok(weir::Event::Message(message))) => message.sequence,
                other => panic!("{other:?}"),
            }
        }
    };
    let mut left = 0;
    for topic in topics {
        left += within(total(&topic)).await;
    }
    while seen < left {
        let message = event(&mut stream).await;
        let next = next.get_mut(message.json()["topic"].as_str().unwrap()).unwrap();
        assert_eq!(sequence(&message), *next);
        *next += 1;
        seen += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_topic_are_resumed_without_a_hole_while_somebody_publishes() {
    resumed("r%2Fa", &["r/a"], 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_many_topics_are_resumed_without_a_hole_while_somebody_publishes() {
    resumed("r/**", &["r/a", "r/b", "r/c/d"], 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_messages_are_reported_once_and_delivered_ones_are_not() {
    let (daemon, to) = serve(Limits::default().with_cache(1 << 20)).await;
    let flood = |from: u32| {
        (from..from + 40).for_each(|n| {
            let mut payload = vec![b'x'; 60_000];
            payload[..4].copy_from_slice(&n.to_le_bytes());
            daemon.publish("g/a", payload).unwrap();
        });
    };
    for filter in ["g/a", "g/*"] {
        let mut stream = events(to, filter, None).events().await;
        within(stream.block()).await.unwrap();
        daemon.publish("g/a", "seen").unwrap();
        let seen = event(&mut stream).await;
        let id = seen.id.clone();
        drop(stream);
        flood(0);
        let mut stream = events(to, filter, id.as_ref()).events().await;
        let gap = event(&mut stream).await;
        assert!(gap.is("gap"), "{gap:?}");
        let data = gap.json();
        // Only this topic was published to, so the position in the id is exact.
        assert_eq!(data["first"].as_u64().unwrap(), sequence(&seen) + 1);
        assert_eq!((&data["cause"], &data["topic"]), (&"evicted".into(), &"g/a".into()));
        assert_eq!(data["exact"], filter == "g/a");
        let last = data["last"].as_u64().unwrap();
        assert_eq!(gap.id.is_some(), filter == "g/a", "an id where that is safe");
        let after = stream.id.clone();
        assert_eq!(sequence(&event(&mut stream).await), last + 1);
        if filter == "g/a" {
            // A client that resumes with the id of the gap does not get the gap again.
            let mut stream = events(to, filter, after.as_ref()).events().await;
            assert_eq!(sequence(&event(&mut stream).await), last + 1);
        }
    }
    let mut stream = events(to, "g/a?from=1&lag=newest", None).events().await;
    let gap = event(&mut stream).await.json();
    assert_eq!(gap["cause"], "skipped");
    assert_eq!(sequence(&event(&mut stream).await), gap["last"].as_u64().unwrap() + 1);
    let mut stream = events(to, "g/a?from=1&lag=disconnect", None).events().await;
    let ended = event(&mut stream).await;
    assert!(ended.is("ended") && ended.json()["name"] == "lagged" && ended.json()["retry"] == true);
    assert_eq!(within(stream.event()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_run_gets_everything_cached() {
    let (daemon, to) = serve(Limits::default()).await;
    (0..3).for_each(|n| drop(daemon.publish("x", format!("{n}"))));
    for (filter, id) in [("x", "7-2-7-2"), ("x", "7-2"), ("*", "7-2"), ("*", "7-2-7-2")] {
        let mut stream = events(to, filter, Some(&id.to_owned())).events().await;
        for expected in 1..=3 {
            assert_eq!(sequence(&event(&mut stream).await), expected, "{filter} {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_delays_no_other_and_gets_a_gap() {
    let (daemon, to) = serve(Limits::default().with_cache(2 << 20)).await;
    let mut slow = events(to, "s?from=all", None).events().await;
    let mut quick = events(to, "s?from=all", None).events().await;
    let reader = tokio::spawn(async move {
        let mut next = 1;
        while next < 2000 {
            let event = event(&mut quick).await;
            next = match event.json()["last"].as_u64() {
                Some(last) => last + 1,
                None => sequence(&event) + 1,
            };
        }
    });
    for n in 0..2000_u32 {
        let mut payload = vec![b'x'; 20_000];
        payload[..4].copy_from_slice(&n.to_le_bytes());
        daemon.publish("s", payload).unwrap();
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    within(reader).await.unwrap();
    let (mut next, mut gaps) = (1, 0);
    while next <= 2000 {
        let event = event(&mut slow).await;
        let data = event.json();
        if event.is("gap") {
            assert_eq!(data["first"], next);
            next = data["last"].as_u64().unwrap() + 1;
            gaps += 1;
        } else {
            assert_eq!(data["sequence"], next);
            next += 1;
        }
    }
    assert!(gaps > 0, "40 MB through 2 MiB of cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_daemon_does() {
    let (daemon, to) = serve(Limits::default()).await;
    let mut stream = events(to, "**", None).events().await;
    within(stream.block()).await.unwrap();
    let daemon = Arc::into_inner(daemon).unwrap();
    let stopping = tokio::spawn(daemon.shutdown());
    let ended = event(&mut stream).await;
    assert!(ended.is("ended"), "{ended:?}");
    assert_eq!(
        (&ended.json()["name"], &ended.json()["retry"]),
        (&"shutting_down".into(), &true.into())
    );
    assert_eq!(within(stream.block()).await, None);
    within(stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_daemon_is_dropped() {
    let (daemon, to) = serve(Limits::default()).await;
    let mut stream = events(to, "**", None).events().await;
    within(stream.block()).await.unwrap();
    drop(daemon);
    // The clients may get an error event, or only the end.
    while within(stream.event()).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_counts_come_first() {
    let (daemon, to) = serve(Limits::default()).await;
    for n in 0..5_u8 {
        (0..=n).for_each(|_| drop(daemon.publish("t/top", vec![n; 3])));
    }
    daemon.publish("t/top", vec![0xff]).unwrap();
    let top = get(to, "/v1/topics/t%2Ftop/top?k=2").await.json();
    let counts: BTreeMap<_, _> = top["top"].as_array().unwrap().iter().enumerate().collect();
    assert_eq!((top["topic"].as_str(), counts.len()), (Some("t/top"), 2));
    assert_eq!(
        (&counts[&0]["count"], &counts[&0]["payload"]),
        (&5.into(), &"\u{4}\u{4}\u{4}".into())
    );
}
