//! The rate of a token, whatever its peer does around it.

use super::{closed, now, rights};
use crate::common::within;
use crate::raw::{Raw, encoded};
use weir::access::{Identity, IdentityLimits};
use weir::wire::{self, ClientFrame, Code, DaemonFrame, ProducerId};

const PUBLICATIONS: u64 = 200;

/// Publishes in one go with what is sent before. Returns how many were accepted, and how many refused
/// because of the rate.
async fn publish_after(raw: &mut Raw, first: ClientFrame<'_>, from: u64) -> (u64, u64) {
    let mut frames = vec![first, ClientFrame::Topic { alias: 1, name: "a" }];
    frames.extend((from..from + PUBLICATIONS).map(|number| ClientFrame::Publish {
        alias: 1,
        number,
        stamp: 0,
        payload: b"x",
    }));
    within(raw.tx.write_all(&encoded(&frames))).await.unwrap();
    let (mut accepted, mut refused) = (0, 0);
    while accepted + refused < PUBLICATIONS {
        match DaemonFrame::decode(&raw.frame().await).unwrap() {
            DaemonFrame::Receipt { .. } => accepted += 1,
            DaemonFrame::Rejected { code: Code::RATE_LIMITED, .. } => refused += 1,
            DaemonFrame::Welcome { .. } | DaemonFrame::Authorized { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (accepted, refused)
}

// What came together with a token was not counted against it: a peer that reconnected for each batch, or
// showed the token again, published as fast as it could.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_a_token_counts_against_it() {
    let (daemon, issuer) = closed().await;
    let mut limits = IdentityLimits::default();
    limits.messages_per_second = Some(1);
    for (name, later) in [("ann", false), ("bob", true)] {
        let identity = Identity::named(name, rights(&["a"], &["a"])).unwrap();
        let identity = identity.with_limits(limits).with_expires(now() + 3_600_000_000);
        let token = issuer.sign(&identity);
        let mut all = (0, 0);
        for session in 0..4 {
            let mut raw = Raw::connect(&daemon).await;
            let first = if later {
                raw = raw.greet().await;
                ClientFrame::Token { request: 1, token: &token }
            } else {
                ClientFrame::Hello {
                    version: wire::VERSION,
                    producer: ProducerId([7; 16]),
                    token: Some(&token),
                    agent: "test",
                }
            };
            let (accepted, refused) =
                publish_after(&mut raw, first, 1 + PUBLICATIONS * session).await;
            all = (all.0 + accepted, all.1 + refused);
        }
        // The first batch, and one more should this take 5 s.
        assert!(all.0 <= 2 * PUBLICATIONS && all.1 >= 2 * PUBLICATIONS, "{name}: {all:?}");
    }
}
