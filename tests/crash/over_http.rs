//! Publishers and subscribers over plain HTTP: requests with idempotency keys, and streams of events
//! that resume with the id of their last event.

use crate::http::{Block, ask};
use crate::ledger::{Acknowledged, Publications, SharedView, Shown, View};
use crate::native::Traffic;
use crate::relay::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};
use weir::wire::Digest;

/// Pause before a request that was not answered is repeated.
const AGAIN: Duration = Duration::from_millis(50);

/// Maximum time for an answer. A request to a network that is gone is repeated after it.
const PATIENCE: Duration = Duration::from_secs(15);

fn segment(name: &str) -> String {
    name.replace('/', "%2F")
}

/// Publishes at a steady rate until `stop`, each publication until it is answered. Returns the
/// number of publications.
pub fn publish(
    target: &Target,
    publications: Arc<Publications>,
    traffic: Traffic,
    stop: Arc<AtomicBool>,
) -> JoinHandle<u64> {
    let http = target.http;
    tokio::spawn(async move {
        let topic = publications.topic.clone();
        let path = format!("/v1/topics/{}", segment(&topic));
        let (mut number, mut ticks) = (0, interval(traffic.every));
        while !stop.load(Relaxed) {
            ticks.tick().await;
            number += 1;
            let (payload, _) = traffic.payload(&topic, number);
            let digest = Digest::of(&payload);
            let request = ask(http, "POST", &path)
                .header("idempotency-key", format!("{topic} {number}"))
                .body(payload);
            let receipt = loop {
                match timeout(PATIENCE, request.try_send()).await.ok().flatten() {
                    Some(answer) if answer.status == 200 => break answer.json(),
                    // It stops, or its journal has not kept it.
                    Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    None => {}
                }
                sleep(AGAIN).await;
            };
            let field = |name: &str| receipt[name].as_u64().unwrap();
            let receipt = Some((field("sequence"), field("count")));
            publications.acknowledge(number, Acknowledged { digest, receipt, overtaken: false });
        }
        number
    })
}

/// Subscribes from now on, and reads in a task.
pub async fn subscribe(
    tasks: &mut JoinSet<()>,
    target: &Target,
    filter: &str,
    shown: &Shown,
) -> SharedView {
    let view = View::new(format!("events {filter}"), filter, true, shown);
    let request = ask(target.http, "GET", &format!("/v1/events/{}", segment(filter)));
    let mut stream = request.events().await;
    // The first block has an id, with which the stream resumes.
    assert!(stream.block().await.unwrap().id.is_some());
    let (shared, exact) = (view.clone(), !filter.contains('*'));
    tasks.spawn(async move {
        loop {
            while let Some(block) = stream.block().await {
                take(&shared, exact, &block);
            }
            shared.lock().unwrap().ends += 1;
            let last = stream.id.clone().unwrap();
            let request = request.clone().header("last-event-id", &last);
            stream = loop {
                match timeout(PATIENCE, request.try_events()).await {
                    Ok(Some(stream)) => break stream,
                    _ => sleep(AGAIN).await,
                }
            };
            // Until a block has another.
            stream.id.get_or_insert(last);
        }
    });
    view
}

fn take(view: &SharedView, exact: bool, block: &Block) {
    let mut view = view.lock().unwrap();
    if block.data.is_none() || block.is("ended") {
        return;
    }
    let data = block.json();
    let number = |name: &str| data[name].as_u64().unwrap();
    if block.is("lost") {
        view.lost_at_most(number("most"), block.id.is_some());
        return;
    }
    let topic = data["topic"].as_str().unwrap();
    if block.is("message") {
        let digest = data["digest"].as_str().unwrap().parse().unwrap();
        if let Some(payload) = data["payload"].as_str() {
            assert_eq!(Digest::of(payload.as_bytes()), digest);
        }
        // The epoch is a part of the id of a stream of one topic: RUN-POSITION-EPOCH-SEQUENCE.
        let id = block.id.as_ref().unwrap();
        let epoch = exact.then(|| id.split('-').nth(2).unwrap().parse().unwrap());
        view.message(topic, epoch, number("sequence"), digest);
        return;
    }
    assert!(block.is("gap"), "{block:?}");
    let (first, last) = (number("first"), number("last"));
    let epoch = data["epoch"].as_str().unwrap().parse().unwrap();
    match data["cause"].as_str().unwrap() {
        "lost" => view.lost(topic, epoch, first, last),
        "aborted" => view.aborted(topic, epoch, first, last),
        _ => view.gap(data.to_string()),
    }
}

/// Returns the digest of a message that the daemon has.
pub async fn get(target: &Target, topic: &str, sequence: u64) -> Result<Digest, u16> {
    let path = format!("/v1/topics/{}?sequence={sequence}", segment(topic));
    let answer = ask(target.http, "GET", &path).send().await;
    if answer.status == 200 { Ok(Digest::of(&answer.body)) } else { Err(answer.status) }
}

/// Returns the highest count of a topic.
pub async fn top(target: &Target, topic: &str) -> u64 {
    let path = format!("/v1/topics/{}/top?k=1", segment(topic));
    let answer = ask(target.http, "GET", &path).send().await;
    answer.json()["top"][0]["count"].as_u64().unwrap()
}
