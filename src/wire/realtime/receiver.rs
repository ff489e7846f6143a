//! The receiving end of one subscription: each message once, and what did not come asked for.

use super::holes::{Hole, Holes};
use super::{ASKED_BY_DATAGRAM, HOLES, ask_again, ask_again_reliably, grace};
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};

// Holes of a topic, and of all topics together. One more at the end of a topic always fits.
pub(super) const TOPIC_HOLES: usize = 256;
pub(super) const ALL_HOLES: usize = 4096;

// A hole is asked for so many times in datagrams before it is asked for on the control stream.
const TRIES: u32 = 2;

/// Result of a message that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Hand it on.
    New,
    /// It was had, or told as a gap: drop it.
    Duplicate,
    /// Its topic was not announced yet: drop it.
    Unknown,
    /// There are too many holes to remember that it came: drop it. It is a hole like the others.
    Full,
}

/// An action for holes that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Send a [`Repair`](crate::wire::ClientFrame::Repair).
    Ask {
        /// Id of the topic.
        topic: u64,
        /// First and last sequences, in order; at most [`HOLES`].
        holes: Vec<(u64, u64)>,
        /// On the control stream rather than in a datagram.
        reliably: bool,
    },
    /// Tell a gap: these have passed their deadline.
    Late {
        /// Id of the topic.
        topic: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
    },
}

/// Counters of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that had come before.
    pub duplicates: u64,
    /// Repairs asked for, in datagrams and on the control stream.
    pub asked: u64,
    /// Messages that came after they had been asked for.
    pub repaired: u64,
    /// Sequences given up for their deadline.
    pub late: u64,
}

#[derive(Debug)]
struct Topic {
    holes: Holes,
    // When the message or gap arrived that is just below the end: the grace of the next hole begins
    // then.
    arrived: u64,
    // Its entry in the schedule, at the latest when its first hole is due. None without holes.
    due: Option<u64>,
}

/// Which messages of one subscription have come, over all its topics.
///
/// Sequence 2^64 - 1 is none: nobody counts that far.
#[derive(Debug)]
pub struct Receiver {
    repair: bool,
    deadline: u64,
    topics: HashMap<u64, Topic, RandomState>,
    // Topics with holes, by when they are due.
    schedule: BTreeSet<(u64, u64)>,
    // Holes of all topics.
    holes: usize,
    stats: Stats,
}

const HIGHEST: u64 = u64::MAX - 1;

impl Receiver {
    /// Without `repair` holes are not asked for, as where nothing is lost. `deadline` is how long
    /// a hole may take, µs; 0 is for ever.
    pub fn new(repair: bool, deadline: u64) -> Self {
        Self {
            repair,
            deadline,
            topics: HashMap::default(),
            schedule: BTreeSet::new(),
            holes: 0,
            stats: Stats::default(),
        }
    }

    /// A topic was announced. `next` is the first sequence that is wanted, and `had` are ranges
    /// above it that an earlier session had, in order. No effect when the id is known.
    pub fn topic(
        &mut self,
        now: u64,
        rtt: u64,
        id: u64,
        next: u64,
        had: impl IntoIterator<Item = (u64, u64)>,
    ) {
        if self.knows(id) {
            return;
        }
        let topic = Topic { holes: Holes::new(next), arrived: now, due: None };
        self.topics.insert(id, topic);
        for (first, last) in had {
            self.gap(now, rtt, id, first, last);
        }
        // All of these are under way: as if asked for with the subscription.
        if let Some(topic) = self.topics.get_mut(&id)
            && topic.holes.len() > 0
        {
            let ask = now.saturating_add(ask_again(rtt));
            topic.holes.iter_mut().for_each(|hole| hole.ask = ask);
        }
    }

    /// The topic has come to an end.
    pub fn forget(&mut self, id: u64) {
        if let Some(mut topic) = self.topics.remove(&id) {
            self.holes -= topic.holes.len();
            topic.plan(&mut self.schedule, id, None);
        }
    }

    /// Whether the topic was announced.
    pub fn knows(&self, id: u64) -> bool {
        self.topics.contains_key(&id)
    }

