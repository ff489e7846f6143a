//! Up to which positions the subscriptions that are not idle have had everything: what leaves a
//! log above one of these is [remembered](super::marks).

use std::collections::BTreeMap;

/// The positions of one subscription that are in the table.
#[derive(Debug, Default)]
pub(super) struct Registered(Option<[u64; 4]>);

/// Positions, each with how many subscriptions stand there.
#[derive(Debug, Default)]
pub(super) struct Reading(BTreeMap<u64, u32>);

impl Reading {
    /// A subscription stands at these now, and no more at those where it stood.
    pub(super) fn register(&mut self, registered: &mut Registered, at: [u64; 4]) {
        if registered.0 == Some(at) {
            return;
        }
        self.forget(registered);
        distinct(at).for_each(|position| *self.0.entry(position).or_default() += 1);
        registered.0 = Some(at);
    }

    /// It has had everything, or has ended.
    pub(super) fn forget(&mut self, registered: &mut Registered) {
        for position in registered.0.take().into_iter().flat_map(distinct) {
            if let Some(count) = self.0.get_mut(&position) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&position);
                }
            }
        }
    }

    /// Whether a subscription stands from the first position to before the second.
    pub(super) fn any(&self, from: u64, to: u64) -> bool {
        self.0.range(from..to.max(from)).next().is_some()
    }

    /// Whether one may not have had what is at a position.
    pub(super) fn is_behind(&self, position: u64) -> bool {
        self.0.first_key_value().is_some_and(|(first, _)| *first < position)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// Mostly they are all one.
fn distinct(all: [u64; 4]) -> impl Iterator<Item = u64> {
    let first = move |(at, position): &(usize, u64)| !all[..*at].contains(position);
    all.into_iter().enumerate().filter(first).map(|(_, position)| position)
}
