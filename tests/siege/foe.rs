//! Peers that attack. When the daemon ends a session, its code is counted, and the attack starts
//! another.

use crate::common::tls;
use crate::h2::H2;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader, ProducerId};

/// Current and maximum number of attackers of a kind.
#[derive(Debug, Default)]
pub struct Count {
    now: AtomicU64,
    pub most: AtomicU64,
}

/// Counts as one of them until it is dropped.
pub struct Counted(Arc<Siege>, fn(&Siege) -> &Count);

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).now.fetch_sub(1, Relaxed);
    }
}

/// State that the attackers share.
pub struct Siege {
    pub server: SocketAddr,
    pub http: SocketAddr,
    pub quic: Count,
    pub websocket: Count,
    pub connections: Count,
    /// The next producer id: no two sessions have the same.
    producers: AtomicU64,
    /// The actions of each attack, and the ends of its sessions.
    tally: Mutex<BTreeMap<(&'static str, String), u64>>,
}

impl Siege {
    pub fn new(server: SocketAddr, http: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            server,
            http,
            quic: Count::default(),
            websocket: Count::default(),
            connections: Count::default(),
            producers: AtomicU64::new(1),
            tally: Mutex::default(),
        })
    }

    pub fn counted(self: &Arc<Self>, of: fn(&Siege) -> &Count) -> Counted {
        let count = of(self);
        let now = count.now.fetch_add(1, Relaxed) + 1;
        count.most.fetch_max(now, Relaxed);
        Counted(self.clone(), of)
    }

    pub fn note(&self, attack: &'static str, what: impl Into<String>) {
        *self.tally.lock().unwrap().entry((attack, what.into())).or_default() += 1;
    }

    /// Returns a line for each attack.
    pub fn tally(&self) -> String {
        let mut lines: BTreeMap<&str, String> = BTreeMap::new();
        for ((attack, what), count) in &*self.tally.lock().unwrap() {
            let _ = write!(lines.entry(attack).or_default(), " {what} {count},");
        }
        let mut tally = String::new();
        for (attack, line) in lines {
            let _ = writeln!(tally, "  {attack}:{line}");
        }
        tally
    }

    /// Returns the number of sessions that ended with each code, over all attacks.
    pub fn goodbyes(&self) -> String {
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for ((_, what), count) in &*self.tally.lock().unwrap() {
            if let Some(code) = what.strip_prefix("ended ") {
                *codes.entry(code.to_owned()).or_default() += count;
            }
        }
        let codes: Vec<_> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
        codes.join(" ")
    }

    fn hello(&self) -> Bytes {
        let mut producer = [0xfe; 16];
        producer[..8].copy_from_slice(&self.producers.fetch_add(1, Relaxed).to_le_bytes());
        let (version, producer) = (wire::VERSION, ProducerId(producer));
        encoded(&[ClientFrame::Hello { version, producer, token: None, agent: "siege" }])
    }

    /// Opens a session over QUIC. Returns `None` if the daemon accepts none.
    pub async fn foe(self: &Arc<Self>, attack: &'static str, reads: Reads) -> Option<Foe> {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(wire::ALPN)).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        transport.max_concurrent_uni_streams(320_u32.into());
        match reads {
            Reads::All => {}
            Reads::Deaf => _ = transport.stream_receive_window((16_u32 << 10).into()),
            Reads::NoStreams => _ = transport.max_concurrent_uni_streams(0_u32.into()),
        }
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, self.server, "localhost").unwrap();
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => {
                self.note(attack, format!("not connected: {error}"));
                return None;
            }
        };
        let (mut tx, rx) = connection.open_bi().await.ok()?;
        tx.write_all(&self.hello()).await.ok()?;
        let seen = Arc::new(Seen::default());
        let (rx, reader) = match reads {
            Reads::Deaf => (Some(rx), None),
            Reads::All | Reads::NoStreams => {
                (None, Some(tokio::spawn(read(connection.clone(), rx, seen.clone()))))
            }
        };
        let reader = reader.map(|reader| reader.abort_handle());
        let counted = self.counted(|siege| &siege.quic);
        Some(Foe { attack, connection, tx, seen, reader, _rx: rx, _endpoint: endpoint, counted })
    }

    /// Opens a session over WebSocket, whose messages are written byte by byte.
    pub async fn socket(self: &Arc<Self>, attack: &'static str) -> Option<Socket> {
        let tcp = TcpStream::connect(self.server).await.ok()?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.ok()?;
        let url = format!("wss://localhost{}", wire::PATH);
        let (socket, _) = tokio_tungstenite::client_async(url, tls).await.ok()?;
        let (rx, tx) = tokio::io::split(socket.into_inner());
        let counted = self.counted(|siege| &siege.websocket);
        let ended = Arc::new(AtomicU64::new(u64::MAX));
        let reader = tokio::spawn(read_messages(rx, ended.clone())).abort_handle();
        let mut socket = Socket { attack, tx, ended, reader, counted };
        socket.message(&self.hello()).await.then_some(socket)
    }

    /// Opens a connection over HTTP/2 with this window for each answer, bytes.
    pub async fn h2(self: &Arc<Self>, window: u32) -> (H2, Counted) {
        (H2::connect(self.http, window).await, self.counted(|siege| &siege.connections))
    }
}

