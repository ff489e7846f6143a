//! The newest sequence that was sent of each topic in a datagram, until nothing has followed for a
//! while: then the receiver is told of it, so that the loss of the last of a burst is noticed too.
//!
//! Most are not lost, and telling takes a packet, and its acknowledgement another. So a message that
//! stands alone waits for QUIC to acknowledge it first, and is then told much later: what QUIC has
//! acknowledged the receiver may still have dropped, for want of room.

use super::path::PathEstimate;
use crate::wire::realtime::{HEAD_AFTER, HEAD_AFTER_ACKNOWLEDGED, acknowledged_within};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Topics whose heads wait to be told. Beyond this they are told early.
const MOST: usize = 256;

/// Messages in a row, no two of them [`HEAD_AFTER`] apart, of which each still stands alone.
/// Browsers keep as few as 10 datagrams that the page has not come to read, and each may be
/// repeated.
const FEW: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Tell,
    // Unless it has arrived by then.
    Ask,
    // It has arrived.
    Later,
}

#[derive(Debug)]
struct Newest {
    sequence: u64,
    sent: u64,
    plan: Plan,
    due: u64,
}

/// The heads of one subscription. Times are µs.
#[derive(Debug, Default)]
pub(crate) struct HeadNotices {
    // By topic, the newest sequence sent in a datagram.
    newest: HashMap<u64, Newest, RandomState>,
    due: Option<u64>,
    // Messages in a row, and when the last of them was sent.
    row: u32,
    last: u64,
}

impl HeadNotices {
    /// When there is something to tell.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// A message was sent. `known` is whether the receiver has long been told of the topic: else
    /// it may drop the datagram, though it has arrived.
    pub(crate) fn sent(
        &mut self,
        now: u64,
        topic: u64,
        sequence: u64,
        known: bool,
        path: &PathEstimate,
    ) {
        self.row = if now < self.last + HEAD_AFTER { self.row.saturating_add(1) } else { 1 };
        self.last = now;
        let (plan, wait) = if known && self.row <= FEW && path.is_trusted(now) {
            // An acknowledgement may be delayed by 25 ms as well.
            (Plan::Ask, HEAD_AFTER.saturating_add(acknowledged_within(path.rtt)))
        } else {
            (Plan::Tell, HEAD_AFTER)
        };
        let due = now.saturating_add(wait);
        let newest = Newest { sequence, sent: now, plan, due };
        let before = self.newest.entry(topic).or_insert(Newest { ..newest });
        // A repair is of an older one.
        if sequence >= before.sequence {
            *before = newest;
        }
        let due = before.due;
        self.due = match self.newest.len() {
            // Later with each message, so that a steady stream of them never gets here.
            1 => Some(due),
            0..=MOST => Some(self.due.map_or(due, |first| first.min(due))),
            _ => Some(now),
        };
    }

    /// All of them, due or not.
    pub(crate) fn pop_all(&mut self, mut tell: impl FnMut(u64, u64)) {
        self.newest.drain().for_each(|(topic, newest)| tell(topic, newest.sequence));
        self.due = None;
    }

