//! Streams of events: they resume without gaps, and end with the daemon.

use crate::common::within;
use crate::http::{Ask, Block, Events, ask};
use crate::serve;
use base64::Engine as _;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir::engine::Limits;

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
