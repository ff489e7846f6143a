//! Those who read, in every way there is, and what must be true of what they get.

use super::*;

/// A large message of which a part has come.
pub(super) struct Part {
    pub(super) of: (u64, u64),
    pub(super) bytes: usize,
}

pub(super) struct Reader {
    pub(super) id: SubscriptionId,
    pub(super) filter: &'static str,
    pub(super) large: LargePayloads,
    // By topic id: what is needed next.
    pub(super) next: BTreeMap<u64, u64>,
    // The cursors of a resumption.
    pub(super) shown: BTreeMap<u64, u64>,
    pub(super) part: Option<Part>,
    // An abort came: the gap must be next.
    pub(super) aborted: Option<(u64, u64)>,
    pub(super) position: u64,
    // To be followed.
    pub(super) named: Vec<(u64, u64)>,
    pub(super) born: u64,
    // By topic id, those that were there: where it began, and what was next.
    pub(super) begins: BTreeMap<u64, (u64, u64)>,
}

pub(super) struct Follower {
    pub(super) id: SubscriptionId,
    pub(super) of: (u64, u64),
    pub(super) part: Option<Part>,
    pub(super) over: bool,
}

/// The messages that have left the logs.
struct Firsts {
    firsts: HashMap<u64, u64>,
    hollow: HashSet<(u64, u64)>,
}

impl Firsts {
    fn of(engine: &Engine) -> Self {
        let topics = || engine.topics.iter().flatten();
        let hollow = topics().flat_map(|topic| {
            let all = topic.first_sequence()..topic.next_sequence();
            let hollow = all.filter(|at| {
                matches!(
                    topic.entry(*at).unwrap().body,
                    crate::engine::topic::body::Body::Evicted { .. }
                )
            });
            hollow.map(|at| (topic.id(), at))
        });
        Self {
            firsts: topics().map(|topic| (topic.id(), topic.first_sequence())).collect(),
            hollow: hollow.collect(),
        }
    }

    fn is_gone(&self, of: (u64, u64)) -> bool {
        of.1 < self.firsts[&of.0] || self.hollow.contains(&of)
    }
}

fn wanted(large: LargePayloads, budget: usize) -> ReadOptions {
    ReadOptions { large, ..budget.into() }
}

// A chunk must be what the payload has there.
fn grow(part: &mut Part, history: &History, chunk: &Bytes) {
    let said = &history[&part.of];
    let (payload, _) = &payloads()[said.n];
    let end = part.bytes + chunk.len();
    assert!(payload[part.bytes..end] == chunk[..], "other bytes than were published");
    part.bytes = end;
}

fn check_end(part: &Part, history: &History, count: u64, digest: Digest) {
    let said = &history[&part.of];
    let (payload, of) = &payloads()[said.n];
    assert_eq!((part.bytes, digest), (payload.len(), *of));
    assert_eq!(said.state, State::Complete(count));
}

