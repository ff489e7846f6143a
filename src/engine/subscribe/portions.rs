//! How much work one call does, and how much memory one subscription takes.

/// The portions of work and memory. Tests use smaller ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portions {
    /// Maximum number of names of topics, cursors and wakes that one call looks at: 200 ns each.
    pub(crate) work: usize,
    /// Maximum number of names of topics that a sweep looks at in one turn. It is small, because
    /// each step on the way of a message may wait for such a turn.
    pub(crate) sweep: usize,
    /// The same for the call that begins a subscription.
    pub(crate) first: usize,
    /// Maximum number of recently changed topics that are looked at before a sweep begins.
    pub(crate) recent: usize,
    /// Maximum number of cursors in a window, 56 bytes each.
    pub(crate) window: usize,
    /// Number of these that are not charged to the budget.
    pub(crate) free: usize,
    /// Maximum number of topics in which a subscription has a cursor [aside](super::aside): 128
    /// bytes each, with its place in the list of waiters.
    pub(crate) aside: usize,
    /// Number of these that are not charged to the budget.
    pub(crate) aside_free: usize,
    /// Maximum number of wakes in a publication, and in each call of
    /// [`Engine::run_deferred`](crate::engine::Engine::run_deferred). It is small, because all
    /// other tasks wait for what the woken ones then do.
    pub(crate) wakes: usize,
    /// Maximum number of [records](super::forgotten) of forgotten topics: about 80 bytes each,
    /// and their names.
    pub(crate) forgotten: usize,
    /// Maximum number of messages that one call evicts: 0.2 to 0.8 µs each, the more the farther
    /// apart they are in memory. The rest is deferred.
    pub(crate) evictions: usize,
}

pub(crate) const PORTIONS: Portions = Portions {
    work: 2048,
    sweep: 256,
    first: 256,
    recent: 256,
    window: 8192,
    free: 64,
    aside: 1024,
    aside_free: 64,
    wakes: 64,
    forgotten: 256,
    evictions: 512,
};
