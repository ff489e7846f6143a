//! Keeping to the byte budget: shares of topics, eviction, and the counts of evicted payloads.

pub(crate) mod evicted_counts;
pub(crate) mod eviction;
mod expiry;
pub(crate) mod fair_share;