    /// A message has come, whatever way.
    pub fn message(&mut self, now: u64, rtt: u64, id: u64, sequence: u64) -> Arrival {
        let Some(topic) = self.topics.get_mut(&id).filter(|_| sequence <= HIGHEST) else {
            return Arrival::Unknown;
        };
        let end = topic.holes.end();
        if sequence == end && topic.holes.len() == 0 {
            topic.holes.advance();
            topic.arrived = now;
            return Arrival::New;
        }
        if sequence >= end {
            if !self.seen(now, rtt, id, sequence, sequence) {
                return Arrival::Full;
            }
            self.arrived(now, id, sequence);
            return Arrival::New;
        }
        let mut asked = None;
        let part = &mut |_, _, hole: &Hole| asked = Some(hole.asked > 0);
        let fits = self.fill(id, sequence, sequence, part);
        match asked {
            Some(asked) => self.stats.repaired += u64::from(asked),
            None if !fits => return Arrival::Full,
            None => {
                self.stats.duplicates += 1;
                return Arrival::Duplicate;
            }
        }
        self.arrived(now, id, sequence);
        Arrival::New
    }

    /// These sequences will not come. Returns the ranges of them that had not come, in order: they
    /// are final now. Ranges that need one hole more than there is room for stay missing.
    pub fn gap(&mut self, now: u64, rtt: u64, id: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let last = last.min(HIGHEST);
        let mut parts: Vec<(u64, u64)> = Vec::new();
        let Some(topic) = self.topics.get(&id).filter(|_| first <= last) else {
            return parts;
        };
        let end = topic.holes.end();
        self.fill(id, first, last, &mut |first, last, _| join(&mut parts, first, last));
        if last >= end && self.seen(now, rtt, id, first, last) {
            join(&mut parts, first.max(end), last);
        }
        if !parts.is_empty() {
            self.arrived(now, id, last);
        }
        parts
    }

    /// The topic has messages up to this one.
    pub fn head(&mut self, now: u64, rtt: u64, id: u64, sequence: u64) {
        let sequence = sequence.min(HIGHEST);
        if self.topics.get(&id).is_some_and(|topic| sequence >= topic.holes.end()) {
            self.seen(now, rtt, id, sequence + 1, sequence);
        }
    }

    // This sequence was received, or is part of a gap.
    fn arrived(&mut self, now: u64, id: u64, sequence: u64) {
        if let Some(topic) = self.topics.get_mut(&id)
            && topic.holes.end() == sequence + 1
        {
            topic.arrived = now;
        }
    }

