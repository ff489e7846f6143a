//! The scenes: what peers do to the engine.

mod sessions;
mod uploads;

use crate::Shell;
use bytes::Bytes;
use sessions::sessions;
use uploads::{uploads, waiting};
use weir::engine::{LargePayloads, ReadOptions, SubscriptionId};
use weir::wire::{Digest, Filter, Lag, Position, Start, Which};

/// Name and function.
type Scene = (&'static str, fn(&mut Shell));

pub(super) const ALL: &[Scene] = &[
    ("10,000 times **", |shell| crowd(shell, &vec!["**".to_owned(); SUBSCRIPTIONS])),
    ("10,000 wildcards", |shell| crowd(shell, &wildcards())),
    ("65,536 topics", topics),
    ("sessions", sessions),
    ("one topic", one_topic),
    ("10,000 uploads", uploads),
    ("10,000 wait for an upload", waiting),
];

const TOPICS: usize = 65_536;
const SUBSCRIPTIONS: usize = 10_000;
const MESSAGES: u32 = 1_000_000;

/// The options of the shell.
const READ: ReadOptions =
    ReadOptions { budget: 64 << 10, accepted_since: 0, large: LargePayloads::InChunks };

/// A topic that the maximum number of filters matches: 16 segments, each of which may be a star.
const DEEP: &str = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p";

fn name(n: usize) -> String {
    format!("t/{}/{n}", n % 256)
}

fn distinct(n: u32) -> Bytes {
    let mut payload = [0; 100];
    payload[..4].copy_from_slice(&n.to_le_bytes());
    Bytes::copy_from_slice(&payload)
}

fn wildcards() -> Vec<String> {
    let filter = |n: usize| {
        let star = |(at, segment)| if (n + 1) >> at & 1 == 1 { "*" } else { segment };
        DEEP.split('/').enumerate().map(star).collect::<Vec<_>>().join("/")
    };
    (0..SUBSCRIPTIONS).map(filter).collect()
}

impl Shell {
    // Fills 65,536 topics with as many of 1,000,000 messages as the cache holds.
    fn fill(&mut self) {
        self.fill_topics(MESSAGES);
    }

    fn fill_topics(&mut self, messages: u32) {
        self.publish("-", DEEP, &distinct(0));
        for n in 1..messages {
            self.publish("-", &name(n as usize % (TOPICS - 1)), &distinct(n));
        }
        self.forget_setup();
    }

    fn forget_setup(&mut self) {
        self.named.clear();
        self.times.retain(|call, _| !call.starts_with("-;") && !call.starts_with("tend after -;"));
    }

    fn subscribe(&mut self, call: &str, filter: &str, start: &Start<'_>) -> SubscriptionId {
        let filter = Filter::new(filter).unwrap();
        // The shell builds this table before it takes the lock.
        let start = weir::engine::Beginning::from(start);
        self.with(call, |engine| engine.subscribe(filter, start, Lag::Oldest))
    }
}

// 10,000 subscriptions with wildcards, and a series of publications.
fn crowd(shell: &mut Shell, filters: &[String]) {
    shell.fill();
    for filter in filters {
        shell.subscribe("subscribe, New", filter, &Start::New);
    }
    for n in 0..8 {
        shell.publish("publish", DEEP, &distinct(MESSAGES + n));
        shell.deliver("read", READ);
    }
    // All subscriptions are behind.
    for n in 0..50 {
        shell.publish("publish, all behind", DEEP, &distinct(MESSAGES + 100 + n));
    }
    shell.deliver("read, behind", READ);
    let prefix = DEEP.rsplit_once('/').map_or(DEEP, |(prefix, _)| prefix);
    for n in 0..8 {
        let topic = format!("{prefix}/new{n}");
        shell.publish("publish to a new topic at limits.topics", &topic, &distinct(n));
        shell.deliver("read", READ);
    }
    // Topics are created and forgotten beside subscriptions that are behind.
    for n in 0..100 {
        let topic = format!("{prefix}/more{n}");
        shell.publish("publish to a new topic, all behind", &topic, &distinct(n));
    }
    for n in 0..8_u32 {
        shell.publish("publish of 16 MiB", DEEP, &vec![n as u8; 16 << 20].into());
    }
    shell.named.truncate(20);
    shell.deliver("read, far behind", READ);
}

// Subscriptions that start and end, beside 65,536 topics.
fn topics(shell: &mut Shell) {
    shell.fill();
    let position = shell.engine.position();
    let back = |messages: u64| Start::Resume {
        since: Position { run: 1, position: position - messages },
        topics: Vec::new(),
    };
    let starts = [
        ("New", Start::New),
        ("All", Start::All),
        ("Latest", Start::Latest),
        ("Resume", back(150_000)),
        ("Resume, just before", back(20)),
    ];
    for (filter, times) in [("*/*/x", 64), ("t/**", 4), ("**", 4)] {
        for (kind, start) in &starts {
            let mut ids = Vec::new();
            for _ in 0..times {
                ids.push(shell.subscribe(&format!("subscribe {filter}, {kind}"), filter, start));
            }
            // Reading moves the subscriptions.
            for id in &ids[..times.min(2)] {
                // Fails if the evicted messages cannot be reported as gaps.
                let _ = shell.read(&format!("read {filter}, {kind}"), *id, READ);
            }
            for id in ids {
                shell.with("unsubscribe", |engine| engine.unsubscribe(id));
            }
            shell.named.clear();
        }
    }
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    let id = shell.subscribe("subscribe **, All", "**", &Start::Latest);
    // Fails: the subscription has been told of too many topics.
    let _ = shell.read("read **, apart", id, apart);
    for n in 0..2000_u32 {
        let topic = name(n as usize * 31);
        let _ = shell.with("get, Latest", |engine| engine.get(&topic, Which::Latest).map(drop));
    }
    for n in 0..100_u32 {
        for _ in 0..3 {
            shell.publish("publish", &name(7), &distinct(n));
        }
    }
    for _ in 0..200 {
        shell.with("top, 100", |engine| engine.top(&name(7), 100).map(|top| top.len())).unwrap();
    }
    for n in 0..12_u32 {
        shell.publish("publish of 16 MiB", &format!("large/{n}"), &vec![n as u8; 16 << 20].into());
    }
    for n in 0..5000_usize {
        shell.publish("publish to a new topic at limits.topics", &format!("n/{n}"), &distinct(1));
    }
}

// 1,000,000 messages in one topic.
fn one_topic(shell: &mut Shell) {
    for n in 0..MESSAGES {
        shell.publish("publish 1,000,000", "a", &distinct(n));
    }
    // More messages than fit with payloads of 100 bytes, so their payloads are empty.
    let all = shell.subscribe("subscribe, All", "a", &Start::All);
    shell.read("read, All", all, READ).unwrap();
    let late = ReadOptions { accepted_since: 1000, ..READ };
    for filter in ["a", "**"] {
        let id = shell.subscribe("subscribe, All", filter, &Start::All);
        shell.read("read, all of it late", id, late).unwrap();
        shell.with("unsubscribe", |engine| engine.unsubscribe(id));
    }
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    let id = shell.subscribe("subscribe, All", "a", &Start::All);
    shell.read("read, apart", id, apart).unwrap();
    let topic = shell.engine.get("a", Which::Latest).unwrap().topic_id();
    let next = shell.engine.head("a").unwrap().1;
    for at in (next - 1000..next).step_by(50) {
        shell.with("repair", |engine| {
            let mut from = at;
            while let Some(next) = engine.repair(id, topic, (from, next - 1), 64 << 10, &mut |_| ())
            {
                from = next;
                if engine.is_tired() {
                    break;
                }
            }
        });
    }
    for n in 0..200 {
        let digest = Digest::of(&distinct(MESSAGES - 1 - n * 100));
        for which in
            [Which::Digest(digest), Which::Sequence(next - 1 - u64::from(n)), Which::Latest]
        {
            shell.with("get", |engine| engine.get("a", which).map(drop)).unwrap();
        }
        shell.with("top, 100", |engine| engine.top("a", 100).map(|top| top.len())).unwrap();
    }
    for n in 0..4_u32 {
        shell.publish("publish of 16 MiB", &format!("b/{n}"), &vec![n as u8; 16 << 20].into());
    }
    // All of it is forgotten.
    for n in 0..TOPICS {
        shell.publish("publish to a new topic", &name(n), &distinct(1));
    }
}
