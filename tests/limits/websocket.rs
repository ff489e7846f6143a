//! Sessions over WebSocket: frames that carry nothing, and a peer that waits is not a silent one.

use crate::common::within;
use crate::raw::{encoded, goodbye, hello};
use crate::{address, count, daemon, publish};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use weir::Daemon;
use weir::daemon::Limit;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader};

struct Session {
    socket: WebSocketStream<TcpStream>,
    reader: FrameReader,
}

impl Session {
    async fn connect(daemon: &Daemon, n: u8) -> Self {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.bind(SocketAddr::new(address(n).into(), 0)).unwrap();
        let to = daemon.http_addr().unwrap();
        let tcp = within(tcp.connect(to)).await.unwrap();
        let url = format!("ws://{to}{}", wire::PATH);
        let (socket, _) = within(tokio_tungstenite::client_async(url, tcp)).await.unwrap();
        Self { socket, reader: FrameReader::new(32 << 20) }
    }

    async fn greeted(daemon: &Daemon, n: u8) -> Self {
        let mut session = Self::connect(daemon, n).await;
        session.send(&[hello(wire::VERSION)]).await;
        let frame = session.frame().await;
        assert!(
            matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Welcome { .. })),
            "{:?}",
            goodbye(&frame)
        );
        session
    }

    async fn send(&mut self, frames: &[ClientFrame<'_>]) {
        self.socket.send(Message::Binary(encoded(frames).into())).await.unwrap();
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return frame;
            }
            match within(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => self.reader.push(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

// Nobody reads the socket while the rate makes a batch wait. A client with 40 s of publications on their
// way was ended as silent, although it answered each ping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_to_wait_for_longer_than_the_idle_time_is_not_silent() {
    const MESSAGES: u64 = 850;
    let daemon = daemon(|limits| limits.messages = 20).await;
    let mut session = Session::greeted(&daemon, 1).await;
    session.send(&[ClientFrame::Topic { alias: 1, name: "a" }]).await;
    for number in 1..=MESSAGES {
        session.send(&[publish(1, number, b"x")]).await;
    }
    let (mut receipts, mut rejected) = (0, 0);
    while receipts + rejected < MESSAGES {
        match DaemonFrame::decode(&session.frame().await).unwrap() {
            DaemonFrame::Receipt { .. } => receipts += 1,
            DaemonFrame::Rejected { code: Code::RATE_LIMITED, .. } => rejected += 1,
            other => panic!("{other:?}"),
        }
    }
    // It is told every 10 s.
    assert!((1..10).contains(&rejected), "{rejected} of {MESSAGES}");
    session.send(&[ClientFrame::Ping { request: 1 }]).await;
    let pong = session.frame().await;
    assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { .. })));
}

/// Sends the same message for ever. Returns the goodbye.
async fn flood(daemon: &Daemon, message: Message) -> (Code, String) {
    let Session { socket, mut reader } = Session::greeted(daemon, 1).await;
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        while sink.feed(message.clone()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let reading = async {
        loop {
            match within(stream.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    reader.push(bytes);
                    while let Some(frame) = reader.next_frame().unwrap() {
                        if let Some(goodbye) = goodbye(&frame) {
                            return goodbye;
                        }
                    }
                }
                Some(Ok(Message::Pong(_) | Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::select! { end = reading => end, () = sending => unreachable!() }
}

// 375,000 pings a second were answered on one session, and 880,000 empty messages were read, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_empty_messages_count() {
    let daemon = daemon(|limits| (limits.messages, limits.bytes) = (100, 64 << 10)).await;
    for message in [Message::Ping(Bytes::new()), Message::Binary(Bytes::new())] {
        let (code, reason) = flood(&daemon, message).await;
        assert_eq!(code, Code::RATE_LIMITED, "{reason}");
        assert!(reason.contains("pings"), "{reason}");
    }
    assert!(count(&daemon, Limit::RateLimited) >= 2 && count(&daemon, Limit::Slowed) >= 2);
}
