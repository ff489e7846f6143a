//! Daemons that stop and start again on the same port and with the same certificate. Today such a
//! daemon begins with an empty cache and new epochs.

use crate::common::{TRANSPORTS, message, within};
use crate::{back, interruption, soon};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use weir::wire::Code;
use weir::{Client, Daemon, Start, SubscribeOptions, Trust};

async fn daemon(state: &Path, port: u16) -> Daemon {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    within(Daemon::builder().listen(listen).state(state).spawn()).await.unwrap()
}

#[tokio::test]
async fn a_client_continues_with_the_next_daemon() {
    for transport in TRANSPORTS {
        let state = tempfile::tempdir().unwrap();
        let first = daemon(state.path(), 0).await;
        let address = first.local_addr();
        let trust = Trust::Pinned(first.certificate_hash().into());
        let builder = Client::builder(address.to_string()).transport(transport).trust(trust);
        let client = within(builder.reconnect(soon()).connect()).await.unwrap();
        let options = SubscribeOptions::from(Start::New);
        let mut subscription = client.subscribe("t/*", &options).await.unwrap();
        first.publish("t/a", "1").unwrap();
        let before = message(&mut subscription).await;
        within(first.shutdown()).await;
        let interruption = interruption(&mut subscription).await;
        assert_eq!(interruption.code, Some(Code::SHUTTING_DOWN), "{transport}");
        // Published while there is no daemon.
        let pending = client.send("t/b", "2").await.unwrap();
        let second = daemon(state.path(), address.port()).await;
        assert_eq!(within(pending).await.unwrap().sequence, 1);
        back(&client).await;
        let after = message(&mut subscription).await;
        assert_eq!((&*after.topic, after.sequence, &after.payload[..]), ("t/b", 1, &b"2"[..]));
        second.publish("t/a", "3").unwrap();
        let again = message(&mut subscription).await;
        assert_eq!((&*again.topic, again.sequence), ("t/a", 1));
        assert_ne!(again.epoch, before.epoch);
        within(client.close()).await;
    }
}
