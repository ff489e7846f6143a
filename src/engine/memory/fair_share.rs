//! Which topic takes most above its fair share: a heap of topics by the bytes they could give up.

use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// A binary max-heap of `(bytes, topic)`. The caller keeps each topic's place and hands in a way
/// to write it.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    heap: Vec<(usize, usize)>,
    // Topics whose newest message is large, by what that takes; of equal ones the oldest last.
    big: BTreeSet<(usize, Reverse<u64>, usize)>,
    sizes: HashMap<usize, (usize, u64), RandomState>,
}

impl Shares {
    /// Adds a topic with nothing to give up.
    pub(crate) fn insert(&mut self, topic: usize, mut moved: impl FnMut(usize, usize)) {
        self.heap.push((0, topic));
        moved(topic, self.heap.len() - 1);
    }

    /// Says what the newest message of a topic takes, if that is much, and its position.
    pub(crate) fn set_big(&mut self, topic: usize, size: Option<(usize, u64)>) {
        if size.is_none() && self.sizes.is_empty() {
            return;
        }
        let before = match size {
            Some(size) => self.sizes.insert(topic, size),
            None => self.sizes.remove(&topic),
        };
        if before != size {
            let entry = |(size, position)| (size, Reverse(position), topic);
            before.map(|before| self.big.remove(&entry(before)));
            self.big.extend(size.map(entry));
        }
    }

    /// The topic whose newest message takes most, if it takes much; not this one.
    pub(crate) fn biggest(&self, but: Option<usize>) -> Option<usize> {
        self.big.iter().rev().map(|(.., topic)| *topic).find(|topic| Some(*topic) != but)
    }

    /// Takes the topic at `place` out.
    pub(crate) fn remove(&mut self, place: usize, mut moved: impl FnMut(usize, usize)) {
        self.heap.swap_remove(place);
        if let Some((bytes, topic)) = self.heap.get(place).copied() {
            moved(topic, place);
            self.update(place, bytes, moved);
        }
    }

    /// Says what the topic at `place` could give up now. `moved(topic, place)` is called for each
    /// topic whose place changes.
    pub(crate) fn update(
        &mut self,
        place: usize,
        bytes: usize,
        mut moved: impl FnMut(usize, usize),
    ) {
        let mut place = place;
        self.heap[place].0 = bytes;
        while place > 0 && self.heap[(place - 1) / 2].0 < self.heap[place].0 {
            self.swap(place, (place - 1) / 2, &mut moved);
            place = (place - 1) / 2;
        }
        loop {
            let child = 2 * place + 1;
            let Some(left) = self.heap.get(child) else {
                return;
            };
            let child = match self.heap.get(child + 1) {
                Some(right) if right.0 > left.0 => child + 1,
                _ => child,
            };
            if self.heap[child].0 <= self.heap[place].0 {
                return;
            }
            self.swap(place, child, &mut moved);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize, moved: &mut impl FnMut(usize, usize)) {
        self.heap.swap(a, b);
        moved(self.heap[a].1, a);
        moved(self.heap[b].1, b);
    }

    /// The topic that could give up most, if any could.
    pub(crate) fn largest(&self) -> Option<usize> {
        self.heap.first().filter(|(bytes, _)| *bytes > 0).map(|(_, topic)| *topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn largest_is_the_largest(steps in proptest::collection::vec((0_usize..12, 0_usize..50, 0_u8..8), 0..300)) {
            let mut shares = Shares::default();
            let mut places = [None::<usize>; 12];
            let mut model = [None::<usize>; 12];
            for (topic, bytes, step) in steps {
                match (places[topic], step) {
                    (None, _) => {
                        shares.insert(topic, |topic, place| places[topic] = Some(place));
                        model[topic] = Some(0);
                    }
                    (Some(place), 0) => {
                        places[topic] = None;
                        model[topic] = None;
                        shares.remove(place, |topic, place| places[topic] = Some(place));
                    }
                    (Some(place), _) => {
                        shares.update(place, bytes, |topic, place| places[topic] = Some(place));
                        model[topic] = Some(bytes);
                    }
                }
                let most = model.iter().flatten().max().copied().unwrap_or(0);
                let largest = shares.largest();
                prop_assert_eq!(largest.map_or(0, |topic| model[topic].unwrap_or(0)), most);
            }
        }
    }
}
