//! Peers that vanish without a word. The clock is wound on.

#[path = "../../../tests/common/lossy.rs"]
mod lossy;

use super::{LOOPBACK, within};
use crate::client::Client;
use crate::daemon::Daemon;
use crate::{SubscribeOptions, Transport, Trust};
use lossy::{CLEAN, DEAD, Lossy};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A session that is not heard of for so long is over.
const IDLE: Duration = Duration::from_secs(30);

/// After so long the daemon asks a silent peer whether it is there, and waits anew (RFC 9000, section
/// 10.1).
const ASKED: Duration = Duration::from_secs(14);

const MARGIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_peer_over_udp_that_vanishes_is_gone_30_s_after_it_was_asked_and_leaves_nothing() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = Daemon::builder().listen(LOOPBACK).sessions(1).spawn().await.unwrap();
        let network = Lossy::start(daemon.local_addr(), CLEAN);
        let connect = |address: SocketAddr| {
            let trust = Trust::Pinned(daemon.certificate_hash().into());
            Client::builder(address.to_string()).transport(transport).trust(trust).connect()
        };
        let client = within(connect(network.address)).await.unwrap();
        let _subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
        let subscriptions = || daemon.broker.with(|engine| engine.subscriptions());
        network.set(DEAD);
        tokio::time::pause();
        let vanished = Instant::now();
        sleep(IDLE.saturating_sub(MARGIN)).await;
        assert_eq!(subscriptions(), 1);
        while subscriptions() > 0 {
            sleep(MARGIN / 10).await;
            let silent = vanished.elapsed();
            assert!(silent < ASKED + IDLE + MARGIN, "{transport}: {silent:?}");
        }
        tokio::time::resume();
        // Its place is free: it was the only one.
        within(async { while connect(daemon.local_addr()).await.is_err() {} }).await;
    }
}
