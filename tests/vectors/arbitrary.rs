//! Frames of every variant with arbitrary values in their fields.
#![allow(clippy::many_single_char_names, clippy::too_many_lines)]

use proptest::{collection::vec, prelude::*};
use weir::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Had, Lag, Limits, Position,
    ProducerId, Resume, Start, TopEntry, Which,
};

// Values around the limits of each length of a varint.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64, 0_u64..3).prop_map(|(bits, more)| (1_u64 << bits).wrapping_add(more) - 1)
    ]
}

/// Number of variants.
pub(crate) const CLIENT_FRAMES: usize = 13;
/// Number of variants.
pub(crate) const DAEMON_FRAMES: usize = 20;

/// The values that frames borrow.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    n: [u64; 6],
    text: [String; 2],
    bytes: Vec<u8>,
    many: usize,
    pick: usize,
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    let n = [number(), number(), number(), number(), number(), number()];
    let text = [".{0,200}", ".{0,20}"];
    (n, text, vec(any::<u8>(), 0..300), 0_usize..5, 0_usize..1000)
        .prop_map(|(n, text, bytes, many, pick)| Parts { n, text, bytes, many, pick })
}

impl Parts {
    fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    fn start(&self) -> Start<'_> {
        let [a, b, c, d, ..] = self.n;
        match self.pick % 7 {
            0 => Start::New,
            1 => Start::Latest,
            2 => Start::All,
            3 => Start::Last(a),
            4 => Start::Sequence(b),
            5 => Start::Resume {
                since: Position { run: a, position: b },
                topics: vec![Resume { topic: &self.text[1], epoch: c, next: d }; self.many],
            },
            _ => Start::ResumeWith {
                since: Position { run: a, position: b },
                topics: vec![Resume { topic: &self.text[1], epoch: c, next: d }; self.many],
                had: vec![Had { topic: a as u32, ranges: vec![(c, d); self.many] }; self.many],
            },
        }
    }

    pub(crate) fn client(&self, index: usize) -> ClientFrame<'_> {
        use ClientFrame as F;
        let Self { n: [a, b, c, d, ..], text: [name, text], bytes, many, pick } = self;
        let (digest, short, stamp, size) = (self.digest(), *a as u32, *c, *d);
        match index {
            0 => {
                let token = pick.is_multiple_of(2).then_some(&name[..]);
                let producer = ProducerId(u128::from(*b).to_be_bytes());
                F::Hello { version: short, producer, token, agent: text }
            }
            1 => F::Topic { alias: short, name },
            2 => F::Publish { alias: short, number: *b, stamp, payload: bytes },
            3 => F::Begin { alias: short, number: *b, stamp, size },
            4 => F::Chunk { bytes },
            5 => F::End { digest },
            6 => F::Subscribe {
                request: short,
                filter: name,
                start: self.start(),
                delivery: [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime][pick % 3],
                lag: [Lag::Oldest, Lag::Newest, Lag::Disconnect][pick / 3 % 3],
                deadline: *b as u32,
            },
            7 => F::Unsubscribe { subscription: short },
            8 => {
                let which = [Which::Latest, Which::Sequence(*b), Which::Digest(digest)][pick % 3];
                F::Get { request: short, topic: name, which }
            }
            9 => F::Top { request: short, topic: name, k: *b as u32 },
            10 => F::Ping { request: short },
            11 => F::Repair { subscription: short, topic: *b, holes: vec![(*c, *d); *many] },
            12 => F::Goodbye { code: Code(short), reason: name },
            13 => F::Knows { frames: short },
            14 => F::Token { request: short, token: text },
            other => panic!("ClientFrame has no {other}"),
        }
    }

    pub(crate) fn daemon(&self, index: usize) -> DaemonFrame<'_> {
        use DaemonFrame as F;
        let Self { n: [a, b, c, d, e, f], text: [name, text], bytes, many, pick } = self;
        let (digest, odd, short) = (self.digest(), pick % 2 == 1, *a as u32);
        let (code, topic, sequence, stamp, size) = (Code(*b as u32), *b, *c, *d, *e);
        match index {
            0 => {
                let limits = Limits { payload: *e, subscriptions: *f as u32, window: *b as u32 };
                F::Welcome { version: short, session: *b, run: *c, clock: *d, limits, agent: name }
            }
            1 => F::For { request: short },
            2 => F::Topic { id: *a, epoch: *b, next: *c, name },
            3 => F::Message { topic, sequence, count: *f, stamp, payload: bytes },
            4 => F::Begin { topic, sequence, stamp, size },
            5 => F::Chunk { bytes },
            6 => F::End { count: *f, digest },
            7 => F::Abort { code },
            8 => {
                use GapCause::{Aborted, Evicted, Expired, Had, Late, Lost, Skipped, Unknown};
                let unknown = Unknown(u32::MAX);
                let causes = [Evicted, Skipped, Aborted, Late, Lost, Had, Expired, unknown];
                let cause = causes[pick % causes.len()];
                F::Gap { topic, first: *c, last: *d, cause }
            }
            9 => F::Head { topic, sequence },
            10 => F::Receipt {
                alias: short,
                number: *b,
                sequence,
                count: *f,
                since: *e,
                digest,
                duplicate: odd,
            },
            11 => F::Acknowledge { alias: short, floor: *b, seen: *c },
            12 => F::Rejected { alias: short, number: *c, code, reason: text },
            13 => F::Subscribed { request: short, position: *b },
            14 => F::Ended { request: short, code, reason: text },
            15 => {
                let (count, since, payload) = (*f, *a, odd.then_some(&bytes[..]));
                let entry = TopEntry { digest, count, since, sequence, size, payload };
                F::Top { request: short, entries: vec![entry; *many] }
            }
            16 => F::Pong { request: short, clock: *b },
            17 => F::Failed { request: short, code, reason: name },
            18 => F::Drain { within: short, reason: name },
            19 => F::Goodbye { code, reason: name, retry: odd },
            20 => F::Mark { position: *b },
            21 => F::Notice { code, reason: text },
            22 => F::Authorized { request: short, lifetime: *b, name },
            other => panic!("DaemonFrame has no {other}"),
        }
    }
}
