//! Compares `web/openapi.json` with the face: every answer is described, and every description has
//! an answer.

use super::client::{Answer, Ask, Block, ask};
use super::schema::Document;
use super::{Face, Limits, PATIENCE};
use crate::access::limits::PeerLimits;
use crate::access::{AccessRules, Algorithm, Expectations, Identity, KeySet, Rights};
use crate::access::{SigningKey, Verifier};
use crate::net::now;
use serde_json::Value;
use std::collections::BTreeSet;

type Key = (String, String, u16);

struct Walk {
    face: Face,
    document: Document,
    seen: BTreeSet<Key>,
}

// Returns the path in the description to which a target belongs.
fn template(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["", "v1", "topics", _] => "/v1/topics/{topic}".to_owned(),
        ["", "v1", "topics", _, "top"] => "/v1/topics/{topic}/top".to_owned(),
        ["", "v1", "events", _] => "/v1/events/{filter}".to_owned(),
        _ => path.to_owned(),
    }
}

impl Walk {
    fn ask(&self, method: &str, target: &str) -> Ask {
        ask(self.face.address, method, target)
    }

    // Sends a request, and compares the answer with its description.
    async fn see(&mut self, method: &str, target: &str, with: impl FnOnce(Ask) -> Ask) -> Answer {
        let request = with(self.ask(method, target));
        let answer = if target.starts_with("/v1/events/") {
            let mut connection = request.open().await;
            let (status, headers) = connection.head().await;
            let mut answer = Answer { status, headers, body: Vec::new() };
            if status != 200 {
                answer = request.send().await;
            }
            answer
        } else {
            request.send().await
        };
        self.check(method, target, &answer);
        answer
    }

    fn check(&mut self, method: &str, target: &str, answer: &Answer) {
        let (path, method) = (template(target), method.to_ascii_lowercase());
        let operation = &self.document.root()["paths"][&path][&method];
        assert!(operation.is_object(), "{method} {path} is not described");
        let response = &operation["responses"][answer.status.to_string()];
        let told = String::from_utf8_lossy(&answer.body);
        assert!(
            response.is_object(),
            "{method} {target}: {} is not described: {told}",
            answer.status
        );
        let response = self.document.resolve(response);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.document.resolve(header);
            let Some(text) = answer.header(name) else {
                assert_eq!(header["required"], false, "{method} {target}: no {name}");
                continue;
            };
            let number = header["schema"]["type"] == "integer";
            let value =
                if number { text.parse::<u64>().unwrap().into() } else { Value::from(text) };
            self.document.check(&header["schema"], &value).unwrap();
        }
        if method != "head" {
            self.check_body(target, response, answer);
        }
        self.seen.insert((path, method, answer.status));
    }

    fn check_body(&self, target: &str, response: &Value, answer: &Answer) {
        let Some(content) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "{target}: a body that is not described");
            return;
        };
        let kind = answer.header("content-type").unwrap();
        let media =
            content.get(kind).unwrap_or_else(|| panic!("{target}: {kind} is not described"));
        if kind.ends_with("json") {
            self.document.check(&media["schema"], &answer.json()).unwrap();
        }
        if kind == "application/problem+json" {
            assert_eq!(answer.json()["status"], answer.status);
        }
    }

    fn described(&self) -> BTreeSet<Key> {
        let mut all = BTreeSet::new();
        for (path, operations) in self.document.root()["paths"].as_object().unwrap() {
            let operations = operations.as_object().unwrap().iter();
            for (method, operation) in operations.filter(|(method, _)| *method != "parameters") {
                for status in operation["responses"].as_object().unwrap().keys() {
                    all.insert((path.clone(), method.clone(), status.parse().unwrap()));
                }
            }
        }
        all
    }
}

const TOPIC: &str = "/v1/topics/demo%2Fa";

