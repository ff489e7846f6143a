//! Cursors: where a subscription is in a topic that it has not read completely.

use std::num::NonZeroU64;

/// The place of a subscription in one topic. The order is that in which a window is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is true of a cursor by itself, and there are many"
)]
pub(crate) struct Cursor {
    // Position of the next message; 0 if that has left the log.
    pub(crate) position: u64,
    pub(crate) slot: u32,
    // The topic's id, because slots are reused.
    pub(crate) topic: u64,
    // The sequence at which the subscription began in the topic, and the one that it needs next.
    pub(crate) begin: u64,
    pub(crate) next: u64,
    pub(crate) announced: bool,
    pub(crate) if_arriving: IfArriving,
    // The cursor is kept for the next window, because it is not known how far this window went in
    // its topic.
    pub(crate) carry_over: bool,
    // The client is told first what it had received and was not kept.
    pub(crate) lost: bool,
    // The subscription is new, and has not passed messages yet that its topic does not keep.
    pub(crate) kept_only: bool,
}

/// How a cursor's message is read if it is large and still arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IfArriving {
    /// It is read in the form that the reader asks for.
    Read,
    /// It is read once it is complete, because it has given way to another message.
    AwaitCompletion,
    /// It is skipped and becomes a gap, because others would have to wait for it.
    Skip,
}

impl Cursor {
    /// Moves to another message, which has not given way to anything.
    pub(crate) fn go_to(&mut self, next: u64) {
        (self.next, self.if_arriving) = (next, IfArriving::Read);
    }
}

/// The message that woke a subscription, which had received everything before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewMessage {
    pub(crate) position: NonZeroU64,
    pub(crate) sequence: u64,
    // Position of the message before it in its topic.
    pub(crate) before: u64,
    pub(crate) slot: u32,
}

impl NewMessage {
    /// Returns the position up to which the subscription had received everything.
    pub(crate) fn floor(&self) -> u64 {
        self.position.get() - 1
    }
}

/// A large message that has been read in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenMessage {
    pub(crate) slot: u32,
    // Offset of the next byte.
    pub(crate) offset: usize,
}
