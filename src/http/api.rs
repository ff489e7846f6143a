//! The requests publish, get and top.

use super::connection::ConnectionHandle;
use super::large::{self, Evicted};
use super::problem::Problem;
use super::state::AppState;
use super::{answer_budget, assets, body, caller, headers, path, rates, upload};
use crate::broker::owned_item::LargeRef;
use crate::broker::throttle::ReplayBudget;
use crate::engine::{Payload, Publication, Ranking, Receipt, UploadRequest};
use crate::json::payload_field;
use crate::net::now;
use crate::wire::{Code, Digest, LARGE, Which, check_readable_topic, check_topic, nonzero};
use axum::body::{Body, HttpBody as _};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Maximum time that a request waits for a journal that does not keep its publication, 10 s.
const UNKEPT: Duration = Duration::from_secs(10);

const STAMP: HeaderName = HeaderName::from_static("weir-stamp");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Maximum length of an idempotency key, bytes.
const MAX_KEY: usize = 255;

/// `POST /v1/topics/{topic}`.
///
/// The status is 200 and not 201 for two reasons. A message may be evicted at any time, so that no
/// lasting resource is created. And a repeated key receives the same answer as the first request.
pub(super) async fn publish(
    State(state): State<Arc<AppState>>,
    Extension(connection): Extension<Arc<ConnectionHandle>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (head, body) = request.into_parts();
    let topic = path::topic(&head.uri, false)?.name;
    // The head is checked before the body is read, so that a client may learn of an error before it
    // sends the payload.
    check_topic(&topic).map_err(crate::wire::NameError::of_topic)?;
    no_query(&head.uri)?;
    check_encoding(&head.headers)?;
    let identity = caller::identify(&state, &connection, &head.headers).await?;
    caller::allowed(state.admission.access().publish(&identity, &topic))?;
    let stamp = stamp(&head.headers)?;
    // Each identity has keys of its own, so that none learns of another's publications.
    let of = identity.name().map_or_else(Vec::new, |name| [name.as_bytes(), b"\n"].concat());
    let origin = key(&head.headers)?.map(|key| state.keys.origin(&[&of, key].concat()));
    let throttle = &connection.budgets().throttle;
    let mut limited = None;
    if let Some(own) = state.admission.intake_of(&identity) {
        // The address has paid for the request already.
        let alone = state.admission.unlimited_budgets().throttle.with_identity(own.clone());
        body::slow_down(&alone, 1, 0).await?;
        limited = Some(throttle.with_identity(own));
    }
    let throttle = limited.as_ref().unwrap_or(throttle);
    state.broker.room_to_publish().await;
    let length = body.size_hint().exact().filter(|length| *length > LARGE as u64);
    let (receipt, digest, size) = if let Some(size) = length {
        let request = UploadRequest { topic: &topic, size, stamp, origin };
        let (receipt, digest) = upload::publish(&state, throttle, body, &request).await?;
        (receipt, digest, size)
    } else {
        let payload = body::read(&state, throttle, body).await?;
        let digest = Digest::of(&payload);
        let payload = Payload::from(payload);
        let publication = Publication { topic: &topic, payload: &payload, digest, stamp, origin };
        let receipt = state.broker.publish(now(), &publication).await?;
        (receipt, digest, payload.len() as u64)
    };
    if timeout(UNKEPT, state.broker.kept()).await.is_err() {
        let reason = "the publication was relayed, and the daemon's journal has not kept it yet: \
                      repeat it with the same Idempotency-Key";
        return Err(Problem::of(Code::UNAVAILABLE, reason));
    }
    if receipt.digest != digest {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            Code::BAD_REQUEST,
            format!(
                "this Idempotency-Key was used for message {} of {topic}, with another payload: \
                 choose a new key for each publication",
                receipt.sequence
            ),
        ));
    }
    let Receipt { sequence, count, since, duplicate, .. } = receipt;
    Ok(Json(json!({
        "topic": topic, "sequence": sequence, "count": count,
        "since": nonzero(since),
        "digest": digest.to_string(), "size": size, "duplicate": duplicate,
    })))
}

// Rejects encoded payloads. A payload is kept without headers, so that its encoding would be lost.
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        let text = value.to_str().unwrap_or("?");
        if let Some(other) = text.split(',').map(str::trim).find(|coding| !plain(coding)) {
            return Err(Problem::encoded(other));
        }
    }
    Ok(())
}

fn stamp(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers::only(headers, &STAMP)? else {
        return Ok(0);
    };
    let bad = || Problem::bad_request("Weir-Stamp is microseconds since 1970-01-01 UTC, decimal");
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(bad)
}

// Returns the idempotency key. The draft has quotes around it (a String of RFC 9651); the key without
// quotes is the same.
fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = headers::only(headers, &KEY)? else {
        return Ok(None);
    };
    let key = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'));
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    key.map(str::as_bytes)
        .filter(|key| (1..=MAX_KEY).contains(&key.len()) && key.iter().all(|byte| plain(*byte)))
        .map(Some)
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "Idempotency-Key is 1 to {MAX_KEY} ASCII characters, in quotes or not, and has \
                 neither quotes nor backslashes: a random UUID will do"
            ))
        })
}

fn no_query(uri: &Uri) -> Result<(), Problem> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(query) => Err(Problem::bad_request(format!(
            "publishing takes no parameters, and there is {query:?}: a question mark in a topic \
             is written %3F"
        ))),
    }
}

