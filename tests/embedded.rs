//! `weir::Daemon` inside a program: calls in process.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{TRANSPORTS, client, daemon, daemon_with, within};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use weir::daemon::{LocalSubscription, SessionInfo};
use weir::engine::Limits;
use weir::wire::{Code, Delivery, Digest, GapCause, Refusal, Which};
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Transport, Trust};

async fn next(subscription: &mut LocalSubscription) -> Event {
    within(subscription.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_deadline_holds_with_realtime_and_only_there() {
    let daemon = daemon().await;
    for payload in ["1", "2", "3"] {
        daemon.publish("a", payload).unwrap();
    }
    let options = |delivery| {
        SubscribeOptions::from(Start::All)
            .with_delivery(delivery)
            .with_deadline(Duration::from_millis(1))
    };
    let subscribe = |delivery| daemon.subscribe("a", &options(delivery)).unwrap();
    let [mut ordered, mut unordered, mut realtime] =
        [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime].map(subscribe);
    // The messages are older than the deadline of one millisecond now.
    tokio::time::sleep(Duration::from_millis(2)).await;
    match next(&mut realtime).await {
        Event::Gap(gap) => assert_eq!((gap.first, gap.last, gap.cause), (1, 3, GapCause::Late)),
        other => panic!("{other:?} instead of a gap"),
    }
    for subscription in [&mut ordered, &mut unordered] {
        for sequence in 1..=3 {
            match next(subscription).await {
                Event::Message(message) => assert_eq!(message.sequence, sequence),
                other => panic!("{other:?} instead of {sequence}"),
            }
        }
    }
}

#[tokio::test]
async fn get_and_top_answer_as_they_answer_clients() {
    let daemon = daemon().await;
    let client = client(&daemon, Transport::Quic).await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 31) as u8).collect();
    for payload in [&b"tea"[..], b"coffee", b"tea", &large] {
        client.publish("a", payload.to_vec()).await.unwrap();
    }
    let digest = Digest::of(b"tea");
    for which in [Which::Latest, Which::Sequence(2), Which::Digest(digest)] {
        let (here, there) =
            (daemon.get("a", which).unwrap(), client.get("a", which).await.unwrap());
        assert_eq!(here, there);
        assert_eq!(here.digest(), there.digest());
    }
    assert_eq!(daemon.get("a", Which::Latest).unwrap().payload, large);
    assert_eq!(daemon.get("a", Which::Sequence(9)).unwrap_err().code, Code::NOT_FOUND);
    assert_eq!(daemon.get("a/*", Which::Latest).unwrap_err().code, Code::BAD_TOPIC);
    let (here, there) = (daemon.top("a", 2).unwrap(), client.top("a", 2).await.unwrap());
    assert_eq!(here.len(), 2);
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(
            (here.digest, here.count, here.sequence),
            (there.digest, there.count, there.sequence)
        );
        assert_eq!(here.payload, there.payload);
    }
    assert_eq!((here[0].digest, here[0].count), (digest, 2));
    assert_eq!(daemon.top("b", 1).unwrap_err().code, Code::NOT_FOUND);
}

// Epochs once came from the clock. When that was set back, a later run repeated those of an earlier
// one.
#[tokio::test]
async fn every_start_has_epochs_of_its_own_that_javascript_can_count() {
    let mut epochs = HashSet::new();
    for _ in 0..3 {
        let daemon = daemon().await;
        for topic in ["a", "b"] {
            daemon.publish(topic, "x").unwrap();
            let epoch = daemon.get(topic, Which::Latest).unwrap().epoch;
            assert!(epoch > 0 && epoch < 1 << 53, "{epoch}");
            assert!(epochs.insert(epoch));
        }
    }
    // Epochs must not depend on the time of day, which may be set back.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let near = |epoch: &&u64| epoch.abs_diff(now.as_micros() as u64) < 1_000_000_000;
    assert_eq!(epochs.iter().filter(near).count(), 0);
}