#[tokio::test]
async fn what_is_described_is_answered_and_what_is_answered_is_described() {
    let face = Face::new(Limits::default().with_cache(1 << 20));
    let mut walk = Walk { face, document: Document::load(), seen: BTreeSet::new() };
    let operations: Vec<(&str, &str)> = vec![
        ("POST", TOPIC),
        ("GET", TOPIC),
        ("HEAD", TOPIC),
        ("GET", "/v1/topics/demo%2Fa/top"),
        ("GET", "/v1/events/demo%2F**"),
        ("POST", "/v1/tickets"),
        ("GET", "/certificate.sha256"),
        ("GET", "/openapi.json"),
    ];

    let digest = walk.see("POST", TOPIC, |ask| ask.header("weir-stamp", 5).body("hello")).await;
    let digest = digest.json()["digest"].as_str().unwrap().to_owned();
    walk.see("POST", TOPIC, |ask| ask.body(vec![0xff])).await;
    for (method, target) in &operations {
        assert_eq!(walk.see(method, target, |ask| ask).await.status, 200, "{method} {target}");
        let elsewhere = walk.see(method, target, |ask| ask.header("host", "a.example")).await;
        assert_eq!(elsewhere.status, 421);
        let nowhere = walk.see(method, target, |ask| ask.header("host", "a b")).await;
        assert_eq!(nowhere.status, 400);
        if *target != "/openapi.json" {
            let far = walk.see(method, target, |ask| ask.header("origin", "https://far")).await;
            assert_eq!(far.status, 403);
        }
    }
    for method in ["GET", "HEAD"] {
        let tag = format!("\"{digest}\"");
        let target = format!("{TOPIC}?digest={digest}");
        let same = walk.see(method, &target, |ask| ask.header("if-none-match", tag)).await;
        assert_eq!((same.status, same.header("weir-stamp")), (304, Some("5")));
        for query in ["sequence=x", "digest=x", "sequence=-1", "k=1", "sequence=1&sequence=1"] {
            assert_eq!(walk.see(method, &format!("{TOPIC}?{query}"), |ask| ask).await.status, 400);
        }
        assert_eq!(walk.see(method, "/v1/topics/none", |ask| ask).await.status, 404);
        assert_eq!(walk.see(method, &format!("{TOPIC}?sequence=9"), |ask| ask).await.status, 404);
        assert_eq!(walk.see(method, "/v1/topics/%24weir%2Fx", |ask| ask).await.status, 404);
        assert_eq!(walk.see(method, "/v1/topics/%ff", |ask| ask).await.status, 400);
    }
    let tag = walk.see("GET", "/openapi.json", |ask| ask).await.header("etag").unwrap().to_owned();
    let same = walk.see("GET", "/openapi.json", |ask| ask.header("if-none-match", tag)).await;
    assert_eq!(same.status, 304);
    assert_eq!(walk.see("GET", "/v1/topics/none/top", |ask| ask).await.status, 404);
    assert_eq!(walk.see("GET", "/v1/topics/a/top?k=101", |ask| ask).await.status, 400);
    for query in ["from=x", "lag=x", "last_event_id=x", "form=new"] {
        let target = format!("/v1/events/a?{query}");
        assert_eq!(walk.see("GET", &target, |ask| ask).await.status, 400, "{query}");
    }
    for (name, value) in [("weir-stamp", "x"), ("weir-stamp", "-1"), ("idempotency-key", "\"")] {
        assert_eq!(walk.see("POST", TOPIC, |ask| ask.header(name, value)).await.status, 400);
    }
    assert_eq!(walk.see("POST", "/v1/topics/a*", |ask| ask.body("x")).await.status, 400);
    let keyed = |ask: Ask, body: &str| ask.header("idempotency-key", "k").body(body);
    assert_eq!(walk.see("POST", TOPIC, |ask| keyed(ask, "one")).await.status, 200);
    assert_eq!(walk.see("POST", TOPIC, |ask| keyed(ask, "two")).await.status, 422);
    let most = walk.face.state.payload;
    let large = vec![7; most + 1];
    assert_eq!(walk.see("POST", TOPIC, |ask| ask.body(large)).await.status, 413);
    let packed = walk.see("POST", TOPIC, |ask| ask.header("content-encoding", "gzip")).await;
    assert_eq!((packed.status, packed.header("accept-encoding")), (415, Some("identity")));
    let promised = |ask: Ask| ask.header("content-length", most);
    assert_eq!(walk.see("POST", TOPIC, promised).await.status, 408);
    for n in 0..4_u8 {
        walk.see("POST", TOPIC, |ask| ask.body(vec![n; most - 1000])).await;
    }
    for method in ["GET", "HEAD"] {
        assert_eq!(walk.see(method, &format!("{TOPIC}?sequence=1"), |ask| ask).await.status, 410);
    }
    let half = promised(walk.ask("POST", TOPIC)).body(vec![0; most / 2]).open().await;
    while walk.face.state.uploads.held() < most / 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(walk.see("POST", TOPIC, |ask| ask.body(vec![0; most])).await.status, 503);
    drop(half);
    let streams = walk.face.state.streams.clone();
    let all = streams.acquire_many(super::super::state::EVENT_STREAMS as u32).await.unwrap();
    let full = walk.see("GET", "/v1/events/**", |ask| ask).await;
    assert_eq!((full.status, full.json()["name"].as_str()), (503, Some("overloaded")));
    drop(all);
    walk.face.admission.stop();
    for (method, target) in &operations[..6] {
        assert_eq!(walk.see(method, target, |ask| ask).await.status, 503, "{method} {target}");
    }
    let (face, token) = closed();
    walk.face = face;
    see_refusals(&mut walk, &operations[..6], &token).await;
    let described = walk.described();
    let never: Vec<_> = described.difference(&walk.seen).collect();
    assert!(never.is_empty(), "described, and never seen: {never:?}");
    for key in &operations {
        let listed = (template(key.1), key.0.to_ascii_lowercase(), 200);
        assert!(described.contains(&listed));
    }
}

