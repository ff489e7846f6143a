//! The receiving end of one subscription: each message once, and what did not come asked for.

use super::{ASKED_BY_DATAGRAM, HOLES, ask_again, ask_again_reliably, grace};
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};

// Holes of a topic, and of all topics together. One more at the end of a topic always fits.
const TOPIC_HOLES: usize = 256;
const ALL_HOLES: usize = 4096;

// A hole is asked for so many times in datagrams before it is asked for on the control stream.
const TRIES: u32 = 2;

/// What to do with a message.
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

/// What to do about holes.
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

/// What has happened so far.
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

#[derive(Debug, Clone, Copy)]
struct Hole {
    first: u64,
    last: u64,
    since: u64,
    ask: u64,
    asked: u32,
}

// Every sequence below `end` that is in no hole was had or is final. So what is not had, and not
// the other way round, costs memory.
#[derive(Debug)]
struct Topic {
    end: u64,
    // When the last message before `end` came.
    arrived: u64,
    // In order, none empty, all below `end`.
    holes: Vec<Hole>,
    // Its entry in the schedule; no later than its first hole is due.
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
    schedule: BTreeSet<(u64, u64)>,
    // Of all topics.
    holes: usize,
    stats: Stats,
}

impl Topic {
    fn next(&self) -> u64 {
        self.holes.first().map_or(self.end, |hole| hole.first)
    }

    // The first hole that ends at the sequence or above.
    fn find(&self, sequence: u64) -> usize {
        self.holes.partition_point(|hole| hole.last < sequence)
    }
}

impl Receiver {
    /// Without `repair` holes are not asked for, as on transports that lose nothing. `deadline`
    /// is how long a hole may take, µs; 0 is for ever.
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
        let topic = Topic { end: next, arrived: now, holes: Vec::new(), due: None };
        self.topics.insert(id, topic);
        for (first, last) in had {
            self.gap(now, rtt, id, first, last);
        }
        // All of these are still to come: as if asked for with the subscription.
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.holes.iter_mut().for_each(|hole| hole.ask = now.saturating_add(ask_again(rtt)));
        }
    }

    /// The topic has come to an end.
    pub fn forget(&mut self, id: u64) {
        if let Some(topic) = self.topics.remove(&id) {
            self.holes -= topic.holes.len();
            self.schedule.remove(&(topic.due.unwrap_or(0), id));
        }
    }

    /// Whether the topic was announced.
    pub fn knows(&self, id: u64) -> bool {
        self.topics.contains_key(&id)
    }

    /// A message has come, whatever way.
    pub fn message(&mut self, now: u64, rtt: u64, id: u64, sequence: u64) -> Arrival {
        let Some(topic) = self.topics.get_mut(&id) else {
            return Arrival::Unknown;
        };
        if sequence == topic.end && sequence < u64::MAX {
            topic.end += 1;
            topic.arrived = now;
            return Arrival::New;
        }
        let _ = rtt;
        Arrival::Duplicate
    }

    /// These will not come. Gives those of them that have not come, in order: they are final now.
    pub fn gap(&mut self, now: u64, rtt: u64, id: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let _ = (now, rtt, id, first, last);
        Vec::new()
    }

    /// The topic has messages up to this one.
    pub fn head(&mut self, now: u64, rtt: u64, id: u64, sequence: u64) {
        let _ = (now, rtt, id, sequence);
    }

    /// When to [`poll`](Self::poll).
    pub fn due(&self) -> Option<u64> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Appends what is to be done by now.
    pub fn poll(&mut self, now: u64, rtt: u64, out: &mut Vec<Due>) {
        let _ =
            (now, rtt, out, grace(rtt), ask_again_reliably(rtt), HOLES, ASKED_BY_DATAGRAM, TRIES);
        let _ = (self.repair, self.deadline, ALL_HOLES, TOPIC_HOLES);
    }

    /// The lowest sequence of the topic that was neither had nor told as a gap.
    pub fn next(&self, id: u64) -> Option<u64> {
        self.topics.get(&id).map(Topic::next)
    }

    /// Ranges above [`next`](Self::next) that were had or told as a gap, in order.
    pub fn had(&self, id: u64) -> Vec<(u64, u64)> {
        let _ = self.topics.get(&id).map(|topic| topic.find(0));
        Vec::new()
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
