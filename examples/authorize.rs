//! Who may do what, decided by the embedding program: here by a table of API keys.
//!
//! ```text
//! cargo run --release --example authorize
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::net::Ipv4Addr;
use weir::access::{AccessRules, Authorize, Authorizing, Credentials, Identity, Rights};
use weir::client::Reconnect;
use weir::wire::{Code, Filter, Refusal};
use weir::{Client, Daemon, Trust};

/// A stand-in for a database: the name and the rights of each key.
struct ApiKeys(HashMap<&'static str, Identity>);

impl Authorize for ApiKeys {
    // The daemon asks when a session begins, and for requests over HTTP. It decides about publications
    // and subscriptions by the rights of the identity.
    fn authorize<'a>(&'a self, credentials: Credentials<'a>) -> Authorizing<'a> {
        Box::pin(async move {
            let known = credentials.token.and_then(|key| self.0.get(key));
            known.cloned().ok_or_else(|| Refusal::new(Code::UNAUTHORIZED, "show an API key"))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (all, chat) = (Filter::new("demo/**")?, Filter::new("demo/chat")?);
    let keys = ApiKeys(HashMap::from([
        ("ada-key", Identity::named("ada", Rights::new([chat], [all.clone()])?)?),
        ("screen-key", Identity::named("screen", Rights::new([], [all])?)?),
    ]));
    let daemon = Daemon::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .access(AccessRules::default().authorize(keys))
        .spawn()
        .await?;

    let connect = |key: &'static str| {
        Client::builder(daemon.local_addr().to_string())
            .trust(Trust::Pinned(daemon.certificate_hash().into()))
            .reconnect(Reconnect::never())
            .token(key)
            .connect()
    };
    let ada = connect("ada-key").await?;
    println!("ada published message {}", ada.publish("demo/chat", "hello").await?.sequence);
    if let Err(refused) = ada.publish("demo/news", "hello").await {
        println!("ada may not everything: {refused}");
    }
    let screen = connect("screen-key").await?;
    if let Err(refused) = screen.publish("demo/chat", "hello").await {
        println!("the screen reads only: {refused}");
    }
    if let Err(refused) = connect("stolen-key").await {
        println!("nobody else comes in: {refused}");
    }
    Ok(())
}
