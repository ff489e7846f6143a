//! Connections before their session, and connections over TCP: their maximum number, and their
//! deadlines. A test that only waits advances the clock.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/h2.rs"]
mod h2;

use common::{client, daemon, tls, within};
use h2::{H2, HEADERS, RST_STREAM};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;
use weir::{Daemon, Transport, wire};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Limits that docs/architecture.md states.
const UNPROVEN: usize = 256;
const STREAMS: u32 = 100;

/// A handshake has 10 s. These are before and after that, with room for the time that the test
/// itself takes.
const EARLY: Duration = Duration::from_secs(7);
const LATE: Duration = Duration::from_secs(13);

/// Advances the clock at once. No packets may be in flight.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

fn quic(alpn: &[u8]) -> quinn::ClientConfig {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(alpn)).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// Peers over QUIC that send a first packet and nothing after it.
struct Handshakes {
    endpoint: quinn_proto::Endpoint,
    config: quinn::ClientConfig,
    server: SocketAddr,
}

/// The answer to the first packet.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The daemon's part of the handshake.
    Handshake,
    /// The peer must send the packet again, with proof of its address.
    Retry,
    Refusal,
}

impl Handshakes {
    fn of(daemon: &Daemon) -> Self {
        let endpoint = quinn_proto::Endpoint::new(Arc::default(), None, false, None);
        Self { endpoint, config: quic(wire::ALPN), server: daemon.local_addr() }
    }

    /// Adds a peer, and returns its socket and the answer. The daemon repeats its answer while the
    /// socket exists.
    async fn start(&mut self) -> (UdpSocket, Answer) {
        let now = std::time::Instant::now();
        let connecting = self.endpoint.connect(now, self.config.clone(), self.server, "localhost");
        let (_, mut connection) = connecting.unwrap();
        let mut packet = Vec::new();
        let first = connection.poll_transmit(now, 1, &mut packet);
        assert_eq!(first.unwrap().size, packet.len());
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.connect(self.server).await.unwrap();
        socket.send(&packet).await.unwrap();
        let mut answer = [0; 1500];
        let length = within(socket.recv(&mut answer)).await.unwrap();
        // The type in a long header (RFC 9000, section 17.2). The packet of a handshake is full.
        let answer = match (answer[0] & 0b1011_0000, length) {
            (0b1011_0000, _) => Answer::Retry,
            (0b1000_0000, 1200..) => Answer::Handshake,
            (0b1000_0000, _) => Answer::Refusal,
            (other, _) => panic!("{other:#b}"),
        };
        (socket, answer)
    }
}

#[tokio::test]
async fn above_256_handshakes_at_once_a_peer_must_prove_its_address() {
    let builder = Daemon::builder().listen(LOOPBACK).sessions(UNPROVEN + 1);
    let daemon = builder.spawn().await.unwrap();
    let mut handshakes = Handshakes::of(&daemon);
    let mut waiting = Vec::new();
    for n in 1..=UNPROVEN {
        let (socket, answer) = handshakes.start().await;
        assert_eq!(answer, Answer::Handshake, "handshake {n}");
        waiting.push(socket);
    }
    // One place is left, and none of these peers takes it.
    for _ in 0..100 {
        assert_eq!(handshakes.start().await.1, Answer::Retry);
    }
    let honest = client(&daemon, Transport::Quic).await;
    assert_eq!(handshakes.start().await.1, Answer::Refusal);
    // The others keep their places for 10 s.
    pass(EARLY).await;
    assert_eq!(handshakes.start().await.1, Answer::Refusal);
    pass(LATE.saturating_sub(EARLY)).await;
    assert_eq!(handshakes.start().await.1, Answer::Handshake);
    within(honest.publish("a", "still here")).await.unwrap();
}

