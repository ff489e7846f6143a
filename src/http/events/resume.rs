//! The start of a stream with an id, also after a restart of the daemon.

use crate::broker::Broker;
use crate::http::event_id::EventId;
use crate::wire::{Filter, Position};
use std::sync::Arc;

/// The topics and losses with which a stream resumes, beside its place in the log.
#[derive(Default)]
pub(super) struct Resumed {
    /// The topics that were overtaken: name, epoch and next sequence.
    pub(super) named: Vec<(Arc<str>, u64, u64)>,
    /// How many of the messages that the stream has delivered were not kept, at most. A stream of one
    /// topic is told exactly, in a gap.
    pub(super) lost: u64,
}

/// Changes an id of an earlier run to one of this run.
pub(super) fn resume(broker: &Broker, filter: &Filter, last: &mut EventId) -> Resumed {
    let of = last.since.run;
    let furthest = Position { run: of, position: last.reached() };
    let (run, known, torn) = broker.with(|engine| {
        let known = engine.resumed_from(last.since).zip(engine.resumed_from(furthest));
        (engine.run(), known, engine.torn_in(of))
    });
    let Some(((position, _), (_, beyond))) = known else {
        // Topics have other ids in this run.
        last.overtaken.clear();
        last.furthest = 0;
        return Resumed::default();
    };
    let mut resumed = Resumed::default();
    if !filter.is_exact() && of != run {
        // The position says nothing of a message whose beginning was kept, and whose end was not. Of the
        // topics that the id names, the stream is told in gaps.
        let torn = torn.map_or(0, |torn| {
            let delivered = torn.known.iter().filter(|torn| {
                let (name, id) = &torn.topic;
                let is_named = last.overtaken.iter().any(|(topic, _)| topic == id);
                torn.position <= furthest.position && filter.matches(name) && !is_named
            });
            delivered.count() as u64 + torn.more
        });
        resumed.lost = beyond + torn;
        last.furthest = 0;
    }
    resumed.named.extend(last.overtaken.iter().filter_map(|(id, next)| {
        let (topic, epoch) = broker.with(|engine| engine.topic_in_run(of, *id))?;
        Some((topic, epoch, *next))
    }));
    // From here on as if it were an id of this run.
    last.since = Position { run, position };
    resumed
}
