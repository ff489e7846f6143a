//! The clients' ends, as `docs/protocol.md` describes them: what publishes, and what subscribes.

use super::link::{MS, Out, ROOM};
use crate::engine::tests::peer::decode;
use crate::wire::realtime::{Arrival, Due, Receiver, Resend, Stats, Unacked};
use crate::wire::{ClientFrame, DaemonFrame, Encoded, FrameReader, encode_publish};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TOPICS: [&str; 4] = ["a", "b", "c/x", "c/y"];

/// The frames of a datagram, or of a piece of a stream, which holds whole frames here.
pub(super) fn frames(bytes: &Bytes) -> Vec<Bytes> {
    let mut reader = FrameReader::new(1 << 24);
    reader.push(bytes.clone());
    let frames = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
    assert!(!reader.is_partial());
    frames
}

pub(super) fn append(encoded: &Encoded, out: &mut Vec<u8>) {
    let (head, body) = encoded.pieces();
    out.extend_from_slice(head);
    out.extend_from_slice(body);
}

/// Small publications go in datagrams, the others on the stream.
pub(super) struct Publisher {
    unacked: Unacked,
    // On the stream only.
    waiting: BTreeSet<(u32, u64)>,
    numbers: [u64; TOPICS.len()],
    acknowledged: [bool; TOPICS.len()],
    pub(super) datagrams: u64,
    pub(super) again: u64,
    pub(super) rejected: BTreeSet<(u32, u64)>,
    pub(super) out: Vec<Out>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        let mut declared = Vec::new();
        for (alias, name) in TOPICS.into_iter().enumerate() {
            ClientFrame::Topic { alias: alias as u32, name }.encode(&mut declared);
        }
        Self {
            unacked: Unacked::new(),
            waiting: BTreeSet::new(),
            numbers: [0; TOPICS.len()],
            acknowledged: [false; TOPICS.len()],
            datagrams: 0,
            again: 0,
            rejected: BTreeSet::new(),
            out: vec![Out::Stream(declared)],
        }
    }

    pub(super) fn publish(
        &mut self,
        now: u64,
        rtt: u64,
        topic: usize,
        stamp: u64,
        payload: &Bytes,
    ) {
        self.numbers[topic] += 1;
        let (alias, number) = (topic as u32, self.numbers[topic]);
        let frame = encode_publish(alias, number, stamp, payload);
        if frame.wire_len() > ROOM - 50 {
            self.waiting.insert((alias, number));
            return self.on_stream(&frame);
        }
        self.datagrams += 1;
        self.in_datagram(alias, &frame);
        self.unacked.push(now, rtt, alias, number, frame);
    }

    fn on_stream(&mut self, frame: &Encoded) {
        let mut bytes = Vec::new();
        append(frame, &mut bytes);
        self.out.push(Out::Stream(bytes));
    }

    fn in_datagram(&mut self, alias: u32, frame: &Encoded) {
        let mut bytes = Vec::new();
        if !self.acknowledged[alias as usize] {
            ClientFrame::Topic { alias, name: TOPICS[alias as usize] }.encode(&mut bytes);
        }
        append(frame, &mut bytes);
        self.out.push(Out::Datagram(bytes));
    }

    pub(super) fn receive(&mut self, bytes: &Bytes) {
        for frame in frames(bytes) {
            match decode(&frame) {
                DaemonFrame::Acknowledge { alias, floor, seen } => {
                    self.acknowledged[alias as usize] = true;
                    self.unacked.acknowledged(alias, floor, seen, &mut |_, _| {});
                }
                DaemonFrame::Receipt { alias, number, .. } => self.settle(alias, number),
                DaemonFrame::Rejected { alias, number, .. } => {
                    self.settle(alias, number);
                    self.rejected.insert((alias, number));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn settle(&mut self, alias: u32, number: u64) {
        self.unacked.settled(alias, number);
        self.waiting.remove(&(alias, number));
    }

    pub(super) fn due(&self) -> Option<u64> {
        self.unacked.due()
    }

    pub(super) fn poll(&mut self, now: u64, rtt: u64) {
        let mut resend = Vec::new();
        self.unacked.poll(now, rtt, &mut resend);
        for resend in resend {
            match resend {
                Resend::Datagram(alias, frame) => self.in_datagram(alias, &frame),
                Resend::Stream(_, _, frame) => {
                    self.again += 1;
                    self.on_stream(&frame);
                }
            }
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.numbers.iter().sum()
    }

    pub(super) fn is_done(&self) -> bool {
        self.unacked.is_empty() && self.waiting.is_empty()
    }
}

/// The fate of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Delivered: the publisher's stamp, and when.
    Had(u64, u64),
    Told,
}

/// Of a topic, from one session to the next: epoch, next, and what was had above that.
pub(super) type Kept = (u64, u64, Vec<(u64, u64)>);

pub(super) struct Subscriber {
    pub(super) receiver: Receiver,
    names: BTreeMap<u64, (String, u64)>,
    /// Shown to the next session.
    pub(super) resume: BTreeMap<String, Kept>,
    pub(super) starts: BTreeMap<String, u64>,
    pub(super) log: BTreeMap<(String, u64), Fate>,
    repair: bool,
    deadline: u64,
    // Of earlier sessions.
    before: Stats,
    pub(super) asked_reliably: u64,
    pub(super) resumed_above_a_hole: u64,
    pub(super) out: Vec<Out>,
}

impl Subscriber {
    pub(super) fn new(repair: bool, deadline: u64) -> Self {
        Self {
            receiver: Receiver::new(repair, deadline),
            names: BTreeMap::new(),
            resume: BTreeMap::new(),
            starts: BTreeMap::new(),
            log: BTreeMap::new(),
            repair,
            deadline,
            before: Stats::default(),
            asked_reliably: 0,
            resumed_above_a_hole: 0,
            out: Vec::new(),
        }
    }

    /// The session is over.
    pub(super) fn break_off(&mut self) {
        self.before = self.stats();
        for (id, (name, epoch)) in std::mem::take(&mut self.names) {
            let next = self.receiver.next(id).unwrap();
            self.resume.insert(name, (epoch, next, self.receiver.had(id)));
        }
        self.receiver = Receiver::new(self.repair, self.deadline);
        self.out.clear();
    }

    pub(super) fn receive(&mut self, now: u64, rtt: u64, bytes: &Bytes) {
        for frame in frames(bytes) {
            match decode(&frame) {
                DaemonFrame::For { .. } => {}
                DaemonFrame::Topic { id, epoch, next, name } => {
                    if self.receiver.knows(id) {
                        continue;
                    }
                    self.starts.entry(name.into()).or_insert(next);
                    let had = self.resume.remove(name).map(|(known, shown, had)| {
                        assert_eq!((known, shown), (epoch, next), "resumed somewhere else");
                        self.resumed_above_a_hole += u64::from(!had.is_empty());
                        had
                    });
                    self.receiver.topic(now, rtt, id, next, had.unwrap_or_default());
                    self.names.insert(id, (name.into(), epoch));
                }
                DaemonFrame::Message { topic, sequence, stamp, .. } => {
                    if self.receiver.message(now, rtt, topic, sequence) == Arrival::New {
                        self.enter(topic, sequence, Fate::Had(stamp, now));
                    }
                }
                DaemonFrame::Gap { topic, first, last, .. } => {
                    for (first, last) in self.receiver.gap(now, rtt, topic, first, last) {
                        (first..=last).for_each(|at| self.enter(topic, at, Fate::Told));
                    }
                }
                DaemonFrame::Head { topic, sequence } => {
                    self.receiver.head(now, rtt, topic, sequence);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn enter(&mut self, topic: u64, sequence: u64, fate: Fate) {
        let (name, _) = &self.names[&topic];
        let before = self.log.insert((name.clone(), sequence), fate);
        assert_eq!(before, None, "{name} {sequence} twice, now {fate:?}");
    }

    pub(super) fn poll(&mut self, now: u64, rtt: u64) {
        let mut due = Vec::new();
        self.receiver.poll(now, rtt, &mut due);
        for due in due {
            match due {
                Due::Ask { topic, holes, reliably } => {
                    let mut bytes = Vec::new();
                    ClientFrame::Repair { subscription: 1, topic, holes }.encode(&mut bytes);
                    self.asked_reliably += u64::from(reliably);
                    let out = if reliably { Out::Stream } else { Out::Datagram };
                    self.out.push(out(bytes));
                }
                Due::Late { topic, first, last } => {
                    (first..=last).for_each(|at| self.enter(topic, at, Fate::Told));
                }
            }
        }
    }

    /// Over all sessions.
    pub(super) fn stats(&self) -> Stats {
        let (before, now) = (self.before, self.receiver.stats());
        Stats {
            duplicates: before.duplicates + now.duplicates,
            asked: before.asked + now.asked,
            repaired: before.repaired + now.repaired,
            late: before.late + now.late,
        }
    }
}

/// When the next of these is due.
pub(super) fn soonest(due: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    due.into_iter().flatten().min()
}

/// A moment that is long after anything that is under way.
pub(super) const LONG: u64 = 60_000 * MS;
