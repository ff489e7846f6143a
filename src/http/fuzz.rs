//! Fuzz targets: requests that are made of the description of this face, and texts in requests.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::connection::ConnectionService;
use super::event_id::{EventId, from};
use super::path;
use super::schema::Document;
use super::{AppState, router};
use crate::access::AccessRules;
use crate::access::limits::PeerLimits;
use crate::access::origin::{Origins, RequestOrigin};
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::engine::{Engine, Limits};
use crate::fuzz::Script;
use crate::tls::CertificateHash;
use crate::tls::certificates::CertificateFacts;
use crate::wire::{Filter, Start};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tower_service::Service as _;

fn document() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(Document::load)
}

// Method, path and description of each operation.
fn operations() -> &'static [(Method, &'static str, Vec<&'static Value>)] {
    static OPERATIONS: OnceLock<Vec<(Method, &'static str, Vec<&'static Value>)>> = OnceLock::new();
    OPERATIONS.get_or_init(|| {
        let mut all = Vec::new();
        for (path, item) in document().root()["paths"].as_object().unwrap() {
            let list = |of: &'static Value| of["parameters"].as_array().into_iter().flatten();
            for (method, operation) in item.as_object().unwrap() {
                let Ok(method) = method.to_ascii_uppercase().parse() else { continue };
                if !operation["responses"].is_object() {
                    continue;
                }
                let parameters = list(item).chain(list(operation)).map(|p| document().resolve(p));
                all.push((method, &**path, parameters.collect()));
            }
        }
        all
    })
}

struct Face {
    service: ConnectionService<Router>,
    broker: Arc<Broker>,
}

impl Face {
    fn new() -> Self {
        let mut limits = Limits::default().with_cache(1 << 20);
        (limits.topics, limits.payload) = (8, 70_000);
        let broker = Arc::new(Broker::new(Engine::new(limits, 1_000_000, [7; 32]), None));
        let current = CertificateHash([1; 32]);
        let certificate = move || CertificateFacts { pinning: true, current, next: None };
        let origins = Origins::parse(["https://app.example"]).unwrap();
        let rules = AccessRules::default();
        let admission = Admission::new(broker.clone(), PeerLimits::default(), origins, rules);
        let mut state = AppState::new(&admission, certificate, 4433);
        (state.patience, state.room) = (Duration::from_millis(20), Duration::from_millis(20));
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let budgets = admission.request_budgets(None);
        let service =
            ConnectionService::new(router(Arc::new(state), Router::new()), remote, budgets, false);
        Self { service, broker }
    }

    async fn ask(&mut self, request: Request<Body>) -> Response<Vec<u8>> {
        let answer = self.service.call(request).await.unwrap();
        let (head, mut body) = answer.into_parts();
        let (mut bytes, mut idle) = (Vec::new(), 0);
        // A stream of events has no end.
        while idle < 5 {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(frame)) => {
                    idle = 0;
                    let data = frame.unwrap().into_data().unwrap_or_default();
                    bytes.extend_from_slice(&data);
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    idle += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        Response::from_parts(head, bytes)
    }
}

/// Requests as the description has them, with parameters that are right, left out, wrong, or twice.
/// Every answer is described, or is a problem; none is an error of the daemon's; and what was published
/// is there.
pub(crate) fn requests(data: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut face = Face::new();
            let broker = face.broker.clone();
            let turns = tokio::spawn(async move { broker.take_turns().await });
            let mut script = Script::new(data);
            for _ in 0..8 {
                if script.is_empty() {
                    break;
                }
                one(&mut face, &mut script).await;
            }
            let broker = face.broker.clone();
            drop(face);
            turns.abort();
            broker.with(|engine| {
                assert_eq!(engine.subscriptions(), 0);
                assert_eq!(engine.budget().held(), 0, "an answer left something behind");
            });
        });
    });
}