// A face for which a token is needed, and one that grants nothing. Each address may show one wrong one
// in a second, and ten at once.
fn closed() -> (Face, String) {
    let key = SigningKey::generate(Algorithm::EdDsa, None).unwrap();
    let keys = KeySet::parse(key.public_jwks().unwrap().as_bytes()).unwrap();
    let rules = AccessRules::default().tokens(Verifier::new(keys, Expectations::default()));
    let ada = Identity::named("ada", Rights::nothing()).unwrap();
    let token = key.sign(&ada.with_expires(now() + 3_600_000_000), None, None, now()).unwrap();
    let peers = PeerLimits { exempt: Vec::new(), failures_per_address: 1, ..PeerLimits::default() };
    let limits = Limits::default().with_cache(1 << 20);
    (Face::with_rules(limits, PATIENCE, peers, rules), token)
}

async fn see_refusals(walk: &mut Walk, operations: &[(&str, &str)], token: &str) {
    for (method, target) in operations {
        let granted =
            walk.see(method, target, |ask| ask.header("authorization", format!("Bearer {token}")));
        let expected = if *target == "/v1/tickets" { 200 } else { 403 };
        assert_eq!(granted.await.status, expected, "{method} {target}");
        let scheme = walk.see(method, target, |ask| ask.header("authorization", "Basic YTpi"));
        assert_eq!(scheme.await.status, 401, "{method} {target}");
    }
    let wrong = |ask: Ask| ask.header("authorization", "Bearer x.y.z");
    while walk.see("GET", TOPIC, wrong).await.status == 401 {}
    for (method, target) in operations {
        assert_eq!(walk.see(method, target, wrong).await.status, 429, "{method} {target}");
    }
}

#[tokio::test]
async fn events_are_as_described() {
    let face = Face::new(Limits::default().with_cache(1 << 20));
    let document = Document::load();
    let check = |block: &Block, schema: &str| {
        let schema = &document.root()["components"]["schemas"][schema];
        document.check(schema, &block.json()).unwrap();
    };
    for n in 0..20_u8 {
        let post = ask(face.address, "POST", "/v1/topics/a");
        post.header("weir-stamp", n).body(vec![b'a' + n; 100_000]).send().await;
    }
    ask(face.address, "POST", "/v1/topics/a").body(vec![0xff]).send().await;
    let mut events = ask(face.address, "GET", "/v1/events/a?from=1").events().await;
    let gap = events.event().await.unwrap();
    assert!(gap.is("gap"));
    check(&gap, "Gap");
    let mut last = gap;
    while last.data.as_ref().is_none_or(|data| !data.contains("base64")) {
        last = events.event().await.unwrap();
        check(&last, "Message");
    }
    face.admission.stop();
    let ended = events.event().await.unwrap();
    assert!(ended.is("ended"));
    check(&ended, "Ended");
}

#[tokio::test]
async fn other_paths_and_methods_are_problems_too() {
    let face = Face::new(Limits::default());
    let document = Document::load();
    let problem = &document.root()["components"]["schemas"]["Problem"];
    let table = [
        ("GET", "/nothing", 404, None),
        ("GET", "/v1/topics/", 404, None),
        ("GET", "/v1", 404, None),
        ("DELETE", "/v1/topics/a", 405, Some("GET,HEAD,POST")),
        ("OPTIONS", "/v1/topics/a", 405, Some("GET,HEAD,POST")),
        ("POST", "/v1/events/a", 405, Some("GET,HEAD")),
        ("PUT", "/certificate.sha256", 405, Some("GET,HEAD")),
        ("POST", "/openapi.json", 405, Some("GET, HEAD")),
    ];
    for (method, target, status, allow) in table {
        let answer = ask(face.address, method, target).send().await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {target}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        document.check(problem, &answer.json()).unwrap();
    }
}
