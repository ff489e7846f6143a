//! The wishes of a reader: how much a read yields, and in what form.

/// The form and the amount of what a read yields. A subscription is read with the same options from
/// its first read to its last.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Number of bytes to yield, about. A read yields at least one item.
    pub budget: usize,
    /// Messages accepted before this time are skipped and become a gap. µs since 1970; 0 is none.
    pub accepted_since: u64,
    /// In what form payloads above [`LARGE`](crate::wire::LARGE) are read.
    pub large: LargePayloads,
}

/// How large messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargePayloads {
    /// As one message, once it is complete. Messages of other topics may overtake it.
    WhenComplete,
    /// While they arrive: [`Item::Begin`](crate::engine::Item::Begin), and what follows it. At most one is open at a time.
    /// Messages of other topics may overtake it. A large message that is complete makes one that
    /// still arrives [give way](crate::wire::Code::OVERTAKEN).
    InChunks,
    /// Only announced, complete or not: [`Item::Large`](crate::engine::Item::Large).
    AnnounceOnly,
}

impl From<usize> for ReadOptions {
    /// Reads complete messages, about so many bytes at a time.
    fn from(budget: usize) -> Self {
        Self { budget, accepted_since: 0, large: LargePayloads::WhenComplete }
    }
}