    /// Those to tell now. `path` is asked for once, if at all.
    pub(crate) fn pop(
        &mut self,
        now: u64,
        path: impl FnOnce() -> PathEstimate,
        mut tell: impl FnMut(u64, u64),
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let everybody = self.newest.len() > MOST;
        let due = |newest: &Newest| newest.due <= now;
        let asks = self.newest.values().any(|newest| newest.plan == Plan::Ask && due(newest));
        let path = (asks && self.row <= FEW).then(path);
        // Together, if one is told: they share a packet.
        let later = self.newest.values().any(|newest| newest.plan == Plan::Later && due(newest));
        self.newest.retain(|topic, newest| {
            let arrived = path.as_ref().is_some_and(|path| path.has_brought(newest.sent));
            let wait = match newest.plan {
                Plan::Ask if due(newest) && arrived => {
                    newest.plan = Plan::Later;
                    newest.due = newest.sent.saturating_add(HEAD_AFTER_ACKNOWLEDGED);
                    true
                }
                Plan::Later => !later,
                _ => !due(newest),
            };
            if !wait || everybody {
                tell(*topic, newest.sequence);
            }
            wait && !everybody
        });
        self.due = self.newest.values().map(|newest| newest.due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::delivery::realtime::path::DISTRUST;

    const RTT: u64 = 20_000;
    // When what was sent at 0 must have been acknowledged.
    const ASK: u64 = HEAD_AFTER + RTT + RTT / 2 + 10_000;

    fn path(acked_through: u64) -> PathEstimate {
        PathEstimate { rtt: RTT, shortest: RTT, acked_through: Some(acked_through), lost: None }
    }

    fn lossy() -> PathEstimate {
        PathEstimate { lost: Some(0), ..path(0) }
    }

    fn pop(heads: &mut HeadNotices, now: u64, path: PathEstimate) -> Vec<(u64, u64)> {
        let mut told = Vec::new();
        heads.pop(now, || path, |topic, sequence| told.push((topic, sequence)));
        told.sort_unstable();
        told
    }

    #[test]
    fn told_once_when_nothing_has_followed() {
        let mut heads = HeadNotices::default();
        assert_eq!(heads.due(), None);
        heads.sent(0, 7, 1, true, &lossy());
        heads.sent(10, 7, 2, true, &lossy());
        // Repaired.
        heads.sent(20, 7, 1, true, &lossy());
        assert_eq!(heads.due(), Some(10 + HEAD_AFTER));
        assert_eq!(pop(&mut heads, 9 + HEAD_AFTER, lossy()), []);
        assert_eq!(pop(&mut heads, 10 + HEAD_AFTER, lossy()), [(7, 2)]);
        assert_eq!((heads.due(), pop(&mut heads, u64::MAX, lossy())), (None, vec![]));
    }

    #[test]
    fn of_several_topics_each_in_its_time_and_early_when_there_are_many() {
        let mut heads = HeadNotices::default();
        heads.sent(0, 1, 1, true, &lossy());
        heads.sent(100, 2, 1, true, &lossy());
        heads.sent(200, 1, 2, true, &lossy());
        assert!(heads.due().is_some_and(|due| due <= 100 + HEAD_AFTER));
        assert_eq!(pop(&mut heads, 100 + HEAD_AFTER, lossy()), [(2, 1)]);
        assert_eq!(heads.due(), Some(200 + HEAD_AFTER));
        for topic in 2..=MOST as u64 + 1 {
            heads.sent(300, topic, 5, true, &lossy());
        }
        assert_eq!(heads.due(), Some(300));
        assert_eq!(pop(&mut heads, 300, lossy()).len(), MOST + 1);
        assert_eq!(heads.due(), None);
    }

    #[test]
    fn of_what_has_arrived_only_after_a_long_rest() {
        let mut heads = HeadNotices::default();
        for (n, sent) in (1..=100).zip((0..).step_by(100_000)) {
            heads.sent(sent, 7, n, true, &path(0));
            assert_eq!(heads.due(), Some(sent + ASK));
            assert_eq!(pop(&mut heads, sent + ASK, path(sent)), []);
            assert_eq!(heads.due(), Some(sent + HEAD_AFTER_ACKNOWLEDGED));
        }
        // Another goes along, of one that came later.
        heads.sent(9_950_000, 8, 1, true, &path(0));
        assert_eq!(pop(&mut heads, 9_950_000 + ASK, path(9_950_000)), []);
        assert_eq!(pop(&mut heads, 9_899_999 + HEAD_AFTER_ACKNOWLEDGED, path(0)), []);
        let told = pop(&mut heads, 9_900_000 + HEAD_AFTER_ACKNOWLEDGED, path(0));
        assert_eq!((told, heads.due()), (vec![(7, 100), (8, 1)], None));
    }

    #[test]
    fn of_what_may_have_been_lost_as_soon_as_that_is_known() {
        let sent = 1_000_000;
        let unknown = [
            PathEstimate::default(),
            path(sent - 1),
            // Among what was lost, or before it.
            PathEstimate { lost: Some(sent), ..path(sent + 1) },
        ];
        for path in unknown {
            let mut heads = HeadNotices::default();
            heads.sent(sent, 7, 1, true, &PathEstimate { rtt: RTT, ..PathEstimate::default() });
            assert_eq!(pop(&mut heads, sent + ASK - 1, path), []);
            assert_eq!(pop(&mut heads, sent + ASK, path), [(7, 1)]);
        }
        // A path that has lost something lately is not waited for.
        let lately = PathEstimate { lost: Some(sent - 1), ..path(0) };
        let mut heads = HeadNotices::default();
        heads.sent(sent, 7, 1, true, &lately);
        assert_eq!(pop(&mut heads, sent + HEAD_AFTER, path(sent)), [(7, 1)]);
        heads.sent(sent + DISTRUST, 7, 2, true, &lately);
        assert_eq!(pop(&mut heads, sent + DISTRUST + ASK, path(sent + DISTRUST)), []);
        // Nor is one waited for whose topic may not be known yet.
        let mut heads = HeadNotices::default();
        heads.sent(sent, 7, 1, false, &path(0));
        assert_eq!(pop(&mut heads, sent + HEAD_AFTER, path(sent)), [(7, 1)]);
    }

    #[test]
    fn of_a_burst_whatever_was_acknowledged() {
        let (mut heads, mut few) = (HeadNotices::default(), HeadNotices::default());
        for n in 1..=u64::from(FEW) {
            heads.sent(n, 7, n, true, &path(0));
            few.sent(n, n, 1, true, &path(0));
        }
        assert_eq!(pop(&mut few, 4 + ASK, path(10)), []);
        heads.sent(10, 8, 1, true, &path(0));
        assert_eq!(pop(&mut heads, 10 + HEAD_AFTER, path(10)), [(8, 1)]);
        assert_eq!(pop(&mut heads, 4 + ASK, path(10)), [(7, 4)]);
    }
}
