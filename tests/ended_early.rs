//! The end of a subscription that overtakes its stream inside the client. Over WebSocket both come on
//! one channel, and different tasks handle them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::{message, within};
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, encode_message};
use weir::{CertificateHash, Client, Start, SubscribeOptions, Transport, Trust};

/// A scripted daemon over WebSocket.
struct Stage(WebSocketStream<TlsStream<TcpStream>>);

/// Returns a listener, TLS settings, and the hash of their certificate.
async fn staged() -> (TcpListener, tokio_rustls::TlsAcceptor, CertificateHash) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let hash = CertificateHash::of(certificate.der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    (listener, Arc::new(tls).into(), hash)
}

impl Stage {
    async fn accept(listener: &TcpListener, tls: &tokio_rustls::TlsAcceptor) -> Self {
        let (tcp, _) = within(listener.accept()).await.unwrap();
        let tls = tls.accept(tcp).await.unwrap();
        let mut stage = Self(tokio_tungstenite::accept_async(tls).await.unwrap());
        stage.take(|frame| matches!(frame, ClientFrame::Hello { .. })).await;
        let limits = wire::Limits { payload: 1000, subscriptions: 1, window: 64 };
        let (version, session, run, clock, agent) = (wire::VERSION, 1, 1, 1, "staged");
        let welcome = DaemonFrame::Welcome { version, session, run, clock, limits, agent };
        stage.send(&[welcome.to_bytes()]).await;
        stage
    }

    /// Waits for a frame, which must be as expected.
    async fn take(&mut self, expected: impl Fn(&ClientFrame<'_>) -> bool) {
        let message = within(self.0.next()).await.unwrap().unwrap().into_data();
        let mut reader = wire::FrameReader::new(1 << 20);
        reader.push(message);
        let frame = reader.next_frame().unwrap().unwrap();
        let frame = ClientFrame::decode(&frame).unwrap();
        assert!(expected(&frame), "{frame:?}");
    }

    /// Sends frames in one message.
    async fn send(&mut self, frames: &[Bytes]) {
        self.0.send(Message::Binary(frames.concat().into())).await.unwrap();
    }
}

fn stream(request: u32, sequences: std::ops::RangeInclusive<u64>) -> Vec<Bytes> {
    let topic = DaemonFrame::Topic { id: 1, epoch: 1, next: *sequences.start(), name: "t/a" };
    let mut frames = vec![DaemonFrame::For { request }.to_bytes(), topic.to_bytes()];
    for sequence in sequences {
        let payload = Bytes::from(format!("{sequence}"));
        let message = encode_message(1, sequence, 1, 0, &payload);
        let (head, body) = message.pieces();
        frames.extend([head.clone(), body.clone()]);
    }
    frames
}

#[tokio::test]
async fn a_subscription_goes_on_when_its_end_overtakes_its_stream() {
    let (listener, tls, hash) = staged().await;
    let server = listener.local_addr().unwrap().to_string();
    let builder = Client::builder(server).transport(Transport::WebSocket);
    let builder = builder.trust(Trust::Pinned(hash.into()));
    let connecting = async { within(builder.connect()).await.unwrap() };
    let (client, mut stage) = tokio::join!(connecting, Stage::accept(&listener, &tls));
    let options = SubscribeOptions::from(Start::All);
    let subscribing = async { within(client.subscribe("t/*", &options)).await.unwrap() };
    let welcoming = async {
        stage.take(|frame| matches!(frame, ClientFrame::Subscribe { request: 1, .. })).await;
        let subscribed = DaemonFrame::Subscribed { request: 1, position: 0 };
        stage.send(&[subscribed.to_bytes()]).await;
    };
    let (mut subscription, ()) = tokio::join!(subscribing, welcoming);
    // The end is handled as soon as it is read, and the stream in a task of its own. This is what a
    // client sees whose stream has overflowed before the task ran.
    let mut frames = stream(1, 1..=3);
    frames.push(DaemonFrame::Ended { request: 1, code: Code::DONE, reason: "" }.to_bytes());
    stage.send(&frames).await;
    let reading = async {
        for n in 1..=3 {
            assert_eq!(message(&mut subscription).await.payload, format!("{n}"));
        }
    };
    let resuming = async {
        // Nothing was read, so that it begins again.
        stage
            .take(|frame| {
                matches!(frame, ClientFrame::Subscribe { request: 2, start: wire::Start::All, .. })
            })
            .await;
        let subscribed = DaemonFrame::Subscribed { request: 2, position: 3 };
        stage.send(&[vec![subscribed.to_bytes()], stream(2, 1..=3)].concat()).await;
    };
    tokio::join!(reading, resuming);
}
