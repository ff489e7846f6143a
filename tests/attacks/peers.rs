//! Attackers at addresses of their own.

use crate::arena::Field;
use crate::common::tls;
use crate::h2::H2;
use crate::raw::{Raw, encoded};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader, ProducerId};

/// Longer than any answer takes that is not an attack's own fault.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn tcp(to: SocketAddr, from: Ipv4Addr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    timeout(PATIENCE, socket.connect(to)).await.ok()?.ok()
}

pub async fn over_tls(field: &Field, from: Ipv4Addr, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
    let tcp = tcp(field.server, from).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(alpn)));
    timeout(PATIENCE, connector.connect("localhost".try_into().unwrap(), tcp)).await.ok()?.ok()
}

pub async fn h2(field: &Field, from: Ipv4Addr, window: u32) -> H2 {
    H2::on(tcp(field.http, from).await.unwrap(), window).await
}

pub fn hello() -> ClientFrame<'static> {
    static PRODUCERS: AtomicU64 = AtomicU64::new(1);
    let mut producer = [0xfe; 16];
    producer[..8].copy_from_slice(&PRODUCERS.fetch_add(1, Relaxed).to_le_bytes());
    let (version, producer) = (wire::VERSION, ProducerId(producer));
    ClientFrame::Hello { version, producer, token: None, agent: "attack" }
}

/// A session over QUIC whose streams are read and counted.
pub struct Foe {
    pub connection: quinn::Connection,
    pub tx: quinn::SendStream,
    pub seen: Arc<Seen>,
    raw: Option<quinn::RecvStream>,
}

/// What the daemon has sent.
#[derive(Debug, Default)]
pub struct Seen {
    pub bytes: AtomicU64,
    pub receipts: AtomicU64,
    pub rate_limited: AtomicU64,
    pub refused: AtomicU64,
    pub answers: AtomicU64,
    pub topic: AtomicU64,
    pub sequence: AtomicU64,
}

impl Seen {
    fn hear(&self, reader: &mut FrameReader) {
        while let Ok(Some(frame)) = reader.next_frame() {
            match DaemonFrame::decode(&frame) {
                Ok(DaemonFrame::Receipt { .. }) => _ = self.receipts.fetch_add(1, Relaxed),
                Ok(
                    DaemonFrame::Rejected { code: Code::RATE_LIMITED, .. }
                    | DaemonFrame::Failed { code: Code::RATE_LIMITED, .. },
                ) => _ = self.rate_limited.fetch_add(1, Relaxed),
                Ok(DaemonFrame::Rejected { .. } | DaemonFrame::Failed { .. }) => {
                    self.refused.fetch_add(1, Relaxed);
                }
                Ok(DaemonFrame::Top { .. } | DaemonFrame::Subscribed { .. }) => {
                    self.answers.fetch_add(1, Relaxed);
                }
                Ok(DaemonFrame::Topic { id, .. }) => self.topic.store(id, Relaxed),
                Ok(DaemonFrame::Message { topic, sequence, .. }) => {
                    self.topic.store(topic, Relaxed);
                    self.sequence.store(sequence, Relaxed);
                }
                _ => {}
            }
        }
    }

    pub fn mib(&self) -> f64 {
        self.bytes.load(Relaxed) as f64 / f64::from(1 << 20)
    }
}

async fn read(mut stream: quinn::RecvStream, seen: Arc<Seen>) {
    let mut reader = FrameReader::new(32 << 20);
    while let Ok(Some(chunk)) = stream.read_chunk(1 << 20, true).await {
        seen.bytes.fetch_add(chunk.bytes.len() as u64, Relaxed);
        reader.push(chunk.bytes);
        seen.hear(&mut reader);
    }
}

impl Foe {
    pub async fn greet(field: &Field, from: Ipv4Addr) -> Self {
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        transport.max_concurrent_uni_streams(320_u32.into());
        let raw = Raw::try_from(field.server, from, transport).await.unwrap();
        let Raw { connection, tx, rx, .. } = raw;
        let mut foe = Self { connection, tx, seen: Arc::default(), raw: Some(rx) };
        assert!(foe.send(&[hello()]).await);
        foe.read();
        foe
    }

    fn read(&mut self) {
        let (connection, seen) = (self.connection.clone(), self.seen.clone());
        tokio::spawn(read(self.raw.take().unwrap(), seen.clone()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    stream = connection.accept_uni() => match stream {
                        Ok(stream) => _ = tokio::spawn(read(stream, seen.clone())),
                        Err(_) => return,
                    },
                    datagram = connection.read_datagram() => match datagram {
                        Ok(datagram) => {
                            seen.bytes.fetch_add(datagram.len() as u64, Relaxed);
                        }
                        Err(_) => return,
                    },
                }
            }
        });
    }

    /// Sends frames. Returns false if the session has ended.
    pub async fn send(&mut self, frames: &[ClientFrame<'_>]) -> bool {
        self.bytes(&encoded(frames)).await
    }

    pub async fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.tx.write_all(bytes).await.is_ok()
    }

    /// Waits for the end of the session. Returns its code.
    pub async fn ended(&self) -> String {
        match timeout(PATIENCE, self.connection.closed()).await {
            Ok(quinn::ConnectionError::ApplicationClosed(close)) => {
                let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
                Code(code).name().to_owned()
            }
            Ok(other) => other.to_string(),
            Err(_) => "not ended".into(),
        }
    }
}

impl Drop for Foe {
    fn drop(&mut self) {
        self.connection.close(0_u32.into(), b"");
    }
}

/// A message of WebSocket. The mask is 0.
pub fn message(length: usize, bytes: &[u8]) -> Bytes {
    let mut message = vec![0x82, 0xff];
    message.extend_from_slice(&(length as u64).to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(bytes);
    message.into()
}

/// A session over WebSocket, whose messages are written byte by byte.
pub async fn websocket(field: &Field, from: Ipv4Addr) -> TlsStream<TcpStream> {
    let tls = over_tls(field, from, b"http/1.1").await.unwrap();
    let url = format!("wss://localhost{}", wire::PATH);
    let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
    let mut stream = socket.into_inner();
    let hello = encoded(&[hello()]);
    stream.write_all(&message(hello.len(), &hello)).await.unwrap();
    stream
}

/// Reads up to the end. Returns the code of the close, and how many bytes came.
pub async fn closed(stream: &mut TlsStream<TcpStream>) -> String {
    let mut all = Vec::new();
    if timeout(2 * PATIENCE, stream.read_to_end(&mut all)).await.is_err() {
        return "not ended".into();
    }
    // The last message is the close: two bytes of head, and its code.
    let close = all.windows(4).rev().find(|at| at[0] == 0x88);
    close.map_or("no close".into(), |close| {
        let code = u32::from(u16::from_be_bytes([close[2], close[3]]));
        Code(code.saturating_sub(4000)).name().to_owned()
    })
}
