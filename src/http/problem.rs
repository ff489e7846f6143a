//! Refusals over HTTP: `application/problem+json` (RFC 9457) with the protocol's code.

use crate::access::origin::OriginRefusal;
use crate::wire::{Code, Refusal};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::borrow::Cow;

/// A refusal: a status, the protocol's code, what was wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: Code,
    detail: Cow<'static, str>,
    // A header that names what the client may do instead.
    instead: Option<(HeaderName, &'static str)>,
}

impl Problem {
    /// Creates a refusal with another status than that of its code.
    pub(crate) fn new(
        status: StatusCode,
        code: Code,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, detail: detail.into(), instead: None }
    }

    /// Creates a refusal with the status of its code.
    pub(crate) fn of(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status(code), code, detail)
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Code::BAD_REQUEST, detail)
    }

    /// Creates a refusal with status 405, and `allow` in the header Allow.
    pub(super) fn only(method: &Method, allow: &'static str) -> Self {
        Self { instead: Some((header::ALLOW, allow)), ..method_not_allowed(method) }
    }

    /// Creates a refusal with status 415, because payloads must not be encoded (RFC 9110, section
    /// 15.5.16).
    pub(super) fn encoded(encoding: &str) -> Self {
        let problem = Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UNSUPPORTED,
            format!(
                "Content-Encoding: {encoding} would be lost, as a payload is kept without headers: \
                 send it as it is, or publish the compressed bytes without this header"
            ),
        );
        Self { instead: Some((header::ACCEPT_ENCODING, "identity")), ..problem }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Returns a refusal with status 405. The router adds the header Allow.
pub(super) fn method_not_allowed(method: &Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Code::UNSUPPORTED,
        format!("{method} is not allowed for this path: see the header Allow"),
    )
}

/// Returns the status of a code.
fn status(code: Code) -> StatusCode {
    match code {
        Code::BAD_TOPIC | Code::BAD_FILTER | Code::BAD_REQUEST => StatusCode::BAD_REQUEST,
        Code::UNAUTHORIZED | Code::TOKEN_EXPIRED => StatusCode::UNAUTHORIZED,
        Code::RESERVED | Code::FORBIDDEN => StatusCode::FORBIDDEN,
        Code::NOT_FOUND => StatusCode::NOT_FOUND,
        Code::TIMED_OUT => StatusCode::REQUEST_TIMEOUT,
        Code::STALE => StatusCode::CONFLICT,
        Code::EVICTED | Code::LAGGED => StatusCode::GONE,
        Code::PAYLOAD_TOO_LARGE | Code::FRAME_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RATE_LIMITED | Code::TOO_MANY_SUBSCRIPTIONS => StatusCode::TOO_MANY_REQUESTS,
        Code::UNSUPPORTED => StatusCode::NOT_IMPLEMENTED,
        Code::OVERLOADED | Code::SHUTTING_DOWN | Code::UNAVAILABLE => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        // The current name in RFC 9110.
        StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Content",
        _ => status.canonical_reason().unwrap_or("Error"),
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, reason }: Refusal) -> Self {
        Self::of(code, reason)
    }
}

impl From<OriginRefusal> for Problem {
    fn from(refusal: OriginRefusal) -> Self {
        let status = match refusal {
            OriginRefusal::ForeignOrigin(_) | OriginRefusal::CrossSite => StatusCode::FORBIDDEN,
            OriginRefusal::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            OriginRefusal::BadHost(_) => return Self::bad_request(refusal.to_string()),
        };
        Self::new(status, Code::FORBIDDEN, refusal.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail, instead } = self;
        let body = json!({
            "type": "about:blank",
            "title": title(status),
            "status": status.as_u16(),
            "detail": detail,
            "code": code.0,
            "name": code.name(),
            "retry": code.retry(),
        });
        let kind = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let mut response = (status, kind, body.to_string()).into_response();
        // For the counts of limits.
        response.extensions_mut().insert(code);
        let headers = response.headers_mut();
        if let Some((name, value)) = instead {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if code.retry() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
impl Problem {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_origins_and_hosts_have_a_status_of_their_own() {
        let status = |refusal| Problem::from(refusal).status().as_u16();
        assert_eq!(status(OriginRefusal::ForeignOrigin("https://evil.example".into())), 403);
        assert_eq!(status(OriginRefusal::ForeignHost("evil.example".into())), 421);
        assert_eq!(status(OriginRefusal::BadHost("a b".into())), 400);
    }

    #[test]
    fn what_a_retry_can_help_is_no_client_error_but_these() {
        for code in Code::ALL {
            let status = status(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
            // A token whose time has passed is worth another one.
            let busy = [401, 408, 410, 429].contains(&status.as_u16()) || status.is_server_error();
            assert!(!code.retry() || busy, "{code} {status}");
        }
    }
}
