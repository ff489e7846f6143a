//! The receiving end of one subscription: accepts each message once, and requests missing ones.

use super::holes::{Hole, Holes};
use super::{ASKED_BY_DATAGRAM, HOLES, ask_again, ask_again_reliably, grace};
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};

// Maximum number of holes of a topic, and of all topics together. One more at the end of a topic
// always fits.
pub(super) const TOPIC_HOLES: usize = 256;
pub(super) const ALL_HOLES: usize = 4096;

// How often a hole is requested in datagrams before it is requested on the control stream.
const TRIES: u32 = 2;

/// How to treat a message that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Deliver it.
    New,
    /// Drop it: it was received before, or reported as a gap.
    Duplicate,
    /// Drop it: its topic is not announced yet.
    Unknown,
    /// Drop it: there are too many holes to record that it arrived. It remains missing.
    Full,
}

/// An action about holes that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Send a [`Repair`](crate::wire::ClientFrame::Repair).
    Ask {
        /// Id of the topic.
        topic: u64,
        /// First and last sequences, in order; at most [`HOLES`].
        holes: Vec<(u64, u64)>,
        /// Whether to send it on the control stream rather than in a datagram.
        reliably: bool,
    },
    /// Report a gap: these sequences have passed their deadline.
    Late {
        /// Id of the topic.
        topic: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
    },
}

/// Counters of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that had been received before.
    pub duplicates: u64,
    /// Repairs requested, in datagrams and on the control stream.
    pub asked: u64,
    /// Messages received after they had been requested.
    pub repaired: u64,
    /// Sequences that passed their deadline.
    pub late: u64,
}

#[derive(Debug)]
struct Topic {
    holes: Holes,
    // When the message or gap arrived that is just below the end: the grace of the next hole begins
    // then.
    arrived: u64,
    // Time of the topic's entry in the schedule: not later than its first hole is due. None if it
    // has no holes.
    due: Option<u64>,
}

/// Records which messages of one subscription have been received, in all its topics.
///
/// Sequence 2^64 - 1 is not valid, and no topic reaches it.
#[derive(Debug)]
pub struct Receiver {
    repair: bool,
    deadline: u64,
    topics: HashMap<u64, Topic, RandomState>,
    // Topics with holes, by the time at which they are due.
    schedule: BTreeSet<(u64, u64)>,
    // Number of holes of all topics.
    holes: usize,
    stats: Stats,
}

const HIGHEST: u64 = u64::MAX - 1;

impl Receiver {
    /// Creates a receiver. Without `repair` it requests nothing, which suits transports that lose
    /// nothing. `deadline` is the maximum age of a hole, µs; 0 means no limit.
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

    /// Records the announcement of a topic. `next` is the first sequence that is needed. `received`
    /// are ranges above it that an earlier session received, in order. A known id has no effect.
    pub fn topic(
        &mut self,
        now: u64,
        rtt: u64,
        id: u64,
        next: u64,
        received: impl IntoIterator<Item = (u64, u64)>,
    ) {
        if self.knows(id) {
            return;
        }
        let topic = Topic { holes: Holes::new(next), arrived: now, due: None };
        self.topics.insert(id, topic);
        for (first, last) in received {
            self.gap(now, rtt, id, first, last);
        }
        // The subscription has requested all of these, so that they are on their way.
        if let Some(topic) = self.topics.get_mut(&id)
            && topic.holes.len() > 0
        {
            let ask = now.saturating_add(ask_again(rtt));
            topic.holes.iter_mut().for_each(|hole| hole.ask = ask);
        }
    }

    /// Removes a topic that has ended.
    pub fn forget(&mut self, id: u64) {
        if let Some(mut topic) = self.topics.remove(&id) {
            self.holes -= topic.holes.len();
            topic.plan(&mut self.schedule, id, None);
        }
    }

    /// Returns whether the topic was announced.
    pub fn knows(&self, id: u64) -> bool {
        self.topics.contains_key(&id)
    }

