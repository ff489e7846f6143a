//! The attacks over sessions. The attackers represent other machines. Each has a fixed rate, so
//! that the test measures the daemon, and not the processors that they share with it.

use crate::foe::{Reads, Siege};
use crate::honest::Target;
use crate::publishing::{flood, large, messages, receipts, tiny, topics, unended};
use crate::subscribing::{
    asks, churn, deaf, everything, names, repairs, resumes, wildcards, woken,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use weir::wire::{ClientFrame, Delivery, Lag, Start};

/// Returns a timer with this rate, which does not catch up after a delay.
pub fn beat(per_second: u64) -> Interval {
    let mut beat = interval(Duration::from_nanos(1_000_000_000 / per_second));
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

pub fn subscribe<'a>(
    request: u32,
    filter: &'a str,
    start: Start<'a>,
    delivery: Delivery,
    deadline: u32,
) -> ClientFrame<'a> {
    ClientFrame::Subscribe { request, filter, start, delivery, lag: Lag::Oldest, deadline }
}

pub fn ordered<'a>(request: u32, filter: &'a str, start: Start<'a>) -> ClientFrame<'a> {
    subscribe(request, filter, start, Delivery::Ordered, 0)
}

pub fn publish(alias: u32, number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish { alias, number, stamp: 0, payload }
}

/// A connection without a hello.
async fn mute(siege: Arc<Siege>) {
    let crypto =
        quinn::crypto::rustls::QuicClientConfig::try_from(crate::common::tls(weir::wire::ALPN));
    let config = quinn::ClientConfig::new(Arc::new(crypto.unwrap()));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connecting = endpoint.connect_with(config, siege.server, "localhost").unwrap();
    let Ok(connection) = connecting.await else { return };
    let _counted = siege.counted(|siege| &siege.quic);
    let how = match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            weir::wire::Code(close.error_code.into_inner() as u32).name().to_owned()
        }
        error => error.to_string(),
    };
    siege.note("mute", format!("ended {how}"));
}

/// Attacks that run only if they are named: the daemon does not withstand them yet.
const OTHERS: [&str; 3] = ["amplified", "batches", "tiny"];

/// Keeps this many instances of an attack running, unless `WEIR_SIEGE_ATTACKS` names only others.
pub fn keep<F>(
    siege: &Arc<Siege>,
    name: &str,
    times: u32,
    attack: impl Fn(Arc<Siege>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let chosen = std::env::var("WEIR_SIEGE_ATTACKS");
    let is_chosen =
        chosen.map_or(!OTHERS.contains(&name), |names| names.split(',').any(|n| n == name));
    if !is_chosen {
        return;
    }
    let attack = Arc::new(attack);
    for n in 0..times {
        let (siege, attack) = (siege.clone(), attack.clone());
        tokio::spawn(async move {
            // The instances do not start at the same time.
            sleep(Duration::from_millis(u64::from(n) * 97 % 2000)).await;
            loop {
                attack(siege.clone()).await;
                sleep(Duration::from_millis(500)).await;
            }
        });
    }
}

/// Starts all attacks. They do not end.
pub fn all(siege: &Arc<Siege>, target: &Target) {
    keep(siege, "churn", 2, |siege| churn(siege, "churn", Reads::All));
    keep(siege, "churn", 2, |siege| churn(siege, "churn, unread", Reads::Deaf));
    keep(siege, "wildcards", 1, |siege| wildcards(siege, "*/*/x"));
    keep(siege, "everything", 2, |siege| everything(siege, 64));
    keep(siege, "resumes", 1, resumes);
    keep(siege, "woken", 1, woken);
    keep(siege, "topics", 1, topics);
    keep(siege, "unended", 3, |siege| unended(siege, "publications that do not end", false));
    keep(siege, "begins", 8, |siege| unended(siege, "begins that do not end", true));
    keep(siege, "messages", 8, messages);
    keep(siege, "names", 3, names);
    keep(siege, "flood", 1, flood);
    keep(siege, "deaf", 4, deaf);
    keep(siege, "repairs", 2, repairs);
    keep(siege, "asks", 1, |siege| asks(siege, "asks", Reads::All));
    keep(siege, "asks", 2, |siege| asks(siege, "asks, no streams", Reads::NoStreams));
    keep(siege, "receipts", 2, receipts);
    keep(siege, "mute", 10, mute);
    let target = target.clone();
    keep(siege, "large", 1, move |siege| large(siege, target.clone()));
    keep(siege, "amplified", 1, |siege| wildcards(siege, "**"));
    keep(siege, "tiny", 1, tiny);
    keep(siege, "batches", 4, |siege| everything(siege, 256));
    crate::web::all(siege);
}
