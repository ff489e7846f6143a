//! The progress of a subscription, without its announced topics: where it resumes in topics that it
//! need not name. It outlives the sessions of the subscription.

use super::error::SubscribeError;
use crate::message::{ResumePoint, Resumed, Start};
use crate::wire::Position;
use std::collections::HashMap;
use std::sync::Arc;

/// The part of a subscription's start that does not change with each message: all but the topics
/// that were announced since the last mark.
#[derive(Debug)]
pub(super) struct Progress {
    // The run that the session's positions belong to.
    run: u64,
    // The position at which topics begin that are not named.
    since: Position,
    // The start that applies as long as no topic is announced.
    start: Start,
    // Topics that it was resumed with, and that are not announced since.
    earlier: HashMap<Arc<str>, Resumed>,
    marks: u64,
}

impl Progress {
    /// Creates the progress of a subscription with this start, to which the daemon has answered with
    /// this position.
    pub(super) fn new(start: &Start, at: Position) -> Self {
        let mut earlier = HashMap::new();
        let since = match start {
            Start::Resume(point) => {
                let topics = point.topics.iter();
                earlier.extend(topics.map(|topic| (topic.topic.clone(), topic.clone())));
                point.since
            }
            Start::All => EVERYTHING,
            _ => at,
        };
        let start = match start {
            Start::New => Start::Resume(ResumePoint { since, topics: Vec::new() }),
            other => other.clone(),
        };
        Self { run: at.run, since, start, earlier, marks: 0 }
    }

    /// Returns the number of marks. A topic without an event since the newest mark is not named.
    pub(super) fn marks(&self) -> u64 {
        self.marks
    }

    /// Records a mark: everything up to this position was delivered, except what is missing in
    /// topics that are still named.
    pub(super) fn mark(&mut self, position: u64) -> Result<(), SubscribeError> {
        let Self { run, since, .. } = self;
        if since.run == *run && position < since.position {
            return Err(SubscribeError::Protocol("a mark below an earlier position".into()));
        }
        *since = Position { run: *run, position };
        self.marks += 1;
        // The other topics had nothing up to the mark.
        self.earlier.retain(|_, resumed| !resumed.received.is_empty());
        self.start = Start::Resume(self.point(Vec::new()));
        Ok(())
    }

    /// Records the announcement of a topic. Returns the ranges above its next sequence that an
    /// earlier subscription has received.
    pub(super) fn announced(&mut self, name: &str, epoch: u64) -> Vec<(u64, u64)> {
        let resumed = self.earlier.remove(name).filter(|resumed| resumed.epoch == epoch);
        resumed.map(|resumed| resumed.received).unwrap_or_default()
    }

    fn point(&self, mut topics: Vec<Resumed>) -> ResumePoint {
        topics.extend(self.earlier.values().cloned());
        ResumePoint { since: self.since, topics }
    }

    /// Returns the start that resumes here. `any_topic` is whether any topic was announced, and
    /// `topics` are those to be named.
    pub(super) fn resume(&self, any_topic: bool, topics: Vec<Resumed>) -> Start {
        if any_topic { Start::Resume(self.point(topics)) } else { self.start.clone() }
    }

    /// Returns whether all known topics have to be named in a session of this run. In another run,
    /// the daemon delivers the others from their beginning, although it may have kept their epochs.
    pub(super) fn names_all(&self, run: u64) -> bool {
        self.since.run != run
    }

    /// Restarts with what [`resume`](Self::resume) returns for these topics. The daemon's answer goes
    /// to [`subscribed`](Self::subscribed).
    pub(super) fn restart(&mut self, any_topic: bool, topics: Vec<Resumed>) -> Start {
        if any_topic && !matches!(self.start, Start::Resume(_) | Start::All) {
            // Some of its first messages may belong to topics that are not announced yet. It receives
            // all cached messages of those topics, because it must not miss any.
            self.since = EVERYTHING;
        }
        self.start = self.resume(any_topic, topics.clone());
        self.earlier.extend(topics.into_iter().map(|topic| (topic.topic.clone(), topic)));
        self.start.clone()
    }

