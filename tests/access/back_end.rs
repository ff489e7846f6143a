//! A back end that is asked over HTTP who a peer is.

use super::http::ask;
use super::servers::{Authority, Server};
use super::{builder, client, daemon};
use crate::common::{TRANSPORTS, within};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weir::access::{AccessRules, Authorize as _, Credentials, Remote};
use weir::client::{ConnectError, PublishError, Reconnect};
use weir::daemon::HttpAuthorize;
use weir::wire::{Code, Refusal};
use weir::{Client, Daemon, Transport};

fn remote(server: &Server) -> Remote {
    Remote::new(format!("http://{}/weir", server.address))
}

fn refusal(result: Result<Client, ConnectError>) -> Option<Refusal> {
    match result {
        Ok(_) => None,
        Err(ConnectError::Refused { refusal, .. }) => Some(refusal),
        Err(other) => panic!("{other}"),
    }
}

async fn show(daemon: &Daemon, token: &str) -> Option<Refusal> {
    refusal(client(daemon, Transport::Quic, Some(token.to_owned())).await)
}

const ADA: &str = r#"{"name": "ada", "publish": ["demo/chat"], "subscribe": ["demo/**"],
    "limits": {"sessions": 1}, "expires_in": 3600}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_decides_for_every_face() {
    let server = Server::plain(|question| {
        let answer = match question["token"].as_str() {
            Some("opaque-ada") => (200, "", ADA.to_owned()),
            Some("forbidden") => (403, "", r#"{"reason": "your account is closed"}"#.to_owned()),
            Some(_) => (401, "", String::new()),
            None => (200, "", r#"{"subscribe": ["public/**"]}"#.to_owned()),
        };
        Some(answer)
    })
    .await;
    let rules = AccessRules::default().back_end(remote(&server));
    assert!(!rules.is_open());
    let daemon = daemon(rules).await;
    for transport in TRANSPORTS {
        let ada = client(&daemon, transport, Some("opaque-ada".into())).await.unwrap();
        within(ada.publish("demo/chat", "hi")).await.unwrap();
        match within(ada.publish("demo/other", "hi")).await {
            Err(PublishError::Refused(refusal)) => assert_eq!(refusal.code, Code::FORBIDDEN),
            other => panic!("{other:?}"),
        }
        // Its limits hold.
        let second = client(&daemon, transport, Some("opaque-ada".into())).await;
        assert_eq!(refusal(second).unwrap().code, Code::OVERLOADED);
        ada.close().await;
        while daemon.sessions().iter().any(|session| session.transport == transport) {
            tokio::task::yield_now().await;
        }
        let closed = client(&daemon, transport, Some("forbidden".into())).await;
        let closed = refusal(closed).unwrap();
        assert_eq!((closed.code, &*closed.reason), (Code::FORBIDDEN, "your account is closed"));
        let wrong = refusal(client(&daemon, transport, Some("wrong".into())).await).unwrap();
        assert_eq!(wrong.code, Code::UNAUTHORIZED);
        assert_eq!(refusal(client(&daemon, transport, None).await), None);
    }
    let to = daemon.http_addr().unwrap();
    for (token, topic, status) in [
        (Some("opaque-ada"), "demo%2Fchat", 200),
        (Some("opaque-ada"), "other", 403),
        (Some("wrong"), "demo%2Fchat", 401),
        (None, "demo%2Fchat", 403),
        (None, "public%2Fx", 404),
    ] {
        let mut request = ask(to, "GET", &format!("/v1/topics/{topic}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        assert_eq!(within(request.send()).await.status, status, "{token:?} {topic}");
    }
    let asked = server.asked();
    let first = json!({ "token": "opaque-ada", "certificate": null, "address": "127.0.0.1" });
    assert_eq!(asked[0], first);
    assert!(asked.iter().any(|question| question["token"].is_null()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sensible_answer_a_peer_is_refused_and_may_come_again() {
    let server = Server::plain(|_| None).await;
    let remote = remote(&server).with_timeout(Duration::from_millis(200));
    let daemon = daemon(AccessRules::default().back_end(remote)).await;
    let answers: [Option<(u16, &'static str, &str)>; 11] = [
        None,
        Some((500, "", "{}")),
        Some((302, "Location: /other\r\n", "{}")),
        Some((204, "", "")),
        Some((400, "", "{}")),
        Some((200, "", "")),
        Some((200, "", "<html>")),
        Some((200, "", r#"{"publsh": ["**"]}"#)),
        Some((200, "", r#"{"publish": ["**"], "publish": []}"#)),
        Some((200, "", r#"{"publish": ["a//b"]}"#)),
        Some((200, "", r#"{"expires_in": 0}"#)),
    ];
    for answer in answers {
        server
            .answer(move |_| answer.map(|(status, headers, body)| (status, headers, body.into())));
        let refused = show(&daemon, "x").await.unwrap();
        assert_eq!(refused.code, Code::OVERLOADED, "{answer:?}: {refused}");
        let request = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a");
        let refused = within(request.header("authorization", "Bearer x").send()).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    }
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(64 << 10));
    server.answer(move |_| Some((200, "", long.clone())));
    assert_eq!(show(&daemon, "x").await.unwrap().code, Code::OVERLOADED);
    // What failed is not kept.
    server.answer(|_| Some((200, "", "{}".into())));
    assert_eq!(show(&daemon, "x").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_over_tls_has_a_certificate_of_its_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    for (known, believed) in [(&authority, true), (&stranger, false)] {
        let server = Server::secure(&authority, |_| Some((200, "", "{}".into()))).await;
        let file = directory.path().join("authorities.pem");
        std::fs::write(&file, &known.pem).unwrap();
        let remote = Remote::new(format!("https://localhost:{}/weir", server.address.port()));
        let rules = AccessRules::default().back_end(remote.with_authorities(&file));
        let daemon = daemon(rules).await;
        assert_eq!(show(&daemon, "x").await.is_none(), believed);
        assert_eq!(server.asked().len(), usize::from(believed), "a token was shown to a stranger");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_reported_at_the_start() {
    for remote in [
        Remote::new("http://id.example/weir"),
        Remote::new("nothing"),
        Remote::new("https://id.example/weir").with_authorities("/nowhere.pem"),
    ] {
        let rules = AccessRules::default().back_end(remote.clone());
        let listen = ([127, 0, 0, 1], 0).into();
        let failed = Daemon::builder().listen(listen).access(rules).spawn().await.unwrap_err();
        assert!(
            matches!(
                failed,
                weir::daemon::SpawnError::Settings(weir::daemon::SettingsError::Remote(_))
            ),
            "{remote:?}: {failed}"
        );
    }
}

fn asking(server: &Server) -> HttpAuthorize {
    HttpAuthorize::new(&remote(server)).unwrap()
}

async fn code(back_end: &HttpAuthorize, token: &str) -> Option<Code> {
    let from = Credentials::from_address([192, 0, 2, 1].into()).with_token(Some(token));
    within(back_end.authorize(from)).await.err().map(|refusal| refusal.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_kept_for_as_long_as_they_may_be() {
    let server = Server::plain(|question| {
        let headers = match question["token"].as_str().unwrap() {
            "kept" => "Cache-Control: max-age=60\r\n",
            "briefly" => "Cache-Control: max-age=1\r\n",
            _ => "",
        };
        Some((200, headers, r#"{"expires_in": 3600}"#.to_owned()))
    })
    .await;
    let back_end = asking(&server);
    let count =
        |token: &str| server.asked().iter().filter(|question| question["token"] == token).count();
    for _ in 0..3 {
        for token in ["kept", "briefly", "not kept"] {
            assert_eq!(code(&back_end, token).await, None);
        }
    }
    assert_eq!((count("kept"), count("briefly"), count("not kept")), (1, 1, 3));
    // Of other credentials it is another answer.
    let from = Credentials::from_address([192, 0, 2, 1].into()).with_token(Some("kept"));
    within(back_end.authorize(from.with_certificate(Some("robot")))).await.unwrap();
    let other = Credentials::from_address([192, 0, 2, 2].into()).with_token(Some("kept"));
    within(back_end.authorize(other)).await.unwrap();
    assert_eq!(count("kept"), 3);
    while count("briefly") == 1 {
        assert_eq!(code(&back_end, "briefly").await, None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count("kept"), 3);
    // A refusal is kept for 5 s, whatever the back end says.
    let begun = std::time::Instant::now();
    server.answer(|_| Some((403, "", String::new())));
    for _ in 0..3 {
        assert_eq!(code(&back_end, "refused").await, Some(Code::FORBIDDEN));
    }
    assert_eq!(count("refused"), 1);
    server.answer(|_| Some((200, "", "{}".to_owned())));
    while code(&back_end, "refused").await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(count("refused"), 2);
}

// An identity that has expired is asked for again, although its answer may be kept for longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_kept_beyond_the_identity() {
    let server = Server::plain(|_| {
        let answer = r#"{"name": "ada", "subscribe": ["a"], "expires_in": 1}"#;
        Some((200, "Cache-Control: max-age=60\r\n", answer.to_owned()))
    })
    .await;
    let daemon = daemon(AccessRules::default().back_end(remote(&server))).await;
    let begun = std::time::Instant::now();
    while server.asked().len() < 3 {
        let request = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a");
        let answer = within(request.header("authorization", "Bearer x").send()).await;
        assert_eq!(answer.status, 404);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    let ada = client(&daemon, Transport::Quic, Some("x".into())).await.unwrap();
    assert_eq!(within(ada.closed()).await.code, Some(Code::TOKEN_EXPIRED));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_is_asked_once_and_outlives_whoever_asked_it() {
    let server =
        Server::plain(|_| Some((200, "Cache-Control: max-age=60\r\n", "{}".to_owned()))).await;
    server.hold(true);
    let patient = remote(&server).with_timeout(Duration::from_secs(10));
    let back_end = HttpAuthorize::new(&patient).unwrap();
    let all: Vec<_> = (0..100)
        .map(|_| {
            let back_end = back_end.clone();
            tokio::spawn(async move { code(&back_end, "x").await })
        })
        .collect();
    while server.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The first one leaves.
    all[0].abort();
    server.hold(false);
    for (n, one) in all.into_iter().enumerate() {
        match one.await {
            Ok(code) => assert_eq!(code, None),
            Err(left) => assert!(n == 0 && left.is_cancelled()),
        }
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_at_one_time_are_bounded() {
    let server = Server::plain(|_| Some((200, "", "{}".to_owned()))).await;
    server.hold(true);
    let patient = remote(&server).with_timeout(Duration::from_secs(10));
    let back_end = HttpAuthorize::new(&patient).unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..2000)
        .map(|n| {
            let (back_end, refused) = (back_end.clone(), refused.clone());
            tokio::spawn(async move {
                let code = code(&back_end, &format!("token {n}")).await;
                refused.fetch_add(usize::from(code.is_some()), Ordering::SeqCst);
                code
            })
        })
        .collect();
    // 64 are asked, 1,024 wait, and the others are refused at once.
    let expected = 2000 - 64 - 1024;
    while refused.load(Ordering::SeqCst) < expected || server.asked().len() < 64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.hold(false);
    let mut answered = 0;
    for one in all {
        match one.await.unwrap() {
            None => answered += 1,
            Some(code) => assert_eq!(code, Code::OVERLOADED),
        }
    }
    assert_eq!((answered, server.asked().len()), (2000 - expected, 2000 - expected));
    assert_eq!(server.most_at_once(), 64);
}

// A token that the back end takes back ends nothing by itself; a new one is decided about anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_fetches_tokens_lives_on_across_them() {
    let server = Server::plain(|_| {
        let answer = r#"{"name": "ada", "publish": ["a"], "expires_in": 2}"#;
        Some((200, "", answer.to_owned()))
    })
    .await;
    let daemon = daemon(AccessRules::default().back_end(remote(&server))).await;
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = fetched.clone();
    let builder = builder(&daemon, Transport::Quic).reconnect(Reconnect::never());
    let builder = builder.token_from(move || {
        let token = format!("token {}", count.fetch_add(1, Ordering::SeqCst));
        async move { Ok(token) }
    });
    let ada = within(builder.connect()).await.unwrap();
    while fetched.load(Ordering::SeqCst) < 3 {
        within(ada.publish("a", "x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.asked().len() >= 2);
}

/// A process that is killed when the test ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// The program in docs/access.md, on a port that the system chooses.
#[tokio::test(flavor = "multi_thread")]
async fn the_back_end_of_the_documentation_works() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    let text = include_str!("../../docs/access.md");
    let program = text.split("```python\n").find(|part| part.starts_with("import http.server"));
    let program = program.unwrap().split("```").next().unwrap();
    let serving = "http.server.ThreadingHTTPServer((\"127.0.0.1\", 9000), BackEnd).serve_forever()";
    let chosen = "server = http.server.ThreadingHTTPServer((\"127.0.0.1\", 0), BackEnd)\n\
                  print(server.server_port, flush=True)\nserver.serve_forever()";
    assert!(program.contains(serving));
    let program = program.replace(serving, chosen);
    let mut python = Command::new("python3");
    let python = python.args(["-c", &program]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut python = Killed(python.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(python.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let remote = Remote::new(format!("http://127.0.0.1:{}/weir", port.trim()));
    let daemon = daemon(AccessRules::default().back_end(remote)).await;
    let ada = client(&daemon, Transport::Quic, Some("3f9c".into())).await.unwrap();
    within(ada.publish("demo/chat", "hello")).await.unwrap();
    let refused = show(&daemon, "other").await.unwrap();
    assert_eq!((refused.code, &*refused.reason), (Code::UNAUTHORIZED, "log in first"));
}
