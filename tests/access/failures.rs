//! Floods of tokens that are refused: an address may try some in a second, and no more.

use super::http::ask;
use super::{Issuer, builder, rights};
use crate::common::{PATIENCE, TRANSPORTS, within};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use weir::access::{AccessRules, Identity, Rights};
use weir::client::ConnectError;
use weir::daemon::{Limit, PeerLimits};
use weir::wire::Code;
use weir::{Daemon, Transport};

/// A daemon for which loopback addresses are like any other. One of them may fail ten times at once,
/// and then once in a second.
async fn daemon(issuer: &Issuer) -> Daemon {
    let mut limits = PeerLimits::default();
    limits.exempt.clear();
    limits.failures_per_address = 1;
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let rules = AccessRules::default().tokens(issuer.verifier());
    let builder = Daemon::builder().listen(listen).http(listen).peers(limits).access(rules);
    builder.spawn().await.unwrap()
}

fn bad(n: usize) -> String {
    let identity = Identity::named(&format!("mallory {n}"), Rights::everything()).unwrap();
    Issuer::new().sign(&identity.with_expires(super::now() + 3_600_000_000))
}

async fn session(daemon: &Daemon, transport: Transport, token: &str) -> Option<Code> {
    match within(builder(daemon, transport).token(token).connect()).await {
        Ok(_) => None,
        Err(ConnectError::Refused { refusal, .. }) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

async fn status(daemon: &Daemon, token: &str) -> u16 {
    let request = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a");
    within(request.header("authorization", format!("Bearer {token}")).send()).await.status
}

/// The most that may have been verified since then, and the least.
fn verified(since: Instant) -> std::ops::RangeInclusive<usize> {
    10..=12 + since.elapsed().as_secs() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_tokens_is_not_verified_over_http() {
    let issuer = Issuer::new();
    let daemon = daemon(&issuer).await;
    let good = issuer.token("ann", rights(&["a"], &["a"]));
    assert_eq!(status(&daemon, &good).await, 404, "there is nothing, and it may know");
    let begun = Instant::now();
    let mut counts = [0; 2];
    for n in 0..300 {
        match status(&daemon, &bad(n)).await {
            401 => counts[0] += 1,
            429 => counts[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(verified(begun).contains(&counts[0]), "{counts:?} {:?}", begun.elapsed());
    let counted = daemon.limit_counts().get(Limit::FailuresPerAddress);
    assert_eq!(counted, counts[1] as u64);
    // Without a token there is nothing to verify.
    drop(within(builder(&daemon, Transport::Quic).connect()).await.unwrap());
    // A token that was verified before is known.
    assert_eq!(status(&daemon, &good).await, 404);
    // The same address, over another face.
    let other = issuer.token("bob", rights(&["a"], &["a"]));
    assert_eq!(session(&daemon, Transport::Quic, &other).await, Some(Code::RATE_LIMITED));
    assert!(Code::RATE_LIMITED.retry());
    while session(&daemon, Transport::Quic, &other).await.is_some() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// A signature that is valid takes as long to verify, and everybody who has had a token has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_token_that_has_expired_is_not_verified_either() {
    let issuer = Issuer::new();
    let daemon = daemon(&issuer).await;
    let ann = Identity::named("ann", rights(&["a"], &["a"])).unwrap();
    let expired = issuer.sign(&ann.with_expires(super::now() - 1_000_000));
    let begun = Instant::now();
    let mut counts = [0; 2];
    for _ in 0..100 {
        match status(&daemon, &expired).await {
            401 => counts[0] += 1,
            429 => counts[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(verified(begun).contains(&counts[0]), "{counts:?} {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_in_sessions() {
    for transport in TRANSPORTS {
        let issuer = Issuer::new();
        let daemon = daemon(&issuer).await;
        let good = issuer.token("ann", rights(&["a"], &["a"]));
        let open = within(builder(&daemon, transport).token(good).connect()).await.unwrap();
        let begun = Instant::now();
        let mut counts = [0; 2];
        for n in 0..30 {
            match session(&daemon, transport, &bad(n)).await {
                Some(Code::UNAUTHORIZED) => counts[0] += 1,
                Some(Code::RATE_LIMITED) => counts[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(verified(begun).contains(&counts[0]), "{transport}: {counts:?}");
        assert!(counts[1] > 0, "{transport}: {counts:?}");
        // Sessions that are open are not concerned.
        within(open.publish("a", "x")).await.unwrap();
        assert_eq!(status(&daemon, &bad(0)).await, 429, "{transport}: the same address over HTTP");
    }
}
