//! `/sessions` and `/topics`: who is connected, and what is published, for `weir top`.
//!
//! They name topics, identities and addresses. So only this machine may ask, by a name that always means
//! this machine; a page of a site whose name suddenly resolves to it cannot read them.
//!
//! One request at a time is answered. It looks at everything, a few things at a time, and other tasks run
//! in between.

use super::metrics::Metrics;
use super::ranked::Ranked;
use super::shared::{NOT_KEPT, Shared};
use crate::access::origin::is_loopback_authority;
use crate::engine::{Skips, TopicStats};
use crate::http::{Problem, parameters};
use crate::net::now;
use crate::net::session::flow::Flow;
use crate::net::session::list::{SessionInfo, SubscriptionInfo};
use crate::wire::{Code, Filter, NameError};
use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::yield_now;

/// Maximum number of sessions or topics in one answer, and how many there are if nothing else is asked
/// for. A screen shows fewer.
const MOST: usize = 1000;
const USUAL: usize = 100;

/// Number of a session's subscriptions that are named: those that are furthest behind.
const NAMED: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionOrder {
    Age,
    Backlog,
    Delivered,
    Received,
    Rtt,
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TopicOrder {
    Bytes,
    Messages,
    Name,
    Rate,
    Subscriptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionParameters {
    sort: Option<SessionOrder>,
    most: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicParameters {
    sort: Option<TopicOrder>,
    most: Option<usize>,
    filter: Option<String>,
}

/// `GET /sessions`.
pub(super) async fn sessions(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let metrics = admit(&shared, from, &headers)?;
    let SessionParameters { sort, most } = parameters(&uri)?;
    let order = sort.unwrap_or(SessionOrder::Delivered);
    let mut ranked = Ranked::new(bounded(most)?);
    // It cannot fail, because the semaphore is never closed.
    let _one = shared.listing.acquire().await;
    for peer in metrics.sessions().open() {
        let session = metrics.sessions().look(&peer);
        ranked.add(of_session(order, &session), session);
        yield_now().await;
    }
    let (total, first) = ranked.finish();
    let sessions: Vec<_> = first.map(session_json).collect();
    Ok(answer(json!({ "at": now(), "total": total, "sessions": sessions })))
}

/// `GET /topics`.
pub(super) async fn topics(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let metrics = admit(&shared, from, &headers)?;
    let TopicParameters { sort, most, filter } = parameters(&uri)?;
    let order = sort.unwrap_or(TopicOrder::Rate);
    let filter = filter.as_deref().map(Filter::new).transpose().map_err(NameError::of_filter)?;
    let mut ranked = Ranked::new(bounded(most)?);
    let _one = shared.listing.acquire().await;
    let (at, mut after, mut some) = (now(), None::<Arc<str>>, Vec::new());
    loop {
        // Nothing after a panic of the engine.
        metrics.broker().tidy(|engine| engine.list_topics(at, after.as_deref(), &mut some));
        let Some(last) = some.last() else { break };
        after = Some(last.name.clone());
        for topic in some.drain(..) {
            if filter.as_ref().is_none_or(|filter| filter.matches(&topic.name)) {
                ranked.add(of_topic(order, &topic), topic);
            }
        }
        yield_now().await;
    }
    let (total, first) = ranked.finish();
    let topics: Vec<_> = first.map(|topic| topic_json(&topic)).collect();
    Ok(answer(json!({ "at": at, "total": total, "topics": topics })))
}

// Returns the daemon, for somebody who may look at it.
fn admit(shared: &Shared, from: SocketAddr, headers: &HeaderMap) -> Result<Metrics, Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !from.ip().to_canonical().is_loopback() || !host.is_some_and(is_loopback_authority) {
        return Err(Problem::of(
            Code::FORBIDDEN,
            "this names topics, identities and addresses: ask from this machine, for a host such as \
             127.0.0.1 or localhost",
        ));
    }
    let starting = || Problem::of(Code::UNAVAILABLE, "the daemon does not serve yet: ask again");
    shared.metrics.get().cloned().ok_or_else(starting)
}

fn bounded(most: Option<usize>) -> Result<usize, Problem> {
    let most = most.unwrap_or(USUAL);
    if most > MOST {
        return Err(Problem::bad_request(format!("most is at most {MOST}, not {most}")));
    }
    Ok(most)
}

fn answer(json: Value) -> Response {
    ([NOT_KEPT], Json(json)).into_response()
}

fn backlog(subscriptions: &[SubscriptionInfo]) -> u64 {
    subscriptions.iter().fold(0, |sum, of| sum.saturating_add(of.stats.messages))
}

fn skipped(subscriptions: &[SubscriptionInfo]) -> u64 {
    subscriptions.iter().map(|of| of.stats.skips.total()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "people read a few digits")]
fn of_session(order: SessionOrder, session: &SessionInfo) -> f64 {
    match order {
        SessionOrder::Age => -(session.id as f64),
        SessionOrder::Backlog => backlog(&session.subscriptions) as f64,
        SessionOrder::Delivered => session.delivered.bytes_per_second,
        SessionOrder::Received => session.received.bytes_per_second,
        SessionOrder::Rtt => session.rtt.map_or(0.0, |rtt| rtt.as_secs_f64()),
        SessionOrder::Skipped => skipped(&session.subscriptions) as f64,
    }
}

#[expect(clippy::cast_precision_loss, reason = "people read a few digits")]
fn of_topic(order: TopicOrder, topic: &TopicStats) -> f64 {
    match order {
        TopicOrder::Bytes => topic.bytes as f64,
        TopicOrder::Messages => topic.newest as f64,
        // They come in this order.
        TopicOrder::Name => 0.0,
        TopicOrder::Rate => topic.messages_per_second,
        TopicOrder::Subscriptions => topic.subscriptions as f64,
    }
}

// Two decimals: more would say nothing.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

fn flow_json(flow: &Flow) -> Value {
    json!({
        "messages": flow.messages,
        "bytes": flow.bytes,
        "messages_per_second": rounded(flow.messages_per_second),
        "bytes_per_second": rounded(flow.bytes_per_second),
    })
}

fn skips_json(skips: &Skips) -> Value {
    let Skips { evicted, skipped, aborted, late, lost, expired, .. } = skips;
    json!({
        "evicted": evicted, "skipped": skipped, "aborted": aborted,
        "late": late, "lost": lost, "expired": expired,
    })
}

fn session_json(mut session: SessionInfo) -> Value {
    let subscriptions = &mut session.subscriptions;
    let (behind, skipped) = (backlog(subscriptions), skipped(subscriptions));
    let exact = subscriptions.iter().all(|of| of.stats.exact);
    subscriptions.sort_by_key(|of| Reverse(of.stats.messages));
    let named = subscriptions.iter().take(NAMED).map(|of| {
        json!({
            "request": of.request,
            "filter": of.stats.filter,
            "backlog_messages": of.stats.messages,
            "backlog_bytes": of.stats.bytes,
            "exact": of.stats.exact,
            "skips": skips_json(&of.stats.skips),
        })
    });
    json!({
        "id": session.id,
        "transport": session.transport.to_string(),
        "address": session.address.to_string(),
        "name": session.name.as_deref().or(session.certificate_name.as_deref()),
        "since": session.since,
        "received": flow_json(&session.received),
        "delivered": flow_json(&session.delivered),
        "rtt": session.rtt.map(|rtt| rtt.as_micros() as u64),
        "sent_packets": session.sent_packets,
        "lost_packets": session.lost_packets,
        "backlog_messages": behind,
        "exact": exact,
        "skipped": skipped,
        "subscriptions": session.subscription_count,
        "filters": named.collect::<Vec<_>>(),
    })
}

fn topic_json(topic: &TopicStats) -> Value {
    json!({
        "name": &*topic.name,
        "epoch": topic.epoch.to_string(),
        "newest": topic.newest,
        "cached_messages": topic.cached_messages,
        "payloads": topic.payloads,
        "bytes": topic.bytes,
        "subscriptions": topic.subscriptions,
        "exact": topic.exact,
        "messages_per_second": rounded(topic.messages_per_second),
        "bytes_per_second": rounded(topic.bytes_per_second),
    })
}
