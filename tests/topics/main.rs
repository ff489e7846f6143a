//! Rules for topics, over every transport and HTTP: how much is kept and for how long, and what is
//! refused.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/lossy.rs"]
mod lossy;
#[path = "../realtime/tally.rs"]
#[allow(dead_code)]
mod tally;

mod expiring;
mod keeping;
mod refusing;

use common::within;
use http::{Block, Events, ask};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use weir::client::{RequestError, Subscription};
use weir::engine::TopicRule;
use weir::wire::{Code, Delivery, GapCause, Which};
use weir::{Client, Daemon, Event, Start, SubscribeOptions};

/// All modes of delivery.
const MODES: [Delivery; 3] = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];

fn rule(filter: &str) -> TopicRule {
    TopicRule::new(filter.parse().unwrap())
}

async fn ruled(rules: impl IntoIterator<Item = TopicRule>) -> (Daemon, SocketAddr) {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let builder = Daemon::builder().listen(listen).http(listen).topic_rules(rules);
    let daemon = builder.spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    (daemon, http)
}

async fn subscribe(client: &Client, topic: &str, start: Start, delivery: Delivery) -> Subscription {
    let options = SubscribeOptions::from(start).with_delivery(delivery);
    within(client.subscribe(topic, &options)).await.unwrap()
}

/// Opens a stream of events, and waits until it has begun.
async fn events(to: SocketAddr, target: &str) -> Events {
    let mut events = ask(to, "GET", &format!("/v1/events/{target}")).events().await;
    within(events.block()).await.unwrap();
    events
}

async fn event(events: &mut Events) -> Block {
    within(events.event()).await.expect("the stream ended")
}

fn get_code<T: std::fmt::Debug>(result: Result<T, RequestError>) -> Code {
    match result {
        Err(RequestError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// Waits until the daemon has not got a message any more.
async fn until_gone(daemon: &Daemon, topic: &str, sequence: u64) {
    let gone = async {
        while daemon.get(topic, Which::Sequence(sequence)).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(gone).await;
}

/// Reads up to the next gap, which messages may overtake where each is sent by itself.
async fn next_gap(subscription: &mut Subscription) -> String {
    loop {
        if let Event::Gap(gap) = within(subscription.next()).await.unwrap().unwrap() {
            return told(gap.first, gap.last, gap.cause);
        }
    }
}

fn told(first: u64, last: u64, cause: GapCause) -> String {
    format!("{cause:?} {first}-{last}")
}
