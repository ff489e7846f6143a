//! The prices: what the engine charges for each thing that it keeps, in bytes.
//!
//! A price covers the memory that the thing takes at worst. Tests compare the charges with the
//! memory that is allocated (`tests/bounds/memory.rs`, `tests/allocations.rs`).

/// Returns the size that allocators give for `bytes`: they have four sizes between one power of
/// two and the next.
pub(crate) const fn allocated(bytes: usize) -> usize {
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(if step < 16 { 16 } else { step })
}

/// A topic that holds nothing.
pub(crate) const TOPIC_COST: usize = 1024;

/// A payload, beside its bytes: its share of the tables.
pub(crate) const PAYLOAD_COST: usize = 128;

/// A payload while it arrives, beside its bytes.
pub(crate) const ARRIVING_COST: usize = 256;

/// A piece of a large payload, beside its bytes: its slot in the rope, its handle, and the head of
/// the frame in which it arrived.
pub(crate) const PIECE_COST: usize = 96;

/// The count of a payload that has left the cache: its share of a table, at worst.
pub(crate) const COUNT_COST: usize = 76;

/// A payload in the list of the most counted ones of a topic.
pub(crate) const TOP_COST: usize = 80;

/// A producer that a topic remembers, beside the bits of its window and its blocks.
pub(crate) const PRODUCER_COST: usize = 208;

/// An idempotency key that a topic remembers, with its receipt.
pub(crate) const KEY_COST: usize = 192;

/// A topic alias of a session, beside its name: its place in a table that doubles, and the head of
/// the name's allocation.
pub(crate) const ALIAS_COST: usize = 96;

/// A subscription of a session: itself, and its place in the tables.
pub(crate) const SUBSCRIPTION_COST: usize = 768;

/// A segment of a subscription's filter, when no other filter shares it.
pub(crate) const SEGMENT_COST: usize = 256;

/// A topic in the list with which a subscription resumes, beside its name.
pub(crate) const RESUMED_COST: usize = 96;

/// A topic in which a subscription has a cursor aside, with its place in the list of those that
/// wait for the message.
pub(crate) const ASIDE_COST: usize = 128;

/// A topic that was announced to an unordered or realtime subscription.
pub(crate) const ANNOUNCED_COST: usize = 48;