/// Reads up to the end of the connection, and returns what arrived.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // The connection may end with FIN or with a reset.
    let _ = within(stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn a_handshake_that_stalls_is_closed_after_10_s() {
    let daemon = daemon().await;
    let server = daemon.local_addr();
    let mut silent = TcpStream::connect(server).await.unwrap();
    let mut half = TcpStream::connect(server).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut hello = Vec::new();
    let mut connection = rustls::ClientConnection::new(Arc::new(tls(b"h2")), name).unwrap();
    connection.write_tls(&mut hello).unwrap();
    half.write_all(&hello[..hello.len() / 2]).await.unwrap();
    // Everything of HTTP/3 except the request for a session.
    let endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
    let undecided = endpoint.connect_with(quic(b"h3"), server, "localhost").unwrap();
    let undecided = within(undecided).await.unwrap();
    tokio::time::pause();
    let begun = Instant::now();
    let took = |what: &str| {
        let took = begun.elapsed();
        assert!(took > EARLY && took < LATE, "{what}: {took:?}");
    };
    assert!(rest(&mut silent).await.is_empty());
    took("silent");
    rest(&mut half).await;
    took("half a hello");
    within(undecided.closed()).await;
    took("HTTP/3 without a session");
}

/// Requests a page. Returns `None` if the connection is not served.
async fn is_served(server: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let get = b"GET /certificate.sha256 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _ = stream.write_all(get).await;
    let mut begun = [0; 12];
    within(stream.read_exact(&mut begun)).await.ok()?;
    assert_eq!(&begun, b"HTTP/1.1 200");
    Some(stream)
}

#[tokio::test]
async fn tcp_connections_over_both_ports_are_as_many_as_sessions_and_further_ones_are_closed() {
    let builder = Daemon::builder().listen(LOOPBACK).http(LOOPBACK).sessions(3);
    let daemon = builder.spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    let first = is_served(http).await.unwrap();
    let _second = is_served(http).await.unwrap();
    let tcp = TcpStream::connect(daemon.local_addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
    let _third = within(connector.connect("localhost".try_into().unwrap(), tcp)).await.unwrap();
    assert!(is_served(http).await.is_none());
    let mut fourth = TcpStream::connect(daemon.local_addr()).await.unwrap();
    assert!(rest(&mut fourth).await.is_empty());
    // Sessions over QUIC have separate places.
    let client = client(&daemon, Transport::Quic).await;
    within(client.publish("a", "x")).await.unwrap();
    drop(first);
    // The daemon notices the end of the connection a moment later.
    within(async { while is_served(http).await.is_none() {} }).await;
}

#[tokio::test]
async fn an_http_2_connection_has_100_streams_and_the_next_is_refused() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    // Stands for a status in the table of answers.
    const REFUSED: u16 = 0;
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let daemon = Daemon::builder().listen(LOOPBACK).http(LOOPBACK).spawn().await.unwrap();
    let mut h2 = H2::connect(daemon.http_addr().unwrap(), 1000).await;
    let mut asked = Vec::new();
    for _ in 0..=STREAMS {
        asked.push(h2.ask("GET", "/v1/events/a", &[]).await);
    }
    let last = asked.pop().unwrap();
    let mut answered = BTreeMap::new();
    while answered.len() <= asked.len() {
        let frame = within(h2.polite()).await.unwrap();
        match frame.kind {
            HEADERS => assert_eq!(answered.insert(frame.stream, frame.status()), None),
            RST_STREAM => {
                assert_eq!((frame.stream, &frame.payload[..]), (last, &REFUSED_STREAM[..]));
                assert_eq!(answered.insert(last, REFUSED), None);
            }
            // The first data of a stream of events.
            _ => assert!(answered.contains_key(&frame.stream)),
        }
    }
    assert_eq!(answered[&last], REFUSED);
    assert!(asked.iter().all(|stream| answered[stream] == 200), "{answered:?}");
    // Ending one stream makes room for another.
    h2.send(RST_STREAM, 0, asked[0], &CANCEL).await;
    let next = h2.ask("GET", "/v1/topics/none", &[]).await;
    let head = within(h2.next(HEADERS)).await.unwrap();
    assert_eq!((head.stream, head.status()), (next, 404));
}
