//! The positions up to which subscriptions that are behind have received everything. A topic
//! [remembers](super::topic) which messages it evicts after one of these.

use std::collections::BTreeMap;

/// The positions of one subscription in the table.
#[derive(Debug)]
pub(crate) struct Registered([u64; 4]);

/// Stands for no position.
const NONE: u64 = u64::MAX;

impl Default for Registered {
    fn default() -> Self {
        Self([NONE; 4])
    }
}

/// Positions, each with the number of subscriptions that have registered it.
#[derive(Debug, Default)]
pub(super) struct ReaderPositions {
    all: BTreeMap<u64, u32>,
    // One more position and its number: mostly, of all subscriptions that one publication woke.
    last: u64,
    at_last: u32,
}

impl ReaderPositions {
    /// Registers four positions of a subscription, in place of those before.
    pub(super) fn register(&mut self, registered: &mut Registered, at: [u64; 4]) {
        if registered.0.iter().eq(&at) {
            return;
        }
        self.forget(registered);
        each(at, |position| self.enter(position));
        registered.0 = at;
    }

    /// Registers one position of a subscription that has none.
    pub(super) fn register_one(&mut self, registered: &mut Registered, position: u64) {
        debug_assert_eq!(registered.0, [NONE; 4], "it has registered already");
        registered.0 = [position; 4];
        self.enter(position);
    }

    /// Removes the positions of a subscription that is at the head, or has ended.
    pub(super) fn forget(&mut self, registered: &mut Registered) {
        if registered.0[0] != NONE {
            each(std::mem::take(registered).0, |position| self.leave(position));
        }
    }

    fn enter(&mut self, position: u64) {
        if self.at_last == 0 {
            self.last = position;
        } else if self.last < position {
            *self.all.entry(self.last).or_default() += std::mem::take(&mut self.at_last);
            self.last = position;
        }
        if self.last == position {
            self.at_last += 1;
        } else {
            *self.all.entry(position).or_default() += 1;
        }
    }

    fn leave(&mut self, position: u64) {
        if self.at_last > 0 && self.last == position {
            self.at_last -= 1;
        } else if let Some(count) = self.all.get_mut(&position) {
            *count -= 1;
            if *count == 0 {
                self.all.remove(&position);
            }
        }
    }

    /// Returns whether a subscription has a position in `from..to`.
    pub(super) fn any(&self, from: u64, to: u64) -> bool {
        let last = self.at_last > 0 && (from..to).contains(&self.last);
        last || self.all.range(from..to.max(from)).next().is_some()
    }

    /// Returns whether a subscription may not have received the message at a position.
    pub(super) fn is_behind(&self, position: u64) -> bool {
        let last = self.at_last > 0 && self.last < position;
        last || self.all.first_key_value().is_some_and(|(first, _)| *first < position)
    }

    /// Returns the lowest position.
    pub(super) fn lowest(&self) -> Option<u64> {
        let last = (self.at_last > 0).then_some(self.last);
        let first = self.all.first_key_value().map(|(first, _)| *first);
        first.into_iter().chain(last).min()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.at_last == 0
    }
}

// Visits each of them once.
fn each([a, b, c, d]: [u64; 4], mut visit: impl FnMut(u64)) {
    visit(a);
    if b != a {
        visit(b);
    }
    if c != a && c != b {
        visit(c);
    }
    if d != a && d != b && d != c {
        visit(d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_as_looking_at_every_subscription(
            steps in proptest::collection::vec((0_usize..6, proptest::array::uniform4(0_u64..8), any::<bool>()), 0..100),
        ) {
            let mut positions = ReaderPositions::default();
            let mut all: [Registered; 6] = Default::default();
            for (n, at, stays) in steps {
                if stays {
                    positions.register(&mut all[n], at);
                } else {
                    positions.forget(&mut all[n]);
                }
                let registered = || all.iter().flat_map(|one| one.0);
                let lowest = registered().filter(|at| *at != NONE).min();
                prop_assert_eq!(positions.lowest(), lowest);
                for from in 0..9 {
                    prop_assert_eq!(positions.is_behind(from), registered().any(|at| at < from));
                    for to in 0..9 {
                        let any = registered().any(|at| (from..to).contains(&at));
                        prop_assert_eq!(positions.any(from, to), any);
                    }
                }
            }
            all.iter_mut().for_each(|registered| positions.forget(registered));
            prop_assert!(positions.is_empty());
        }
    }
}
