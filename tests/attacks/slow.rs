//! Peers that take their time. They wait for the daemon's deadlines while other attacks run.

use crate::arena::{Arena, Field};
use crate::common::tls;
use crate::h2::H2;
use crate::peers::{Foe, h2, hello, message, over_tls, tcp, websocket};
use crate::raw::{Raw, encoded};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use weir::wire::{self, ClientFrame, Code, Delivery, Lag, Start};

/// Longer than every deadline of the daemon.
const LONGEST: Duration = Duration::from_secs(100);

pub struct Patient {
    name: &'static str,
    /// When the daemon has to end it, seconds.
    within: std::ops::Range<f64>,
    running: JoinHandle<(String, f64)>,
}

/// Sends a byte of `bytes` every 200 ms until the connection ends, the last one again and again.
async fn drip(mut stream: TcpStream, bytes: Vec<u8>) -> String {
    let (mut rx, mut tx) = stream.split();
    let sending = async {
        for at in 0.. {
            let byte = bytes[at.min(bytes.len() - 1)];
            if tx.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        _ = rx.read_to_end(&mut answer) => {}
        () = sending => {}
    }
    match answer.strip_prefix(b"HTTP/1.1 ") {
        Some(rest) => format!("status {}", String::from_utf8_lossy(&rest[..3])),
        None => "closed".into(),
    }
}

async fn slow_hello(field: Field) -> String {
    let name = "localhost".try_into().unwrap();
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(Arc::new(tls(b"h2")), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    // Never its last byte.
    hello.truncate(40);
    hello.extend(vec![0; 1]);
    drip(tcp(field.server, field.address(1)).await.unwrap(), hello).await
}

async fn silent(field: Field) -> String {
    let mut stream = tcp(field.server, field.address(2)).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    "closed".into()
}

async fn slow_headers(field: Field) -> String {
    let head = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: y".to_vec();
    drip(tcp(field.http, field.address(3)).await.unwrap(), head).await
}

async fn slow_body(field: Field) -> String {
    let mut stream = tcp(field.http, field.address(4)).await.unwrap();
    let head = "POST /v1/topics/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    drip(stream, b"x".to_vec()).await
}

/// The head of a request over HTTP/2, whose rest comes byte by byte.
async fn slow_continuation(field: Field) -> String {
    let mut stream = tcp(field.http, field.address(5)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.write_all(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await.unwrap();
    // The head of a CONTINUATION frame of 16 KiB.
    stream.write_all(&[0, 0x40, 0, 9, 0, 0, 0, 0, 1]).await.unwrap();
    drip(stream, vec![0x82]).await
}

async fn until_closed(mut h2: H2) -> String {
    while h2.polite().await.is_some() {}
    "closed".into()
}

async fn no_request(field: Field) -> String {
    until_closed(h2(&field, field.address(6), 1000).await).await
}

/// Answers that are not read. Pings are answered, so that the peer is not silent.
async fn unread(field: Field) -> String {
    let mut h2 = h2(&field, field.address(7), 0).await;
    for _ in 0..50 {
        h2.ask("GET", "/v1/events/**?from=all", &[]).await;
    }
    let mut reset = 0;
    while reset < 50 {
        match h2.polite().await {
            Some(frame) if frame.kind == crate::h2::RST_STREAM => reset += 1,
            Some(_) => {}
            None => return format!("{reset} reset, closed"),
        }
    }
    "all 50 reset".into()
}

async fn no_hello_quic(field: Field) -> String {
    let transport = quinn::TransportConfig::default();
    let raw = Raw::try_from(field.server, field.address(8), transport).await.unwrap();
    how(raw.connection.closed().await)
}

fn how(error: quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Code(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)).name().into()
        }
        other => other.to_string(),
    }
}

/// HTTP/3 without a request for a session.
async fn no_session(field: Field) -> String {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(b"h3")).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client((field.address(9), 0).into()).unwrap();
    let connecting = endpoint.connect_with(config, field.server, "localhost").unwrap();
    let connection = connecting.await.unwrap();
    how(connection.closed().await);
    "closed".into()
}

