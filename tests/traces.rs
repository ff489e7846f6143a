//! Traces of sessions and requests, as a collector gets them over OTLP, and collectors that do not take
//! them.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod common;
#[path = "common/http.rs"]
mod http;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use common::{PATIENCE, Served, TRANSPORTS, client, message, within};
use http::ask;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Outcome};
use prost::Message as _;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use weir::access::{AccessRules, Authorize, Authorizing, Credentials, Identity, Rights};
use weir::client::Reconnect;
use weir::daemon::{Builder, Otlp, SettingsError, SpawnError};
use weir::{Client, Daemon, SubscribeOptions, Transport, Trust};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Take,
    Hang,
    Fail,
    Reject,
}

/// A collector of traces.
struct Collector {
    address: SocketAddr,
    does: watch::Sender<Does>,
    requests: watch::Receiver<Vec<(HeaderMap, Bytes)>>,
}

type Shared = Arc<(watch::Receiver<Does>, Mutex<watch::Sender<Vec<(HeaderMap, Bytes)>>>)>;

async fn take(State(shared): State<Shared>, head: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let does = *shared.0.borrow();
    shared.1.lock().unwrap().send_modify(|requests| requests.push((head, body)));
    let mut told = ExportTraceServiceResponse::default();
    match does {
        Does::Take => {}
        Does::Hang => std::future::pending().await,
        Does::Fail => return (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        Does::Reject => {
            let error_message = "too old".into();
            let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message };
            told.partial_success = Some(partial);
        }
    }
    (StatusCode::OK, told.encode_to_vec())
}

impl Collector {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (does, what) = watch::channel(does);
        let (sender, requests) = watch::channel(Vec::new());
        let shared: Shared = Arc::new((what, Mutex::new(sender)));
        let app = Router::new().route("/v1/traces", post(take)).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, does, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many requests have come.
    async fn requests(&self, count: usize) {
        let mut requests = self.requests.clone();
        within(requests.wait_for(|requests| requests.len() >= count)).await.unwrap();
    }

    fn decoded(&self) -> Vec<ExportTraceServiceRequest> {
        let requests = self.requests.borrow();
        let decode = |body: &Bytes| ExportTraceServiceRequest::decode(body.clone()).unwrap();
        requests.iter().map(|(_, body)| decode(body)).collect()
    }

