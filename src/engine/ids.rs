//! The names that other rooms keep for topics, subscriptions and uploads.

/// Index into the table of topics. It is reused after a topic was forgotten.
pub(crate) type Slot = usize;

/// Names a subscription. An id is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId {
    pub(crate) index: u32,
    // Low bits of the number of subscriptions that had begun before.
    pub(crate) birth: u32,
}

impl SubscriptionId {
    /// Returns a small number, to index tables with. It is reused after the subscription has ended,
    /// so compare the whole id with the one in the table.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Names a publication that is still arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId {
    // The topic's id.
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
}
