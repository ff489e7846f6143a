//! `/sessions` and `/topics`, and `weir top`, which shows them.

use super::common::{Served, stderr, stdout, weir, within};
use super::http::ask;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use tempfile::tempdir;
use weir::access::{AccessRules, Rights};
use weir::client::Reconnect;
use weir::wire::Filter;
use weir::{Client, Daemon, SubscribeOptions, Transport, Trust};

const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::WebTransport, Transport::WebSocket];

async fn client(daemon: &Daemon, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string()).trust(trust);
    within(builder.transport(transport).reconnect(Reconnect::never()).connect()).await.unwrap()
}

async fn list(daemon: &Daemon, target: &str) -> Value {
    let answer = within(ask(daemon.ops_addr().unwrap(), "GET", target).send()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

async fn daemon() -> Daemon {
    let any = super::ANY;
    let everything = || [Filter::new("**").unwrap()];
    let rights = Rights::new(everything(), everything()).unwrap();
    let rules = AccessRules::default().public(rights);
    Daemon::builder().listen(any).ops(any).access(rules).spawn().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_with_what_they_have_sent_and_received() {
    let daemon = daemon().await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        let mut subscription =
            within(client.subscribe("a", &SubscribeOptions::default())).await.unwrap();
        within(client.publish("a", format!("{transport}"))).await.unwrap();
        within(subscription.next()).await.unwrap().unwrap();
        clients.push((client, subscription));
    }
    let all = list(&daemon, "/sessions?sort=age").await;
    assert_eq!(all["total"], 3);
    let sessions = all["sessions"].as_array().unwrap();
    for (n, (session, transport)) in sessions.iter().zip(TRANSPORTS).enumerate() {
        assert_eq!(session["transport"], transport.to_string());
        assert_eq!(session["received"]["messages"], 1, "{session}");
        assert_eq!(session["received"]["bytes"], transport.to_string().len());
        // A message is counted when it is read from the cache.
        assert_eq!(session["delivered"]["messages"], 3 - n, "{session}");
        assert_eq!(session["rtt"].is_u64(), transport != Transport::WebSocket);
        assert_eq!(
            (&session["backlog_messages"], &session["subscriptions"]),
            (&0.into(), &1.into())
        );
        assert_eq!(session["filters"][0]["filter"], "a");
        assert!(session["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert_eq!(list(&daemon, "/sessions?most=1").await["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_in_the_order_that_is_asked_for() {
    let daemon = daemon().await;
    let _all = daemon.subscribe("many/*", &SubscribeOptions::default()).unwrap();
    for n in 0..300_u16 {
        for payload in 0..=(n % 3) {
            daemon.publish(&format!("many/{n:03}"), vec![payload as u8]).unwrap();
        }
    }
    daemon.publish("large", vec![7; 60_000]).unwrap();
    let named = |list: &Value| -> Vec<String> {
        let topics = list["topics"].as_array().unwrap();
        topics.iter().map(|topic| topic["name"].as_str().unwrap().to_owned()).collect()
    };
    let by_name = list(&daemon, "/topics?sort=name&most=1000").await;
    assert_eq!(
        (&by_name["total"], by_name["topics"].as_array().unwrap().len()),
        (&301.into(), 301)
    );
    assert!(named(&by_name).is_sorted());
    assert_eq!(named(&list(&daemon, "/topics?sort=bytes&most=1").await), ["large"]);
    let by_rate = list(&daemon, "/topics?most=3").await;
    assert_eq!(named(&by_rate), ["many/002", "many/005", "many/008"]);
    let first = &by_rate["topics"][0];
    assert!(first["messages_per_second"].as_f64().unwrap() > 0.1, "{first}");
    assert_eq!((&first["newest"], &first["payloads"]), (&3.into(), &3.into()));
    assert_eq!((&first["subscriptions"], &first["exact"]), (&1.into(), &true.into()));
    let filtered = list(&daemon, "/topics?filter=other/**").await;
    assert_eq!(filtered["total"], 0);
    assert_eq!(named(&list(&daemon, "/topics?filter=large").await), ["large"]);
}

// They name topics, identities and addresses.
#[tokio::test]
async fn only_this_machine_may_ask_and_by_a_name_that_means_it() {
    let daemon = daemon().await;
    let ops = daemon.ops_addr().unwrap();
    for target in ["/sessions", "/topics"] {
        for (host, status) in [
            ("localhost", 200),
            ("127.0.0.1:9090", 200),
            ("[::1]", 200),
            // A page of that site, whose name resolves to this machine.
            ("evil.example", 403),
            ("192.0.2.1", 403),
        ] {
            let answer = within(ask(ops, "GET", target).header("host", host).send()).await;
            assert_eq!(answer.status, status, "{target} {host}");
        }
        let wrong = [
            ("sort=size", "unknown variant `size`"),
            ("most=1001", "most is at most 1000"),
            ("limit=1", "unknown field"),
        ];
        for (query, detail) in wrong {
            let answer = within(ask(ops, "GET", &format!("{target}?{query}")).send()).await;
            assert_eq!(answer.status, 400, "{target} {query}");
            assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{answer:?}");
        }
    }
}

#[test]
fn weir_top_prints_them_and_says_what_is_wrong() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &["--ops", "127.0.0.1:0", "--http", "off"], &[]);
    let ops = served.ops.unwrap().to_string();
    let run = |arguments: &[&str]| weir(state.path(), arguments).output().unwrap();
    let published = run(&["pub", "demo/a", "hello", "--server", &served.server]);
    assert!(published.status.success(), "{}", stderr(&published));
    let table = run(&["top", "--topics", "--ops", &ops]);
    let text = stdout(&table);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("topic   msg/s"), "{text}");
    assert!(lines.next().unwrap().starts_with("demo/a "), "{text}");
    let json = run(&["top", "--topics", "--json", "--ops", &ops]);
    let topic: Value = serde_json::from_str(stdout(&json).trim()).unwrap();
    assert_eq!((&topic["name"], &topic["newest"]), (&"demo/a".into(), &1.into()));
    let none = run(&["top", "--sessions", "--ops", &ops]);
    assert_eq!((stdout(&none).lines().count(), none.status.code()), (1, Some(0)));
    for (arguments, code, error) in [
        (vec!["top"], 2, "required"),
        (vec!["top", "--sessions", "--topics"], 2, "cannot be used with"),
        (vec!["top", "--sessions", "--sort", "name", "--ops", &ops], 1, "delivered, received"),
        (
            vec!["top", "--topics", "--ops", "127.0.0.1:1"],
            1,
            "does it run here, with --ops 127.0.0.1:1?",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(error), "{arguments:?}: {}", stderr(&output));
    }
}

// On a terminal it is shown until `q`, and the terminal is as it was then.
#[test]
fn weir_top_is_live_on_a_terminal() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &["--ops", "127.0.0.1:0", "--http", "off"], &[]);
    let ops = served.ops.unwrap().to_string();
    let published = weir(state.path(), &["pub", "demo/a", "hello", "--server", &served.server]);
    assert!({ published }.status().unwrap().success());
    let command =
        format!("stty cols 100 rows 20; {} top --topics --ops {ops}; stty -a", super::common::WEIR);
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = String::new();
    let mut until = |text: &str| {
        let mut buffer = [0; 4096];
        while !shown.contains(text) {
            let read = screen.read(&mut buffer).unwrap();
            assert!(read > 0, "{text:?} is not in {shown:?}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        shown.clone()
    };
    until("1 topic, by rate");
    until("demo/a");
    keys.write_all(b"s").unwrap();
    until("1 topic, by bytes");
    keys.write_all(b"\t").unwrap();
    until("0 sessions, by delivered");
    keys.write_all(b"q").unwrap();
    // It leaves the other screen, shows the cursor, and echoes again.
    let end = until(" echo ");
    assert!(end.contains("\x1b[?1049l") && end.contains("\x1b[?25h"), "{end:?}");
    drop(keys);
    assert!(script.wait().unwrap().success());
}
