//! A scripted daemon: the test decides what it sends.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use crate::common::within;
use bytes::Bytes;
use std::sync::Arc;
use weir::CertificateHash;
use weir::wire::{self, ClientFrame, DaemonFrame, FrameReader, ProducerId};

/// Starts a scripted daemon. Returns its endpoint and the hash of its certificate.
pub fn staged() -> (quinn::Endpoint, CertificateHash) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let hash = CertificateHash::of(certificate.der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    tls.alpn_protocols = vec![wire::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    (quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap(), hash)
}

/// One of its sessions.
pub struct Stage {
    pub connection: quinn::Connection,
    pub producer: ProducerId,
    pub tx: quinn::SendStream,
    rx: quinn::RecvStream,
    reader: FrameReader,
}

impl Stage {
    /// Accepts a client and welcomes it.
    pub async fn accept(endpoint: &quinn::Endpoint) -> Self {
        Self::accept_with(endpoint, 1000).await
    }

    /// The same with a limit of `payload` bytes.
    pub async fn accept_with(endpoint: &quinn::Endpoint, payload: u64) -> Self {
        let connection = within(endpoint.accept()).await.unwrap().await.unwrap();
        let (tx, rx) = connection.accept_bi().await.unwrap();
        let (producer, reader) = (ProducerId([0; 16]), FrameReader::new(1 << 20));
        let mut stage = Self { connection, producer, tx, rx, reader };
        let hello = stage.frame().await;
        let Ok(ClientFrame::Hello { producer, .. }) = ClientFrame::decode(&hello) else {
            panic!("no hello first");
        };
        stage.producer = producer;
        let knows = stage.frame().await;
        assert!(matches!(ClientFrame::decode(&knows), Ok(ClientFrame::Knows { .. })));
        let limits = wire::Limits { payload, subscriptions: 1, window: 64 };
        let (version, session, run, clock, agent) = (wire::VERSION, 1, 1, 1, "staged");
        let welcome = DaemonFrame::Welcome { version, session, run, clock, limits, agent };
        stage.send(&welcome).await;
        stage
    }

    pub async fn send(&mut self, frame: &DaemonFrame<'_>) {
        self.tx.write_chunk(frame.to_bytes()).await.unwrap();
    }

    /// Reads the next frame on the control stream.
    pub async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return frame;
            }
            let chunk = within(self.rx.read_chunk(1 << 16, true)).await.unwrap();
            self.reader.push(chunk.unwrap().bytes);
        }
    }

    /// Sends frames on a new stream, which stays open.
    pub async fn stream(&mut self, frames: &[DaemonFrame<'_>]) -> quinn::SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        for frame in frames {
            stream.write_chunk(frame.to_bytes()).await.unwrap();
        }
        stream
    }
}
