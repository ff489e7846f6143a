//! Panics of a task, and of the engine. The peers that it served receive an error, and others notice
//! nothing.
#![allow(clippy::unwrap_used)]

mod certificates;
mod notices;
mod silent;

use super::{Changes, Daemon, LocalSubscription, SettingsError, SpawnError};
use crate::broker::failure::strike;
use crate::client::{Client, Reconnect, SubscribeError, Subscription};
use crate::wire::Code;
use crate::{Event, SubscribeOptions, Transport, Trust};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any step of the tests.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, Box::pin(future)).await.expect("it takes too long")
}

async fn daemon() -> Daemon {
    Daemon::builder().listen(LOOPBACK).http(LOOPBACK).spawn().await.unwrap()
}

async fn client(daemon: &Daemon, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string());
    let builder = builder.transport(transport).trust(trust).reconnect(Reconnect::never());
    within(builder.connect()).await.unwrap()
}

/// Checks that the subscription and its session ended because of a defect of the daemon.
async fn is_told(client: Client, mut subscription: Subscription) {
    match within(subscription.next()).await {
        Some(Err(SubscribeError::Closed(closed))) => {
            assert_eq!(closed.code, Some(Code::OVERLOADED), "{closed}");
            assert!(closed.reason.contains("see its log"), "{closed}");
        }
        other => panic!("{other:?} instead of a goodbye"),
    }
    assert_eq!(within(client.closed()).await.code, Some(Code::OVERLOADED));
}

async fn message(subscription: &mut LocalSubscription) -> Vec<u8> {
    match within(subscription.next()).await.unwrap().unwrap() {
        Event::Message(message) => message.payload.to_vec(),
        other => panic!("{other:?} instead of a message"),
    }
}

// Once, the subscription remained silent, in a session that continued.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_panics_ends_its_session_and_that_is_told() {
    for what in ["delivery", "session"] {
        for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
            let daemon = daemon().await;
            let mut here = daemon.subscribe("a", &SubscribeOptions::default()).unwrap();
            let client = client(&daemon, transport).await;
            let subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
            strike(&daemon.broker, what);
            is_told(client, subscription).await;
            // The engine has nothing of it left, and serves the others.
            within(async {
                while daemon.broker.with(|engine| engine.subscriptions()) > 1 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            daemon.publish("a", "still here").unwrap();
            assert_eq!(message(&mut here).await, b"still here");
            within(daemon.shutdown()).await;
        }
    }
}

async fn events(daemon: &Daemon) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET /v1/events/a HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\nid: ") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_a_stream_of_events() {
    let daemon = daemon().await;
    let mut stream = events(&daemon).await;
    strike(&daemon.broker, "events");
    daemon.publish("a", "x").unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        rest.push(within(stream.read_u8()).await.unwrap());
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("event: ended") && rest.contains("overloaded"), "{rest}");
    assert_eq!(daemon.broker.with(|engine| engine.subscriptions()), 0);
}

// Once, the daemon continued to call an engine that had panicked, in an undefined state.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_panics_is_not_called_again_and_the_daemon_stops_and_says_so() {
    let daemon = daemon().await;
    let mut sessions = Vec::new();
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        let client = client(&daemon, transport).await;
        let subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
        sessions.push((client, subscription));
    }
    let mut here = daemon.subscribe("a", &SubscribeOptions::default()).unwrap();
    let mut stream = events(&daemon).await;
    let fail = || daemon.broker.with(|_| panic!("half-way, by a test"));
    catch_unwind(AssertUnwindSafe(fail)).unwrap_err();
    // The next caller of the engine notices the panic.
    catch_unwind(AssertUnwindSafe(|| daemon.publish("a", "x"))).unwrap_err();
    within(daemon.failed()).await;
    for (client, mut subscription) in sessions {
        match within(subscription.next()).await {
            Some(Err(SubscribeError::Closed(closed))) => {
                assert!(closed.code.is_some_and(Code::retry), "{closed}");
            }
            other => panic!("{other:?} instead of a goodbye"),
        }
        drop(client);
    }
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(String::from_utf8_lossy(&rest).contains("event: ended"));
    let polled = tokio::spawn(async move { here.next().await.is_none() }).await;
    assert!(polled.unwrap_err().is_panic());
    within(daemon.shutdown()).await;
}

#[tokio::test]
async fn a_qlog_needs_a_directory_and_nothing_changes_without_one() {
    let address = "192.0.2.7".parse::<std::net::IpAddr>().unwrap();
    let builder = Daemon::builder().listen("127.0.0.1:0".parse().unwrap());
    let error = builder.clone().qlog(address).spawn().await.unwrap_err();
    assert!(matches!(error, SpawnError::Settings(SettingsError::QlogNoState)), "{error}");
    let daemon = builder.spawn().await.unwrap();
    let changes = Changes::default().origins(["https://app.example"]);
    let error = daemon.reload(changes.qlog(address)).await.unwrap_err();
    assert!(matches!(error, SettingsError::QlogNoState), "{error}");
    assert!(daemon.settings.lock().await.settings.origins.is_empty());
    daemon.reload(Changes::default().qlog(None)).await.unwrap();
    daemon.shutdown().await;
}
