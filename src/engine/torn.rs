//! The search for torn messages: an earlier run may have shown them complete, and only a part was kept.

use super::runs::{Runs, TornMessage, TornMessages};
use super::topic::Topic;

/// Maximum number of [torn messages](TornMessage) of all runs that are remembered. Further ones are only
/// counted.
const TORN: usize = 1024;

/// Collects the torn messages of all runs.
#[derive(Debug, Default)]
pub(super) struct TornCollector {
    by_run: Vec<(u64, Vec<TornMessage>, u64)>,
    known: usize,
}

impl TornCollector {
    /// Adds those of a topic. They are the messages without a payload that came after the first one
    /// that a run has not kept, and before the run's end. Some of these were shown as aborted.
    pub(super) fn add(&mut self, topic: &Topic, runs: &Runs) {
        let past = topic.past();
        for (run, end) in past.ends().iter().filter(|(_, end)| *end < topic.next_sequence()) {
            let Some(ended) = runs.past().iter().find(|past| past.run == *run) else { continue };
            for sequence in (*end).max(topic.first_sequence())..topic.next_sequence() {
                let Some(entry) = topic.entry(sequence) else { break };
                if entry.position > ended.through {
                    break;
                }
                if !entry.body.is_complete() {
                    let topic = (topic.name().clone(), topic.id());
                    self.push(*run, TornMessage { topic, sequence, position: entry.position });
                }
            }
        }
    }

    fn push(&mut self, run: u64, torn: TornMessage) {
        let at = self.by_run.iter().position(|(of, ..)| *of == run).unwrap_or_else(|| {
            self.by_run.push((run, Vec::new(), 0));
            self.by_run.len() - 1
        });
        let Some((_, known, more)) = self.by_run.get_mut(at) else { return };
        if self.known < TORN {
            self.known += 1;
            known.push(torn);
        } else {
            *more += 1;
        }
    }

    /// Returns them, by the names of the runs.
    pub(super) fn collected(self) -> Vec<(u64, TornMessages)> {
        let of_run = |(run, known, more): (u64, Vec<_>, _)| {
            (run, TornMessages { known: known.into(), more })
        };
        self.by_run.into_iter().map(of_run).collect()
    }
}