/// Creates a FIFO, which behaves as a file on a disk that does not answer: opening it blocks until
/// the other end is opened.
fn slow_file(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

// Opening a file blocked all tasks of the same thread in an earlier version.
#[tokio::test]
async fn a_file_that_opens_slowly_blocks_no_other_task() {
    let directory = tempfile::tempdir().unwrap();
    let [authority, hashes] =
        ["ca.pem", "certificate.sha256"].map(|name| directory.path().join(name));
    slow_file(&authority);
    slow_file(&hashes);
    let connect = async {
        let trust = Trust::Authority(authority.clone());
        Client::builder("127.0.0.1:9").trust(trust).connect().await.unwrap_err().to_string()
    };
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let spawn = Daemon::builder().listen(listen).state(directory.path()).spawn();
    let release = async {
        // This runs although both of the others wait.
        for path in [&authority, &hashes] {
            let path = path.clone();
            let open = move || std::fs::OpenOptions::new().write(true).open(path).unwrap();
            drop(tokio::task::spawn_blocking(open).await.unwrap());
        }
    };
    let all = Box::pin(async { tokio::join!(connect, spawn, release) });
    let (error, daemon, ()) = within(all).await;
    assert!(error.contains("ca.pem"), "{error}");
    drop(daemon.unwrap());
}

// In an earlier version a subscription that had many topics to search waited for a turn that never
// came.
#[tokio::test]
async fn a_subscription_outlives_its_daemon_and_comes_to_its_end() {
    let daemon = daemon().await;
    let topics = 3000;
    for n in 0..topics {
        daemon.publish(&format!("t/{n}"), "x").unwrap();
    }
    let mut behind = daemon.subscribe("t/*", &SubscribeOptions::from(Start::All)).unwrap();
    let mut waiting = daemon.subscribe("new", &SubscribeOptions::default()).unwrap();
    let waits = tokio::spawn(async move { waiting.next().await });
    daemon.shutdown().await;
    for _ in 0..topics {
        assert!(matches!(next(&mut behind).await, Event::Message(_)));
    }
    let stopped = |event: Option<Result<Event, Refusal>>| event.unwrap().unwrap_err().code;
    assert_eq!(stopped(within(behind.next()).await), Code::SHUTTING_DOWN);
    assert!(behind.next().await.is_none());
    assert_eq!(stopped(within(waits).await.unwrap()), Code::SHUTTING_DOWN);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_with_what_they_have_not_received_and_what_they_have_missed() {
    const MESSAGES: u64 = 3000;
    let daemon = daemon_with(Limits::default().with_cache(8 << 20)).await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        clients.push(client(&daemon, transport).await);
    }
    let list = daemon.sessions();
    assert_eq!(list.iter().map(|session| session.transport).collect::<Vec<_>>(), TRANSPORTS);
    assert!(list.is_sorted_by(|one, other| one.id < other.id && one.since <= other.since));
    assert!(list.iter().all(|session| session.address.ip().is_loopback()));
    assert!(list.iter().all(|session| session.subscriptions.is_empty()));
    let mut slow = clients[0].subscribe("a", &SubscribeOptions::default()).await.unwrap();
    let idle = clients[0].subscribe("b/*", &SubscribeOptions::default()).await.unwrap();
    // More than the cache and all buffers on the way hold.
    for n in 0..MESSAGES {
        let mut payload = vec![7; 10_000];
        payload[..8].copy_from_slice(&n.to_le_bytes());
        daemon.publish("a", payload).unwrap();
    }
    let subscriptions = |list: Vec<SessionInfo>| {
        let stats = list[0].subscriptions.iter().map(|subscription| subscription.stats.clone());
        stats.collect::<Vec<_>>()
    };
    let stats = subscriptions(daemon.sessions());
    assert_eq!(stats.iter().map(|stats| &*stats.filter).collect::<Vec<_>>(), ["a", "b/*"]);
    assert!((1000..MESSAGES).contains(&stats[0].messages) && stats[0].exact, "{stats:?}");
    assert!((4 << 20..8 << 20).contains(&stats[0].bytes), "{stats:?}");
    assert_eq!((stats[1].messages, stats[1].bytes, stats[1].exact), (0, 0, true));
    let (mut received, mut missed) = (0, 0);
    while received + missed < MESSAGES {
        match within(slow.next()).await.unwrap().unwrap() {
            Event::Gap(gap) => missed += gap.last + 1 - gap.first,
            _ => received += 1,
        }
    }
    let stats = subscriptions(daemon.sessions());
    assert_eq!((stats[0].messages, stats[0].skips.evicted), (0, missed));
    assert!(missed > 500 && stats[0].skips.total() == missed && stats[1].skips.total() == 0);
    drop((slow, idle));
    for left in (0..3).rev() {
        within(clients.remove(0).close()).await;
        within(async {
            while daemon.sessions().len() > left {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

fn shared<T: Send + Sync + std::fmt::Debug + 'static>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn handles_pass_between_tasks_and_errors_between_threads() {
    use weir::{access, client, daemon, engine, wire};
    shared::<(Daemon, daemon::Builder, daemon::Changes, daemon::LocalPeer, daemon::Metrics)>();
    shared::<(LocalSubscription, daemon::HttpAuthorize, daemon::TlsSettings, SessionInfo)>();
    shared::<(Client, client::Builder, client::PendingReceipt, client::Accepted)>();
    shared::<(client::Subscription, SubscribeOptions, Event, weir::ResumePoint)>();
    shared::<(access::AccessRules, access::Verifier, access::SigningKey, access::Identity)>();
    shared::<(engine::Engine, engine::Session, engine::TopicRules, wire::FrameReader)>();
    error::<client::ConnectError>();
    error::<client::PublishError>();
    error::<client::SubscribeError>();
    error::<client::RequestError>();
    error::<client::SessionClosed>();
    error::<daemon::SpawnError>();
    error::<daemon::SettingsError>();
    error::<daemon::BindError>();
    error::<daemon::IdentityError>();
    error::<daemon::JournalError>();
    error::<daemon::KeyFileError>();
    error::<daemon::RemoteError>();
    error::<daemon::FetchError>();
    error::<daemon::HostError>();
    error::<daemon::OriginError>();
    error::<daemon::DomainError>();
    error::<daemon::NetworkError>();
    error::<weir::CertificateError>();
    error::<weir::CertificateHashError>();
    error::<weir::TlsError>();
    error::<access::KeyError>();
    error::<access::PeerNameError>();
    error::<access::RightsError>();
    error::<access::SignError>();
    error::<access::TokenError>();
    error::<engine::TopicRuleError>();
    error::<engine::UploadError>();
    error::<wire::DecodeError>();
    error::<wire::DigestError>();
    error::<wire::FrameError>();
    error::<wire::NameError>();
    error::<Refusal>();
}

#[test]
fn tokens_and_keys_are_in_no_debug_output() {
    use weir::access::{AccessRules, Algorithm, Credentials, Expectations, SigningKey};
    use weir::wire::{ClientFrame, ProducerId};
    const SECRET: &str = "mellon-mellon-mellon-mellon-mellon";
    let producer = ProducerId([7; 16]);
    let hello = ClientFrame::Hello { version: 1, producer, token: Some(SECRET), agent: "a" };
    let token = ClientFrame::Token { request: 1, token: SECRET };
    let address = Ipv4Addr::LOCALHOST.into();
    let credentials = Credentials::from_address(address).with_token(Some(SECRET));
    let client = Client::builder("localhost").token(SECRET);
    let keys = weir::access::KeySet::from_secret(SECRET.as_bytes(), Some("id")).unwrap();
    let verifier = weir::access::Verifier::new(keys, Expectations::default());
    let shown = format!("{hello:?} {token:?} {credentials:?} {client:?} {verifier:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("version: 1") && shown.contains("request: 1"), "{shown}");
    let builder = Daemon::builder().access(AccessRules::default().tokens(verifier));
    assert!(!format!("{builder:?}").contains(SECRET));
    let key = SigningKey::generate(Algorithm::Hs256, Some("id")).unwrap();
    let jwk: serde_json::Value = serde_json::from_str(&key.private_jwk().unwrap()).unwrap();
    let secret = jwk["k"].as_str().unwrap();
    assert!(!format!("{key:?}").contains(secret));
    // A list of bytes would show it, too.
    let engine = weir::engine::Engine::new(Limits::default(), 1, [219; 32]);
    assert!(!format!("{engine:?}").contains("219, 219"));
}

#[tokio::test]
async fn two_daemons_share_nothing_and_set_nothing_for_the_process() {
    let daemons = [daemon().await, daemon().await];
    let mut clients = Vec::new();
    for daemon in &daemons {
        clients.push(client(daemon, Transport::Quic).await);
    }
    within(clients[0].publish("a", "1")).await.unwrap();
    assert_eq!(daemons[0].get("a", Which::Latest).unwrap().payload, "1");
    assert_eq!(daemons[1].get("a", Which::Latest).unwrap_err().code, Code::NOT_FOUND);
    let counts = daemons.each_ref().map(|daemon| {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(daemon.metrics()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.contains("weir_received_messages_total 1")
    });
    assert_eq!(counts, [true, false]);
    let [first, second] = daemons;
    first.shutdown().await;
    within(clients[1].publish("a", "2")).await.unwrap();
    assert_eq!(second.get("a", Which::Latest).unwrap().payload, "2");
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    assert!(!tracing::dispatcher::has_been_set());
}
