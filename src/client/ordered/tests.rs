//! An ordered subscription against a model of the daemon, without eviction. Sessions end at any
//! time, and the daemon may restart with its cache or without it.

use super::*;
use crate::message::Start;
use crate::wire::Position;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TOPICS: usize = 4;

/// How much the daemon has kept when the next session begins.
#[derive(Debug, Clone, Copy)]
enum Restart {
    /// It did not restart.
    None,
    /// Its cache, with the epochs. The run and its positions are new.
    Kept,
    /// Nothing.
    Empty,
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    /// The subscriber receives so many messages.
    Receive(usize),
    /// A mark, if the daemon may send one.
    Mark,
    /// The session ends, and so do this many before they are answered.
    Cut(Restart, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let restart =
        prop_oneof![4 => Just(Restart::None), 1 => Just(Restart::Kept), 1 => Just(Restart::Empty)];
    prop_oneof![
        6 => (0..TOPICS).prop_map(Step::Publish),
        4 => (0_usize..6).prop_map(Step::Receive),
        2 => Just(Step::Mark),
        2 => (restart, 0_usize..3).prop_map(|(restart, unanswered)| Step::Cut(restart, unanswered)),
    ]
}

/// The daemon, with one subscription.
struct Daemon {
    run: u64,
    epochs: [u64; TOPICS],
    heads: [u64; TOPICS],
    // Topic and sequence of each message. The position of a message is its place, from 1.
    log: Vec<(usize, u64)>,
    // The subscription: what it needs next, how far it has come, and what is announced.
    next: [u64; TOPICS],
    at: usize,
    subscribed: usize,
    announced: [bool; TOPICS],
}

fn name(topic: usize) -> String {
    format!("t/{topic}")
}

impl Daemon {
    fn restart(&mut self, restart: Restart) {
        match restart {
            Restart::None => return,
            // Messages of other filters have positions too.
            Restart::Kept => self.log.insert(0, (TOPICS, 0)),
            Restart::Empty => {
                self.log.clear();
                self.heads = [0; TOPICS];
                self.epochs = self.epochs.map(|epoch| epoch + 1);
            }
        }
        self.run += 1;
    }

    fn publish(&mut self, topic: usize) {
        self.heads[topic] += 1;
        self.log.push((topic, self.heads[topic]));
    }

    fn subscribe(&mut self, start: &Start) -> Position {
        for topic in 0..TOPICS {
            let head = self.heads[topic];
            self.next[topic] = match start {
                Start::New => head + 1,
                Start::Latest => head.max(1),
                Start::All => 1,
                Start::Last(n) => (head + 1).saturating_sub(*n).max(1),
                Start::Sequence(sequence) => (*sequence).clamp(1, head + 1),
                Start::Resume(point) => {
                    let listed = point.topics.iter().find(|of| *of.topic == name(topic));
                    match listed {
                        Some(of) if of.epoch == self.epochs[topic] => of.next,
                        Some(_) => 1,
                        None if point.since.run != self.run => 1,
                        None => {
                            let after = self.log.iter().skip(point.since.position as usize);
                            let first = after.clone().find(|(of, _)| *of == topic);
                            first.map_or(head + 1, |(_, sequence)| *sequence)
                        }
                    }
                }
            };
        }
        (self.at, self.subscribed, self.announced) = (0, self.log.len(), [false; TOPICS]);
        Position { run: self.run, position: self.log.len() as u64 }
    }

