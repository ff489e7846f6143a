//! How far a subscription has come, beside the topics that it has heard of: where it goes on in
//! those that it need not name.

use super::SubscribeError;
use crate::message::{ResumePoint, Resumed, Start};
use crate::wire::Position;
use std::collections::HashMap;
use std::sync::Arc;

/// What a subscription shows when it goes on, but for the topics that it has heard of since the
/// last mark.
#[derive(Debug)]
pub(super) struct Place {
    // Of the session's positions.
    run: u64,
    // Where topics begin that are not named.
    since: Position,
    // Where all of them begin if none was heard of.
    start: Start,
    // Topics that it was resumed with and has not heard of since.
    earlier: HashMap<Arc<str>, Resumed>,
    marks: u64,
}

impl Place {
    /// Of a subscription with this start, which the daemon answered with this position.
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

    /// Number of marks so far. A topic that was last heard of before the newest is not named.
    pub(super) fn marks(&self) -> u64 {
        self.marks
    }

    /// Everything up to this position has been handed out, but for what the topics lack that
    /// still say so.
    pub(super) fn mark(&mut self, position: u64) -> Result<(), SubscribeError> {
        let Self { run, since, .. } = self;
        if since.run == *run && position < since.position {
            return Err(SubscribeError::Protocol("a mark below an earlier position".into()));
        }
        *since = Position { run: *run, position };
        self.marks += 1;
        // Of the others there was nothing up to here.
        self.earlier.retain(|_, resumed| !resumed.had.is_empty());
        self.start = Start::Resume(self.point(Vec::new()));
        Ok(())
    }

    /// A topic was announced. Gives what of it above its next sequence has been had.
    pub(super) fn heard_of(&mut self, name: &str, epoch: u64) -> Vec<(u64, u64)> {
        let resumed = self.earlier.remove(name).filter(|resumed| resumed.epoch == epoch);
        resumed.map(|resumed| resumed.had).unwrap_or_default()
    }

    fn point(&self, mut topics: Vec<Resumed>) -> ResumePoint {
        topics.extend(self.earlier.values().cloned());
        ResumePoint { since: self.since, topics }
    }

    /// The start that goes on from here. `heard_of` says whether there is any topic that the
    /// subscription knows, and `topics` are those to be named.
    pub(super) fn resume(&self, heard_of: bool, topics: Vec<Resumed>) -> Start {
        if heard_of { Start::Resume(self.point(topics)) } else { self.start.clone() }
    }

    /// Begins again, with what [`resume`](Self::resume) gives for these topics.
    pub(super) fn begin_again(&mut self, heard_of: bool, topics: Vec<Resumed>) -> Start {
        if !matches!(self.start, Start::Resume(_) | Start::All) {
            // Some of what it was to begin with may belong to topics that it has not been told of
            // yet. It gets more of these than it asked for, as it must not get less.
            self.since = EVERYTHING;
        }
        self.start = self.resume(heard_of, topics.clone());
        self.earlier.extend(topics.into_iter().map(|topic| (topic.topic.clone(), topic)));
        self.start.clone()
    }
}

// No run has this name.
const EVERYTHING: Position = Position { run: 0, position: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position { run: 7, position }
    }

    fn topic(name: &str, had: &[(u64, u64)]) -> Resumed {
        Resumed { topic: name.into(), epoch: 1, next: 5, had: had.into() }
    }

    fn point(since: Position, topics: &[Resumed]) -> Start {
        Start::Resume(ResumePoint { since, topics: topics.into() })
    }

    // Cut before it had heard of all that it was to begin with, it asks for everything: a mark says
    // that it has heard of all.
    #[test]
    fn after_a_mark_no_more_is_asked_for_than_what_came_after_it() {
        for start in [Start::Latest, Start::Last(3), Start::Sequence(1), Start::New, Start::All] {
            let unmarked = match start {
                Start::New => at(10),
                _ => EVERYTHING,
            };
            let mut place = Place::new(&start, at(10));
            assert_eq!(
                place.begin_again(true, vec![topic("a", &[])]),
                point(unmarked, &[topic("a", &[])])
            );
            let mut place = Place::new(&start, at(10));
            place.mark(20).unwrap();
            assert_eq!(place.resume(true, Vec::new()), point(at(20), &[]));
            assert_eq!(place.resume(false, Vec::new()), point(at(20), &[]));
            assert_eq!(
                place.begin_again(true, vec![topic("a", &[])]),
                point(at(20), &[topic("a", &[])])
            );
            // Asked again, before it has heard of that topic: it is named again.
            assert_eq!(place.resume(false, Vec::new()), point(at(20), &[topic("a", &[])]));
            place.mark(30).unwrap();
            assert_eq!(place.resume(false, Vec::new()), point(at(30), &[]));
        }
    }

    #[test]
    fn what_lacks_something_stays_and_a_mark_of_another_run_may_be_lower() {
        let topics = [topic("a", &[(7, 8)]), topic("b", &[])];
        let start = point(Position { run: 6, position: 1_000 }, &topics);
        let mut place = Place::new(&start, at(10));
        assert_eq!(place.resume(false, Vec::new()), start);
        place.mark(20).unwrap();
        let left = point(at(20), &topics[..1]);
        assert_eq!(place.resume(false, Vec::new()), left);
        assert_eq!(place.resume(true, Vec::new()), left);
        assert_eq!(place.heard_of("a", 1), [(7, 8)]);
        assert!(place.mark(19).is_err());
        place.mark(20).unwrap();
    }
}
