//! A daemon and an axum program on the same ports: the shop's own page and API, with Weir's HTTP,
//! WebSocket and WebTransport beside them.
//!
//! ```text
//! cargo run --release --example axum -- 127.0.0.1:8080
//! ```

use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use weir::Daemon;

const PAGE: &str = r##"<!doctype html><title>Orders</title><h1>Orders</h1><ul id="orders"></ul>
<script type="module">
  import { connect } from "/weir.js";
  const client = await connect(location.origin);
  for await (const order of client.subscribe("orders", { from: "all" })) {
    document.querySelector("#orders").append(Object.assign(document.createElement("li"), { textContent: order.text?.() }));
  }
</script>"##;

/// The daemon, once it has started: the routes are made before it.
type Shared = Arc<OnceLock<Daemon>>;

async fn order(State(daemon): State<Shared>, Json(order): Json<Value>) -> Json<Value> {
    // In process nothing passes a socket.
    let receipt = daemon.get().map(|daemon| daemon.publish("orders", order.to_string()));
    Json(match receipt {
        Some(Ok(receipt)) => json!({ "order": receipt.sequence }),
        Some(Err(refused)) => json!({ "error": refused.to_string() }),
        None => json!({ "error": "the shop opens in a moment" }),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let http: SocketAddr =
        std::env::args().nth(1).map_or(Ok((Ipv4Addr::LOCALHOST, 0).into()), |at| at.parse())?;
    let shared = Shared::default();
    let routes = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/orders", post(order))
        .with_state(shared.clone());
    let builder =
        Daemon::builder().listen((Ipv4Addr::LOCALHOST, 0).into()).http(http).routes(routes);
    let daemon = shared.get_or_init({
        let daemon = builder.spawn().await?;
        || daemon
    });
    let Some(at) = daemon.http_addr() else { return Ok(()) };
    println!("the shop is open: http://{at}");
    println!("order with: curl -s http://{at}/orders --json '\"tea\"'");
    // Without an address it is only a look.
    if std::env::args().nth(1).is_some() {
        std::future::pending::<()>().await;
    }
    Ok(())
}
