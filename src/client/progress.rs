//! The progress of a subscription, without its announced topics: where it resumes in topics that it
//! need not name. It outlives the sessions of the subscription.

use super::error::SubscribeError;
use crate::message::{ResumePoint, Resumed, Start};
use crate::wire::Position;
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum number of topics of earlier sessions that are remembered although they need not be named,
/// as many as a request may name. Without them, a daemon of another run repeats their messages.
const MAX_UNNAMED: usize = 65_536;

/// The progress in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownTopic {
    pub(super) resumed: Resumed,
    /// Whether a subscription that resumes has to name it. If not, the last mark covers it.
    pub(super) named: bool,
}

/// The part of a subscription's start that does not change with each message: all but the topics
/// that were announced in this session.
#[derive(Debug)]
pub(super) struct Progress {
    // The run that the session's positions belong to.
    run: u64,
    // The position at which topics begin that are not named.
    since: Position,
    // The start that applies as long as no topic is announced. None if it resumes even then.
    first: Option<Start>,
    // Topics of earlier sessions that are not announced in this one.
    earlier: HashMap<Arc<str>, KnownTopic>,
    marks: u64,
}

impl Progress {
    /// Creates the progress of a subscription with this start, to which the daemon has answered with
    /// this position.
    pub(super) fn new(start: &Start, at: Position) -> Self {
        let mut earlier = HashMap::new();
        let (since, first) = match start {
            Start::Resume(point) => {
                let known = |resumed: &Resumed| {
                    let known = KnownTopic { resumed: resumed.clone(), named: true };
                    (resumed.topic.clone(), known)
                };
                earlier.extend(point.topics.iter().map(known));
                (point.since, None)
            }
            Start::New => (at, None),
            Start::All => (EVERYTHING, Some(Start::All)),
            other => (at, Some(other.clone())),
        };
        Self { run: at.run, since, first, earlier, marks: 0 }
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
        self.first = None;
        // The other topics had nothing up to the mark.
        for topic in self.earlier.values_mut() {
            topic.named = !topic.resumed.received.is_empty();
        }
        Ok(())
    }

    /// Records the announcement of a topic, and the first sequence that is sent. Returns the ranges
    /// from there on that an earlier session has received.
    pub(super) fn announced(&mut self, name: &str, epoch: u64, next: u64) -> Vec<(u64, u64)> {
        let known = self.earlier.remove(name).map(|known| known.resumed);
        let Some(resumed) = known.filter(|resumed| resumed.epoch == epoch) else {
            return Vec::new();
        };
        // A topic that was not named may begin too early.
        let repeated = (next, resumed.next.saturating_sub(1));
        let repeated = Some(repeated).filter(|(first, last)| first <= last);
        repeated.into_iter().chain(resumed.received).collect()
    }

    /// Returns the start that resumes here. `any_topic` is whether any topic was announced in this
    /// session, and `topics` are these. It names those that have to be named, or `all`.
    pub(super) fn resume(&self, any_topic: bool, topics: &[KnownTopic], all: bool) -> Start {
        if let Some(first) = self.first.as_ref().filter(|_| !any_topic) {
            return first.clone();
        }
        let topics = topics.iter().chain(self.earlier.values());
        let named = topics.filter(|topic| topic.named || all);
        let mut topics: Vec<_> = named.map(|topic| topic.resumed.clone()).collect();
        topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        Start::Resume(ResumePoint { since: self.since, topics })
    }

    /// Returns whether all known topics have to be named in a session of this run. In another run,
    /// the daemon delivers the others from their beginning, although it may have kept their epochs.
    pub(super) fn names_all(&self, run: u64) -> bool {
        self.since.run != run
    }

    /// Restarts with what [`resume`](Self::resume) returns for these topics. The daemon's answer goes
    /// to [`subscribed`](Self::subscribed).
    pub(super) fn restart(&mut self, any_topic: bool, topics: Vec<KnownTopic>, all: bool) -> Start {
        if any_topic && self.first.take().is_some() {
            // Some of its first messages may belong to topics that are not announced yet. It receives
            // all cached messages of those topics, because it must not miss any.
            self.since = EVERYTHING;
        }
        let known = topics.into_iter().map(|topic| (topic.resumed.topic.clone(), topic));
        self.earlier.extend(known);
        if self.earlier.len() > MAX_UNNAMED {
            self.earlier.retain(|_, topic| topic.named);
        }
        self.resume(any_topic, &[], all)
    }

