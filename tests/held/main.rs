//! Memory that the daemon uses for frames that peers do not complete. It has a documented bound,
//! and an honest publisher beside such peers is not affected.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod incomplete;
#[path = "../common/raw.rs"]
mod raw;
mod unread;

use common::{Served, tls, within};
use raw::{encoded, hello};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::wire::{self, Code, DaemonFrame, FrameReader};
use weir::{Client, Transport, Trust};

/// The daemon's cache. A payload is at most a quarter of it, and so is the budget for what peers
/// make the daemon hold beside the topics.
pub(crate) const CACHE_MIB: u64 = 32;

/// Memory of a session beside the cache, KiB. Over QUIC: its receive window, and the sum in
/// docs/architecture.md. A session over WebSocket has no such window.
pub(crate) const QUIC_KIB: u64 = 4 << 10;

pub(crate) const WEBSOCKET_KIB: u64 = 1 << 10;

/// The journal's queue, and the batch that its writer has taken: 8 MiB each, while the disk is slower
/// than the publishers. Beside four writers to one disk, this bound was exceeded without it.
const JOURNAL_KIB: u64 = 16 << 10;

pub(crate) fn served(state: &tempfile::TempDir) -> (Served, SocketAddr) {
    let cache = format!("{CACHE_MIB}MiB");
    let payload = format!("{}MiB", CACHE_MIB / 4);
    let limits = [("WEIR_CACHE__BYTES", &*cache), ("WEIR_LIMITS__PAYLOAD", &payload)];
    let served = Served::start(state.path(), &[], &limits);
    let server = served.server.parse().unwrap();
    (served, server)
}

pub(crate) fn bound_kib(quic: u64, websocket: u64) -> u64 {
    let daemon = CACHE_MIB * 1024 * 5 / 4 + 32 * 1024 + JOURNAL_KIB;
    daemon + quic * QUIC_KIB + websocket * WEBSOCKET_KIB
}

pub(crate) async fn honest(served: &Served) -> Client {
    let trust = Trust::Pinned(served.hash.parse().unwrap());
    let builder = Client::builder(&*served.server).trust(trust).transport(Transport::Quic);
    within(builder.reconnect(weir::client::Reconnect::never()).connect()).await.unwrap()
}

/// Publishes payloads of several small sizes, and waits for each receipt.
pub(crate) async fn goes_on(client: &Client) {
    for size in [1, 1000, 60_000] {
        within(client.publish("honest", vec![7; size])).await.unwrap();
    }
}

/// A session over WebSocket whose messages are written byte by byte.
pub(crate) struct Socket {
    pub(crate) tls: tokio_rustls::client::TlsStream<TcpStream>,
    pub(crate) reader: FrameReader,
}

impl Socket {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let tcp = TcpStream::connect(server).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let url = format!("wss://localhost{}", wire::PATH);
        let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
        let mut socket = Self { tls: socket.into_inner(), reader: FrameReader::new(1 << 20) };
        socket.message(&encoded(&[hello(wire::VERSION)])).await;
        let welcome = socket.frame().await;
        assert!(matches!(DaemonFrame::decode(&welcome), Ok(DaemonFrame::Welcome { .. })));
        socket
    }

    /// Writes the head of a message of `length` bytes. The mask is 0.
    pub(crate) async fn head(&mut self, length: usize) {
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&(length as u64).to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        self.tls.write_all(&head).await.unwrap();
    }

    pub(crate) async fn message(&mut self, bytes: &[u8]) {
        self.head(bytes.len()).await;
        self.tls.write_all(bytes).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// Reads the next frame of the daemon.
    pub(crate) async fn frame(&mut self) -> bytes::Bytes {
        within(async {
            loop {
                if let Some(frame) = self.reader.next_frame().unwrap() {
                    return frame;
                }
                let mut head = [0; 2];
                self.tls.read_exact(&mut head).await.unwrap();
                let length = match head[1] {
                    126 => usize::from(self.tls.read_u16().await.unwrap()),
                    127 => self.tls.read_u64().await.unwrap() as usize,
                    length => usize::from(length),
                };
                let mut message = vec![0; length];
                self.tls.read_exact(&mut message).await.unwrap();
                if head[0] == 0x82 {
                    self.reader.push(message.into());
                }
            }
        })
        .await
    }
}

pub(crate) fn rejected(frame: &bytes::Bytes) -> (u64, Code, String) {
    match DaemonFrame::decode(frame).unwrap() {
        DaemonFrame::Rejected { number, code, reason, .. } => (number, code, reason.to_owned()),
        other => panic!("{other:?}"),
    }
}

/// Writes for at most 5 s. Returns whether everything was written.
pub(crate) async fn writes(tx: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    let written = tokio::time::timeout(Duration::from_secs(5), tx.write_all(bytes)).await;
    matches!(written, Ok(Ok(())))
}
