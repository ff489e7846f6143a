//! Rights of native clients with a certificate.

use super::servers::Authority;
use super::{Issuer, builder, rights};
use crate::common::within;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use weir::access::AccessRules;
use weir::client::{ConnectError, PublishError, SubscribeError};
use weir::daemon::TlsSettings;
use weir::wire::Code;
use weir::{Client, Daemon, SubscribeOptions, Transport};

fn put(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn connect(
    daemon: &Daemon,
    transport: Transport,
    own: Option<[&Path; 2]>,
    token: Option<&str>,
) -> Result<Client, ConnectError> {
    let mut builder = builder(daemon, transport);
    if let Some([certificate, key]) = own {
        builder = builder.certificate(certificate, key);
    }
    if let Some(token) = token {
        builder = builder.token(token);
    }
    within(builder.connect()).await
}

async fn publish(client: &Client, topic: &str) -> Option<Code> {
    match within(client.publish(topic, "x")).await {
        Ok(_) => None,
        Err(PublishError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

async fn subscribe(client: &Client, filter: &str) -> Option<Code> {
    match within(client.subscribe(filter, &SubscribeOptions::default())).await {
        Ok(_) => None,
        Err(SubscribeError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_gives_a_name_and_rights() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger, issuer) = (Authority::new(), Authority::new(), Issuer::new());
    let authorities = put(directory.path(), "clients.pem", &authority.pem);
    let files = |who: &str, [certificate, key]: [String; 2]| {
        let certificate = put(directory.path(), &format!("{who}.pem"), &certificate);
        (certificate, put(directory.path(), &format!("{who}.key"), &key))
    };
    let (certificate, key) = files("robot", authority.issue("robot7.example"));
    let robot = Some([&*certificate, &*key]);
    let (certificate, key) = files("stranger", stranger.issue("robot7.example"));
    let stranger = Some([&*certificate, &*key]);
    let rules = AccessRules::default()
        .tokens(issuer.verifier())
        .certificates(rights(&["sensors/**"], &[]))
        .public(rights(&[], &["public/**"]));
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let tls = TlsSettings::self_signed().with_client_authorities(&authorities);
    let daemon = Daemon::builder().listen(listen).tls(tls).access(rules).spawn().await.unwrap();

    let seven = connect(&daemon, Transport::Quic, robot, None).await.unwrap();
    let shown = daemon.sessions().into_iter().next().unwrap().certificate_name;
    assert_eq!(shown.as_deref(), Some("robot7.example"));
    assert_eq!(publish(&seven, "sensors/7").await, None);
    assert_eq!(publish(&seven, "other").await, Some(Code::FORBIDDEN));
    assert_eq!(subscribe(&seven, "sensors/7").await, Some(Code::FORBIDDEN));
    assert_eq!(subscribe(&seven, "public/**").await, None, "what everybody may");

    // A token takes precedence: its rights, and not both.
    let token = issuer.token("ann", rights(&["demo/chat"], &[]));
    let ann = connect(&daemon, Transport::Quic, robot, Some(&token)).await.unwrap();
    assert_eq!(publish(&ann, "demo/chat").await, None);
    assert_eq!(publish(&ann, "sensors/7").await, Some(Code::FORBIDDEN));
    // A certificate does not make up for a token that is wrong.
    let wrong = connect(&daemon, Transport::Quic, robot, Some("not.a.token")).await;
    assert!(matches!(wrong, Err(ConnectError::Refused { .. })), "{wrong:?}");

    // Without a certificate: what is public.
    let nobody = connect(&daemon, Transport::Quic, None, None).await.unwrap();
    assert_eq!(publish(&nobody, "sensors/7").await, Some(Code::UNAUTHORIZED));
    assert_eq!(subscribe(&nobody, "public/**").await, None);
    // Over the other transports no certificate is asked for.
    for transport in [Transport::WebTransport, Transport::WebSocket] {
        let other = connect(&daemon, transport, robot, None).await.unwrap();
        assert_eq!(publish(&other, "sensors/7").await, Some(Code::UNAUTHORIZED), "{transport}");
        assert_eq!(subscribe(&other, "public/**").await, None, "{transport}");
    }
    // The handshake of another authority's certificate fails.
    let refused = connect(&daemon, Transport::Quic, stranger, None).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    daemon.shutdown().await;
}
