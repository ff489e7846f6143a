//! Between the engine and the disk: the records that are not kept yet, and who waits for them.

use crate::engine::{Change, Engine, Record};
use crate::histogram::Histogram;
use crate::wire::{Code, Refusal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Bytes of records from which publishers wait, 8 MiB: what a disk takes in a tenth of a second.
const FULL: usize = 8 << 20;

/// Bytes from which publications are refused, 32 MiB. Publishers that did not wait may still hand
/// over what they had read.
const REFUSED: usize = 32 << 20;

/// Time for which the writer waits after the first record, 200 µs. It takes those that come meanwhile
/// together, and does not take a core from the tasks that relay them. Without this wait, the p99 of
/// relaying is 1.2 times as long.
const GATHER: Duration = Duration::from_micros(200);

/// Bytes of a record beside its payload.
const RECORD: usize = 256;

#[derive(Debug, Default)]
struct Queue {
    records: Vec<Record>,
    bytes: usize,
    // The number of the last record that was taken out.
    taken: u64,
    // No record follows.
    ended: bool,
}

/// Why publications are refused. Each reason ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The log cannot be written.
    Writing,
    /// The disk has not synced what was written, and no snapshot has taken its place yet.
    Syncing,
    /// The log is too long, and cannot be shortened.
    Full,
}

/// The records between the engine and the journal's writer.
#[derive(Debug)]
pub(crate) struct JournalQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
    // The number of the last record in the queue, and of the last one that was kept.
    pushed: AtomicU64,
    kept: watch::Sender<u64>,
    // The position of the last message that was kept.
    kept_position: AtomicU64,
    emptied: Notify,
    bytes: AtomicU64,
    // From the acceptance of the oldest message of a batch until it is kept.
    delay: Histogram,
    // Bytes of the log and of the snapshot on the disk.
    disk: [AtomicU64; 2],
    // The log has to be shortened before much more is written.
    long: AtomicBool,
    // By cause, why publications are refused.
    refusals: Mutex<[Option<Refusal>; 3]>,
    refuses: AtomicBool,
    // Publications are accepted and not kept.
    unkept: watch::Sender<bool>,
}

impl JournalQueue {
    /// Creates a queue for the records after `last`. The last message that was kept has a position.
    pub(crate) fn new(last: u64, position: u64) -> Self {
        Self {
            queue: Mutex::new(Queue { taken: last, ..Queue::default() }),
            filled: Condvar::new(),
            pushed: AtomicU64::new(last),
            kept: watch::Sender::new(last),
            kept_position: AtomicU64::new(position),
            emptied: Notify::new(),
            bytes: AtomicU64::new(0),
            delay: Histogram::default(),
            disk: Default::default(),
            long: AtomicBool::new(false),
            refusals: Mutex::default(),
            refuses: AtomicBool::new(false),
            unkept: watch::Sender::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the engine's records over. It is called under the engine's lock, so that they stay in
    /// order; [notify](Self::notify) the writer after the lock is released.
    pub(crate) fn push(&self, engine: &mut Engine) {
        let mut queue = self.queue();
        let before = queue.records.len();
        engine.take_records(&mut queue.records);
        let bytes: usize = queue.records[before..].iter().map(cost).sum();
        queue.bytes += bytes;
        self.bytes.store(queue.bytes as u64, Ordering::Relaxed);
        self.pushed.store(engine.recorded(), Ordering::Release);
    }

    /// Wakes the writer.
    pub(crate) fn notify(&self) {
        self.filled.notify_one();
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > REFUSED as u64
    }

    /// Returns whether publications are to be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.is_full() || self.refuses.load(Ordering::Acquire)
    }

    /// Returns the reason for which publications are to be refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.failing().or_else(|| self.is_full().then(too_slow))
    }

