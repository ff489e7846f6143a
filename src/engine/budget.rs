//! One budget for the bytes that peers make the daemon hold beside the topics: what has come of
//! publications that are not complete, the state of sessions, cursors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The budget; clones are the same one. The topics give up their oldest for what is held here,
/// so that both together stay within [`Limits::cache`](super::Limits::cache).
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, held: AtomicUsize::new(0) }))
    }

    /// The most that may be held, bytes.
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// What is held, bytes.
    pub fn held(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Charges so many bytes until the charge is dropped; nothing when there is no room for them.
    pub fn take(&self, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.resize(bytes).then_some(charge)
    }
}

/// Bytes charged to a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Bytes charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges `bytes` in all from now on. Says whether there is room; if not, nothing changes.
    /// Less always fits.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let Inner { most, held } = &*self.budget.0;
        if bytes <= self.bytes {
            held.fetch_sub(self.bytes - bytes, Relaxed);
        } else {
            let more = bytes - self.bytes;
            let sum = |held: usize| held.checked_add(more).filter(|sum| sum <= most);
            if held.fetch_update(Relaxed, Relaxed, sum).is_err() {
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_there_is_and_all_of_it_comes_back() {
        let budget = Budget::new(100);
        let mut one = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        let two = budget.take(40).unwrap();
        assert!(!one.resize(61) && one.resize(20) && one.resize(60));
        assert!(!one.resize(usize::MAX));
        assert_eq!((budget.held(), one.bytes()), (100, 60));
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }
}
