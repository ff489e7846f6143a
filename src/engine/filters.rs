//! Which subscriptions a topic concerns, found by walking the topic, not the subscriptions.

use super::SubscriptionId;
use crate::wire::Filter;
use foldhash::fast::RandomState;
use std::collections::HashMap;

type Member = (SubscriptionId, u64);

/// A tree over the segments of filters.
#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node, RandomState>,
    star: Option<Box<Node>>,
    // Filters that end here, and filters that end here with `**`.
    here: Vec<Member>,
    rest: Vec<Member>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.star.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }

    fn insert<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>, member: Member) {
        match segments.next() {
            None => self.here.push(member),
            Some("**") => self.rest.push(member),
            Some("*") => self.star.get_or_insert_default().insert(segments, member),
            Some(name) => self.literal.entry(name.into()).or_default().insert(segments, member),
        }
    }

    fn remove<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>, id: SubscriptionId) {
        match segments.next() {
            None => self.here.retain(|member| member.0 != id),
            Some("**") => self.rest.retain(|member| member.0 != id),
            Some("*") => {
                if let Some(node) = &mut self.star {
                    node.remove(segments, id);
                    if node.is_empty() {
                        self.star = None;
                    }
                }
            }
            Some(name) => {
                if let Some(node) = self.literal.get_mut(name) {
                    node.remove(segments, id);
                    if node.is_empty() {
                        self.literal.remove(name);
                    }
                }
            }
        }
    }

    fn visit(&self, topic: Option<&str>, wildcards: bool, found: &mut impl FnMut(Member)) {
        if wildcards {
            self.rest.iter().copied().for_each(&mut *found);
        }
        let Some(topic) = topic else {
            return self.here.iter().copied().for_each(found);
        };
        let (segment, tail) = match topic.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (topic, None),
        };
        if let Some(node) = self.literal.get(segment) {
            node.visit(tail, true, found);
        }
        if wildcards && let Some(node) = &self.star {
            node.visit(tail, true, found);
        }
    }
}

/// All filters that are subscribed to.
#[derive(Debug, Default)]
pub(crate) struct Filters(Node);

impl Filters {
    /// Adds a subscription and when it was born.
    pub(crate) fn insert(&mut self, filter: &Filter, id: SubscriptionId, born: u64) {
        self.0.insert(filter.segments(), (id, born));
    }

    pub(crate) fn remove(&mut self, filter: &Filter, id: SubscriptionId) {
        self.0.remove(filter.segments(), id);
    }

    /// Calls `found` with each subscription whose filter matches, and when it was born.
    pub(crate) fn matching(&self, topic: &str, mut found: impl FnMut(SubscriptionId, u64)) {
        let own = topic == "$weir" || topic.starts_with("$weir/");
        self.0.visit(Some(topic), !own, &mut |(id, born)| found(id, born));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(index: usize) -> SubscriptionId {
        SubscriptionId { index: index as u32, birth: 0 }
    }

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
        fn the_tree_agrees_with_asking_every_filter(
            filters in proptest::collection::vec(filter(), 0..30),
            removed in proptest::collection::vec(any::<bool>(), 30),
            topics in proptest::collection::vec(proptest::collection::vec(segment(), 1..5), 1..10),
        ) {
            let mut tree = Filters::default();
            for (index, filter) in filters.iter().enumerate() {
                tree.insert(filter, id(index), 1);
            }
            for (index, filter) in filters.iter().enumerate().filter(|(index, _)| removed[*index]) {
                tree.remove(filter, id(index));
            }
            for topic in topics {
                let topic = topic.join("/");
                let mut found = Vec::new();
                tree.matching(&topic, |id, _| found.push(id.index()));
                found.sort_unstable();
                let expected: Vec<usize> = (0..filters.len())
                    .filter(|index| !removed[*index] && filters[*index].matches(&topic))
                    .collect();
                prop_assert_eq!(found, expected, "{}", topic);
            }
            for (index, filter) in filters.iter().enumerate() {
                tree.remove(filter, id(index));
            }
            prop_assert!(tree.0.is_empty(), "nodes stay behind");
        }
    }
}
