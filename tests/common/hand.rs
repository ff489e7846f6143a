//! A peer that speaks the protocol at the level of frames, over any transport.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use crate::common::{tls, within};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use weir::Transport;
use weir::wire::{self, ClientFrame, DaemonFrame, Delivery, FrameReader, Lag, ProducerId, Start};

/// An event on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    Frame(Bytes),
    /// The end of a stream, or its reset.
    End,
    Reset(u64),
}

type RequestEvent = (u32, StreamEvent);
type SocketSink = SplitSink<WebSocketStream<TlsStream<TcpStream>>, Message>;

enum Link {
    Quic(quinn::Connection, quinn::SendStream, quinn::Endpoint),
    WebTransport(
        wtransport::Connection,
        wtransport::SendStream,
        wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>,
    ),
    WebSocket(SocketSink),
}

/// The stream of a publication.
pub enum Upload {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
    Shared,
}

pub struct Hand {
    link: Link,
    events: mpsc::UnboundedReceiver<RequestEvent>,
    // Events that were read while waiting for another request.
    kept: VecDeque<RequestEvent>,
    reader: AbortHandle,
    gate: watch::Sender<bool>,
}

// Passes events on, and pauses reading while the gate is closed.
#[derive(Clone)]
struct EventSink {
    sender: mpsc::UnboundedSender<RequestEvent>,
    gate: watch::Receiver<bool>,
}

impl EventSink {
    async fn open(&mut self) {
        let _ = self.gate.wait_for(|open| *open).await;
    }

    fn send(&self, request: u32, event: StreamEvent) {
        let _ = self.sender.send((request, event));
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

pub fn encoded(frames: &[ClientFrame<'_>]) -> Bytes {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out.into()
}

impl Hand {
    /// Opens a session, and waits for the welcome.
    pub async fn greet(server: SocketAddr, transport: Transport, producer: u8) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (gate, open) = watch::channel(true);
        let sink = EventSink { sender, gate: open };
        let (link, reader) = match transport {
            Transport::Quic => quic(server, sink).await,
            Transport::WebTransport => web_transport(server, sink).await,
            Transport::WebSocket => web_socket(server, sink).await,
            other => panic!("{other} has no hand"),
        };
        let mut hand = Self { link, events, kept: VecDeque::new(), reader, gate };
        let producer = ProducerId([producer; 16]);
        let version = wire::VERSION;
        hand.send(&[ClientFrame::Hello { version, producer, token: None, agent: "hand" }]).await;
        let frame = hand.frame(0).await;
        assert!(matches!(decode(&frame), DaemonFrame::Welcome { .. }));
        hand
    }

    /// Sends frames on the control stream.
    pub async fn send(&mut self, frames: &[ClientFrame<'_>]) {
        let bytes = encoded(frames);
        match &mut self.link {
            Link::Quic(_, tx, _) => tx.write_all(&bytes).await.unwrap(),
            Link::WebTransport(_, tx, _) => tx.write_all(&bytes).await.unwrap(),
            Link::WebSocket(sink) => sink.send(Message::Binary(bytes)).await.unwrap(),
        }
    }

    /// Opens a stream for a publication.
    pub async fn open(&mut self) -> Upload {
        match &mut self.link {
            Link::Quic(connection, _, _) => Upload::Quic(connection.open_uni().await.unwrap()),
            Link::WebTransport(connection, _, _) => {
                Upload::WebTransport(connection.open_uni().await.unwrap().await.unwrap())
            }
            Link::WebSocket(_) => Upload::Shared,
        }
    }

    /// Sends frames on that stream. Returns false if the daemon has stopped it.
    pub async fn publish(&mut self, out: &mut Upload, frames: &[ClientFrame<'_>]) -> bool {
        let bytes = encoded(frames);
        match out {
            Upload::Quic(tx) => tx.write_all(&bytes).await.is_ok(),
            Upload::WebTransport(tx) => tx.write_all(&bytes).await.is_ok(),
            Upload::Shared => {
                for frame in frames {
                    self.send(std::slice::from_ref(frame)).await;
                }
                true
            }
        }
    }

    /// Aborts a publication in the way that the transport has. Returns the session if it goes on.
    pub fn give_up(self, out: Upload) -> Option<Self> {
        match out {
            Upload::Quic(mut tx) => tx.reset(7_u32.into()).unwrap(),
            Upload::WebTransport(mut tx) => tx.quic_stream_mut().reset(7_u32.into()).unwrap(),
            // Over WebSocket the session ends with it.
            Upload::Shared => return None,
        }
        Some(self)
    }

    /// Pauses or resumes reading.
    pub fn set_reading(&self, reads: bool) {
        self.gate.send_replace(reads);
    }

    /// Ends without a goodbye.
    pub fn die(self) -> Option<Self> {
        match &self.link {
            Link::Quic(connection, _, _) => connection.close(9_u32.into(), b""),
            Link::WebTransport(connection, _, _) => {
                connection.quic_connection().close(9_u32.into(), b"");
            }
            Link::WebSocket(_) => {}
        }
        None
    }

    pub async fn subscribe(
        &mut self,
        request: u32,
        filter: &str,
        start: Start<'_>,
        delivery: Delivery,
    ) {
        let (lag, deadline) = (Lag::Oldest, 0);
        self.send(&[ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline }])
            .await;
        let frame = self.frame(0).await;
        assert!(matches!(decode(&frame), DaemonFrame::Subscribed { .. }), "{:?}", decode(&frame));
    }

    /// Waits for the next event of a request. Request 0 is the control stream.
    pub async fn next(&mut self, request: u32) -> StreamEvent {
        if let Some(at) = self.kept.iter().position(|(of, _)| *of == request) {
            return self.kept.remove(at).unwrap().1;
        }
        loop {
            let event = within(self.events.recv()).await.expect("the session is over");
            if event.0 == request {
                return event.1;
            }
            self.kept.push_back(event);
        }
    }

    /// Waits for the next frame of a request. Skips announcements and ends of streams.
    pub async fn frame(&mut self, request: u32) -> Bytes {
        loop {
            match self.next(request).await {
                StreamEvent::Frame(frame) => match decode(&frame) {
                    DaemonFrame::For { .. }
                    | DaemonFrame::Topic { .. }
                    | DaemonFrame::Head { .. }
                    | DaemonFrame::Mark { .. } => {}
                    _ => return frame,
                },
                StreamEvent::End => {}
                StreamEvent::Reset(code) => panic!("a reset with {code:#x}"),
            }
        }
    }

    /// Whether there are no events of a request that were not taken.
    pub fn is_quiet(&mut self, request: u32) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.kept.push_back(event);
        }
        self.kept.iter().all(|(of, _)| *of != request)
    }

    /// Waits until the daemon has handled everything that was sent before.
    pub async fn ping(&mut self, request: u32) {
        self.send(&[ClientFrame::Ping { request }]).await;
        let frame = self.frame(0).await;
        assert!(matches!(decode(&frame), DaemonFrame::Pong { .. }), "{:?}", decode(&frame));
    }
}

pub fn decode(frame: &Bytes) -> DaemonFrame<'_> {
    DaemonFrame::decode(frame).unwrap()
}

