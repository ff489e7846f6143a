//! The scenes of one peer, at the level of frames.

use super::{READ, TOPICS};
use crate::Shell;
use weir::engine::{Channel, Hashing, IncomingUpload, Prepared, Session, SubscriptionId};
use weir::wire::{
    ClientFrame, Delivery, FrameReader, Lag, Position, ProducerId, Resume, Start, VERSION,
};

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
                    && !engine.is_tired()
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

pub(super) fn sessions(shell: &mut Shell) {
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
    pub(super) fn read_some(&mut self, id: SubscriptionId) -> Result<(), weir::wire::Refusal> {
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
