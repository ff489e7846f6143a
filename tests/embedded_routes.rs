//! Routes of an embedding program on the daemon's ports.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/http.rs"]
mod http;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use http::ask;
use weir::Daemon;

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "the shop" }))
        .route("/echo", post(|body: String| async move { body }))
        // These are the daemon's.
        .route("/weir.js", get(|| async { "not this" }))
        .route("/v1/topics/a", get(|| async { "nor this" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page in the shop") })
}

async fn daemon() -> Daemon {
    let local = "127.0.0.1:0".parse().unwrap();
    Daemon::builder().listen(local).http(Some(local)).routes(routes()).spawn().await.unwrap()
}

#[tokio::test]
async fn they_are_served_and_the_daemons_paths_go_first() {
    let daemon = daemon().await;
    let to = daemon.http_addr().unwrap();
    let text = |answer: &http::Answer| String::from_utf8(answer.body.clone()).unwrap();
    let shop = ask(to, "GET", "/").send().await;
    assert_eq!((shop.status, text(&shop)), (200, "the shop".into()));
    let echo = ask(to, "POST", "/echo").body("once").send().await;
    assert_eq!((echo.status, text(&echo)), (200, "once".into()));
    let none = ask(to, "GET", "/app.js").send().await;
    assert_eq!((none.status, text(&none)), (404, "no such page in the shop".into()));
    let client = ask(to, "GET", "/weir.js").send().await;
    assert!(client.status == 200 && text(&client).contains("WebTransport"));
    daemon.publish("a", "x").unwrap();
    let message = ask(to, "GET", "/v1/topics/a").send().await;
    assert_eq!((message.status, text(&message)), (200, "x".into()));
}

// The checks of hosts and origins are those of the daemon.
#[tokio::test]
async fn a_foreign_page_reaches_none_of_them() {
    let daemon = daemon().await;
    let to = daemon.http_addr().unwrap();
    let foreign = ask(to, "POST", "/echo").header("origin", "https://evil.example").body("x");
    assert_eq!(foreign.send().await.status, 403);
    let rebound = ask(to, "GET", "/").header("host", "evil.example").send().await;
    assert_eq!(rebound.status, 421);
}
