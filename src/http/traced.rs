//! The span of a request, until its answer begins.

use crate::broker::admission::Admission;
use crate::broker::spans::{Parent, RequestSpan, Span, SpanOf};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use std::time::Instant;

/// The methods that OpenTelemetry knows. Others have no name, because clients choose it.
const METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

const NAMES: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// A request that is traced. Leaves its span when it is dropped, so that there also is one if the client
/// does not wait for its answer.
pub(super) struct Traced {
    admission: Admission,
    begun: Instant,
    parent: Option<Parent>,
    method: Option<&'static str>,
    // Not the path, which has the name of a topic.
    route: Option<MatchedPath>,
    status: Option<StatusCode>,
}

impl Traced {
    /// Returns it, if the daemon exports traces and this one is sampled.
    pub(super) fn begin(admission: &Admission, request: &Request) -> Option<Self> {
        let spans = admission.spans()?;
        let parent = parent(request.headers());
        spans.samples(parent.as_ref()).then(|| Self {
            admission: admission.clone(),
            begun: Instant::now(),
            parent,
            method: METHODS
                .iter()
                .zip(NAMES)
                .find_map(|(method, name)| (method == request.method()).then_some(name)),
            route: request.extensions().get::<MatchedPath>().cloned(),
            status: None,
        })
    }

    /// The answer begins.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let of = SpanOf::Request(RequestSpan {
            method: self.method,
            route: self.route.as_ref().map(|route| route.as_str().to_owned()),
            status: self.status.map(|status| status.as_u16()),
        });
        let (begun, ended, parent) = (self.begun, Instant::now(), self.parent);
        self.admission.leave_span(Span { begun, ended, parent, of });
    }
}

// Two values contradict each other.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all("traceparent").iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { Parent::parse(value.as_bytes()) }
}