pub fn encoded(frames: &[ClientFrame<'_>]) -> Bytes {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out.into()
}

/// The streams that a foe reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    All,
    /// The foe reads nothing. The daemon may send 16 KiB on each stream.
    Deaf,
    /// The foe reads the control stream. The daemon may open no others.
    NoStreams,
}

/// The last topic that was announced, and its newest sequence.
#[derive(Debug, Default)]
pub struct Seen {
    pub topic: AtomicU64,
    pub sequence: AtomicU64,
}

impl Seen {
    fn hear(&self, reader: &mut FrameReader) {
        while let Ok(Some(frame)) = reader.next_frame() {
            if let Ok(DaemonFrame::Message { topic, sequence, .. }) = DaemonFrame::decode(&frame) {
                self.topic.store(topic, Relaxed);
                self.sequence.store(sequence, Relaxed);
            }
        }
    }
}

async fn read(connection: quinn::Connection, control: quinn::RecvStream, seen: Arc<Seen>) {
    tokio::spawn(read_stream(control, seen.clone()));
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => _ = tokio::spawn(read_stream(stream, seen.clone())),
                Err(_) => return,
            },
            datagram = connection.read_datagram() => {
                let Ok(datagram) = datagram else { return };
                let mut reader = FrameReader::new(1 << 20);
                reader.push(datagram);
                seen.hear(&mut reader);
            }
        }
    }
}

async fn read_stream(mut stream: quinn::RecvStream, seen: Arc<Seen>) {
    let mut reader = FrameReader::new(1 << 20);
    while let Ok(Some(chunk)) = stream.read_chunk(1 << 16, true).await {
        reader.push(chunk.bytes);
        seen.hear(&mut reader);
    }
}

/// A session over QUIC.
pub struct Foe {
    attack: &'static str,
    pub connection: quinn::Connection,
    tx: quinn::SendStream,
    pub seen: Arc<Seen>,
    reader: Option<AbortHandle>,
    _rx: Option<quinn::RecvStream>,
    _endpoint: quinn::Endpoint,
    counted: Counted,
}

impl Foe {
    /// Sends frames. Returns false if the session has ended.
    pub async fn send(&mut self, frames: &[ClientFrame<'_>]) -> bool {
        let sent = self.tx.write_all(&encoded(frames)).await.is_ok();
        self.counted.0.note(self.attack, if sent { "turns" } else { "cut short" });
        sent
    }

    /// Waits for the end of the session, at most this many seconds.
    pub async fn stay(&self, seconds: u64) {
        let _ = tokio::time::timeout(Duration::from_secs(seconds), self.connection.closed()).await;
    }
}

impl Drop for Foe {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
        let how = match self.connection.close_reason() {
            None => "left".to_owned(),
            Some(quinn::ConnectionError::ApplicationClosed(close)) => {
                let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
                format!("ended {}", Code(code).name())
            }
            Some(error) => format!("ended {error}"),
        };
        self.counted.0.note(self.attack, how);
        self.connection.close(0_u32.into(), b"");
    }
}

type Stream = TlsStream<TcpStream>;

/// A session over WebSocket. Its incoming messages are read.
pub struct Socket {
    attack: &'static str,
    tx: WriteHalf<Stream>,
    // The code of the close.
    ended: Arc<AtomicU64>,
    reader: AbortHandle,
    counted: Counted,
}

impl Socket {
    /// Writes the head of a message of `length` bytes. The mask is 0.
    pub async fn head(&mut self, length: usize) -> bool {
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&(length as u64).to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        self.bytes(&head).await
    }

    pub async fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.tx.write_all(bytes).await.is_ok() && self.tx.flush().await.is_ok()
    }

    pub async fn message(&mut self, bytes: &[u8]) -> bool {
        self.head(bytes.len()).await && self.bytes(bytes).await
    }

    pub async fn send(&mut self, frames: &[ClientFrame<'_>]) -> bool {
        let sent = self.message(&encoded(frames)).await;
        self.counted.0.note(self.attack, if sent { "turns" } else { "cut short" });
        sent
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
        let how = match self.ended.load(Relaxed) {
            u64::MAX => "left".to_owned(),
            code => format!("ended {}", Code(code.saturating_sub(4000) as u32).name()),
        };
        self.counted.0.note(self.attack, how);
    }
}

async fn read_messages(mut rx: ReadHalf<Stream>, ended: Arc<AtomicU64>) {
    let mut message = Vec::new();
    loop {
        let mut head = [0; 2];
        if rx.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = match head[1] {
            126 => rx.read_u16().await.map(usize::from),
            127 => rx.read_u64().await.map(|length| length as usize),
            length => Ok(usize::from(length)),
        };
        let Ok(length) = length else { return };
        message.resize(length, 0);
        if rx.read_exact(&mut message).await.is_err() {
            return;
        }
        if head[0] == 0x88 && length >= 2 {
            ended.store(u64::from(u16::from_be_bytes([message[0], message[1]])), Relaxed);
        }
    }
}
