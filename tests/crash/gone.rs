//! The link between all clients and the daemon is gone for a while: every packet is dropped, and no
//! connection is closed.
//!
//! `cargo test --test crash gone -- --ignored --nocapture` is the long run: 30 s and five minutes.

use crate::common::TRANSPORTS;
use crate::link::{Link, Mode};
use crate::peers::Peers;
use crate::relay::{End, Relay, Target};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const EVERY: Duration = Duration::from_millis(20);

/// Everybody is behind the link, except for one publisher, whose publications the others miss while
/// the link is gone.
async fn gone_for(time: Duration) {
    let mut relay = Relay::start(&[]);
    let direct = relay.target.clone();
    let (link, http) = (Link::start(direct.listen).await, Link::start(direct.http).await);
    let linked =
        Target { listen: link.address, udp: link.address, http: http.address, ..direct.clone() };
    let mut peers = Peers::default();
    peers.subscribe(&linked, "gone").await;
    peers.publish(&linked, "gone", EVERY).await;
    for (n, transport) in (4..).zip(TRANSPORTS) {
        peers.publish_small(&direct, transport, &format!("gone/{n}"), EVERY).await;
    }
    sleep(Duration::from_secs(2)).await;
    link.set(Mode::Gone);
    http.set(Mode::Gone);
    sleep(time).await;
    let ended = peers.ends();
    let back = Instant::now();
    link.set(Mode::Pass);
    http.set(Mode::Pass);
    // Everybody is back, or has never left.
    sleep(Duration::from_secs(2)).await;
    let report = peers.settle(&direct).await;
    eprintln!(
        "gone for {time:?}: {ended} sessions of subscribers ended meanwhile; everything had arrived \
         {:.1} s after it was back\n{report}",
        back.elapsed().as_secs_f64()
    );
    relay.end(End::Stop);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_gone_for_5_s_loses_and_repeats_nothing() {
    gone_for(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_link_that_is_gone_for_30_s_loses_and_repeats_nothing() {
    gone_for(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes six minutes"]
async fn a_link_that_is_gone_for_5_min_loses_and_repeats_nothing() {
    gone_for(Duration::from_secs(300)).await;
}
