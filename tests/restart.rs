//! A daemon that ends without a word, as if it was killed, and the one after it.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::within;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use weir::{Daemon, SubscribeOptions, Transport};

/// A daemon on threads of its own.
struct Killable {
    runtime: Runtime,
    daemon: Daemon,
}

impl Killable {
    async fn start(listen: SocketAddr, state: &Path) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let starting = Daemon::builder().listen(listen).state(state).spawn();
        let daemon = runtime.spawn(starting).await.unwrap().unwrap();
        Self { runtime, daemon }
    }

    /// Ends it: nothing that it has not sent is sent, and its port is free.
    async fn kill(self) {
        let Self { runtime, daemon } = self;
        let gone = move || runtime.shutdown_timeout(common::PATIENCE);
        tokio::task::spawn_blocking(gone).await.unwrap();
        drop(daemon);
    }
}

/// Returns why a client's session ended, after a daemon was killed and another was started there.
async fn end_of_session(transport: Transport, state: &Path) -> String {
    let daemon = Killable::start((Ipv4Addr::LOCALHOST, 0).into(), state).await;
    let address = daemon.daemon.local_addr();
    let client = common::client(&daemon.daemon, transport).await;
    let _subscription = client.subscribe("a", &SubscribeOptions::default()).await.unwrap();
    within(client.publish("a", "x")).await.unwrap();
    daemon.kill().await;
    let after = Killable::start(address, state).await;
    let begun = Instant::now();
    let ((), closed) = tokio::join!(
        async {
            // It has no receipt, whatever becomes of it.
            let _ = within(client.publish("a", "y")).await;
        },
        within(client.closed()),
    );
    println!("{transport:?}: {} after {:?}", closed.reason, begun.elapsed());
    after.kill().await;
    closed.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_killed_daemon_learn_from_the_next_one_that_their_session_is_gone() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let state = tempfile::tempdir().unwrap();
        let reason = end_of_session(transport, state.path()).await;
        assert!(reason.contains("reset by peer"), "{transport:?}: {reason}");
    }
}
