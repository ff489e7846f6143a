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
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Maximum silence of a session.
const IDLE: Duration = Duration::from_secs(30);

/// Silence after which the daemon pings a peer. It then waits for the maximum silence again (RFC 9000,
/// section 10.1).
const ASKED: Duration = Duration::from_secs(14);

const MARGIN: Duration = Duration::from_secs(1);

/// MiB that the daemon has to send. The second is more than all buffers on the way hold.
const UNREAD: [usize; 2] = [0, 40];

/// A network in which all clients can vanish at once.
enum Network {
    Udp(Lossy),
    Tcp(SocketAddr, watch::Sender<bool>),
}

impl Network {
    async fn start(daemon: SocketAddr, transport: Transport) -> Self {
        if transport != Transport::WebSocket {
            return Self::Udp(Lossy::start(daemon, CLEAN));
        }
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dead, vanished) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let daemon = TcpStream::connect(daemon).await.unwrap();
                tokio::spawn(carry(client, daemon, vanished.clone()));
            }
        });
        Self::Tcp(address, dead)
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(network) => network.address,
            Self::Tcp(address, _) => *address,
        }
    }

    fn vanish(&self) {
        match self {
            Self::Udp(network) => _ = network.set(DEAD),
            Self::Tcp(_, dead) => _ = dead.send_replace(true),
        }
    }
}

// Carries bytes both ways until the client vanishes. Then nothing is read, and the connections stay
// open. Every packet of the daemon is dropped, so that nothing is acknowledged.
async fn carry(mut client: TcpStream, mut daemon: TcpStream, mut dead: watch::Receiver<bool>) {
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut daemon) => return,
        _ = dead.wait_for(|dead| *dead) => {}
    }
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&daemon)
        .attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)])
        .unwrap();
    std::future::pending::<()>().await;
}

// Whether or not the daemon has something to send.
#[tokio::test]
async fn a_peer_that_vanishes_is_gone_in_the_time_of_its_transport_and_leaves_nothing() {
    for (transport, unread) in [Transport::Quic, Transport::WebTransport, Transport::WebSocket]
        .into_iter()
        .flat_map(|transport| UNREAD.map(|unread| (transport, unread)))
    {
        let daemon = Daemon::builder().listen(LOOPBACK).sessions(1).spawn().await.unwrap();
        let network = Network::start(daemon.local_addr(), transport).await;
        let connect = |address: SocketAddr| {
            let trust = Trust::Pinned(daemon.certificate_hash().into());
            let builder = Client::builder(address.to_string()).transport(transport).trust(trust);
            builder.reconnect(Reconnect::never()).connect()
        };
        let client = within(connect(network.address())).await.unwrap();
        let _subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
        let subscriptions = || daemon.broker.with(|engine| engine.subscriptions());
        network.vanish();
        tokio::time::pause();
        let vanished = Instant::now();
        for _ in 0..unread {
            daemon.publish("a", vec![7; 1 << 20]).unwrap();
        }
        sleep(IDLE.saturating_sub(MARGIN)).await;
        assert_eq!(subscriptions(), 1);
        let most = match transport {
            // The daemon pings after a third of this, and counts the silence from the beginning.
            Transport::WebSocket => IDLE,
            _ => ASKED + IDLE,
        };
        while subscriptions() > 0 {
            sleep(MARGIN / 10).await;
            let silent = vanished.elapsed();
            assert!(silent < most + MARGIN, "{transport}, {unread} MiB: {silent:?}");
        }
        tokio::time::resume();
        // The only place for a session is free again.
        within(async { while connect(daemon.local_addr()).await.is_err() {} }).await;
    }
}
