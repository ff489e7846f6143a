//! The newest sequence of each topic that was sent in a datagram. When nothing has followed for a
//! while, the delivery sends it in a `Head`, so that the receiver detects a lost last message.
//!
//! Most messages are not lost, and a `Head` costs a packet and its acknowledgement. The `Head` of a
//! message outside a burst therefore waits for QUIC's acknowledgement. If that comes, the `Head` is
//! sent much later: the receiver may have dropped a datagram that QUIC has acknowledged.

use super::path::PathEstimate;
use crate::wire::realtime::{HEAD_AFTER, HEAD_AFTER_ACKNOWLEDGED, acknowledged_within};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Maximum number of topics whose heads wait. Beyond it all heads are sent early.
const MAX_TOPICS: usize = 256;

/// Maximum length of a run that is not a burst. In a run, each message is sent within
/// [`HEAD_AFTER`] of the one before. Browsers keep as few as 10 datagrams that the page has not
/// read, and each message may be repeated.
const MAX_RUN: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Send when due.
    Send,
    /// When due, send unless the message has been acknowledged.
    SendUnlessAcked,
    /// The message was acknowledged. Send late.
    SendLate,
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
    // Messages in the current run, and when the last of them was sent.
    run: u32,
    last: u64,
}

impl HeadNotices {
    /// When the next head is due.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Adds a message that was sent. `announced` is whether the receiver already knows the topic.
    /// If it does not, it may drop the datagram although it arrived.
    pub(crate) fn sent(
        &mut self,
        now: u64,
        topic: u64,
        sequence: u64,
        announced: bool,
        path: &PathEstimate,
    ) {
        self.run = if now < self.last + HEAD_AFTER { self.run.saturating_add(1) } else { 1 };
        self.last = now;
        let (plan, wait) = if announced && self.run <= MAX_RUN && path.is_trusted(now) {
            // The peer may delay its acknowledgement by another 25 ms.
            (Plan::SendUnlessAcked, HEAD_AFTER.saturating_add(acknowledged_within(path.rtt)))
        } else {
            (Plan::Send, HEAD_AFTER)
        };
        let due = now.saturating_add(wait);
        let newest = Newest { sequence, sent: now, plan, due };
        let before = self.newest.entry(topic).or_insert(Newest { ..newest });
        // A repair sends an older message.
        if sequence >= before.sequence {
            *before = newest;
        }
        let due = before.due;
        self.due = match self.newest.len() {
            // Each message postpones it, so that a steady stream of messages sends no heads.
            1 => Some(due),
            0..=MAX_TOPICS => Some(self.due.map_or(due, |first| first.min(due))),
            _ => Some(now),
        };
    }

    /// Takes all heads, due or not.
    pub(crate) fn take_all(&mut self, mut send: impl FnMut(u64, u64)) {
        self.newest.drain().for_each(|(topic, newest)| send(topic, newest.sequence));
        self.due = None;
    }

