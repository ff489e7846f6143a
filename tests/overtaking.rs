//! QUIC's streams have no order among each other: what belongs together may come in any.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::{message, within};
use std::sync::Arc;
use weir::wire::{self, ClientFrame, DaemonFrame, FrameReader};
use weir::{CertificateHash, Client, SubscribeOptions, Trust};

/// A daemon that says what the test wants, when it wants it.
fn staged() -> (quinn::Endpoint, CertificateHash) {
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

async fn frame(rx: &mut quinn::RecvStream, reader: &mut FrameReader) -> Bytes {
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            return frame;
        }
        reader.push(within(rx.read_chunk(1 << 16, true)).await.unwrap().unwrap().bytes);
    }
}

// Found by `weir sub --from all`, one time in five: "the session is over: closed by this client".
// The first stream of a subscription had come before the answer to the subscribe, and was taken
// for the answer.
#[tokio::test]
async fn a_subscriptions_first_message_may_overtake_the_answer_to_its_question() {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let daemon = tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut tx, mut rx) = connection.accept_bi().await.unwrap();
        let mut reader = FrameReader::new(1 << 20);
        let hello = frame(&mut rx, &mut reader).await;
        assert!(matches!(ClientFrame::decode(&hello), Ok(ClientFrame::Hello { .. })));
        let limits = wire::Limits { payload: 1000, subscriptions: 1, window: 64 };
        let (version, session, run, clock, agent) = (wire::VERSION, 1, 1, 1, "staged");
        let welcome = DaemonFrame::Welcome { version, session, run, clock, limits, agent };
        tx.write_chunk(welcome.to_bytes()).await.unwrap();
        let subscribe = frame(&mut rx, &mut reader).await;
        let Ok(ClientFrame::Subscribe { request, .. }) = ClientFrame::decode(&subscribe) else {
            panic!("not a subscribe");
        };

        let mut stream = connection.open_uni().await.unwrap();
        for frame in [
            DaemonFrame::For { request },
            DaemonFrame::Topic { id: 1, epoch: 1, next: 1, name: "demo/a" },
            DaemonFrame::Message { topic: 1, sequence: 1, count: 1, stamp: 0, payload: b"early" },
        ] {
            stream.write_chunk(frame.to_bytes()).await.unwrap();
        }
        stream.finish().unwrap();
        // The client has all of it before the answer goes out.
        stream.stopped().await.unwrap();
        let subscribed = DaemonFrame::Subscribed { request, position: 1 };
        tx.write_chunk(subscribed.to_bytes()).await.unwrap();
        connection.closed().await
    });
    let client = Client::builder(server).trust(Trust::Pinned(hash.into())).connect().await.unwrap();
    let options = SubscribeOptions::default();
    let mut subscription = within(client.subscribe("demo/a", &options)).await.unwrap();
    assert_eq!(message(&mut subscription).await.payload, "early");
    drop((subscription, client));
    within(daemon).await.unwrap();
}
