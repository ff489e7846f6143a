//! Frames and headers that are damaged, truncated or oversized.

use crate::arena::Field;
use crate::common::tls;
use crate::peers::{self, Foe, PATIENCE, closed, message, tcp};
use crate::raw::encoded;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weir::wire::ClientFrame;

/// Bytes on a control stream after the hello, and how the session has to end.
fn attempts() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let long = |first: u8, length: u32| {
        let mut frame = length.to_le_bytes().to_vec();
        frame.push(first);
        frame
    };
    let ping = encoded(&[ClientFrame::Ping { request: 1 }]);
    let hello = encoded(&[peers::hello()]);
    vec![
        ("noise", (0..4096).map(|n: u32| ((n * 7919) >> 3) as u8).collect(), &ANY),
        ("zeros", vec![0; 1 << 16], &ANY),
        ("ones", vec![0xff; 1 << 16], &ANY),
        ("a length of 4 GiB", long(9, u32::MAX), &ANY),
        ("a second hello", hello, &["unexpected"]),
        ("a frame too many bytes long", [&ping[..], &[0xff; 20]].concat(), &ANY),
    ]
}

const ANY: [&str; 3] = ["malformed", "frame_too_large", "unexpected"];

fn told(outcomes: &BTreeMap<String, u32>) -> String {
    let mut text = String::new();
    for (how, count) in outcomes {
        let _ = write!(text, "{}{how} {count}", if text.is_empty() { "" } else { ", " });
    }
    text
}

pub async fn quic(field: Field) -> String {
    let mut outcomes = BTreeMap::new();
    for n in 0.. {
        for (what, bytes, expected) in attempts() {
            let mut foe = Foe::greet(&field, field.address(n)).await;
            foe.bytes(&bytes).await;
            // A truncated frame.
            let _ = foe.tx.finish();
            let how = foe.ended().await;
            assert!(expected.contains(&&*how), "{what}: {how}");
            *outcomes.entry(how).or_insert(0) += 1;
        }
        if field.is_over() {
            break;
        }
    }
    format!("the session ends: {}", told(&outcomes))
}

async fn websocket_of(field: &Field, n: u16) -> BTreeMap<String, u32> {
    let mut outcomes = BTreeMap::new();
    for (what, bytes, expected) in attempts() {
        let mut socket = peers::websocket(field, field.address(n)).await;
        let _ = socket.write_all(&message(bytes.len(), &bytes)).await;
        let how = closed(&mut socket).await;
        assert!(expected.contains(&&*how), "{what}: {how}");
        *outcomes.entry(how).or_insert(0) += 1;
    }
    outcomes
}

pub async fn websocket(field: Field) -> String {
    let mut outcomes = BTreeMap::new();
    for n in 0.. {
        for (how, count) in websocket_of(&field, n).await {
            *outcomes.entry(how).or_insert(0) += count;
        }
        if field.is_over() {
            break;
        }
    }
    format!("the session ends: {}", told(&outcomes))
}

/// A header of 1 MiB, and a hundred thousand short ones.
pub async fn huge_headers(field: Field) -> String {
    let mut outcomes = BTreeMap::new();
    for n in 0_u16.. {
        for head in [
            format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
            format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "y".repeat(1 << 20)),
            format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(100_000)),
        ] {
            let mut stream = tcp(field.http, field.address(n)).await.unwrap();
            let _ = stream.write_all(head.as_bytes()).await;
            let mut answer = [0; 12];
            let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
            let status = match read.expect("neither an answer nor an end") {
                Ok(_) => String::from_utf8_lossy(&answer[9..]).into_owned(),
                Err(_) => "closed".into(),
            };
            assert!(["400", "414", "431", "closed"].contains(&&*status), "{status}");
            *outcomes.entry(status).or_insert(0) += 1;
        }
        if field.is_over() {
            break;
        }
    }
    format!("refused: {}", told(&outcomes))
}

/// A request for a session whose fields take 1 MiB, over HTTP/3.
pub async fn http3(field: Field) -> String {
    let mut outcomes = BTreeMap::new();
    for n in 0.. {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(b"h3")).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client((field.address(n), 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, field.server, "localhost").unwrap();
        let connection = timeout(PATIENCE, connecting).await.unwrap().unwrap();
        // The control stream with empty settings (RFC 9114, section 6.2.1).
        let mut control = connection.open_uni().await.unwrap();
        control.write_all(&[0, 4, 0]).await.unwrap();
        let (mut tx, _rx) = connection.open_bi().await.unwrap();
        // A HEADERS frame of 1 MiB (section 7.2.2).
        let _ = tx.write_all(&[1, 0x80, 0x10, 0, 0]).await;
        let _ = tx.write_all(&vec![0; 1 << 20]).await;
        let closed = timeout(PATIENCE, connection.closed()).await;
        let how = match closed.expect("the connection lives") {
            quinn::ConnectionError::ApplicationClosed(close) => {
                format!("{:#x}", close.error_code.into_inner())
            }
            other => other.to_string(),
        };
        *outcomes.entry(how).or_insert(0) += 1;
        if field.is_over() {
            break;
        }
    }
    format!("the connection ends: {}", told(&outcomes))
}
