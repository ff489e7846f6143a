//! The scenes: what peers do to the engine.

use super::Shell;
use bytes::Bytes;
use weir::engine::{
    BeginOutcome, Channel, Hashing, IncomingUpload, LargePayloads, Prepared, PublicationId,
    ReadOptions, Session, SubscriptionId, UploadId, UploadRequest,
};
use weir::wire::{
    ClientFrame, Delivery, Digest, Filter, FrameReader, Lag, Position, ProducerId, Resume, Start,
    VERSION, Which,
};

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
        self.times.retain(|call, _| {
            !call.starts_with("-;") && !call.starts_with("run_deferred after -;")
        });
    }

    fn subscribe(&mut self, call: &str, filter: &str, start: &Start<'_>) -> SubscriptionId {
        let filter = Filter::new(filter).unwrap();
        // The shell builds this table before it takes the lock.
        let start = weir::engine::PreparedStart::from(start);
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

// One peer, at the level of frames.
struct Peer {
    session: Session,
    intake: IncomingUpload,
    hashing: Hashing,
}

impl Peer {
    fn open(shell: &mut Shell) -> Self {
        let session = shell.engine.open_session();
        let mut peer =
            Self { session, intake: IncomingUpload::default(), hashing: Hashing::default() };
        let producer = ProducerId([1; 16]);
        let hello = ClientFrame::Hello { version: VERSION, producer, token: None, agent: "" };
        peer.handle(shell, "-", &[hello]);
        peer
    }

    // Handles as many frames under one lock as the shell does.
    fn handle(&mut self, shell: &mut Shell, call: &str, frames: &[ClientFrame<'_>]) {
        let mut reader = FrameReader::new(1 << 24);
        let mut all = Vec::new();
        for frame in frames {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            reader.push(bytes.into());
            all.extend(reader.next_frame().unwrap());
        }
        assert_eq!(all.len(), frames.len());
        let hashing = &mut self.hashing;
        let prepared = all.iter().map(|frame| Prepared::new(frame, hashing).unwrap());
        let mut prepared = prepared.collect::<Vec<_>>().into_iter();
        while prepared.len() > 0 {
            let mut out = Vec::new();
            let Self { session, intake, .. } = self;
            shell.with(call, |engine| {
                while out.len() < 64 << 10
                    && !engine.is_work_spent()
                    && let Some(frame) = prepared.next()
                {
                    let of = (Channel::Control, &mut *intake);
                    session.handle(engine, 1, of, frame, &mut out).unwrap();
                }
            });
        }
    }
}

fn asks<'a>(request: u32, filter: &'a str, start: Start<'a>) -> ClientFrame<'a> {
    ClientFrame::Subscribe {
        request,
        filter,
        start,
        delivery: Delivery::Ordered,
        lag: Lag::Oldest,
        deadline: 0,
    }
}

fn sessions(shell: &mut Shell) {
    shell.fill();
    let many = 256_u32;
    for (filter, start) in [("*/*/x", Start::All), ("**", Start::All), ("**", Start::Latest)] {
        let mut peer = Peer::open(shell);
        let frames: Vec<_> = (0..many).map(|n| asks(n, filter, start.clone())).collect();
        peer.handle(shell, "256 Subscribe in one message", &frames);
        assert_eq!(shell.engine.subscriptions(), 256);
        // Windows of maximum size.
        let named = std::mem::take(&mut shell.named);
        let ended = named.into_iter().filter(|id| shell.read_some(*id).is_err()).count();
        assert!(ended == 0 || filter == "**");
        shell.with("close a session of 256 subscriptions", |engine| peer.session.close(engine));
        shell.named.clear();
    }
    // Lists for a resume, of the maximum size of a frame: 1 MiB.
    let names: Vec<_> = (0..TOPICS).map(|n| format!("{n:x}")).collect();
    let topics: Vec<_> = names.iter().map(|topic| Resume { topic, epoch: 1, next: 1 }).collect();
    let since = Position { run: 2, position: 0 };
    let mut peer = Peer::open(shell);
    for request in 0..16 {
        let start = Start::Resume { since, topics: topics.clone() };
        peer.handle(shell, "Subscribe with 65,536 names", &[asks(request, "**", start)]);
    }
    shell.with("close a session of 1,000,000 names", |engine| peer.session.close(engine));
}

impl Shell {
    // Reads a few batches, so that there is a window.
    fn read_some(&mut self, id: SubscriptionId) -> Result<(), weir::wire::Refusal> {
        for _ in 0..40 {
            let start = std::time::Instant::now();
            self.engine.begin_work();
            let more = self.engine.read(id, READ, &mut |item| _ = std::hint::black_box(&item));
            self.record("read, in a session", start.elapsed());
            if !more? {
                break;
            }
        }
        Ok(())
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
    let next = shell.engine.head("a").unwrap().next;
    for at in (next - 1000..next).step_by(50) {
        shell.with("repair", |engine| {
            let mut from = at;
            while let Some(next) = engine.repair(id, topic, (from, next - 1), 64 << 10, &mut |_| ())
            {
                from = next;
                if engine.is_work_spent() {
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

fn origin(n: usize) -> PublicationId {
    let mut producer = [0; 16];
    producer[..8].copy_from_slice(&((n / 100) as u64).to_le_bytes());
    PublicationId { producer: ProducerId(producer), number: n as u64 % 100 + 1 }
}

impl Shell {
    fn begin(
        &mut self,
        call: &str,
        topic: &str,
        size: u64,
        origin: Option<PublicationId>,
    ) -> UploadId {
        let opening = UploadRequest { topic, size, stamp: 0, origin };
        match self.with(call, |engine| engine.begin(1, &opening)).unwrap() {
            BeginOutcome::Arriving(upload) => upload,
            BeginOutcome::Duplicate(_) => panic!("it is new"),
        }
    }
}

// 10,000 publications arrive, in one topic and in as many topics.
fn uploads(shell: &mut Shell) {
    let size = 100_000;
    for many in [false, true] {
        for n in 0..3000 {
            shell.publish("-", &name(n), &distinct(n as u32));
        }
        shell.forget_setup();
        let topic = |n: usize| if many { name(n) } else { "a".to_owned() };
        let all: Vec<_> =
            (0..10_000).map(|n| shell.begin("begin", &topic(n), size, Some(origin(n)))).collect();
        let chunk = Bytes::from(vec![1; 1000]);
        for upload in &all {
            shell.with("append", |engine| engine.append(*upload, chunk.clone())).unwrap();
        }
        for n in 0..1000 {
            shell.publish("publish beside them", &topic(n), &distinct(n as u32));
        }
        for large in
            [LargePayloads::WhenComplete, LargePayloads::InChunks, LargePayloads::AnnounceOnly]
        {
            let wanted = ReadOptions { large, ..READ };
            for filter in ["a", "**"] {
                let id = shell.subscribe("subscribe, All", filter, &Start::All);
                let _ = shell.read("read beside them", id, wanted);
                shell.with("unsubscribe", |engine| engine.unsubscribe(id));
            }
        }
        for n in 0..100 {
            shell.begin("begin again, by the same producer", &topic(n), size, Some(origin(n)));
        }
        let rest = Bytes::from(vec![1; 99_000]);
        let mut whole = vec![1; 1000];
        whole.extend_from_slice(&rest);
        let digest = Digest::of(&whole);
        for upload in all.iter().skip(100).step_by(50) {
            let append = shell.with("append", |engine| engine.append(*upload, rest.clone()));
            if append.is_ok() {
                let _ = shell.with("end", |engine| engine.end(1, *upload, digest));
            }
        }
        for upload in &all {
            shell.with("abort", |engine| engine.abort(*upload));
        }
    }
    for _ in 0..12 {
        shell.publish("publish of 16 MiB", "z", &vec![2; 16 << 20].into());
    }
}

// 10,000 subscriptions have received everything that has arrived of one upload.
fn waiting(shell: &mut Shell) {
    for large in [LargePayloads::InChunks, LargePayloads::WhenComplete] {
        let wanted = ReadOptions { large, ..READ };
        let all: Vec<_> = (0..SUBSCRIPTIONS)
            .map(|_| shell.subscribe("subscribe, New", "**", &Start::New))
            .collect();
        for ends in [true, false] {
            let upload = shell.begin("begin", "a", 100_000, None);
            shell.deliver("read", wanted);
            let chunk = Bytes::from(vec![u8::from(ends); 25_000]);
            for _ in 0..4 {
                shell.with("append", |engine| engine.append(upload, chunk.clone())).unwrap();
                shell.deliver("read", wanted);
            }
            // Messages of other topics overtake it.
            shell.publish("publish beside it", "b", &vec![3; 70_000].into());
            shell.deliver("read", wanted);
            if ends {
                let digest = Digest::of(&vec![1; 100_000]);
                shell.with("end", |engine| engine.end(1, upload, digest)).unwrap();
            } else {
                shell.with("abort", |engine| engine.abort(upload));
            }
            shell.deliver("read", wanted);
        }
        for id in all {
            shell.with("unsubscribe", |engine| engine.unsubscribe(id));
        }
    }
}