    // Takes what is missing of a range out of the holes.
    fn fill(
        &mut self,
        id: u64,
        first: u64,
        last: u64,
        part: &mut impl FnMut(u64, u64, &Hole),
    ) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else {
            return false;
        };
        let before = topic.holes.len();
        let fits = topic.holes.fill(first, last, has_room(before, self.holes), part);
        self.holes = self.holes - before + topic.holes.len();
        if topic.holes.len() == 0 {
            topic.plan(&mut self.schedule, id, None);
        }
        fits
    }

    // Sequences up to `last`, which is beyond all before, are known of, and those from `first` on
    // are settled. Returns false without room to remember that: then they are missing too.
    fn seen(&mut self, now: u64, rtt: u64, id: u64, first: u64, last: u64) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else {
            return false;
        };
        let ask = topic.arrived.saturating_add(grace(rtt)).max(now);
        let hole = Hole { first, last, since: now, ask, asked: 0 };
        let before = topic.holes.len();
        let room = has_room(before, self.holes);
        let fits = topic.holes.extend(first, last + 1, room, &hole);
        self.holes = self.holes - before + topic.holes.len();
        if self.repair && topic.holes.len() > before {
            let due = ask.min(given_up_at(self.deadline, rtt, now));
            let due = topic.due.map_or(due, |planned| planned.min(due));
            topic.plan(&mut self.schedule, id, Some(due));
        }
        fits
    }

    /// When to [`poll`](Self::poll).
    pub fn due(&self) -> Option<u64> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Appends what is to be done by now.
    pub fn poll(&mut self, now: u64, rtt: u64, out: &mut Vec<Due>) {
        while let Some((due, id)) = self.schedule.first().copied()
            && due <= now
        {
            let Some(topic) = self.topics.get_mut(&id) else {
                self.schedule.pop_first();
                continue;
            };
            let before = topic.holes.len();
            let patience = given_up_at(self.deadline, rtt, 0);
            if let Some(since) = now.checked_sub(patience) {
                let mut late = Vec::new();
                topic.holes.give_up(since, &mut |first, last| join(&mut late, first, last));
                for (first, last) in late {
                    self.stats.late =
                        self.stats.late.saturating_add(last - first).saturating_add(1);
                    out.push(Due::Late { topic: id, first, last });
                }
            }
            self.holes = self.holes - before + topic.holes.len();
            self.stats.asked += ask(topic, now, rtt, id, out);
            let next = topic
                .holes
                .iter_mut()
                .map(|hole| hole.ask.min(hole.since.saturating_add(patience)));
            // Not again in this poll, whatever the clock.
            let next = next.min().map(|due| due.max(now.saturating_add(1)));
            topic.plan(&mut self.schedule, id, next.filter(|due| *due > now));
        }
    }

    /// The lowest sequence of the topic that was neither had nor told as a gap.
    pub fn next(&self, id: u64) -> Option<u64> {
        self.topics.get(&id).map(|topic| topic.holes.next())
    }

    /// Ranges above [`next`](Self::next) that were had or told as a gap, in order.
    pub fn had(&self, id: u64) -> Vec<(u64, u64)> {
        self.topics.get(&id).map_or_else(Vec::new, |topic| topic.holes.had())
    }

    /// Whether nothing of the topic is missing that it is known to have.
    pub fn is_complete(&self, id: u64) -> bool {
        self.topics.get(&id).is_none_or(|topic| topic.holes.len() == 0)
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl Topic {
    fn plan(&mut self, schedule: &mut BTreeSet<(u64, u64)>, id: u64, due: Option<u64>) {
        if self.due == due {
            return;
        }
        if let Some(planned) = self.due {
            schedule.remove(&(planned, id));
        }
        schedule.extend(due.map(|due| (due, id)));
        self.due = due;
    }
}

fn has_room(of_topic: usize, of_all: usize) -> bool {
    of_topic < TOPIC_HOLES && of_all < ALL_HOLES
}

// When a hole seen at `since` is given up.
fn given_up_at(deadline: u64, rtt: u64, since: u64) -> u64 {
    if deadline == 0 { u64::MAX } else { since.saturating_add(deadline.saturating_sub(rtt / 2)) }
}

// Asks for the holes of a topic that are due. Says how many repairs that takes.
fn ask(topic: &mut Topic, now: u64, rtt: u64, id: u64, out: &mut Vec<Due>) -> u64 {
    let (mut datagram, mut stream) = (Vec::new(), Vec::new());
    let mut left = ASKED_BY_DATAGRAM;
    for hole in topic.holes.iter_mut().filter(|hole| hole.ask <= now) {
        let size = (hole.last - hole.first).saturating_add(1);
        if hole.asked < TRIES && size <= left {
            left -= size;
            hole.asked += 1;
            hole.ask = now.saturating_add(ask_again(rtt));
            datagram.push((hole.first, hole.last));
        } else {
            hole.asked = TRIES;
            hole.ask = now.saturating_add(ask_again_reliably(rtt));
            stream.push((hole.first, hole.last));
        }
    }
    let before = out.len();
    let repairs = |holes: &[(u64, u64)], reliably| {
        let ask = |holes: &[(u64, u64)]| Due::Ask { topic: id, holes: holes.into(), reliably };
        holes.chunks(HOLES).map(ask).collect::<Vec<_>>()
    };
    out.extend(repairs(&datagram, false));
    out.extend(repairs(&stream, true));
    (out.len() - before) as u64
}

// Appends a range, to the one before it where they touch.
fn join(ranges: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    match ranges.last_mut() {
        Some(before) if before.1 + 1 == first => before.1 = last,
        _ => ranges.push((first, last)),
    }
}

#[cfg(test)]
impl Receiver {
    pub(super) fn holes(&self, id: u64) -> Vec<(u64, u64)> {
        self.topics[&id].holes.ranges()
    }

    /// The accounts agree, and no hole is forgotten by the schedule.
    pub(super) fn audit(&self) {
        let holes = self.topics.values().map(|topic| topic.holes.len());
        assert_eq!(holes.sum::<usize>(), self.holes);
        let planned = self.topics.iter().filter_map(|(id, topic)| Some((topic.due?, *id)));
        assert_eq!(planned.collect::<BTreeSet<_>>(), self.schedule);
        for topic in self.topics.values() {
            topic.holes.audit();
            assert_eq!(topic.due.is_some(), self.repair && topic.holes.len() > 0);
            let earliest = topic.holes.earliest();
            assert!(topic.due <= earliest, "asks too late: {:?} {earliest:?}", topic.due);
        }
    }
}
