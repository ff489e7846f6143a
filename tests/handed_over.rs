//! Sockets that were handed over: they outlive a daemon, and the next one serves what has come meanwhile.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/hand.rs"]
mod hand;
#[path = "common/http.rs"]
mod http;

use common::{TRANSPORTS, within};
use hand::{Hand, decode};
use http::ask;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::client::Reconnect;
use weir::daemon::JournalOptions;
use weir::wire::{self, DaemonFrame, Delivery};
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Trust};

/// Longer than any test. A drain that takes it fails the test.
const LONG: Duration = Duration::from_secs(600);

/// The sockets of one service.
struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    http: TcpListener,
}

impl Sockets {
    fn bind() -> Self {
        // UDP ports are freer than TCP ports, of which closed connections keep some.
        loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                return Self { udp, tcp, http };
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn http(&self) -> SocketAddr {
        self.http.local_addr().unwrap()
    }

    async fn daemon(&self, state: &Path) -> Daemon {
        let builder = Daemon::builder().state(state).journal(JournalOptions::default());
        let builder = builder.udp_socket(self.udp.try_clone().unwrap());
        let builder = builder.tcp_listener(self.tcp.try_clone().unwrap());
        let builder = builder.http_listener(self.http.try_clone().unwrap());
        let daemon = within(builder.spawn()).await.unwrap();
        assert_eq!(daemon.local_addr(), self.address());
        assert_eq!(daemon.http_addr(), Some(self.http()));
        daemon
    }

    fn client(&self, daemon: &Daemon) -> weir::client::Builder {
        let hashes = daemon.certificate_hashes();
        Client::builder(self.address().to_string()).trust(Trust::Pinned(hashes))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_between_two_daemons_is_served_by_the_second() {
    let (sockets, state) = (Sockets::bind(), tempfile::tempdir().unwrap());
    let first = sockets.daemon(state.path()).await;
    let mut subscribers = Vec::new();
    for transport in TRANSPORTS {
        let client = within(sockets.client(&first).transport(transport).connect()).await.unwrap();
        let options = SubscribeOptions::from(Start::All);
        let subscription = within(client.subscribe("a", &options)).await.unwrap();
        subscribers.push((client, subscription));
    }
    for n in 0..10 {
        first.publish("a", n.to_string()).unwrap();
    }
    within(first.drain(LONG)).await;
    let builders = TRANSPORTS.map(|transport| {
        let builder = sockets.client(&first).transport(transport);
        builder.reconnect(Reconnect::never())
    });
    within(first.shutdown()).await;
    // Nobody is there. Connections are accepted by the system, and wait.
    let mut waiting = Vec::new();
    for n in 10..20 {
        let post = ask(sockets.http(), "POST", "/v1/topics/a").body(n.to_string());
        waiting.push(post.open().await);
    }
    let connecting = builders.map(|builder| tokio::spawn(builder.connect()));
    let second = sockets.daemon(state.path()).await;
    for (n, connection) in waiting.iter_mut().enumerate() {
        let answer = within(connection.answer()).await;
        assert_eq!(answer.status, 200, "{n}: {answer:?}");
    }
    for (client, transport) in connecting.into_iter().zip(TRANSPORTS) {
        let client = within(client).await.unwrap();
        client.unwrap_or_else(|error| panic!("{transport}: {error}")).close().await;
    }
    for (_, subscription) in &mut subscribers {
        let mut sequence = 0;
        while sequence < 20 {
            match within(subscription.next()).await.unwrap().unwrap() {
                Event::Message(message) => {
                    sequence += 1;
                    assert_eq!(message.sequence, sequence);
                }
                Event::Gap(gap) => panic!("{gap:?}"),
                _ => {}
            }
        }
    }
    drop(subscribers);
    within(second.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_drains_leaves_new_peers_to_the_next_one() {
    let (sockets, state) = (Sockets::bind(), tempfile::tempdir().unwrap());
    let first = sockets.daemon(state.path()).await;
    let mut hand = Hand::greet(sockets.address(), TRANSPORTS[0], 1).await;
    hand.subscribe(1, "a", wire::Start::New, Delivery::Ordered).await;
    // These have no request yet. A later connection is served, so they were accepted.
    let mut early = TcpStream::connect(sockets.http()).await.unwrap();
    let silent = TcpStream::connect(sockets.http()).await.unwrap();
    assert_eq!(ask(sockets.http(), "GET", "/v1/topics/a").send().await.status, 404);
    // The drain lasts until this has arrived.
    let payload = vec![7; 150_000];
    let mut post = TcpStream::connect(sockets.http()).await.unwrap();
    let head = "POST /v1/topics/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 150000\r\n\r\n";
    post.write_all(head.as_bytes()).await.unwrap();
    post.write_all(&payload[..70_000]).await.unwrap();
    assert!(matches!(decode(&within(hand.frame(1)).await), DaemonFrame::Begin { .. }));
    let drain = first.drain(LONG);
    let peers = async {
        let asked = within(hand.frame(0)).await;
        assert!(matches!(decode(&asked), DaemonFrame::Drain { .. }), "{:?}", decode(&asked));
        // The first request of an early connection is served, and its last one.
        early.write_all(b"GET /weir.js HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        within(early.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        // New ones wait.
        let late = ask(sockets.http(), "GET", "/v1/topics/a").open().await;
        let never = sockets.client(&first).reconnect(Reconnect::never());
        let connecting = tokio::spawn(never.connect());
        post.write_all(&payload[70_000..]).await.unwrap();
        let mut answer = [0; 12];
        within(post.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        drop((hand, silent));
        (late, connecting)
    };
    let ((), (mut late, connecting)) = within(async { tokio::join!(drain, Box::pin(peers)) }).await;
    within(first.shutdown()).await;
    assert!(!connecting.is_finished(), "the first daemon has answered");
    let second = sockets.daemon(state.path()).await;
    let answer = within(late.answer()).await;
    assert_eq!((answer.status, answer.body == payload), (200, true));
    drop(within(connecting).await.unwrap().unwrap());
    within(second.shutdown()).await;
}
