//! Memory that the daemon uses for frames that peers do not complete. It has a documented bound,
//! and an honest publisher beside such peers is not affected.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::{Served, daemon, tls, within};
use raw::{Raw, encoded, hello};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader};
use weir::{Client, Transport, Trust};

/// The daemon's cache. A payload is at most a quarter of it, and so is the budget for what peers
/// make the daemon hold beside the topics.
const CACHE_MIB: u64 = 32;

/// Payload of the incomplete publications, bytes: 1 MiB below the limit.
const PAYLOAD: usize = 7 << 20;

/// Memory of a session beside the cache, KiB. Over QUIC: its receive window, and the sum in
/// docs/architecture.md. A session over WebSocket has no such window.
const QUIC_KIB: u64 = 4 << 10;
const WEBSOCKET_KIB: u64 = 1 << 10;

fn served(state: &tempfile::TempDir) -> (Served, SocketAddr) {
    let cache = format!("{CACHE_MIB}MiB");
    let payload = format!("{}MiB", CACHE_MIB / 4);
    let limits = [("WEIR_CACHE__BYTES", &*cache), ("WEIR_LIMITS__PAYLOAD", &payload)];
    let served = Served::start(state.path(), &[], &limits);
    let server = served.server.parse().unwrap();
    (served, server)
}

fn bound_kib(quic: u64, websocket: u64) -> u64 {
    CACHE_MIB * 1024 * 5 / 4 + 32 * 1024 + quic * QUIC_KIB + websocket * WEBSOCKET_KIB
}

/// Returns a publication without its last byte.
fn unended(number: u64, payload: usize) -> Vec<u8> {
    let payload = vec![number as u8; payload];
    let publish = ClientFrame::Publish { alias: 0, number, stamp: 0, payload: &payload };
    let mut bytes = encoded(&[ClientFrame::Topic { alias: 0, name: "greedy" }, publish]);
    bytes.pop();
    bytes
}

async fn honest(served: &Served) -> Client {
    let trust = Trust::Pinned(served.hash.parse().unwrap());
    let builder = Client::builder(&*served.server).trust(trust).transport(Transport::Quic);
    within(builder.connect()).await.unwrap()
}

/// Publishes payloads of several small sizes, and waits for each receipt.
async fn goes_on(client: &Client) {
    for size in [1, 1000, 60_000] {
        within(client.publish("honest", vec![7; size])).await.unwrap();
    }
}

/// A session over WebSocket whose messages are written byte by byte.
struct Socket {
    tls: tokio_rustls::client::TlsStream<TcpStream>,
    reader: FrameReader,
}