/// Returns the parameters of a request. Unknown ones are rejected.
pub(crate) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let Query(parameters) = Query::try_from_uri(uri)
        .map_err(|error: QueryRejection| Problem::bad_request(error.body_text()))?;
    Ok(parameters)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetParameters {
    sequence: Option<u64>,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopParameters {
    k: Option<usize>,
}

/// `GET /v1/topics/{topic}` and `GET /v1/topics/{topic}/top`.
pub(super) async fn get_or_top(
    State(state): State<Arc<AppState>>,
    Extension(connection): Extension<Arc<ConnectionHandle>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = path::topic(&uri, true)?;
    check_readable_topic(&path.name).map_err(crate::wire::NameError::of_topic)?;
    let identity = caller::identify(&state, &connection, &headers).await?;
    caller::allowed(state.admission.access().read(&identity, &path.name))?;
    let replay = &connection.budgets().replay;
    if path.top {
        return top(&state, replay, &path.name, &parameters(&uri)?);
    }
    get(&state, replay, &path.name, parameters(&uri)?, &headers)
}

fn get(
    state: &AppState,
    replay: &ReplayBudget,
    topic: &str,
    parameters: GetParameters,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let which = match parameters {
        GetParameters { sequence: None, digest: None } => Which::Latest,
        GetParameters { sequence: Some(sequence), digest: None } => Which::Sequence(sequence),
        GetParameters { sequence: None, digest: Some(digest) } => {
            let digest: Result<Digest, _> = digest.parse();
            Which::Digest(digest.map_err(|error| Problem::bad_request(error.to_string()))?)
        }
        _ => return Err(Problem::bad_request("either a sequence or a digest, not both")),
    };
    let (digest, payload, numbers) = state.broker.with(|engine| {
        engine.get(topic, which).map(|found| {
            let stamp = nonzero(found.stamp());
            let numbers = [
                ("weir-sequence", Some(found.sequence())),
                ("weir-count", Some(found.count())),
                ("weir-epoch", Some(found.epoch())),
                ("weir-stamp", stamp),
            ];
            let payload = match found.rope() {
                Some(_) => Found::Large(LargeRef::new(&found)),
                None => Found::Small(found.payload()),
            };
            (found.digest().to_string(), payload, numbers)
        })
    })?;
    let mut response = if assets::none_match(request, &digest) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        payload.body(state, replay)?.into_response()
    };
    // These headers prevent browsers from running any payload as a page of this host.
    let fixed = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let headers = response.headers_mut();
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    for (name, number) in numbers {
        if let Some(number) = number {
            headers.insert(HeaderName::from_static(name), number.into());
        }
    }
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

// A payload that was found. A large one stays in the cache, so that an unread answer does not hold
// it.
enum Found {
    Small(Bytes),
    Large(LargeRef),
}

impl Found {
    fn body(self, state: &AppState, replay: &ReplayBudget) -> Result<Body, Problem> {
        match self {
            Self::Small(payload) => {
                rates::spend_beyond(replay, payload.len());
                // It is charged, because it may leave the cache before its client has read it.
                let charge = answer_budget::at_once(&state.budget, payload.len())?;
                Ok(Body::from(answer_budget::charged(payload, charge)))
            }
            Self::Large(large) => {
                let batches = large::Batches::begin(&state.broker, large);
                let batches =
                    batches.map_err(|_| Problem::of(Code::EVICTED, Evicted.to_string()))?;
                Ok(large::body(batches, &state.budget, replay, large.size))
            }
        }
    }
}

fn top(
    state: &AppState,
    replay: &ReplayBudget,
    topic: &str,
    parameters: &TopParameters,
) -> Result<Response, Problem> {
    let k = parameters.k.unwrap_or(10);
    if k > 100 {
        return Err(Problem::bad_request("k is 100 at most"));
    }
    let ranking = state.broker.with(|engine| engine.top(topic, k))?;
    let sent = |entry: &Ranking| 256 + entry.payload.as_ref().map_or(0, Bytes::len);
    rates::spend_beyond(replay, ranking.iter().map(sent).sum());
    let top: Vec<_> = ranking.iter().map(ranked).collect();
    let kind = [(header::CACHE_CONTROL, "no-store")];
    Ok((kind, Json(json!({ "topic": topic, "top": top }))).into_response())
}

fn ranked(entry: &Ranking) -> Value {
    let mut value = json!({
        "count": entry.count, "since": nonzero(entry.since),
        "sequence": entry.sequence,
        "digest": entry.digest.to_string(), "size": entry.size,
    });
    if let (Value::Object(fields), Some(payload)) = (&mut value, &entry.payload) {
        payload_field(fields, payload);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(values: &[&str]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_str(value).unwrap());
        }
        key(&headers).map(|key| key.map(|key| String::from_utf8(key.to_vec()).unwrap()))
    }

    #[test]
    fn keys_in_quotes_or_not() {
        assert_eq!(parsed(&[]), Ok(None));
        for good in ["8e03978e-40d5", "\"8e03978e-40d5\""] {
            assert_eq!(parsed(&[good]), Ok(Some("8e03978e-40d5".to_owned())));
        }
        assert!(parsed(&[&"k".repeat(255)]).is_ok());
        for bad in ["", "\"\"", "\"", "\"a", "a\"b", "a\\b", &"k".repeat(256)] {
            assert!(parsed(&[bad]).is_err(), "{bad}");
        }
        assert!(parsed(&["a", "a"]).is_err());
    }
}
