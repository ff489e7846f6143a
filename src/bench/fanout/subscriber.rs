//! Subscribers. Each compares every delivery with what was sent.

use super::server::{Received, Receiver};
use crate::bench::traffic::{Account, PROBE, recognise, run_of};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The state that publishers and subscribers of a lane share.
pub(super) struct Flow {
    /// The run number of the first publisher; those of the others follow it.
    pub(super) run: u64,
    pub(super) publishers: u64,
    pub(super) size: usize,
    /// Maximum number of messages of all publishers together.
    pub(super) most: u64,
    // Latency is kept of one message in this many. Messages are numbered in the order in which they
    // are sent, over all publishers.
    every: u64,
    pub(super) origin: Instant,
    /// Messages before this time are not measured, ns.
    pub(super) warm_up: u64,
    // The time at which each message was sent, ns after the origin. A ring, longer than the number
    // of messages in flight.
    stamps: Box<[AtomicU64]>,
    /// Indexed by subscriber.
    pub(super) progress: Box<[Progress]>,
}

/// The progress of a subscriber, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Progress {
    pub(super) probes: AtomicU64,
    /// Messages that arrived or were reported as a gap.
    pub(super) done: AtomicU64,
}

/// Approximate maximum number of latencies that are kept.
const LATENCIES: u64 = 4_000_000;

/// With `--rate max`, latency is kept of one message in this many.
const EVERY: u64 = 17;

/// Number of stamps with `--rate max`: far more than messages are in flight.
const STAMPS: u64 = 1 << 20;

impl Flow {
    /// Creates the state for this many messages; `None` is `--rate max`.
    pub(super) fn new(
        run: u64,
        (publishers, subscribers): (u64, u64),
        size: usize,
        messages: Option<u64>,
        warm_up: u64,
    ) -> Self {
        Self {
            run,
            publishers,
            size,
            most: messages.unwrap_or(u64::MAX >> 8),
            // Odd, so that the messages of each of an even number of publishers are measured.
            every: messages.map_or(EVERY, |messages| (messages * subscribers / LATENCIES) | 1),
            origin: Instant::now(),
            warm_up,
            stamps: (0..messages.unwrap_or(STAMPS)).map(|_| AtomicU64::new(0)).collect(),
            progress: (0..subscribers).map(|_| Progress::default()).collect(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    pub(super) fn stamp(&self, message: u64) -> &AtomicU64 {
        &self.stamps[(message % self.stamps.len() as u64) as usize]
    }

    /// Whether all subscribers have this count.
    pub(super) fn all(&self, of: fn(&Progress) -> &AtomicU64, count: u64) -> bool {
        self.progress.iter().all(|progress| of(progress).load(Ordering::Acquire) >= count)
    }

    /// The number of messages that the slowest subscriber has received.
    pub(super) fn slowest(&self) -> u64 {
        let done = self.progress.iter().map(|progress| progress.done.load(Ordering::Acquire));
        done.min().unwrap_or(0)
    }

    // Returns the publisher and the index of a message.
    fn recognise(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let publisher = run_of(bytes)?.wrapping_sub(self.run);
        if publisher >= self.publishers {
            return None;
        }
        Some((publisher, recognise(self.run.wrapping_add(publisher), self.size, bytes)?))
    }
}

/// The deliveries to one subscriber.
pub(super) struct Tally {
    pub(super) account: Account,
    /// ns.
    pub(super) latencies: Vec<u64>,
    /// The time at which the last message arrived, ns after the origin.
    pub(super) last: u64,
}

impl Tally {
    pub(super) fn new(flow: &Flow) -> Self {
        Self { account: Account::new(flow.most), latencies: Vec::new(), last: 0 }
    }

    fn payload(&mut self, bytes: &[u8], flow: &Flow, progress: &Progress) {
        let now = flow.now();
        let message = match flow.recognise(bytes) {
            Some((_, PROBE)) => {
                progress.probes.fetch_add(1, Ordering::Release);
                return;
            }
            Some((publisher, index)) => {
                index.checked_mul(flow.publishers).and_then(|first| first.checked_add(publisher))
            }
            None => None,
        };
        let Some(message) = self.account.message(message) else { return };
        self.last = now;
        let sent = flow.stamp(message).load(Ordering::Acquire);
        if sent >= flow.warm_up && message % flow.every == 0 {
            self.latencies.push(now.saturating_sub(sent));
        }
    }
}

/// Takes what comes until the session ends; to be dropped when everything has come.
pub(super) async fn follow(
    receiver: &mut Receiver,
    flow: &Flow,
    place: usize,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let progress = &flow.progress[place];
    loop {
        match receiver.next().await? {
            Received::Payload(bytes) => tally.payload(&bytes, flow, progress),
            Received::Gap(messages) => tally.account.gaps += messages,
        }
        progress.done.store(tally.account.delivered + tally.account.gaps, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::traffic::payload;

    #[test]
    fn every_publisher_has_messages_of_its_own() {
        let flow = Flow::new(u64::MAX, (2, 1), 40, Some(6), 0);
        let mut tally = Tally::new(&flow);
        let mut take = |bytes: &[u8]| tally.payload(bytes, &flow, &flow.progress[0]);
        for publisher in 0..2 {
            let run = u64::MAX.wrapping_add(publisher);
            take(&payload(run, PROBE, 40));
            for index in 0..3 {
                take(&payload(run, index, 40));
            }
        }
        take(&payload(0, 1, 40));
        take(&payload(1, 0, 40));
        take(&payload(0, 3, 40));
        take(&payload(0, 2, 41));
        let Account { delivered, duplicates, corrupted, .. } = tally.account;
        assert_eq!((delivered, duplicates, corrupted), (6, 1, 3));
        assert_eq!(tally.latencies.len(), 6);
        assert!(flow.all(|progress| &progress.probes, 2));
        assert!(!flow.all(|progress| &progress.probes, 3));
    }
}
