//! The daemon's end of a connection whose datagrams are not read.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::net::quic::congestion::AckStats;
use bytes::Bytes;
use futures_util::FutureExt as _;
use quinn::crypto::rustls::QuicClientConfig;

/// Longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client's and the daemon's end of a connection, and the endpoints that keep them alive.
async fn pair() -> (quinn::Connection, quinn::Connection, [quinn::Endpoint; 2]) {
    let identities = Certificates::for_tests();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let recorder = Arc::new(Recorder::new(None));
    let daemon = open(socket, identities, &ResetKey::open(None).unwrap(), recorder).unwrap().quic;
    let tls = tls::client(&tls::Expect::Anything, ALPN, &Arc::default(), None).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(settings::client()));
    let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connecting = client.connect_with(config, daemon.local_addr().unwrap(), "localhost");
    let accepted = async { daemon.accept().await.unwrap().accept().unwrap().await.unwrap() };
    let (ours, theirs) = tokio::join!(accepted, async { connecting.unwrap().await.unwrap() });
    (theirs, ours, [client, daemon])
}

fn datagram(n: u32) -> Bytes {
    let mut datagram = vec![0; 1000];
    datagram[..4].copy_from_slice(&n.to_le_bytes());
    datagram.into()
}

fn number(datagram: &Bytes) -> u32 {
    u32::from_le_bytes(datagram[..4].try_into().unwrap())
}

#[tokio::test]
async fn of_datagrams_that_are_not_read_the_newest_256_kib_are_kept() {
    const DATAGRAMS: u32 = 2000;
    let (client, daemon, _endpoints) = timeout(PATIENCE, pair()).await.unwrap();
    let space = client.datagram_send_buffer_space();
    for n in 0..DATAGRAMS {
        client.send_datagram_wait(datagram(n)).await.unwrap();
    }
    // After all datagrams have been sent, a stream is.
    while client.datagram_send_buffer_space() < space {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.open_uni().await.unwrap().finish().unwrap();
    timeout(PATIENCE, daemon.accept_uni()).await.unwrap().unwrap();
    let came = daemon.stats().frame_rx.datagram;
    assert!(came > u64::from(DATAGRAMS) / 2, "the flood was lost on its way: {came}");
    let (mut kept, mut bytes) = (Vec::new(), 0);
    while let Some(datagram) = daemon.read_datagram().now_or_never() {
        let datagram = datagram.unwrap();
        kept.push(number(&datagram));
        bytes += datagram.len();
    }
    assert!((200 << 10..=256 << 10).contains(&bytes), "{bytes} bytes kept");
    assert!(kept.is_sorted() && kept[0] >= DATAGRAMS / 2, "{kept:?}");
    // Later datagrams arrive as before.
    client.send_datagram(datagram(DATAGRAMS)).unwrap();
    let next = timeout(PATIENCE, daemon.read_datagram()).await.unwrap().unwrap();
    assert_eq!(number(&next), DATAGRAMS);
}

#[tokio::test]
async fn a_peer_that_moves_has_a_path_of_its_own() {
    let (client, daemon, [endpoint, _daemon]) = timeout(PATIENCE, pair()).await.unwrap();
    let all_acked = async |since| {
        while !AckStats::of(&daemon).have_received(since)
            || AckStats::of(&daemon).acked_through < Some(since)
        {
            daemon.send_datagram(datagram(0)).unwrap();
            client.read_datagram().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let begun = std::time::Instant::now();
    timeout(PATIENCE, all_acked(begun)).await.unwrap();
    let (before, moved) = (daemon.remote_address(), std::time::Instant::now());
    endpoint.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
    let arrived = async {
        while daemon.remote_address() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, arrived).await.unwrap();
    let stats = AckStats::of(&daemon);
    assert!(stats.acked_through.is_none_or(|at| at >= moved), "of the old path: {stats:?}");
    timeout(PATIENCE, all_acked(moved)).await.unwrap();
}
