//! Reading the headers of a request.

use super::problem::Problem;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Returns the value of a header that may occur only once.
pub(super) fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut all = headers.get_all(name).iter();
    let first = all.next().map(HeaderValue::to_str).transpose();
    match first {
        Ok(first) if all.next().is_none() => Ok(first),
        _ => Err(Problem::bad_request(format!("the header {name} stands once, in ASCII"))),
    }
}
