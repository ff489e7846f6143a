//! The filters that match a topic, found by walking along the topic, not through the subscriptions.
//!
//! Subscriptions with the same filter are one [`Group`]. A group lists its members at the head. The
//! next publication wakes those, and the others cost it nothing.

use crate::engine::ids::SubscriptionId;
use crate::wire::Filter;
use std::collections::BTreeMap;

/// Index of a group.
pub(crate) type GroupId = u32;

const NONE: GroupId = GroupId::MAX;

/// The subscriptions with one filter.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: u32,
    /// The members that have received everything.
    pub(crate) at_head: Vec<SubscriptionId>,
}

/// A tree over the segments of filters.
#[derive(Debug)]
struct Node {
    // No hash table: one with tens of thousands of names takes milliseconds to grow.
    literal: BTreeMap<Box<str>, Node>,
    star: Option<Box<Node>>,
    // The filter that ends here, and the one that ends here with `**`.
    here: GroupId,
    rest: GroupId,
}

impl Default for Node {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), star: None, here: NONE, rest: NONE }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.star.is_none() && self.here == NONE && self.rest == NONE
    }

    // Returns the place of a filter's group. Nodes on the way to it are created.
    fn place<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) -> &mut GroupId {
        match segments.next() {
            None => &mut self.here,
            Some("**") => &mut self.rest,
            Some("*") => self.star.get_or_insert_default().place(segments),
            Some(name) => self.literal.entry(name.into()).or_default().place(segments),
        }
    }

    fn remove<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) {
        match segments.next() {
            None => self.here = NONE,
            Some("**") => self.rest = NONE,
            Some("*") => {
                if let Some(node) = &mut self.star {
                    node.remove(segments);
                    if node.is_empty() {
                        self.star = None;
                    }
                }
            }
            Some(name) => {
                if let Some(node) = self.literal.get_mut(name) {
                    node.remove(segments);
                    if node.is_empty() {
                        self.literal.remove(name);
                    }
                }
            }
        }
    }
}

/// How far a walk has come: a node, by the turns that lead to it. Nodes may be added and removed
/// before the walk goes on. It then goes on with the first node at this place or after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WalkPosition {
    depth: u32,
    // Bit i: the turn at depth i was to the star, which comes after the literal.
    turns: u32,
    // How many of the node's visits are done: the node, its filter with `**`, its filter.
    done: u8,
}

/// A walk over the filters that match one topic.
struct Walk<'a, V> {
    segments: &'a [&'a str],
    wildcards: bool,
    from: Option<WalkPosition>,
    visit: &'a mut V,
}

impl<V: FnMut(Option<GroupId>) -> bool> Walk<'_, V> {
    // Returns where to go on, if `visit` stopped the walk.
    fn node(&mut self, node: &Node, at: WalkPosition) -> Result<(), WalkPosition> {
        // The walk skips everything before the position that it goes on with.
        let from = self.from.filter(|from| from.depth > at.depth);
        if from.is_none() {
            let here = self.from.take().filter(|from| WalkPosition { done: 0, ..*from } == at);
            let done = here.map_or(0, |from| from.done);
            let wild = if at.depth > 0 || self.wildcards { node.rest } else { NONE };
            let end = at.depth as usize == self.segments.len();
            let here = if end { node.here } else { NONE };
            // A visit of the node itself is work, too.
            let all = [None, Some(wild), Some(here)];
            for (group, done) in all.into_iter().zip(1..).skip(done.into()) {
                if group != Some(NONE) && !(self.visit)(group) {
                    return Err(WalkPosition { done, ..at });
                }
            }
        }
        let Some(segment) = self.segments.get(at.depth as usize) else {
            return Ok(());
        };
        let turn = 1 << at.depth;
        let skips = from.is_some_and(|from| from.turns & turn != 0);
        if let Some(child) = node.literal.get(*segment).filter(|_| !skips) {
            self.node(child, WalkPosition { depth: at.depth + 1, turns: at.turns, done: 0 })?;
        }
        if !skips {
            // The literal turn has reached the position to go on with.
            self.from = None;
        }
        if let Some(child) = node.star.as_ref().filter(|_| at.depth > 0 || self.wildcards) {
            let place = WalkPosition { depth: at.depth + 1, turns: at.turns | turn, done: 0 };
            self.node(child, place)?;
        }
        self.from = None;
        Ok(())
    }
}

