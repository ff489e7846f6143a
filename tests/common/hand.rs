//! A peer that speaks the protocol by hand, over any transport.
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

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Frame(Bytes),
    /// A stream was at its end, or reset.
    End,
    Reset(u64),
}

type Heard = (u32, What);
type Sink = SplitSink<WebSocketStream<TlsStream<TcpStream>>, Message>;

enum Way {
    Quic(quinn::Connection, quinn::SendStream, quinn::Endpoint),
    WebTransport(
        wtransport::Connection,
        wtransport::SendStream,
        wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>,
    ),
    WebSocket(Sink),
}

/// Where a publication goes.
pub enum Out {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
    Shared,
}

pub struct Hand {
    way: Way,
    heard: mpsc::UnboundedReceiver<Heard>,
    // Heard already, for others than those who asked.
    kept: VecDeque<Heard>,
    reader: AbortHandle,
    gate: watch::Sender<bool>,
}

// Where what is heard goes, and whether it is to be read.
#[derive(Clone)]
struct Ear {
    tell: mpsc::UnboundedSender<Heard>,
    gate: watch::Receiver<bool>,
}

impl Ear {
    async fn open(&mut self) {
        let _ = self.gate.wait_for(|open| *open).await;
    }

    fn tell(&self, request: u32, what: What) {
        let _ = self.tell.send((request, what));
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
    /// One that has been welcomed.
    pub async fn greet(server: SocketAddr, transport: Transport, producer: u8) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let (gate, open) = watch::channel(true);
        let ear = Ear { tell, gate: open };
        let (way, reader) = match transport {
            Transport::Quic => quic(server, ear).await,
            Transport::WebTransport => web_transport(server, ear).await,
            Transport::WebSocket => web_socket(server, ear).await,
        };
        let mut hand = Self { way, heard, kept: VecDeque::new(), reader, gate };
        let producer = ProducerId([producer; 16]);
        let version = wire::VERSION;
        hand.say(&[ClientFrame::Hello { version, producer, token: None, agent: "hand" }]).await;
        let frame = hand.frame(0).await;
        assert!(matches!(decode(&frame), DaemonFrame::Welcome { .. }));
        hand
    }

