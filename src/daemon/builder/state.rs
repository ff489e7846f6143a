//! The state of a daemon: its engine, and the journal or the log that the engine is read from.

use super::SpawnError;
use crate::broker::Broker;
use crate::daemon::blocking::blocking;
#[cfg(feature = "jetstream")]
use crate::daemon::cluster::Cluster;
use crate::daemon::run::new_run;
#[cfg(feature = "jetstream")]
use crate::daemon::{JetStreamOptions, LogError};
use crate::daemon::{JournalOptions, journal};
use crate::engine::{Engine, Limits, TopicRules};
use crate::journal::threads::Journal;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The settings of a daemon's state.
pub(super) struct StateOf {
    pub(super) limits: Limits,
    pub(super) topic_rules: TopicRules,
    pub(super) directory: Option<PathBuf>,
    pub(super) journal: Option<JournalOptions>,
    #[cfg(feature = "jetstream")]
    pub(super) log: Option<JetStreamOptions>,
}

/// The state of a daemon that has been read.
pub(super) struct StateOpened {
    pub(super) broker: Arc<Broker>,
    pub(super) journal: Option<Journal>,
    /// The tasks that follow a log, until this is dropped.
    pub(super) following: JoinSet<()>,
}

impl StateOf {
    pub(super) async fn open(self) -> Result<StateOpened, SpawnError> {
        #[cfg(feature = "jetstream")]
        if let Some(options) = self.log.clone() {
            return Ok(self.follow(options).await?);
        }
        let engine = Engine::new(self.limits, new_run(), rand::random());
        let mut engine = engine.with_topic_rules(self.topic_rules);
        let mut journal = None;
        if let Some(options) = self.journal {
            let state = self.directory.ok_or(SpawnError::NoState)?;
            let open = move || journal::open(&state, options, engine, new_run());
            let opened = blocking(open).await?;
            journal = Some(opened.0);
            engine = opened.1;
        }
        let queue = journal.as_ref().map(|journal| journal.queue.clone());
        let broker = Arc::new(Broker::with_log(engine, queue, None));
        let journal = journal.map(|journal| journal::start(journal, &broker));
        Ok(StateOpened { broker, journal, following: JoinSet::new() })
    }

    #[cfg(feature = "jetstream")]
    async fn follow(self, options: JetStreamOptions) -> Result<StateOpened, LogError> {
        let cluster = Cluster::open(options).await?;
        let engine = cluster.engine(self.limits).with_topic_rules(self.topic_rules);
        let broker = Arc::new(Broker::with_log(engine, None, Some(cluster.proposals())));
        let following = cluster.start(&broker).await;
        Ok(StateOpened { broker, journal: None, following })
    }
}
