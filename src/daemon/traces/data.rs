//! Spans as OpenTelemetry has them, with the names of its semantic conventions. Other names
//! begin with `weir.`.

use crate::broker::spans::{RequestSpan, SessionSpan, Span, SpanOf};
use crate::wire::Code;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{
    EnvResourceDetector, ResourceDetector, TelemetryResourceDetector,
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::borrow::Cow;
use std::time::{Instant, SystemTime};

const NAME: &str = "weir";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the daemon as the source of its spans. The variable `OTEL_RESOURCE_ATTRIBUTES` adds to it,
/// and takes precedence.
pub(super) fn resource() -> Resource {
    // A UUID of version 4 (RFC 9562, section 5.4).
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let instance = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-");
    let environment: Box<dyn ResourceDetector> = Box::new(EnvResourceDetector::new());
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", NAME),
            KeyValue::new("service.version", VERSION),
            KeyValue::new("service.instance.id", instance),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(environment)
        .build()
}

/// Returns the part of the program that makes the spans.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(NAME).with_version(VERSION).build()
}

/// Takes spans as OpenTelemetry has them.
pub(super) fn spans(from: &mut Vec<Span>, scope: &InstrumentationScope) -> Vec<SpanData> {
    // Spans have no time of day, because the clock may be set between their begin and their end.
    let (now, time) = (Instant::now(), SystemTime::now());
    let time_of = |then| time.checked_sub(now.duration_since(then)).unwrap_or(time);
    let data = from.drain(..).map(|Span { begun, ended, parent, of }| {
        let (name, attributes, status) = match of {
            SpanOf::Session(session) => of_session(*session),
            SpanOf::Request(request) => of_request(request),
        };
        let trace = parent.map_or_else(|| rand::random::<u128>().max(1), |parent| parent.trace);
        let [span, parent_span] =
            [rand::random::<u64>().max(1), parent.map_or(0, |parent| parent.span)];
        let id = |number: u64| SpanId::from_bytes(number.to_be_bytes());
        let trace = TraceId::from_bytes(trace.to_be_bytes());
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
        SpanData {
            span_context: SpanContext::new(trace, id(span), flags, false, state),
            parent_span_id: id(parent_span),
            parent_span_is_remote: parent.is_some(),
            span_kind: SpanKind::Server,
            name,
            start_time: time_of(begun),
            end_time: time_of(ended),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope.clone(),
        }
    });
    data.collect()
}

type Parts = (Cow<'static, str>, Vec<KeyValue>, Status);

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn of_session(session: SessionSpan) -> Parts {
    let SessionSpan { id, transport, network, peer, name, code, reason, received, delivered } =
        session;
    let mut attributes = vec![
        KeyValue::new("weir.session.id", number(id)),
        KeyValue::new("weir.transport", transport),
        KeyValue::new("network.transport", network),
        KeyValue::new("network.peer.address", peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(peer.port())),
        KeyValue::new("weir.session.code", code),
        KeyValue::new("weir.session.reason", reason),
        KeyValue::new("weir.received.messages", number(received.0)),
        KeyValue::new("weir.received.bytes", number(received.1)),
        KeyValue::new("weir.delivered.messages", number(delivered.0)),
        KeyValue::new("weir.delivered.bytes", number(delivered.1)),
    ];
    attributes.extend(name.map(|name| KeyValue::new("enduser.id", name)));
    // Neither the peer nor the daemon has made a mistake if one of them goes.
    if ![Code::DONE, Code::SHUTTING_DOWN].iter().any(|good| good.name() == code) {
        attributes.push(KeyValue::new("error.type", code));
    }
    ("session".into(), attributes, Status::Unset)
}

fn of_request(RequestSpan { method, route, status }: RequestSpan) -> Parts {
    // Other methods are "_OTHER" as an attribute, and "HTTP" in the name.
    let mut attributes = vec![KeyValue::new("http.request.method", method.unwrap_or("_OTHER"))];
    let method = method.unwrap_or("HTTP");
    let name = route.as_ref().map_or(method.into(), |route| format!("{method} {route}").into());
    attributes.extend(route.map(|route| KeyValue::new("http.route", route)));
    let mut outcome = Status::Unset;
    match status {
        Some(status) => {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
            // A status below 500 is the client's error, if it is one.
            if status >= 500 {
                attributes.push(KeyValue::new("error.type", status.to_string()));
                outcome = Status::error("");
            }
        }
        None => attributes.push(KeyValue::new("error.type", "client_left")),
    }
    (name, attributes, outcome)
}
