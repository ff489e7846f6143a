//! The sending end: repeats each datagram once after a delay, within a budget.

use super::{MILLISECOND, repeat_after};
use bytes::Bytes;
use std::collections::VecDeque;

// Maximum number of frames that wait to be repeated.
const PENDING: usize = 1024;

// Frames that are due within this time join a datagram of repeats, µs.
const SOON: u64 = MILLISECOND;

const SECOND: u128 = 1_000_000;

#[derive(Debug)]
struct Pending {
    due: u64,
    topic: u64,
    frame: Bytes,
}

/// Frames that were sent in datagrams and will be sent once more.
#[derive(Debug)]
pub struct Repeats {
    // In the order in which they were sent, also if the round-trip time has shrunk in between.
    pending: VecDeque<Pending>,
    carry: bool,
    // The frame that was repeated last.
    last: Option<Bytes>,
    budget: Budget,
    skipped: u64,
}

// A token bucket that fills in a quarter of a second.
#[derive(Debug)]
struct Budget {
    rate: u128,
    // Bytes times 1,000,000, so that each µs adds `rate`.
    tokens: u128,
    at: u64,
}

impl Budget {
    fn new(rate: u64) -> Self {
        let rate = u128::from(rate);
        Self { rate, tokens: rate * SECOND / 4, at: 0 }
    }

    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let full = self.rate * SECOND / 4;
        self.tokens = self.rate.saturating_mul(passed.into()).saturating_add(self.tokens).min(full);
    }

    fn take(&mut self, bytes: usize) -> bool {
        let cost = bytes as u128 * SECOND;
        let enough = cost <= self.tokens;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

impl Repeats {
    /// Creates a queue that repeats at most `bytes_per_second` on average.
    ///
    /// With `carry`, a datagram of repeats also contains the frame that was repeated before it, if
    /// it fits. A message is then sent three times, which outlasts a burst of losses.
    pub fn new(bytes_per_second: u64, carry: bool) -> Self {
        Self {
            pending: VecDeque::new(),
            carry,
            last: None,
            budget: Budget::new(bytes_per_second),
            skipped: 0,
        }
    }

    /// Queues a frame that was sent in a datagram.
    pub fn push(&mut self, now: u64, rtt: u64, topic: u64, frame: Bytes) {
        let Some(after) = repeat_after(rtt) else {
            return;
        };
        if self.pending.len() >= PENDING {
            self.skipped += 1;
            return;
        }
        let due = now.saturating_add(after);
        self.pending.push_back(Pending { due, topic, frame });
    }

    /// Drops the frames of a topic.
    pub fn forget(&mut self, topic: u64) {
        self.pending.retain(|pending| pending.topic != topic);
    }

    /// Returns when to call [`pop`](Self::pop).
    pub fn due(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.due)
    }

    /// Appends the frames for one datagram of at most `room` bytes: those that are due now or within
    /// a millisecond. Drops frames that exceed the budget, or that are longer than `room`.
    ///
    /// Returns whether it appended any. If not, no frame is due any more.
    pub fn pop(&mut self, now: u64, room: usize, out: &mut Vec<Bytes>) -> bool {
        self.budget.refill(now);
        let (mut left, mut newest) = (room, None);
        while let Some(pending) = self.pending.front() {
            let size = pending.frame.len();
            let by = if newest.is_some() { now.saturating_add(SOON) } else { now };
            if pending.due > by || (size > left && newest.is_some()) {
                break;
            }
            let affordable = size <= left && self.budget.take(size);
            let Some(Pending { frame, .. }) = self.pending.pop_front() else {
                break;
            };
            if affordable {
                left -= size;
                newest = Some(frame.clone());
                out.push(frame);
            } else {
                self.skipped += 1;
            }
        }
        let Some(newest) = newest else {
            return false;
        };
        if self.carry {
            let before = self.last.replace(newest);
            out.extend(
                before.filter(|before| before.len() <= left && self.budget.take(before.len())),
            );
        }
        true
    }

    /// Drops the frames that are due, because the path is congested.
    pub fn skip_due(&mut self, now: u64) {
        while self.due().is_some_and(|due| due <= now) {
            self.pending.pop_front();
            self.skipped += 1;
        }
    }

    /// Returns the number of frames that were not repeated, for lack of budget or room, or because
    /// of congestion.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

// Length of the time windows for the minimum round-trip time, 10 s.
const WINDOW: u64 = 10_000 * MILLISECOND;

/// Detects packets that queue up on the path: their round-trip time is much longer than the minimum
/// of the last 10 to 20 seconds.
#[derive(Debug, Default)]
pub struct Congestion {
    began: u64,
    // The minima of the window that began then, and of the previous one; none without a sample.
    least: Option<u64>,
    before: Option<u64>,
}

impl Congestion {
    /// Records a sample, and returns whether it shows congestion.
    pub fn sample(&mut self, now: u64, rtt: u64) -> bool {
        let passed = now.saturating_sub(self.began);
        if passed >= WINDOW {
            let least = self.least.take();
            self.before = if passed < 2 * WINDOW { least } else { None };
            self.began = now;
        }
        let least = self.least.map_or(rtt, |least| least.min(rtt));
        self.least = Some(least);
        let least = self.before.map_or(least, |before| before.min(least));
        rtt > least.saturating_add(least / 2).saturating_add(10 * MILLISECOND)
    }
}