    /// On the control stream.
    pub async fn say(&mut self, frames: &[ClientFrame<'_>]) {
        let bytes = encoded(frames);
        match &mut self.way {
            Way::Quic(_, tx, _) => tx.write_all(&bytes).await.unwrap(),
            Way::WebTransport(_, tx, _) => tx.write_all(&bytes).await.unwrap(),
            Way::WebSocket(sink) => sink.send(Message::Binary(bytes)).await.unwrap(),
        }
    }

    /// Begins a stream for a publication.
    pub async fn open(&mut self) -> Out {
        match &mut self.way {
            Way::Quic(connection, _, _) => Out::Quic(connection.open_uni().await.unwrap()),
            Way::WebTransport(connection, _, _) => {
                Out::WebTransport(connection.open_uni().await.unwrap().await.unwrap())
            }
            Way::WebSocket(_) => Out::Shared,
        }
    }

    /// On that stream. Whether it was not stopped.
    pub async fn publish(&mut self, out: &mut Out, frames: &[ClientFrame<'_>]) -> bool {
        let bytes = encoded(frames);
        match out {
            Out::Quic(tx) => tx.write_all(&bytes).await.is_ok(),
            Out::WebTransport(tx) => tx.write_all(&bytes).await.is_ok(),
            Out::Shared => {
                for frame in frames {
                    self.say(std::slice::from_ref(frame)).await;
                }
                true
            }
        }
    }

    /// Gives a publication up as this transport can.
    pub fn give_up(self, out: Out) -> Option<Self> {
        match out {
            Out::Quic(mut tx) => tx.reset(7_u32.into()).unwrap(),
            Out::WebTransport(mut tx) => tx.quic_stream_mut().reset(7_u32.into()).unwrap(),
            // The session with it.
            Out::Shared => return None,
        }
        Some(self)
    }

    /// Reads nothing more, or goes on reading.
    pub fn listen(&self, listens: bool) {
        self.gate.send_replace(listens);
    }

    /// Goes away without a word.
    pub fn die(self) -> Option<Self> {
        match &self.way {
            Way::Quic(connection, _, _) => connection.close(9_u32.into(), b""),
            Way::WebTransport(connection, _, _) => {
                connection.quic_connection().close(9_u32.into(), b"");
            }
            Way::WebSocket(_) => {}
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
        self.say(&[ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline }])
            .await;
        let frame = self.frame(0).await;
        assert!(matches!(decode(&frame), DaemonFrame::Subscribed { .. }), "{:?}", decode(&frame));
    }

    /// The next that comes for a request, 0 for control.
    pub async fn next(&mut self, request: u32) -> What {
        if let Some(at) = self.kept.iter().position(|(of, _)| *of == request) {
            return self.kept.remove(at).unwrap().1;
        }
        loop {
            let heard = within(self.heard.recv()).await.expect("the session is over");
            if heard.0 == request {
                return heard.1;
            }
            self.kept.push_back(heard);
        }
    }

    /// The next frame for a request; announcements and ends of streams are passed over.
    pub async fn frame(&mut self, request: u32) -> Bytes {
        loop {
            match self.next(request).await {
                What::Frame(frame) => match decode(&frame) {
                    DaemonFrame::For { .. }
                    | DaemonFrame::Topic { .. }
                    | DaemonFrame::Head { .. }
                    | DaemonFrame::Mark { .. } => {}
                    _ => return frame,
                },
                What::End => {}
                What::Reset(code) => panic!("a reset with {code:#x}"),
            }
        }
    }

    /// Whether nothing has come for a request that was not taken.
    pub fn is_quiet(&mut self, request: u32) -> bool {
        while let Ok(heard) = self.heard.try_recv() {
            self.kept.push_back(heard);
        }
        self.kept.iter().all(|(of, _)| *of != request)
    }

    /// Waits until the daemon has handled what was said before.
    pub async fn ping(&mut self, request: u32) {
        self.say(&[ClientFrame::Ping { request }]).await;
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

// Frames of one stream, whose first says for whom they are.
async fn frames(mut rx: In, mut request: Option<u32>, mut ear: Ear) {
    let mut reader = FrameReader::new(32 << 20);
    loop {
        while let Some(frame) = reader.next_frame().unwrap() {
            if let DaemonFrame::For { request: of } = decode(&frame) {
                request = Some(of);
            }
            ear.tell(request.unwrap(), What::Frame(frame));
        }
        ear.open().await;
        let stream = match &mut rx {
            In::Quic(stream) => stream,
            In::WebTransport(stream) => stream.quic_stream_mut(),
        };
        match stream.read_chunk(1 << 20, true).await {
            Ok(Some(chunk)) => reader.push(chunk.bytes),
            Ok(None) => {
                ear.tell(request.unwrap_or(0), What::End);
                return;
            }
            Err(quinn::ReadError::Reset(code)) => {
                ear.tell(request.unwrap_or(0), What::Reset(code.into_inner()));
                return;
            }
            Err(_) => return,
        }
    }
}

async fn quic(server: SocketAddr, ear: Ear) -> (Way, AbortHandle) {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(wire::ALPN)).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, server, "localhost").unwrap();
    let connection = within(connecting).await.unwrap();
    let (tx, rx) = connection.open_bi().await.unwrap();
    let accepts = connection.clone();
    let reader = tokio::spawn(async move {
        tokio::spawn(frames(In::Quic(rx), Some(0), ear.clone()));
        while let Ok(rx) = accepts.accept_uni().await {
            tokio::spawn(frames(In::Quic(rx), None, ear.clone()));
        }
    });
    (Way::Quic(connection, tx, endpoint), reader.abort_handle())
}

async fn web_transport(server: SocketAddr, ear: Ear) -> (Way, AbortHandle) {
    let config =
        wtransport::ClientConfig::builder().with_bind_default().with_custom_tls(tls(b"h3"));
    let endpoint = wtransport::Endpoint::client(config.build()).unwrap();
    let url = format!("https://127.0.0.1:{}{}", server.port(), wire::PATH);
    let connection = within(endpoint.connect(url)).await.unwrap();
    let (tx, rx) = connection.open_bi().await.unwrap().await.unwrap();
    let accepts = connection.clone();
    let reader = tokio::spawn(async move {
        tokio::spawn(frames(In::WebTransport(rx), Some(0), ear.clone()));
        while let Ok(rx) = accepts.accept_uni().await {
            tokio::spawn(frames(In::WebTransport(rx), None, ear.clone()));
        }
    });
    (Way::WebTransport(connection, tx, endpoint), reader.abort_handle())
}

async fn web_socket(server: SocketAddr, mut ear: Ear) -> (Way, AbortHandle) {
    let tcp = TcpStream::connect(server).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(b"http/1.1")));
    let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let url = format!("wss://localhost{}", wire::PATH);
    let (socket, _) = tokio_tungstenite::client_async(url, tls).await.unwrap();
    let (sink, mut stream) = socket.split();
    let reader = tokio::spawn(async move {
        let (mut reader, mut current) = (FrameReader::new(32 << 20), 0);
        loop {
            ear.open().await;
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
                ear.tell(request, What::Frame(frame));
            }
        }
    });
    (Way::WebSocket(sink), reader.abort_handle())
}
