//! Counters of a subscription.

/// Counters of a subscription that is not `Ordered`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryStats {
    /// Messages that arrived in datagrams, copies included.
    pub datagrams: u64,
    /// Copies of messages received before: early repeats, and repairs that were not necessary.
    pub repeated: u64,
    /// Repairs requested.
    pub asked: u64,
    /// Messages received after they had been requested.
    pub repaired: u64,
    /// Sequences that passed the deadline, and were reported as gaps.
    pub late: u64,
}

impl DeliveryStats {
    /// Returns the sums of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            datagrams: self.datagrams + other.datagrams,
            repeated: self.repeated + other.repeated,
            asked: self.asked + other.asked,
            repaired: self.repaired + other.repaired,
            late: self.late + other.late,
        }
    }
}