enum In {
    Quic(quinn::RecvStream),
    WebTransport(wtransport::RecvStream),
}

// Reads the frames of a stream. Its first frame names the request.
async fn frames(mut rx: In, mut request: Option<u32>, mut events: EventSink) {
    let mut reader = FrameReader::new(32 << 20);
    loop {
        while let Some(frame) = reader.next_frame().unwrap() {
            if let DaemonFrame::For { request: of } = decode(&frame) {
                request = Some(of);
            }
            events.send(request.unwrap(), StreamEvent::Frame(frame));
        }
        events.open().await;
        let stream = match &mut rx {
            In::Quic(stream) => stream,
            In::WebTransport(stream) => stream.quic_stream_mut(),
        };
        match stream.read_chunk(1 << 20, true).await {
            Ok(Some(chunk)) => reader.push(chunk.bytes),
            Ok(None) => {
                events.send(request.unwrap_or(0), StreamEvent::End);
                return;
            }
            Err(quinn::ReadError::Reset(code)) => {
                events.send(request.unwrap_or(0), StreamEvent::Reset(code.into_inner()));
                return;
            }
            Err(_) => return,
        }
    }
}

async fn quic(server: SocketAddr, events: EventSink) -> (Link, AbortHandle) {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(wire::ALPN)).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, server, "localhost").unwrap();
    let connection = within(connecting).await.unwrap();
    let (tx, rx) = connection.open_bi().await.unwrap();
    let accepts = connection.clone();
    let reader = tokio::spawn(async move {
        tokio::spawn(frames(In::Quic(rx), Some(0), events.clone()));
        while let Ok(rx) = accepts.accept_uni().await {
            tokio::spawn(frames(In::Quic(rx), None, events.clone()));
        }
    });
    (Link::Quic(connection, tx, endpoint), reader.abort_handle())
}

async fn web_transport(server: SocketAddr, events: EventSink) -> (Link, AbortHandle) {
    let config =
        wtransport::ClientConfig::builder().with_bind_default().with_custom_tls(tls(b"h3"));
    let endpoint = wtransport::Endpoint::client(config.build()).unwrap();
    let url = format!("https://127.0.0.1:{}{}", server.port(), wire::PATH);
    let connection = within(endpoint.connect(url)).await.unwrap();
    let (tx, rx) = connection.open_bi().await.unwrap().await.unwrap();
    let accepts = connection.clone();
    let reader = tokio::spawn(async move {
        tokio::spawn(frames(In::WebTransport(rx), Some(0), events.clone()));
        while let Ok(rx) = accepts.accept_uni().await {
            tokio::spawn(frames(In::WebTransport(rx), None, events.clone()));
        }
    });
    (Link::WebTransport(connection, tx, endpoint), reader.abort_handle())
}

async fn web_socket(server: SocketAddr, mut events: EventSink) -> (Link, AbortHandle) {
    let tcp = TcpStream::connect(server).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
    let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let url = format!("wss://localhost{}", wire::PATH);
    let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
    let (sink, mut stream) = socket.split();
    let reader = tokio::spawn(async move {
        let (mut reader, mut current) = (FrameReader::new(32 << 20), 0);
        loop {
            events.open().await;
            let Some(Ok(message)) = stream.next().await else { return };
            let Message::Binary(bytes) = message else { continue };
            assert!(bytes.len() < 200_000, "a message of {} bytes", bytes.len());
            reader.push(bytes);
            while let Some(frame) = reader.next_frame().unwrap() {
                let request = match decode(&frame) {
                    DaemonFrame::For { request } => {
                        current = request;
                        current
                    }
                    DaemonFrame::Topic { .. }
                    | DaemonFrame::Message { .. }
                    | DaemonFrame::Gap { .. }
                    | DaemonFrame::Begin { .. }
                    | DaemonFrame::Chunk { .. }
                    | DaemonFrame::End { .. }
                    | DaemonFrame::Abort { .. }
                    | DaemonFrame::Head { .. }
                    | DaemonFrame::Mark { .. } => current,
                    _ => 0,
                };
                events.send(request, StreamEvent::Frame(frame));
            }
        }
    });
    (Link::WebSocket(sink), reader.abort_handle())
}
