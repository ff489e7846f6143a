//! Who may do what, on every face: tokens and their keys, public filters, certificates, the end of a
//! token's time, and programs that decide themselves.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod back_end;
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod failures;
#[path = "../common/http.rs"]
mod http;
mod key_file;
mod key_server;
mod local;
mod over_http;
mod rates;
#[path = "../common/raw.rs"]
mod raw;
mod reloading;
mod servers;
mod sessions;

use common::within;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};
use weir::access::{
    AccessRules, Algorithm, Expectations, Identity, KeySet, Rights, SigningKey, Verifier,
};
use weir::client::{ConnectError, Reconnect};
use weir::wire::Filter;
use weir::{Client, Daemon, Transport, Trust};

/// A key, and who has signed tokens with it.
struct Issuer(SigningKey);

fn rights(publish: &[&str], subscribe: &[&str]) -> Rights {
    let filters =
        |list: &[&str]| list.iter().map(|text| Filter::new(text).unwrap()).collect::<Vec<_>>();
    Rights::new(filters(publish), filters(subscribe)).unwrap()
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

impl Issuer {
    fn new() -> Self {
        Self(SigningKey::generate(Algorithm::EdDsa, None).unwrap())
    }

    fn verifier(&self) -> Verifier {
        let keys = KeySet::parse(self.0.public_jwks().unwrap().as_bytes()).unwrap();
        Verifier::new(keys, Expectations::default().with_leeway(Duration::ZERO))
    }

    fn sign(&self, identity: &Identity) -> String {
        self.0.sign(identity, None, None, now()).unwrap()
    }

    /// A token for an hour.
    fn token(&self, name: &str, rights: Rights) -> String {
        let identity = Identity::named(name, rights).unwrap();
        self.sign(&identity.with_expires(now() + 3_600_000_000))
    }

    /// One whose time ends in so many seconds, at most one less.
    fn short_token(&self, name: &str, rights: Rights, seconds: u64) -> String {
        let identity = Identity::named(name, rights).unwrap();
        self.sign(&identity.with_expires(now() + seconds * 1_000_000))
    }
}

async fn daemon(rules: AccessRules) -> Daemon {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let builder = Daemon::builder().listen(listen).http(listen).access(rules);
    builder.spawn().await.unwrap()
}

/// A daemon that accepts the tokens of an issuer. Everybody may read `public/**`.
async fn closed() -> (Daemon, Arc<Issuer>) {
    let issuer = Arc::new(Issuer::new());
    let rules =
        AccessRules::default().tokens(issuer.verifier()).public(rights(&[], &["public/**"]));
    (daemon(rules).await, issuer)
}

fn builder(daemon: &Daemon, transport: Transport) -> weir::client::Builder {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string());
    builder.transport(transport).trust(trust).reconnect(Reconnect::never())
}

async fn client(
    daemon: &Daemon,
    transport: Transport,
    token: Option<String>,
) -> Result<Client, ConnectError> {
    let builder = builder(daemon, transport);
    let builder = match token {
        Some(token) => builder.token(token),
        None => builder,
    };
    within(builder.connect()).await
}
