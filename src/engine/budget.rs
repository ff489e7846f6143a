//! The budget for bytes that peers make the daemon hold beside the topics: parts of small
//! publications, the state of sessions, cursors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The budget. Clones share one. Topics evict their oldest messages for the bytes that are held, so
/// that both together stay within [`Limits::cache`](super::Limits::cache).
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: AtomicUsize,
    held: AtomicUsize,
}

impl Budget {
    /// Creates a budget of `most` bytes.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most: most.into(), held: AtomicUsize::new(0) }))
    }

    /// Returns the maximum number of bytes that may be held.
    pub fn most(&self) -> usize {
        self.0.most.load(Relaxed)
    }

    /// Changes the maximum. If more is held, nothing is charged until it is less.
    pub fn set_most(&self, most: usize) {
        self.0.most.store(most, Relaxed);
    }

    /// Returns the number of bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Charges so many bytes until the charge is dropped. Returns `None` if they do not fit.
    pub fn take(&self, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.resize(bytes).then_some(charge)
    }

    /// Charges `bytes` in all, in place of those before. Returns whether there is room; if not,
    /// nothing changes.
    pub(crate) fn charge(&self, charge: &mut Option<Charge>, bytes: usize) -> bool {
        match charge {
            Some(charge) => charge.resize(bytes),
            None => {
                *charge = self.take(bytes);
                charge.is_some()
            }
        }
    }
}

/// Bytes charged to a [`Budget`], until this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Returns the number of bytes charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges `bytes` in all from now on. Returns whether there is room; if not, nothing changes. A
    /// smaller number always fits.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let Inner { most, held } = &*self.budget.0;
        if bytes <= self.bytes {
            held.fetch_sub(self.bytes - bytes, Relaxed);
        } else {
            let more = bytes - self.bytes;
            let most = most.load(Relaxed);
            let sum = |held: usize| held.checked_add(more).filter(|sum| *sum <= most);
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
    fn the_budget_is_never_exceeded_and_all_of_it_is_returned() {
        let budget = Budget::new(100);
        let mut one = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        let two = budget.take(40).unwrap();
        assert!(!one.resize(61) && one.resize(20) && one.resize(60));
        assert!(!one.resize(usize::MAX));
        assert_eq!((budget.held(), one.bytes()), (100, 60));
        budget.set_most(50);
        assert!(budget.take(1).is_none() && !one.resize(61) && one.resize(5) && one.resize(10));
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }
}
