//! Peers that vanish without a goodbye. The test advances the clock.

#[path = "../../../tests/common/lossy.rs"]
mod lossy;

use super::{LOOPBACK, within};
use crate::client::{Client, Reconnect};
use crate::daemon::Daemon;
use crate::{SubscribeOptions, Transport, Trust};
use lossy::{CLEAN, DEAD, Lossy};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Maximum silence of a session.
const IDLE: Duration = Duration::from_secs(30);

/// Silence after which the daemon pings a peer. It then waits for the maximum silence again (RFC 9000,
/// section 10.1).
const ASKED: Duration = Duration::from_secs(14);

const MARGIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_peer_over_udp_that_vanishes_is_gone_30_s_after_it_was_asked_and_leaves_nothing() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = Daemon::builder().listen(LOOPBACK).sessions(1).spawn().await.unwrap();
        let network = Lossy::start(daemon.local_addr(), CLEAN);
        let connect = |address: SocketAddr| {
            let trust = Trust::Pinned(daemon.certificate_hash().into());
            let builder = Client::builder(address.to_string()).transport(transport).trust(trust);
            builder.reconnect(Reconnect::never()).connect()
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
        // The only place for a session is free again.
        within(async { while connect(daemon.local_addr()).await.is_err() {} }).await;
    }
}