    /// Takes the heads that are due. `path` is called at most once.
    pub(crate) fn take_due(
        &mut self,
        now: u64,
        path: impl FnOnce() -> PathEstimate,
        mut send: impl FnMut(u64, u64),
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let all = self.newest.len() > MAX_TOPICS;
        let due = |newest: &Newest| newest.due <= now;
        let asks =
            self.newest.values().any(|newest| newest.plan == Plan::SendUnlessAcked && due(newest));
        let path = (asks && self.run <= MAX_RUN).then(path);
        // When one late head is due, all late heads go, because they share a packet.
        let late = self.newest.values().any(|newest| newest.plan == Plan::SendLate && due(newest));
        self.newest.retain(|topic, newest| {
            let arrived = path.as_ref().is_some_and(|path| path.has_delivered(newest.sent));
            let wait = match newest.plan {
                Plan::SendUnlessAcked if due(newest) && arrived => {
                    newest.plan = Plan::SendLate;
                    newest.due = newest.sent.saturating_add(HEAD_AFTER_ACKNOWLEDGED);
                    true
                }
                Plan::SendLate => !late,
                _ => !due(newest),
            };
            if !wait || all {
                send(*topic, newest.sequence);
            }
            wait && !all
        });
        self.due = self.newest.values().map(|newest| newest.due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::delivery::realtime::path::DISTRUST;

    const RTT: u64 = 20_000;
    // The time by which a message sent at 0 must have been acknowledged.
    const ASK: u64 = HEAD_AFTER + RTT + RTT / 2 + 10_000;

    fn path(acked_through: u64) -> PathEstimate {
        PathEstimate { rtt: RTT, min_rtt: RTT, acked_through: Some(acked_through), last_loss: None }
    }

    fn lossy() -> PathEstimate {
        PathEstimate { last_loss: Some(0), ..path(0) }
    }

    fn due(heads: &mut HeadNotices, now: u64, path: PathEstimate) -> Vec<(u64, u64)> {
        let mut sent = Vec::new();
        heads.take_due(now, || path, |topic, sequence| sent.push((topic, sequence)));
        sent.sort_unstable();
        sent
    }

    #[test]
    fn told_once_when_nothing_has_followed() {
        let mut heads = HeadNotices::default();
        assert_eq!(heads.due(), None);
        heads.sent(0, 7, 1, true, &lossy());
        heads.sent(10, 7, 2, true, &lossy());
        // A repair.
        heads.sent(20, 7, 1, true, &lossy());
        assert_eq!(heads.due(), Some(10 + HEAD_AFTER));
        assert_eq!(due(&mut heads, 9 + HEAD_AFTER, lossy()), []);
        assert_eq!(due(&mut heads, 10 + HEAD_AFTER, lossy()), [(7, 2)]);
        assert_eq!((heads.due(), due(&mut heads, u64::MAX, lossy())), (None, vec![]));
    }

    #[test]
    fn of_several_topics_each_in_its_time_and_early_when_there_are_many() {
        let mut heads = HeadNotices::default();
        heads.sent(0, 1, 1, true, &lossy());
        heads.sent(100, 2, 1, true, &lossy());
        heads.sent(200, 1, 2, true, &lossy());
        assert!(heads.due().is_some_and(|due| due <= 100 + HEAD_AFTER));
        assert_eq!(due(&mut heads, 100 + HEAD_AFTER, lossy()), [(2, 1)]);
        assert_eq!(heads.due(), Some(200 + HEAD_AFTER));
        for topic in 2..=MAX_TOPICS as u64 + 1 {
            heads.sent(300, topic, 5, true, &lossy());
        }
        assert_eq!(heads.due(), Some(300));
        assert_eq!(due(&mut heads, 300, lossy()).len(), MAX_TOPICS + 1);
        assert_eq!(heads.due(), None);
    }

    #[test]
    fn of_what_has_arrived_only_after_a_long_rest() {
        let mut heads = HeadNotices::default();
        for (n, sent) in (1..=100).zip((0..).step_by(100_000)) {
            heads.sent(sent, 7, n, true, &path(0));
            assert_eq!(heads.due(), Some(sent + ASK));
            assert_eq!(due(&mut heads, sent + ASK, path(sent)), []);
            assert_eq!(heads.due(), Some(sent + HEAD_AFTER_ACKNOWLEDGED));
        }
        // The head of a later message goes with it.
        heads.sent(9_950_000, 8, 1, true, &path(0));
        assert_eq!(due(&mut heads, 9_950_000 + ASK, path(9_950_000)), []);
        assert_eq!(due(&mut heads, 9_899_999 + HEAD_AFTER_ACKNOWLEDGED, path(0)), []);
        let sent = due(&mut heads, 9_900_000 + HEAD_AFTER_ACKNOWLEDGED, path(0));
        assert_eq!((sent, heads.due()), (vec![(7, 100), (8, 1)], None));
    }

    #[test]
    fn of_what_may_have_been_lost_as_soon_as_that_is_known() {
        let sent = 1_000_000;
        let unknown = [
            PathEstimate::default(),
            path(sent - 1),
            // Sent at the time of a loss, or before it.
            PathEstimate { last_loss: Some(sent), ..path(sent + 1) },
        ];
        for path in unknown {
            let mut heads = HeadNotices::default();
            heads.sent(sent, 7, 1, true, &PathEstimate { rtt: RTT, ..PathEstimate::default() });
            assert_eq!(due(&mut heads, sent + ASK - 1, path), []);
            assert_eq!(due(&mut heads, sent + ASK, path), [(7, 1)]);
        }
        // After a recent loss the acknowledgement is not awaited.
        let lately = PathEstimate { last_loss: Some(sent - 1), ..path(0) };
        let mut heads = HeadNotices::default();
        heads.sent(sent, 7, 1, true, &lately);
        assert_eq!(due(&mut heads, sent + HEAD_AFTER, path(sent)), [(7, 1)]);
        heads.sent(sent + DISTRUST, 7, 2, true, &lately);
        assert_eq!(due(&mut heads, sent + DISTRUST + ASK, path(sent + DISTRUST)), []);
        // Nor if the topic may not be known yet.
        let mut heads = HeadNotices::default();
        heads.sent(sent, 7, 1, false, &path(0));
        assert_eq!(due(&mut heads, sent + HEAD_AFTER, path(sent)), [(7, 1)]);
    }

    #[test]
    fn of_a_burst_whatever_was_acknowledged() {
        let (mut heads, mut few) = (HeadNotices::default(), HeadNotices::default());
        for n in 1..=u64::from(MAX_RUN) {
            heads.sent(n, 7, n, true, &path(0));
            few.sent(n, n, 1, true, &path(0));
        }
        assert_eq!(due(&mut few, 4 + ASK, path(10)), []);
        heads.sent(10, 8, 1, true, &path(0));
        assert_eq!(due(&mut heads, 10 + HEAD_AFTER, path(10)), [(8, 1)]);
        assert_eq!(due(&mut heads, 4 + ASK, path(10)), [(7, 4)]);
    }
}