async fn one(face: &mut Face, script: &mut Script<'_>) {
    let all = operations();
    let (method, template, parameters) = &all[script.below(all.len())];
    let method = match script.below(12) {
        0 => script.choose(&["OPTIONS", "PUT", "DELETE", "TRACE", "HEAD", "GET", "POST", "BREW"]),
        _ => method.as_str(),
    };
    let mut target = String::new();
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("localhost:8080"));
    let mut path = (*template).to_owned();
    for parameter in parameters {
        let Some(value) = value(parameter, script) else { continue };
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &escaped(&value, script)),
            "query" => {
                for _ in 0..if script.chance(20) { 2 } else { 1 } {
                    let joint = if target.is_empty() { '?' } else { '&' };
                    let value = escaped(&value, script);
                    target.push_str(&format!("{joint}{name}={value}"));
                }
            }
            "header" => put(&mut headers, name, &value),
            other => panic!("a parameter in {other}"),
        }
    }
    let path = path.replace("{topic}", "demo%2Fa").replace("{filter}", "demo%2F**");
    let target = format!("{path}{target}");
    if script.chance(4) {
        let name = script.choose(&[
            "host",
            "origin",
            "content-type",
            "content-encoding",
            "content-length",
            "accept-encoding",
            "authorization",
            "expect",
            "access-control-request-method",
            "range",
            "if-match",
            "last-event-id",
            "weir-stamp",
            "idempotency-key",
        ]);
        let value = match script.below(3) {
            0 => script.choose(&["https://app.example", "null", "gzip", "Bearer x", "1", "a b"]),
            _ => script.text(),
        };
        put(&mut headers, name, value);
    }
    let size = script.choose(&[0, 0, 1, 5, 2000, 65_537, 70_000, 70_001]);
    let body = if script.chance(2) { script.bytes().to_vec() } else { vec![script.byte(); size] };
    let sent = if method == "POST" { body } else { Vec::new() };
    let Ok(mut request) =
        Request::builder().method(method).uri(&target).body(Body::from(sent.clone()))
    else {
        // It would not be sent.
        return;
    };
    *request.headers_mut() = headers;
    let answer = face.ask(request).await;
    check(method, &target, template, &answer);
    let published = method == "POST" && answer.status() == 200 && target.starts_with("/v1/topics/");
    if published {
        let receipt: Value = serde_json::from_slice(answer.body()).unwrap();
        find(face, &receipt, &sent).await;
    }
}

// The message of a receipt is there, unless it was evicted.
async fn find(face: &mut Face, receipt: &Value, sent: &[u8]) {
    let topic: String =
        receipt["topic"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let sequence = &receipt["sequence"];
    let target = format!("/v1/topics/{topic}?sequence={sequence}");
    let request = Request::builder().uri(&target).header("host", "localhost");
    let answer = face.ask(request.body(Body::empty()).unwrap()).await;
    check("GET", &target, "/v1/topics/{topic}", &answer);
    match answer.status().as_u16() {
        200 => assert!(answer.body() == sent, "{target} is another payload"),
        status => assert!(status == 410 || receipt["duplicate"] == true, "{target}: {status}"),
    }
}

// A value of a parameter: none, a good one, one of those at which code breaks, or any text.
fn value(parameter: &Value, script: &mut Script<'_>) -> Option<String> {
    let kind = script.below(8);
    let schema = document().resolve(&parameter["schema"]);
    let example = [&parameter["example"], &schema["default"], &schema["example"]];
    let example = example.into_iter().find(|value| !value.is_null());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(match kind {
        0 | 1 => return None,
        2 | 3 => match (example, schema["type"].as_str()) {
            (Some(example), _) => text(example),
            (None, Some("integer")) => (script.number() % 300).to_string(),
            (None, _) => match schema["enum"].as_array() {
                Some(all) => text(&all[script.below(all.len())]),
                None => "a".repeat(64),
            },
        },
        4 => script.number().to_string(),
        5 => script
            .choose(&[
                "",
                "top",
                "a/top",
                "demo/*",
                "$weir/a",
                "*",
                "..",
                "-1",
                "1e3",
                "last:3",
                "1-2",
                "1000000-1",
                "1-2-3-4~5.6",
                "W/\"x\"",
                "\"x\"",
                "a\u{202e}b",
                "0x10",
            ])
            .to_owned(),
        6 => ["x".repeat(script.below(256)), "a/".repeat(script.below(20))].concat(),
        _ => script.text().to_owned(),
    })
}

// A value in an address: escaped as it has to be, everywhere, or not at all.
fn escaped(value: &str, script: &mut Script<'_>) -> String {
    let kind = script.below(4);
    let byte = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || (kind == 1 && b"/*~.:-".contains(&byte));
        if kind == 2 || (plain && kind != 3) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    value.bytes().map(byte).collect()
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = name.to_ascii_lowercase();
    if let (Ok(name), Ok(value)) =
        (header::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        // Most replace a header, and some add a second one.
        headers.append(name.clone(), value);
        if name == header::HOST {
            let last = headers.get_all(&name).iter().last().cloned();
            last.and_then(|last| headers.insert(name, last));
        }
    }
}

fn check(method: &str, target: &str, template: &str, answer: &Response<Vec<u8>>) {
    let status = answer.status();
    let what = || {
        let body = String::from_utf8_lossy(&answer.body()[..answer.body().len().min(300)]);
        format!("{method} {target}: {status}: {body}")
    };
    assert!(status.as_u16() < 500 || status == StatusCode::SERVICE_UNAVAILABLE, "{}", what());
    let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap());
    if kind == Some("application/problem+json") && method != "HEAD" {
        let problem = serde_json::from_slice(answer.body());
        let problem: Value = problem.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let schema = &document().root()["components"]["schemas"]["Problem"];
        document().check(schema, &problem).unwrap_or_else(|error| panic!("{}: {error}", what()));
        assert_eq!(problem["status"], status.as_u16(), "{}", what());
        return;
    }
    // An unescaped slash may have made it another operation, or a file.
    let template = match target.split(['?', '#']).next() {
        Some(path) if path.ends_with("/top") && template.starts_with("/v1/topics/") => {
            if method == "POST" { "/v1/topics/{topic}" } else { "/v1/topics/{topic}/top" }
        }
        _ => template,
    };
    let operation = &document().root()["paths"][template][method.to_ascii_lowercase()];
    let response = document().resolve(&operation["responses"][status.as_str()]);
    if !response.is_object() {
        let preflight = method == "OPTIONS" && status == StatusCode::NO_CONTENT;
        let head = method == "HEAD" && (answer.body().is_empty() || kind.is_some());
        let file = status == 200 && !target.starts_with("/v1/");
        assert!(preflight || head || file, "{} is not described", what());
        return;
    }
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let required = document().resolve(header)["required"] != false;
        assert!(!required || answer.headers().contains_key(name), "{}: no {name}", what());
    }
    if !response["content"].is_object() {
        assert!(answer.body().is_empty(), "{}: a body that is not described", what());
    } else if kind == Some("application/json") && method != "HEAD" {
        let value: Value = serde_json::from_slice(answer.body()).unwrap();
        let schema = &response["content"]["application/json"]["schema"];
        document().check(schema, &value).unwrap_or_else(|error| panic!("{}: {error}", what()));
    }
}

