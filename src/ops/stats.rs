//! The topic `$weir/stats`: the metrics as JSON, once a second, while somebody subscribes to it.
//!
//! It is a topic like any other, but only the daemon publishes to it. Pages read it through `weir.js`, a
//! late subscriber gets the last minute, and tokens decide who may. While nobody subscribes,
//! nothing is published, so that an idle daemon writes nothing to its journal.

use super::metrics::Metrics;
use crate::engine::{Payload, Publication};
use crate::net::now;
use crate::wire::Digest;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The name of the topic.
pub(crate) const TOPIC: &str = "$weir/stats";

/// Once a second: people see a change at once, and a minute takes some 200 KiB of the cache.
const INTERVAL: Duration = Duration::from_secs(1);

/// Publishes the metrics until the engine has failed.
pub(crate) async fn publish(metrics: Metrics) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !metrics.broker().has_failed() {
        ticks.tick().await;
        if metrics.broker().with(|engine| engine.is_subscribed(TOPIC)) {
            publish_once(&metrics);
        }
    }
}

fn publish_once(metrics: &Metrics) {
    let payload = Bytes::from(metrics.to_json().to_string());
    let (digest, payload) = (Digest::of(&payload), Payload::from(payload));
    let stamp = now();
    let publication = Publication { topic: TOPIC, payload: &payload, digest, stamp, origin: None };
    // A daemon whose journal cannot be written refuses it like any other publication. The next one
    // says so.
    let _ = metrics.broker().with(|engine| engine.publish_own(stamp, &publication));
}
