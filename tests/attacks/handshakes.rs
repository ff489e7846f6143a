//! Attacks before a session: half-done handshakes, and too many complete ones.

use crate::arena::{Field, HANDSHAKES, SESSIONS};
use crate::common::tls;
use crate::peers::{PATIENCE, over_tls, tcp};
use crate::raw::Raw;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir::wire;

/// Number of half-done handshakes.
const MANY: u16 = 10_000;

/// Number of those that the daemon accepts at once from addresses that are not proven.
const UNPROVEN: usize = 256;

/// First packets of as many connections.
fn first_packets(server: SocketAddr, count: u16) -> Vec<Vec<u8>> {
    let mut endpoint = quinn_proto::Endpoint::new(Arc::default(), None, false, None);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(wire::ALPN)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let now = Instant::now();
    let packets = (0..count).map(|_| {
        let connecting = endpoint.connect(now, config.clone(), server, "localhost");
        let (_, mut connection) = connecting.unwrap();
        let mut packet = Vec::new();
        let _transmit = connection.poll_transmit(now, 1, &mut packet).unwrap();
        packet
    });
    packets.collect()
}

/// Sends a first packet, and returns the kind of the answer.
async fn half(server: SocketAddr, from: Ipv4Addr, packet: Vec<u8>) -> &'static str {
    let socket = UdpSocket::bind((from, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    let mut answer = [0; 1500];
    for _ in 0..3 {
        socket.send(&packet).await.unwrap();
        let Ok(Ok(length)) = timeout(Duration::from_secs(2), socket.recv(&mut answer)).await else {
            continue;
        };
        // The type in a long header (RFC 9000, section 17.2). The packet of a handshake is full.
        return match (answer[0] & 0b1011_0000, length) {
            (0b1011_0000, _) => "Retry",
            (0b1000_0000, 1200..) => "handshake",
            _ => "refused",
        };
    }
    "no answer"
}

pub async fn udp(field: Field) -> String {
    let packets = first_packets(field.server, MANY);
    let (mut running, mut answers) = (JoinSet::new(), BTreeMap::new());
    for (n, packet) in (0..).zip(packets) {
        running.spawn(half(field.server, field.address(n), packet));
        while running.len() >= 64
            && let Some(answer) = running.join_next().await
        {
            *answers.entry(answer.unwrap()).or_insert(0) += 1;
        }
    }
    while let Some(answer) = running.join_next().await {
        *answers.entry(answer.unwrap()).or_insert(0) += 1;
    }
    let begun = answers.get("handshake").copied().unwrap_or_default();
    let retries = answers.get("Retry").copied().unwrap_or_default();
    assert!(begun <= UNPROVEN, "{answers:?}");
    assert!(retries + begun + 10 >= usize::from(MANY), "{answers:?}");
    format!("{begun} were answered, {retries} got a Retry and left no state")
}

/// Open files that this process may have.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

pub async fn client_hellos(field: Field) -> String {
    let name = "localhost".try_into().unwrap();
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(Arc::new(tls(b"h2")), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let half = hello[..hello.len() / 2].to_vec();
    // In turns, if there are not enough files.
    let at_once = usize::from(MANY).min(open_files().saturating_sub(500));
    let (mut held, mut sent, mut most) = (Vec::new(), 0, 0);
    let begun = Instant::now();
    for n in 0..MANY {
        if held.len() == at_once {
            held.clear();
        }
        let Some(mut stream) = tcp(field.server, field.address(n)).await else { continue };
        if stream.write_all(&half).await.is_ok() {
            sent += 1;
            held.push(stream);
        }
        most = most.max(held.len());
    }
    // Until the daemon closes the last one.
    let mut closed = 0;
    for stream in held {
        let mut byte = [0];
        let gone = async {
            while stream.peek(&mut byte).await.is_ok_and(|length| length > 0) {
                // The alert before the end.
                stream.readable().await.unwrap();
                if stream.try_read(&mut [0; 64]).is_err() {
                    break;
                }
            }
        };
        closed += usize::from(timeout(PATIENCE, gone).await.is_ok());
    }
    assert!(sent >= usize::from(MANY) - 100, "{sent} connections");
    assert!(closed + 100 >= most, "{closed} of {most} were closed");
    let seconds = Field::seconds(begun);
    format!("{most} at once, {closed} of them closed after {seconds:.0} s")
}

/// One session after the other, as fast as they come.
pub async fn complete(field: Field) -> String {
    let (mut accepted, mut refused, begun) = (0, 0, Instant::now());
    while !field.is_over() {
        let transport = quinn::TransportConfig::default();
        match Raw::try_from(field.server, field.address(1), transport).await {
            Ok(raw) => {
                accepted += 1;
                raw.connection.close(0_u32.into(), b"");
            }
            Err(_) => refused += 1,
        }
    }
    let seconds = Field::seconds(begun);
    let most = (HANDSHAKES.max(SESSIONS) + 2) as f64 + HANDSHAKES as f64 * seconds;
    assert!(f64::from(accepted) <= most && refused > 0, "{accepted} accepted, {refused} refused");
    format!("{accepted} accepted in {seconds:.1} s, {refused} refused after a Retry")
}

pub async fn connections(field: Field) -> String {
    let (mut accepted, mut refused, begun) = (0, 0, Instant::now());
    while !field.is_over() {
        match over_tls(&field, field.address(1), b"h2").await {
            Some(_) => accepted += 1,
            None => refused += 1,
        }
    }
    let seconds = Field::seconds(begun);
    let most = (HANDSHAKES.max(SESSIONS) + 2) as f64 + HANDSHAKES as f64 * seconds;
    assert!(f64::from(accepted) <= most && refused > 0, "{accepted} accepted, {refused} refused");
    format!("{accepted} accepted in {seconds:.1} s, {refused} closed")
}

/// As many sessions as there are places.
pub async fn sessions(field: Field) -> String {
    let (mut held, mut refused) = (Vec::new(), 0);
    while !field.is_over() {
        let transport = quinn::TransportConfig::default();
        match Raw::try_from(field.server, field.address(1), transport).await {
            Ok(raw) => held.push(raw),
            Err(_) => refused += 1,
        }
        if refused > 100 {
            break;
        }
    }
    held.retain(|raw| raw.connection.close_reason().is_none());
    assert!(held.len() as u64 <= SESSIONS && refused > 0, "{} accepted", held.len());
    format!("{} accepted, {refused} refused", held.len())
}
