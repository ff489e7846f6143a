//! Filters that are asked together whether one of them matches a topic.
//!
//! They form a tree of their segments, because each publication is compared with all filters. One by
//! one, 64 of them take a microsecond, and the tree takes a tenth of that.

use crate::wire::Filter;

/// Filters in the order in which they were given, and their tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilterSet {
    filters: Box<[Filter]>,
    // None of more filters than its small numbers can count, which are 2,000 and more.
    tree: Option<Tree>,
}

// At most 14 bytes for each segment, and the segments' text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    text: Box<str>,
    edges: Box<[Edge]>,
    // The first is the root.
    nodes: Box<[Node]>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    // The range of its edges, which are of literal segments and sorted by their text.
    first: u16,
    count: u16,
    // The node below `*`. None is the root.
    star: u16,
    // A filter ends here, or goes on with `**`.
    end: bool,
    tail: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    start: u16,
    length: u8,
    node: u16,
}

impl FilterSet {
    pub(super) fn new(filters: Vec<Filter>) -> Self {
        let mut sorted: Vec<Vec<&str>> =
            filters.iter().map(|filter| filter.segments().collect()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let tree = Builder::build(&sorted);
        Self { filters: filters.into(), tree }
    }

    /// Returns the filters.
    pub(super) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Returns whether one of the filters matches `topic`, as [`Filter::matches`] does.
    pub(super) fn matches(&self, topic: &str) -> bool {
        let Some(tree) = &self.tree else {
            return self.filters.iter().any(|filter| filter.matches(topic));
        };
        let rest = topic.strip_prefix("$weir");
        let reserved = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        tree.matches_below(&tree.nodes[0], topic.as_bytes(), reserved)
    }
}

impl Tree {
    // The depth is that of the longest filter, 16 at most.
    fn matches_below(&self, node: &Node, topic: &[u8], reserved: bool) -> bool {
        if node.tail && !reserved {
            return true;
        }
        let end = topic.iter().position(|byte| *byte == b'/');
        let segment = &topic[..end.unwrap_or(topic.len())];
        let matches = |next: &Node| match end {
            Some(end) => self.matches_below(next, &topic[end + 1..], false),
            None => next.end || next.tail,
        };
        if let Some(next) = self.child(node, segment)
            && matches(next)
        {
            return true;
        }
        node.star != 0 && !reserved && matches(&self.nodes[usize::from(node.star)])
    }

    fn child(&self, node: &Node, segment: &[u8]) -> Option<&Node> {
        let first = usize::from(node.first);
        let edges = &self.edges[first..first + usize::from(node.count)];
        let text = |edge: &Edge| {
            let start = usize::from(edge.start);
            &self.text.as_bytes()[start..start + usize::from(edge.length)]
        };
        let found = match edges {
            [] => None,
            [one] => (text(one) == segment).then_some(one),
            _ => edges.binary_search_by(|edge| text(edge).cmp(segment)).ok().map(|at| &edges[at]),
        };
        found.map(|edge| &self.nodes[usize::from(edge.node)])
    }
}

struct Builder {
    text: String,
    edges: Vec<Edge>,
    nodes: Vec<Node>,
}

impl Builder {
    fn build(filters: &[Vec<&str>]) -> Option<Tree> {
        let mut tree = Self { text: String::new(), edges: Vec::new(), nodes: Vec::new() };
        tree.nodes.push(Node::default());
        tree.grow(0, filters, 0)?;
        let Self { text, edges, nodes } = tree;
        Some(Tree { text: text.into(), edges: edges.into(), nodes: nodes.into() })
    }

    // The filters are sorted, and the same up to `depth`. `None` if the tree gets too large.
    fn grow(&mut self, node: usize, filters: &[Vec<&str>], depth: usize) -> Option<()> {
        let groups = filters.chunk_by(|one, other| one.get(depth) == other.get(depth));
        let mut below = Vec::new();
        self.nodes[node].first = u16::try_from(self.edges.len()).ok()?;
        for group in groups {
            match group[0].get(depth) {
                None => self.nodes[node].end = true,
                Some(&"**") => self.nodes[node].tail = true,
                Some(&segment) => {
                    let next = u16::try_from(self.nodes.len()).ok()?;
                    self.nodes.push(Node::default());
                    below.push((usize::from(next), group));
                    if segment == "*" {
                        self.nodes[node].star = next;
                        continue;
                    }
                    let start = u16::try_from(self.text.len()).ok()?;
                    self.text.push_str(segment);
                    let length = u8::try_from(segment.len()).ok()?;
                    self.edges.push(Edge { start, length, node: next });
                    self.nodes[node].count += 1;
                }
            }
        }
        below.into_iter().try_for_each(|(next, group)| self.grow(next, group, depth + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &[String]) -> FilterSet {
        let filters = list.iter().map(|text| Filter::new(text).unwrap()).collect();
        FilterSet::new(filters)
    }

    proptest::proptest! {
        #[test]
        fn a_set_matches_what_one_of_its_filters_does(
            list in proptest::collection::vec(
                "(a|b|aa|é|!|\\$weir|\\*)(/(a|b|ab|~|\\*)){0,3}(/\\*\\*)?|\\*\\*", 0..12
            ),
            topics in proptest::collection::vec(
                "(a|b|aa|é|!|\\$weir|\\$weird)(/(a|b|ab|~|c)){0,4}", 20
            ),
        ) {
            let set = set(&list);
            for topic in topics {
                let one = set.filters().iter().any(|filter| filter.matches(&topic));
                proptest::prop_assert_eq!(set.matches(&topic), one, "{:?} {}", list, topic);
            }
        }
    }

    #[test]
    fn the_longest_and_the_most() {
        let names = |n: usize| format!("{n}{}", "/x".repeat(15));
        let list: Vec<_> = (0..128).map(names).collect();
        let long = set(&list);
        assert!(long.matches(&names(0)) && long.matches(&names(127)) && !long.matches(&names(128)));
        assert!(size_of::<Node>() + size_of::<Edge>() <= 16);
        // A larger set has the same answer without a tree.
        for (count, has) in [(2000, true), (5000, false)] {
            let many = set(&(0..count).map(names).collect::<Vec<_>>());
            assert_eq!(many.tree.is_some(), has);
            assert!(many.matches(&names(count - 1)) && !many.matches(&names(count)));
        }
    }
}
