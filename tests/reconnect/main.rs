//! Clients that reconnect, with real daemons: the link is cut while the daemon lives, or the daemon
//! stops and starts again.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/hand.rs"]
mod hand;
#[path = "../common/link.rs"]
mod link;
#[path = "../common/staged.rs"]
mod staged;

mod command_line;
mod daemons;
mod goodbyes;
mod had;
mod policies;
mod publishing;
mod subscribing;

use common::within;
use link::Link;
use std::time::Duration;
use weir::client::{Builder, Reconnect, State, Subscription};
use weir::{Client, Daemon, Event, Interruption, Transport, Trust};

/// Short pauses, so that tests do not wait for chance.
fn soon() -> Reconnect {
    Reconnect::default().pauses(Duration::from_millis(5), Duration::from_millis(50))
}

/// Settings of a client that reaches the daemon over the link.
fn over(link: &Link, daemon: &Daemon, transport: Transport) -> Builder {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    Client::builder(link.address.to_string()).transport(transport).trust(trust).reconnect(soon())
}

async fn linked(daemon: &Daemon, transport: Transport) -> (Link, Client) {
    let link = Link::start(daemon.local_addr()).await;
    let client = within(over(&link, daemon, transport).connect()).await.unwrap();
    (link, client)
}

async fn interruption(subscription: &mut Subscription) -> Interruption {
    match within(subscription.next()).await.unwrap().unwrap() {
        Event::Interrupted(interruption) => interruption,
        other => panic!("{other:?} in place of an interruption"),
    }
}

/// Waits until the client has a session again.
async fn back(client: &Client) {
    within(client.open()).await.unwrap();
    assert!(matches!(client.state(), State::Open { .. }));
}
