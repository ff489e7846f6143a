//! The lists with which a subscription resumes. All of them are bounded.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Maximum number of topics that a subscription resumes by name: 65,536.
///
/// An entry of three bytes on the wire takes 32 bytes in memory. Without the limit, a frame of the
/// maximum size with the shortest entries would take 11 MiB. With it, a frame takes 2 MiB.
pub const MAX_RESUMED: usize = 1 << 16;

/// Maximum number of ranges above the next sequence that a subscription shows, over all topics.
pub const MAX_HAD: usize = 1024;

/// Maximum number of these ranges in one topic.
pub const MAX_HAD_OF_TOPIC: usize = 64;

/// The cursor of one topic, as the client sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The epoch that the client received last.
    pub epoch: u64,
    /// The next sequence that the client needs.
    pub next: u64,
}

/// The ranges that a client has received of one topic, above the next sequence that it needs.
///
/// The ranges are in order, because each is coded from the end of the one before it. No bytes stand
/// for ranges that overlap or descend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Had {
    /// The place of the topic in the list of topics, from 0.
    pub topic: u32,
    /// Numbers of sequences: how many are missing, and how many were received after these. The first
    /// pair counts from `next`. At most [`MAX_HAD_OF_TOPIC`].
    #[serde(deserialize_with = "pairs")]
    pub ranges: Vec<(u64, u64)>,
}

impl Had {
    /// Codes ranges of sequences, first and last, which are in order and above `next`. Ranges beyond
    /// the limit are left out.
    pub fn new(topic: u32, next: u64, ranges: &[(u64, u64)]) -> Self {
        let mut at = next;
        let coded = ranges.iter().filter_map(|&(first, last)| {
            let missing = first.checked_sub(at)?;
            let received = last.checked_sub(first)?.checked_add(1)?;
            at = last.checked_add(1)?;
            Some((missing, received))
        });
        Self { topic, ranges: coded.take(MAX_HAD_OF_TOPIC).collect() }
    }

    /// Returns the ranges of sequences above `next`, first and last. Ranges above the highest
    /// sequence and empty ones are left out.
    pub fn sequences(&self, next: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut at = Some(next);
        let ranges = self.ranges.iter().map_while(move |&(missing, received)| {
            let first = at?.checked_add(missing)?;
            at = first.checked_add(received);
            Some((first, at?.saturating_sub(1), received))
        });
        ranges.filter(|(.., received)| *received > 0).map(|(first, last, _)| (first, last))
    }
}

/// Decodes the topics.
pub(super) fn topics<'de: 'a, 'a, D: Deserializer<'de>>(
    bytes: D,
) -> Result<Vec<Resume<'a>>, D::Error> {
    list(bytes, MAX_RESUMED)
}

// The pairs of one topic.
fn pairs<'de, D: Deserializer<'de>>(bytes: D) -> Result<Vec<(u64, u64)>, D::Error> {
    list(bytes, MAX_HAD_OF_TOPIC)
}

/// Decodes the ranges. Each of them takes part of the limit, and so does a topic without ranges.
pub(super) fn had<'de, D: Deserializer<'de>>(bytes: D) -> Result<Vec<Had>, D::Error> {
    let list: Vec<Had> = list(bytes, MAX_HAD)?;
    let ranges: usize = list.iter().map(|had| had.ranges.len()).sum();
    if ranges > MAX_HAD {
        return Err(D::Error::custom("too many ranges"));
    }
    Ok(list)
}

fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    bytes: D,
    most: usize,
) -> Result<Vec<T>, D::Error> {
    struct List<T>(usize, PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {} entries", self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            // The list's length is not used to reserve memory, because the peer may lie about it.
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == self.0 {
                    return Err(A::Error::custom("too many entries"));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    bytes.deserialize_seq(List(most, PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_coded_from_the_end_of_the_one_before() {
        let ranges = [(7, 8), (10, 10), (12, 20)];
        let had = Had::new(3, 5, &ranges);
        assert_eq!(had.ranges, [(2, 2), (1, 1), (1, 9)]);
        assert_eq!(had.sequences(5).collect::<Vec<_>>(), ranges);
        let many: Vec<_> = (1..100).map(|n| (2 * n, 2 * n)).collect();
        assert_eq!(Had::new(0, 1, &many).ranges.len(), MAX_HAD_OF_TOPIC);
    }

    #[test]
    fn whatever_the_numbers_are_the_ranges_ascend_and_do_not_touch_the_highest_sequence() {
        for ranges in [
            vec![(u64::MAX, 1)],
            vec![(0, u64::MAX), (0, 1)],
            vec![(1, 0), (1, 1), (0, 0), (u64::MAX - 4, 1)],
            vec![(0, 3), (0, 3)],
        ] {
            let had = Had { topic: 0, ranges };
            for next in [0, 1, 2, u64::MAX] {
                let all: Vec<_> = had.sequences(next).collect();
                assert!(all.iter().all(|(first, last)| first <= last && *last < u64::MAX));
                assert!(all.windows(2).all(|two| two[0].1 < two[1].0), "{all:?}");
            }
        }
    }

    // Bytes of a list: `topics` entries, each with `ranges` pairs.
    fn decoded(topics: usize, ranges: usize) -> Result<Vec<Had>, postcard::Error> {
        #[derive(Debug, Deserialize)]
        struct List(#[serde(deserialize_with = "had")] Vec<Had>);

        let had = Had { topic: 0, ranges: vec![(1, 1); ranges] };
        let bytes = postcard::to_allocvec(&vec![had; topics])?;
        postcard::from_bytes::<List>(&bytes).map(|list| list.0)
    }

    #[test]
    fn a_list_above_a_limit_is_refused() {
        assert!(decoded(1, MAX_HAD_OF_TOPIC).is_ok());
        assert!(decoded(1, MAX_HAD_OF_TOPIC + 1).is_err());
        assert!(decoded(MAX_HAD / MAX_HAD_OF_TOPIC, MAX_HAD_OF_TOPIC).is_ok());
        assert!(decoded(MAX_HAD / MAX_HAD_OF_TOPIC + 1, MAX_HAD_OF_TOPIC).is_err());
        assert!(decoded(MAX_HAD, 0).is_ok());
        assert!(decoded(MAX_HAD + 1, 0).is_err());
    }
}
