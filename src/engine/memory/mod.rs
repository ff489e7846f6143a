//! Keeping to the byte budget: who has too much, what is evicted, and the counts that outlive it.

pub(crate) mod evicted_counts;
pub(crate) mod eviction;
pub(crate) mod fair_share;
