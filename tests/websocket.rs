//! WebSocket: the channel at the level of frames, slow subscriptions on it, and the fallback to it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/raw.rs"]
mod raw;

use bytes::Bytes;
use common::{NOBODY, client, daemon, daemon_with, message, tls, within};
use futures_util::{SinkExt as _, StreamExt as _};
use raw::{encoded, goodbye, hello};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use weir::client::ConnectError;
use weir::engine::Limits;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader, Which};
use weir::{CertificateHash, Client, Daemon, SubscribeOptions, Transport, Trust};

/// A session over WebSocket, without the client library.
struct Raw {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    reader: FrameReader,
}

impl Raw {
    async fn connect(daemon: &Daemon) -> Self {
        let tcp = TcpStream::connect(daemon.local_addr()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let url = format!("wss://localhost{}", wire::PATH);
        let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
        Self { socket, reader: FrameReader::new(32 << 20) }
    }

    async fn greeted(daemon: &Daemon) -> Self {
        let mut raw = Self::connect(daemon).await;
        raw.send(&[hello(wire::VERSION)]).await;
        let frame = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Welcome { .. })));
        raw
    }

    async fn send(&mut self, frames: &[ClientFrame<'_>]) {
        self.socket.send(Message::Binary(encoded(frames).into())).await.unwrap();
    }

    /// Reads the next frame. Each message must consist of whole frames.
    async fn frame(&mut self) -> Bytes {
        within(self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return frame;
            }
            assert!(!self.reader.is_partial(), "a message ended in a frame");
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => self.reader.push(bytes),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads up to the goodbye, and returns its code and reason. The close has the same ones.
    async fn goodbye(&mut self) -> (Code, String) {
        let (code, reason) = loop {
            if let Some(goodbye) = goodbye(&self.frame().await) {
                break goodbye;
            }
        };
        match within(self.socket.next()).await {
            Some(Ok(Message::Close(Some(close)))) => {
                assert_eq!(u32::from(u16::from(close.code)), 4000 + code.0);
                assert!(reason.starts_with(close.reason.as_str()), "{}", close.reason);
            }
            other => panic!("{other:?}"),
        }
        (code, reason)
    }
}

fn subscribe(request: u32, filter: &str) -> ClientFrame<'_> {
    ClientFrame::Subscribe {
        request,
        filter,
        start: wire::Start::All,
        delivery: wire::Delivery::Ordered,
        lag: wire::Lag::Oldest,
        deadline: 0,
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_gets_the_reason_and_no_other_is_affected() {
    let limits = Limits::default().with_payload(64 << 10);
    let daemon = daemon_with(limits).await;
    let bystander = client(&daemon, Transport::WebSocket).await;
    let options = SubscribeOptions::default();
    let mut news = bystander.subscribe("demo/a", &options).await.unwrap();
    let publish = ClientFrame::Publish { alias: 9, number: 1, stamp: 0, payload: b"x" };
    let topic = |name| ClientFrame::Topic { alias: 1, name };
    let binary = |bytes: &[u8]| Message::Binary(Bytes::copy_from_slice(bytes));
    let ping = encoded(&[ClientFrame::Ping { request: 1 }]);
    // One byte above the largest message, in frames that are each small enough.
    let most = limits.payload + wire::MAX_CONTROL_FRAME;
    let large = ping.iter().copied().cycle().take(most + 1).collect::<Vec<_>>();
    for (message, code, words) in [
        (binary(&[0]), Code::MALFORMED, "length"),
        (binary(&[3, 0xff, 0xff, 0xff]), Code::MALFORMED, "docs/protocol.md"),
        (binary(&ping[..ping.len() - 1]), Code::MALFORMED, "in the middle of a frame"),
        (binary(&[0x80]), Code::MALFORMED, "in the middle of a frame"),
        (Message::Text("hello".into()), Code::MALFORMED, "binary"),
        (binary(&large), Code::FRAME_TOO_LARGE, "limit"),
        (binary(&[0xff, 0xff, 0xff, 0x7f, 0, 0]), Code::FRAME_TOO_LARGE, "limit"),
        (binary(&encoded(&[hello(1)])), Code::UNEXPECTED, "hello"),
        (binary(&encoded(&[publish])), Code::BAD_ALIAS, "alias 9"),
        (binary(&encoded(&[topic("a"), topic("b")])), Code::BAD_ALIAS, "already stands for a"),
        (
            binary(&encoded(&[ClientFrame::End { digest: wire::Digest([0; 32]) }])),
            Code::UNEXPECTED,
            "begins with a begin",
        ),
    ] {
        let mut raw = Raw::greeted(&daemon).await;
        raw.socket.send(message).await.unwrap();
        let (received, reason) = raw.goodbye().await;
        assert_eq!(received, code, "{reason}");
        assert!(reason.contains(words), "{reason}");
    }
    let mut raw = Raw::connect(&daemon).await;
    raw.send(&[hello(99)]).await;
    assert_eq!(raw.goodbye().await.0, Code::VERSION);

    bystander.publish("demo/a", "still here").await.unwrap();
    assert_eq!(message(&mut news).await.payload, "still here");
}

#[tokio::test]
async fn everything_may_be_sent_in_one_message_and_counts_up_to_the_damage() {
    let daemon = daemon().await;
    let mut raw = Raw::connect(&daemon).await;
    let mut bytes = encoded(&[
        hello(wire::VERSION),
        ClientFrame::Topic { alias: 0, name: "demo/a" },
        ClientFrame::Publish { alias: 0, number: 1, stamp: 5, payload: b"early" },
        ClientFrame::Get { request: 1, topic: "demo/a", which: Which::Latest },
    ]);
    bytes.push(0);
    raw.socket.send(Message::Binary(bytes.into())).await.unwrap();
    let frame = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Welcome { .. })));
    let receipt = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&receipt), Ok(DaemonFrame::Receipt { sequence: 1, .. })));
    assert_eq!(raw.goodbye().await.0, Code::MALFORMED);
    assert_eq!(daemon.publish("demo/a", "x").unwrap().sequence, 2);
}

