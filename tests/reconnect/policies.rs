//! The policy: never, giving up, waiting for the first session. The states of a client.

use crate::common::{TRANSPORTS, daemon, within};
use crate::link::{Link, Mode};
use crate::{linked, over, soon};
use std::net::Ipv4Addr;
use std::time::Duration;
use weir::client::{ConnectError, PublishError, Reconnect, RequestError, State, SubscribeError};
use weir::{Client, Daemon, SubscribeOptions, Transport, Trust};

#[tokio::test]
async fn without_a_policy_the_end_of_the_session_is_an_error() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let link = Link::start(daemon.local_addr()).await;
        let builder = over(&link, &daemon, transport).reconnect(Reconnect::never());
        let client = within(builder.connect()).await.unwrap();
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe("t/*", &options).await.unwrap();
        link.set(Mode::Mute);
        let pending = client.send("t/a", "x").await.unwrap();
        link.cut(&client).await;
        link.set(Mode::Pass);
        match within(subscription.next()).await {
            Some(Err(SubscribeError::Closed(closed))) => assert!(closed.retry, "{closed}"),
            other => panic!("{other:?}"),
        }
        assert!(within(subscription.next()).await.is_none());
        assert!(matches!(within(pending).await, Err(PublishError::Closed(_))));
        assert!(matches!(client.publish("t/a", "x").await, Err(PublishError::Closed(_))));
        assert!(matches!(client.ping().await, Err(RequestError::Closed(_))));
        let closed = within(client.closed()).await;
        assert_eq!(client.state(), State::Closed { why: closed });
        assert!(client.open().await.is_err());
        within(client.close()).await;
    }
}

#[tokio::test]
async fn a_client_gives_up_after_the_time_of_its_policy() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let link = Link::start(daemon.local_addr()).await;
        let policy = soon().give_up_after(Duration::from_millis(200));
        let builder = over(&link, &daemon, transport).reconnect(policy);
        let client = within(builder.connect()).await.unwrap();
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe("t/*", &options).await.unwrap();
        link.cut(&client).await;
        crate::interruption(&mut subscription).await;
        let pending = client.send("t/a", "x").await;
        let closed = within(client.closed()).await;
        assert!(closed.reason.contains("given up after 0.2 s"), "{closed}");
        match within(subscription.next()).await {
            Some(Err(SubscribeError::Closed(why))) => assert_eq!(why, closed),
            other => panic!("{other:?}"),
        }
        if let Ok(pending) = pending {
            assert_eq!(within(pending).await, Err(PublishError::Closed(closed)));
        }
    }
}

#[tokio::test]
async fn the_states_tell_of_each_change() {
    let daemon = daemon().await;
    let (link, client) = linked(&daemon, Transport::WebSocket).await;
    let mut states = client.watch_state();
    assert!(matches!(client.state(), State::Open { attempts: 0, away: Duration::ZERO, .. }));
    link.cut(&client).await;
    // The attempts are numbered, and the reason is that of the attempt before.
    let third = |state: &State| matches!(state, State::Reconnecting { attempt: 3, .. });
    match within(states.wait_for(third)).await.unwrap().clone() {
        State::Reconnecting { pause, why, .. } => {
            assert!(pause <= Duration::from_millis(50), "{pause:?}");
            assert!(why.retry && !why.reason.is_empty(), "{why}");
        }
        other => panic!("{other:?}"),
    }
    link.set(Mode::Pass);
    let open = |state: &State| matches!(state, State::Open { .. });
    match within(states.wait_for(open)).await.unwrap().clone() {
        State::Open { attempts, away, .. } => assert!(attempts >= 3 && away > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    drop(client);
    let closed = |state: &State| matches!(state, State::Closed { .. });
    match within(states.wait_for(closed)).await.unwrap().clone() {
        State::Closed { why } => assert!(!why.retry && why.reason.contains("this client"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_is_closed_while_away_does_not_come_back() {
    let daemon = daemon().await;
    let (link, client) = linked(&daemon, Transport::WebSocket).await;
    let options = SubscribeOptions::default();
    let mut subscription = client.subscribe("t/*", &options).await.unwrap();
    link.cut(&client).await;
    crate::interruption(&mut subscription).await;
    within(client.close()).await;
    link.set(Mode::Pass);
    assert!(matches!(within(subscription.next()).await, Some(Err(SubscribeError::Closed(_)))));
}

#[tokio::test]
async fn connect_waits_for_a_daemon_that_does_not_run_yet() {
    for transport in TRANSPORTS {
        let state = tempfile::tempdir().unwrap();
        let listen = |port| Daemon::builder().listen((Ipv4Addr::LOCALHOST, port).into());
        let daemon = listen(0).state(state.path()).spawn().await.unwrap();
        let address = daemon.local_addr();
        let trust = Trust::Pinned(daemon.certificate_hash().into());
        within(daemon.shutdown()).await;
        let builder = Client::builder(address.to_string()).transport(transport).trust(trust);
        let builder = builder.reconnect(soon());
        let error = within(builder.clone().connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotRunning { .. }), "{transport}: {error}");
        // For ever, or as long as the policy says.
        let short = builder.clone().reconnect(soon().give_up_after(Duration::from_millis(50)));
        let error = within(short.wait(true).connect()).await.unwrap_err();
        assert!(error.to_string().contains("given up after 0."), "{transport}: {error}");
        let starting = async {
            tokio::task::yield_now().await;
            listen(address.port()).state(state.path()).spawn().await.unwrap()
        };
        let (client, _daemon) = tokio::join!(within(builder.wait(true).connect()), starting);
        within(client.unwrap().ping()).await.unwrap();
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_waited_for() {
    let daemon = daemon().await;
    let wrong = weir::CertificateHash([7; 32]);
    let builder = Client::builder(daemon.local_addr().to_string()).wait(true);
    let error = within(builder.trust(Trust::Pinned(wrong.into())).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error}");
    let error = within(Client::builder("a:b").wait(true).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Address { .. }), "{error}");
}
