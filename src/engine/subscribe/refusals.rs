//! Why subscriptions end: the refusals that a read returns, each with its remedy.

use super::cursor::Cursor;
use crate::engine::topic::Topic;
use crate::wire::{Code, Refusal};

/// The subscription has been ended, or its one message has been read.
pub(super) fn ended() -> Refusal {
    Refusal::new(Code::DONE, "the subscription has ended")
}

/// The budget has no room for the list with which a subscription resumes.
pub(super) fn no_room_to_resume() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "the daemon has no room for so many topics to resume: try again later, or with fewer",
    )
}

/// It is no longer known where the subscription was in a topic, or its window does not fit.
pub(super) fn lagged(topic: &str) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!(
            "fell behind the cache in too many topics at once, in {topic} among them: resume it"
        ),
    )
}

/// A topic was forgotten before the subscription had received all of it.
pub(super) fn topic_forgotten(topic: &str) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!("fell behind the cache: {topic} was forgotten before all of it was read"),
    )
}

/// The next message was evicted, and the subscription asked to end rather than to have a gap.
pub(super) fn fell_behind(topic: &Topic, cursor: &Cursor) -> Refusal {
    let (name, next, first) = (topic.name(), cursor.next, topic.first_sequence());
    let why = if next < first {
        format!("the oldest is {first}")
    } else {
        "which was evicted while one before it was still arriving".into()
    };
    Refusal::new(
        Code::LAGGED,
        format!("fell behind the cache of {name}: the next message is {next}, {why}"),
    )
}

/// The subscription has as many cursors aside as it may, and asked to end rather than to skip one.
pub(super) fn waits_too_long(topic: &str, cursor: &Cursor) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!(
            "waits for more messages that arrive slowly than it may, message {} of {topic} among \
             them: use narrower filters",
            cursor.next
        ),
    )
}