impl Reader {
    fn see(&mut self, item: &Item<'_>, history: &History, firsts: &Firsts) {
        if let Some((topic, sequence)) = self.aborted.take() {
            let Item::Gap { id, first, .. } = item else { panic!("{item:?} after an abort") };
            assert_eq!((*id, *first), (topic, sequence));
        }
        match item {
            Item::Topic { id, next, .. } => {
                if let Some(shown) = self.shown.get(id).filter(|_| !self.next.contains_key(id)) {
                    assert_eq!(next, shown, "resumed somewhere else");
                }
                let before = self.next.insert(*id, *next);
                assert!(before.is_none_or(|before| before == *next), "announced otherwise");
            }
            Item::Gap { id, first, last, cause, .. } => {
                assert_eq!(self.next.insert(*id, last + 1), Some(*first));
                for sequence in *first..=*last {
                    let said = &history[&(*id, sequence)];
                    match cause {
                        GapCause::Aborted => assert_eq!(said.state, State::Aborted),
                        GapCause::Evicted => {
                            assert!(firsts.is_gone((*id, sequence)), "it is there");
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert!(self.part.as_ref().is_none_or(|part| part.of.0 != *id));
            }
            Item::Message(message) => {
                self.advance(message.topic_id(), message.sequence(), message.position());
                let said = &history[&(message.topic_id(), message.sequence())];
                assert_eq!(said.position, message.position());
                assert_eq!(said.state, State::Complete(message.count()));
                assert!(message.payload() == payloads()[said.n].0);
                assert!(
                    !matches!(self.large, LargePayloads::InChunks | LargePayloads::AnnounceOnly)
                        || said.n.is_multiple_of(3)
                );
            }
            Item::Large(message) => {
                assert_eq!(self.large, LargePayloads::AnnounceOnly);
                self.advance(message.topic_id(), message.sequence(), message.position());
                self.named.push((message.topic_id(), message.sequence()));
            }
            Item::Begin(message) => {
                assert_eq!(self.large, LargePayloads::InChunks);
                assert!(self.part.is_none(), "two at a time");
                let of = (message.topic_id(), message.sequence());
                assert_eq!(self.next[&of.0], of.1);
                assert_eq!(message.size(), payloads()[history[&of].n].0.len());
                self.part = Some(Part { of, bytes: 0 });
            }
            Item::Chunk(chunk) => grow(self.part.as_mut().unwrap(), history, chunk),
            Item::End { count, digest } => {
                let part = self.part.take().unwrap();
                check_end(&part, history, *count, *digest);
                self.next.insert(part.of.0, part.of.1 + 1);
            }
            Item::Abort { code } => {
                let part = self.part.take().unwrap();
                if *code == Code::OVERTAKEN {
                    // It comes again, from its beginning, when it is complete.
                    assert!(matches!(history[&part.of].state, State::Arriving));
                    return;
                }
                let evicted = firsts.is_gone(part.of);
                assert_eq!(*code, if evicted { Code::EVICTED } else { Code::PUBLISHER_GONE });
                self.aborted = Some(part.of);
            }
        }
    }

    fn advance(&mut self, topic: u64, sequence: u64, position: u64) {
        assert_eq!(self.next.insert(topic, sequence + 1), Some(sequence), "missed or repeated");
        assert!(self.part.as_ref().is_none_or(|part| part.of.0 != topic), "overtaken in its topic");
        self.position = self.position.max(position);
    }
}

impl World {
    pub(super) fn subscribe(&mut self) {
        let filter = FILTERS[self.random.below(FILTERS.len())];
        let large = [
            LargePayloads::InChunks,
            LargePayloads::InChunks,
            LargePayloads::AnnounceOnly,
            LargePayloads::WhenComplete,
        ][self.random.below(4)];
        let all = self.random.below(2) == 0;
        let start = if all { Start::All } else { Start::New };
        let id = self.engine.subscribe(filter.parse::<Filter>().unwrap(), &start, Lag::Oldest);
        let born = self.engine.position();
        let topics = self.engine.topics.iter().flatten();
        let begins = topics.map(|topic| {
            let (first, next) = (topic.first_sequence(), topic.next_sequence());
            (topic.id(), (if all { first } else { next }, next))
        });
        let begins = begins.collect();
        self.readers.push(Reader {
            id,
            filter,
            large,
            next: BTreeMap::new(),
            shown: BTreeMap::new(),
            part: None,
            aborted: None,
            position: 0,
            named: Vec::new(),
            born,
            begins,
        });
    }

    pub(super) fn end(&mut self, index: usize) -> Reader {
        let reader = self.readers.swap_remove(index);
        self.engine.unsubscribe(reader.id);
        self.named.remove(&reader.id);
        reader
    }

    pub(super) fn resume(&mut self, index: usize) {
        let old = self.end(index);
        let ids: Vec<_> = self.firsts().into_keys().collect();
        let known: Vec<_> = old.next.iter().filter(|(id, _)| ids.contains(id)).collect();
        let topics = known.iter().map(|(id, next)| Resume {
            topic: self.names[id],
            epoch: self.engine.run() + *id - 1,
            next: **next,
        });
        let since = crate::wire::Position { run: self.engine.run(), position: old.born };
        let start = Start::Resume { since, topics: topics.collect() };
        let filter = old.filter.parse::<Filter>().unwrap();
        let id = self.engine.subscribe(filter, &start, Lag::Oldest);
        let shown = known.into_iter().map(|(id, next)| (*id, *next)).collect();
        // A topic that was not announced goes on from its beginning.
        let begins = old.begins.into_iter().map(|(topic, (_, next))| (topic, (next, next)));
        let begins = begins.collect();
        self.readers.push(Reader {
            id,
            begins,
            next: BTreeMap::new(),
            shown,
            part: None,
            aborted: None,
            position: 0,
            named: Vec::new(),
            ..old
        });
    }

    // Whether there was anything.
    pub(super) fn read(&mut self, index: usize, budget: usize) -> bool {
        let firsts = Firsts::of(&self.engine);
        let reader = &mut self.readers[index];
        let (id, large) = (reader.id, reader.large);
        let is_named = self.named.contains(&id);
        let (history, gaps) = (&self.history, &mut self.gaps);
        let mut items = 0;
        let read = self.engine.read(id, wanted(large, budget), &mut |item| {
            items += 1;
            match &item {
                Item::Gap { cause: GapCause::Aborted, .. } => {
                    *gaps.entry("aborted").or_default() += 1;
                }
                Item::Gap { .. } => *gaps.entry("evicted").or_default() += 1,
                Item::Abort { code: Code::OVERTAKEN } => {
                    *gaps.entry("overtaken").or_default() += 1;
                }
                Item::Abort { .. } => *gaps.entry("abort").or_default() += 1,
                Item::End { .. } => *gaps.entry("end").or_default() += 1,
                _ => {}
            }
            reader.see(&item, history, &firsts);
        });
        match read {
            Ok(any) => {
                assert_eq!(any, items > 0);
                assert!(!any || is_named, "there was something, and it was not named");
                assert_eq!(reader.aborted, None, "an abort, and no gap");
                // Either way of finding out that this was all.
                let rest = any && items & 1 == 0 && self.engine.park_if_idle(id);
                if !any || rest {
                    self.named.remove(&id);
                }
                any && !rest
            }
            Err(refusal) => {
                assert_eq!(refusal.code, Code::LAGGED);
                self.end(index);
                false
            }
        }
    }

    pub(super) fn follow(&mut self) {
        let Some(reader) = self.readers.iter_mut().find(|reader| !reader.named.is_empty()) else {
            return;
        };
        let of = reader.named.swap_remove(0);
        let found = self.engine.follow(of.0, of.1);
        let first = self.firsts().get(&of.0).copied();
        let in_log = first.is_some_and(|first| of.1 >= first);
        let hollow = first.is_some() && Firsts::of(&self.engine).hollow.contains(&of);
        let there = in_log && !hollow && self.history[&of].state != State::Aborted;
        if let Err(cause) = found {
            let aborted = in_log && !hollow;
            assert_eq!(cause, if aborted { GapCause::Aborted } else { GapCause::Evicted });
        }
        // A payload that was looked up may outlive its message.
        assert!(found.is_ok() || !there);
        let follower = |id| Follower { id, of, part: None, over: false };
        self.followers.extend(found.map(follower));
    }

    pub(super) fn read_followed(&mut self, index: usize, budget: usize) -> bool {
        let history = &self.history;
        let follower = &mut self.followers[index];
        let is_named = self.named.contains(&follower.id);
        let (mut items, mut over) = (0, follower.over);
        let (part, of) = (&mut follower.part, follower.of);
        let read = self.engine.read(follower.id, budget, &mut |item| {
            items += 1;
            assert!(!over, "{item:?} after the end");
            match &item {
                Item::Begin(message) => {
                    assert_eq!((message.topic_id(), message.sequence()), of);
                    assert!(part.replace(Part { of, bytes: 0 }).is_none());
                }
                Item::Chunk(chunk) => grow(part.as_mut().unwrap(), history, chunk),
                Item::End { count, digest } => {
                    check_end(part.as_ref().unwrap(), history, *count, *digest);
                    over = true;
                }
                Item::Abort { .. } => over = true,
                other => panic!("{other:?}"),
            }
        });
        let was_over = std::mem::replace(&mut follower.over, over);
        match read {
            Ok(any) => {
                assert_eq!(any, items > 0);
                assert!(!any || is_named, "there was something, and it was not named");
                if !any {
                    self.named.remove(&follower.id);
                }
                any
            }
            Err(refusal) => {
                assert_eq!(refusal.code, Code::DONE);
                assert!(was_over, "it ended before its end");
                self.end_followed(index);
                false
            }
        }
    }

    pub(super) fn end_followed(&mut self, index: usize) {
        let follower = self.followers.swap_remove(index);
        self.engine.unsubscribe(follower.id);
        self.named.remove(&follower.id);
    }
}
