//! A daemon whose log is in NATS JetStream: it is one of several.

use crate::broker::Broker;
use crate::engine::replica::{Applied, LogEntry, Ordered};
use crate::engine::{Engine, Limits};
use crate::journal::jetstream::follow::{Apply, NeedsEntry};
use crate::journal::jetstream::settings::JetStreamOptions;
use crate::journal::jetstream::stream::{self, LogError, OpenLog};
use crate::journal::proposals::ProposalQueue;
use std::sync::Arc;
use tokio::task::JoinSet;

/// A log that is open, and not followed yet.
pub(super) struct Cluster {
    log: OpenLog,
    queue: Arc<ProposalQueue>,
}

impl Cluster {
    pub(super) async fn open(options: JetStreamOptions) -> Result<Self, LogError> {
        Ok(Self { log: stream::open(options).await?, queue: Arc::default() })
    }

    /// Creates the engine, a replica of the log.
    pub(super) fn engine(&self, limits: Limits) -> Engine {
        let mut engine = Engine::new(limits, self.log.run(), rand::random());
        engine.follow_log(self.log.last(), rand::random());
        engine.share_keys(self.log.secret());
        engine
    }

    /// Returns the proposals that are on their way.
    pub(super) fn proposals(&self) -> Arc<ProposalQueue> {
        self.queue.clone()
    }

    /// Begins to follow the log, and waits until everything is applied that it has.
    /// Returns the tasks.
    pub(super) async fn start(self, broker: &Arc<Broker>) -> JoinSet<()> {
        let mut log = self.log.start(self.queue, apply_to(broker), needs_entry(broker));
        log.caught_up().await;
        log.tasks
    }
}

fn needs_entry(broker: &Arc<Broker>) -> NeedsEntry {
    let broker = Arc::downgrade(broker);
    Box::new(move || {
        let broker = broker.upgrade().filter(|broker| !broker.has_failed());
        broker.is_some_and(|broker| broker.with(|engine| engine.needs_entry()))
    })
}

// Applies entries, in portions, so that others get the lock in between.
fn apply_to(broker: &Arc<Broker>) -> Apply {
    let broker = Arc::downgrade(broker);
    Box::new(move |entries: &[(LogEntry, Ordered)]| {
        let mut applied = Vec::with_capacity(entries.len());
        // Without a broker, the daemon ends.
        let Some(broker) = broker.upgrade().filter(|broker| !broker.has_failed()) else {
            return vec![Applied::Nothing; entries.len()];
        };
        while applied.len() < entries.len() {
            broker.with(|engine| {
                while let Some((entry, ordered)) = entries.get(applied.len()) {
                    applied.push(engine.apply(entry, ordered));
                    if engine.is_work_spent() {
                        break;
                    }
                }
            });
        }
        applied
    })
}
