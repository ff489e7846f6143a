//! Certificates that change under traffic: open sessions go on, and new ones see the new one.

use super::{LOOPBACK, PATIENCE, within};
use crate::client::{Client, ConnectError, Reconnect, State, Subscription};
use crate::daemon::{Daemon, TlsSettings};
use crate::tls::self_signed;
use crate::{CertificateHash, Event, SubscribeOptions, Transport, Trust};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::WebTransport, Transport::WebSocket];

/// Publications of a test, and their interval: 3 s at 100 Hz.
const COUNT: u64 = 300;
const PERIOD: Duration = Duration::from_millis(10);

async fn connect(
    daemon: &Daemon,
    transport: Transport,
    hash: CertificateHash,
) -> Result<Client, ConnectError> {
    let builder = Client::builder(daemon.local_addr().to_string());
    let builder = builder.transport(transport).trust(Trust::Pinned(hash.into()));
    within(builder.reconnect(Reconnect::never()).connect()).await
}

/// A publisher at 100 Hz, and a subscriber over each transport.
struct Traffic {
    publisher: JoinHandle<()>,
    subscribers: Vec<JoinHandle<()>>,
}

impl Traffic {
    async fn start(daemon: &Daemon) -> Self {
        let hash = daemon.certificate_hash();
        let mut subscribers = Vec::new();
        for transport in TRANSPORTS {
            let client = connect(daemon, transport, hash).await.unwrap();
            let options = SubscribeOptions::default();
            let subscription = within(client.subscribe("traffic/a", &options)).await.unwrap();
            subscribers.push(tokio::spawn(all_of(client, subscription)));
        }
        let client = connect(daemon, Transport::Quic, hash).await.unwrap();
        let publisher = tokio::spawn(async move {
            let mut ticks = interval(PERIOD);
            for n in 1..=COUNT {
                ticks.tick().await;
                let receipt = within(client.publish("traffic/a", n.to_string())).await.unwrap();
                assert_eq!(receipt.sequence, n);
            }
            assert!(matches!(client.state(), State::Open { .. }));
        });
        Self { publisher, subscribers }
    }

    async fn finish(self) {
        assert!(!self.publisher.is_finished(), "the changes came under traffic");
        within(self.publisher).await.unwrap();
        for subscriber in self.subscribers {
            within(subscriber).await.unwrap();
        }
    }
}

// Each message once, in order, and nothing else: no gap, and no interruption.
async fn all_of(client: Client, mut subscription: Subscription) {
    for n in 1..=COUNT {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                assert_eq!(message.sequence, n);
                assert_eq!(message.payload, n.to_string());
            }
            other => panic!("{other:?} over {}", client.transport()),
        }
    }
    assert!(matches!(client.state(), State::Open { .. }));
}

/// Checks that new sessions see this certificate, and no longer the one before, over each transport.
async fn presents(daemon: &Daemon, hash: CertificateHash, before: CertificateHash) {
    for transport in TRANSPORTS {
        let client = connect(daemon, transport, hash).await;
        within(client.unwrap().ping()).await.unwrap();
        let refused = connect(daemon, transport, before).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Certificate { .. }), "{transport}: {refused}");
    }
}

/// A pair of files, which a tool renews.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.put();
        this
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["certificate.pem", "key.pem"].map(|name| self.0.path().join(name))
    }

    fn settings(&self) -> TlsSettings {
        let [certificate, key] = self.paths();
        TlsSettings::files(certificate, key).with_check(Duration::from_millis(20))
    }

    // As certbot does: each file is replaced by a rename.
    fn put(&self) {
        let (now, valid) = (OffsetDateTime::now_utc(), time::Duration::days(13));
        let pem = self_signed::make(&["localhost".into()], "a", now, valid).unwrap();
        for (path, text) in self.paths().iter().zip(&pem) {
            replace(path, text);
        }
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, path).unwrap();
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let patience = async {
        while !done() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, patience).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_files_changes_under_traffic() {
    let files = Files::new();
    let daemon = Daemon::builder().listen(LOOPBACK).tls(files.settings()).spawn().await.unwrap();
    let first = daemon.certificate_hash();
    assert_eq!(daemon.certificate_hashes(), first.into());
    let traffic = Traffic::start(&daemon).await;

    // By itself, because the files have changed.
    files.put();
    until("the change is not noticed", || daemon.certificate_hash() != first).await;
    let second = daemon.certificate_hash();
    presents(&daemon, second, first).await;

    // At a request, and a broken pair is refused meanwhile.
    replace(&files.paths()[1], "no key");
    daemon.reload_certificates().await.unwrap_err();
    assert_eq!(daemon.certificate_hash(), second);
    files.put();
    let reloaded = daemon.reload_certificates().await.unwrap();
    assert_eq!(reloaded.files, &files.paths()[..1]);
    presents(&daemon, daemon.certificate_hash(), second).await;
    traffic.finish().await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_changes_under_traffic() {
    let told = tempfile::tempdir().unwrap();
    let daemon = Daemon::builder().listen(LOOPBACK).announce(told.path()).spawn().await.unwrap();
    let (first, hashes) = (daemon.certificate_hash(), daemon.certificate_hashes());
    let traffic = Traffic::start(&daemon).await;
    daemon.certificates.renew_at(OffsetDateTime::now_utc() + time::Duration::days(10));
    let second = daemon.certificate_hash();
    assert_ne!(second, first);
    assert!(hashes.iter().any(|hash| *hash == second), "it was known before");
    presents(&daemon, second, first).await;
    let told = fs::read_to_string(told.path().join(crate::state::HASH)).unwrap();
    assert_eq!(told.parse(), Ok(daemon.certificate_hashes()));
    let nothing = daemon.reload_certificates().await.unwrap();
    assert!(nothing.files.is_empty());
    traffic.finish().await;
    daemon.shutdown().await;
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_stops_the_start_and_is_named() {
    let files = Files::new();
    let [certificate, key] = files.paths();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
    let start = || Daemon::builder().listen(LOOPBACK).tls(files.settings()).spawn();
    let error = start().await.unwrap_err().to_string();
    assert!(error.starts_with(key.to_str().unwrap()) && error.contains("0604"), "{error}");
    fs::remove_file(&certificate).unwrap();
    let error = start().await.unwrap_err().to_string();
    assert!(error.starts_with(certificate.to_str().unwrap()), "{error}");
}
