//! The newest sequence that was sent of each topic in a datagram, until nothing has followed for a
//! while: then the receiver is told of it, so that the loss of the last of a burst is noticed too.

use crate::wire::realtime::HEAD_AFTER;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Topics whose heads wait to be told. Beyond this they are told early.
const MOST: usize = 256;

/// The heads of one subscription. Times are µs.
#[derive(Debug, Default)]
pub(super) struct Heads {
    // By topic, the newest sequence sent in a datagram and when.
    newest: HashMap<u64, (u64, u64), RandomState>,
    due: Option<u64>,
}

impl Heads {
    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, now: u64, topic: u64, sequence: u64) {
        let newest = self.newest.entry(topic).or_insert((sequence, now));
        // A repair is of an older one.
        if sequence >= newest.0 {
            *newest = (sequence, now);
        }
        self.due = match self.newest.len() {
            // Later with each message, so that a steady stream of them never gets here.
            1 => self.newest.values().map(|(_, sent)| sent + HEAD_AFTER).next(),
            0..=MOST => self.due.or(Some(now + HEAD_AFTER)),
            _ => Some(now),
        };
    }

    /// Those to tell now.
    pub(super) fn pop(&mut self, now: u64, mut tell: impl FnMut(u64, u64)) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let everybody = self.newest.len() > MOST;
        self.newest.retain(|topic, (sequence, sent)| {
            let wait = *sent + HEAD_AFTER > now && !everybody;
            if !wait {
                tell(*topic, *sequence);
            }
            wait
        });
        self.due = self.newest.values().map(|(_, sent)| sent + HEAD_AFTER).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(heads: &mut Heads, now: u64) -> Vec<(u64, u64)> {
        let mut told = Vec::new();
        heads.pop(now, |topic, sequence| told.push((topic, sequence)));
        told.sort_unstable();
        told
    }

    #[test]
    fn told_once_when_nothing_has_followed() {
        let mut heads = Heads::default();
        assert_eq!(heads.due(), None);
        heads.sent(0, 7, 1);
        heads.sent(10, 7, 2);
        // Repaired.
        heads.sent(20, 7, 1);
        assert_eq!(heads.due(), Some(10 + HEAD_AFTER));
        assert_eq!(pop(&mut heads, 9 + HEAD_AFTER), []);
        assert_eq!(pop(&mut heads, 10 + HEAD_AFTER), [(7, 2)]);
        assert_eq!((heads.due(), pop(&mut heads, u64::MAX)), (None, vec![]));
    }

    #[test]
    fn of_several_topics_each_in_its_time_and_early_when_there_are_many() {
        let mut heads = Heads::default();
        heads.sent(0, 1, 1);
        heads.sent(100, 2, 1);
        heads.sent(200, 1, 2);
        assert!(heads.due().is_some_and(|due| due <= 100 + HEAD_AFTER));
        assert_eq!(pop(&mut heads, 100 + HEAD_AFTER), [(2, 1)]);
        assert_eq!(heads.due(), Some(200 + HEAD_AFTER));
        for topic in 2..=MOST as u64 + 1 {
            heads.sent(300, topic, 5);
        }
        assert_eq!(heads.due(), Some(300));
        assert_eq!(pop(&mut heads, 300).len(), MOST + 1);
        assert_eq!(heads.due(), None);
    }
}
