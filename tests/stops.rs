//! The time that stopping takes over any path, and what remains afterwards.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/h2.rs"]
mod h2;
#[path = "common/lossy.rs"]
mod lossy;

use common::{TRANSPORTS, within};
use h2::{H2, HEADERS};
use lossy::{CLEAN, Lossy, Rules};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir::{Client, Daemon, SubscribeOptions, Transport, Trust};

/// A path with long timers: half a round trip is 400 ms, and a connection that closes over it
/// drains for three of its probe timeouts, 7 s.
const LONG: Rules = Rules { delay: Duration::from_millis(400), ..CLEAN };

/// The daemon promises a second for goodbyes and a quarter for packets. The rest is for a busy
/// machine.
const SOON: Duration = Duration::from_secs(3);

async fn through(network: &Lossy, daemon: &Daemon, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(network.address.to_string()).transport(transport).trust(trust);
    within(builder.reconnect(weir::client::Reconnect::never()).connect()).await.unwrap()
}

// In an earlier version this took 11.2 s after one subscriber had paused for 4 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_wait_for_the_timers_of_the_worst_path_nor_keep_its_port() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = common::daemon().await;
        let address = daemon.local_addr();
        let network = Lossy::start(address, LONG);
        let client = through(&network, &daemon, transport).await;
        let _subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
        let begun = Instant::now();
        within(daemon.shutdown()).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        within(client.closed()).await;
        // Both ports are free at once, though the connection is still draining.
        drop(Daemon::builder().listen(address).spawn().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_a_client() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = common::daemon().await;
        let network = Lossy::start(daemon.local_addr(), LONG);
        let client = through(&network, &daemon, transport).await;
        within(client.publish("a", "x")).await.unwrap();
        let begun = Instant::now();
        within(client.close()).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn get(stream: &mut TcpStream, target: &str) -> std::io::Result<()> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await
}

/// Reads up to the end of the connection.
async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // The connection may end with FIN or with a reset.
    let _ = within(stream.read_to_end(&mut rest)).await;
}

// The clock is advanced by hand, and is exact. Answers have 2 s, sessions beside them 1.25 s.
#[tokio::test]
async fn a_daemon_that_stops_waits_two_seconds_for_unread_answers() {
    let daemon = Daemon::builder().listen(LOOPBACK).http(LOOPBACK).spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    // More than the buffers of the kernel hold.
    daemon.publish("a", vec![7; 16 << 20]).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut unread = socket.connect(http).await.unwrap();
    get(&mut unread, "/v1/topics/a").await.unwrap();
    within(unread.read_exact(&mut [0; 12])).await.unwrap();
    let mut h2 = H2::connect(http, 0).await;
    h2.ask("GET", "/v1/topics/a", &[]).await;
    assert_eq!(within(h2.next(HEADERS)).await.unwrap().status(), 200);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    within(daemon.shutdown()).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2) && took < SOON, "{took:?}");
    tokio::time::resume();
    let (mut rest, _) = (Vec::new(), h2);
    let _ = within(unread.read_to_end(&mut rest)).await;
    assert!(rest.len() < 16 << 20, "it was all there");
}

// In an earlier version the listeners were closed, but open connections were still served.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_dropped_serves_no_connection() {
    let daemon = Daemon::builder().listen(LOOPBACK).http(LOOPBACK).spawn().await.unwrap();
    let (address, http) = (daemon.local_addr(), daemon.http_addr().unwrap());
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        clients.push(common::client(&daemon, transport).await);
    }
    let mut kept = TcpStream::connect(http).await.unwrap();
    get(&mut kept, "/v1/topics/none").await.unwrap();
    let mut events = TcpStream::connect(http).await.unwrap();
    get(&mut events, "/v1/events/a").await.unwrap();
    for stream in [&mut kept, &mut events] {
        let mut head = [0; 12];
        within(stream.read_exact(&mut head)).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 "));
    }
    drop(daemon);
    // The connection must not end by its idle timeout: it goes on sending requests.
    within(async {
        while get(&mut kept, "/v1/topics/none").await.is_ok() {
            match kept.read(&mut [0; 4096]).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    })
    .await;
    is_closed(&mut events).await;
    for client in clients {
        within(client.closed()).await;
    }
    assert!(TcpStream::connect(http).await.is_err());
    within(async { while Daemon::builder().listen(address).spawn().await.is_err() {} }).await;
}
