//! How far the one message of a subscription to a single message was read.

/// The message that is followed, and how far it was read.
#[derive(Debug)]
pub(crate) struct Follow {
    // The topic's id.
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    // Offset of the next byte.
    pub(super) offset: usize,
    pub(super) state: FollowState,
}

/// How far the message was read.
///
/// ```text
///   Unread ---> Reading <---> Stalled
///     |            |             |
///     +------------+-------------+----> Done
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FollowState {
    /// Nothing was read.
    Unread,
    /// The message was announced, and there may be more to read.
    Reading,
    /// All that has arrived was read. The subscription is in the message's list of waiters.
    Stalled,
    /// The message was read to its end, or was aborted.
    Done,
}

impl Follow {
    pub(super) fn new(topic: u64, sequence: u64) -> Self {
        Self { topic, sequence, offset: 0, state: FollowState::Unread }
    }

    pub(super) fn set_state(&mut self, next: FollowState) {
        use FollowState::{Done, Reading, Stalled, Unread};
        debug_assert!(
            matches!(
                (self.state, next),
                (Unread | Reading | Stalled, Reading | Done) | (Reading, Stalled)
            ),
            "{:?} becomes {next:?}",
            self.state
        );
        self.state = next;
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_stalled(&self) -> bool {
        self.state == FollowState::Stalled
    }

    /// More of the message has arrived, or it has ended.
    pub(super) fn resume(&mut self) {
        if self.state == FollowState::Stalled {
            self.set_state(FollowState::Reading);
        }
    }
}