    /// Records the daemon's answer to a restart.
    pub(super) fn subscribed(&mut self, at: Position) {
        match self.start {
            Start::Resume(_) | Start::All => self.run = at.run,
            // It begins as the first time.
            _ => *self = Self { marks: self.marks, ..Self::new(&self.start, at) },
        }
    }
}

// A position before all others: run 0 does not exist.
const EVERYTHING: Position = Position { run: 0, position: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position { run: 7, position }
    }

    fn topic(name: &str, received: &[(u64, u64)]) -> Resumed {
        Resumed { topic: name.into(), epoch: 1, next: 5, received: received.into() }
    }

    fn point(since: Position, topics: &[Resumed]) -> Start {
        Start::Resume(ResumePoint { since, topics: topics.into() })
    }

    // If it overflows before all topics of its start are announced, a subscription requests everything. A mark
    // says that all are announced.
    #[test]
    fn after_a_mark_no_more_is_asked_for_than_what_came_after_it() {
        for start in [Start::Latest, Start::Last(3), Start::Sequence(1), Start::New, Start::All] {
            let unmarked = match start {
                Start::New => at(10),
                _ => EVERYTHING,
            };
            let mut progress = Progress::new(&start, at(10));
            assert_eq!(
                progress.restart(true, vec![topic("a", &[])]),
                point(unmarked, &[topic("a", &[])])
            );
            let mut progress = Progress::new(&start, at(10));
            progress.mark(20).unwrap();
            assert_eq!(progress.resume(true, Vec::new()), point(at(20), &[]));
            assert_eq!(progress.resume(false, Vec::new()), point(at(20), &[]));
            assert_eq!(
                progress.restart(true, vec![topic("a", &[])]),
                point(at(20), &[topic("a", &[])])
            );
            // If it overflows again before that topic is announced, it names the topic again.
            assert_eq!(progress.resume(false, Vec::new()), point(at(20), &[topic("a", &[])]));
            progress.mark(30).unwrap();
            assert_eq!(progress.resume(false, Vec::new()), point(at(30), &[]));
        }
    }

    // In an earlier version, a subscription that had received nothing requested the whole cache when
    // it was interrupted for the second time.
    #[test]
    fn without_any_topic_it_begins_as_the_first_time() {
        for start in [Start::Latest, Start::Last(3), Start::Sequence(1)] {
            let mut progress = Progress::new(&start, at(10));
            assert_eq!(progress.restart(false, Vec::new()), start);
            progress.subscribed(Position { run: 8, position: 4 });
            assert_eq!(progress.restart(false, Vec::new()), start);
            progress.subscribed(Position { run: 8, position: 5 });
            let resumed = progress.resume(true, vec![topic("a", &[])]);
            assert_eq!(resumed, point(Position { run: 8, position: 5 }, &[topic("a", &[])]));
            progress.mark(6).unwrap();
            assert!(progress.names_all(7) && !progress.names_all(8));
        }
        let mut progress = Progress::new(&Start::New, at(10));
        assert_eq!(progress.restart(false, Vec::new()), point(at(10), &[]));
        // It keeps its beginning in another run, until a mark.
        progress.subscribed(Position { run: 8, position: 4 });
        assert_eq!(progress.restart(false, Vec::new()), point(at(10), &[]));
        progress.subscribed(Position { run: 8, position: 4 });
        progress.mark(4).unwrap();
        assert_eq!(progress.resume(true, Vec::new()), point(Position { run: 8, position: 4 }, &[]));
    }

    #[test]
    fn what_lacks_something_stays_and_a_mark_of_another_run_may_be_lower() {
        let topics = [topic("a", &[(7, 8)]), topic("b", &[])];
        let start = point(Position { run: 6, position: 1_000 }, &topics);
        let mut progress = Progress::new(&start, at(10));
        assert_eq!(progress.resume(false, Vec::new()), start);
        progress.mark(20).unwrap();
        let left = point(at(20), &topics[..1]);
        assert_eq!(progress.resume(false, Vec::new()), left);
        assert_eq!(progress.resume(true, Vec::new()), left);
        assert_eq!(progress.announced("a", 1), [(7, 8)]);
        assert!(progress.mark(19).is_err());
        progress.mark(20).unwrap();
    }
}
