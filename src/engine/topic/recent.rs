//! Topics in the order of their last message. Those with messages after a position are found from
//! the young end, however many others there are.

use crate::engine::ids::Slot;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Links {
    younger: u32,
    older: u32,
}

/// A list of topics that is linked through a table by slot.
#[derive(Debug)]
pub(crate) struct Recent {
    links: Vec<Links>,
    youngest: u32,
}

impl Default for Recent {
    fn default() -> Self {
        Self { links: Vec::new(), youngest: NONE }
    }
}

impl Recent {
    /// Moves a topic that has a new message to the young end. It need not be in the list.
    pub(crate) fn move_to_front(&mut self, slot: Slot) {
        let at = slot as u32;
        if self.youngest == at {
            return;
        }
        self.remove(slot);
        if self.links.len() <= slot {
            self.links.resize(slot + 1, Links { younger: NONE, older: NONE });
        }
        self.links[slot] = Links { younger: NONE, older: self.youngest };
        if let Some(before) = self.links.get_mut(self.youngest as usize) {
            before.younger = at;
        }
        self.youngest = at;
    }

    /// Removes a topic, if it is in the list.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let at = slot as u32;
        let Some(links) = self.links.get_mut(slot) else {
            return;
        };
        let Links { younger, older } =
            std::mem::replace(links, Links { younger: NONE, older: NONE });
        if let Some(links) = self.links.get_mut(older as usize) {
            links.younger = younger;
        }
        if let Some(links) = self.links.get_mut(younger as usize) {
            links.older = older;
        } else if self.youngest == at {
            self.youngest = older;
        }
    }

    /// Returns all topics, youngest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        let some = |at: u32| Some(at).filter(|at| *at != NONE);
        let older =
            move |at: &u32| self.links.get(*at as usize).and_then(|links| some(links.older));
        std::iter::successors(some(self.youngest), older).map(|at| at as Slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn in_the_order_of_the_last_move(steps in proptest::collection::vec((0_usize..9, 0_u8..4), 0..200)) {
            let (mut recent, mut model) = (Recent::default(), Vec::new());
            for (slot, step) in steps {
                model.retain(|other| *other != slot);
                if step == 0 {
                    recent.remove(slot);
                } else {
                    recent.move_to_front(slot);
                    model.insert(0, slot);
                }
                prop_assert!(recent.iter().eq(model.iter().copied()));
            }
        }
    }
}
