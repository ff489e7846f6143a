//! Readers, and what each of them may be given.

use super::*;
use crate::engine::{Item, LargePayloads};
use crate::wire::GapCause;

const FILTERS: [&str; 4] = ["**", "a/**", "b", "*/x"];

/// A subscription.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) id: SubscriptionId,
    lag: Lag,
    large: LargePayloads,
    // The engine's position when it began.
    began: u64,
    // The messages that could be replayed then: by topic.
    visible: [Vec<u64>; TOPICS.len()],
    // Whether it begins with all of that; and whether it begins where its client says, so that its
    // first read has a gap for what is not kept.
    wants_all: bool,
    from_place: bool,
    // The next sequence by topic; none before it was told of the topic.
    next: [Option<u64>; TOPICS.len()],
    // The message that is open, and how much of it has come.
    open: Option<(usize, usize)>,
}

fn index(name: &str) -> usize {
    TOPICS.iter().position(|topic| *topic == name).unwrap()
}

impl World {
    pub(super) fn subscribe(&mut self) {
        let filter = FILTERS[self.random.below(FILTERS.len())];
        let start = match self.random.below(6) {
            0 => Start::New,
            1 => Start::Latest,
            2 => Start::All,
            3 => Start::Last(1 + self.random.below(5) as u64),
            4 => Start::Sequence(self.random.below(30) as u64),
            _ => {
                let run = self.engine.run();
                let position = self.random.below(self.engine.position() as usize + 1) as u64;
                Start::Resume { since: Position { run, position }, topics: Vec::new() }
            }
        };
        let lag = [Lag::Oldest, Lag::Oldest, Lag::Newest, Lag::Disconnect][self.random.below(4)];
        let large = match self.random.below(3) {
            0 => LargePayloads::WhenComplete,
            1 => LargePayloads::InChunks,
            _ => LargePayloads::AnnounceOnly,
        };
        let wants_all = matches!(start, Start::All);
        let from_place = matches!(start, Start::Sequence(_) | Start::Resume { .. });
        let mut visible = <[Vec<u64>; TOPICS.len()]>::default();
        for (topic, visible) in visible.iter_mut().enumerate() {
            let all = 1..=self.said[topic].len() as u64;
            let arrives = |at| self.state(topic, at) == State::Arriving && self.is_kept(topic, at);
            visible.extend(all.filter(|at| self.is_visible(topic, *at) || arrives(*at)));
        }
        let id = self.engine.subscribe(filter.parse().unwrap(), &start, lag);
        let (began, next) = (self.engine.position(), [None; TOPICS.len()]);
        let open = None;
        let reader = Reader { id, lag, large, began, visible, wants_all, from_place, next, open };
        self.readers.push(reader);
    }