async fn no_hello_websocket(field: Field) -> String {
    let tls = over_tls(&field, field.address(10), b"http/1.1").await.unwrap();
    let url = format!("wss://localhost{}", wire::PATH);
    let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
    crate::peers::closed(&mut socket.into_inner()).await
}

/// Half a publication over QUIC and over WebSocket, and then a byte a second.
async fn slow_frame(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(11)).await;
    let topic = ClientFrame::Topic { alias: 0, name: "slow" };
    let payload = vec![7; 1 << 20];
    let publish = ClientFrame::Publish { alias: 0, number: 1, stamp: 0, payload: &payload };
    let bytes = encoded(&[topic, publish]);
    foe.bytes(&bytes[..400_000]).await;
    while foe.seen.refused.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(200)).await;
        if !foe.bytes(b"x").await {
            return "the session ended".into();
        }
    }
    "refused, the session lives".into()
}

async fn slow_message(field: Field) -> String {
    let mut socket = websocket(&field, field.address(12)).await;
    let ping = encoded(&[ClientFrame::Ping { request: 1 }]);
    socket.write_all(&message(1 << 20, &ping[..2])).await.unwrap();
    crate::peers::closed(&mut socket).await
}

/// A subscriber to everything that reads nothing and acknowledges nothing but the handshake.
async fn unread_session(field: Field) -> String {
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    transport.stream_receive_window(1000_u32.into());
    let mut raw = Raw::try_from(field.server, field.address(13), transport).await.unwrap();
    raw.send(&[hello()]).await;
    let frames: Vec<_> = (1..=50)
        .map(|request| ClientFrame::Subscribe {
            request,
            filter: "**",
            start: Start::All,
            delivery: Delivery::Ordered,
            lag: Lag::Oldest,
            deadline: 0,
        })
        .collect();
    raw.send(&frames).await;
    // Rankings whose answers fill the outbox.
    let top = ClientFrame::Top { request: 99, topic: "honest/quic", k: 100 };
    let many = encoded(&vec![top; 1000]);
    let _ = timeout(LONGEST, raw.tx.write_all(&many)).await;
    how(raw.connection.closed().await)
}

pub fn begin(arena: &Arena) -> Vec<Patient> {
    let field = arena.field_of(250);
    let mut all = Vec::new();
    macro_rules! patient {
        ($name:literal, $within:expr, $attack:ident) => {
            let attack = $attack(field.clone());
            let running = arena.attackers.spawn(async move {
                let begun = Instant::now();
                let outcome = timeout(LONGEST, attack).await;
                (outcome.unwrap_or_else(|_| "not ended".into()), Field::seconds(begun))
            });
            all.push(Patient { name: $name, within: $within, running });
        };
    }
    patient!("a ClientHello byte by byte", 9.0..15.0, slow_hello);
    patient!("a TCP connection that sends nothing", 9.0..15.0, silent);
    patient!("headers byte by byte over HTTP/1.1", 9.0..15.0, slow_headers);
    patient!("a body of 5 bytes a second", 9.0..20.0, slow_body);
    patient!("a CONTINUATION frame byte by byte", 9.0..15.0, slow_continuation);
    patient!("HTTP/2 without a request", 9.0..15.0, no_request);
    patient!("50 streams of events that are not read", 29.0..50.0, unread);
    patient!("QUIC without a hello", 9.0..15.0, no_hello_quic);
    patient!("HTTP/3 without a session", 9.0..15.0, no_session);
    patient!("WebSocket without a hello", 9.0..15.0, no_hello_websocket);
    patient!("a frame of 5 bytes a second over QUIC", 9.0..70.0, slow_frame);
    patient!("a WebSocket message that stops", 9.0..50.0, slow_message);
    patient!("a session that reads nothing", 29.0..80.0, unread_session);
    all
}

/// Waits for those that still run, and adds their rows.
pub fn end(arena: &mut Arena, all: Vec<Patient>) {
    for Patient { name, within, running } in all {
        while !running.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
            arena.rss();
        }
        let (outcome, seconds) = arena.attackers.block_on(running).unwrap();
        assert!(within.contains(&seconds), "{name}: {outcome} after {seconds:.1} s");
        let rss = arena.rss();
        arena.add(name, format!("{outcome} after {seconds:.0} s"), rss);
    }
}
