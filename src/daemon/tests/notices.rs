//! A daemon that accepts publications without keeping them tells its sessions.

use super::{LOOPBACK, client, within};
use crate::daemon::JournalOptions;
use crate::wire::Code;
use crate::{Daemon, Transport};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_told_when_publications_are_not_kept_and_when_they_are_again() {
    let state = tempfile::tempdir().unwrap();
    let builder = Daemon::builder().listen(LOOPBACK).http(LOOPBACK).state(state.path());
    let daemon = builder.journal(JournalOptions::default()).spawn().await.unwrap();
    let unkept = |unkept| daemon.broker.journal().unwrap().set_unkept(unkept);
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        let before = client(&daemon, transport).await;
        assert_eq!(before.notice(), None);
        let mut notices = before.watch_notice();
        unkept(true);
        within(notices.wait_for(Option::is_some)).await.unwrap();
        // One that connects while the state lasts is told too.
        let later = client(&daemon, transport).await;
        within(later.watch_notice().wait_for(Option::is_some)).await.unwrap();
        for client in [&before, &later] {
            assert_eq!(client.notice().map(|notice| notice.code), Some(Code::UNKEPT));
        }
        unkept(false);
        for client in [before, later] {
            within(client.watch_notice().wait_for(Option::is_none)).await.unwrap();
            client.close().await;
        }
    }
    within(daemon.shutdown()).await;
}