impl Socket {
    async fn to(server: SocketAddr) -> Self {
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
    async fn head(&mut self, length: usize) {
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&(length as u64).to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        self.tls.write_all(&head).await.unwrap();
    }

    async fn message(&mut self, bytes: &[u8]) {
        self.head(bytes.len()).await;
        self.tls.write_all(bytes).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// Reads the next frame of the daemon.
    async fn frame(&mut self) -> bytes::Bytes {
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

fn rejected(frame: &bytes::Bytes) -> (u64, Code, String) {
    match DaemonFrame::decode(frame).unwrap() {
        DaemonFrame::Rejected { number, code, reason, .. } => (number, code, reason.to_owned()),
        other => panic!("{other:?}"),
    }
}

/// Writes for at most 5 s. Returns whether everything was written.
async fn writes(tx: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    let written = tokio::time::timeout(Duration::from_secs(5), tx.write_all(bytes)).await;
    matches!(written, Ok(Ok(())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_over_quic_that_do_not_end() {
    const STREAMS: u64 = 20;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let mut raw = Raw::to(server).await.greet().await;
    let mut streams = Vec::new();
    for number in 1..=STREAMS {
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        assert!(writes(&mut stream, &unended(number, PAYLOAD)).await, "the daemon reads on");
        streams.push(stream);
    }
    raw.send(&[ClientFrame::Ping { request: 1 }]).await;
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {STREAMS} × {PAYLOAD} bytes, peak {peak}");
    assert!(peak < bound_kib(2, 0), "{peak} KiB, and the bound is {}", bound_kib(2, 0));
    // Publications beyond the budget are refused at once.
    let mut refused = Vec::new();
    loop {
        let frame = raw.frame().await;
        if let Ok(DaemonFrame::Pong { .. }) = DaemonFrame::decode(&frame) {
            break;
        }
        let (number, code, reason) = rejected(&frame);
        assert!(code == Code::OVERLOADED && reason.contains("again"), "{code} {reason}");
        refused.push(number);
    }
    assert!(refused.len() >= STREAMS as usize - 2, "{refused:?}");
    // Their streams go on: the rest of a refused publication is skipped.
    let stream = &mut streams[refused[0] as usize - 1];
    let mut rest = vec![0];
    rest.extend(encoded(&[ClientFrame::Publish {
        alias: 0,
        number: 100,
        stamp: 0,
        payload: b"small",
    }]));
    stream.write_all(&rest).await.unwrap();
    let frame = raw.frame().await;
    assert!(matches!(
        DaemonFrame::decode(&frame),
        Ok(DaemonFrame::Receipt { number: 100, sequence: 1, .. })
    ));
    // Dropping the session frees its memory, so that the largest publication is accepted.
    drop((raw, streams));
    let mut raw = Raw::to(server).await.greet().await;
    for number in 1.. {
        let mut whole = unended(number, PAYLOAD);
        whole.push(number as u8);
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        within(stream.write_all(&whole)).await.unwrap();
        stream.finish().unwrap();
        let frame = raw.frame().await;
        match DaemonFrame::decode(&frame) {
            Ok(DaemonFrame::Receipt { sequence: 2, .. }) => break,
            _ => assert_eq!(rejected(&frame).1, Code::OVERLOADED),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_websocket_that_do_not_end() {
    const SESSIONS: u64 = 16;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let mut sockets = Vec::new();
    for _ in 0..SESSIONS {
        let mut socket = Socket::to(server).await;
        let bytes = unended(1, PAYLOAD);
        socket.head(bytes.len() + 1).await;
        assert!(writes(&mut socket.tls, &bytes).await, "the daemon reads on");
        sockets.push(socket);
    }
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {SESSIONS} × {PAYLOAD} bytes, peak {peak}");
    let bound = bound_kib(1, SESSIONS);
    assert!(peak < bound, "{peak} KiB, and the bound is {bound}");
    // The last publication is refused. The next frame in its session is not.
    let last = sockets.last_mut().unwrap();
    let (number, code, reason) = rejected(&last.frame().await);
    assert!(number == 1 && code == Code::OVERLOADED && reason.contains("again"), "{code} {reason}");
    last.tls.write_all(&[0]).await.unwrap();
    last.message(&encoded(&[ClientFrame::Ping { request: 3 }])).await;
    let frame = last.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Pong { request: 3, .. })));
}

// In an earlier version each ping left its pong in an unbounded buffer: 1 GiB in 7 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_over_websocket_whose_answers_are_not_read() {
    const SESSIONS: u64 = 4;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let mut ping = vec![0x89, 0xfd, 0, 0, 0, 0];
    ping.extend_from_slice(&[b'x'; 125]);
    let pings = ping.repeat(400_000);
    let flood = async || {
        let mut socket = Socket::to(server).await;
        // The daemon reads all of them, or ends the session.
        _ = writes(&mut socket.tls, &pings).await;
        socket
    };
    let sockets = tokio::join!(flood(), flood(), flood(), flood());
    goes_on(&client).await;
    let peak = served.kib("VmHWM");
    let bound = bound_kib(1, SESSIONS);
    println!("peak {peak} KiB with {SESSIONS} × {} bytes of pings", pings.len());
    assert!(peak < bound, "{peak} KiB, and the bound is {bound}");
    drop(sockets);
}

// Fast at first, and then one byte now and then: the pace is measured over the last seconds.
#[tokio::test]
async fn a_publication_that_almost_stalls_is_aborted_on_every_transport() {
    let daemon = daemon().await;
    let bytes = unended(1, 1 << 20);
    let mut raw = Raw::greeted(&daemon).await;
    let mut stream = raw.connection.open_uni().await.unwrap();
    let mut socket = Socket::to(daemon.local_addr()).await;
    let mut control = Raw::greeted(&daemon).await;
    let half = bytes.len() / 2;
    stream.write_all(&bytes[..half]).await.unwrap();
    socket.head(bytes.len() + 1).await;
    socket.tls.write_all(&bytes[..half]).await.unwrap();
    control.tx.write_all(&bytes[..half]).await.unwrap();
    let (mut tls, mut tx) = (tokio::io::split(socket.tls), control.tx);
    tokio::spawn(async move {
        for at in half.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let byte = &bytes[at..=at];
            let _ = stream.write_all(byte).await;
            let _ = tls.1.write_all(byte).await;
            let _ = tls.1.flush().await;
            let _ = tx.write_all(byte).await;
        }
    });
    let of_stream = rejected(&raw.frame().await);
    let mut reader = FrameReader::new(1 << 20);
    let of_control = loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            break rejected(&frame);
        }
        reader.push(within(control.rx.read_chunk(1 << 16, true)).await.unwrap().unwrap().bytes);
    };
    let of_socket = within(async {
        loop {
            let mut head = [0; 2];
            tls.0.read_exact(&mut head).await.unwrap();
            let length = match head[1] {
                126 => usize::from(tls.0.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut message = vec![0; length];
            tls.0.read_exact(&mut message).await.unwrap();
            if head[0] == 0x82 {
                let mut reader = FrameReader::new(1 << 20);
                reader.push(message.into());
                break rejected(&reader.next_frame().unwrap().unwrap());
            }
        }
    })
    .await;
    for (number, code, reason) in [of_stream, of_control, of_socket] {
        assert_eq!((number, code), (1, Code::TIMED_OUT), "{reason}");
    }
}

// Other kinds of frames have a deadline too.
#[tokio::test]
async fn a_frame_that_stalls_ends_its_session() {
    let daemon = daemon().await;
    let bytes =
        encoded(&[ClientFrame::Get { request: 1, topic: "a/b/c", which: wire::Which::Latest }]);
    let part = &bytes[..bytes.len() - 3];
    let mut control = Raw::greeted(&daemon).await;
    control.tx.write_all(part).await.unwrap();
    let mut publishing = Raw::greeted(&daemon).await;
    let mut stream = publishing.connection.open_uni().await.unwrap();
    stream.write_all(&encoded(&[ClientFrame::Topic { alias: 1, name: "a" }])[..2]).await.unwrap();
    let mut socket = Socket::to(daemon.local_addr()).await;
    socket.head(bytes.len()).await;
    socket.tls.write_all(part).await.unwrap();
    for raw in [&mut control, &mut publishing] {
        let (code, reason) = raw.goodbye().await;
        assert_eq!(code, Code::TIMED_OUT, "{reason}");
    }
    let frame = socket.frame().await;
    let Ok(DaemonFrame::Goodbye { code, retry: true, .. }) = DaemonFrame::decode(&frame) else {
        panic!("no goodbye");
    };
    assert_eq!(code, Code::TIMED_OUT);
}

// The daemon decides by the length and the first byte, before it keeps any of the frame.
#[tokio::test]
async fn nothing_but_a_publication_is_large() {
    let daemon = daemon().await;
    let length = [0x80, 0x80, 0x80, 0x01];
    for kind in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99] {
        let bytes = [&length[..], &[kind]].concat();
        let mut raw = Raw::greeted(&daemon).await;
        raw.tx.write_all(&bytes).await.unwrap();
        let (code, reason) = raw.goodbye().await;
        assert_eq!(code, Code::FRAME_TOO_LARGE, "kind {kind}: {reason}");
        let mut socket = Socket::to(daemon.local_addr()).await;
        socket.head((2 << 20) + 4).await;
        socket.tls.write_all(&bytes).await.unwrap();
        let frame = socket.frame().await;
        let Ok(DaemonFrame::Goodbye { code, .. }) = DaemonFrame::decode(&frame) else {
            panic!("no goodbye");
        };
        assert_eq!(code, Code::FRAME_TOO_LARGE, "kind {kind}");
    }
}

/// A session that does not read its answers. The daemon may send at most 16 KiB on each stream.
async fn deaf(server: SocketAddr) -> Raw {
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window((16_u32 << 10).into())
        .keep_alive_interval(Some(Duration::from_secs(5)));
    Raw::with(server, transport).await.greet().await
}

// Each session has a hundred streams. All publications are refused with a long reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_read_their_receipts() {
    const SESSIONS: u64 = 4;
    const STREAMS: u64 = 100;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let taken = Arc::new(AtomicU64::new(0));
    let mut peers = Vec::new();
    for _ in 0..SESSIONS {
        let raw = deaf(server).await;
        for stream in 0..STREAMS {
            let mut tx = within(raw.connection.open_uni()).await.unwrap();
            let taken = taken.clone();
            tokio::spawn(async move {
                let alias = stream as u32;
                let declare = encoded(&[ClientFrame::Topic { alias, name: "greedy" }]);
                let _ = tx.write_all(&declare).await;
                let (number, payload) = (0, &[7; 4000][..]);
                let refused = encoded(&[ClientFrame::Publish { alias, number, stamp: 0, payload }]);
                while tx.write_all(&refused).await.is_ok() {
                    taken.fetch_add(refused.len() as u64, Relaxed);
                }
            });
        }
        peers.push(raw);
    }
    // Waits until the daemon reads no more.
    let mut last = u64::MAX;
    while last != taken.load(Relaxed) {
        last = taken.load(Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    let each = (now - before) / SESSIONS;
    println!("{} KiB taken of each, {each} KiB held for each; peak {peak}", last / 1024 / SESSIONS);
    assert!(peak < bound_kib(SESSIONS, 0), "{peak} KiB, the bound is {}", bound_kib(SESSIONS, 0));
    // In the end the close tells them the code, because they read nothing else.
    for raw in peers {
        match within(raw.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), u64::from(Code::TIMED_OUT.0));
            }
            other => panic!("{other}"),
        }
    }
}

// An answer holds its message, even after that has left the cache. So only a few answers exist at
// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read() {
    const SESSIONS: u64 = 8;
    const GETS: u64 = 200;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    let fill = async |with: u8| {
        let mut receipts = Vec::new();
        for n in 0..2 * GETS {
            let mut payload = vec![with; 60_000];
            payload[..8].copy_from_slice(&n.to_le_bytes());
            receipts.push(client.send("asked/for", payload).await.unwrap());
        }
        for receipt in receipts {
            within(receipt).await.unwrap();
        }
    };
    fill(0).await;
    let before = served.kib("VmRSS");
    let mut peers = Vec::new();
    for peer in 1..=SESSIONS {
        // The daemon may open no streams for answers.
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_uni_streams(0_u32.into());
        let mut raw = Raw::with(server, transport).await.greet().await;
        let newest = 2 * GETS * peer;
        let gets: Vec<_> = (0..GETS)
            .map(|n| ClientFrame::Get {
                request: n as u32 + 2,
                topic: "asked/for",
                which: wire::Which::Sequence(newest - n),
            })
            .collect();
        let ping = ClientFrame::Ping { request: 1 };
        raw.send(&[&[ping][..], &gets].concat()).await;
        let pong = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { .. })));
        peers.push(raw);
        // The requested messages leave the cache.
        fill(peer as u8).await;
    }
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {SESSIONS} × {GETS} answers, peak {peak}");
    assert!(peak < bound_kib(SESSIONS, 0), "{peak} KiB, the bound is {}", bound_kib(SESSIONS, 0));
    drop(peers);
}