    /// Records the daemon's answer to a restart.
    pub(super) fn subscribed(&mut self, at: Position) {
        self.run = at.run;
        if self.first.as_ref().is_some_and(|first| *first != Start::All) {
            // It begins as the first time.
            self.since = at;
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

    fn named(name: &str) -> KnownTopic {
        KnownTopic { resumed: topic(name, &[]), named: true }
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
                progress.restart(true, vec![named("a")], false),
                point(unmarked, &[topic("a", &[])])
            );
            let mut progress = Progress::new(&start, at(10));
            progress.mark(20).unwrap();
            assert_eq!(progress.resume(true, &[], false), point(at(20), &[]));
            assert_eq!(progress.resume(false, &[], false), point(at(20), &[]));
            assert_eq!(
                progress.restart(true, vec![named("a")], false),
                point(at(20), &[topic("a", &[])])
            );
            // If it overflows again before that topic is announced, it names the topic again.
            assert_eq!(progress.resume(false, &[], false), point(at(20), &[topic("a", &[])]));
            progress.mark(30).unwrap();
            assert_eq!(progress.resume(false, &[], false), point(at(30), &[]));
            // A daemon of another run gets it all the same.
            assert_eq!(progress.resume(false, &[], true), point(at(30), &[topic("a", &[])]));
        }
    }

    // In an earlier version, a subscription that had received nothing requested the whole cache when
    // it was interrupted for the second time.
    #[test]
    fn without_any_topic_it_begins_as_the_first_time() {
        for start in [Start::Latest, Start::Last(3), Start::Sequence(1)] {
            let mut progress = Progress::new(&start, at(10));
            assert_eq!(progress.restart(false, Vec::new(), false), start);
            progress.subscribed(Position { run: 8, position: 4 });
            assert_eq!(progress.restart(false, Vec::new(), false), start);
            progress.subscribed(Position { run: 8, position: 5 });
            let resumed = progress.resume(true, &[named("a")], false);
            assert_eq!(resumed, point(Position { run: 8, position: 5 }, &[topic("a", &[])]));
            progress.mark(6).unwrap();
            assert!(progress.names_all(7) && !progress.names_all(8));
        }
        let mut progress = Progress::new(&Start::New, at(10));
        assert_eq!(progress.restart(false, Vec::new(), false), point(at(10), &[]));
        // It keeps its beginning in another run, until a mark.
        progress.subscribed(Position { run: 8, position: 4 });
        assert_eq!(progress.restart(false, Vec::new(), false), point(at(10), &[]));
        progress.subscribed(Position { run: 8, position: 4 });
        progress.mark(4).unwrap();
        let marked = Position { run: 8, position: 4 };
        assert_eq!(progress.resume(true, &[], false), point(marked, &[]));
    }

    #[test]
    fn what_lacks_something_stays_and_a_mark_of_another_run_may_be_lower() {
        let topics = [topic("a", &[(7, 8)]), topic("b", &[])];
        let start = point(Position { run: 6, position: 1_000 }, &topics);
        let mut progress = Progress::new(&start, at(10));
        assert_eq!(progress.resume(false, &[], false), start);
        progress.mark(20).unwrap();
        let left = point(at(20), &topics[..1]);
        assert_eq!(progress.resume(false, &[], false), left);
        assert_eq!(progress.resume(true, &[], false), left);
        assert_eq!(progress.announced("a", 1, 5), [(7, 8)]);
        assert!(progress.mark(19).is_err());
        progress.mark(20).unwrap();
    }

    #[test]
    fn what_is_repeated_is_known() {
        let start = point(at(10), &[topic("a", &[(7, 8)]), topic("b", &[(7, 8)])]);
        let mut progress = Progress::new(&start, at(10));
        assert_eq!(progress.announced("a", 1, 3), [(3, 4), (7, 8)]);
        // Another epoch has other messages.
        assert!(progress.announced("b", 2, 1).is_empty());
    }

    #[test]
    fn the_number_of_topics_that_are_remembered_without_need_is_limited() {
        let mut progress = Progress::new(&Start::New, at(10));
        let many = (0..=MAX_UNNAMED).map(|n| KnownTopic { named: n == 0, ..named(&n.to_string()) });
        progress.restart(true, many.collect(), false);
        assert_eq!(progress.earlier.len(), 1);
    }
}