/// The tree of all filters.
#[derive(Debug, Default)]
pub(crate) struct Tree(Node);

impl Tree {
    /// Calls `visit` with `None` for each node on the way, and with each group whose filter matches.
    /// If it returns false, the walk stops after that group, and returns where to go on.
    pub(crate) fn matching(
        &self,
        topic: &str,
        from: Option<WalkPosition>,
        mut visit: impl FnMut(Option<GroupId>) -> bool,
    ) -> Option<WalkPosition> {
        if self.0.is_empty() {
            return None;
        }
        let mut segments = [""; crate::wire::MAX_SEGMENTS];
        let mut count = 0;
        for segment in topic.split('/').take(segments.len()) {
            segments[count] = segment;
            count += 1;
        }
        let wildcards = segments[0] != "$weir";
        let segments = &segments[..count];
        let mut walk = Walk { segments, wildcards, from, visit: &mut visit };
        walk.node(&self.0, WalkPosition::default()).err()
    }
}

/// All filters that are subscribed to, and their groups.
#[derive(Debug, Default)]
pub(crate) struct FilterIndex {
    pub(crate) tree: Tree,
    pub(crate) groups: Vec<Group>,
    free: Vec<GroupId>,
}

impl FilterIndex {
    /// Returns whether nothing is subscribed.
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.0.is_empty()
    }

    /// Returns the number of subscriptions with one filter.
    pub(crate) fn members(&self, id: GroupId) -> u64 {
        self.groups[id as usize].members.into()
    }

    /// Adds a member to the group of a filter, and returns the group.
    pub(crate) fn insert(&mut self, filter: &Filter) -> GroupId {
        let place = self.tree.0.place(filter.segments());
        if *place == NONE {
            *place = self.free.pop().unwrap_or_else(|| {
                self.groups.push(Group::default());
                self.groups.len() as GroupId - 1
            });
        }
        let id = *place;
        self.groups[id as usize].members += 1;
        id
    }

    /// Removes a member from the group of a filter. It is no longer listed at the head.
    pub(crate) fn remove(&mut self, filter: &Filter, id: GroupId) {
        let group = &mut self.groups[id as usize];
        group.members -= 1;
        if group.members == 0 {
            *group = Group::default();
            self.free.push(id);
            self.tree.0.remove(filter.segments());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just("$weir")].prop_map(String::from)
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let part = prop_oneof![3 => segment(), 1 => Just("*".to_owned())];
        (proptest::collection::vec(part, 1..4), any::<bool>()).prop_map(|(mut parts, rest)| {
            if rest {
                parts.push("**".into());
            }
            Filter::new(&parts.join("/")).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_matching_every_filter(
            filters in proptest::collection::vec(filter(), 0..30),
            removed in proptest::collection::vec(any::<bool>(), 30),
            step in 1_usize..9,
            topics in proptest::collection::vec(proptest::collection::vec(segment(), 1..5), 1..10),
        ) {
            let mut tree = FilterIndex::default();
            let groups: Vec<_> = filters.iter().map(|filter| tree.insert(filter)).collect();
            for index in (0..filters.len()).filter(|index| removed[*index]) {
                tree.remove(&filters[index], groups[index]);
            }
            for topic in topics {
                let topic = topic.join("/");
                // In portions of `step`. Each goes on where the one before stopped.
                let (mut found, mut from) = (Vec::new(), None);
                loop {
                    let mut left = step;
                    from = tree.tree.matching(&topic, from, |group| {
                        found.extend(group);
                        left -= 1;
                        left > 0
                    });
                    if from.is_none() {
                        break;
                    }
                }
                found.sort_unstable();
                let mut expected: Vec<_> = (0..filters.len())
                    .filter(|index| !removed[*index] && filters[*index].matches(&topic))
                    .map(|index| groups[index])
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(found, expected, "{}", topic);
            }
            for index in (0..filters.len()).filter(|index| !removed[*index]) {
                tree.remove(&filters[index], groups[index]);
            }
            prop_assert!(tree.tree.0.is_empty(), "nodes stay behind");
        }
    }
}