    /// Records that a message has arrived, in a datagram or on a stream.
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
            if !self.extend(now, rtt, id, sequence, sequence) {
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

    /// Records that a range of sequences will not arrive. Returns those of them that were missing,
    /// in order; they are final now. Sequences that do not fit the tables are not among them, and
    /// remain missing.
    pub fn gap(&mut self, now: u64, rtt: u64, id: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let last = last.min(HIGHEST);
        let mut parts: Vec<(u64, u64)> = Vec::new();
        let Some(topic) = self.topics.get(&id).filter(|_| first <= last) else {
            return parts;
        };
        let end = topic.holes.end();
        self.fill(id, first, last, &mut |first, last, _| join(&mut parts, first, last));
        if last >= end && self.extend(now, rtt, id, first, last) {
            join(&mut parts, first.max(end), last);
        }
        if !parts.is_empty() {
            self.arrived(now, id, last);
        }
        parts
    }

    /// Records that the topic has messages up to this sequence.
    pub fn head(&mut self, now: u64, rtt: u64, id: u64, sequence: u64) {
        let sequence = sequence.min(HIGHEST);
        if self.topics.get(&id).is_some_and(|topic| sequence >= topic.holes.end()) {
            self.extend(now, rtt, id, sequence + 1, sequence);
        }
    }

    // Notes the time at which a sequence was received, or told as part of a gap, if it is the newest.
    fn arrived(&mut self, now: u64, id: u64, sequence: u64) {
        if let Some(topic) = self.topics.get_mut(&id)
            && topic.holes.end() == sequence + 1
        {
            topic.arrived = now;
        }
    }

    // Removes a range from the topic's holes. Returns whether there was room to record it.
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

    // Records that sequences up to `last` exist, which is higher than all known ones, and that those
    // from `first` on are received or final. Returns false without room to record the latter.
    fn extend(&mut self, now: u64, rtt: u64, id: u64, first: u64, last: u64) -> bool {
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
            let due = ask.min(expires_at(self.deadline, rtt, now));
            let due = topic.due.map_or(due, |planned| planned.min(due));
            topic.plan(&mut self.schedule, id, Some(due));
        }
        fits
    }

    /// Returns when to call [`poll`](Self::poll).
    pub fn due(&self) -> Option<u64> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Appends the actions that are due.
    pub fn poll(&mut self, now: u64, rtt: u64, out: &mut Vec<Due>) {
        while let Some((due, id)) = self.schedule.first().copied()
            && due <= now
        {
            let Some(topic) = self.topics.get_mut(&id) else {
                self.schedule.pop_first();
                continue;
            };
            let before = topic.holes.len();
            let max_age = expires_at(self.deadline, rtt, 0);
            if let Some(since) = now.checked_sub(max_age) {
                let mut late = Vec::new();
                topic.holes.expire(since, &mut |first, last| join(&mut late, first, last));
                for (first, last) in late {
                    self.stats.late =
                        self.stats.late.saturating_add(last - first).saturating_add(1);
                    out.push(Due::Late { topic: id, first, last });
                }
            }
            self.holes = self.holes - before + topic.holes.len();
            self.stats.asked += ask(topic, now, rtt, id, out);
            let next =
                topic.holes.iter_mut().map(|hole| hole.ask.min(hole.since.saturating_add(max_age)));
            // At least 1 µs later, so that this loop ends.
            let next = next.min().map(|due| due.max(now.saturating_add(1)));
            topic.plan(&mut self.schedule, id, next.filter(|due| *due > now));
        }
    }

    /// Returns the lowest sequence of the topic that was neither received nor reported as a gap.
    pub fn next(&self, id: u64) -> Option<u64> {
        self.topics.get(&id).map(|topic| topic.holes.next())
    }

    /// Returns the ranges above [`next`](Self::next) that were received or reported as a gap, in
    /// order.
    pub fn had(&self, id: u64) -> Vec<(u64, u64)> {
        self.topics.get(&id).map_or_else(Vec::new, |topic| topic.holes.received())
    }

    /// Returns whether no known sequence of the topic is missing.
    pub fn is_complete(&self, id: u64) -> bool {
        self.topics.get(&id).is_none_or(|topic| topic.holes.len() == 0)
    }

    /// Returns the counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl Topic {
    // Moves the topic's entry in the schedule to `due`, or removes it.
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

// Returns when a hole that was found at `since` passes its deadline.
fn expires_at(deadline: u64, rtt: u64, since: u64) -> u64 {
    if deadline == 0 { u64::MAX } else { since.saturating_add(deadline.saturating_sub(rtt / 2)) }
}

// Requests the holes of a topic that are due. Returns the number of repairs.
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

// Appends a range. Merges it with the previous one if they are adjacent.
fn join(ranges: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    match ranges.last_mut() {
        Some(before) if before.1 + 1 == first => before.1 = last,
        _ => ranges.push((first, last)),
    }
}

#[cfg(any(test, fuzzing))]
impl Receiver {
    pub(super) fn holes(&self, id: u64) -> Vec<(u64, u64)> {
        self.topics[&id].holes.ranges()
    }

    /// Checks that the number of holes is right, and that the schedule covers every hole.
    pub(in crate::wire) fn audit(&self) {
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