// The daemon sends `For` when the request that messages belong to changes, and only then. Frames that
// belong to no request may be in between.
#[tokio::test]
async fn subscriptions_and_answers_share_the_channel_and_are_distinguished() {
    const EACH: u64 = 300;
    let daemon = daemon().await;
    let mut raw = Raw::greeted(&daemon).await;
    raw.send(&[subscribe(1, "a/*"), subscribe(2, "b/*"), subscribe(3, "*/both")]).await;
    let mut asked: HashMap<u32, String> = HashMap::new();
    let mut request = 3;
    let mut wanted: HashMap<u32, VecDeque<String>> = HashMap::new();
    for n in 0..EACH {
        let large = "x".repeat(if n % 50 == 0 { 200_000 } else { 0 });
        for (topic, requests) in
            [("a/one", &[1][..]), ("b/one", &[2]), ("a/both", &[1, 3]), ("b/both", &[2, 3])]
        {
            let payload = format!("{topic} {n} {large}");
            daemon.publish(topic, payload.clone()).unwrap();
            for request in requests {
                wanted.entry(*request).or_default().push_back(payload.clone());
            }
        }
        request += 2;
        let topic = ["a/one", "b/both"][n as usize % 2];
        asked.insert(request, topic.to_owned());
        raw.send(&[
            ClientFrame::Get { request, topic, which: Which::Latest },
            ClientFrame::Ping { request: request + 1 },
        ])
        .await;
    }
    let (mut current, mut pongs) = (0, 0);
    let mut topics: HashMap<(u32, u64), String> = HashMap::new();
    let mut parts: HashMap<u32, (u64, Vec<u8>)> = HashMap::new();
    while !asked.is_empty() || wanted.values().any(|left| !left.is_empty()) || pongs < EACH {
        let frame = raw.frame().await;
        let mut take = |name: &String, payload: &[u8], current: u32| {
            let payload = str::from_utf8(payload).unwrap();
            assert!(payload.starts_with(&**name), "{payload} for {current} of {name}");
            match wanted.get_mut(&current) {
                Some(wanted) => assert!(wanted.pop_front().unwrap() == payload),
                None => assert_eq!(asked.remove(&current).as_ref(), Some(name)),
            }
        };
        match DaemonFrame::decode(&frame).unwrap() {
            DaemonFrame::For { request } => {
                assert_ne!(request, current, "it was the current one already");
                current = request;
            }
            DaemonFrame::Topic { id, name, .. } => {
                topics.insert((current, id), name.to_owned());
            }
            DaemonFrame::Message { topic, payload, .. } => {
                take(&topics[&(current, topic)], payload, current);
            }
            // At most one message is open for each request.
            DaemonFrame::Begin { topic, .. } => {
                assert_eq!(parts.insert(current, (topic, Vec::new())), None);
            }
            DaemonFrame::Chunk { bytes } => {
                parts.get_mut(&current).unwrap().1.extend_from_slice(bytes);
            }
            DaemonFrame::End { digest, .. } => {
                let (topic, payload) = parts.remove(&current).unwrap();
                assert_eq!(digest, wire::Digest::of(&payload));
                take(&topics[&(current, topic)], &payload, current);
            }
            DaemonFrame::Pong { .. } => pongs += 1,
            DaemonFrame::Subscribed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

// One channel has no flow control for each subscription. A subscription that is not read is cancelled
// by the client and resumed later. The application does not notice.
#[tokio::test]
async fn a_slow_subscription_delays_no_other_and_misses_nothing() {
    const MESSAGES: u64 = 600;
    let daemon = daemon().await;
    let client = client(&daemon, Transport::WebSocket).await;
    let options = SubscribeOptions::default();
    let mut slow = client.subscribe("flood/*", &options).await.unwrap();
    let mut fast = client.subscribe("flood/**", &options).await.unwrap();
    let mut other = client.subscribe("other", &options).await.unwrap();
    for n in 1..=MESSAGES {
        let topic = ["flood/a", "flood/b"][n as usize % 2];
        daemon.publish(topic, format!("{n:>20000}")).unwrap();
    }
    daemon.publish("other", "small").unwrap();
    // 12 MB wait for the slow subscription, which may hold a twelfth of it. All others go on.
    for n in 1..=MESSAGES {
        assert!(message(&mut fast).await.payload == format!("{n:>20000}"));
    }
    assert_eq!(message(&mut other).await.payload, "small");
    within(client.ping()).await.unwrap();
    // It reads a little, overflows again, and reads on.
    let mut n = 0;
    for read in [50, 100, 250, 200] {
        for _ in 0..read {
            n += 1;
            assert!(message(&mut slow).await.payload == format!("{n:>20000}"), "not {n}");
        }
    }
    daemon.publish("flood/a", "and then").unwrap();
    assert_eq!(message(&mut slow).await.payload, "and then");
}

/// Returns a port whose UDP side drops or refuses everything, and whose TCP side is the daemon's.
async fn without_quic(daemon: &Daemon, udp: Udp) -> (String, Option<UdpSocket>) {
    // A port that is free for both UDP and TCP.
    let (tcp, silent) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let (here, there) = (tcp.local_addr().unwrap(), daemon.local_addr());
    tokio::spawn(async move {
        while let Ok((mut ours, _)) = tcp.accept().await {
            let mut theirs = TcpStream::connect(there).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
            });
        }
    });
    (here.to_string(), matches!(udp, Udp::Silent).then_some(silent))
}

#[derive(Clone, Copy)]
enum Udp {
    Silent,
    Refused,
}

fn auto(daemon: &Daemon, server: impl Into<String>) -> weir::client::Builder {
    Client::builder(server).trust(Trust::Pinned(daemon.certificate_hash().into())).auto()
}

#[tokio::test]
async fn auto_uses_quic_if_it_works_and_websocket_otherwise() {
    let daemon = daemon().await;
    let client = within(auto(&daemon, daemon.local_addr().to_string()).connect()).await.unwrap();
    assert_eq!(client.transport(), Transport::Quic);
    for udp in [Udp::Silent, Udp::Refused] {
        let (server, _held) = without_quic(&daemon, udp).await;
        let client = within(auto(&daemon, server).connect()).await.unwrap();
        assert_eq!(client.transport(), Transport::WebSocket);
        assert_eq!(client.rtt(), None);
        client.publish("demo/a", "x").await.unwrap();
        client.close().await;
    }
    assert_eq!(daemon.publish("demo/a", "y").unwrap().sequence, 3);
}

#[tokio::test]
async fn auto_does_not_retry_an_untrusted_daemon_and_reports_both_errors() {
    let daemon = daemon().await;
    let wrong = Trust::Pinned(CertificateHash([1; 32]).into());
    let here = daemon.local_addr().to_string();
    let error = within(auto(&daemon, here).trust(wrong).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error}");

    let error = within(auto(&daemon, NOBODY.to_owned()).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotRunning { .. }), "{error}");

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let here = silent.local_addr().unwrap().to_string();
    let error = within(auto(&daemon, here).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Neither { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("may UDP pass") && text.contains("over websocket: no daemon"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_a_daemon_is_reported() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = tcp.local_addr().unwrap().to_string();
    tokio::spawn(async move { while tcp.accept().await.is_ok() {} });
    let builder = Client::builder(here).trust(Trust::Insecure).transport(Transport::WebSocket);
    let error = within(builder.connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Transport { .. }), "{error}");
}