    // Reads a part of what there is, or all of it.
    pub(super) fn read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.random.below(self.readers.len());
        let budget = [1, 200, 100_000, 1 << 22][self.random.below(4)];
        let mut reader = self.readers.swap_remove(at);
        let mut items = Vec::new();
        let options = ReadOptions { large: reader.large, ..budget.into() };
        loop {
            let read = self.engine.read(reader.id, options, &mut |item| {
                items.push(Seen::new(&item));
            });
            for item in items.drain(..) {
                self.see(&mut reader, item);
            }
            match read {
                Ok(true) if budget > 100 => {}
                Ok(true) => break,
                Ok(false) => {
                    self.check_end(&reader);
                    break;
                }
                Err(refusal) => {
                    // It has missed something, and wanted to end then.
                    assert_eq!((refusal.code, reader.lag), (Code::LAGGED, Lag::Disconnect));
                    self.engine.unsubscribe(reader.id);
                    return;
                }
            }
        }
        self.readers.push(reader);
    }

    // It has read everything, but for messages that arrive.
    fn check_end(&self, reader: &Reader) {
        for (topic, next) in reader.next.iter().enumerate() {
            let Some(next) = next else { continue };
            let end = self.said[topic].len() as u64 + 1;
            let waits = *next < end && self.state(topic, *next) == State::Arriving;
            assert!(*next == end || waits, "{} is at {next} of {end}", TOPICS[topic]);
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as a sink gives it")]
    fn see(&self, reader: &mut Reader, item: Seen) {
        match item {
            Seen::Topic(topic, next) => {
                assert!(reader.next[topic].is_none_or(|known| known == next), "told anew");
                if reader.next[topic].is_none() && reader.wants_all {
                    let before = reader.visible[topic].iter().filter(|at| **at < next);
                    let missed = before.filter(|at| !self.has_expired(topic, **at));
                    assert_eq!(missed.count(), 0, "it begins at {next}");
                }
                reader.next[topic] = Some(next);
            }
            Seen::Message(topic, sequence, digest) => {
                self.may_get(reader, topic, sequence);
                let said = &self.said[topic][sequence as usize - 1];
                let complete = matches!(said.state, State::Complete(_));
                assert!(digest == said.digest || !complete, "another payload");
                assert!(complete || reader.large == LargePayloads::AnnounceOnly);
                reader.next[topic] = Some(sequence + 1);
            }
            Seen::Begin(topic, sequence) => {
                self.may_get(reader, topic, sequence);
                assert_eq!(reader.open.replace((topic, 0)), None);
            }
            Seen::Chunk(size) => reader.open.as_mut().unwrap().1 += size,
            Seen::End(digest) => {
                let (topic, size) = reader.open.take().unwrap();
                let next = reader.next[topic].as_mut().unwrap();
                let said = &self.said[topic][*next as usize - 1];
                assert_eq!((size, digest), (said.payload.len(), said.digest));
                *next += 1;
            }
            Seen::Abort => assert!(reader.open.take().is_some()),
            Seen::Gap(topic, first, last, cause) => {
                assert_eq!(reader.next[topic], Some(first));
                for sequence in first..=last {
                    let may = self.may_miss(reader, topic, sequence, cause);
                    assert!(may, "{} {sequence}: {cause:?} at {}", TOPICS[topic], self.now);
                }
                reader.next[topic] = Some(last + 1);
            }
        }
    }

    fn may_get(&self, reader: &Reader, topic: usize, sequence: u64) {
        assert_eq!(reader.next[topic], Some(sequence), "{}", TOPICS[topic]);
        assert!(!self.has_expired(topic, sequence), "{} {sequence}", TOPICS[topic]);
        let said = &self.said[topic][sequence as usize - 1];
        let is_new = said.position > reader.began;
        assert!(is_new || reader.visible[topic].contains(&sequence), "it was not there for that");
    }

    // Whether it may be told that it will not get a message.
    fn may_miss(&self, reader: &Reader, topic: usize, sequence: u64, cause: GapCause) -> bool {
        let said = &self.said[topic][sequence as usize - 1];
        let is_new = said.position > reader.began;
        let complete = matches!(said.state, State::Complete(_));
        let released = self.is_released(topic, sequence);
        match cause {
            GapCause::Expired => !complete || self.has_expired(topic, sequence) || released,
            GapCause::Evicted if is_new => released && reader.lag == Lag::Oldest,
            GapCause::Evicted => {
                let was_visible = reader.visible[topic].contains(&sequence);
                released || !was_visible || reader.from_place && !self.is_kept(topic, sequence)
            }
            GapCause::Aborted => said.state == State::Aborted,
            GapCause::Skipped => reader.lag == Lag::Newest,
            _ => false,
        }
    }
}

/// An item, without what it borrows.
#[derive(Debug)]
enum Seen {
    Topic(usize, u64),
    Message(usize, u64, Digest),
    Begin(usize, u64),
    Chunk(usize),
    End(Digest),
    Abort,
    Gap(usize, u64, u64, GapCause),
}

impl Seen {
    fn new(item: &Item<'_>) -> Self {
        match item {
            Item::Topic { name, next, .. } => Self::Topic(index(name), *next),
            Item::Message(message) | Item::Large(message) => {
                Self::Message(index(message.topic()), message.sequence(), message.digest())
            }
            Item::Begin(message) => Self::Begin(index(message.topic()), message.sequence()),
            Item::Chunk(chunk) => Self::Chunk(chunk.len()),
            Item::End { digest, .. } => Self::End(*digest),
            Item::Abort { .. } => Self::Abort,
            Item::Gap { name, first, last, cause, .. } => {
                Self::Gap(index(name), *first, *last, *cause)
            }
        }
    }
}