    /// All spans that have come.
    fn spans(&self) -> Vec<Span> {
        let scopes = self.decoded().into_iter().flat_map(|request| request.resource_spans);
        let scopes = scopes.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The attributes of the daemon.
    fn resource(&self) -> Vec<KeyValue> {
        let resource = self.decoded()[0].resource_spans[0].resource.clone();
        resource.unwrap().attributes
    }
}

fn builder(otlp: Otlp) -> Builder {
    let any = "127.0.0.1:0".parse().unwrap();
    Daemon::builder().listen(any).http(Some(any)).otlp(otlp)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

fn spans_counted(text: &str) -> (u64, u64) {
    let of = |result: &str| {
        let name = format!("weir_trace_spans_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*name));
        value.unwrap().parse().unwrap()
    };
    (of("sent"), of("dropped"))
}

/// Everybody is Ada.
struct Ada;

impl Authorize for Ada {
    fn authorize<'a>(&'a self, _: Credentials<'a>) -> Authorizing<'a> {
        let all = || ["**".parse().unwrap()];
        let rights = Rights::new(all(), all()).unwrap();
        Box::pin(async { Ok(Identity::named("ada", rights).unwrap()) })
    }
}

#[tokio::test]
async fn a_session_has_a_span_when_it_has_ended() {
    let collector = Collector::start(Does::Take).await;
    let rules = AccessRules::default().authorize(Ada);
    let daemon = builder(Otlp::new(collector.url())).access(rules).spawn().await.unwrap();
    for transport in TRANSPORTS {
        let trust = Trust::Pinned(daemon.certificate_hash().into());
        let client = Client::builder(daemon.local_addr().to_string()).trust(trust).token("x");
        let client = client.transport(transport).reconnect(Reconnect::never());
        let client = within(client.connect()).await.unwrap();
        let options = SubscribeOptions::default();
        let mut subscription = within(client.subscribe("secret/*", &options)).await.unwrap();
        for _ in 0..2 {
            within(client.publish("secret/a", "payload")).await.unwrap();
            message(&mut subscription).await;
        }
        drop(subscription);
        within(client.close()).await;
    }
    daemon.shutdown().await;
    let spans = collector.spans();
    let sessions: Vec<_> = spans.iter().filter(|span| span.name == "session").collect();
    assert_eq!(sessions.len(), 3, "{spans:?}");
    for transport in TRANSPORTS {
        let name = transport.to_string();
        let of = |span: &&&Span| text(&span.attributes, "weir.transport").as_ref() == Some(&name);
        let span = sessions.iter().find(of).unwrap();
        let has = |key: &str| text(&span.attributes, key).unwrap_or_default();
        let network = if transport == Transport::WebSocket { "tcp" } else { "quic" };
        assert_eq!(has("network.transport"), network);
        assert_eq!(has("network.peer.address"), "127.0.0.1");
        assert_eq!(has("enduser.id"), "ada");
        assert_eq!((&*has("weir.session.code"), &*has("error.type")), ("done", ""));
        assert_eq!((&*has("weir.received.messages"), &*has("weir.received.bytes")), ("2", "14"));
        assert_eq!((&*has("weir.delivered.messages"), &*has("weir.delivered.bytes")), ("2", "14"));
        assert!(has("weir.session.id").parse::<u64>().is_ok());
        assert_eq!(span.kind, SpanKind::Server as i32);
        assert!(span.parent_span_id.iter().all(|byte| *byte == 0));
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        assert!(now - span.start_time_unix_nano < PATIENCE.as_nanos() as u64);
    }
    // Each is a trace of its own.
    assert_ne!(sessions[0].trace_id, sessions[1].trace_id);
    let has = |key: &str| text(&collector.resource(), key).unwrap_or_default();
    assert_eq!((&*has("service.name"), &*has("service.version")), ("weir", "0.1.0"));
    assert_eq!(has("service.instance.id").len(), 36);
    // No span of a message, and no name of a topic.
    let bodies: Vec<_> = collector.requests.borrow().iter().map(|(_, body)| body.clone()).collect();
    assert!(!bodies.iter().any(|body| body.windows(6).any(|part| part == b"secret")));
}

#[tokio::test]
async fn a_request_has_a_span_below_its_parent() {
    let collector = Collector::start(Does::Take).await;
    let daemon = builder(Otlp::new(collector.url())).spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let publish = ask(http, "POST", "/v1/topics/secret/name").body("x");
    assert_eq!(within(publish.header("traceparent", parent).send()).await.status, 200);
    assert_eq!(within(ask(http, "GET", "/v1/topics/secret/none").send()).await.status, 404);
    assert_eq!(within(ask(http, "GET", "/secret").send()).await.status, 404);
    assert_eq!(within(ask(http, "SECRET", "/v1/topics/secret/name").send()).await.status, 405);
    let metrics = daemon.metrics();
    daemon.shutdown().await;
    let spans = collector.spans();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    let route = "/v1/topics/{*topic}";
    let expected =
        [&*format!("POST {route}"), &format!("GET {route}"), "GET", &format!("HTTP {route}")];
    assert_eq!(names, expected);
    let has = |at: usize, key: &str| text(&spans[at].attributes, key).unwrap_or_default();
    for (at, method, status) in [(0, "POST", "200"), (1, "GET", "404"), (3, "_OTHER", "405")] {
        assert_eq!(has(at, "http.request.method"), method);
        assert_eq!(has(at, "http.response.status_code"), status);
        assert_eq!(has(at, "http.route"), route);
        assert_eq!(spans[at].kind, SpanKind::Server as i32);
        // The clients' errors are not the daemon's.
        assert!(spans[at].status.clone().unwrap_or_default().code() == Outcome::Unset);
    }
    assert_eq!(has(2, "http.route"), "");
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
    let [trace, parent] = [TRACE, PARENT].map(|hex| u128::from_str_radix(hex, 16).unwrap());
    assert_eq!(number(&spans[0].trace_id), trace);
    assert_eq!(number(&spans[0].parent_span_id), parent);
    assert_ne!(number(&spans[0].span_id), parent);
    assert!(spans[1].parent_span_id.iter().all(|byte| *byte == 0));
    assert_ne!(number(&spans[1].trace_id), trace);
    let bodies: Vec<_> = collector.requests.borrow().iter().map(|(_, body)| body.clone()).collect();
    assert!(
        !bodies.iter().any(|body| body.windows(6).any(|part| part.eq_ignore_ascii_case(b"secret")))
    );
    assert_eq!(spans_counted(&metrics.to_text()), (4, 0));
}

#[tokio::test]
async fn the_parent_decides_and_else_the_ratio() {
    let collector = Collector::start(Does::Take).await;
    for (ratio, expected) in [(0.0, &["01"][..]), (1.0, &["", "01"])] {
        let otlp = Otlp::new(collector.url()).with_ratio(ratio);
        let daemon = builder(otlp).spawn().await.unwrap();
        let before = collector.spans().len();
        for flags in ["", "00", "01"] {
            let mut get = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a");
            if !flags.is_empty() {
                get = get.header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"));
            }
            within(get.send()).await;
        }
        daemon.shutdown().await;
        let spans = collector.spans();
        let parents =
            spans[before..].iter().map(|span| span.parent_span_id.iter().any(|byte| *byte != 0));
        let expected: Vec<_> = expected.iter().map(|flags| !flags.is_empty()).collect();
        assert_eq!(parents.collect::<Vec<_>>(), expected, "{ratio}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_holds_nothing_up() {
    // More than a batch and the queue.
    const REQUESTS: u64 = 2000;
    let collector = Collector::start(Does::Hang).await;
    let daemon = builder(Otlp::new(collector.url())).spawn().await.unwrap();
    let http = daemon.http_addr().unwrap();
    let metrics = daemon.metrics();
    let mut longest = Duration::ZERO;
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        assert_eq!(within(ask(http, "GET", "/v1/topics/none").send()).await.status, 404);
        longest = longest.max(begun.elapsed());
    }
    collector.requests(1).await;
    let session = client(&daemon, Transport::Quic).await;
    within(session.publish("a", "b")).await.unwrap();
    let (sent, dropped) = spans_counted(&metrics.to_text());
    assert!(sent == 0 && dropped > 0, "{sent} {dropped}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let begun = Instant::now();
    daemon.shutdown().await;
    // A goodbye, answers over HTTP, and then the last spans: 4.5 s.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(spans_counted(&metrics.to_text()), (0, REQUESTS + 1));
}

#[tokio::test]
async fn rejected_spans_are_counted_and_the_others_too() {
    let collector = Collector::start(Does::Reject).await;
    let daemon = builder(Otlp::new(collector.url())).spawn().await.unwrap();
    let metrics = daemon.metrics();
    for _ in 0..3 {
        within(ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a").send()).await;
    }
    daemon.shutdown().await;
    let requests = collector.requests.borrow().len() as u64;
    assert_eq!(spans_counted(&metrics.to_text()), (3 - requests, requests));
}

#[tokio::test]
async fn settings_that_cannot_be_used_end_the_start() {
    for (otlp, reason) in [
        (Otlp::new("127.0.0.1:4318"), "neither http:// nor https://"),
        (Otlp::new("http://127.0.0.1:4318/v1/traces"), "appended"),
        (Otlp::new("http://127.0.0.1:4318").with_ratio(1.5), "from 0 to 1"),
    ] {
        let error = builder(otlp).spawn().await.unwrap_err();
        assert!(matches!(error, SpawnError::Settings(SettingsError::Otlp(_))), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// The binary, with settings in its file and variables of OpenTelemetry. Its log says once that the
/// collector fails, and once that it works again.
#[tokio::test]
async fn the_log_says_when_a_collector_fails_and_when_it_works_again() {
    let collector = Collector::start(Does::Fail).await;
    let state = tempdir().unwrap();
    let (file, log) = (state.path().join("weir.toml"), state.path().join("log"));
    std::fs::write(&file, format!("[log]\notlp = \"{}\"\n", collector.url())).unwrap();
    let mut command = common::weir(
        state.path(),
        &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json", "--config"],
    );
    command.arg(&file).stderr(std::fs::File::create(&log).unwrap());
    command.env("OTEL_RESOURCE_ATTRIBUTES", "service.name=edge,deployment.environment.name=test");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20YQ==");
    let mut served = Served::begin(command);
    let http = served.http.unwrap();
    let get = ask(http, "GET", "/v1/topics/a");
    for count in [1, 2] {
        within(get.send()).await;
        collector.requests(count).await;
    }
    collector.does.send(Does::Take).unwrap();
    for count in [3, 4] {
        within(get.send()).await;
        collector.requests(count).await;
    }
    served.signal("TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    std::fs::File::open(&log).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("traces: ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains(" WARN ") && lines[0].contains("status 503"), "{text}");
    assert!(lines[1].contains(" INFO ") && lines[1].contains("takes spans again"), "{text}");
    let attribute = |key| self::text(&collector.resource(), key);
    assert_eq!(attribute("service.name").unwrap(), "edge");
    assert_eq!(attribute("deployment.environment.name").unwrap(), "test");
    let requests = collector.requests.borrow();
    for (name, value) in [
        ("authorization", "Basic YQ=="),
        ("content-type", "application/x-protobuf"),
        ("user-agent", "weir/0.1.0"),
    ] {
        assert_eq!(requests[0].0.get(name).unwrap(), value);
    }
}
