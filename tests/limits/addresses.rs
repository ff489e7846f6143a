//! Sessions, connections and handshakes of one address.

use crate::common::{TRANSPORTS, client, tls, within};
use crate::raw::Raw;
use crate::{address, count, daemon};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir::client::Reconnect;
use weir::daemon::Limit;
use weir::wire::Code;
use weir::{Client, Daemon, Transport, Trust};

async fn refused(daemon: &Daemon, transport: Transport) -> weir::client::ConnectError {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string()).transport(transport);
    let builder = builder.trust(trust).reconnect(Reconnect::never());
    within(builder.connect()).await.unwrap_err()
}

async fn from(daemon: &Daemon, n: u8) -> Result<Raw, quinn::ConnectionError> {
    Raw::try_from(daemon.local_addr(), address(n), quinn::TransportConfig::default()).await
}

#[tokio::test]
async fn an_address_has_so_many_sessions_over_all_transports_and_others_are_not_concerned() {
    let daemon = daemon(|limits| limits.sessions_per_address = 3).await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        clients.push(client(&daemon, transport).await);
    }
    for (n, transport) in TRANSPORTS.into_iter().enumerate() {
        let error = refused(&daemon, transport).await.to_string();
        // Over QUIC the address proves itself first, and is refused before the handshake.
        let said = if transport == Transport::WebSocket { "sessions" } else { "refused" };
        assert!(error.contains(said), "{transport}: {error}");
        assert_eq!(count(&daemon, Limit::SessionsPerAddress), n as u64 + 1);
    }
    assert_eq!(count(&daemon, Limit::Unproven), 2);
    within(from(&daemon, 2)).await.unwrap().greet().await;
    // A session that ends makes room.
    within(clients.pop().unwrap().close()).await;
    let again = async { while from(&daemon, 1).await.is_err() {} };
    within(again).await;
}

// The first packets of several sessions may come before any of their handshakes is complete.
#[tokio::test]
async fn sessions_that_begin_at_once_are_counted_when_their_handshakes_are_complete() {
    let daemon = daemon(|limits| limits.sessions_per_address = 2).await;
    let all = futures_util::future::join_all((0..20).map(|_| from(&daemon, 1))).await;
    let mut accepted = 0;
    for raw in all {
        let Ok(raw) = raw else { continue };
        let closed = tokio::time::timeout(Duration::from_millis(500), raw.connection.closed());
        match closed.await {
            Err(_) => accepted += 1,
            Ok(quinn::ConnectionError::ApplicationClosed(close)) => {
                assert_eq!(close.error_code.into_inner(), u64::from(Code::RATE_LIMITED.0));
                assert!(String::from_utf8_lossy(&close.reason).contains("sessions_per_address"));
            }
            Ok(other) => panic!("{other}"),
        }
        // Those that were accepted stay until the end.
        std::mem::forget(raw);
    }
    assert_eq!(accepted, 2);
    assert_eq!(count(&daemon, Limit::SessionsPerAddress), 18);
}

#[tokio::test]
async fn an_address_begins_so_many_handshakes_and_then_one_for_each_part_of_a_second() {
    let daemon = daemon(|limits| {
        limits.handshakes_per_address = 2;
        limits.sessions_per_address = 4;
    })
    .await;
    let mut begun = 0;
    let started = std::time::Instant::now();
    // Each leaves before the next comes, so that only handshakes are limited.
    while let Ok(raw) = within(from(&daemon, 1)).await {
        begun += 1;
        raw.connection.close(0_u32.into(), b"");
        within(raw.connection.closed()).await;
        assert!(begun < 100, "no limit");
    }
    let most = 5 + 2 * (started.elapsed().as_secs() + 1);
    assert!((5..=most).contains(&begun), "{begun} of {most}");
    assert!(count(&daemon, Limit::HandshakesPerAddress) >= 1);
    assert!(count(&daemon, Limit::Unproven) >= 1, "an address is refused only when it is proven");
    // The same bucket is for TLS.
    let mut tcp = connect(daemon.local_addr(), address(1)).await;
    assert_eq!(within(tcp.read(&mut [0; 10])).await.unwrap_or(0), 0);
    within(from(&daemon, 2)).await.unwrap();
    // It fills up again.
    within(async { while from(&daemon, 1).await.is_err() {} }).await;
}

async fn connect(server: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    within(socket.connect(server)).await.unwrap()
}

/// Requests a page. Returns `None` if the connection is closed.
async fn page(server: SocketAddr, from: Ipv4Addr) -> Option<TcpStream> {
    let mut stream = connect(server, from).await;
    let get = b"GET /certificate.sha256 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _ = stream.write_all(get).await;
    let mut begun = [0; 12];
    within(stream.read_exact(&mut begun)).await.ok()?;
    assert_eq!(&begun, b"HTTP/1.1 200");
    Some(stream)
}

#[tokio::test]
async fn an_address_has_so_many_tcp_connections_over_both_ports() {
    let daemon = daemon(|limits| limits.connections_per_address = 2).await;
    let http = daemon.http_addr().unwrap();
    let first = page(http, address(1)).await.unwrap();
    let tcp = connect(daemon.local_addr(), address(1)).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
    let _second = within(connector.connect("localhost".try_into().unwrap(), tcp)).await.unwrap();
    assert!(page(http, address(1)).await.is_none());
    let mut third = connect(daemon.local_addr(), address(1)).await;
    assert_eq!(within(third.read(&mut [0; 10])).await.unwrap_or(0), 0);
    assert_eq!(count(&daemon, Limit::ConnectionsPerAddress), 2);
    assert!(page(http, address(2)).await.is_some());
    drop(first);
    within(async { while page(http, address(1)).await.is_none() {} }).await;
}

// A proxy on the same machine brings all its clients under one address.
#[tokio::test]
async fn exempt_addresses_are_not_counted() {
    let daemon = daemon(|limits| {
        limits.exempt = vec!["127.0.0.1/32".parse().unwrap()];
        limits.sessions_per_address = 1;
        limits.connections_per_address = 1;
        limits.handshakes_per_address = 1;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(within(from(&daemon, 1)).await.unwrap());
    }
    let http = daemon.http_addr().unwrap();
    let _pages = [page(http, address(1)).await.unwrap(), page(http, address(1)).await.unwrap()];
    let _one = within(from(&daemon, 2)).await.unwrap();
    assert!(within(from(&daemon, 2)).await.is_err());
}