    fn failing(&self) -> Option<Refusal> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().flatten().next().cloned()
    }

    /// Returns whether publications need not wait for room.
    pub(crate) fn has_room(&self) -> bool {
        // While the journal fails, publications are refused, and need no room.
        self.refuses.load(Ordering::Acquire)
            || self.bytes.load(Ordering::Relaxed) < FULL as u64
                && !self.long.load(Ordering::Acquire)
    }

    /// Lets publishers wait while the log is long.
    pub(super) fn set_long(&self, long: bool) {
        self.long.store(long, Ordering::Release);
        self.emptied.notify_waiters();
    }

    /// Waits until [`has_room`](Self::has_room).
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.has_room() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns the number of the last record.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Returns the number of the last record that was kept.
    pub(crate) fn kept(&self) -> u64 {
        *self.kept.borrow()
    }

    /// Returns the position of the last message that was kept.
    pub(crate) fn kept_position(&self) -> u64 {
        self.kept_position.load(Ordering::Acquire)
    }

    /// Waits until a record is kept.
    pub(crate) async fn kept_through(&self, number: u64) {
        let mut kept = self.kept.subscribe();
        // The sender is in `self`, so that this never fails.
        let _ = kept.wait_for(|kept| *kept >= number).await;
    }

    /// Waits for records, and swaps them with `records`, which has to be empty. Returns the number of
    /// the first one; none if no more follow.
    pub(super) fn take(&self, records: &mut Vec<Record>) -> Option<u64> {
        let mut queue = self.queue();
        while queue.records.is_empty() {
            if queue.ended {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            if !queue.ended {
                // Without the lock. The condition is looked at again.
                drop(queue);
                std::thread::sleep(GATHER);
                queue = self.queue();
            }
        }
        std::mem::swap(&mut queue.records, records);
        let first = queue.taken + 1;
        queue.taken += records.len() as u64;
        Some(first)
    }

    /// Notes that all records up to one are kept, or are given up. `records` are those that were
    /// taken.
    pub(super) fn done(&self, last: u64, records: &[Record]) {
        let bytes: usize = records.iter().map(cost).sum();
        let mut queue = self.queue();
        queue.bytes -= bytes;
        self.bytes.store(queue.bytes as u64, Ordering::Relaxed);
        drop(queue);
        let position = records.iter().rev().find_map(|record| match &record.change {
            Change::Published { place, .. } | Change::Begun { place, .. } => Some(place.position),
            _ => None,
        });
        if let Some(position) = position {
            self.kept_position.store(position, Ordering::Release);
        }
        self.kept.send_replace(last);
        self.emptied.notify_waiters();
    }

    /// Notes that a batch was kept, at a time in µs since 1970, for metrics.
    pub(super) fn observe(&self, now: u64, records: &[Record]) {
        let accepted = records.iter().find_map(|record| match &record.change {
            Change::Published { place, .. } => Some(place.accepted),
            _ => None,
        });
        if let Some(accepted) = accepted {
            self.delay.observe(now.saturating_sub(accepted));
        }
    }

    /// Notes the bytes of the log and of the snapshot.
    pub(super) fn set_disk(&self, log: u64, snapshot: u64) {
        self.disk[0].store(log, Ordering::Relaxed);
        self.disk[1].store(snapshot, Ordering::Relaxed);
    }

    /// Returns the bytes of the log and of the snapshot.
    pub(crate) fn disk(&self) -> [u64; 2] {
        self.disk.each_ref().map(|bytes| bytes.load(Ordering::Relaxed))
    }

    /// Returns the bytes of records that are not kept yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how long it took until messages were kept: for each batch, its oldest message.
    pub(crate) fn delay(&self) -> &Histogram {
        &self.delay
    }

    /// Returns whether publications are accepted and not kept.
    pub(crate) fn is_unkept(&self) -> bool {
        *self.unkept.borrow()
    }

    /// Begins or ends to refuse publications for a cause. Returns whether that was the last cause, so
    /// that they are accepted again.
    pub(super) fn refuse(&self, cause: Cause, refusal: Option<Refusal>) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals[cause as usize] = refusal;
        let refuses = refusals.iter().any(Option::is_some);
        // Under the lock, so that the causes of two threads do not overtake each other.
        let before = self.refuses.swap(refuses, Ordering::AcqRel);
        drop(refusals);
        self.emptied.notify_waiters();
        before && !refuses
    }

    /// Notes whether publications are accepted that are not kept.
    pub(crate) fn set_unkept(&self, unkept: bool) {
        self.unkept.send_if_modified(|before| std::mem::replace(before, unkept) != unkept);
    }

    /// Watches whether publications are accepted that are not kept.
    pub(crate) fn unkept(&self) -> watch::Receiver<bool> {
        self.unkept.subscribe()
    }

    /// No record follows: the writer ends when it has written those that there are.
    pub(super) fn end(&self) {
        self.queue().ended = true;
        self.filled.notify_one();
    }

    /// Waits before another attempt. Returns whether no more records follow.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let queue = self.queue();
        if queue.ended {
            return true;
        }
        let waited = self.filled.wait_timeout_while(queue, time, |queue| !queue.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

fn cost(record: &Record) -> usize {
    RECORD
        + match &record.change {
            Change::Published { payload, .. } => payload.len(),
            Change::Chunk { bytes, .. } => bytes.len(),
            _ => 0,
        }
}

fn too_slow() -> Refusal {
    unavailable("the disk of the journal is too slow for what is published")
}

/// The refusal of publications that cannot be kept.
pub(super) fn unavailable(why: &str) -> Refusal {
    Refusal::new(Code::UNAVAILABLE, format!("{why}: publish it again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The log is too long, because snapshots fail; then writing fails once.
    #[test]
    fn a_cause_that_ends_does_not_end_another_one() {
        let queue = JournalQueue::new(0, 0);
        queue.refuse(Cause::Full, Some(unavailable("full")));
        queue.refuse(Cause::Writing, Some(unavailable("failed")));
        assert!(!queue.refuse(Cause::Writing, None));
        assert!(queue.refuses() && queue.refusal().is_some_and(|why| why.reason.contains("full")));
        assert!(queue.refuse(Cause::Full, None));
        assert!(!queue.refuses() && queue.refusal().is_none());
    }
}
