//! A client over raw QUIC that sends any bytes.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use crate::common::{tls, within};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use weir::Daemon;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader, ProducerId};

/// A session over raw QUIC, without the client library.
pub struct Raw {
    pub connection: quinn::Connection,
    pub tx: quinn::SendStream,
    pub rx: quinn::RecvStream,
    reader: FrameReader,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    pub async fn connect(daemon: &Daemon) -> Self {
        Self::to(daemon.local_addr()).await
    }

    /// Connects to a daemon at this address.
    pub async fn to(server: SocketAddr) -> Self {
        Self::with(server, quinn::TransportConfig::default()).await
    }

    /// Connects with these settings of QUIC.
    pub async fn with(server: SocketAddr, transport: quinn::TransportConfig) -> Self {
        Self::try_from(server, Ipv4Addr::LOCALHOST, transport).await.unwrap()
    }

    /// Connects from this address, if the daemon accepts that.
    pub async fn try_from(
        server: SocketAddr,
        address: Ipv4Addr,
        transport: quinn::TransportConfig,
    ) -> Result<Self, quinn::ConnectionError> {
        let tls = tls(wire::ALPN);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client((address, 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, server, "localhost").unwrap();
        let connection = within(connecting).await?;
        let (tx, rx) = within(connection.open_bi()).await?;
        let reader = FrameReader::new(1 << 20);
        Ok(Self { connection, tx, rx, reader, _endpoint: endpoint })
    }

    pub async fn greeted(daemon: &Daemon) -> Self {
        Self::connect(daemon).await.greet().await
    }

    /// Sends the hello, and reads the welcome.
    pub async fn greet(self) -> Self {
        let mut raw = self;
        raw.send(&[hello(wire::VERSION)]).await;
        let frame = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Welcome { .. })));
        raw
    }

    pub async fn send(&mut self, frames: &[ClientFrame<'_>]) {
        self.tx.write_all(&encoded(frames)).await.unwrap();
    }

    pub async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return frame;
            }
            let chunk = within(self.rx.read_chunk(1 << 16, true)).await.unwrap();
            self.reader.push(chunk.expect("the control stream ended").bytes);
        }
    }

    /// Reads up to the goodbye, and returns its code and reason. The close has the same code.
    pub async fn goodbye(&mut self) -> (Code, String) {
        let (code, reason) = loop {
            if let Some(goodbye) = goodbye(&self.frame().await) {
                break goodbye;
            }
        };
        match within(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), u64::from(code.0));
            }
            other => panic!("{other}"),
        }
        (code, reason)
    }
}

/// The code and the reason of a goodbye. Returns `None` for other frames.
pub fn goodbye(frame: &[u8]) -> Option<(Code, String)> {
    let DaemonFrame::Goodbye { code, reason, retry } = DaemonFrame::decode(frame).unwrap() else {
        return None;
    };
    assert_eq!(retry, code.retry());
    Some((code, reason.to_owned()))
}

pub fn hello(version: u32) -> ClientFrame<'static> {
    ClientFrame::Hello { version, producer: ProducerId([7; 16]), token: None, agent: "test" }
}

pub fn encoded(frames: &[ClientFrame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}
