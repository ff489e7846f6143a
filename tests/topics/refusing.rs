//! `rate`, `payload` and `public`: what may be published, and by whom.

use super::*;
use crate::common::{TRANSPORTS, client};
use bytes::Bytes;
use std::num::NonZeroU32;
use weir::access::{AccessRules, Rights};
use weir::client::{PublishError, SubscribeError};
use weir::daemon::{SettingsError, SpawnError};
use weir::engine::{Public, TopicRuleProblem};

fn code<T: std::fmt::Debug>(result: Result<T, PublishError>) -> Code {
    match result {
        Err(PublishError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_takes_so_many_messages_from_all_publishers_together() {
    // So slow that no token comes back while this runs.
    let rate = |rate| NonZeroU32::new(rate).unwrap();
    let (daemon, http) = ruled([rule("slow/*").with_rate(rate(1))]).await;
    for (n, transport) in TRANSPORTS.into_iter().enumerate() {
        let (one, other) = (client(&daemon, transport).await, client(&daemon, transport).await);
        let topic = format!("slow/{n}");
        let receipt = within(one.publish(&topic, "1")).await.unwrap();
        assert_eq!(receipt.sequence, 1);
        for large in [false, true] {
            let payload = if large { Bytes::from(vec![1; 200_000]) } else { "2".into() };
            let refused = within(other.publish(&topic, payload)).await;
            assert_eq!(code(refused), Code::RATE_LIMITED, "{transport}");
        }
        let refused = within(one.publish(&topic, "3")).await;
        let Err(PublishError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert!(refusal.reason.contains("takes 1 messages a second"), "{}", refusal.reason);
        if transport != weir::Transport::WebSocket {
            let sent = within(one.send_realtime(&topic, "4")).await.unwrap();
            assert_eq!(code(within(sent).await), Code::RATE_LIMITED);
        }
        // Other topics, and the session, go on.
        within(other.publish(&format!("other/{n}"), "1")).await.unwrap();
    }
    // Over HTTP. A repetition of what was accepted is answered.
    let post = |key: &str| {
        let ask = ask(http, "POST", "/v1/topics/slow/http").header("idempotency-key", key);
        ask.body("x")
    };
    let first = within(post("a").send()).await;
    assert_eq!((first.status, first.json()["sequence"].as_u64()), (200, Some(1)));
    let refused = within(post("b").send()).await;
    assert_eq!((refused.status, refused.json()["name"].as_str()), (429, Some("rate_limited")));
    let again = within(post("a").send()).await;
    assert_eq!((again.status, again.json()["duplicate"].as_bool()), (200, Some(true)));
    // After a while it may be published again.
    let accepted = async {
        while within(post("b").send()).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(accepted).await;
    assert!(daemon.publish("slow/http", "x").is_err(), "this call counts as the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_takes_payloads_up_to_its_own_limit() {
    let (daemon, http) =
        ruled([rule("small").with_payload(100), rule("large").with_payload(200_000)]).await;
    let payload = |size: usize| Bytes::from(vec![1; size]);
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        for (topic, most) in [("small", 100), ("large", 200_000)] {
            within(client.publish(topic, payload(most))).await.unwrap();
            let refused = within(client.publish(topic, payload(most + 1))).await;
            assert_eq!(code(refused), Code::PAYLOAD_TOO_LARGE, "{transport} {topic}");
        }
        within(client.publish("any", payload(300_000))).await.unwrap();
    }
    for (topic, size, status) in
        [("small", 100, 200), ("small", 101, 413), ("large", 200_000, 200), ("large", 200_001, 413)]
    {
        let request = ask(http, "POST", &format!("/v1/topics/{topic}")).body(payload(size));
        let answer = within(request.send()).await;
        assert_eq!(answer.status, status, "{topic} {size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_topics_need_no_token() {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let rules = [
        rule("inbox/*").with_public(Public::Publish),
        rule("news/**").with_public(Public::Subscribe),
        rule("chat").with_public(Public::Both),
        rule("other"),
    ];
    let closed = AccessRules::default().public(Rights::nothing());
    let builder = Daemon::builder().listen(listen).http(listen).access(closed);
    let daemon = builder.topic_rules(rules.clone()).spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        for (topic, publish, read) in [
            ("inbox/1", true, false),
            ("news/a/b", false, true),
            ("chat", true, true),
            ("other", false, false),
            ("none", false, false),
        ] {
            let published = within(client.publish(topic, "x")).await;
            match published {
                Ok(_) => assert!(publish, "{topic}"),
                refused => assert_eq!((publish, code(refused)), (false, Code::UNAUTHORIZED)),
            }
            let subscribed = within(client.subscribe(topic, &SubscribeOptions::default())).await;
            match subscribed {
                Ok(_) => assert!(read, "{topic}"),
                Err(SubscribeError::Refused(refusal)) => {
                    assert_eq!((read, refusal.code), (false, Code::UNAUTHORIZED));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    for (topic, status) in [("chat", 200), ("other", 401)] {
        let request = ask(http, "POST", &format!("/v1/topics/{topic}")).body("x");
        assert_eq!(within(request.send()).await.status, status);
    }
    // Where everybody may do everything, it stays so.
    let (daemon, _) = ruled(rules).await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    within(client.publish("none", "x")).await.unwrap();
}

#[tokio::test]
async fn rules_that_contradict_each_other_start_no_daemon() {
    let rules = [rule("a/secret"), rule("a/**").with_public(Public::Subscribe)];
    let spawned = Daemon::builder().topic_rules(rules).spawn().await;
    let Err(SpawnError::Settings(SettingsError::TopicRules(error))) = spawned else {
        panic!("{spawned:?}")
    };
    assert_eq!((error.index, error.problem), (1, TopicRuleProblem::Public("a/secret".into())));
}
