//! Up to which positions the subscriptions that are not idle have had everything: what leaves a
//! log above one of these is [remembered](super::topic::marks).

use std::collections::BTreeMap;

/// The positions of one subscription that are in the table.
#[derive(Debug)]
pub(crate) struct Registered([u64; 4]);

/// No position.
const NONE: u64 = u64::MAX;

impl Default for Registered {
    fn default() -> Self {
        Self([NONE; 4])
    }
}

/// Positions, each with how many subscriptions stand there.
#[derive(Debug, Default)]
pub(super) struct Reading {
    all: BTreeMap<u64, u32>,
    // One position more, and how many there: all that one publication woke, mostly.
    last: u64,
    there: u32,
}

impl Reading {
    /// A subscription stands at these now, and no more at those where it stood.
    pub(super) fn register(&mut self, registered: &mut Registered, at: [u64; 4]) {
        if registered.0.iter().eq(&at) {
            return;
        }
        self.forget(registered);
        each(at, |position| self.enter(position));
        registered.0 = at;
    }

    /// One that stood nowhere stands here now.
    pub(super) fn stand(&mut self, registered: &mut Registered, position: u64) {
        debug_assert_eq!(registered.0, [NONE; 4], "it stands somewhere");
        registered.0 = [position; 4];
        self.enter(position);
    }

    /// It has had everything, or has ended.
    pub(super) fn forget(&mut self, registered: &mut Registered) {
        if registered.0[0] != NONE {
            each(std::mem::take(registered).0, |position| self.leave(position));
        }
    }

    fn enter(&mut self, position: u64) {
        if self.there == 0 {
            self.last = position;
        } else if self.last < position {
            *self.all.entry(self.last).or_default() += std::mem::take(&mut self.there);
            self.last = position;
        }
        if self.last == position {
            self.there += 1;
        } else {
            *self.all.entry(position).or_default() += 1;
        }
    }

    fn leave(&mut self, position: u64) {
        if self.there > 0 && self.last == position {
            self.there -= 1;
        } else if let Some(count) = self.all.get_mut(&position) {
            *count -= 1;
            if *count == 0 {
                self.all.remove(&position);
            }
        }
    }

    /// Whether a subscription stands from the first position to before the second.
    pub(super) fn any(&self, from: u64, to: u64) -> bool {
        let last = self.there > 0 && (from..to).contains(&self.last);
        last || self.all.range(from..to.max(from)).next().is_some()
    }

    /// Whether one may not have had what is at a position.
    pub(super) fn is_behind(&self, position: u64) -> bool {
        let last = self.there > 0 && self.last < position;
        last || self.all.first_key_value().is_some_and(|(first, _)| *first < position)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.there == 0
    }
}

// Each of them once.
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
        fn the_same_as_asking_everyone(
            steps in proptest::collection::vec((0_usize..6, proptest::array::uniform4(0_u64..8), any::<bool>()), 0..100),
        ) {
            let mut reading = Reading::default();
            let mut all: [Registered; 6] = Default::default();
            for (who, at, stays) in steps {
                if stays {
                    reading.register(&mut all[who], at);
                } else {
                    reading.forget(&mut all[who]);
                }
                let stand = || all.iter().flat_map(|registered| registered.0);
                for from in 0..9 {
                    prop_assert_eq!(reading.is_behind(from), stand().any(|at| at < from));
                    for to in 0..9 {
                        let any = stand().any(|at| (from..to).contains(&at));
                        prop_assert_eq!(reading.any(from, to), any);
                    }
                }
            }
            all.iter_mut().for_each(|registered| reading.forget(registered));
            prop_assert!(reading.is_empty());
        }
    }
}
