//! A client that had received everything, and comes back to the next daemon.

use super::facts::Said;
use super::life::Life;
use super::world::{TOPICS, name};
use crate::engine::{Engine, Item};
use crate::wire::{Filter, GapCause, Lag, Position, Resume, Start};
use std::collections::HashMap;

/// Its cursors.
#[derive(Debug)]
pub(super) struct Client {
    since: Position,
    // By topic: its id, its epoch, and the sequence that comes next.
    cursors: HashMap<usize, (u64, u64, u64)>,
    // It may have passed something that was aborted, and the journal may not say that.
    aborted: bool,
}

/// The lost sequences that it is told, and the first one that it receives of each topic.
#[derive(Debug, Default)]
struct Received {
    lost: HashMap<usize, (u64, u64)>,
    first: HashMap<usize, u64>,
}

impl Client {
    pub(super) fn new(life: &Life) -> Self {
        let engine = &life.engine;
        let since = Position { run: engine.run(), position: engine.position() };
        let heads = (0..TOPICS).filter_map(|topic| Some((topic, engine.head(&name(topic))?)));
        let cursors = heads.map(|(topic, head)| {
            let id = head.epoch - engine.run() + 1;
            // It waits for what arrives.
            let uploads = life.uploads.iter().filter(|upload| upload.id.topic == id);
            let next = uploads.map(|upload| upload.id.sequence).fold(head.next, u64::min);
            (topic, (id, head.epoch, next))
        });
        Self { since, cursors: cursors.collect(), aborted: life.aborted }
    }

    fn resume(&self, engine: &mut Engine) -> Received {
        let names: Vec<String> = (0..TOPICS).map(name).collect();
        let cursors = self.cursors.iter();
        let topics = cursors.map(|(topic, (_, epoch, next))| Resume {
            topic: &names[*topic],
            epoch: *epoch,
            next: *next,
        });
        let start = Start::Resume { since: self.since, topics: topics.collect() };
        let id = engine.subscribe(Filter::new("**").unwrap(), &start, Lag::Oldest);
        let mut received = Received::default();
        let topic_of = |name: &str| name[2..].parse().unwrap();
        while engine
            .read(id, 1 << 20, &mut |item| match item {
                Item::Gap { name, first, last, cause: GapCause::Lost, .. } => {
                    received.lost.insert(topic_of(name), (first, last));
                }
                Item::Gap { name, first, .. } => {
                    received.first.entry(topic_of(name)).or_insert(first);
                }
                Item::Message(message) => {
                    let topic = topic_of(message.topic());
                    received.first.entry(topic).or_insert(message.sequence());
                }
                _ => {}
            })
            .unwrap()
        {}
        engine.unsubscribe(id);
        received
    }

    /// It is told of everything that it has received and that was not kept; and of nothing else if
    /// the disk has not failed.
    pub(super) fn check(&self, engine: &mut Engine, (kept, gone): (&[Said], &[Said]), exact: bool) {
        let received = self.resume(engine);
        for (topic, (id, epoch, next)) in &self.cursors {
            let Some(head) = engine.head(&name(*topic)) else { continue };
            let gap = received.lost.get(topic);
            if head.epoch == *epoch {
                assert_eq!(gap, None, "the epoch goes on");
                continue;
            }
            if head.epoch != engine.run() + id - 1 {
                continue;
            }
            let gone = gone.iter().filter(|said| (said.topic, said.id) == (*topic, *id));
            let gone = gone.filter(|said| said.sequence < *next);
            let (least, most) =
                gone.fold((u64::MAX, 0), |(a, b), s| (a.min(s.sequence), b.max(s.sequence)));
            let told = gap.is_some_and(|(first, last)| *first <= least && most <= *last);
            assert!(most == 0 || told, "topic {topic}: {least} to {most} lost, told {gap:?}");
            if let Some((first, last)) = gap.filter(|_| exact && !self.aborted) {
                let end = if most > 0 { least } else { *last + 1 };
                let kept = kept.iter().filter(|said| (said.topic, said.id) == (*topic, *id));
                let kept = kept.map(|said| said.sequence).find(|s| (*first..end).contains(s));
                assert_eq!(kept, None, "topic {topic}: told {gap:?}, lost {least} to {most}");
            }
            // It goes on with the first that was lost, or where it was.
            let begin = gap.map_or(*next, |(first, _)| *next.min(first));
            if let Some(first) = received.first.get(topic) {
                assert_eq!(*first, begin, "topic {topic}");
            }
        }
    }
}
