//! Requests and streams of events.

use super::http::ask;
use super::{closed, rights};
use crate::common::within;
use weir::Daemon;

async fn status(
    daemon: &Daemon,
    method: &str,
    target: &str,
    authorization: Option<&str>,
) -> (u16, String) {
    let mut request = ask(daemon.http_addr().unwrap(), method, target);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    if method == "POST" {
        request = request.body("x");
    }
    let answer = within(request.send()).await;
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_need_a_token_for_what_is_not_public() {
    let (daemon, issuer) = closed().await;
    daemon.publish("secret", "x").unwrap();
    daemon.publish("public/news", "x").unwrap();
    let token = issuer.token("ann", rights(&["demo/chat"], &["demo/**"]));
    let bearer = format!("Bearer {token}");
    let lower = format!("bearer {token}");
    for (method, target, with, expected) in [
        ("POST", "/v1/topics/demo%2Fchat", Some(&bearer), 200),
        ("POST", "/v1/topics/demo%2Fchat", Some(&lower), 200),
        ("POST", "/v1/topics/demo%2Fchat", None, 401),
        ("POST", "/v1/topics/demo%2Fother", Some(&bearer), 403),
        ("GET", "/v1/topics/demo%2Fchat", Some(&bearer), 200),
        ("GET", "/v1/topics/demo%2Fchat/top", Some(&bearer), 200),
        ("GET", "/v1/topics/demo%2Fchat", None, 401),
        ("GET", "/v1/topics/demo%2Fchat/top", None, 401),
        ("GET", "/v1/topics/public%2Fnews", None, 200),
        ("GET", "/v1/topics/secret", Some(&bearer), 403),
        ("GET", "/v1/topics/none", Some(&bearer), 403),
        ("GET", "/v1/events/demo%2Fchat", None, 401),
        ("GET", "/v1/events/**", Some(&bearer), 403),
        ("GET", "/v1/events/demo%2Fchat?ticket=AAAA", Some(&bearer), 401),
        ("GET", "/", None, 200),
        ("GET", "/certificate.sha256", None, 200),
    ] {
        let with = with.map(String::as_str);
        let (status, body) = status(&daemon, method, target, with).await;
        assert_eq!(status, expected, "{method} {target} {}: {body}", with.is_some());
    }
    for wrong in ["Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer x.y.z"] {
        let (status, _) = status(&daemon, "GET", "/v1/topics/public%2Fnews", Some(wrong)).await;
        assert_eq!(status, 401, "{wrong}");
    }
    // What there is, and what there is not, are refused alike.
    let there = status(&daemon, "GET", "/v1/topics/secret", Some(&bearer)).await;
    let not = status(&daemon, "GET", "/v1/topics/none", Some(&bearer)).await;
    assert_eq!(there, not);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_have_tickets_and_end_with_the_token() {
    let (daemon, issuer) = closed().await;
    let token = issuer.short_token("ann", rights(&[], &["demo/**"]), 3);
    let (code, body) =
        status(&daemon, "POST", "/v1/tickets", Some(&format!("Bearer {token}"))).await;
    assert_eq!(code, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let ticket = body["ticket"].as_str().unwrap();
    assert_eq!(body["expires_in"], 60);
    let to = daemon.http_addr().unwrap();
    let target = format!("/v1/events/demo%2Fa?ticket={ticket}");
    let mut events = within(ask(to, "GET", &target).events()).await;
    daemon.publish("demo/a", "hello").unwrap();
    let mut last = within(events.event()).await.unwrap();
    assert!(last.json()["sequence"] == 1, "{last:?}");
    while let Some(next) = within(events.event()).await {
        last = next;
    }
    assert!(last.is("ended"), "{last:?}");
    assert_eq!(last.json()["name"], "token_expired");
    // It is good for nothing else, and not for longer than the token.
    let (code, _) = status(&daemon, "GET", &target, None).await;
    assert_eq!(code, 401);
    let (code, _) =
        status(&daemon, "GET", &format!("/v1/topics/demo%2Fa?ticket={ticket}"), None).await;
    assert!(code == 401 || code == 400, "{code}");
}

// Tickets without a token once filled the table, and pushed out those of others.
#[tokio::test(flavor = "multi_thread")]
async fn the_ticket_of_everybody_takes_no_place() {
    let (daemon, _) = closed().await;
    let take = async || {
        let (code, body) = status(&daemon, "POST", "/v1/tickets", None).await;
        assert_eq!(code, 200, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["ticket"].as_str().unwrap().to_owned()
    };
    let ticket = take().await;
    assert_eq!(ticket, take().await);
    // It is worth as much as none.
    daemon.publish("public/a", "hello").unwrap();
    let target = format!("/v1/events/public%2Fa?from=last:1&ticket={ticket}");
    let mut events = within(ask(daemon.http_addr().unwrap(), "GET", &target).events()).await;
    assert_eq!(within(events.event()).await.unwrap().json()["sequence"], 1);
    let target = format!("/v1/events/demo%2Fa?ticket={ticket}");
    assert_eq!(status(&daemon, "GET", &target, None).await.0, 401);
}
