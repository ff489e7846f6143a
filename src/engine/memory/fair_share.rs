//! The topic furthest above its fair share: a heap of topics by their evictable bytes.

use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// A binary max-heap of `(bytes, topic)`. The caller stores each topic's index in it, and passes a
/// function `moved(topic, index)` that writes it.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    heap: Vec<(usize, usize)>,
    // Topics whose newest message is big, by its cost. Among equal costs, the oldest is last.
    big: BTreeSet<(usize, Reverse<u64>, usize)>,
    sizes: HashMap<usize, (usize, u64), RandomState>,
}

impl Shares {
    /// Adds a topic without evictable bytes.
    pub(crate) fn insert(&mut self, topic: usize, mut moved: impl FnMut(usize, usize)) {
        self.heap.push((0, topic));
        moved(topic, self.heap.len() - 1);
    }

    /// Sets the cost and the position of a topic's newest message, if that is big.
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

    /// Returns the topic with the biggest newest message, other than `but`.
    pub(crate) fn biggest(&self, but: Option<usize>) -> Option<usize> {
        self.big.iter().rev().map(|(.., topic)| *topic).find(|topic| Some(*topic) != but)
    }

    /// Removes the topic at `index`.
    pub(crate) fn remove(&mut self, index: usize, mut moved: impl FnMut(usize, usize)) {
        self.heap.swap_remove(index);
        if let Some((bytes, topic)) = self.heap.get(index).copied() {
            moved(topic, index);
            self.update(index, bytes, moved);
        }
    }

    /// Sets the evictable bytes of the topic at `index`. Calls `moved` for each topic whose index
    /// changes.
    pub(crate) fn update(
        &mut self,
        index: usize,
        bytes: usize,
        mut moved: impl FnMut(usize, usize),
    ) {
        let mut index = index;
        self.heap[index].0 = bytes;
        while index > 0 && self.heap[(index - 1) / 2].0 < self.heap[index].0 {
            self.swap(index, (index - 1) / 2, &mut moved);
            index = (index - 1) / 2;
        }
        loop {
            let child = 2 * index + 1;
            let Some(left) = self.heap.get(child) else {
                return;
            };
            let child = match self.heap.get(child + 1) {
                Some(right) if right.0 > left.0 => child + 1,
                _ => child,
            };
            if self.heap[child].0 <= self.heap[index].0 {
                return;
            }
            self.swap(index, child, &mut moved);
            index = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize, moved: &mut impl FnMut(usize, usize)) {
        self.heap.swap(a, b);
        moved(self.heap[a].1, a);
        moved(self.heap[b].1, b);
    }

    /// Returns the topic with the most evictable bytes, if it has any.
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
            let mut indexes = [None::<usize>; 12];
            let mut model = [None::<usize>; 12];
            for (topic, bytes, step) in steps {
                match (indexes[topic], step) {
                    (None, _) => {
                        shares.insert(topic, |topic, index| indexes[topic] = Some(index));
                        model[topic] = Some(0);
                    }
                    (Some(index), 0) => {
                        indexes[topic] = None;
                        model[topic] = None;
                        shares.remove(index, |topic, index| indexes[topic] = Some(index));
                    }
                    (Some(index), _) => {
                        shares.update(index, bytes, |topic, index| indexes[topic] = Some(index));
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