/// Ids of events, starts, paths, origins and hosts. Each that is read is written, and read again.
pub(crate) fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<EventId>() {
        let written = id.to_string();
        assert_eq!(written.parse::<EventId>(), Ok(id.clone()));
        assert!(written.len() <= text.len(), "{written} is longer than {text}");
        for filter in ["a", "a/**"] {
            let filter = Filter::new(filter).unwrap();
            let Start::Resume { topics, .. } = id.start(&filter, &[]) else { panic!("{text}") };
            assert!(topics.len() <= 1);
        }
    }
    let _ = from(&text);
    if let Ok(uri) = format!("/v1/topics/{text}").parse::<axum::http::Uri>() {
        for operations in [false, true] {
            let Ok(found) = path::topic(&uri, operations) else { continue };
            let escaped: String = found.name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let top = if found.top { "/top" } else { "" };
            let again = format!("/v1/topics/{escaped}{top}").parse().unwrap();
            assert_eq!(path::topic(&again, operations), Ok(found));
        }
        let events = format!("/v1/events/{text}").parse().unwrap();
        assert_eq!(path::filter(&events).is_ok(), path::topic(&uri, false).is_ok());
    }
    let (origin, host) = text.split_once(' ').unwrap_or(("https://far.example", &text));
    let listed = Origins::parse([origin]);
    let Ok(request) = RequestOrigin::new(Some(origin), host) else { return };
    let strict = Origins::default();
    if strict.check(&request, false).is_ok() {
        // Only an address, or a name of this machine, whose pages it is.
        let bare = host.trim_end_matches(|c: char| c.is_ascii_digit());
        let bare = bare.strip_suffix(':').unwrap_or(host).trim_end_matches('.').to_lowercase();
        let address = bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let ours = bare == "localhost" || bare.ends_with(".localhost");
        assert!(address.is_ok() || ours, "{host} is answered to {origin}");
        assert!(origin.contains("://"), "{origin}");
    }
    if let Ok(listed) = listed {
        let page = RequestOrigin::new(Some(origin), "localhost").unwrap();
        assert!(origin == "*" || listed.check(&page, false).is_ok(), "{origin} is listed");
    }
}