    // Reads up to the next message, and appends its frames.
    fn read(&mut self, frames: &mut Vec<Bytes>) -> bool {
        while let Some((topic, sequence)) = self.log.get(self.at).copied() {
            self.at += 1;
            if topic == TOPICS || sequence < self.next[topic] {
                continue;
            }
            assert_eq!(sequence, self.next[topic], "the log has every message");
            let id = (topic + 1) as u64;
            if !std::mem::replace(&mut self.announced[topic], true) {
                let (epoch, next, name) = (self.epochs[topic], sequence, name(topic));
                frames.push(frame(&DaemonFrame::Topic { id, epoch, next, name: &name }));
            }
            self.next[topic] += 1;
            let payload = b"";
            let message = DaemonFrame::Message { topic: id, sequence, count: 1, stamp: 0, payload };
            frames.push(frame(&message));
            return true;
        }
        false
    }
}

// Returns the frame without its length.
fn frame(frame: &DaemonFrame<'_>) -> Bytes {
    let bytes = frame.to_bytes();
    let body = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    bytes.slice(body..)
}

struct Subscriber {
    topics: OrderedTopics,
    progress: Progress,
    /// By topic and epoch, what has arrived.
    received: BTreeMap<(Arc<str>, u64), Vec<u64>>,
}

impl Subscriber {
    fn take(&mut self, frames: Vec<Bytes>) {
        for frame in frames {
            match self.topics.take(Arrived::Frame(frame), &mut self.progress).unwrap() {
                Some(Event::Message(message)) => {
                    let received = self.received.entry((message.topic, message.epoch));
                    received.or_default().push(message.sequence);
                }
                None => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn resubscribe(&mut self, daemon: &mut Daemon) -> Position {
        let (any, topics) =
            (self.topics.has_topics(), self.topics.known_topics(self.progress.marks()));
        let all = self.progress.names_all(daemon.run);
        let start = self.progress.restart(any, topics, all);
        self.topics = OrderedTopics::default();
        daemon.subscribe(&start)
    }
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        3 => Just(Start::New),
        1 => Just(Start::Latest),
        1 => Just(Start::All),
        1 => (0_u64..4).prop_map(Start::Last),
        1 => (0_u64..4).prop_map(Start::Sequence),
    ]
}

fn live(start: &Start, before: &[usize], steps: &[Step]) -> (Daemon, Subscriber, [u64; TOPICS]) {
    let mut daemon = Daemon {
        run: 1,
        epochs: [1; TOPICS],
        heads: [0; TOPICS],
        log: Vec::new(),
        next: [0; TOPICS],
        at: 0,
        subscribed: 0,
        announced: [false; TOPICS],
    };
    before.iter().for_each(|topic| daemon.publish(*topic));
    let at = daemon.subscribe(start);
    let mut first = daemon.next;
    let mut subscriber = Subscriber {
        topics: OrderedTopics::default(),
        progress: Progress::new(start, at),
        received: BTreeMap::new(),
    };
    for step in steps {
        match step {
            Step::Publish(topic) => daemon.publish(*topic),
            Step::Receive(n) => {
                let mut frames = Vec::new();
                let _ = (0..*n).all(|_| daemon.read(&mut frames));
                subscriber.take(frames);
            }
            Step::Mark if daemon.at >= daemon.subscribed => {
                let position = daemon.at as u64;
                subscriber.take(vec![frame(&DaemonFrame::Mark { position })]);
            }
            Step::Mark => {}
            Step::Cut(restart, unanswered) => {
                daemon.restart(*restart);
                if matches!(restart, Restart::Empty) {
                    first = [1; TOPICS];
                }
                for _ in 0..*unanswered {
                    subscriber.resubscribe(&mut daemon);
                }
                let begins = subscriber.progress.resume(false, &[], false) == *start
                    && !subscriber.topics.has_topics();
                let at = subscriber.resubscribe(&mut daemon);
                subscriber.progress.subscribed(at);
                // A start without any topic begins as the first time.
                if begins {
                    first = daemon.next;
                }
            }
        }
    }
    // In the end everything arrives.
    let mut frames = Vec::new();
    while daemon.read(&mut frames) {}
    subscriber.take(frames);
    (daemon, subscriber, first)
}

proptest! {
    #[test]
    fn nothing_is_missed_or_repeated(
        start in start(),
        before in proptest::collection::vec(0..TOPICS, 0..12),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let (daemon, subscriber, first) = live(&start, &before, &steps);
        for sequences in subscriber.received.values() {
            prop_assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
        }
        for (topic, first) in first.iter().enumerate() {
            let key = (name(topic).into(), daemon.epochs[topic]);
            let received = subscriber.received.get(&key);
            let received: BTreeSet<u64> = received.into_iter().flatten().copied().collect();
            let expected: BTreeSet<u64> = (*first..=daemon.heads[topic]).collect();
            prop_assert!(received.is_superset(&expected), "{topic}: {received:?}, not {expected:?}");
            // A bounded start may bring more: see `Progress::restart`. So does a daemon of another run,
            // in topics that were never announced.
            let kept = steps.iter().any(|step| matches!(step, Step::Cut(Restart::Kept, _)));
            if start == Start::All || (start == Start::New && !kept) {
                prop_assert_eq!(&received, &expected, "{}", topic);
            }
        }
    }
}
