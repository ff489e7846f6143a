//! Certificates of native clients: verified when they are offered over raw QUIC, and asked of nobody
//! else.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::within;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{PrivateKeyDer, ServerName, pem::PemObject};
use rustls::sign::CertifiedKey;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use weir::client::{ConnectError, Reconnect};
use weir::daemon::TlsSettings;
use weir::{Client, Daemon, Transport, Trust};

/// An authority, and what it has issued.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Robots");
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// Issues a certificate that is valid until so many days from now.
    fn issue(&self, name: &str, days: i64) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "not the name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

async fn daemon(authorities: &Path) -> Daemon {
    let settings = TlsSettings::self_signed().with_client_authorities(authorities);
    Daemon::builder().listen((Ipv4Addr::LOCALHOST, 0).into()).tls(settings).spawn().await.unwrap()
}

async fn connect(
    daemon: &Daemon,
    transport: Transport,
    own: Option<[&Path; 2]>,
) -> Result<Client, ConnectError> {
    let builder = Client::builder(daemon.local_addr().to_string())
        .transport(transport)
        .trust(Trust::Pinned(daemon.certificate_hash().into()))
        .reconnect(Reconnect::never());
    let builder = match own {
        Some([certificate, key]) => builder.certificate(certificate, key),
        None => builder,
    };
    within(builder.connect()).await
}

fn names(daemon: &Daemon) -> Vec<Option<String>> {
    daemon.sessions().into_iter().map(|session| session.certificate_name).collect()
}

#[tokio::test]
async fn a_native_client_has_the_name_of_its_certificate() {
    let (place, authority) = (Place::new(), Authority::new());
    let authorities = place.put("clients.pem", &authority.pem);
    let [certificate, key] = authority.issue("robot7.example", 1);
    let (certificate, key) = (place.put("c.pem", &certificate), place.put("k.pem", &key));
    let own = Some([&*certificate, &*key]);
    let daemon = daemon(&authorities).await;
    let mut clients = Vec::new();
    let expected = [Some("robot7.example"), None, None].map(|name| name.map(str::to_owned));
    for transport in common::TRANSPORTS {
        clients.push(connect(&daemon, transport, own).await.unwrap());
    }
    assert_eq!(names(&daemon), expected);
    // Nobody needs one.
    let without = connect(&daemon, Transport::Quic, None).await.unwrap();
    within(without.publish("demo/a", "hello")).await.unwrap();
    assert_eq!(names(&daemon).last().unwrap(), &None);
    daemon.shutdown().await;
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused() {
    let (place, authority, stranger) = (Place::new(), Authority::new(), Authority::new());
    let daemon = daemon(&place.put("clients.pem", &authority.pem)).await;
    let cases = [
        ("a stranger's", stranger.issue("robot7.example", 1)),
        ("expired", authority.issue("robot7.example", -1)),
    ];
    for (what, [certificate, key]) in cases {
        let paths = [place.put("c.pem", &certificate), place.put("k.pem", &key)];
        let refused = connect(&daemon, Transport::Quic, Some([&paths[0], &paths[1]])).await;
        let refused = refused.map(|_| ()).unwrap_err().to_string();
        println!("{what}: {refused}");
        assert!(refused.contains("certificate"), "{what}: {refused}");
    }
    assert!(daemon.sessions().is_empty());
    daemon.shutdown().await;
}

#[tokio::test]
async fn a_clients_own_files_are_checked_and_named() {
    let (place, authority) = (Place::new(), Authority::new());
    let daemon = daemon(&place.put("clients.pem", &authority.pem)).await;
    let [certificate, key] = authority.issue("robot7.example", 1);
    let paths = [place.put("c.pem", &certificate), place.put("k.pem", &key)];
    fs::set_permissions(&paths[1], fs::Permissions::from_mode(0o644)).unwrap();
    let error = connect(&daemon, Transport::Quic, Some([&paths[0], &paths[1]])).await;
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with(paths[1].to_str().unwrap()) && error.contains("0644"), "{error}");
    daemon.shutdown().await;
}

/// Shows a certificate, and notes whether it was asked for one.
#[derive(Debug)]
struct Asked(Arc<CertifiedKey>, AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.1.store(true, Ordering::Relaxed);
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn asked(pem: &[String; 2]) -> Arc<Asked> {
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(pem[0].as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pem[1].as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain.map(Result::unwrap).collect(), key, &provider);
    Arc::new(Asked(Arc::new(certified.unwrap()), AtomicBool::new(false)))
}

#[tokio::test]
async fn browsers_are_not_asked() {
    let (place, authority) = (Place::new(), Authority::new());
    let daemon = daemon(&place.put("clients.pem", &authority.pem)).await;
    let pem = authority.issue("robot7.example", 1);
    // One after the other, and back again: what one handshake has left does not decide the next.
    for (protocol, expected) in
        [("h3", false), ("weir/1", true), ("h3", false), ("h2", false), ("http/1.1", false)]
    {
        let resolver = asked(&pem);
        let mut tls = common::tls(protocol.as_bytes());
        tls.client_auth_cert_resolver = resolver.clone();
        if protocol.starts_with("h2") || protocol.starts_with("http") {
            let tcp = tokio::net::TcpStream::connect(daemon.local_addr()).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let name = ServerName::try_from("localhost").unwrap();
            within(connector.connect(name, tcp)).await.unwrap();
        } else {
            let crypto = QuicClientConfig::try_from(tls).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(crypto));
            let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let connecting = endpoint.connect_with(config, daemon.local_addr(), "localhost");
            within(connecting.unwrap()).await.unwrap();
        }
        assert_eq!(resolver.1.load(Ordering::Relaxed), expected, "{protocol}");
    }
    daemon.shutdown().await;
}

#[tokio::test]
async fn what_an_authority_vouched_for_ends_with_the_authority() {
    let (place, authority) = (Place::new(), Authority::new());
    let authorities = place.put("clients.pem", &authority.pem);
    let daemon = daemon(&authorities).await;
    let mut tls = common::tls(b"weir/1");
    tls.client_auth_cert_resolver = asked(&authority.issue("robot7.example", 1));
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    // The same settings for all, so that a session could be resumed.
    let connect = || async {
        let config = quinn::ClientConfig::new(crypto.clone());
        let connecting = endpoint.connect_with(config, daemon.local_addr(), "localhost");
        let connection = within(connecting.unwrap()).await?;
        // The daemon refuses the certificate when the client has finished already.
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"\x01\x00").await.unwrap();
        let answered = within(receive.read_chunk(1, true)).await;
        let refused = connection.close_reason().map(|reason| reason.to_string());
        drop(answered);
        Ok::<_, quinn::ConnectionError>(refused.filter(|reason| reason.contains("ertificate")))
    };
    for _ in 0..2 {
        assert_eq!(connect().await.unwrap(), None);
    }
    fs::write(&authorities, Authority::new().pem).unwrap();
    assert_eq!(daemon.reload_certificates().await.unwrap().files, [authorities]);
    let refused = connect().await.unwrap().expect("the certificate is refused");
    println!("{refused}");
    daemon.shutdown().await;
}
