//! The files of `web/`: the page, the client for browsers, and the description of this face.

use super::connection::ConnectionHandle;
use super::problem::Problem;
use super::rates;
use crate::engine::Budget;
use crate::wire::{Code, Digest};
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;
use std::sync::Arc;
use tower_http::compression::CompressionLayer;

/// The files that are served. A debug build reads them from disk at each request.
#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "index.html"]
#[include = "app.js"]
#[include = "style.css"]
#[include = "dist/weir.js"]
#[include = "weir.d.ts"]
#[include = "favicon.svg"]
#[include = "openapi.json"]
#[include = "page/*"]
#[allow_missing = true]
struct Web;

/// The files that pages of every origin may load. A daemon with routes of its own program serves no others.
pub(super) const PUBLIC: [&str; 3] = ["/weir.js", "/weir.d.ts", "/openapi.json"];

/// The page runs its own scripts and styles only, and connects to any daemon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self' https: wss: ws:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Memory for the compression of one answer, in bytes, measured. It is released at the end of the
/// answer.
const COMPRESSING: usize = 384 << 10;

/// Answers requests that no route is for: with a file, or with 404.
pub(super) fn service(budget: Budget) -> Router {
    Router::new()
        .fallback(file)
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(budget, compressed))
}

// Compresses while the budget has room, because a client that does not read holds the compressor.
// Without room the answer is sent as it is.
async fn compressed(
    State(budget): State<Budget>,
    mut request: Request,
    next: middleware::Next,
) -> Response {
    let asked = request.headers().contains_key(header::ACCEPT_ENCODING);
    let room = asked.then(|| budget.take(COMPRESSING)).flatten();
    if room.is_none() {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    let mut response = next.run(request).await;
    if let Some(room) = room
        && response.headers().contains_key(header::CONTENT_ENCODING)
    {
        response.extensions_mut().insert(Arc::new(room));
    }
    response
}

async fn file(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = stored_at(path).and_then(Web::get) else {
        let detail =
            format!("there is nothing at {}: the paths are in /openapi.json", request.uri().path());
        return Problem::of(Code::NOT_FOUND, detail).into_response();
    };
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        return Problem::only(request.method(), "GET, HEAD").into_response();
    }
    let response = serve(path, file, request.headers());
    let size = response.body().size_hint().exact().unwrap_or_default();
    if let Some(connection) = request.extensions().get::<Arc<ConnectionHandle>>() {
        rates::spend_beyond(&connection.budgets().replay, size as usize);
    }
    response
}

/// Path below `web/` of the file that is served at a path. `weir.js` is built from `web/weir/`.
fn stored_at(path: &str) -> Option<&str> {
    match path {
        "weir.js" => Some("dist/weir.js"),
        _ if path.starts_with("dist/") => None,
        _ => Some(path),
    }
}

fn serve(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash = Digest(file.metadata.sha256_hash());
    // Weak: the same for the file and for the file compressed.
    let tag = format!("W/\"{hash}\"");
    let fresh = none_match(headers, &hash.to_string());
    let mut response = if fresh {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let bytes = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        Body::from(bytes).into_response()
    };
    let anywhere = matches!(path, "weir.js" | "weir.d.ts" | "openapi.json");
    let more = [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        // A page that nothing else shares a process with has a finer clock: 5 µs, not 100 µs.
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            if anywhere { "cross-origin" } else { "same-origin" },
        ),
    ];
    let headers = response.headers_mut();
    headers.extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "ts" => "application/typescript; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "wasm" => "application/wasm",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether `If-None-Match` (RFC 9110, section 13.1.2) names this tag, or any.
pub(super) fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    let all = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = all.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.any(|one| {
        let one = one.trim();
        let bare = one.strip_prefix("W/").unwrap_or(one);
        let bare = bare.strip_prefix('"').and_then(|bare| bare.strip_suffix('"'));
        one == "*" || bare == Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let matches = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            none_match(&HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]), "ab")
        };
        assert!(matches("\"ab\"") && matches("W/\"ab\"") && matches("\"x\", \"ab\""));
        assert!(matches("*") && !matches("ab") && !matches("\"abc\"") && !matches(""));
        assert!(!none_match(&HeaderMap::new(), "ab"));
    }

    #[test]
    fn the_built_client_is_served_at_one_path() {
        let script = stored_at("weir.js").and_then(Web::get).unwrap();
        assert!(script.data.starts_with(b"// weir-relay, MIT OR Apache-2.0"));
        assert!(stored_at("dist/weir.js").is_none());
    }

    #[test]
    fn what_is_not_for_visitors_is_not_there() {
        let inside = ["package.json", "README.md", "weir/index.js", "node_modules/esbuild/main.js"];
        for path in inside.into_iter().chain(["../Cargo.toml", "/etc/passwd", "test/x.js"]) {
            assert!(Web::get(path).is_none(), "{path}");
        }
    }
}
